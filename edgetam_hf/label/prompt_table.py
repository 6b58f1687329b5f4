"""Prompts of many items: an Arrow array with a sorted key for each item, which processes share uncopied."""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from edgetam_cli.endings import first_line

from .items import Item, read_prompt
from .source_names import keys_of


@dataclass(frozen=True)
class PromptTable:
    """Prompts by item. `ray.put(table)` shares it: the memory of Arrow and numpy is not copied.

    name: of the file that they come from. digest: hash of its content. keys: uint64 (N,), sorted hashes of what the
    file calls the items. labels: what it calls them, strings in the same order. prompts: Arrow array (N,) of lists of
    `PROMPT_TYPE`. prompt_size: see `Item`.
    """

    name: str
    digest: str
    keys: np.ndarray
    labels: pa.Array
    prompts: pa.Array
    prompt_size: tuple[int, int] | None = None

    @classmethod
    def of(
        cls,
        file: tuple[str, str],
        labels: Sequence[str],
        prompts: pa.Array,
        prompt_size: tuple[int, int] | None = None,
    ) -> "PromptTable":
        """The table of labels and of lists of prompts, which are in the same order.

        Args:
            file: name and digest.
            labels, prompts, prompt_size: see above; the order may be any.

        Raises:
            ValueError: for labels that repeat.
        """
        keys = keys_of(labels)
        order = np.argsort(keys, kind="stable")
        repeated = np.flatnonzero(keys[order][1:] == keys[order][:-1])
        if len(repeated):
            raise ValueError(f"{file[0]} has prompts of {labels[order[repeated[0]]]!r} in two places: join them")
        rows = pa.array(order)
        names = to_arrow(labels, pa.large_string(), file[0])
        return cls(*file, keys[order], names.take(rows), prompts.take(rows), prompt_size)

    def attach(self, item: Item) -> Item:
        """The item with its prompts; without any if the table has none for it."""
        row = int(self.rows_of([item.name])[0])
        if row < 0:
            return item
        return replace(item, prompts=tuple(map(read_prompt, self.prompts[row].as_py())), prompt_size=self.prompt_size)

    def rows_of(self, names: Sequence[str]) -> np.ndarray:
        """int64 (M,) of the rows of M items, -1 for those that the table lacks."""
        rows = np.full(len(names), -1)
        labels = list(map(possible_labels, names)) if len(self.keys) else []
        for level in range(max(map(len, labels), default=0)):
            idxs = [idx for idx in np.flatnonzero(rows < 0).tolist() if level < len(labels[idx])]
            keys = keys_of(labels[idx][level] for idx in idxs)
            found = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
            rows[idxs] = np.where(self.keys[found] == keys, found, -1)
        return rows


def to_arrow(values: Sequence[Any], kind: pa.DataType, name: str) -> pa.Array:
    """Values of a file as an Arrow array of a type.

    Raises:
        ValueError: which says that the file called `name` has numbers that are too large, or text that is none.
    """
    try:
        return pa.array(values, kind)
    except (OverflowError, UnicodeEncodeError, pa.ArrowException) as error:
        raise ValueError(f"{name} has a number or a text that cannot be kept: {first_line(error)}") from error


def possible_labels(name: str) -> list[str]:
    """What a file of prompts may call an item, the plainest first.

    Its name with all, some or none of its folders, each with and without its suffix, and at last the number that it is:
    COCO calls 000000000139.jpg 139.
    """
    parts = name.split("/")
    tails = ["/".join(parts[idx:]) for idx in range(len(parts))]
    labels = [label for tail in tails for label in (tail, posixpath.splitext(tail)[0])]
    is_number = labels[-1].isascii() and labels[-1].isdigit() and len(labels[-1]) < 20
    return [*labels, str(int(labels[-1]))] if is_number else labels
