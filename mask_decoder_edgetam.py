"""Mask decoder of EdgeTAM: a two-way transformer between prompt tokens and the image, then masks and scores.

Shapes: B pictures, O objects per picture, T tokens, C channels, M masks per object, (h, w) the image embedding,
L = h * w. Maps are (B, C, height, width), tokens (B * O, T, C), pixels (B, L, C) where objects share their image.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_edgetam import EdgeTamAttention, EdgeTamImageToTokenAttention, EdgeTamTokenToImageAttention
from .configuration_edgetam import EdgeTamMaskDecoderConfig
from .folding_edgetam import is_untouched
from .layers_edgetam import EdgeTamFeedForward
from .prompt_encoder_edgetam import PromptEmbeddings


class EdgeTamTwoWayAttentionBlock(GradientCheckpointingLayer):
    """Tokens attend to each other and to the image, then the image attends to the tokens."""

    def __init__(self, config: EdgeTamMaskDecoderConfig, is_first: bool):
        super().__init__()
        size, num_heads = config.hidden_size, config.num_attention_heads
        cross_size = size // config.attention_downsample_rate
        self.is_first = is_first
        self.self_attn = EdgeTamAttention(config, size, num_heads, size)
        self.layer_norm1 = nn.LayerNorm(size)
        self.cross_attn_token_to_image = EdgeTamTokenToImageAttention(config, size, num_heads, cross_size)
        self.layer_norm2 = nn.LayerNorm(size)
        self.mlp = EdgeTamFeedForward(size, config.mlp_dim, size, config.num_hidden_layers)
        self.layer_norm3 = nn.LayerNorm(size)
        self.cross_attn_image_to_token = EdgeTamImageToTokenAttention(config, size, num_heads, cross_size)
        self.layer_norm4 = nn.LayerNorm(size)

    def forward(
        self,
        tokens: torch.Tensor,
        image: torch.Tensor,
        token_encoding: torch.Tensor,
        image_encoding: torch.Tensor,
        token_bias: torch.Tensor | None,
        image_bias: torch.Tensor | None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Tokens (B * O, T, C), image (B * O, L, C) and the weights of the attention of tokens to the image.

        Args:
            tokens: as returned.
            image: as returned, or (B, L, C) where objects share it.
            token_encoding, image_encoding: position encodings, added to queries and keys but not to values.
            token_bias, image_bias: attention bias of keys that are tokens or pixels, or `None`. (They are no pair,
                because checkpointing finds gradients of tensors, but not of tensors in tuples.)
        """
        if self.is_first:  # the initial tokens are their own encoding, and the result replaces them
            tokens, _ = self.self_attn(tokens, tokens, tokens, token_bias)
        else:
            query = tokens + token_encoding
            tokens = tokens + self.self_attn(query, query, tokens, token_bias)[0]
        tokens = self.layer_norm1(tokens)

        pixels = image + image_encoding
        attended, weights = self.cross_attn_token_to_image(
            tokens + token_encoding, pixels, image, image_bias, output_attentions
        )
        tokens = self.layer_norm2(tokens + attended)
        tokens = self.layer_norm3(tokens + self.mlp(tokens))

        inputs, attention = (pixels, tokens + token_encoding, tokens, token_bias), self.cross_attn_image_to_token
        if is_untouched(attention, EdgeTamImageToTokenAttention):
            image, _ = attention(*inputs, added_to=image)
        else:  # a hook or a wrapper has to see the output of the attention alone
            learned, _ = attention(*inputs)
            image = (image[:, None] + learned.unflatten(0, (image.shape[0], -1))).flatten(0, 1)
        return tokens, self.layer_norm4(image), weights


class EdgeTamTwoWayTransformer(nn.Module):
    """Two-way layers and a last attention of the tokens to the image."""

    def __init__(self, config: EdgeTamMaskDecoderConfig):
        super().__init__()
        self.layers = nn.ModuleList(
            EdgeTamTwoWayAttentionBlock(config, is_first=layer_idx == 0)
            for layer_idx in range(config.num_hidden_layers)
        )
        size, num_heads = config.hidden_size, config.num_attention_heads
        cross_size = size // config.attention_downsample_rate
        self.final_attn_token_to_image = EdgeTamTokenToImageAttention(config, size, num_heads, cross_size)
        self.layer_norm_final_attn = nn.LayerNorm(config.hidden_size)

    def forward(
        self,
        tokens: torch.Tensor,
        image: torch.Tensor,
        image_encoding: torch.Tensor,
        biases: tuple[torch.Tensor | None, torch.Tensor | None],
        target_embedding: torch.Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor | None, ...]]:
        """Tokens (B * O, T, C), image (B * O, L, C) and a tuple of attention weights or `None`s.

        `image` may be (B, L, C) where objects share it, unless `biases` has one for the image; see the layers.
        `target_embedding` is added to the tokens ahead of every layer, and through the first to their encoding, as
        PerSAM (arXiv 2305.03048) does.
        """
        token_encoding = tokens if target_embedding is None else tokens + target_embedding
        tokens = token_encoding
        all_weights: list[torch.Tensor | None] = []
        for layer_idx, layer in enumerate(self.layers):
            if target_embedding is not None and layer_idx > 0:
                tokens = tokens + target_embedding
            tokens, image, weights = layer(tokens, image, token_encoding, image_encoding, *biases, output_attentions)
            all_weights.append(weights)
        attended, weights = self.final_attn_token_to_image(
            tokens + token_encoding, image + image_encoding, image, None, output_attentions
        )
        return self.layer_norm_final_attn(tokens + attended), image, (*all_weights, weights)


class EdgeTamUpscaling(nn.ConvTranspose2d):
    """Transposed convolution with kernel and stride of 2, computed as one matrix product.

    No two kernels overlap, so every output pixel depends on one input pixel alone:
    output[2 * y + i, 2 * x + j] = weight[:, :, i, j].T @ input[y, x] + bias. A product of the pixels (L, C) with the
    weight as a matrix (C, 4 * C') gives all of them, and what is to be added comes in the same step. The 2x2 pixels
    made of one stay together, row by row: (B * O, L, C) becomes (B * O, L * 4, C').
    """

    bias: torch.Tensor

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, kernel_size=2, stride=2)

    # the convolution's own arguments are a map and its output size
    def forward(self, pixels: torch.Tensor, features: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """The upscaled pixels plus features (B, L * 4, C'), which may be shared by several objects."""
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        features = (features + self.bias).unflatten(1, (-1, 4)).flatten(2)[:, None]  # (B, 1, L, 4 * C')
        features = features.expand(-1, pixels.shape[0] // features.shape[0], -1, -1).flatten(0, 1)
        upscaled = torch.baddbmm(features, pixels, weight.expand(pixels.shape[0], -1, -1))
        return upscaled.reshape(pixels.shape[0], 4 * pixels.shape[1], self.out_channels)


def as_blocks(feature_map: torch.Tensor, num_splits: int) -> torch.Tensor:
    """Pixels (B, h * w * 4**n, C) of a map (B, C, h * 2**n, w * 2**n), in the order in which n upscalings make them."""
    size, halves = feature_map.shape[1], [2] * num_splits
    # an axis for several that stay together: not all runtimes have tensors of more than six
    sides = (-1, *halves, feature_map.shape[3] // 2**num_splits, *halves[1:], 2 * size)
    split = feature_map.permute(0, 2, 3, 1).reshape(sides)  # (B * h, 2, …, w, 2, …, 2 * C)
    pairs = [axis for row in range(num_splits + 1) for axis in (row, row + 1 + num_splits)]
    return split.permute(pairs).reshape(feature_map.shape[0], -1, size)


def from_blocks(pixels: torch.Tensor, height: int) -> torch.Tensor:
    """Maps (B, C, 4h, 4w) of pixels (B, C, h * w * 16) in the order of two upscalings."""
    blocks = pixels.reshape(-1, 2, 2, 2, 2).transpose(2, 3)
    split = blocks.reshape(*pixels.shape[:2], height, -1, 4, 4).transpose(3, 4)
    return split.flatten(4).flatten(2, 3)


class DecodedTokens(NamedTuple):
    """The tokens of objects after they have attended to the image: scores, and all that masks are drawn from.

    iou_scores: (B, O, M); mask_tokens: (B, O, M, C); object_score_logits: (B, O, 1); attentions: weights of tokens to
    the image, as `EdgeTamModel.forward` returns them; pixels: (B, O, L, C), the image as every object sees it.
    """

    iou_scores: torch.Tensor
    mask_tokens: torch.Tensor
    object_score_logits: torch.Tensor
    attentions: tuple[torch.Tensor | None, ...]
    pixels: torch.Tensor


class MaskPrediction(NamedTuple):
    """All masks that the decoder predicts for every object: the single one, then those of an ambiguous prompt.

    masks: logits (B, O, M, 4h, 4w); the others as in `DecodedTokens`.
    """

    masks: torch.Tensor
    iou_scores: torch.Tensor
    mask_tokens: torch.Tensor
    object_score_logits: torch.Tensor
    attentions: tuple[torch.Tensor | None, ...]

    def transpose(self) -> "MaskPrediction":
        """The same with pictures and objects in each other's place."""
        return MaskPrediction(
            masks=self.masks.transpose(0, 1),
            iou_scores=self.iou_scores.transpose(0, 1),
            mask_tokens=self.mask_tokens.transpose(0, 1),
            object_score_logits=self.object_score_logits.transpose(0, 1),
            attentions=self.attentions,
        )


class ChosenMasks(NamedTuple):
    """One mask of each object.

    masks: logits (B, O, 4h, 4w); iou_scores: (B, O); tokens: (B, O, C), from which object pointers are made.
    """

    masks: torch.Tensor
    iou_scores: torch.Tensor
    tokens: torch.Tensor


class EdgeTamMaskDecoder(nn.Module):
    """Masks, their predicted IoU and object scores, from image and prompt embeddings."""

    def __init__(self, config: EdgeTamMaskDecoderConfig):
        super().__init__()
        self.config = config
        size, num_mask_tokens = config.hidden_size, config.num_multimask_outputs + 1
        self.obj_score_token = nn.Embedding(1, size)
        self.iou_token = nn.Embedding(1, size)
        self.mask_tokens = nn.Embedding(num_mask_tokens, size)
        self.transformer = EdgeTamTwoWayTransformer(config)
        self.conv_s0 = nn.Conv2d(size, size // 8, kernel_size=1)
        self.conv_s1 = nn.Conv2d(size, size // 4, kernel_size=1)
        self.upscale_conv1 = EdgeTamUpscaling(size, size // 4)
        self.upscale_layer_norm = nn.LayerNorm(size // 4, eps=1e-6)
        self.upscale_conv2 = EdgeTamUpscaling(size // 4, size // 8)
        self.activation = ACT2FN[config.hidden_act]
        self.output_hypernetworks_mlps = nn.ModuleList(
            EdgeTamFeedForward(size, size, size // 8, num_layers=3) for _ in range(num_mask_tokens)
        )
        self.iou_prediction_head = EdgeTamFeedForward(
            size, config.iou_head_hidden_dim, num_mask_tokens, config.iou_head_depth
        )
        self.pred_obj_score_head = EdgeTamFeedForward(size, size, 1, num_layers=3)

    def forward(
        self,
        image_embeddings: Sequence[torch.Tensor],
        image_encoding: torch.Tensor,
        prompts: PromptEmbeddings,
        attention_similarity: torch.Tensor | None = None,
        target_embedding: torch.Tensor | None = None,
        output_attentions: bool = False,
    ) -> MaskPrediction:
        """A `MaskPrediction`, from which `choose_masks` takes one mask for each object.

        It joins two steps, which mask generation takes one by one: `decode_tokens` and `draw_masks`.

        Args:
            image_embeddings: maps of stride 4, 8 and 16, see `EdgeTamModel.get_image_embeddings`. The first two may
                have batch size 1 where all others share their picture.
            image_encoding: position embedding (1, C, h, w) of the pixels.
            prompts: `PromptEmbeddings`.
            attention_similarity, output_attentions: see `EdgeTamModel.forward`.
            target_embedding: (B * O, T or 1, C), see `EdgeTamModel.forward`.
        """
        decoded = self.decode_tokens(
            image_embeddings[2], image_encoding, prompts, attention_similarity, target_embedding, output_attentions
        )
        masks = self.draw_masks(decoded.pixels.flatten(0, 1), decoded.mask_tokens.flatten(0, 1), image_embeddings)
        return MaskPrediction(
            masks=masks.unflatten(0, decoded.pixels.shape[:2]),
            iou_scores=decoded.iou_scores,
            mask_tokens=decoded.mask_tokens,
            object_score_logits=decoded.object_score_logits,
            attentions=decoded.attentions,
        )

    def decode_tokens(
        self,
        image_embedding: torch.Tensor,
        image_encoding: torch.Tensor,
        prompts: PromptEmbeddings,
        attention_similarity: torch.Tensor | None = None,
        target_embedding: torch.Tensor | None = None,
        output_attentions: bool = False,
    ) -> DecodedTokens:
        """`DecodedTokens`: scores, and what `draw_masks` needs; see `forward` for the arguments.

        `image_embedding` is the map of stride 16, (B, C, h, w).
        """
        (batch_size, num_objects), tokens = prompts.sparse.shape[:2], self._join_tokens(prompts.sparse)
        # objects share their image until something is added to it for one of them alone
        has_own_image = prompts.dense.dim() == 5 or attention_similarity is not None
        image = image_embedding[:, None] + (prompts.dense if prompts.dense.dim() == 5 else prompts.dense[:, None])
        image = image.expand(-1, num_objects if has_own_image else 1, -1, -1, -1).flatten(0, 1)
        tokens, pixels, weights = self.transformer(
            tokens,
            image.flatten(2).transpose(1, 2),
            image_encoding.flatten(2).transpose(1, 2),
            (self._padding_bias(prompts.is_padding, tokens), attention_similarity),
            target_embedding,
            output_attentions,
        )
        tokens, pixels = (states.unflatten(0, (batch_size, num_objects)) for states in (tokens, pixels))
        return DecodedTokens(
            iou_scores=self.iou_prediction_head(tokens[:, :, 1]).sigmoid(),
            mask_tokens=tokens[:, :, 2 : 2 + self.num_mask_tokens],
            object_score_logits=self.pred_obj_score_head(tokens[:, :, 0]),
            attentions=weights,
            pixels=pixels,
        )

    def draw_masks(
        self, pixels: torch.Tensor, mask_tokens: torch.Tensor, image_embeddings: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Logits (N, M, 4h, 4w): products of the upscaled pixels with a vector that is made of each mask token.

        Args:
            pixels: (N, L, C), the image as every object sees it.
            mask_tokens: (N, M, C).
            image_embeddings: maps of stride 4, 8 and 16.

        The maps of stride 4 and 8 have batch size N, or a divisor of it where objects that follow one another share
        their picture.
        """
        stride_4, stride_8, stride_16 = image_embeddings
        upscaled = self.activation(self.upscale_layer_norm(self.upscale_conv1(pixels, as_blocks(stride_8, 1))))
        upscaled = self.activation(self.upscale_conv2(upscaled, as_blocks(stride_4, 2)))
        weights = [mlp(token) for mlp, token in zip(self.output_hypernetworks_mlps, mask_tokens.unbind(1))]
        return from_blocks(torch.stack(weights, dim=1) @ upscaled.transpose(1, 2), stride_16.shape[2])

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles `forward`, and `draw_masks`, which mask generation calls alone; arguments as for `torch.compile`."""
        super().compile(*args, **kwargs)
        # the compiled function hides the method, in this decoder alone
        self.draw_masks = torch.compile(self.draw_masks, *args, **kwargs)  # type: ignore[method-assign]

    def __getstate__(self) -> dict:
        """The state without what is compiled, as PyTorch has it for `forward`."""
        return {name: value for name, value in super().__getstate__().items() if name != "draw_masks"}

    @property
    def num_mask_tokens(self) -> int:
        """Number of masks before one or three are chosen."""
        return self.config.num_multimask_outputs + 1

    def _join_tokens(self, sparse: torch.Tensor) -> torch.Tensor:
        """Tokens (B * O, T, C): object score, IoU, masks, prompts."""
        sparse = sparse.flatten(0, 1)
        token_idx = torch.arange(self.num_mask_tokens, device=sparse.device)
        output = torch.cat(
            (self.obj_score_token(token_idx[:1]), self.iou_token(token_idx[:1]), self.mask_tokens(token_idx))
        )
        return torch.cat((output.expand(sparse.shape[0], -1, -1), sparse), dim=1)

    def _padding_bias(self, is_padding: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Attention bias (B * O, 1, 1, T) that hides padded prompts as keys; the model's own tokens are visible."""
        is_padding = is_padding.flatten(0, 1)
        is_padding = F.pad(is_padding, (tokens.shape[1] - is_padding.shape[1], 0))
        bias = torch.zeros(is_padding.shape, dtype=tokens.dtype, device=tokens.device)
        return bias.masked_fill(is_padding, torch.finfo(tokens.dtype).min)[:, None, None, :]

    def choose_masks(self, prediction: MaskPrediction, is_multimask: torch.Tensor) -> ChosenMasks:
        """`ChosenMasks`: the best of an ambiguous prompt where is_multimask (B, O), and the single one elsewhere.

        In eval mode the best one stands in for a single mask that is unstable. (As in the original release, the token
        is that of the single mask even then.)
        """
        best_idx = prediction.iou_scores[:, :, 1:].argmax(dim=2) + 1
        mask_idx = torch.where(self._is_unstable(prediction) | is_multimask, best_idx, 0)
        return ChosenMasks(
            masks=_pick(prediction.masks, mask_idx),
            iou_scores=_pick(prediction.iou_scores, mask_idx),
            tokens=_pick(prediction.mask_tokens, best_idx.where(is_multimask, 0)),
        )

    def _is_unstable(self, prediction: MaskPrediction) -> torch.Tensor:
        """Whether the area of the single mask depends on its threshold, bool (B, O); never in training mode."""
        single = prediction.masks[:, :, 0]
        if self.training or not self.config.dynamic_multimask_via_stability:
            return torch.zeros(single.shape[:2], dtype=torch.bool, device=single.device)
        delta = self.config.dynamic_multimask_stability_delta
        inner, outer = ((single > offset).flatten(2).sum(-1) for offset in (delta, -delta))
        stability = torch.where(outer > 0, inner / outer, 1.0)
        return stability < self.config.dynamic_multimask_stability_thresh


def _pick(values: torch.Tensor, idx: torch.Tensor) -> torch.Tensor:
    """Values (B, O, …) of those (B, O, M, …) of all masks, at indices (B, O)."""
    idx = idx.reshape(*idx.shape, *(1 for _ in values.shape[2:])).expand(-1, -1, 1, *values.shape[3:])
    return values.gather(2, idx)[:, :, 0]
