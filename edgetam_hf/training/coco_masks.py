"""Masks as JSON has them in COCO, SA-1B and SA-V: polygons, or run lengths of pycocotools."""

import json

import numpy as np

try:
    from pycocotools import mask as coco_mask
except ImportError:
    coco_mask = None


def check_pycocotools():
    """Raises an ImportError without pycocotools."""
    if coco_mask is None:
        raise ImportError("masks of COCO, SA-1B and SA-V need pycocotools: pip install pycocotools")


def read_json(path):
    """What a JSON file says."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # of JSON and of UTF-8
        raise ValueError(f"{path} is no JSON, or it is cut off: {error}") from error


def get_value(data, key):
    """A value of what should be a dictionary, None if it is none or lacks the key."""
    return data.get(key) if isinstance(data, dict) else None


def check_segmentation(segmentation, size, name):
    """Raises a ValueError, which calls it by `name`, unless a segmentation is one of COCO for a picture of a size."""
    if isinstance(segmentation, list):
        is_known = bool(segmentation) and all(_is_polygon(xy, size) for xy in segmentation)
    else:
        counts = get_value(segmentation, "counts")
        is_known = get_value(segmentation, "size") == list(size) and (
            isinstance(counts, str) or _are_counts(counts, size)
        )
    if not is_known:
        raise ValueError(
            f"{name} must have as segmentation polygons [[x, y, x, y, x, y, …], …] or run lengths "
            f'{{"size": {list(size)}, "counts": …}}, got {str(segmentation)[:100]}'
        )


def _is_polygon(xy, size):
    try:
        xy = np.asarray(xy)
    except ValueError:  # of lists in it that differ in length
        return False
    if xy.dtype.kind not in "if" or xy.ndim != 1 or xy.size < 6 or xy.size % 2:
        return False
    return bool((np.abs(xy) <= 2 * max(size)).all())  # pycocotools follows outlines pixel by pixel, however far


def _are_counts(counts, size):
    is_list = isinstance(counts, list) and all(isinstance(count, int) and count >= 0 for count in counts)
    return is_list and sum(counts) == size[0] * size[1]


def to_run_lengths(segmentation, size):
    """Compressed run lengths of a segmentation of COCO for a picture of a size (H, W).

    Args:
        segmentation: polygons [[x, y, …], …] in pixels of the picture, or run lengths
            `{"size": [H, W], "counts": …}`, a list or compressed.
        size: (H, W) of the picture.
    """
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, *size)
    return segmentation


def decode(run_lengths, name):
    """Boolean mask (H, W) of compressed run lengths; a ValueError calls them by `name` if they are damaged."""
    try:
        return coco_mask.decode(run_lengths).astype(bool)
    except ValueError as error:
        raise ValueError(f"{name} has run lengths that are damaged: {error}") from error


def area(run_lengths):
    """Number of pixels of compressed run lengths."""
    return int(coco_mask.area(run_lengths))
