"""Boxes as they are read, one by one, kept in flat arrays: millions of Python's dictionaries would not fit."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from .items import PROMPT_TYPE, Prompt
from .prompt_table import PromptTable, to_arrow


def find_bad_box(boxes: np.ndarray) -> int | None:
    """Index of the first of N boxes (N, 4) of (x_min, y_min, x_max, y_max) that is none, if there is one."""
    is_good = np.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    return None if is_good.all() else int(is_good.argmin())


def check_boxes(boxes: Any, name: str) -> np.ndarray:
    """float64 (N, 4) of a list of boxes [x_min, y_min, x_max, y_max], of which None is none.

    Raises:
        ValueError: which begins with the name, for anything else, and boxes without width or height.
    """
    expected = "expected [[x_min, y_min, x_max, y_max], …], finite, with x_min < x_max and y_min < y_max"
    try:
        numbers = np.array(boxes if boxes else np.zeros((0, 4)), np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.zeros(0)
    if numbers.ndim != 2 or numbers.shape[1] != 4:
        raise ValueError(f"{name} has boxes {str(boxes)[:100]}: {expected}")
    bad = find_bad_box(numbers)
    if bad is not None:
        raise ValueError(f"{name} has the box {numbers[bad].tolist()}: {expected}")
    return numbers


def box_prompts(boxes: Any, name: str) -> tuple[Prompt, ...]:
    """A prompt for each box of a list; see `check_boxes`."""
    return tuple(Prompt(number, box=tuple(box)) for number, box in enumerate(check_boxes(boxes, name).tolist(), 1))


@dataclass
class BoxCollector:
    """Boxes of many items, in any order.

    name: of their file, for errors. labels: number of each item, by what the file calls it. owners: number of the item
    of each box. boxes: four numbers each, x_min, y_min, x_max, y_max. scores: NaN for none. classes: number of the
    category, whose names are `categories`.
    """

    name: str
    labels: dict[str, int] = field(default_factory=dict)
    categories: dict[str | None, int] = field(default_factory=dict)
    owners: array = field(default_factory=lambda: array("q"))
    boxes: array = field(default_factory=lambda: array("d"))
    scores: array = field(default_factory=lambda: array("f"))
    classes: array = field(default_factory=lambda: array("q"))

    def add(self, label: str, box: Sequence[float], score: float, category: str | None) -> None:
        """Notes a box (x_min, y_min, x_max, y_max) of an item; NaN is no score."""
        self.owners.append(self.labels.setdefault(label, len(self.labels)))
        self.boxes.extend(box)
        self.scores.append(score)
        self.classes.append(self.categories.setdefault(category, len(self.categories)))

    def table(
        self,
        digest: str,
        label_of: Callable[[str], str] = str,
        category_of: Callable[[str], str] = str,
        prompt_size: tuple[int, int] | None = None,
    ) -> PromptTable:
        """The table of all boxes; objects are numbered in the order of the file.

        Args:
            digest, prompt_size: see `PromptTable`.
            label_of, category_of: what items and categories are called in it, by what they are called here.

        Raises:
            ValueError: for boxes without width or height, and numbers that are not finite.
        """
        labels = list(self.labels)
        with np.errstate(over="ignore"):  # numbers that are too large become infinite
            boxes = np.array(self.boxes).astype(np.float32).reshape(-1, 4)
        bad = find_bad_box(boxes)
        if bad is not None:
            x_min, y_min, x_max, y_max = boxes[bad].tolist()
            raise ValueError(
                f"{self.name} has a box of {label_of(labels[self.owners[bad]])!r} from ({x_min:g}, {y_min:g}) to "
                f"({x_max:g}, {y_max:g}): expected finite numbers, and a width and height above 0"
            )
        owners = np.array(self.owners, np.int64)
        order = np.argsort(owners, kind="stable")
        ends = np.cumsum(np.bincount(owners, minlength=len(labels)))
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        numbers = np.arange(len(order)) - np.repeat(offsets[:-1], np.diff(offsets)) + 1
        scores = np.array(self.scores, np.float32)[order]
        names = [each if each is None else category_of(each) for each in self.categories]
        columns = {
            "object": pa.array(numbers, pa.int64()),
            "frame": pa.array(np.zeros(len(order), np.int32)),
            "box": pa.ListArray.from_arrays(
                pa.array(np.arange(len(order) + 1, dtype=np.int32) * 4),
                pa.array(boxes[order].ravel()),
            ),
            "category": to_arrow(names, pa.string(), self.name).take(pa.array(np.array(self.classes, np.int64)[order])),
            "score": pa.array(scores, mask=np.isnan(scores)),
        }
        fields = list(PROMPT_TYPE)
        arrays = [columns[each.name] if each.name in columns else pa.nulls(len(order), each.type) for each in fields]
        prompts = pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(arrays, fields=fields))
        return PromptTable.of((self.name, digest), [label_of(label) for label in labels], prompts, prompt_size)
