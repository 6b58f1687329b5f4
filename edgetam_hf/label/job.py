"""What an engine does: all items of a source that have no row yet, through a labeller's steps, into a folder."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgetam_cli.endings import first_line

from .errors import ErrorFiles, is_among
from .folder import LabelFolder
from .items import Item, Part, Source
from .steps import Steps

BATCHES_PER_PART = 16  # batches in a part of a source
MOST_PARTS, UNKNOWN_PARTS = 4096, 256  # of a source; of one that does not say how many items it has
FILES = 1000  # of rows that a run should have, so that a kill loses a thousandth
BATCHES_PER_FILE, MOST_BATCHES_PER_FILE = 8, 32


@dataclass(frozen=True)
class Job:
    """The work of a run. `finished` has the sorted ids of items that have a row, bytes (num_items,)."""

    source: Source
    steps: Steps
    folder: LabelFolder
    finished: np.ndarray

    @property
    def batch_size(self) -> int:
        """Items that the model gets together."""
        return self.steps.labeller.batch_size

    @property
    def num_parts(self) -> int:
        """Into how many parts the source is cut: enough for many workers, and few enough to keep account of."""
        if self.source.num_items is None:
            return UNKNOWN_PARTS
        return min(-(-self.source.num_items // (BATCHES_PER_PART * self.batch_size)) or 1, MOST_PARTS)

    @property
    def rows_per_file(self) -> int:
        """Rows of a file, about: a kill loses those whose file is not complete."""
        if self.source.num_items is None:
            return BATCHES_PER_FILE * self.batch_size
        most = MOST_BATCHES_PER_FILE * self.batch_size
        return min(max(self.source.num_items // FILES, self.batch_size), most)


class Engine(Protocol):
    """What does a job: in this process, or in many.

    device: where models should be, once it is opened; None for the best that this process has.
    """

    @property
    def device(self) -> str | None: ...

    def opened(self) -> AbstractContextManager[None]:
        """Within the block it is ready."""
        ...

    def run(self, job: Job) -> None:
        """Writes a row or an error for each item that has no row yet.

        Raises:
            OSError, ImportError: of one line, for what concerns more than one item, as a full disk; rows stay.
        """
        ...


def read_part(part: Part, finished: np.ndarray, errors: ErrorFiles) -> Iterator[Item]:
    """The items of a part that have no row yet; a part that is damaged gives those before the damage, and an error."""
    try:
        for item in part:
            if not is_among([item.id], finished)[0]:
                yield item
    except (ValueError, OSError) as error:
        errors.add_part(part.name, first_line(error))


def in_batches(items: Iterable, batch_size: int) -> Iterator[list]:
    """Lists of so many of the items, and of the rest."""
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch
