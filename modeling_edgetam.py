"""EdgeTAM on pictures (arXiv 2501.07256): image encoder, and the model that joins it to prompts and masks.

    pixel_values -> image embeddings -> (prompts -> prompt embeddings) -> low-res masks, IoU scores, object scores

Shapes: B pictures, O objects per picture, T tokens, C channels, (H, W) the model input in pixels, (h, w) =
(H / 16, W / 16) the image embedding. Maps are (B, C, height, width). Points are (x, y) in pixels of the model input.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

from .checks_edgetam import (
    check_broadcast,
    check_device,
    check_image_embeddings,
    check_pixel_values,
    check_prompts,
    check_tensor,
)
from .configuration_edgetam import BACKBONE_STRIDE, EdgeTamVisionConfig
from .device_edgetam import fetch, send
from .folding_edgetam import can_merge, convolve_twice, is_untouched
from .losses_edgetam import LossWeights, cell_shares, segmentation_losses
from .mask_decoder_edgetam import EdgeTamMaskDecoder, PromptReading
from .position_edgetam import pixel_centres, sine_position_encoding
from .pretrained_edgetam import EdgeTamPreTrainedModel
from .prompt_encoder_edgetam import EdgeTamPositionalEmbedding, EdgeTamPromptEncoder
from .prompt_simulation_edgetam import PromptSimulation
from .repvit_edgetam import RepVitBackbone
from .training_edgetam import check_labels, learn_from_pictures, total_loss

if TYPE_CHECKING:  # named here so that the remote-code loader and save_pretrained take these files along
    from .attention_edgetam import EdgeTamAttention  # noqa: F401
    from .crops_edgetam import Crop  # noqa: F401
    from .image_processing_edgetam import EdgeTamImageProcessor  # noqa: F401
    from .mask_candidates_edgetam import MaskCandidates  # noqa: F401
    from .mask_labels_edgetam import read_objects  # noqa: F401
    from .masks_edgetam import repair_masks  # noqa: F401
    from .pictures_edgetam import read_picture  # noqa: F401
    from .pipeline_edgetam import EdgeTamMaskGenerationPipeline  # noqa: F401
    from .settings_edgetam import height_width  # noqa: F401

# Prompts that `confident_masks` reads or draws at once: more are not faster, but need more memory.
MAX_PROMPTS_AT_ONCE = 16


@dataclass
class EdgeTamVisionEncoderOutput(BaseModelOutputWithPooling):
    """Output of the image encoder.

    Args:
        last_hidden_state (`torch.Tensor` of shape `(batch_size, H / 32, W / 32, channels)`):
            Output of the backbone's last stage.
        pooler_output, attentions:
            Always `None`: the backbone is convolutional and has no head.
        fpn_hidden_states (`tuple[torch.Tensor]`):
            Maps of the neck, from high to low resolution.
        fpn_position_encoding (`tuple[torch.Tensor]`):
            Sine position encodings of the same shapes.
        hidden_states (`tuple[torch.Tensor]`, *optional*, with `output_hidden_states=True`):
            Outputs of the backbone's stages, `(batch_size, height, width, channels)`, from stride 4 to stride 32.
    """

    fpn_hidden_states: tuple[torch.FloatTensor, ...] | None = None
    fpn_position_encoding: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class EdgeTamImageSegmentationOutput(ModelOutput):
    """Masks of prompted objects.

    Args:
        loss (`torch.Tensor`, *optional*, with `mask_labels`):
            The sum of `loss_dict`.
        loss_dict (`dict[str, torch.Tensor]`, *optional*, with `mask_labels`):
            Terms of the loss, each added up over the prompts, as SAM 2 does.
        iou_scores (`torch.Tensor` of shape `(batch_size, num_objects, num_masks)`):
            Predicted IoU of each mask with the object, in [0, 1].
        pred_masks (`torch.Tensor` of shape `(batch_size, num_objects, num_masks, H / 4, W / 4)`):
            Low-res mask logits; `processor.post_process_masks` brings them to the size of the picture.
        object_score_logits (`torch.Tensor` of shape `(batch_size, num_objects, 1)`):
            Logit of "the object is in the picture".
        image_embeddings (`tuple[torch.Tensor]`):
            Maps of stride 4, 8 and 16, to be passed again as `image_embeddings` with other prompts.
        vision_hidden_states (`tuple[torch.Tensor]`, *optional*, with `output_hidden_states=True`):
            Outputs of the backbone's stages, `(batch_size, height, width, channels)`.
        vision_attentions:
            Always `None`: the backbone is convolutional.
        mask_decoder_attentions (`tuple[torch.Tensor]`, *optional*, with `output_attentions=True`):
            Weights with which tokens attend to the image, one tensor for each two-way layer and one for the last
            attention, `(batch_size * num_objects, num_heads, num_tokens, H / 16 * W / 16)`.
    """

    loss: torch.FloatTensor | None = None
    loss_dict: dict[str, torch.FloatTensor] | None = None
    iou_scores: torch.FloatTensor | None = None
    pred_masks: torch.FloatTensor | None = None
    object_score_logits: torch.FloatTensor | None = None
    image_embeddings: tuple[torch.FloatTensor, ...] | None = None
    vision_hidden_states: tuple[torch.FloatTensor, ...] | None = None
    vision_attentions: tuple[torch.FloatTensor, ...] | None = None
    mask_decoder_attentions: tuple[torch.FloatTensor, ...] | None = None


class EdgeTamVisionNeck(nn.Module):
    """Feature pyramid: lateral 1x1 convolutions, and a top-down path from stride 32 to stride 16."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.convs = nn.ModuleList(
            nn.Conv2d(
                in_channels, config.fpn_hidden_size, config.fpn_kernel_size, config.fpn_stride, config.fpn_padding
            )
            for in_channels in config.backbone_channel_list
        )

    def forward(self, hidden_states):
        """Maps (B, C, height, width) and their position encodings, all of them from stride 32 to stride 4.

        `hidden_states` are the outputs of the backbone's stages, (B, height, width, C) from stride 4 to stride 32.
        """
        maps = self.join(hidden_states)[::-1]
        encodings = [sine_position_encoding(*fm.shape[1:], fm.device, fm.dtype) for fm in maps]
        return tuple(maps), tuple(encoding.expand(fm.shape[0], -1, -1, -1) for encoding, fm in zip(encodings, maps))

    def join(self, hidden_states, projections=()):
        """List of the maps (B, C, height, width) of the stages, from stride 4 to stride 32; see `forward`.

        The first maps may pass `projections` at last, a convolution each, which are merged with those of the neck.
        """
        convs = self.convs[::-1]
        stages = [states.permute(0, 3, 1, 2) for states in hidden_states]
        maps = [convolve_twice(*chain) for chain in zip(stages, convs, projections)]
        maps += [conv(stage) for conv, stage in list(zip(convs, stages))[len(maps) :]]
        for level in range(len(stages) - 2, -1, -1):
            if level in self.config.fpn_top_down_levels:
                above = F.interpolate(maps[level + 1].float(), scale_factor=2.0, mode="nearest")
                maps[level] = maps[level] + above.to(maps[level].dtype)
        return maps

    def can_project(self, projections):
        """Whether nothing is added to, or made of, the maps that pass the projections, and nobody looks at them."""
        return len(projections) <= min(self.config.fpn_top_down_levels) and all(
            can_merge(conv, projection) for conv, projection in zip(self.convs[::-1], projections)
        )


class EdgeTamVisionModel(EdgeTamPreTrainedModel):
    """Image encoder: RepViT and a feature pyramid, without a head.

    Also loads the image encoder of image and video checkpoints.
    """

    config_class = EdgeTamVisionConfig
    base_model_prefix = "vision_encoder"  # under which whole checkpoints have its tensors
    _keys_to_ignore_on_load_unexpected = [r"^(?!backbone\.|neck\.|vision_encoder\.)"]  # noqa: RUF012

    def __init__(self, config):
        super().__init__(config)
        in_channels = config.backbone_config["model_args"]["in_chans"]
        self.backbone = RepVitBackbone(config.backbone_widths, config.backbone_depths, in_channels)
        self.neck = EdgeTamVisionNeck(config)
        self.post_init()

    def get_input_embeddings(self):
        """The stem of the backbone."""
        return self.backbone.timm_model.stem

    def forward(self, pixel_values, output_hidden_states=None, output_attentions=None, return_dict=None):
        """Feature maps and their position encodings.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, channels, H, W)`):
                Normalised pictures; H and W are multiples of 32.
            output_hidden_states (`bool`, *optional*): Whether to return the outputs of the backbone's stages.
            output_attentions (`bool`, *optional*): Not used: there are none.
            return_dict (`bool`, *optional*): Whether to return an `EdgeTamVisionEncoderOutput` or a tuple.

        Raises:
            ValueError: for pixel values of another rank, dtype or device, or of a size that is no multiple of 32.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        hidden_states = self._stages(pixel_values)
        maps, encodings = self.neck(hidden_states)
        num_levels = self.config.num_feature_levels
        output = EdgeTamVisionEncoderOutput(
            last_hidden_state=hidden_states[-1],
            hidden_states=hidden_states if output_hidden_states else None,
            fpn_hidden_states=maps[-num_levels:][::-1],
            fpn_position_encoding=encodings[-num_levels:][::-1],
        )
        return _as_requested(output, return_dict, self.config)

    def project(self, pixel_values, projections):
        """As `forward`, without position encodings; the first maps have passed convolutions of kernel size 1.

        That is a quarter of the work where they can be merged with those of the neck, see `can_project`.
        """
        hidden_states = self._stages(pixel_values)
        maps = self.neck.join(hidden_states, projections)[: self.config.num_feature_levels]
        return EdgeTamVisionEncoderOutput(
            last_hidden_state=hidden_states[-1], hidden_states=hidden_states, fpn_hidden_states=tuple(maps)
        )

    def can_project(self, projections):
        """Whether `project` can stand for `forward` and the projections after it, and nobody sees it."""
        return is_untouched(self.neck, EdgeTamVisionNeck) and self.neck.can_project(projections)

    def _stages(self, pixel_values):
        """Outputs (B, height, width, C) of the backbone's stages, from stride 4 to stride 32."""
        check_pixel_values(pixel_values, getattr(self.backbone, "in_channels", None), BACKBONE_STRIDE)
        weight = next(self.parameters())
        check_device("pixel_values", pixel_values, weight.device, self)
        return tuple(stage.permute(0, 2, 3, 1) for stage in self.backbone(pixel_values.to(weight.dtype)))


def _as_requested(output, return_dict, config):
    """The output itself, or a tuple of its values where `return_dict` (or the config) asks for one."""
    return_dict = config.return_dict if return_dict is None else return_dict
    return output if return_dict else output.to_tuple()


class EdgeTamModel(EdgeTamPreTrainedModel):
    """EdgeTAM on pictures: masks of objects that are prompted by clicks, boxes or masks.

    Loads image checkpoints and the image part of video checkpoints, of this project and of Transformers.
    """

    _auto_class = "AutoModel"
    _large_parts = ("vision_encoder", "mask_decoder")
    _small_parts = ("shared_image_embedding", "prompt_encoder", "no_memory_embedding")
    _parts_of_objects = ("mask_decoder.transformer", "mask_decoder")  # whose batch dimension is objects
    _keys_to_ignore_on_load_missing = [r"prompt_encoder\.shared_embedding\.positional_embedding"]  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected = [  # noqa: RUF012
        r"^memory_",
        r"^mask_downsample",
        r"^spatial_perceiver",
        r"^object_pointer_proj",
        r"^temporal_positional_encoding_projection_layer",
        r"^no_memory_positional_encoding",
        r"^no_object_pointer",
        r"^occlusion_spatial_embedding_parameter",
    ]

    def __init__(self, config):
        super().__init__(config)
        self._build(config)
        self.prompt_simulation, self.loss_weights = PromptSimulation(), LossWeights()  # what training follows
        self.post_init()

    def _build(self, config):
        """Makes the parts; the video model adds to them."""
        self.shared_image_embedding = EdgeTamPositionalEmbedding(config.prompt_encoder_config)
        self.vision_encoder = EdgeTamVisionModel(config.vision_config)
        self.prompt_encoder = EdgeTamPromptEncoder(config.prompt_encoder_config)
        config.mask_decoder_config._attn_implementation = config._attn_implementation
        self.mask_decoder = EdgeTamMaskDecoder(config.mask_decoder_config)
        self.no_memory_embedding = nn.Parameter(torch.zeros(1, 1, config.vision_config.fpn_hidden_size))

    def tie_weights(self, *args, **kwargs):
        """Gives the prompts the position embedding of the image where a checkpoint (of Transformers 4) holds one."""
        super().tie_weights(*args, **kwargs)
        prompts = self.prompt_encoder.shared_embedding
        if prompts.is_random:
            prompts.positional_embedding.copy_(self.shared_image_embedding.positional_embedding)
            prompts.is_random = False

    def compile(self, **options):
        """Compiles the parts that do the work, in place, each when it runs for the first time.

        One object and several objects are compiled separately; from then on no number of clicks or objects, of points
        in mask generation, and no frame of a video whose memory is full compiles anything anew. The options are those
        of `torch.compile`. Copies and pickles of the model are not compiled.
        """
        self.vision_encoder.backbone.compile(**options)
        for part in map(self.get_submodule, self._parts_of_objects):
            part.compile(**{"dynamic": True, **options})

    def get_image_wide_positional_embeddings(self):
        """Position embedding (1, C, h, w) of the pixels of the image embedding."""
        matrix = self.shared_image_embedding.positional_embedding
        grid = pixel_centres(*self.prompt_encoder.image_embedding_size, matrix.device)
        return self.shared_image_embedding(grid).permute(2, 0, 1)[None].to(matrix.dtype)

    def get_image_features(self, pixel_values, output_hidden_states=None, output_attentions=None, return_dict=None):
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
        return _as_requested(features, return_dict, self.config)

    def get_image_embeddings(self, pixel_values):
        """List of the maps of stride 4, 8 and 16 that `forward` takes as `image_embeddings`.

        Shapes (batch_size, channels / 8, H / 4, W / 4), (batch_size, channels / 4, H / 8, W / 8) and (batch_size,
        channels, H / 16, W / 16) for `pixel_values` (batch_size, 3, H, W) of the configured image size.
        """
        return list(self._encode_image(pixel_values).fpn_hidden_states)

    def _encode_image(self, pixel_values):
        """`EdgeTamVisionEncoderOutput` whose maps are the image embeddings."""
        output = self._encode_frame(pixel_values)
        *high_resolution, frame_embedding = output.fpn_hidden_states
        output.fpn_hidden_states = (*high_resolution, self.forget_memory(frame_embedding))
        return output

    def _encode_frame(self, pixel_values):
        """`EdgeTamVisionEncoderOutput` whose maps are image embeddings that say nothing of memory yet.

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

    def forget_memory(self, frame_embedding):
        """The map of stride 16, (B, C, h, w), with the embedding that stands for an empty memory."""
        return frame_embedding + self.no_memory_embedding.flatten()[:, None, None]

    def get_prompt_embeddings(self, input_points=None, input_labels=None, input_boxes=None, input_masks=None):
        """Sparse (B, O, T, C) and dense (B, C, h, w) embeddings of prompts; see `forward` for the arguments.

        The dense ones have shape (B, O, C, h, w) where every object has a mask of its own.
        """
        prompts, device = (input_points, input_boxes, input_masks), self.no_memory_embedding.device
        batch_size = next((p.shape[0] for p in prompts if torch.is_tensor(p) and p.dim() > 0), 1)
        prompts = self._encode_prompts(input_points, input_labels, input_boxes, input_masks, batch_size, device)
        return prompts.sparse, prompts.dense

    def _encode_prompts(self, input_points, input_labels, input_boxes, input_masks, batch_size, device):
        if torch.is_tensor(input_masks) and input_masks.dim() == 3:
            input_masks = input_masks[:, None]
        prompts = {"input_points": input_points, "input_labels": input_labels}
        prompts |= {"input_boxes": input_boxes, "input_masks": input_masks}
        check_prompts(batch_size, prompts, self.config.prompt_encoder_config.num_point_embeddings - 1)
        for name, prompt in prompts.items():
            if prompt is not None:
                check_device(name, prompt, device, self)
        return self.prompt_encoder(input_points, input_labels, input_boxes, input_masks, batch_size, device)

    def confident_masks(self, image_embeddings, points, pred_iou_thresh=0.0):
        """Masks that a predicted IoU above the threshold promises to be good: what mask generation asks for.

        They are those of `forward` with `multimask_output=True`, but a prompt is read only, and not drawn, if none of
        its masks is confident. On a GPU this waits for the device once, for the scores.

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
        encoding, scores, readings = self.get_image_wide_positional_embeddings(), [], []
        for part in points.split(MAX_PROMPTS_AT_ONCE):
            prompts = self._encode_prompts(part[None, :, None], None, None, None, 1, points.device)
            reading = self.mask_decoder.read_prompts(image_embeddings[2], encoding, prompts)
            scores.append(reading.iou_scores[0, :, 1:])
            readings.extend(zip(reading.mask_tokens[0], reading.pixels[0]))
        (scores,) = fetch([torch.cat(scores).float()])  # the one wait
        is_confident = scores > (pred_iou_thresh if pred_iou_thresh > 0 else -1.0)
        masks = [image_embeddings[0][0, :0]]
        drawn_idx = is_confident.any(dim=1).nonzero()[:, 0]  # on the CPU, as is all that says what to draw
        for start in range(0, len(drawn_idx), MAX_PROMPTS_AT_ONCE):
            part = drawn_idx[start : start + MAX_PROMPTS_AT_ONCE]
            mask_tokens, pixels = (torch.stack(states)[None] for states in zip(*(readings[idx] for idx in part)))
            reading = PromptReading(None, mask_tokens, None, (), pixels)
            drawn = self.mask_decoder(image_embeddings, reading=reading).masks[0]
            prompt_idx, mask_idx = (send(idx, drawn.device) for idx in is_confident[part].nonzero(as_tuple=True))
            masks.append(drawn[prompt_idx, mask_idx + 1])
        return torch.cat(masks), scores[is_confident], is_confident.nonzero()[:, 0]

    def forward(
        self,
        pixel_values: torch.FloatTensor | None = None,
        input_points: torch.FloatTensor | None = None,
        input_labels: torch.LongTensor | None = None,
        input_boxes: torch.FloatTensor | None = None,
        input_masks: torch.FloatTensor | None = None,
        image_embeddings: list[torch.FloatTensor] | None = None,
        multimask_output: bool = True,
        attention_similarity: torch.FloatTensor | None = None,
        target_embedding: torch.FloatTensor | None = None,
        original_sizes: torch.LongTensor | None = None,
        reshaped_input_sizes: torch.LongTensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        mask_labels: torch.Tensor | None = None,
        prompt_seeds: torch.LongTensor | None = None,
    ):
        """Masks of every prompted object, as an `EdgeTamImageSegmentationOutput`; with `mask_labels` also the loss.

        Coordinates are (x, y) in pixels of the model input, where the processor puts them; they may lie outside.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, 3, H, W)`):
                Pictures from the processor. Exactly one of `pixel_values` and `image_embeddings` is needed.
            input_points (`torch.Tensor` of shape `(batch_size, num_objects, num_points, 2)`, *optional*):
                Clicks.
            input_labels (`torch.Tensor` of shape `(batch_size, num_objects, num_points)`, *optional*):
                1 on the object (the default), 0 off the object, 2 and 3 top-left and bottom-right corner of a box, -1
                no position, -10 padding: such a point has no influence at all. Others are refused on the CPU; on a GPU,
                which would have to be waited for, those above 3 count as 3, and those below -1 as 0.
            input_boxes (`torch.Tensor` of shape `(batch_size, num_objects, 4)`, *optional*):
                x_min, y_min, x_max, y_max of a box around each object; (-10, -10, -10, -10) stands for no box. May
                be combined with points.
            input_masks (`torch.Tensor` of shape `(batch_size, num_objects, height, width)`, *optional*):
                Mask logits, such as the `pred_masks` of an earlier call; resized to (H / 4, W / 4). One mask per
                picture, also as `(batch_size, height, width)`, is used for all its objects.
            image_embeddings (`list[torch.Tensor]`, *optional*):
                What `get_image_embeddings` or an earlier call returned, instead of `pixel_values`.
            multimask_output (`bool`, *optional*, defaults to `True`):
                Three masks per object, for prompts that may mean several things, or one.
            attention_similarity (`torch.Tensor`, *optional*):
                Added to the logits of the attention of tokens to the image, broadcastable to `(batch_size *
                num_objects, num_heads, num_tokens, H / 16 * W / 16)` (PerSAM, arXiv 2305.03048).
            target_embedding (`torch.Tensor`, *optional*):
                Added to the tokens, broadcastable to `(batch_size, num_objects, num_tokens, channels)` (PerSAM).
            original_sizes, reshaped_input_sizes (`torch.Tensor`, *optional*):
                Not used; they let `model(**inputs)` take whatever the processor returned.
            output_attentions, output_hidden_states, return_dict (`bool`, *optional*):
                As everywhere in Transformers; the defaults stand in the configuration.
            mask_labels (`torch.Tensor` of shape `(batch_size, num_objects, H, W)`, *optional*):
                True masks to learn from: 1 on the object, 0 elsewhere, -1 everywhere for an object that only fills up
                the batch. Without any prompt, users are simulated as `prompt_simulation` says, an attribute of the
                model, and the output is that after the last correction. The Trainer takes whatever has "label" in its
                name for labels, and `input_labels` may be missing: evaluate with
                `TrainingArguments(label_names=["mask_labels"])`, or there is no `eval_loss`.
            prompt_seeds (`torch.Tensor` of shape `(batch_size,)`, *optional*):
                Integers that decide what users are simulated for each picture; by default PyTorch's global generator
                does.

        Raises:
            ValueError: for inputs whose kind, shape, dtype or device is wrong, or that do not fit each other.
        """
        if (pixel_values is None) == (image_embeddings is None):
            given = "neither" if pixel_values is None else "both"
            raise ValueError(f"exactly one of pixel_values and image_embeddings must be given, got {given}")
        hidden_states, losses, prompts = None, None, (input_points, input_labels, input_boxes, input_masks)
        if pixel_values is not None:
            encoded = self._encode_image(pixel_values)
            image_embeddings, hidden_states = encoded.fpn_hidden_states, encoded.hidden_states
        else:
            self._check_image_embeddings(image_embeddings)
        if mask_labels is not None:
            size = self.prompt_encoder.image_size
            prompt_seeds = check_labels(mask_labels, prompt_seeds, image_embeddings[-1].shape[:1], size)
            check_device("mask_labels", mask_labels, image_embeddings[-1].device, self)
        output_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if mask_labels is not None and all(prompt is None for prompt in prompts):
            prediction, losses = learn_from_pictures(self, image_embeddings, mask_labels, prompt_seeds)
        else:
            prediction = self._answer(
                image_embeddings, prompts, attention_similarity, target_embedding, output_attentions
            )
            if mask_labels is not None:
                losses = self._losses(prediction, mask_labels, multimask_output)
        select = self.mask_decoder.several_masks if multimask_output else self.mask_decoder.single_mask
        masks, iou_scores = select(prediction)
        loss, terms = (None, None) if losses is None else total_loss(losses, mask_labels)
        output = EdgeTamImageSegmentationOutput(
            loss=loss,
            loss_dict=terms,
            iou_scores=iou_scores,
            pred_masks=masks,
            object_score_logits=prediction.object_score_logits,
            image_embeddings=tuple(image_embeddings),
            vision_hidden_states=hidden_states if output_hidden_states else None,
            mask_decoder_attentions=prediction.attentions if output_attentions else None,
        )
        return _as_requested(output, return_dict, self.config)

    def _answer(self, image_embeddings, prompts, attention_similarity, target_embedding, output_attentions):
        """The `MaskPrediction` of prompts: points, labels, boxes and masks."""
        prompts = self._encode_prompts(*prompts, image_embeddings[-1].shape[0], image_embeddings[-1].device)
        self._check_concept(attention_similarity, target_embedding, prompts.sparse)
        if target_embedding is not None:
            sides = target_embedding.shape[-2:] if target_embedding.dim() > 1 else (1, *target_embedding.shape)
            target_embedding = target_embedding.expand(*prompts.sparse.shape[:2], *sides).flatten(0, 1)
        return self.mask_decoder(
            image_embeddings,
            self.get_image_wide_positional_embeddings(),
            prompts,
            attention_similarity=attention_similarity,
            target_embedding=target_embedding,
            output_attentions=output_attentions,
        )

    def _losses(self, prediction, mask_labels, is_ambiguous):
        """Losses (B, O) of the answer to given prompts."""
        num_objects = prediction.iou_scores.shape[1]
        if mask_labels.shape[1] != num_objects:
            raise ValueError(
                f"mask_labels must have a mask for each of the {num_objects} prompted objects, got "
                f"{mask_labels.shape[1]}"
            )
        is_ambiguous = torch.full(mask_labels.shape[:2], is_ambiguous, device=mask_labels.device)
        return segmentation_losses(prediction, cell_shares(mask_labels > 0), is_ambiguous, self.loss_weights)

    def _check_image_embeddings(self, image_embeddings):
        (height, width), channels = (
            self.prompt_encoder.image_embedding_size,
            self.config.mask_decoder_config.hidden_size,
        )
        expected = [(channels // n, height * s, width * s) for n, s in ((8, 4), (4, 2), (1, 1))]
        check_image_embeddings(image_embeddings, expected, self.no_memory_embedding.dtype)
        for level, feature_map in enumerate(image_embeddings):
            check_device(f"image_embeddings[{level}]", feature_map, self.no_memory_embedding.device, self)

    def _check_concept(self, attention_similarity, target_embedding, sparse):
        """Raises a ValueError unless what PerSAM adds fits the prompts' embeddings (B, O, T, C)."""
        (batch_size, num_objects, num_tokens, channels), decoder = sparse.shape, self.mask_decoder
        num_tokens = num_tokens + decoder.num_mask_tokens + 2  # and those of IoU and object score
        height, width = self.prompt_encoder.image_embedding_size
        num_heads = self.config.mask_decoder_config.num_attention_heads
        for name, tensor, shape in (
            (
                "attention_similarity",
                attention_similarity,
                (batch_size * num_objects, num_heads, num_tokens, height * width),
            ),
            ("target_embedding", target_embedding, (batch_size, num_objects, num_tokens, channels)),
        ):
            if tensor is not None:
                check_broadcast(name, tensor, shape)
                check_device(name, tensor, sparse.device, self)
