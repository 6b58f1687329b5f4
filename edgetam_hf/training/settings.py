"""Settings of a training, and the YAML files that they are read from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..files.reading import read_text
from .structured import check_fields, override_value, parse_yaml, read_dataclass

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
        modules: names of Python modules that add kinds of sources, by `register_source`.
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
        learning_rates: learning rates by patterns of names; the first pattern that matches counts, and parameters that
            match none have `trainer.learning_rate`.
        batch_size: pictures or clips of a step over all processes; gradients are accumulated as needed. Unless given,
            `trainer.per_device_train_batch_size` and `trainer.gradient_accumulation_steps` decide.
        cool_down_steps: over so many steps at the end the learning rate falls to 0, linearly, times the schedule.
        picture_steps: every so many steps the masks of a fixed picture or clip are drawn; 0 is never.
        trainer: fields of `transformers.TrainingArguments`.
    """

    data: list[dict]
    modules: list[str] = field(default_factory=list)
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

    def __post_init__(self) -> None:
        from transformers import TrainingArguments  # takes a second, which no other command should

        check_fields(TrainingArguments, self.trainer, "trainer")
        if not self.data:
            raise ValueError("data must name one source at least, such as `- kind: coco`")
        for name in ("num_validation_items", "num_frames", "max_objects", "batch_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.lora and self.teacher:
            raise ValueError("adapters are not distilled: leave out either `lora` or `teacher`")


def ready_configurations() -> list[str]:
    """Names of the configurations that come with the package."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def read_configuration(config: str | Path) -> str:
    """Text of a YAML file, or of a ready configuration by its name."""
    path = Path(config)
    if not path.is_file():
        path = CONFIGS / f"{config}.yaml"
    if not path.is_file():
        raise ValueError(
            f"{config} is neither a file nor one of the configurations {', '.join(ready_configurations())}"
        )
    return read_text(path)


def read_settings(config: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """`Settings` of a YAML file, or of a ready configuration by its name, with overrides KEY=VALUE.

    Raises:
        ImportError: without OmegaConf.
        ValueError: for text that is no YAML, unknown keys, missing ones, and wrong values.
    """
    values = parse_yaml(read_configuration(config), str(config))
    if not isinstance(values, dict):
        raise ValueError(f"{config} must be a mapping of keys to values, got {type(values).__name__}")
    for override in overrides:
        values = override_value(values, override)
    return read_dataclass(Settings, values)
