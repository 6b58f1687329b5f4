"""What the console commands share: quiet loading, pictures, and what a report says of prompts and masks."""

from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from transformers.utils import logging

from .. import nano_checkpoint
from ..checkpoint_files import loading, read_config
from ..drawing import index_picture, save_whole
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
    try:
        with Image.open(path) as image:
            return decode_picture(ImageOps.exif_transpose(image), str(path))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a picture in a format that Pillow knows") from error


def describe(box, points):
    """Short text of the prompts of an object: its box or None, and its points (x, y, label)."""
    parts = [] if box is None else ["box " + ",".join(f"{value:g}" for value in box)]
    parts += [f"{'+' if label else '-'}{x:g},{y:g}" for x, y, label in points]
    return " ".join(parts)


def measure(mask):
    """Area in pixels and bounding box [x_min, y_min, x_max, y_max] (last pixel included) of a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0], rows[0], columns[-1], rows[-1]] if len(rows) else [0, 0, 0, 0]
    return {"area": int(mask.sum()), "box": [int(side) for side in box]}


def as_columns(rows):
    """Lines of text: the names of the columns, then one line per row, a dictionary of values by name."""
    names = list(rows[0])
    widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in names}
    lines = ["  ".join(name.ljust(widths[name]) for name in names).rstrip()]
    return lines + ["  ".join(str(row[name]).ljust(widths[name]) for name in names).rstrip() for row in rows]


def report_head(options, picture):
    """What the report says of the call itself."""
    return {"image": str(options.image), "height": picture.shape[0], "width": picture.shape[1], "model": options.model}


def write_pictures(options, drawn, masks):
    """Writes the overlay and the index picture of the masks; returns their paths."""
    path = options.output or Path(f"{options.image.stem}_{options.command}.png")
    mask_path = path.with_name(f"{path.stem}_mask.png")
    save_whole(drawn, path)
    save_whole(index_picture(masks[:255]), mask_path)
    return {"overlay": str(path), "mask": str(mask_path)}


def as_picture_table(report):
    """The report as text: a line per object, then where the pictures are."""
    rows = [{"object": str(number), **row} for number, row in enumerate(report["objects"], start=1)]
    for row in rows:
        row["area"] = f"{100 * row['area'] / (report['height'] * report['width']):.1f} %"
        row["box"] = ",".join(map(str, row["box"]))
        if "present" in row:
            row["present"] = "yes" if row["present"] else "no"
    return "\n".join([*as_columns(rows), "", f"overlay: {report['overlay']}", f"mask:    {report['mask']}"])
