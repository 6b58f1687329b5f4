"""Models and processors from folders and the Hub; what is missing, damaged or of something else is told in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub.utils import HFValidationError
from transformers.utils import cached_file, logging

from edgetam_cli.arguments import VIDEO_CHECKPOINT
from edgetam_cli.endings import first_line
from edgetam_runtime import is_exported, read_folder

from . import (
    EdgeTamConfig,
    EdgeTamImageProcessor,
    EdgeTamModel,
    EdgeTamProcessor,
    EdgeTamVideoConfig,
    EdgeTamVideoModel,
    EdgeTamVideoProcessor,
    EdgeTamVideoVideoProcessor,
    nano_checkpoint,
)
from .configuration_edgetam import to_height_and_width
from .export.runtime import ExportedEdgeTam
from .files.reading import read_json
from .protocols import VideoModel

PARTS = ("vision_config", "prompt_encoder_config", "mask_decoder_config")


class Classes(NamedTuple):
    """The classes of a kind of checkpoint."""

    config: type[EdgeTamConfig]
    model: type[EdgeTamModel]
    processor: type[EdgeTamProcessor]


CLASSES = {
    "image": Classes(EdgeTamConfig, EdgeTamModel, EdgeTamProcessor),
    "video": Classes(EdgeTamVideoConfig, EdgeTamVideoModel, EdgeTamVideoProcessor),
}


@dataclass(frozen=True)
class ModelChoice:
    """Which model is loaded, and how it computes; what is None is as the checkpoint has it.

    name: folder of a checkpoint or of an exported model, Hub id, or `nano`. device: where it computes. dtype: name of
    the type of its numbers. image_size: side of the model input in pixels. runtime: what computes an exported model.
    is_compiled: whether by torch.compile.
    """

    name: str
    device: str = "cpu"
    dtype: str | None = None
    image_size: int | None = None
    runtime: str | None = None
    is_compiled: bool = False


def kind_of(config: EdgeTamConfig) -> str:
    """The key in `CLASSES` of a configuration."""
    return "video" if config.model_type == EdgeTamVideoConfig.model_type else "image"


def make_processor(config: EdgeTamConfig) -> EdgeTamProcessor:
    """A processor for models of a configuration."""
    size = dict(zip(("height", "width"), to_height_and_width(config.image_size)))
    image_processor = EdgeTamImageProcessor(size=size)
    if kind_of(config) == "video":
        return EdgeTamVideoProcessor(image_processor, EdgeTamVideoVideoProcessor(size=size))
    return EdgeTamProcessor(image_processor)


def checkpoint_of(name: str) -> str:
    """The folder of the embedded checkpoint for `nano`, other names as they are."""
    return str(nano_checkpoint()) if name == "nano" else name


def read_config(name: str | Path) -> dict:
    """What the config.json of a folder or Hub id says; see `loading` for errors."""
    with loading(name):
        path = cached_file(name, "config.json")
    if path is None:  # some releases raise only for some files
        raise OSError(f"{name} has no file config.json: it is no checkpoint of Transformers")
    config = read_json(path)
    for part in PARTS:
        if not isinstance(config.get(part, {}), dict):
            raise ValueError(f"{path}: {part} must be an object {{…}} of JSON, got {str(config[part])[:100]}")
    return config


def is_image_checkpoint(name: str | Path) -> bool:
    """Whether a folder or Hub id is that of an image model, which has no memory."""
    return read_config(name).get("model_type") == EdgeTamConfig.model_type


def load_quietly(kind: Any, name: str | Path, **settings: Any) -> Any:
    """The model or processor of a folder or Hub id, loaded without a progress bar; see `loading` for errors."""
    read_config(name)
    with hidden_file_bars(), loading(name):
        return kind.from_pretrained(name, **settings)


def load_with_processor(
    model_class: Any, processor_class: Any, choice: ModelChoice, **processor_settings: Any
) -> tuple[Any, Any]:
    """A model and its processor.

    Args:
        model_class, processor_class: what to load; in place of the model an `ExportedEdgeTam` if the choice is one.
        choice: which model, and how it computes.
        processor_settings: other settings of the processor.

    Raises:
        OSError, ValueError: see `loading`, and `edgetam_runtime.load` for exported models; also for a choice that an
            exported model does not have, or that only an exported model has.
    """
    if is_exported(choice.name):
        return load_exported(choice), load_processor(processor_class, choice, **processor_settings)
    name, model_settings = checkpoint_of(choice.name), {}
    for option, value in (("--runtime", choice.runtime), ("--dtype", choice.dtype if choice.dtype == "int8" else None)):
        if value is not None:
            raise ValueError(f"{option} {value} is for exported models, and {name} is none: leave it out, or export it")
    if choice.dtype is not None:
        model_settings["dtype"] = getattr(torch, choice.dtype)
    if choice.image_size is not None:
        model_settings["image_size"] = choice.image_size
    model = load_quietly(model_class, name, device_map=choice.device, **model_settings)
    if choice.is_compiled:
        model.compile()
    return model, load_processor(processor_class, choice, **processor_settings)


def load_processor(processor_class: Any, choice: ModelChoice, **settings: Any) -> Any:
    """The processor of a choice, without its model; see `load_quietly`."""
    if choice.image_size is not None and not is_exported(choice.name):  # what is exported has one size
        settings["size"] = {"height": choice.image_size, "width": choice.image_size}
    return load_quietly(processor_class, checkpoint_of(choice.name), **settings)


def load_exported(choice: ModelChoice) -> ExportedEdgeTam:
    """The exported model of a choice; see `load_with_processor` for errors."""
    if choice.is_compiled:
        raise ValueError(f"--compile is for models of PyTorch, and {choice.name} is exported: leave it out")
    dtype = choice.dtype or "float32"
    model = ExportedEdgeTam.from_pretrained(choice.name, choice.runtime, choice.device, dtype)
    size = choice.image_size
    if size is not None and model.image_size != (size, size):
        height, width = model.image_size
        raise ValueError(
            f"--image-size {size}: {choice.name} is exported for {height}x{width} (height x width), leave it out, or "
            "export the model again with that size"
        )
    return model


def load_video_model(choice: ModelChoice, **settings: Any) -> tuple[VideoModel, EdgeTamVideoProcessor]:
    """The video model and its processor; see `load_with_processor`.

    Raises:
        ValueError: also for a model without memory.
    """
    name = checkpoint_of(choice.name)
    if is_exported(name):
        if read_folder(name).tracking is None:
            raise ValueError(f"{name} is exported for pictures, it has no graphs for video: export it with them")
    elif is_image_checkpoint(name):
        raise ValueError(
            f"{name} is a checkpoint for pictures, it has no memory for video: use one for video, such as the "
            f"published --model {VIDEO_CHECKPOINT}, or --model nano"
        )
    return load_with_processor(EdgeTamVideoModel, EdgeTamVideoProcessor, choice, **settings)


@contextmanager
def hidden_file_bars() -> Iterator[None]:
    """Within the block, Transformers reads and writes files without a progress bar."""
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()


@contextmanager
def loading(name: str | Path) -> Iterator[None]:
    """Within the block a checkpoint is loaded; for damaged files libraries raise errors of any kind.

    Raises:
        ValueError, ImportError: those of libraries, and a ValueError of one line for damaged files.
        OSError: if there is no such checkpoint.
    """
    try:
        yield
    except UnicodeEncodeError as error:
        found = error.object[error.start : error.end]
        raise ValueError(
            f"{name} cannot be loaded: the token of the Hub, or the name, has {found!r} in it, which none has: check "
            "HF_TOKEN, or run `hf auth login`"
        ) from error
    except (OSError, HFValidationError) as error:
        raise OSError(f"{name} cannot be loaded: {_reason(name, error)}") from error
    except (ValueError, ImportError, MemoryError):
        raise
    except Exception as error:
        if "memory" in str(error):
            raise
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"{name} cannot be loaded, it is damaged or no checkpoint of EdgeTAM: {reason}") from error


def _reason(name: str | Path, error: Exception) -> str:
    reason = first_line(error)
    if Path(name).is_dir():
        return reason
    if "couldn't connect" in reason or "offline" in reason.lower():
        reason = "the Hub cannot be reached to look for a checkpoint of that id"
    remedy = "give a folder, the id of a checkpoint on the Hub, or nano, which is embedded"
    return f"there is no such folder, and {reason}; {remedy}"
