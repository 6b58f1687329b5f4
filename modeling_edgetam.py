"""EdgeTAM on pictures (arXiv 2501.07256): image encoder, and the model that joins it to prompts and masks.

    pixel_values -> image embeddings -> (prompts -> prompt embeddings) -> low-res masks, IoU scores, object scores

Shapes: B pictures, O objects per picture, T tokens, C channels, (H, W) the model input in pixels, (h, w) =
(H / 16, W / 16) the image embedding. Maps are (B, C, height, width). Points are (x, y) in pixels of the model input.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import nn
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_edgetam import BACKBONE_STRIDE, EdgeTamConfig, EdgeTamVisionConfig
from .device_edgetam import fetch, send
from .folding_edgetam import convolve_twice
from .losses_edgetam import LossWeights, cell_shares, segmentation_losses
from .mask_decoder_edgetam import EdgeTamMaskDecoder, PromptReading
from .position_edgetam import sine_position_encoding
from .prompt_encoder_edgetam import EdgeTamPositionalEmbedding, EdgeTamPromptEncoder, check_prompts
from .prompting_edgetam import PromptSimulation
from .repvit_edgetam import RepVitBackbone
from .training_edgetam import check_labels, learn_from_pictures, total_loss

if TYPE_CHECKING:  # named here so that the remote-code loader and save_pretrained take these files along
    from .attention_edgetam import EdgeTamAttention  # noqa: F401
    from .image_processing_edgetam import EdgeTamImageProcessor  # noqa: F401
    from .mask_candidates_edgetam import MaskCandidates  # noqa: F401
    from .mask_generation_edgetam import Crop  # noqa: F401
    from .mask_labels_edgetam import read_objects  # noqa: F401
    from .pictures_edgetam import read_picture  # noqa: F401
    from .pipeline_edgetam import EdgeTamMaskGenerationPipeline  # noqa: F401
    from .settings_edgetam import height_width  # noqa: F401

# Prompts that `confident_masks` reads or draws at once: more are not faster, but need more memory.
MAX_PROMPTS_AT_ONCE = 16


@dataclass
class EdgeTamVisionEncoderOutput(ModelOutput):
    """Output of the image encoder.

    Args:
        last_hidden_state (`torch.Tensor` of shape `(batch_size, H / 32, W / 32, channels)`):
            Output of the backbone's last stage.
        fpn_hidden_states (`tuple[torch.Tensor]`):
            Maps of the neck, from high to low resolution.
        fpn_position_encoding (`tuple[torch.Tensor]`):
            Sine position encodings of the same shapes.
        hidden_states (`tuple[torch.Tensor]`, *optional*, with `output_hidden_states=True`):
            Outputs of the backbone's stages, `(batch_size, height, width, channels)`, from stride 4 to stride 32.
    """

    last_hidden_state: torch.FloatTensor | None = None
    fpn_hidden_states: tuple[torch.FloatTensor, ...] | None = None
    fpn_position_encoding: tuple[torch.FloatTensor, ...] | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None


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

    def join(self, stages, projections=()):
        """The `num_feature_levels` maps of highest resolution (stride 4 first) of the four backbone stages.

        `projections` are convolutions of kernel size 1 that the first maps pass at last, each its own. (They are why
        this is no `forward`: accelerate's hooks would move modules among its arguments.)
        """
        convs = list(reversed(self.convs))
        num_alone = min(self.config.fpn_top_down_levels)  # maps to which, and of which, nothing is added
        feature_maps = [convolve_twice(*chain) for chain in zip(stages[:num_alone], convs, projections)]
        num_projected = len(feature_maps)
        feature_maps += [conv(stage) for stage, conv in zip(stages[num_projected:], convs[num_projected:])]
        for level in range(len(stages) - 2, -1, -1):
            if level in self.config.fpn_top_down_levels:
                above = F.interpolate(feature_maps[level + 1].float(), scale_factor=2.0, mode="nearest")
                feature_maps[level] = feature_maps[level] + above.to(feature_maps[level].dtype)
        for level in range(num_projected, len(projections)):
            feature_maps[level] = projections[level](feature_maps[level])
        return feature_maps[: self.config.num_feature_levels]


class EdgeTamPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation shared by all EdgeTAM models."""

    config_class = EdgeTamConfig
    base_model_prefix = "edgetam"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flash_attn_2 = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["RepVitBlock", "RepVitStem", "RepVitDownsample", "EdgeTamTwoWayAttentionBlock"]  # noqa: RUF012

    def train(self, mode=True):
        """Sets the mode; a batch normalisation whose weight is frozen keeps its statistics in training, too."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                module.train(False)
        return self

    def _init_weights(self, module):
        std = self.config.initializer_range
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)):
            nn.init.normal_(module.weight, std=std)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.LayerNorm, nn.BatchNorm2d)):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.zeros_(module.running_mean)
                nn.init.ones_(module.running_var)
                nn.init.zeros_(module.num_batches_tracked)
        elif isinstance(module, EdgeTamPositionalEmbedding):
            nn.init.normal_(module.positional_embedding, std=module.scale)
            module.is_random = True
        elif isinstance(module, EdgeTamModel):
            nn.init.zeros_(module.no_memory_embedding)


class EdgeTamVisionModel(EdgeTamPreTrainedModel):
    """Image encoder: RepViT and a feature pyramid, without a head."""

    config_class = EdgeTamVisionConfig

    def __init__(self, config):
        super().__init__(config)
        in_channels = config.backbone_config["model_args"]["in_chans"]
        self.backbone = RepVitBackbone(config.backbone_widths, config.backbone_depths, in_channels)
        self.neck = EdgeTamVisionNeck(config)
        self.post_init()

    def forward(self, pixel_values, output_hidden_states=None, return_dict=None):
        """Feature maps and their position encodings.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, channels, H, W)`):
                Normalised pictures; H and W are multiples of 32.
            output_hidden_states (`bool`, *optional*): Whether to return the outputs of the backbone's stages.
            return_dict (`bool`, *optional*): Whether to return an `EdgeTamVisionEncoderOutput` or a tuple.

        Raises:
            ValueError: for pixel values of another rank, or of a size that is no multiple of 32.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        feature_maps, stages = self.encode(pixel_values)
        stages = tuple(stage.permute(0, 2, 3, 1) for stage in stages)
        output = EdgeTamVisionEncoderOutput(
            last_hidden_state=stages[-1],
            fpn_hidden_states=tuple(feature_maps),
            fpn_position_encoding=tuple(
                sine_position_encoding(*fm.shape[1:], fm.device, fm.dtype).expand(len(fm), -1, -1, -1)
                for fm in feature_maps
            ),
            hidden_states=stages if output_hidden_states else None,
        )
        return _as_requested(output, return_dict, self.config)

    def encode(self, pixel_values, projections=()):
        """Maps of the neck, see there, and outputs of the backbone's stages, as lists of (B, C, height, width)."""
        shape = tuple(getattr(pixel_values, "shape", ()))
        if len(shape) != 4 or any(side % BACKBONE_STRIDE for side in shape[2:]):
            raise ValueError(
                "pixel_values must be a tensor (batch_size, channels, height, width) whose height and width are "
                f"multiples of {BACKBONE_STRIDE}, got {shape or type(pixel_values).__name__}; use the processor"
            )
        stages = self.backbone(pixel_values.to(self.neck.convs[0].weight.dtype))
        return self.neck.join(stages, projections), stages


def _with_small_parts_in_memory(device_map, large_parts, small_parts):
    """The device map with nothing but large parts on disk.

    The rest is small, and partly cannot be read on call: the model's own parameters, and the position embeddings, one
    of which may have to be copied from the other.
    """
    if not isinstance(device_map, dict):
        return device_map
    if "" in device_map:
        parts = dict.fromkeys((*small_parts, *large_parts), device_map[""])
        device_map = {**parts, **{name: device for name, device in device_map.items() if name}}
    is_large = {name: name.startswith(large_parts) for name in device_map}
    return {name: "cpu" if device == "disk" and not is_large[name] else device for name, device in device_map.items()}


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

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, output_loading_info=False, **kwargs):
        """The model of a folder or Hub repository; see `PreTrainedModel.from_pretrained`.

        Raises:
            ValueError: for a truncated file, or a checkpoint without all tensors of this model in their shapes.
        """
        if getattr(kwargs.get("config"), "model_type", None) == "edgetam_video" and cls.config_class is EdgeTamConfig:
            kwargs["config"] = EdgeTamConfig.image_part(kwargs["config"])
        try:
            kwargs["device_map"] = _with_small_parts_in_memory(
                kwargs.get("device_map"), cls._large_parts, cls._small_parts
            )
            if kwargs["device_map"] is not None:  # else Transformers 4 never reads the statistics that are on disk
                kwargs.setdefault("offload_buffers", True)
            kwargs["ignore_mismatched_sizes"] = True  # so that they are reported here, with names and shapes
            model, info = super().from_pretrained(
                pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
            )
        except SafetensorError as error:
            raise ValueError(
                f"the weights of {pretrained_model_name_or_path} are truncated or not in safetensors format ({error}); "
                "download or save them again"
            ) from error
        if mismatched := sorted(key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]):
            expected = tuple(model.state_dict()[mismatched[0]].shape)
            raise ValueError(
                f"{pretrained_model_name_or_path} does not fit its configuration: {len(mismatched)} tensors have "
                f"another shape, the first is {mismatched[0]}, expected {expected}"
            )
        if missing := sorted(info["missing_keys"]):
            raise ValueError(
                f"{pretrained_model_name_or_path} is not a complete EdgeTAM checkpoint: {len(missing)} tensors are "
                f"missing, the first is {missing[0]}"
            )
        return (model, info) if output_loading_info else model

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
        return self.shared_image_embedding.of_map(*self.prompt_encoder.image_embedding_size)

    def get_image_features(self, pixel_values, output_hidden_states=None, return_dict=None):
        """Maps of the image encoder in Transformers' layout: pixels first, (height * width, batch_size, channels).

        The maps of stride 4 and 8 have passed the mask decoder's projections; the map of stride 16 is raw, without
        the embedding that `get_image_embeddings` adds. See `EdgeTamVisionModel.forward` for the arguments.
        """
        output = self.vision_encoder(pixel_values, output_hidden_states=output_hidden_states, return_dict=True)
        stride_4, stride_8, *others = output.fpn_hidden_states
        maps = (self.mask_decoder.conv_s0(stride_4), self.mask_decoder.conv_s1(stride_8), *others)
        output.fpn_hidden_states = tuple(fm.flatten(2).permute(2, 0, 1) for fm in maps)
        output.fpn_position_encoding = tuple(pe.flatten(2).permute(2, 0, 1) for pe in output.fpn_position_encoding)
        return _as_requested(output, return_dict, self.config)

    def get_image_embeddings(self, pixel_values):
        """List of the maps of stride 4, 8 and 16 that `forward` takes as `image_embeddings`.

        Shapes (batch_size, channels / 8, H / 4, W / 4), (batch_size, channels / 4, H / 8, W / 8) and (batch_size,
        channels, H / 16, W / 16) for `pixel_values` (batch_size, 3, H, W) of the configured image size.
        """
        return self._encode_image(pixel_values)[0]

    def _encode_image(self, pixel_values):
        """Image embeddings, and the outputs of the backbone's stages."""
        (*high_resolution, frame_embedding), stages = self._encode_frame(pixel_values)
        return [*high_resolution, self.forget_memory(frame_embedding)], stages

    def _encode_frame(self, pixel_values):
        """Image embeddings that say nothing of memory yet, and the outputs of the backbone's stages."""
        size = self.prompt_encoder.image_size
        if tuple(pixel_values.shape[-2:]) != size:
            raise ValueError(
                f"pixel_values must have the configured size {size[0]}x{size[1]} (height x width), got "
                f"{tuple(pixel_values.shape)}; resize with the processor, or load the model with image_size=(height, "
                "width)"
            )
        projections = (self.mask_decoder.conv_s0, self.mask_decoder.conv_s1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._is_frozen(self.vision_encoder, *projections)):
            return self.vision_encoder.encode(pixel_values, projections)

    def _is_frozen(self, *parts):
        """Whether nothing learns in training: then there is no need for gradients, and weights can be folded."""
        return self.training and not any(parameter.requires_grad for part in parts for parameter in part.parameters())

    def forget_memory(self, frame_embedding):
        """The map of stride 16, (B, C, h, w), with the embedding that stands for an empty memory."""
        return frame_embedding + self.no_memory_embedding.flatten()[:, None, None]

    def get_prompt_embeddings(self, input_points=None, input_labels=None, input_boxes=None, input_masks=None):
        """Sparse (B, O, T, C) and dense (B, C, h, w) embeddings of prompts; see `forward` for the arguments.

        The dense ones have shape (B, O, C, h, w) where every object has a mask of its own.
        """
        given = [prompt for prompt in (input_points, input_boxes, input_masks) if prompt is not None]
        batch_size, device = (len(given[0]), given[0].device) if given else (1, self.device)
        prompts = self._encode_prompts(input_points, input_labels, input_boxes, input_masks, batch_size, device)
        return prompts.sparse, prompts.dense

    def _encode_prompts(self, input_points, input_labels, input_boxes, input_masks, batch_size, device):
        if input_masks is not None and input_masks.dim() == 3:
            input_masks = input_masks[:, None]
        check_prompts(batch_size, input_points, input_labels, input_boxes, input_masks)
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
                no position, -10 padding: such a point has no influence at all.
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
                model, and the output is that after the last correction.
            prompt_seeds (`torch.Tensor` of shape `(batch_size,)`, *optional*):
                Integers that decide what users are simulated for each picture; by default PyTorch's global generator
                does.

        Raises:
            ValueError: for inputs whose shapes are wrong or do not fit each other.
        """
        if (pixel_values is None) == (image_embeddings is None):
            given = "neither" if pixel_values is None else "both"
            raise ValueError(f"exactly one of pixel_values and image_embeddings must be given, got {given}")
        stages, losses, prompts = None, None, (input_points, input_labels, input_boxes, input_masks)
        if pixel_values is not None:
            image_embeddings, stages = self._encode_image(pixel_values)
        else:
            self._check_image_embeddings(image_embeddings)
        if mask_labels is not None:
            size = self.prompt_encoder.image_size
            prompt_seeds = check_labels(mask_labels, prompt_seeds, image_embeddings[-1].shape[:1], size)
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
        has_stages = output_hidden_states and stages is not None
        loss, terms = (None, None) if losses is None else total_loss(losses, mask_labels)
        output = EdgeTamImageSegmentationOutput(
            loss=loss,
            loss_dict=terms,
            iou_scores=iou_scores,
            pred_masks=masks,
            object_score_logits=prediction.object_score_logits,
            image_embeddings=tuple(image_embeddings),
            vision_hidden_states=tuple(stage.permute(0, 2, 3, 1) for stage in stages) if has_stages else None,
            mask_decoder_attentions=prediction.attentions if output_attentions else None,
        )
        return _as_requested(output, return_dict, self.config)

    def _answer(self, image_embeddings, prompts, attention_similarity, target_embedding, output_attentions):
        """The `MaskPrediction` of prompts: points, labels, boxes and masks."""
        prompts = self._encode_prompts(*prompts, len(image_embeddings[-1]), image_embeddings[-1].device)
        if target_embedding is not None:
            shape = torch.broadcast_shapes(target_embedding.shape, (*prompts.sparse.shape[:2], 1, 1))
            target_embedding = target_embedding.expand(shape).flatten(0, 1)
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
        height, width = self.prompt_encoder.image_embedding_size
        expected = [(height * scale, width * scale) for scale in (4, 2, 1)]
        is_list = isinstance(image_embeddings, (list, tuple))
        received = [tuple(fm.shape[-2:]) for fm in image_embeddings] if is_list else type(image_embeddings).__name__
        if received != expected:
            raise ValueError(
                f"image_embeddings must be the three maps that get_image_embeddings returns, of height and width "
                f"{expected}, got {received}"
            )
