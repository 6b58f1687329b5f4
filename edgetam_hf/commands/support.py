"""What the console commands share: quiet loading, pictures, and what a report says of masks."""

import re
import warnings
from contextlib import contextmanager

import huggingface_hub
import numpy as np
import torch
from PIL import Image
from transformers.utils import logging

from .. import nano_checkpoint
from ..checkpoint_files import loading, read_config
from ..pictures_edgetam import read_picture

NUMBER = re.compile(r"[-+]?\d[\d.]*( %| / \d+)?")  # in a table; also a share, or one of how many


def quieten_libraries():
    """Makes huggingface_hub tell an error once, by raising it, and Pillow silent about large pictures that it takes."""
    huggingface_hub.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


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
        raise ValueError(f"--device {name}: PyTorch finds no such device here; leave it out, or take cpu")
    return name


def load_quietly(kind, name, **settings):
    """The model or processor of a folder or Hub id, loaded without a progress bar; see `loading` for errors."""
    read_config(name)
    with hidden_file_bars(), loading(name):
        return kind.from_pretrained(name, **settings)


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
    return read_picture(path, in_one_line(path))


def in_one_line(path):
    """A path as it is printed: in quotes and with escapes if it has a line break or another control character."""
    return str(path) if str(path).isprintable() else repr(str(path))


def measure(mask):
    """Area in pixels and bounding box [x_min, y_min, x_max, y_max] (last pixel included) of a mask; None if empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [int(side) for side in (columns[0], rows[0], columns[-1], rows[-1])] if len(rows) else None
    return {"area": int(mask.sum()), "box": box}


def as_columns(rows):
    """Lines of text: the names of the columns, then one line per row, a dictionary of values by name."""
    columns = [_as_column(name, [row[name] for row in rows]) for name in rows[0]]
    return ["  ".join(cells).rstrip() for cells in zip(*columns)]


def _as_column(name, values):
    """Texts of the same width: the name of a column, then its values; numbers end below each other."""
    num_decimals = max((len(str(value).partition(".")[2]) for value in values if isinstance(value, float)), default=0)
    texts = [f"{value:.{num_decimals}f}" if isinstance(value, float) else str(value) for value in values]
    width = max(map(len, [name, *texts]))
    are_numbers = all(NUMBER.fullmatch(text) for text in texts)
    return [text.rjust(width) if are_numbers else text.ljust(width) for text in (name, *texts)]
