"""What a page asks, checked at the door: numbers, prompts and masks."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..formats.run_lengths import decode_run_lengths
from .messages import RUNS, read_runs

MOST_POINTS = 1000  # of a prompt
MOST_POINTS_PER_SIDE = 64  # of the grid of a search
FARTHEST = 1e6  # pixels: a coordinate may lie outside of the picture, but not anywhere
LARGEST_ID = 2**31 - 1


@dataclass(frozen=True)
class Prompt:
    """What is said of one object on one frame in one go.

    points: (x, y) and labels: 1 on the object, 0 off it; box: (x_min, y_min, x_max, y_max); all in pixels of the
    picture. mask: boolean (height, width).
    """

    points: list[tuple[float, float]]
    labels: list[int]
    box: tuple[float, float, float, float] | None
    mask: np.ndarray | None


def read_integer(params: dict[str, Any], name: str, low: int = 0, high: int = LARGEST_ID) -> int:
    """An integer of a call, within limits; raises a ValueError for anything else."""
    value = params.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} must be an integer in {low}..{high}, got {str(value)[:50]}")
    return value


def read_flag(params: dict[str, Any], name: str) -> bool:
    """A flag of a call; raises a ValueError for anything else."""
    value = params.get(name)
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {str(value)[:50]}")
    return value


def read_points_per_side(params: dict[str, Any]) -> int:
    """Along each side of the grid of a search for everything; raises a ValueError for anything else."""
    return read_integer(params, "pointsPerSide", 1, MOST_POINTS_PER_SIDE)


def read_masks(params: dict[str, Any], payload: bytes, size: tuple[int, int]) -> dict[int, np.ndarray]:
    """Boolean masks (height, width) of a call, by the ids of their objects.

    Raises:
        ValueError: for a call of another layout, an object that has two masks, and a mask of another size.
    """
    described = _list(params, "objects")
    if not described or not all(isinstance(one, dict) for one in described):
        raise ValueError("objects must be a list of objects with objectId and numRuns")
    lengths = [RUNS.itemsize * read_integer(one, "numRuns") for one in described]
    if sum(lengths) != len(payload):
        raise ValueError(f"the masks must have {sum(lengths)} bytes of run lengths, got {len(payload)}")
    ends = itertools.accumulate(lengths)
    masks = {
        read_integer(one, "objectId"): _read_mask(payload[end - length : end], size)
        for one, length, end in zip(described, lengths, ends, strict=True)
    }
    if len(masks) < len(described):
        raise ValueError("objects must have each objectId once")
    return masks


def read_prompt(params: dict[str, Any], payload: bytes, size: tuple[int, int]) -> Prompt:
    """The prompt of a call, for pictures of a size (height, width).

    Raises:
        ValueError: for a prompt of another layout, one that says nothing, and a mask of another size.
    """
    said = params.get("prompt")
    if not isinstance(said, dict):
        raise ValueError("prompt must be an object with points, labels, box and mask")
    points = [_numbers(point, 2, "a point must be [x, y]") for point in _list(said, "points")]
    labels = _list(said, "labels")
    if len(labels) != len(points) or not all(type(label) is int and label in (0, 1) for label in labels):
        raise ValueError("labels must have 1 (on the object) or 0 (off the object) for each point")
    box = said.get("box")
    if box is not None:
        box = _numbers(box, 4, "a box must be [x_min, y_min, x_max, y_max]")
        if box[2] < box[0] or box[3] < box[1]:
            raise ValueError(f"a box must be [x_min, y_min, x_max, y_max], got {box}, which is turned inside out")
    mask = _read_mask(payload, size) if said.get("mask") else None
    if not points and box is None and mask is None:
        raise ValueError("a prompt must have a point, a box or a mask")
    return Prompt(points, labels, box, mask)


def _list(said: dict[str, Any], name: str) -> list[Any]:
    values = said.get(name) or []
    if not isinstance(values, list) or len(values) > MOST_POINTS:
        raise ValueError(f"{name} must be a list of at most {MOST_POINTS}")
    return values


def _numbers(values: Any, count: int, layout: str) -> Any:
    """Tuple of so many finite numbers."""
    is_list = isinstance(values, list) and len(values) == count
    if not is_list or not all(_is_coordinate(value) for value in values):
        raise ValueError(f"{layout} in pixels of the picture, got {str(values)[:50]}")
    return tuple(map(float, values))


def _is_coordinate(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and abs(value) <= FARTHEST


def _read_mask(payload: bytes, size: tuple[int, int]) -> np.ndarray:
    """Boolean mask (height, width) of the run lengths of a payload."""
    runs = read_runs(payload)
    if len(runs) > size[0] * size[1] + 1:
        raise ValueError(f"the mask has more run lengths than a picture of {size[1]}x{size[0]} pixels can have")
    return decode_run_lengths({"size": list(size), "counts": runs.tolist()}, size, "the mask")
