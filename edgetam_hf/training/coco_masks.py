"""Masks as JSON has them in COCO, SA-1B and SA-V: polygons, or run lengths."""

from typing import Any

import numpy as np

from ..formats.run_lengths import decode_run_lengths, read_counts

try:
    from pycocotools import mask as coco_mask
except ImportError:
    coco_mask = None

LONGEST_OUTLINE = 2  # times the pixels of the picture: pycocotools follows outlines step by step, however far


def check_pycocotools() -> None:
    """Raises an ImportError without pycocotools."""
    if coco_mask is None:
        raise ImportError("masks of COCO, SA-1B and SA-V need pycocotools: pip install pycocotools")


def get_value(data: Any, key: str) -> Any:
    """A value of what should be a dictionary, None if it is none or lacks the key."""
    return data.get(key) if isinstance(data, dict) else None


def check_segmentation(segmentation: Any, size: tuple[int, int], name: str) -> None:
    """Raises a ValueError, which calls it by `name`, unless a segmentation is one of COCO for a picture of a size."""
    if isinstance(segmentation, list):
        is_known = bool(segmentation) and all(_is_polygon(xy, size) for xy in segmentation)
    else:
        is_known = get_value(segmentation, "size") == list(size)
    if not is_known:
        raise ValueError(
            f"{name} must have as segmentation polygons [[x, y, x, y, x, y, …], …] or run lengths "
            f'{{"size": {list(size)}, "counts": …}}, got {str(segmentation)[:100]}'
        )
    if isinstance(segmentation, dict):
        read_counts(segmentation, size, name)


def _is_polygon(xy: Any, size: tuple[int, int]) -> bool:
    try:
        xy = np.asarray(xy)
    except ValueError:  # of lists in it that differ in length
        return False
    if xy.dtype.kind not in "if" or xy.ndim != 1 or xy.size < 6 or xy.size % 2:
        return False
    if not (np.abs(xy) <= 2 * max(size)).all():
        return False
    points = xy.reshape(-1, 2)
    outline = np.abs(points - np.roll(points, 1, axis=0)).max(1).sum() + len(points)
    return bool(outline <= LONGEST_OUTLINE * (size[0] + 2) * (size[1] + 2) + 8 * max(size))


def decode_segmentation(segmentation: list | dict, size: tuple[int, int], name: str) -> np.ndarray:
    """Boolean mask (H, W) of a segmentation of COCO.

    Args:
        segmentation: polygons [[x, y, …], …] in pixels of the picture, or run lengths
            `{"size": [H, W], "counts": …}`, a list or compressed.
        size: (H, W) of the picture.
        name: what errors call it.

    Raises:
        ValueError: for anything else, and what is damaged.
    """
    check_segmentation(segmentation, size, name)
    if isinstance(segmentation, dict):
        return decode_run_lengths(segmentation, size, name)
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))).astype(bool)


def area(segmentation: list | dict, size: tuple[int, int], name: str) -> int:
    """Number of pixels of a segmentation; see `decode_segmentation`."""
    if isinstance(segmentation, dict):
        return int(read_counts(segmentation, size, name)[1::2].sum())
    return int(decode_segmentation(segmentation, size, name).sum())
