"""Settings of a training: YAML files and KEY=VALUE overrides, checked and made into dataclasses.

A key is written with dots, `data.0.root`; an error names the key by that path, and those that are known.
"""

import dataclasses
import math
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

from ..files.reading import read_text

CONFIGS = Path(__file__).with_name("configs")


@dataclass(frozen=True)
class ModelSettings:
    """Which model learns.

    Args:
        name: folder or Hub id of a checkpoint, or `nano`, the embedded one. A video model may start from an image
            checkpoint; its memory is then new.
        kind: `image` or `video`.
        from_scratch: whether all weights are new, and `name` does not count.
        config: fields of the model's configuration that differ from those of the checkpoint (or from EdgeTAM's); fields
            of its parts as nested mappings. Parts that they add are new, but for layers of memory attention, which add
            nothing at first, and a finer grid of 2D latents, which starts as that of the checkpoint; nothing else may
            change shape.
    """

    name: str = "nano"
    kind: Literal["image", "video"] = "image"
    from_scratch: bool = False
    config: dict = field(default_factory=dict)


@dataclass(frozen=True)
class LoraSettings:
    """LoRA (arXiv 2106.09685) by peft: rank, scale, dropout, and the modules that get adapters, as peft names them."""

    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    target_modules: str | list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"])


@dataclass(frozen=True)
class Settings:
    """All settings of a training.

    Args:
        data: what to learn from, a mapping for each source, see `sources.py`: `kind`, `weight`, and its paths.
        validation: sources of what is held out.
        num_validation_items: pictures or clips that are drawn from them, always the same ones.
        model: see `ModelSettings`.
        image_size: side of the model input in pixels, or (height, width); that of the model unless given.
        num_frames: frames of a clip, for video; from sources of pictures a video model learns in steps of their own.
        max_objects: most objects of a picture or clip.
        augmentation: whether pictures and clips are altered at random; or fields of `Augmentation` that differ from its
            defaults.
        simulation: fields of `PromptSimulation` that differ from its defaults.
        loss_weights: fields of `LossWeights` that differ from its defaults.
        teacher: folder or Hub id of a SAM 2 model to distil from.
        frozen: patterns of names of parameters that do not learn, as of the module `fnmatch`.
        lora: trains adapters in place of the model.
        learning_rates: learning rates by patterns of names, of which the first that matches counts; that of other
            parameters is `trainer.learning_rate`.
        batch_size: pictures or clips of a step over all processes; gradients are accumulated as needed. Unless given,
            `trainer.per_device_train_batch_size` and `trainer.gradient_accumulation_steps` decide.
        cool_down_steps: over so many steps at the end the learning rate falls to 0, linearly, times the schedule.
        picture_steps: every so many steps the masks of a fixed picture or clip are drawn; 0 is never.
        trainer: fields of `transformers.TrainingArguments`.
    """

    data: list[dict]
    validation: list[dict] = field(default_factory=list)
    num_validation_items: int = 64
    model: ModelSettings = field(default_factory=ModelSettings)
    image_size: int | list[int] | None = None
    num_frames: int = 8
    max_objects: int = 3
    augmentation: bool | dict = True
    simulation: dict = field(default_factory=dict)
    loss_weights: dict = field(default_factory=dict)
    teacher: str | None = None
    frozen: list[str] = field(default_factory=list)
    lora: LoraSettings | None = None
    learning_rates: dict[str, float] = field(default_factory=dict)
    batch_size: int | None = None
    cool_down_steps: int = 0
    picture_steps: int = 500
    trainer: dict = field(default_factory=dict)

    def __post_init__(self):
        check_arguments(self.trainer)
        if not self.data:
            raise ValueError("data must name one source at least, such as `- kind: synthetic`")
        for name in ("num_validation_items", "num_frames", "max_objects", "batch_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.lora and self.teacher:
            raise ValueError("adapters are not distilled: leave out either `lora` or `teacher`")


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, as it is in YAML 1.2 (PyYAML asks for 1.0e-4)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse_yaml(text, name):
    """What a piece of YAML says; a ValueError of one line names it by `name`."""
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deeply for YAML of settings") from error
    except (yaml.YAMLError, ValueError) as error:  # of YAML, and of values such as dates
        raise ValueError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error


def ready_configurations():
    """Names of the configurations that come with the package."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def read_configuration(config):
    """Text of a YAML file, or of a ready configuration by its name."""
    path = Path(config)
    if not path.is_file():
        path = CONFIGS / f"{config}.yaml"
    if not path.is_file():
        raise ValueError(
            f"{config} is neither a file nor one of the configurations {', '.join(ready_configurations())}"
        )
    return read_text(path)


def read_settings(config, overrides=()):
    """`Settings` of a YAML file, or of a ready configuration by its name, with overrides KEY=VALUE."""
    values = parse_yaml(read_configuration(config), config)
    if not isinstance(values, dict):
        raise ValueError(f"{config} must be a mapping of keys to values, got {type(values).__name__}")
    for override in overrides:
        values = override_value(values, override)
    return read_dataclass(Settings, values)


def override_value(values, override):
    """Nested dictionaries and lists with the override KEY=VALUE put in; an index one past the end appends to a list."""
    key, is_override, text = override.partition("=")
    if not is_override:
        raise ValueError(f"expected KEY=VALUE such as trainer.max_steps=10, got {override!r}")
    return _put(values, key.split("."), parse_yaml(text, key), key)


def _put(values, parts, value, key):
    if not parts:
        return value
    part, *others = parts
    if values is None and part == "0":
        values = []
    if isinstance(values, list):
        if not part.isdecimal() or int(part) > len(values):
            raise ValueError(f"{key}: {part!r} must be an index in 0..{len(values)} (the last one appends)")
        values = [*values, None] if int(part) == len(values) else list(values)
        values[int(part)] = _put(values[int(part)], others, value, key)
        return values
    if values is not None and not isinstance(values, dict):
        raise ValueError(f"{key}: there is a value, {values!r}, where keys would have to be")
    return {**(values or {}), part: _put((values or {}).get(part), others, value, key)}


def check_arguments(values):
    """Raises a ValueError or TypeError for what `TrainingArguments` do not take."""
    from transformers import TrainingArguments  # takes a second, which no other command should

    hints = typing.get_type_hints(TrainingArguments)
    for key, value in values.items():
        check_known(f"trainer.{key}", key, [f.name for f in dataclasses.fields(TrainingArguments) if f.init])
        read_value(hints[key], value, f"trainer.{key}")


def check_known(path, key, known):
    """Raises a ValueError that lists what is known if a key is not."""
    if key not in known:
        raise ValueError(f"unknown key {path}; known are {', '.join(known)}")


def read_dataclass(kind, values, path=""):
    """An instance of a dataclass from a dictionary, nested ones included.

    Raises:
        ValueError, TypeError: for unknown keys, missing ones, and values of a wrong type, by their path.
    """
    where = f"{path}." if path else ""
    if not isinstance(values, dict):
        raise TypeError(f"{path} must be a mapping of keys to values, got {values!r}")
    hints, known = typing.get_type_hints(kind), {f.name: f for f in dataclasses.fields(kind)}
    for key in values:
        check_known(f"{where}{key}", key, known)
    for name, f in known.items():
        if name not in values and f.default is f.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where}{name} must be set")
    return kind(**{key: read_value(hints[key], value, f"{where}{key}") for key, value in values.items()})


def read_value(hint, value, path):
    """The value as its type hint says, or a TypeError that names the path; hints of other classes take anything."""
    alternatives = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for alternative in alternatives:
        is_fitting, found = _fit(alternative, value, path)
        if is_fitting:
            check_number(found, path)
            return found
    raise TypeError(f"{path} must be {' or '.join(map(_describe, alternatives))}, got {value!r}")


def check_number(value, path):
    """Raises a ValueError, which names its path, for a number that no setting can have."""
    if isinstance(value, (int, float)) and not math.isfinite(value):
        raise ValueError(f"{path} must be a finite number, got {value}")
    if isinstance(value, (int, float)) and value < 0:
        raise ValueError(f"{path} must not be negative, got {value:g}")


def _fit(hint, value, path):
    """Whether a value fits a hint that is no union, and the value as the hint says."""
    origin, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is Literal:
        return value in parts, value
    if dataclasses.is_dataclass(origin) and isinstance(value, dict):
        return True, read_dataclass(origin, value, path)
    if origin is float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number, float(value) if is_number else value
    if origin is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if origin is list and isinstance(value, list):
        return True, [read_value(parts[0], v, f"{path}.{i}") for i, v in enumerate(value)] if parts else value
    if origin is dict and isinstance(value, dict):
        return True, {k: read_value(parts[1], v, f"{path}.{k}") for k, v in value.items()} if parts else value
    if origin in (bool, str, list, dict, types.NoneType):
        return isinstance(value, origin), value
    return not dataclasses.is_dataclass(origin), value


def _describe(hint):
    if typing.get_origin(hint) is Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    names = {int: "an integer", float: "a number", str: "text", bool: "true or false", types.NoneType: "null"}
    names |= {list: "a list", dict: "a mapping"}
    origin = typing.get_origin(hint) or hint
    return names.get(origin, "a mapping" if dataclasses.is_dataclass(origin) else str(origin))
