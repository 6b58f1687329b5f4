"""What all EdgeTAM models share: loading, saving, initialisation and modes."""

from typing import Any

from safetensors import SafetensorError
from torch import nn
from transformers import PretrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_edgetam import EdgeTamConfig
from .prompt_encoder_edgetam import EdgeTamPositionalEmbedding

ALWAYS_GIVEN: Any = None  # default of what an output always has: `ModelOutput` asks for one


def _with_small_parts_in_memory(device_map: Any, large_parts: tuple[str, ...], small_parts: tuple[str, ...]) -> Any:
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


def _check_that_all_is_loaded(model: PreTrainedModel, info: dict, source: Any) -> None:
    """Raises a ValueError for tensors that the source of a model lacks, or has in another shape."""
    remedy = "ignore_mismatched_sizes=True initialises them anew"
    # transformers<5: mismatched keys are names alone; later ones stand in tuples with two shapes
    if mismatched := sorted(key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]):
        expected = tuple(model.state_dict()[mismatched[0]].shape)
        raise ValueError(
            f"{source} does not fit its configuration: {len(mismatched)} tensors have another shape, the first is "
            f"{mismatched[0]}, expected {expected}; {remedy}"
        )
    if missing := sorted(info["missing_keys"]):
        raise ValueError(
            f"{source} is not a complete EdgeTAM checkpoint: {len(missing)} tensors are missing, the first is "
            f"{missing[0]}; {remedy}"
        )


class EdgeTamPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation shared by all EdgeTAM models."""

    config_class: type[PretrainedConfig] = EdgeTamConfig
    base_model_prefix = "edgetam"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    # which a device map may put on disk, and which it may not
    _large_parts: tuple[str, ...] = ()
    _small_parts: tuple[str, ...] = ()
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["RepVitBlock", "RepVitStem", "RepVitDownsample", "EdgeTamTwoWayAttentionBlock"]  # noqa: RUF012

    def train(self, mode: bool = True) -> "EdgeTamPreTrainedModel":
        """Sets the mode; a batch normalisation whose weight is frozen keeps its statistics in training, too."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
                module.train(module.training and module.weight.requires_grad)
        return self

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *args: Any, output_loading_info: bool = False, **kwargs: Any
    ) -> Any:
        """The model of a folder or Hub repository; see `PreTrainedModel.from_pretrained`.

        With `ignore_mismatched_sizes=True` tensors that are missing or have another shape are initialised anew, as
        everything is where no checkpoint is named (`None`, with a `config` and a `state_dict`).

        Raises:
            ValueError: for a truncated file, or a checkpoint without all tensors of this model in their shapes.
        """
        is_strict = not kwargs.get("ignore_mismatched_sizes") and pretrained_model_name_or_path is not None
        if getattr(kwargs.get("config"), "model_type", None) == "edgetam_video" and cls.config_class is EdgeTamConfig:
            kwargs["config"] = EdgeTamConfig.image_part(kwargs["config"])
        try:
            kwargs["device_map"] = _with_small_parts_in_memory(
                kwargs.get("device_map"), cls._large_parts, cls._small_parts
            )
            if kwargs["device_map"] is not None:
                # transformers<5: statistics of batch normalisation that are on disk are read only if they are offloaded
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
        if is_strict:
            _check_that_all_is_loaded(model, info, pretrained_model_name_or_path)
        return (model, info) if output_loading_info else model

    def as_requested(self, output: ModelOutput, return_dict: bool | None) -> ModelOutput | tuple:
        """The output itself, or a tuple of its values where `return_dict` (or the configuration) asks for one."""
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def get_input_embeddings(self) -> nn.Module:
        """The module that sees the picture first, whose output `enable_input_require_grads` gives a gradient."""
        return self.vision_encoder.get_input_embeddings()

    # transformers<5: checkpointing is reentrant unless told otherwise, which cuts gradients. (Some releases of 5 do so,
    # too; the later ones have a method of another name, and warn where this one is overridden.)
    if "activation_checkpointing_enable" not in PreTrainedModel.__dict__:

        def gradient_checkpointing_enable(
            self, gradient_checkpointing_kwargs: dict | None = None, **options: Any
        ) -> None:
            """Computes activations anew for gradients; by default in the way that cuts none (not reentrant)."""
            super().gradient_checkpointing_enable(gradient_checkpointing_kwargs or {"use_reentrant": False}, **options)

    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)):
            nn.init.normal_(module.weight, std=std)
            bias = getattr(module, "bias", None)
            if bias is not None:
                nn.init.zeros_(bias)
        elif isinstance(module, (nn.LayerNorm, nn.BatchNorm2d)):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
            for name, statistic in module.named_buffers():
                (nn.init.ones_ if name == "running_var" else nn.init.zeros_)(statistic)
        elif isinstance(module, EdgeTamPositionalEmbedding):
            nn.init.normal_(module.positional_embedding, std=module.scale)
            module.is_random = True
        elif isinstance(embedding := getattr(module, "no_memory_embedding", None), nn.Parameter):
            nn.init.zeros_(embedding)
