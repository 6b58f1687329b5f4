"""The model that settings ask for, new or from a checkpoint, with frozen parts, adapters or a teacher."""

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel

from ..configuration_edgetam import EdgeTamConfig, EdgeTamVideoConfig
from ..loading import checkpoint_of, is_image_checkpoint, load_quietly, make_processor
from ..modeling_edgetam import EdgeTamModel
from ..modeling_edgetam_video import EdgeTamVideoModel
from ..training_edgetam import LossWeights, PromptSimulation
from .distillation import Distillation
from .growth import grow_memory
from .settings import LoraSettings, ModelSettings, Settings
from .structured import check_known, read_dataclass
from .trainer import plain_name

try:
    import peft
except ImportError:
    peft = None  # type: ignore[assignment]

CLASSES: dict[str, tuple[type[EdgeTamConfig], type[EdgeTamModel | EdgeTamVideoModel]]] = {
    "image": (EdgeTamConfig, EdgeTamModel),
    "video": (EdgeTamVideoConfig, EdgeTamVideoModel),
}
# of a memory that is new: as wide as the image model
MEMORY_WIDTHS = (
    "memory_attention_hidden_size",
    "memory_encoder_hidden_size",
    "mask_downsampler_embed_dim",
    "memory_fuser_embed_dim",
)


def make_model(settings: Settings) -> EdgeTamModel | EdgeTamVideoModel:
    """The model that learns, in float32, with what is simulated and how it is judged; see `Settings`."""
    simulation = read_dataclass(PromptSimulation, settings.simulation, "simulation")
    loss_weights = read_dataclass(LossWeights, settings.loss_weights, "loss_weights")
    config_class, model_class = CLASSES[settings.model.kind]
    stored, weights = ({}, {}) if settings.model.from_scratch else read_checkpoint(settings.model)
    config = config_class.from_dict(merge_fields(stored, settings.model.config, config_class))
    if settings.image_size is not None:
        config.image_size = settings.image_size
    model = model_class(config)
    load_known_weights(model, grow_memory(weights, config))
    model.prompt_simulation, model.loss_weights = simulation, loss_weights
    return model


def read_checkpoint(settings: ModelSettings) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Fields of the configuration, and weights, that a model of a kind takes from a checkpoint; see `ModelSettings`."""
    name = checkpoint_of(settings.name)
    is_new_memory = settings.kind == "video" and is_image_checkpoint(name)
    _, model_class = CLASSES["image" if is_new_memory else settings.kind]
    model = load_quietly(model_class, name, dtype=torch.float32)
    return image_fields(model.config) if is_new_memory else model.config.to_dict(), model.state_dict()


def load_known_weights(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Loads weights into a model and leaves its other parts as they are: an image checkpoint has no memory.

    Raises:
        ValueError: for weights of another shape than the model's.
    """
    for name, value in model.state_dict().items():
        if name in weights and weights[name].shape != value.shape:
            raise ValueError(
                f"model.config asks for {name} of shape {tuple(value.shape)}, the checkpoint has "
                f"{tuple(weights[name].shape)}: leave out what changes it, or set model.from_scratch=true"
            )
    model.load_state_dict(weights, strict=False)


def image_fields(config: EdgeTamConfig) -> dict[str, Any]:
    """Fields of the configuration of a video model from that of an image model."""
    fields = config.to_dict()
    parts = {name: fields[name] for name in ("vision_config", "prompt_encoder_config", "mask_decoder_config")}
    for part in parts.values():
        part.pop("model_type", None)
    return {**parts, **dict.fromkeys(MEMORY_WIDTHS, config.vision_config.fpn_hidden_size)}


def merge_fields(stored: dict[str, Any], changes: dict[str, Any], config_class: type[EdgeTamConfig]) -> dict[str, Any]:
    """Fields of a configuration with changes, which may reach into its parts.

    Raises:
        ValueError: for changes of fields that there are not.
    """
    known, parts = config_class().to_dict(), config_class.sub_configs
    merged = {name: value for name, value in stored.items() if name != "model_type"}
    for name, value in changes.items():
        check_known(f"model.config.{name}", name, sorted(known))
        if name in parts and isinstance(value, dict):
            for field in value:
                check_known(f"model.config.{name}.{field}", field, sorted(known[name]))
            value = {**merged.get(name, {}), **value}
        merged[name] = value
    return merged


def make_learner(model: EdgeTamModel | EdgeTamVideoModel, settings: Settings) -> nn.Module:
    """What the trainer trains: the model, parts of it frozen, or with adapters, or together with its teacher.

    Raises:
        ValueError: for patterns that match no parameter, or if nothing is left to learn.
    """
    parameters = dict(model.named_parameters())
    for name in matching_names(parameters, settings.frozen, "frozen"):
        parameters[name].requires_grad_(False)
    learner = add_adapters(model, settings.lora) if settings.lora else model
    learning = [plain_name(name) for name, parameter in learner.named_parameters() if parameter.requires_grad]
    if not learning:
        raise ValueError("frozen matches every parameter: nothing is left to learn")
    # a configuration's rates may be for parts that get no adapters
    known = [*learning, *parameters] if settings.lora else learning
    matching_names(known, settings.learning_rates, "learning_rates")
    if settings.teacher:
        return Distillation(model, load_quietly(AutoModel, settings.teacher, dtype=torch.float32))
    return learner


def matching_names(names: Collection[str], patterns: Iterable[str], key: str) -> list[str]:
    """Those of the names that one of the patterns matches; a ValueError for a pattern that matches none."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            parts = sorted({name.split(".")[0] for name in names})
            raise ValueError(
                f"{key}: {pattern!r} matches no parameter that learns; their names begin with {', '.join(parts)}"
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def add_adapters(model: EdgeTamModel | EdgeTamVideoModel, settings: LoraSettings) -> nn.Module:
    """The model of peft around a model, in which adapters alone learn; see `LoraSettings`."""
    if peft is None:
        raise ImportError("lora needs peft: pip install peft")
    config = peft.LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # which is but multiplied by
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
    )
    return peft.get_peft_model(model, config)


def save_model(learner: nn.Module, folder: Path) -> None:
    """Writes what was learnt, for `from_pretrained`, and its processor; adapters also by themselves, in `adapter/`."""
    model: Any = learner.student if isinstance(learner, Distillation) else learner
    if peft is not None and isinstance(model, peft.PeftModel):
        model.save_pretrained(str(folder / "adapter"))
        model = model.merge_and_unload()
    model.save_pretrained(folder)
    make_processor(model.config).save_pretrained(folder)
