"""Configurations of EdgeTAM: the names, defaults and JSON of Transformers' own classes, with one image size."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

try:
    from transformers import PreTrainedConfig
except ImportError:  # transformers<5: the class has another name
    from transformers import PretrainedConfig as PreTrainedConfig

BACKBONE_STRIDE = 32
REPVIT_WIDTHS_AND_DEPTHS = {"repvit_m1": ((48, 96, 192, 384), (2, 2, 14, 2))}
KINDS_OF_FIELDS: dict[type | tuple[type, ...], str] = {
    bool: "true or false",
    int: "an integer",
    (float, int): "a number",
    str: "a word",
    (list, tuple): "a list",
}
IMAGE_FIELDS = ("vision_config", "prompt_encoder_config", "mask_decoder_config", "initializer_range", "dtype")
MEMORY_DEFAULTS = {
    "num_maskmem": 7,
    "max_object_pointers_in_encoder": 16,
    "max_cond_frame_num": -1,
    "sigmoid_scale_for_mem_enc": 20.0,
    "sigmoid_bias_for_mem_enc": -10.0,
    "multimask_output_in_sam": True,
    "multimask_output_for_tracking": True,
    "multimask_min_pt_num": 0,
    "multimask_max_pt_num": 1,
    "enable_occlusion_spatial_embedding": False,
    "enable_temporal_pos_encoding_for_object_pointers": False,
    "memory_attention_hidden_size": 256,
    "memory_attention_num_layers": 2,
    "memory_attention_num_attention_heads": 1,
    "memory_attention_downsample_rate": 1,
    "memory_attention_mlp_hidden_size": 2048,
    "memory_attention_mlp_hidden_act": "relu",
    "memory_attention_dropout": 0.1,
    "memory_attention_rope_dropout": 0.1,
    "memory_attention_rope_k_sizes": [16, 16],
    "perceiver_resampler_num_latents": 256,
    "perceiver_resampler_num_latents_2d": 256,
    "perceiver_resampler_hidden_size": 64,
    "perceiver_resampler_mlp_intermediate_size": 256,
    "perceiver_resampler_num_attention_heads": 1,
    "perceiver_resampler_attention_head_dim": 64,
    "perceiver_resampler_num_layers": 2,
    "perceiver_resampler_hidden_dropout": 0.0,
    "perceiver_resampler_attention_dropout": 0.0,
    "memory_encoder_hidden_size": 256,
    "memory_encoder_output_channels": 64,
    "mask_downsampler_embed_dim": 256,
    "mask_downsampler_kernel_size": 3,
    "mask_downsampler_stride": 2,
    "mask_downsampler_padding": 1,
    "mask_downsampler_total_stride": 16,
    "mask_downsampler_hidden_act": "gelu",
    "memory_fuser_num_layers": 2,
    "memory_fuser_embed_dim": 256,
    "memory_fuser_intermediate_dim": 1024,
    "memory_fuser_kernel_size": 7,
    "memory_fuser_padding": 3,
    "memory_fuser_layer_scale_init_value": 1e-6,
    "memory_fuser_hidden_act": "gelu",
}
AUTO_MAP = {
    "AutoConfig": "configuration_edgetam.EdgeTamConfig",
    "AutoModel": "modeling_edgetam.EdgeTamModel",
    "AutoModelForMaskGeneration": "modeling_edgetam.EdgeTamModel",
}
VIDEO_AUTO_MAP = {
    "AutoConfig": "configuration_edgetam.EdgeTamVideoConfig",
    "AutoModel": "modeling_edgetam_video.EdgeTamVideoModel",
    "AutoModelForMaskGeneration": "modeling_edgetam.EdgeTamModel",
}
CUSTOM_PIPELINES = {
    "mask-generation": {
        "impl": "pipeline_edgetam.EdgeTamMaskGenerationPipeline",
        "pt": ["AutoModelForMaskGeneration"],
    }
}


def to_height_and_width(image_size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of an image size given as one integer or as a pair; both must be multiples of 32."""
    sides = tuple(image_size) if isinstance(image_size, (list, tuple)) else (image_size, image_size)
    is_valid = len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides)
    if not is_valid or any(side % BACKBONE_STRIDE for side in sides):
        raise ValueError(
            "image_size must be a positive multiple of 32, or (height, width) of such multiples, "
            f"got {image_size!r}; the nearest sizes that fit can be had by rounding to a multiple of 32"
        )
    return sides


@contextmanager
def _one_error(source: str) -> Iterator[None]:
    """Turns whatever goes wrong while fields are read into a ValueError of one line."""
    try:
        yield
    except (ValueError, OSError, ImportError):
        raise
    except Exception as error:  # what wrong kinds lead to is different in each version of Transformers
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{source} must be a JSON object of fields and their values, and cannot be read: {reason}; download or "
            "save it again"
        ) from error


class FieldsReader:
    """What all configurations share: they refuse fields of the wrong kind, wherever these come from."""

    base_config_key: str  # name of the field of a larger configuration that holds this one

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike, *args: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The stored fields, see `PreTrainedConfig`; a ValueError for a file that holds anything but fields."""
        with _one_error(f"the configuration of {pretrained_model_name_or_path}"):
            fields, kwargs = super().get_config_dict(  # type: ignore[misc] # of PreTrainedConfig
                pretrained_model_name_or_path, *args, **kwargs
            )
            part = fields.get(cls.base_config_key, {})
        if not isinstance(part, dict):
            raise ValueError(
                f"{cls.base_config_key} of {pretrained_model_name_or_path} must be an object of fields, got {part!r}"
            )
        return fields, kwargs

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """The configuration with these fields; a ValueError for fields of the wrong kind."""
        with _one_error(f"{cls.__name__}"):
            return super().from_dict(config_dict, **kwargs)  # type: ignore[misc] # of PreTrainedConfig

    def check_kinds(self, **defaults: Any) -> None:
        """Raises a ValueError unless the fields are of the same kinds as their defaults."""
        for name, default in defaults.items():
            value = getattr(self, name)
            kinds = next(kinds for kinds in KINDS_OF_FIELDS if isinstance(default, kinds))
            if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(default, bool):
                raise ValueError(f"{name} must be {KINDS_OF_FIELDS[kinds]}, such as {default!r}, got {value!r}")


class BackboneConfig(dict):
    """A timm wrapper configuration: a dictionary whose entries are attributes, too, as in Transformers' own class."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the backbone's configuration has no {name}, it has {', '.join(self)}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def to_dict(self) -> dict[str, Any]:
        """A plain dictionary, to be written into."""
        return deepcopy(dict(self))


class EdgeTamVisionConfig(FieldsReader, PreTrainedConfig):
    """Configuration of the image encoder: RepViT and the feature pyramid neck.

    Args:
        backbone_config (`dict` or `PreTrainedConfig`, *optional*):
            The backbone as a timm wrapper configuration. `architecture` must be `repvit_m1` (with or without a
            pretrained tag); `model_args` may set other widths (`embed_dim`) and depths (`depth`) of its four stages.
        backbone_channel_list (`list[int]`, *optional*, defaults to the stage widths, from stride 32 to stride 4):
            Input channels of the neck.
        backbone_feature_sizes (`list[list[int]]`, *optional*, defaults to `[[256, 256], [128, 128], [64, 64]]`):
            (height, width) of the maps of stride 4, 8 and 16. `EdgeTamConfig` derives it from its image size.
        fpn_hidden_size (`int`, *optional*, defaults to 256):
            Channels of all maps of the neck.
        fpn_kernel_size, fpn_stride, fpn_padding (`int`, *optional*, defaults to 1, 1 and 0):
            Shape of the lateral convolutions.
        fpn_top_down_levels (`list[int]`, *optional*, defaults to `[2, 3]`):
            Backbone stages, counted from stride 4, that take part in the top-down path.
        num_feature_levels (`int`, *optional*, defaults to 3):
            Number of maps returned, from the highest resolution.
        hidden_act, layer_norm_eps, initializer_range:
            Activation, epsilon of normalisations and standard deviation of newly initialised weights.
    """

    base_config_key = "vision_config"
    model_type = "edgetam_vision_model"

    def __init__(
        self,
        backbone_config: dict[str, Any] | PreTrainedConfig | None = None,
        backbone_channel_list: list[int] | None = None,
        backbone_feature_sizes: list[list[int]] | None = None,
        fpn_hidden_size: int = 256,
        fpn_kernel_size: int = 1,
        fpn_stride: int = 1,
        fpn_padding: int = 0,
        fpn_top_down_levels: list[int] | None = None,
        num_feature_levels: int = 3,
        hidden_act: str = "gelu",
        layer_norm_eps: float = 1e-6,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.backbone_config = BackboneConfig(_timm_wrapper_dict(backbone_config))
        widths = list(self.backbone_widths)
        self.backbone_channel_list = backbone_channel_list or widths[::-1]
        self.fpn_top_down_levels = fpn_top_down_levels or [2, 3]
        self.check_kinds(backbone_channel_list=[], fpn_top_down_levels=[])
        self.backbone_channel_list = list(self.backbone_channel_list)
        if self.backbone_channel_list != widths[::-1]:
            raise ValueError(
                f"backbone_channel_list must be the backbone's widths from stride 32 to 4, {widths[::-1]}, "
                f"got {self.backbone_channel_list}; leave it out, or change model_args['embed_dim']"
            )
        self.backbone_feature_sizes = backbone_feature_sizes or [[256, 256], [128, 128], [64, 64]]
        self.fpn_hidden_size = fpn_hidden_size
        self.fpn_kernel_size = fpn_kernel_size
        self.fpn_stride = fpn_stride
        self.fpn_padding = fpn_padding
        self.fpn_top_down_levels = list(self.fpn_top_down_levels)
        self.num_feature_levels = num_feature_levels
        self.hidden_act = hidden_act
        self.layer_norm_eps = layer_norm_eps
        self.initializer_range = initializer_range
        self.check_kinds(fpn_hidden_size=256, fpn_kernel_size=1, fpn_stride=1, fpn_padding=0, num_feature_levels=3)
        self.check_kinds(backbone_feature_sizes=[], hidden_act="gelu", layer_norm_eps=1e-6, initializer_range=0.02)

    def to_dict(self) -> dict[str, Any]:
        """All fields, as plain numbers, words, lists and dictionaries."""
        return {**super().to_dict(), "backbone_config": self.backbone_config.to_dict()}

    @property
    def backbone_widths(self) -> tuple[int, ...]:
        """Channels of the four stages, from stride 4 to stride 32."""
        return tuple(self.backbone_config["model_args"].get("embed_dim") or self._architecture[0])

    @property
    def backbone_in_channels(self) -> int:
        """Channels of the pictures."""
        return self.backbone_config["model_args"]["in_chans"]

    @property
    def backbone_depths(self) -> tuple[int, ...]:
        """Number of blocks of the four stages, from stride 4 to stride 32."""
        return tuple(self.backbone_config["model_args"].get("depth") or self._architecture[1])

    @property
    def _architecture(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return REPVIT_WIDTHS_AND_DEPTHS[self.backbone_config["architecture"].split(".")[0]]


def _timm_wrapper_dict(backbone_config: dict[str, Any] | PreTrainedConfig | None) -> dict[str, Any]:
    """A timm wrapper configuration as a dictionary with a known architecture and explicit `model_args`."""
    if backbone_config is None:
        backbone_config = {"architecture": "repvit_m1"}
    backbone_config = _to_fields("backbone_config", backbone_config)
    backbone_config = {"model_type": "timm_wrapper", **deepcopy(backbone_config)}
    if not backbone_config.get("num_classes"):
        # the labels mean nothing here, but Transformers' own class does not load without them
        backbone_config.update(num_classes=2, label_names=["LABEL_0", "LABEL_1"])
    architecture = str(backbone_config.get("architecture"))
    if architecture.split(".")[0] not in REPVIT_WIDTHS_AND_DEPTHS:
        known = ", ".join(REPVIT_WIDTHS_AND_DEPTHS)
        raise ValueError(f"backbone_config['architecture'] must be one of {known}, got {architecture}")
    defaults = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    model_args = {**defaults, **_to_fields("model_args", backbone_config.get("model_args") or {})}
    backbone_config["model_args"] = model_args
    for name in ("embed_dim", "depth"):
        counts = model_args.get(name) or [1] * 4
        is_list = isinstance(counts, (list, tuple)) and len(counts) == 4
        if not is_list or not all(type(count) is int and count > 0 for count in counts):
            raise ValueError(f"model_args[{name!r}] must be four positive integers, one for each stage, got {counts!r}")
    if type(model_args["in_chans"]) is not int or model_args["in_chans"] < 1:
        raise ValueError(f"model_args['in_chans'] must be a positive integer, got {model_args['in_chans']!r}")
    return backbone_config


def _to_fields(name: str, value: Any) -> dict[str, Any]:
    """A dictionary of fields from a dictionary or any configuration object."""
    if not isinstance(value, dict) and not hasattr(value, "to_dict"):
        raise ValueError(f"{name} must be a dictionary of fields or a configuration, got {value!r}")
    return dict(value) if isinstance(value, dict) else value.to_dict()


class EdgeTamPromptEncoderConfig(FieldsReader, PreTrainedConfig):
    """Configuration of the prompt encoder.

    Args:
        hidden_size (`int`, *optional*, defaults to 256): Channels of the embeddings.
        image_size (`int` or `(height, width)`, *optional*, defaults to 1024): Size of the model input in pixels.
        patch_size (`int`, *optional*, defaults to 16): Pixels of the model input per pixel of the image embedding.
        mask_input_channels (`int`, *optional*, defaults to 16): Channels before the last convolution of mask prompts.
        num_point_embeddings (`int`, *optional*, defaults to 4): Negative and positive click, two corners of a box.
        hidden_act (`str`, *optional*, defaults to `"gelu"`): Activation in the embedding of mask prompts.
        layer_norm_eps (`float`, *optional*, defaults to 1e-6): Epsilon of the channel-wise normalisations.
        scale (`float`, *optional*, defaults to 1): Standard deviation of the random Fourier frequencies.
    """

    base_config_key = "prompt_encoder_config"
    model_type = "edgetam_prompt_encoder"

    def __init__(
        self,
        hidden_size: int = 256,
        image_size: int | Sequence[int] = 1024,
        patch_size: int = 16,
        mask_input_channels: int = 16,
        num_point_embeddings: int = 4,
        hidden_act: str = "gelu",
        layer_norm_eps: float = 1e-6,
        scale: float = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        self.image_size = image_size
        self.patch_size = patch_size
        self.mask_input_channels = mask_input_channels
        self.num_point_embeddings = num_point_embeddings
        self.hidden_act = hidden_act
        self.layer_norm_eps = layer_norm_eps
        self.scale = scale
        self.check_kinds(hidden_size=256, patch_size=16, mask_input_channels=16, num_point_embeddings=4)
        self.check_kinds(hidden_act="gelu", layer_norm_eps=1e-6, scale=1.0)


class EdgeTamMaskDecoderConfig(FieldsReader, PreTrainedConfig):
    """Configuration of the mask decoder.

    Args:
        hidden_size (`int`, *optional*, defaults to 256): Channels of tokens and image embeddings.
        hidden_act (`str`, *optional*, defaults to `"gelu"`): Activation of the upscaling path.
        mlp_dim (`int`, *optional*, defaults to 2048): Hidden width of the transformer's feed-forward networks.
        num_hidden_layers (`int`, *optional*, defaults to 2): Two-way layers; also the depth of their feed-forward.
        num_attention_heads (`int`, *optional*, defaults to 8): Heads of all attentions.
        attention_downsample_rate (`int`, *optional*, defaults to 2): Divisor of the width of cross-attentions.
        num_multimask_outputs (`int`, *optional*, defaults to 3): Masks of an ambiguous prompt, beside the single one.
        iou_head_depth (`int`, *optional*, defaults to 3): Layers of the head that predicts mask quality.
        iou_head_hidden_dim (`int`, *optional*, defaults to 256): Its hidden width.
        dynamic_multimask_via_stability (`bool`, *optional*, defaults to `True`):
            Whether an unstable single mask is replaced by the best of the multimask outputs (in eval mode).
        dynamic_multimask_stability_delta (`float`, *optional*, defaults to 0.05):
            Stability is the IoU of the masks thresholded at plus and minus this logit.
        dynamic_multimask_stability_thresh (`float`, *optional*, defaults to 0.98):
            A single mask below this stability is replaced.
    """

    base_config_key = "mask_decoder_config"
    model_type = "edgetam_mask_decoder"

    def __init__(
        self,
        hidden_size: int = 256,
        hidden_act: str = "gelu",
        mlp_dim: int = 2048,
        num_hidden_layers: int = 2,
        num_attention_heads: int = 8,
        attention_downsample_rate: int = 2,
        num_multimask_outputs: int = 3,
        iou_head_depth: int = 3,
        iou_head_hidden_dim: int = 256,
        dynamic_multimask_via_stability: bool = True,
        dynamic_multimask_stability_delta: float = 0.05,
        dynamic_multimask_stability_thresh: float = 0.98,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        self.hidden_act = hidden_act
        self.mlp_dim = mlp_dim
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.attention_downsample_rate = attention_downsample_rate
        self.num_multimask_outputs = num_multimask_outputs
        self.iou_head_depth = iou_head_depth
        self.iou_head_hidden_dim = iou_head_hidden_dim
        self.dynamic_multimask_via_stability = dynamic_multimask_via_stability
        self.dynamic_multimask_stability_delta = dynamic_multimask_stability_delta
        self.dynamic_multimask_stability_thresh = dynamic_multimask_stability_thresh
        self.check_kinds(hidden_size=256, hidden_act="gelu", mlp_dim=2048, num_hidden_layers=2, num_attention_heads=8)
        self.check_kinds(attention_downsample_rate=2, num_multimask_outputs=3, iou_head_depth=3, iou_head_hidden_dim=1)
        self.check_kinds(dynamic_multimask_via_stability=True, dynamic_multimask_stability_delta=0.05)
        self.check_kinds(dynamic_multimask_stability_thresh=0.98)


def _to_config(config_class: type[FieldsReader], value: Any) -> Any:
    """A configuration of the given class from None, a dictionary or any configuration object with the same fields."""
    if isinstance(value, config_class):
        return value
    fields = {} if value is None else _to_fields(config_class.base_config_key, value)
    fields.pop("model_type", None)
    return config_class(**fields)


class EdgeTamConfig(FieldsReader, PreTrainedConfig):
    """Configuration of EdgeTAM on pictures; the defaults are EdgeTAM itself (RepViT-M1, 1024x1024).

    Args:
        vision_config (`dict` or `EdgeTamVisionConfig`, *optional*): The image encoder.
        prompt_encoder_config (`dict` or `EdgeTamPromptEncoderConfig`, *optional*): The prompt encoder.
        mask_decoder_config (`dict` or `EdgeTamMaskDecoderConfig`, *optional*): The mask decoder.
        image_size (`int` or `(height, width)`, *optional*, defaults to the prompt encoder's):
            Size of the model input in pixels, multiples of 32. Every other size follows from it; it can also be set
            later (`config.image_size = 512`) or while loading (`EdgeTamModel.from_pretrained(…, image_size=512)`).
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of newly initialised weights.

    Example:

    ```python
    >>> from edgetam_hf import EdgeTamConfig, EdgeTamModel

    >>> configuration = EdgeTamConfig(image_size=(512, 768))
    >>> model = EdgeTamModel(configuration)
    >>> model.config.vision_config.backbone_feature_sizes
    [[128, 192], [64, 96], [32, 48]]
    ```
    """

    model_type = "edgetam"
    _auto_class = "AutoConfig"
    keys_to_ignore_at_inference = [  # noqa: RUF012 - what evaluation with the Trainer need not keep of every picture
        "image_embeddings",
        "vision_hidden_states",
        "mask_decoder_attentions",
        "loss_dict",
    ]
    code_map = AUTO_MAP
    sub_configs = {  # noqa: RUF012
        "vision_config": EdgeTamVisionConfig,
        "prompt_encoder_config": EdgeTamPromptEncoderConfig,
        "mask_decoder_config": EdgeTamMaskDecoderConfig,
    }

    def __init__(
        self,
        vision_config: dict[str, Any] | PreTrainedConfig | None = None,
        prompt_encoder_config: dict[str, Any] | PreTrainedConfig | None = None,
        mask_decoder_config: dict[str, Any] | PreTrainedConfig | None = None,
        image_size: int | Sequence[int] | None = None,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ):
        self.vision_config: EdgeTamVisionConfig = _to_config(self.sub_configs["vision_config"], vision_config)
        self.prompt_encoder_config: EdgeTamPromptEncoderConfig = _to_config(
            self.sub_configs["prompt_encoder_config"], prompt_encoder_config
        )
        self.mask_decoder_config: EdgeTamMaskDecoderConfig = _to_config(
            self.sub_configs["mask_decoder_config"], mask_decoder_config
        )
        self.initializer_range = initializer_range
        self.check_kinds(initializer_range=0.02)
        self.image_size = self.prompt_encoder_config.image_size if image_size is None else image_size
        super().__init__(**kwargs)

    @property
    def image_size(self) -> int | Sequence[int]:
        """Size of the model input in pixels: one integer where it is square, else (height, width)."""
        return self.prompt_encoder_config.image_size

    @image_size.setter
    def image_size(self, image_size: int | Sequence[int]) -> None:
        height, width = to_height_and_width(image_size)
        self.prompt_encoder_config.image_size = height if height == width else [height, width]
        self.vision_config.backbone_feature_sizes = [[height // s, width // s] for s in (4, 8, 16)]

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The stored fields of an EdgeTAM configuration; those of a video model are reduced to its image part."""
        fields, kwargs = super().get_config_dict(*args, **kwargs)
        model_type = fields.get("model_type")
        if model_type == "edgetam_video" and cls.model_type == "edgetam":
            fields = {name: value for name, value in fields.items() if name in IMAGE_FIELDS}
            fields["model_type"] = cls.model_type
        elif model_type == "edgetam" and cls.model_type == "edgetam_video":
            raise ValueError(
                "this is an image checkpoint, model_type 'edgetam', which has no memory for video; load a video "
                "checkpoint such as yonigozlan/EdgeTAM-hf, or this one with EdgeTamModel"
            )
        elif model_type != cls.model_type:
            raise ValueError(
                f"expected the configuration of an EdgeTAM model, model_type {cls.model_type!r}, got {model_type!r}; "
                "load this checkpoint with the model class it was made for"
            )
        return fields, kwargs

    @classmethod
    def image_part(cls, config: "EdgeTamVideoConfig") -> "EdgeTamConfig":
        """The configuration of the image model inside a video model."""
        image_config = cls(**{name: value for name, value in config.to_dict().items() if name in IMAGE_FIELDS})
        image_config._attn_implementation = config._attn_implementation
        return image_config

    @property
    def custom_pipelines(self) -> dict[str, Any]:
        """By task, the pipeline that is loaded from a folder together with this code; none where this is a package.

        It is no field of config.json, where it would keep all others from making a pipeline of the folder.
        """
        return deepcopy(CUSTOM_PIPELINES) if type(self).__module__.startswith("transformers_modules.") else {}

    @custom_pipelines.setter
    def custom_pipelines(self, stored: Any) -> None:
        pass  # what older folders have in config.json

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Writes config.json with the entry by which Transformers finds this code in the folder."""
        self.auto_map = dict(self.code_map)
        super().save_pretrained(save_directory, *args, **kwargs)


class EdgeTamVideoPromptEncoderConfig(EdgeTamPromptEncoderConfig):
    """`EdgeTamPromptEncoderConfig` of a video model."""

    model_type = "edgetam_video_prompt_encoder"

    def __init__(self, **kwargs: Any):  # without it, Transformers 5 makes one that knows none of the inherited fields
        super().__init__(**kwargs)


class EdgeTamVideoMaskDecoderConfig(EdgeTamMaskDecoderConfig):
    """`EdgeTamMaskDecoderConfig` of a video model."""

    model_type = "edgetam_video_mask_decoder"

    def __init__(self, **kwargs: Any):  # without it, Transformers 5 makes one that knows none of the inherited fields
        super().__init__(**kwargs)


class EdgeTamVideoConfig(EdgeTamConfig):
    """Configuration of EdgeTAM on video: the parts of the image model, and the memory.

    The defaults are EdgeTAM itself, which has neither an embedding of occlusion nor a time encoding of pointers.

    Args:
        vision_config, prompt_encoder_config, mask_decoder_config, image_size, initializer_range:
            As in `EdgeTamConfig`; the feature size of the memory attention follows from the image size too.
        rope_parameters (`dict`, *optional*):
            Axial rotary encoding of the memory attention; `memory_attention_rope_theta` is read as well.
        num_maskmem, max_object_pointers_in_encoder, max_cond_frame_num (`int`, *optional*, defaults to 7, 16, -1):
            Frames (all conditioning frames count as one), object pointers and conditioning frames in memory; -1 is
            no limit.
        sigmoid_scale_for_mem_enc, sigmoid_bias_for_mem_enc (`float`, *optional*, defaults to 20 and -10):
            Linear map from mask values in [0, 1] to the input of the memory encoder.
        multimask_output_in_sam, multimask_output_for_tracking (`bool`, *optional*, defaults to `True`):
            Whether ambiguous prompts, and frames without a prompt, choose the best of three masks.
        multimask_min_pt_num, multimask_max_pt_num (`int`, *optional*, defaults to 0 and 1):
            Numbers of points that count as ambiguous.
        enable_occlusion_spatial_embedding, enable_temporal_pos_encoding_for_object_pointers (`bool`, *optional*):
            Whether memories of absent objects get a learned embedding, and pointers their distance in time.
        **kwargs:
            Shapes of the memory attention, the spatial perceiver and the memory encoder, see `MEMORY_DEFAULTS`.
    """

    model_type = "edgetam_video"
    code_map = VIDEO_AUTO_MAP
    sub_configs = {  # noqa: RUF012
        "vision_config": EdgeTamVisionConfig,
        "prompt_encoder_config": EdgeTamVideoPromptEncoderConfig,
        "mask_decoder_config": EdgeTamVideoMaskDecoderConfig,
    }

    def __init__(
        self,
        vision_config: dict[str, Any] | PreTrainedConfig | None = None,
        prompt_encoder_config: dict[str, Any] | PreTrainedConfig | None = None,
        mask_decoder_config: dict[str, Any] | PreTrainedConfig | None = None,
        image_size: int | Sequence[int] | None = None,
        rope_parameters: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        for name, default in MEMORY_DEFAULTS.items():
            setattr(self, name, kwargs.pop(name, deepcopy(default)))
        self.check_kinds(**MEMORY_DEFAULTS)
        theta = kwargs.pop("memory_attention_rope_theta", 10000.0)
        rope_parameters = rope_parameters or {"rope_type": "axial", "rope_theta": theta}
        self.rope_parameters = _to_fields("rope_parameters", rope_parameters)
        kwargs.pop("memory_attention_rope_feat_sizes", None)
        super().__init__(vision_config, prompt_encoder_config, mask_decoder_config, image_size, **kwargs)

    @property
    def memory_attention_rope_feat_sizes(self) -> list[int]:
        """(height, width) of the image embedding."""
        return self.vision_config.backbone_feature_sizes[-1]

    def to_dict(self) -> dict[str, Any]:
        """All fields with those that Transformers stores although they follow from others."""
        derived = ("image_size", "memory_attention_rope_feat_sizes")
        return {**super().to_dict(), **{name: getattr(self, name) for name in derived}}
