"""What the image model and the video model share: the image encoder, the prompt encoder and the mask decoder.

    pixel_values -> image embeddings -> (prompts -> prompt embeddings) -> low-res masks, IoU scores, object scores

Shapes: B pictures, O objects per picture, T tokens, C channels, (H, W) the model input in pixels, (h, w) =
(H / 16, W / 16) the image embedding. Maps are (B, C, height, width). Points are (x, y) in pixels of the model input.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .checks_edgetam import check_device, check_guidance, check_image_embeddings, check_tensor, read_prompts
from .configuration_edgetam import EdgeTamConfig
from .device_edgetam import fetch, send
from .folding_edgetam import is_untouched
from .mask_decoder_edgetam import EdgeTamMaskDecoder, MaskPrediction
from .pieces_edgetam import in_pieces, num_at_once
from .position_edgetam import pixel_centres
from .pretrained_edgetam import EdgeTamPreTrainedModel
from .prompt_encoder_edgetam import EdgeTamPositionalEmbedding, EdgeTamPromptEncoder, PromptEmbeddings
from .prompts_edgetam import Prompts
from .training_edgetam import LossWeights, PromptSimulation
from .vision_encoder_edgetam import EdgeTamVisionEncoderOutput, EdgeTamVisionModel

# Image tokens of all prompts that a GPU decodes at once; these are of 64 prompts on 1024 x 1024 pixels.
MAX_IMAGE_TOKENS_AT_ONCE, MIN_PROMPTS_AT_ONCE = 2**18, 16


class EdgeTamBaseModel(EdgeTamPreTrainedModel):
    """The parts that find masks of prompted objects in image embeddings.

    Attributes:
        prompt_simulation (`PromptSimulation`), loss_weights (`LossWeights`):
            How users are simulated in training, and what the terms of the loss weigh. Not saved.
    """

    _auto_class = "AutoModel"
    _large_parts: tuple[str, ...] = ("vision_encoder", "mask_decoder")
    _small_parts: tuple[str, ...] = ("shared_image_embedding", "prompt_encoder", "no_memory_embedding")
    _parts_of_objects: tuple[str, ...] = ("mask_decoder.transformer", "mask_decoder")  # their batch dimension: objects
    _keys_to_ignore_on_load_missing = [r"prompt_encoder\.shared_embedding\.positional_embedding"]  # noqa: RUF012

    def __init__(self, config: EdgeTamConfig):
        super().__init__(config)
        self.shared_image_embedding = EdgeTamPositionalEmbedding(config.prompt_encoder_config)
        self.vision_encoder = EdgeTamVisionModel(config.vision_config)
        self.prompt_encoder = EdgeTamPromptEncoder(config.prompt_encoder_config)
        config.mask_decoder_config._attn_implementation = config._attn_implementation
        self.mask_decoder = EdgeTamMaskDecoder(config.mask_decoder_config)
        self.no_memory_embedding = nn.Parameter(torch.zeros(1, 1, config.vision_config.fpn_hidden_size))
        self.prompt_simulation, self.loss_weights = PromptSimulation(), LossWeights()

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the model input in pixels."""
        return self.prompt_encoder.image_size

    @property
    def mask_size(self) -> tuple[int, int]:
        """(4h, 4w), the size of low-res mask logits."""
        return self.prompt_encoder.mask_input_size

    def tie_weights(self, *args: Any, **kwargs: Any) -> None:
        """Gives the prompts the position embedding of the image where a checkpoint holds only one of the two."""
        super().tie_weights(*args, **kwargs)
        # transformers<5: its checkpoints hold one, and what they lack was drawn at random
        embedding = self.prompt_encoder.shared_embedding
        if embedding.is_random:
            embedding.positional_embedding.copy_(self.shared_image_embedding.positional_embedding)
            embedding.is_random = False

    def compile(self, **options: Any) -> None:
        """Compiles the parts that do the work, in place, each when it runs for the first time.

        One object and more than one are compiled separately. After that, other numbers of clicks, of objects or of
        points in mask generation compile nothing anew, nor do frames of a video once its memory is full. The options
        are those of `torch.compile`. Copies and pickles of the model are not compiled.
        """
        self.vision_encoder.backbone.compile(**options)
        for part in map(self.get_submodule, self._parts_of_objects):
            part.compile(**{"dynamic": True, **options})

    def get_image_wide_positional_embeddings(self) -> torch.Tensor:
        """Position embedding (1, C, h, w) of the pixels of the image embedding."""
        matrix = self.shared_image_embedding.positional_embedding
        grid = pixel_centres(*self.prompt_encoder.image_embedding_size, matrix.device)
        return self.shared_image_embedding(grid).permute(2, 0, 1)[None].to(matrix.dtype)

    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> EdgeTamVisionEncoderOutput | tuple:
        """Maps of the image encoder in Transformers' layout: pixels first, (height * width, batch_size, channels).

        The maps of stride 4 and 8 have passed the mask decoder's projections; the map of stride 16 is raw, without
        the embedding that `get_image_embeddings` adds. See `EdgeTamVisionModel.forward` for the arguments.
        """
        output = self.vision_encoder(pixel_values, output_hidden_states=output_hidden_states, return_dict=True)
        stride_4, stride_8, *others = output.fpn_hidden_states
        maps = (self.mask_decoder.conv_s0(stride_4), self.mask_decoder.conv_s1(stride_8), *others)
        features = EdgeTamVisionEncoderOutput(
            last_hidden_state=output.last_hidden_state,
            hidden_states=output.hidden_states,
            fpn_hidden_states=tuple(fm.flatten(2).permute(2, 0, 1) for fm in maps),
            fpn_position_encoding=tuple(pe.flatten(2).permute(2, 0, 1) for pe in output.fpn_position_encoding),
        )
        return self.as_requested(features, return_dict)

    def get_image_embeddings(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """List of the maps of stride 4, 8 and 16 that `forward` takes as `image_embeddings`.

        Shapes (batch_size, channels / 8, H / 4, W / 4), (batch_size, channels / 4, H / 8, W / 8) and (batch_size,
        channels, H / 16, W / 16) for `pixel_values` (batch_size, 3, H, W) of the configured image size.
        """
        return list(self._encode_image(pixel_values).fpn_hidden_states)

    def _encode_image(self, pixel_values: torch.Tensor) -> EdgeTamVisionEncoderOutput:
        """`EdgeTamVisionEncoderOutput` whose maps are the image embeddings."""
        output = self._encode_frame(pixel_values)
        *high_resolution, frame_embedding = output.fpn_hidden_states
        output.fpn_hidden_states = (*high_resolution, self.forget_memory(frame_embedding))
        return output

    def _encode_frame(self, pixel_values: torch.Tensor) -> EdgeTamVisionEncoderOutput:
        """`EdgeTamVisionEncoderOutput` whose maps are image embeddings before anything is added for memory.

        It also has the outputs of the backbone's stages as `hidden_states`.
        """
        check_tensor("pixel_values", pixel_values, "(batch_size, channels, height, width)", 4)
        height, width = self.prompt_encoder.image_size
        if pixel_values.shape[-2] != height or pixel_values.shape[-1] != width:
            raise ValueError(
                f"pixel_values must have the configured size {height}x{width} (height x width), got "
                f"{tuple(pixel_values.shape)}; resize with the processor, or load the model with image_size=(height, "
                "width)"
            )
        encoder, projections = self.vision_encoder, (self.mask_decoder.conv_s0, self.mask_decoder.conv_s1)
        if is_untouched(encoder, EdgeTamVisionModel) and encoder.can_project(projections):
            return encoder.project(pixel_values, projections)
        output = encoder(pixel_values, output_hidden_states=True, return_dict=True)
        maps = output.fpn_hidden_states
        projected = [projection(feature_map) for projection, feature_map in zip(projections, maps)]
        return EdgeTamVisionEncoderOutput(
            last_hidden_state=output.last_hidden_state,
            hidden_states=output.hidden_states,
            fpn_hidden_states=(*projected, *maps[len(projected) :]),
        )

    def forget_memory(self, frame_embedding: torch.Tensor) -> torch.Tensor:
        """The map of stride 16, (B, C, h, w), with the embedding that stands for an empty memory."""
        return frame_embedding + self.no_memory_embedding.flatten()[:, None, None]

    def get_prompt_embeddings(
        self,
        input_points: torch.Tensor | None = None,
        input_labels: torch.Tensor | None = None,
        input_boxes: torch.Tensor | None = None,
        input_masks: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sparse (B, O, T, C) and dense (B, C, h, w) embeddings of prompts; see `EdgeTamModel.forward`.

        The dense ones have shape (B, O, C, h, w) where every object has a mask of its own.
        """
        given = Prompts(points=input_points, labels=input_labels, boxes=input_boxes, masks=input_masks)
        device = self.no_memory_embedding.device
        batch_size = next((prompt.shape[0] for prompt in given if torch.is_tensor(prompt) and prompt.dim() > 0), 1)
        prompts = self.read_prompts(given, batch_size, device)
        embeddings = self.prompt_encoder(prompts, batch_size, device)
        return embeddings.sparse, embeddings.dense

    def read_prompts(self, prompts: Prompts, batch_size: int, device: torch.device) -> Prompts:
        """Prompts of a user as the prompt encoder takes them; raises a ValueError for wrong ones or another device."""
        prompts = read_prompts(prompts, batch_size, self.config.prompt_encoder_config.num_point_embeddings - 1)
        for name, prompt in prompts.named_inputs().items():
            check_device(name, prompt, device, self)
        return prompts

    def decode_prompts(
        self,
        image_embeddings: Sequence[torch.Tensor],
        prompts: Prompts,
        attention_similarity: torch.Tensor | None = None,
        target_embedding: torch.Tensor | None = None,
        output_attentions: bool = False,
    ) -> MaskPrediction:
        """The `MaskPrediction` of prompts.

        Args:
            image_embeddings: see `get_image_embeddings`; the maps of stride 4 and 8 may have batch size 1 where all
                others share their picture.
            prompts: `Prompts`; where they are empty, O is 1.
            attention_similarity, target_embedding, output_attentions: see `EdgeTamModel.forward`.

        Raises:
            ValueError: for what PerSAM adds if it does not fit the prompts.
        """
        batch_size, _, height, width = image_embeddings[-1].shape
        embeddings, decoder = self.prompt_encoder(prompts, batch_size, image_embeddings[-1].device), self.mask_decoder
        if attention_similarity is not None or target_embedding is not None:
            _, num_objects, num_prompt_tokens, channels = embeddings.sparse.shape
            num_tokens = num_prompt_tokens + decoder.num_mask_tokens + 2  # and those of IoU and object score
            attention_shape = (self.config.mask_decoder_config.num_attention_heads, height * width)
            tokens_shape = (batch_size, num_objects, num_tokens, channels)
            guidance = {"attention_similarity": attention_similarity, "target_embedding": target_embedding}
            check_guidance(**guidance, tokens_shape=tokens_shape, attention_shape=attention_shape)
            for name, tensor in guidance.items():
                if tensor is not None:
                    check_device(name, tensor, image_embeddings[-1].device, self)
        if target_embedding is not None:
            sides = target_embedding.shape[-2:] if target_embedding.dim() > 1 else (1, *target_embedding.shape)
            target_embedding = target_embedding.expand(batch_size, num_objects, *sides).flatten(0, 1)
        encoding = self.get_image_wide_positional_embeddings()
        if attention_similarity is not None or target_embedding is not None or output_attentions:
            return decoder(
                image_embeddings, encoding, embeddings, attention_similarity, target_embedding, output_attentions
            )
        own_dense = [embeddings.dense] if embeddings.dense.dim() == 5 else []

        def decode(sparse: torch.Tensor, is_padding: torch.Tensor, *dense: torch.Tensor) -> MaskPrediction:
            part = PromptEmbeddings(sparse, dense[0] if dense else embeddings.dense, is_padding)
            return decoder(image_embeddings, encoding, part)

        size = num_at_once(image_embeddings[-1].numel(), image_embeddings[-1].dtype)
        return in_pieces([decoder], decode, embeddings.sparse, embeddings.is_padding, *own_dense, size=size, dim=1)

    def confident_masks(
        self, image_embeddings: Sequence[torch.Tensor], points: torch.Tensor, pred_iou_thresh: float = 0.0
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Masks whose predicted IoU exceeds a threshold, for mask generation.

        They are those of `EdgeTamModel.forward` with `multimask_output=True`, but nothing is drawn for a prompt without
        such a mask. On a GPU this waits for the device once, for the scores.

        Args:
            image_embeddings: of one picture, see `get_image_embeddings`.
            points: (P, 2), clicks on an object each, (x, y) in pixels of the model input.
            pred_iou_thresh: what a predicted IoU has to exceed; 0 keeps all masks.

        Returns:
            Low-res logits (N, H / 4, W / 4) in order of the points, and on the CPU their predicted IoU (N,) in float32
            and the index (N,) of the point of each.
        """
        self._check_image_embeddings(image_embeddings)
        check_tensor("points", points, "(num_points, 2)", 2)
        check_device("points", points, image_embeddings[-1].device, self)
        if points.shape[0] == 0 or points.shape[1] != 2:
            raise ValueError(f"points must be a tensor of shape (num_points, 2), not empty, got {tuple(points.shape)}")
        num_at_once = self.prompts_at_once(image_embeddings)
        encoding, scores = self.get_image_wide_positional_embeddings(), []
        decoded_prompts: list[tuple[torch.Tensor, torch.Tensor]] = []
        for part in points.split(num_at_once):
            prompts = self.read_prompts(Prompts(part[None, :, None]), 1, points.device)
            embeddings = self.prompt_encoder(prompts, 1, points.device)
            decoded = self.mask_decoder.decode_tokens(image_embeddings[2], encoding, embeddings)
            scores.append(decoded.iou_scores[0, :, 1:])
            decoded_prompts.extend(zip(decoded.pixels[0], decoded.mask_tokens[0]))
        (all_scores,) = fetch([torch.cat(scores).float()])  # the only wait for the device
        is_confident = all_scores > (pred_iou_thresh if pred_iou_thresh > 0 else -1.0)
        masks = [image_embeddings[0][0, :0]]
        drawn_idx = is_confident.any(dim=1).nonzero()[:, 0]  # on the CPU, as all indices are
        for part in drawn_idx.split(num_at_once) if len(drawn_idx) else ():
            pixels, mask_tokens = map(torch.stack, zip(*(decoded_prompts[idx] for idx in part)))
            drawn = self.mask_decoder.draw_masks(pixels, mask_tokens, image_embeddings)
            prompt_idx, mask_idx = (send(idx, drawn.device) for idx in is_confident[part].nonzero(as_tuple=True))
            masks.append(drawn[prompt_idx, mask_idx + 1])
        return torch.cat(masks), all_scores[is_confident], is_confident.nonzero()[:, 0]

    @staticmethod
    def prompts_at_once(image_embeddings: Sequence[torch.Tensor]) -> int:
        """How many prompts on one picture, whose embeddings these are, `confident_masks` decodes or draws at once."""
        tokens = image_embeddings[-1]
        if tokens.device.type == "cpu":
            return num_at_once(tokens[0].numel(), tokens.dtype)
        return max(MIN_PROMPTS_AT_ONCE, MAX_IMAGE_TOKENS_AT_ONCE // tokens[0, 0].numel())

    def _check_image_embeddings(self, image_embeddings: Any) -> None:
        height, width = self.prompt_encoder.image_embedding_size
        channels = self.config.mask_decoder_config.hidden_size
        expected = [(channels // n, height * s, width * s) for n, s in ((8, 4), (4, 2), (1, 1))]
        check_image_embeddings(image_embeddings, expected, self.no_memory_embedding.dtype)
        for level, feature_map in enumerate(image_embeddings):
            check_device(f"image_embeddings[{level}]", feature_map, self.no_memory_embedding.device, self)
