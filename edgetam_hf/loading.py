"""Models and processors from folders and the Hub; what is missing, damaged or of something else is told in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub.utils import HFValidationError
from transformers.utils import cached_file, logging

from edgetam_cli.arguments import VIDEO_CHECKPOINT
from edgetam_cli.endings import first_line

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
from .files.reading import read_json

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
    model_class: Any,
    processor_class: Any,
    name: str,
    device: str | torch.device,
    dtype: str | None = None,
    image_size: int | None = None,
    **processor_settings: Any,
) -> tuple[Any, Any]:
    """A model and its processor.

    Args:
        model_class, processor_class: what to load.
        name: folder, Hub id or `nano`.
        device: where the model goes.
        dtype: name of the type of its numbers; the checkpoint's unless given.
        image_size: side of the model input in pixels; the checkpoint's unless given.
        processor_settings: other settings of the processor.

    Raises:
        OSError, ValueError: see `loading`.
    """
    name, model_settings = checkpoint_of(name), {}
    if dtype is not None:
        model_settings["dtype"] = getattr(torch, dtype)
    if image_size is not None:
        model_settings["image_size"] = image_size
        processor_settings["size"] = {"height": image_size, "width": image_size}
    model = load_quietly(model_class, name, device_map=device, **model_settings)
    return model, load_quietly(processor_class, name, **processor_settings)


def load_video_model(
    name: str, device: str | torch.device, dtype: str | None = None, image_size: int | None = None, **settings: Any
) -> tuple[EdgeTamVideoModel, EdgeTamVideoProcessor]:
    """The video model and its processor; see `load_with_processor`.

    Raises:
        ValueError: also for a checkpoint without memory.
    """
    if is_image_checkpoint(checkpoint_of(name)):
        raise ValueError(
            f"{checkpoint_of(name)} is a checkpoint for pictures, it has no memory for video: use one for video, such "
            f"as the published --model {VIDEO_CHECKPOINT}, or --model nano"
        )
    return load_with_processor(
        EdgeTamVideoModel, EdgeTamVideoProcessor, name, device, dtype=dtype, image_size=image_size, **settings
    )


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
