"""Parquet: a column of paths or addresses, or of the bytes of files; a part is a row group, or some rows of one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from edgetam_cli.endings import first_line

from .box_collector import box_prompts, check_boxes
from .items import PICTURE, Item
from .place import Place
from .source_files import kind_of
from .source_lists import split_evenly
from .source_names import check_unique, clean_name, resolve

# What columns of paths are called; a table has many other texts.
PATH_COLUMNS = {
    *("path", "file", "file_name", "filename", "file_path", "filepath", "image", "image_path", "image_url", "img"),
    *("img_path", "picture", "address", "url", "uri", "video", "video_path", "clip", "key"),
}
NUM_THREADS = 16  # that open files beside each other, which are slow to answer in a cloud


@dataclass(frozen=True)
class Columns:
    """Which columns of a table have what.

    media: paths, addresses or bytes. names: of items; None for their paths, or file/row. boxes: lists of
    [x_min, y_min, x_max, y_max].
    """

    media: str
    names: str | None = None
    boxes: str | None = None
    has_bytes: bool = False

    def used(self) -> list[str]:
        """Names of the columns that are read."""
        return [column for column in (self.media, self.names, self.boxes) if column]

    def naming(self) -> list[str]:
        """Names of the columns that the names of items come from; none for bytes."""
        return [self.names] if self.names else [] if self.has_bytes else [self.media]


@dataclass(frozen=True)
class TablePart:
    """Rows of a row group of a file; see `Part`.

    first_row: number in the file of the row group's first row. rows: (start, end) in the row group.
    """

    folder: Place
    file: str
    kind: str
    columns: Columns
    row_group: int
    first_row: int
    rows: tuple[int, int]

    @property
    def name(self) -> str:
        """What errors call it."""
        start, end = (self.first_row + row for row in self.rows)
        return f"{self.folder / self.file}, rows {start} to {end - 1}"

    def __iter__(self) -> Iterator[Item]:
        for row, values in self.read(self.columns.used()):
            yield self._item(row, values)

    def names(self) -> Iterator[str]:
        """The names of the items, for which only the columns that have them are read."""
        columns = self.columns.naming()
        if not columns:
            yield from (self._name(row, {}) for row in range(*self.rows))
        for row, values in self.read(columns) if columns else ():
            yield self._name(row, values)

    def read(self, columns: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number in the row group, and values by column, of each row."""
        start, end = self.rows
        row, batch_size = 0, 16 if self.columns.has_bytes else 4096
        with open_table(self.folder / self.file) as file:
            for batch in file.iter_batches(batch_size, [self.row_group], columns=columns):
                first, last = max(start - row, 0), min(end - row, len(batch))
                if first < last:
                    found = [values_of(batch.slice(first, last - first), column).to_pylist() for column in columns]
                    for idx, values in enumerate(zip(*found), row + first):
                        yield idx, dict(zip(columns, values))
                row += len(batch)
                if row >= end:
                    break

    def _name(self, row: int, values: dict[str, Any]) -> str:
        columns = self.columns
        if columns.names and values[columns.names] is None:
            raise ValueError(f"{self.folder / self.file} has no name in row {self.first_row + row}, {columns.names}")
        if columns.names:
            return clean_name(str(values[columns.names]), self.name)
        if columns.has_bytes or values[columns.media] is None:
            return f"{self.file.rpartition('.')[0]}/{self.first_row + row}"
        return resolve(values[columns.media], (self.folder / self.file).folder)[0]

    def _item(self, row: int, values: dict[str, Any]) -> Item:
        media, address, data = values[self.columns.media], None, None
        if isinstance(media, dict):  # as Hugging Face datasets write it
            media = media["path"] if media["bytes"] is None else media["bytes"]
        if isinstance(media, str):
            address = resolve(media, (self.folder / self.file).folder)[1]
        else:
            data = media or b""
        boxes = self.columns.boxes
        prompts = box_prompts(values[boxes], f"{self.name}, column {boxes}") if boxes else ()
        return Item(self._name(row, values), self.kind, address, data, prompts)


class TableSource:
    """Rows of the Parquet files of a folder; see `Source`.

    Args:
        name, folder, files: what the user named, and what was found of it.
        is_clips: whether they are clips; None if the first path tells, and pictures in bytes.
        column, name_column: see `find_source`.
    """

    def __init__(self, name: str, folder: Place, files: list[str], is_clips: bool | None, **chosen: str | None) -> None:
        self.name, self.folder = name, folder
        with ThreadPoolExecutor(NUM_THREADS) as threads:
            opened = list(threads.map(lambda file: read_footer(folder / file), files))
        self.schema = opened[0][0]
        self.columns = choose_columns(self.schema, name, **chosen)
        self.row_groups: list[tuple[str, int, int, int]] = []  # file, number, its first row, its number of rows
        for file, (schema, lengths) in zip(files, opened):
            self._check_alike(schema, files[0], file)
            starts = np.cumsum([0, *lengths]).tolist()
            self.row_groups += [(file, idx, starts[idx], length) for idx, length in enumerate(lengths) if length]
        self.num_items = sum(length for *_, length in self.row_groups)
        if not self.num_items:
            raise ValueError(f"{name} has no rows: there is nothing to label")
        self.kind = PICTURE
        first = next(self._part(*self.row_groups[0][:3], (0, 1)).read([self.columns.media]))[1][self.columns.media]
        self.kind = kind_of([first if isinstance(first, str) else ""], is_clips, name)
        if self.columns.naming():
            check_unique(self.names, name)

    @property
    def description(self) -> str:
        """See `Source`."""
        used = (f"{use} of {column}" for use, column in asdict(self.columns).items() if isinstance(column, str))
        return ", ".join([Place.of(self.name).identity, *used])

    def with_boxes(self, column: str) -> "TableSource":
        """The source with boxes of a column.

        Raises:
            ValueError: for a column that is missing or of another kind, and boxes that cannot be.
        """
        type_of(self.schema, column, self.name)
        prompted = copy(self)
        prompted.columns = replace(self.columns, boxes=column)
        for part in prompted.parts(1):
            for row, values in part.read([column]):
                check_boxes(values[column], f"row {part.first_row + row} of {self.folder / part.file}, column {column}")
        return prompted

    def names(self) -> Iterator[str]:
        """See `Source`."""
        for part in self.parts(1):
            yield from part.names()

    def parts(self, num_parts: int) -> list[TablePart]:
        """Parts of a row group each; of some rows where rows are paths, and there are fewer row groups."""
        splits = 1 if self.columns.has_bytes else -(-num_parts // len(self.row_groups))
        return [
            self._part(file, idx, first_row, rows)
            for file, idx, first_row, length in self.row_groups
            for rows in split_evenly(length, splits)
        ]

    def _part(self, file: str, idx: int, first_row: int, rows: tuple[int, int]) -> TablePart:
        return TablePart(self.folder, file, self.kind, self.columns, idx, first_row, rows)

    def _check_alike(self, schema: pa.Schema, first: str, file: str) -> None:
        for column in self.columns.used():
            types = [type_of(each, column, str(self.folder / file)) for each in (self.schema, schema)]
            if types[0] != types[1]:
                raise ValueError(
                    f"{self.folder / file} has {types[1]} in column {column}, and {first} has {types[0]}: label them "
                    "apart"
                )


@contextmanager
def open_table(place: Place) -> Iterator[pq.ParquetFile]:
    """A Parquet file; what Arrow says of damage within the block becomes one line that names the file."""
    with place.open() as file:
        try:
            yield pq.ParquetFile(file)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{place} is no Parquet file, or it is damaged: {first_line(error)}") from error


def read_footer(place: Place) -> tuple[pa.Schema, list[int]]:
    """Schema of a Parquet file, and the numbers of rows of its row groups."""
    with open_table(place) as file:
        lengths = [file.metadata.row_group(idx).num_rows for idx in range(file.num_row_groups)]
        return file.schema_arrow, lengths


def choose_columns(schema: pa.Schema, name: str, column: str | None, name_column: str | None) -> Columns:
    """The columns that are read of a table.

    Raises:
        ValueError: for columns that are not there or of another kind, and if it is not clear which has the pictures.
    """
    kinds = {field.name: media_kind(field.type) for field in schema}
    if name_column is not None:
        type_of(schema, name_column, name)
    if column is not None:
        kind = media_kind(type_of(schema, column, name))
        if kind is None:
            raise ValueError(f"column {column} of {name} has {type_of(schema, column, name)}, not paths or bytes")
        return Columns(column, name_column, has_bytes=kind == "bytes")
    texts = [each for each, kind in kinds.items() if kind == "paths" and each != name_column]
    found = [each for each, kind in kinds.items() if kind == "bytes"]
    found = found or [each for each in texts if each.lower() in PATH_COLUMNS] or texts
    if len(found) != 1:
        raise ValueError(
            f"{name} has {'several columns' if found else 'no column'} of paths or bytes of pictures, say --column "
            f"NAME: its columns are {', '.join(kinds) or 'none'}"
        )
    return Columns(found[0], name_column, has_bytes=kinds[found[0]] == "bytes")


def media_kind(kind: pa.DataType) -> str | None:
    """`"bytes"` or `"paths"` if a column of this type can have pictures."""
    if pa.types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind}:
        return media_kind(kind.field("bytes").type)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "bytes"
    return "paths" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None


def type_of(schema: pa.Schema, column: str, name: str) -> pa.DataType:
    """The type of a column, or of a part of one: `image.path` is that of the column image.

    Raises:
        ValueError: which says that the table called `name` has none.
    """
    if column in schema.names:
        return schema.field(column).type
    head, _, rest = column.partition(".")
    kind = schema.field(head).type if head in schema.names else pa.null()
    if not pa.types.is_struct(kind) or kind.get_field_index(rest) < 0:
        raise ValueError(f"{name} has no column {column}: its columns are {', '.join(schema.names) or 'none'}")
    return kind.field(rest).type


def values_of(batch: pa.RecordBatch, column: str) -> pa.Array:
    """The values of a column, or of a part of one."""
    if column in batch.schema.names:
        return batch.column(column)
    head, _, rest = column.partition(".")
    return pc.struct_field(batch.column(head), rest)
