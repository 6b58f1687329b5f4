"""Prompts of a JSON file: by item a list of boxes, points and masks, on the frames of a clip, too."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from ..formats.run_lengths import compress, pycocotools, read_counts
from ..found_objects import CutMask
from ..pictures_edgetam import read_index_picture
from .box_collector import check_boxes
from .items import PROMPT_TYPE, Prompt
from .place import Place
from .prompt_table import PromptTable, to_arrow
from .source_coco import read_json_file
from .source_names import clean_name

SHAPES = (
    'a list of points [[x, y, label], …], or an object with "box": [x_min, y_min, x_max, y_max], "points" or '
    '"mask", and perhaps "object": 1, "frame": 0, "category" and "score"'
)
KEYS = {each.name for each in PROMPT_TYPE}


def read_prompt_file(place: Place) -> PromptTable:
    """The prompts of a JSON object that has a list of them for each item.

    The keys are names of items, as the source has them or without suffix or folder. A prompt is either a list of points
    [[x, y, label], …], or an object {"box": [x_min, y_min, x_max, y_max], "points": …, "mask": …, "object": 1,
    "frame": 0, "category": "cat", "score": 0.9} of which one of box, points and mask is needed. Coordinates are pixels,
    labels are 1 on the object and 0 off it. A mask is run lengths {"size": [H, W], "counts": …}, or the path from the
    JSON on of a picture whose pixels above 0 are the object. Without "object" it is the number of the prompt in the
    list, from 1 on; without "frame" it is the first one, 0.

    Raises:
        ValueError: of one line that names file and item, for anything else.
        OSError: of one line, for files that cannot be read.
    """
    content, digest = read_json_file(place, dict)
    labels, prompts = list(content), []
    for label, entries in content.items():
        name = f"{place}: {label!r}"
        if not isinstance(entries, list):
            raise ValueError(f"{name} must have a list of prompts, got {str(entries)[:100]}")
        prompts.append(
            [asdict(read_entry(entry, idx, place, f"{name}, prompt {idx}")) for idx, entry in enumerate(entries, 1)]
        )
    return PromptTable.of((str(place), digest), labels, to_arrow(prompts, pa.list_(PROMPT_TYPE), str(place)))


def read_entry(entry: Any, number: int, place: Place, name: str) -> Prompt:
    """The prompt of an entry, which is the one of this number in its list; see `read_prompt_file`."""
    entry = {"points": entry} if isinstance(entry, list) else entry
    if not isinstance(entry, dict) or not entry.keys() <= KEYS or not entry.keys() & {"box", "points", "mask"}:
        raise ValueError(f"{name} must be {SHAPES}, got {str(entry)[:100]}")
    numbers = {"object": entry.get("object", number), "frame": entry.get("frame", 0)}
    for key, least in (("object", 1), ("frame", 0)):
        if type(numbers[key]) is not int or numbers[key] < least:
            raise ValueError(f'{name} must have as "{key}" a whole number from {least} on, got {numbers[key]!r}')
    box, points, mask = entry.get("box"), entry.get("points"), entry.get("mask")
    score, category = entry.get("score"), entry.get("category")
    if not isinstance(score, int | float | None):
        raise ValueError(f'{name} must have a number as "score", got {score!r}')
    return Prompt(
        **numbers,
        box=None if box is None else tuple(check_boxes([box], name)[0].tolist()),
        points=None if points is None else read_points(points, name),
        mask=None if mask is None else read_mask(mask, place, name),
        category=None if category is None else str(category),
        score=score,
    )


def read_points(points: Any, name: str) -> tuple[tuple[float, float, int], ...]:
    """Points of a list [[x, y, label], …]."""
    try:
        array = np.array(points, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(0)
    if array.ndim != 2 or array.shape[1] != 3 or not np.isfinite(array).all() or not np.isin(array[:, 2], (0, 1)).all():
        raise ValueError(
            f"{name} must have points [[x, y, label], …] with label 1 on the object and 0 off it, got "
            f"{str(points)[:100]}"
        )
    return tuple((x, y, int(label)) for x, y, label in array.tolist())


def read_mask(mask: Any, place: Place, name: str) -> dict[str, Any]:
    """Compressed run lengths of such, or of those that are not, or of a picture that the path names."""
    if isinstance(mask, str):
        picture = place.folder / clean_name(mask, name)
        return compress(CutMask.of(read_index_picture(picture.read(), str(picture)) > 0))
    size = mask.get("size") if isinstance(mask, dict) else None
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        size = [0, 0]
    lengths = read_counts(mask, size, f"{name}, mask").tolist()  # not decoded: there are few of a mask of any size
    compressed = pycocotools().frPyObjects({"size": size, "counts": lengths}, *size)
    return {"size": size, "counts": compressed["counts"].decode("ascii")}
