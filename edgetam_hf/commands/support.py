"""What the console commands share: quiet libraries, devices, and pictures."""

import argparse
import warnings
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import torch
from PIL import Image

from edgetam_runtime import is_exported

from ..loading import ModelChoice
from ..pictures_edgetam import VIDEO_SUFFIXES, read_picture


def quieten_libraries() -> None:
    """Makes huggingface_hub tell an error once, by raising it, and Pillow silent about large pictures that it takes."""
    huggingface_hub.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def model_choice(options: argparse.Namespace, settings: dict[str, Any] | None = None) -> ModelChoice:
    """The model that options ask for, or in place of them settings that an earlier run has noted.

    Raises:
        ValueError: for a device that this machine does not have.
    """
    chosen = {**vars(options), **(settings or {})}
    is_graph = is_exported(chosen["model"])  # whose runtime knows its devices
    return ModelChoice(
        name=chosen["model"],
        device=options.device or "cpu" if is_graph else device_of(options.device),
        dtype=chosen["dtype"],
        image_size=chosen["image_size"],
        runtime=chosen["runtime"],
        is_compiled=bool(chosen.get("compile")),
    )


def device_of(name: str | None) -> str:
    """The device of that name; without one a GPU if there is one.

    Raises:
        ValueError: for a device that this machine does not have.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda":  # without a context on a GPU that may be for another process
            is_there = (device.index or 0) < torch.cuda.device_count()
        else:
            is_there = torch.zeros(1, device=device).item() == 0
    except Exception:  # each backend has errors of its own
        is_there = False
    if not is_there:
        raise ValueError(f"--device {name}: PyTorch finds no such device here; leave it out, or take cpu")
    return name


def load_picture(path: Path) -> np.ndarray:
    """uint8 array (H, W, 3) of a picture file, turned upright as its EXIF data say.

    Raises:
        ValueError: see `read_picture`; also for a video.
    """
    name = in_one_line(path)
    if path.suffix.lower() in VIDEO_SUFFIXES and path.exists():
        raise ValueError(
            f"{name} is a video: `edgetam track` follows one object through it from --point, --box or --mask, or "
            "all with --everything"
        )
    return read_picture(path, name)


def in_one_line(path: str | Path) -> str:
    """A path as it is printed: in quotes and with escapes if it has a line break or another control character."""
    return str(path) if str(path).isprintable() else repr(str(path))
