"""Prompts of many items: kept as an Arrow array with a sorted key for each item, which processes share uncopied."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from .items import Item, Part, Source


@dataclass(frozen=True)
class PromptTable:
    """Prompts by item. `ray.put(table)` shares it: Arrow and numpy memory is not copied.

    name: of the file that they come from. keys: uint64 (N,), sorted hashes of what the file calls the items. labels:
    what it calls them, strings in the same order. prompts: Arrow array (N,) of lists of `PROMPT_TYPE`.
    prompt_size: see `Item`.
    """

    name: str
    keys: np.ndarray
    labels: pa.Array
    prompts: pa.Array
    prompt_size: tuple[int, int] | None = None

    def attach(self, item: Item) -> Item:
        """The item with its prompts; without any if the table has none for it."""
        raise NotImplementedError


@dataclass(frozen=True)
class PromptedSource:
    """A source whose items have prompts of a table.

    Its parts carry the whole table. An engine that sends parts to other processes rather shares `prompts` once, reads
    the parts of `source`, and calls `prompts.attach(item)`.
    """

    source: Source
    prompts: PromptTable

    def parts(self, num_parts: int) -> list[Part]:
        """See `Source`."""
        raise NotImplementedError

    def names(self) -> Iterator[str] | None:
        """See `Source`."""
        return self.source.names()


def with_prompts(source: Source, prompts: PromptTable) -> Source:
    """The source with these prompts. Items that the table lacks are labelled too: their rows have no masks.

    Raises:
        ValueError: for prompts of items that the source does not have, or of which it has several; only where it knows
            the names of its items, not for tars and bytes in tables.
    """
    raise NotImplementedError


def with_boxes(source: Source, address: str) -> Source:
    """The source with the boxes of `--boxes`: `column:NAME`, COCO JSON (results or a dataset), or a folder of YOLO's."""
    raise NotImplementedError


def with_prompt_file(source: Source, address: str) -> Source:
    """The source with the prompts of `--points` or `--prompts`: JSON, by item a list of prompts."""
    raise NotImplementedError
