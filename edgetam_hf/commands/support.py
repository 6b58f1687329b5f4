"""What the console commands share: quiet loading, pictures, and what a report says of masks."""

from contextlib import contextmanager

import huggingface_hub
import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from transformers.utils import logging

from .. import nano_checkpoint
from ..image_processing_edgetam import decode_picture


def quieten_hub_client():
    """Makes huggingface_hub tell an error once, by raising it, and not at each of its attempts."""
    huggingface_hub.utils.logging.set_verbosity_error()


def checkpoint_of(name):
    """The folder of the embedded checkpoint for `nano`, other names as they are."""
    return str(nano_checkpoint()) if name == "nano" else name


def device_of(name):
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
        raise ValueError(
            f"--device {name}: there is no such device here; cpu is, and cuda or mps where PyTorch finds one"
        )
    return name


def load_quietly(model_class, name, **settings):
    """The model of a folder or Hub id, loaded without a progress bar."""
    with hidden_file_bars():
        return model_class.from_pretrained(name, **settings)


@contextmanager
def hidden_file_bars():
    """Within it, Transformers reads and writes files without a progress bar."""
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()


def load_picture(path):
    """uint8 array (H, W, 3) of a picture file, turned upright as its EXIF data say."""
    try:
        with Image.open(path) as image:
            return decode_picture(ImageOps.exif_transpose(image), str(path))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a picture in a format that Pillow knows") from error
    except (Image.DecompressionBombError, SyntaxError, EOFError) as error:  # what else Pillow raises for bad files
        raise ValueError(f"{path} cannot be read: {error}") from error


def measure(mask):
    """Area in pixels and bounding box [x_min, y_min, x_max, y_max] (last pixel included) of a mask; None if empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [int(side) for side in (columns[0], rows[0], columns[-1], rows[-1])] if len(rows) else None
    return {"area": int(mask.sum()), "box": box}


def as_columns(rows):
    """Lines of text: the names of the columns, then one line per row, a dictionary of values by name."""
    names = list(rows[0])
    widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in names}
    lines = ["  ".join(name.ljust(widths[name]) for name in names).rstrip()]
    return lines + ["  ".join(str(row[name]).ljust(widths[name]) for name in names).rstrip() for row in rows]
