"""What the console commands share: quiet loading, pictures, and what a report says of prompts and masks."""

from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
import numpy as np
import torch
from transformers.utils import logging

from .. import nano_checkpoint
from ..drawing import index_picture, save_whole
from ..pictures_edgetam import read_picture


def quieten_hub_client():
    """Makes huggingface_hub tell an error once, by raising it, and not at each of its attempts."""
    huggingface_hub.utils.logging.set_verbosity_error()


def checkpoint_of(name):
    """The folder of the embedded checkpoint for `nano`, other names as they are."""
    return str(nano_checkpoint()) if name == "nano" else name


def device_of(name):
    """The device of that name; without one a GPU if there is one."""
    return name or ("cuda" if torch.cuda.is_available() else "cpu")


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
    return read_picture(path, str(path))


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
