"""Prompts of EdgeTAM: clicks, boxes and masks as embeddings.

Shapes: B pictures, O objects per picture, N points per object, T tokens, C channels, (H, W) the model input in
pixels, (h, w) = (H / 16, W / 16). Points are (x, y) in pixels of the model input.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers.activations import ACT2FN

from .configuration_edgetam import EdgeTamPromptEncoderConfig, to_height_and_width
from .folding_edgetam import FoldedModule
from .layers_edgetam import EdgeTamLayerNorm2d
from .prompts_edgetam import BOX_CORNER_LABELS, NOT_A_POINT_LABEL, PADDING_LABEL, Prompts


class PromptEmbeddings(NamedTuple):
    """What the mask decoder needs to know of the prompts.

    sparse: (B, O, T, C) tokens of clicks and box corners; dense: (B, C, h, w), or (B, O, C, h, w) where every object
    has a mask of its own; is_padding: (B, O, T), true for tokens that nothing may attend to.
    """

    sparse: torch.Tensor
    dense: torch.Tensor
    is_padding: torch.Tensor


class EdgeTamPositionalEmbedding(FoldedModule):
    """Random Fourier features of positions (arXiv 2006.10739)."""

    positional_embedding: torch.Tensor

    def __init__(self, config: EdgeTamPromptEncoderConfig):
        super().__init__()
        self.scale = config.scale
        self.is_random = False
        self.register_buffer("positional_embedding", torch.zeros(2, config.hidden_size // 2))

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """Embedding (…, C) in float32 of positions (…, 2), where (0, 0) and (1, 1) are opposite picture corners.

        The embedding of the last tensor is kept, because most often the next one is the same grid of pixels.
        """
        return self.folded(self._embed, positions.float(), self.positional_embedding)[0]

    def _embed(self, positions: torch.Tensor, matrix: torch.Tensor) -> list[torch.Tensor]:
        angle = (2 * positions - 1) @ matrix * (2 * math.pi)
        return [torch.cat((angle.sin(), angle.cos()), dim=-1)]


class EdgeTamMaskEmbedding(nn.Module):
    """Embedding (B, C, h, w) of mask logits (B, 1, 4h, 4w)."""

    def __init__(self, config: EdgeTamPromptEncoderConfig):
        super().__init__()
        channels = config.mask_input_channels
        self.conv1 = nn.Conv2d(1, channels // 4, kernel_size=2, stride=2)
        self.layer_norm1 = EdgeTamLayerNorm2d(channels // 4, eps=config.layer_norm_eps)
        self.conv2 = nn.Conv2d(channels // 4, channels, kernel_size=2, stride=2)
        self.layer_norm2 = EdgeTamLayerNorm2d(channels, eps=config.layer_norm_eps)
        self.conv3 = nn.Conv2d(channels, config.hidden_size, kernel_size=1)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, masks: torch.Tensor) -> torch.Tensor:
        hidden_states = self.activation(self.layer_norm1(self.conv1(masks)))
        hidden_states = self.activation(self.layer_norm2(self.conv2(hidden_states)))
        return self.conv3(hidden_states)


def needs_all_gradients(module: nn.Module) -> bool:
    """Whether the loss has to depend on every parameter of a module, also on those that it does not need.

    In training by several processes `DistributedDataParallel` waits for a gradient of everything that learns.
    """
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return is_distributed and module.training and torch.is_grad_enabled()


class EdgeTamPromptEncoder(nn.Module):
    """Sparse embeddings of clicks and boxes, and dense embeddings of masks."""

    def __init__(self, config: EdgeTamPromptEncoderConfig):
        super().__init__()
        self.image_size = to_height_and_width(config.image_size)
        height, width = (side // config.patch_size for side in self.image_size)
        self.image_embedding_size, self.mask_input_size = (height, width), (4 * height, 4 * width)
        self.shared_embedding = EdgeTamPositionalEmbedding(config)
        self.mask_embed = EdgeTamMaskEmbedding(config)
        self.no_mask_embed = nn.Embedding(1, config.hidden_size)
        self.point_embed = nn.Embedding(config.num_point_embeddings, config.hidden_size)
        self.not_a_point_embed = nn.Embedding(1, config.hidden_size)

    def forward(
        self, prompts: Prompts, batch_size: int = 1, device: torch.device | str | None = None
    ) -> PromptEmbeddings:
        """Prompt embeddings.

        A box is two points, its corners, ahead of the clicks. A point without a position always ends the list; without
        clicks and boxes, a second one stands in their place.

        Args:
            prompts: `Prompts` of B pictures, with labels for all points.
            batch_size, device: B and the device of the embeddings, which empty prompts do not tell.
        """
        points, labels = self._gather_points(prompts)
        shape = (batch_size, prompts.num_objects, 1 if points else 2)
        points.append(torch.zeros(*shape, 2, dtype=torch.float32, device=device))
        labels.append(torch.full(shape, NOT_A_POINT_LABEL, dtype=torch.long, device=device))
        all_labels = torch.cat(labels, dim=2)
        dense = self._embed_masks(prompts.masks, batch_size, device)
        unused = self.mask_embed if prompts.masks is None else self.no_mask_embed
        if needs_all_gradients(unused):  # with weight zero they take part and change nothing
            for parameter in unused.parameters():
                dense = dense + 0 * parameter.sum().to(dense.dtype)
        sparse = self._embed_points(torch.cat(points, dim=2), all_labels)
        return PromptEmbeddings(sparse, dense, is_padding=all_labels == PADDING_LABEL)

    @staticmethod
    def _gather_points(prompts: Prompts) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Points (B, O, N, 2) and labels (B, O, N) of box corners and of clicks, each a list to be joined."""
        points, labels = [], []
        if prompts.boxes is not None:
            corners = torch.tensor(BOX_CORNER_LABELS, device=prompts.boxes.device)
            is_padding = (prompts.boxes == PADDING_LABEL).all(dim=-1, keepdim=True)
            points.append(prompts.boxes.float().unflatten(-1, (2, 2)))
            labels.append(torch.where(is_padding, PADDING_LABEL, corners))
        if prompts.points is not None and prompts.labels is not None:
            points.append(prompts.points.float())
            labels.append(prompts.labels.long())
        return points, labels

    def _embed_points(self, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, O, T, C) of points in pixels; those without a position get one vector, padding zeros."""
        height, width = self.image_size
        x, y = (points + 0.5).unbind(-1)  # the centre of the pixel
        position = self.shared_embedding(torch.stack((x / width, y / height), dim=-1))
        embedding = position + self.point_embed(labels.clamp(0, self.point_embed.num_embeddings - 1)).float()
        labels = labels[..., None]
        not_a_point = self.not_a_point_embed(torch.zeros_like(labels)).float()
        embedding = torch.where(labels == NOT_A_POINT_LABEL, not_a_point[..., 0, :], embedding)
        embedding = torch.where(labels == PADDING_LABEL, 0.0, embedding)
        return embedding.to(self.point_embed.weight.dtype)

    def _embed_masks(
        self, masks: torch.Tensor | None, batch_size: int, device: torch.device | str | None
    ) -> torch.Tensor:
        """Embedding (B, C, h, w), or (B, O, C, h, w) where every object has a mask of its own."""
        if masks is None:
            no_mask = self.no_mask_embed(torch.zeros(1, dtype=torch.long, device=device))
            return no_mask[..., None, None].expand(batch_size, -1, *self.image_embedding_size)
        masks = masks.float()
        if masks.shape[-2] != self.mask_input_size[0] or masks.shape[-1] != self.mask_input_size[1]:
            masks = F.interpolate(masks, self.mask_input_size, mode="bilinear", align_corners=False, antialias=True)
        dense = self.mask_embed(masks.flatten(0, 1)[:, None].to(self.no_mask_embed.weight.dtype))
        return dense if masks.shape[1] == 1 else dense.unflatten(0, masks.shape[:2])
