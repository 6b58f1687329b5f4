"""Objects cut out of rendered composites, kept in memory as sprites."""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFilter

from edgetam_hf.found_objects import CutMask

from .crops import Composites

SMALLEST_AREA = 700  # pixels of a composite: less gives a blurred object
MOST_OF_ONE = 3  # sprites of one composite: rows of like objects have dozens
CHUNK = 100  # composites read at once


def read_rows(array: np.memmap, start: int, stop: int) -> np.ndarray:
    """Rows of a memory-mapped file, in one read: page after page a slow disk takes many times as long."""
    offset = array.offset + start * array[0].nbytes
    rows = np.fromfile(str(array.filename), array.dtype, (stop - start) * array[0].size, offset=offset)
    return rows.reshape(stop - start, *array.shape[1:])


def cut_out_sprites(composites: Composites, count: int) -> list[Image.Image]:
    """Sprites of the first `count` composites, at most three of each, see `cut_out`.

    Raises:
        ValueError: if there is none.
    """
    sprites: list[Image.Image] = []
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        chunk = (read_rows(array, start, stop) for array in (composites.pictures, composites.instances))
        for picture, instances in zip(*chunk, strict=True):
            sprites.extend(cut_out(picture, instances))
    if not sprites:
        raise ValueError(
            f"{composites.pictures.filename}: none of {count} composites has an object of {SMALLEST_AREA} pixels that "
            "does not reach the border, to cut it out"
        )
    return sprites


def cut_out(picture: np.ndarray, instances: np.ndarray) -> Iterator[Image.Image]:
    """The first three large instances that lie off the border, each cut to its box, as RGBX: X is the opacity.

    As RGBA, Pillow would premultiply the colours at each step, in vain: those around an instance are no darker.

    Args:
        picture: uint8 (H, W, 3).
        instances: uint8 (H, W), 0 for the background.
    """
    areas = np.bincount(instances.ravel())
    areas[0] = 0
    for border in (instances[0], instances[-1], instances[:, 0], instances[:, -1]):
        areas[border] = 0
    for number in np.flatnonzero(areas >= SMALLEST_AREA)[:MOST_OF_ONE]:
        mask = CutMask.of(instances == number)
        rows, columns = (slice(side.start - 1, side.stop + 1) for side in mask.window)
        # the pixels of its border show in part what was behind it
        opacity = Image.fromarray(255 * mask.widened(1).astype(np.uint8)).filter(ImageFilter.MinFilter(3))
        yield Image.merge("RGBX", [*Image.fromarray(picture[rows, columns]).split(), opacity])
