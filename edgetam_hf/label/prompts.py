"""Prompts for the items of a source: boxes of detectors, and what a file says of objects."""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from pyarrow.fs import FileType

from .items import Item, Part, Source
from .place import Place
from .prompt_table import PromptTable
from .prompts_of_boxes import read_coco_boxes, read_yolo_boxes
from .prompts_of_files import read_prompt_file
from .prompts_of_masks import read_mask_folder
from .source_coco import CocoNames, CocoSource
from .source_tables import TableSource

COLUMN = "column:"  # before the name of a column
NAMES_AT_ONCE = 4096
MOST_NAMED = 3  # items in an error


@dataclass(frozen=True)
class PromptedPart:
    """A part whose items have prompts of a table; see `Part`."""

    part: Part
    prompts: PromptTable

    @property
    def name(self) -> str:
        """That of the part."""
        return self.part.name

    def __iter__(self) -> Iterator[Item]:
        return map(self.prompts.attach, self.part)


@dataclass(frozen=True)
class PromptedSource:
    """A source whose items have prompts of a table.

    Its parts carry the whole table. An engine that sends parts to other processes rather shares `prompts` once, reads
    the parts of `source`, and calls `prompts.attach(item)`.
    """

    source: Source
    prompts: PromptTable

    @property
    def name(self) -> str:
        """See `Source`."""
        return self.source.name

    @property
    def kind(self) -> str:
        """See `Source`."""
        return self.source.kind

    @property
    def num_items(self) -> int | None:
        """See `Source`."""
        return self.source.num_items

    @property
    def description(self) -> str:
        """See `Source`; other prompts make it another source."""
        file = posixpath.basename(self.prompts.name.rstrip("/"))
        return f"{self.source.description}, prompts of {file} (hash {self.prompts.digest})"

    def names(self) -> Iterator[str] | None:
        """See `Source`."""
        return self.source.names()

    def parts(self, num_parts: int) -> list[PromptedPart]:
        """See `Source`."""
        return [PromptedPart(part, self.prompts) for part in self.source.parts(num_parts)]


def with_prompts(source: Source, prompts: PromptTable) -> PromptedSource:
    """The source with these prompts. Items that the table lacks are labelled too: their rows have no masks.

    Raises:
        ValueError: for prompts of items that the source does not have, or of which it has several; only where it knows
            the names of its items, not for tars.
    """
    names = source.names()
    if names is not None:
        check_prompts(names, source, prompts)
    return PromptedSource(source, prompts)


def check_prompts(names: Iterator[str], source: Source, prompts: PromptTable) -> None:
    """Raises a ValueError unless each label of a table is that of one item of a source, which has these names."""
    num_items = np.zeros(len(prompts.keys), int)
    while some := list(islice(names, NAMES_AT_ONCE)):
        rows = prompts.rows_of(some)
        np.add.at(num_items, rows[rows >= 0], 1)
    unclear, missing = np.flatnonzero(num_items > 1), np.flatnonzero(num_items == 0)
    if len(unclear):
        row = unclear[0]
        items = [name for name in source.names() or () if prompts.rows_of([name])[0] == row][:2]
        raise ValueError(
            f"{prompts.name} has prompts of {prompts.labels[row].as_py()!r}, which may be {items[0]!r} or {items[1]!r} "
            f"of {source.name}: write their whole names"
        )
    if len(missing):
        shown = ", ".join(repr(prompts.labels[row].as_py()) for row in missing[:MOST_NAMED])
        raise ValueError(
            f"{prompts.name} has prompts of {len(missing)} items that {source.name} does not have: {shown}"
            f"{', …' if len(missing) > MOST_NAMED else ''}"
        )


def with_boxes(source: Source, address: str) -> Source:
    """The source with the boxes of `--boxes`.

    Args:
        source: whose pictures or clips are prompted; in clips boxes are on the first frame.
        address: `column:NAME` of a table; a JSON of COCO, results of a detector or a dataset with annotations; or a
            folder of YOLO's text files.

    Raises:
        ValueError: for what is damaged or of another kind, boxes that cannot be, and see `with_prompts`.
        FileNotFoundError, OSError: of one line, for what is not there, or cannot be read.
    """
    if address.startswith(COLUMN):
        if not isinstance(source, TableSource):
            raise ValueError(f"{source.name} has no column {address.removeprefix(COLUMN)}: only Parquet has columns")
        return source.with_boxes(address.removeprefix(COLUMN))
    place = Place.of(address)
    if existing_type(place) == FileType.Directory:
        return with_prompts(source, read_yolo_boxes(place))
    names = source.coco_names() if isinstance(source, CocoSource) else CocoNames({}, {})
    return with_prompts(source, read_coco_boxes(place, names))


def with_prompt_file(source: Source, address: str) -> Source:
    """The source with the prompts of `--points` or `--prompts`.

    Args:
        source: whose pictures or clips are prompted.
        address: a JSON, see `read_prompt_file`; or a folder of masks, see `read_mask_folder`.

    Raises:
        ValueError, FileNotFoundError, OSError: as in `with_boxes`.
    """
    place = Place.of(address)
    is_folder = existing_type(place) == FileType.Directory
    return with_prompts(source, read_mask_folder(place, source) if is_folder else read_prompt_file(place))


def existing_type(place: Place) -> FileType:
    """Whether a place is a file or a folder; raises a FileNotFoundError for what is not there."""
    kind = place.info().type
    if kind == FileType.NotFound:
        raise FileNotFoundError(f"there is no file or folder {place}")
    return kind
