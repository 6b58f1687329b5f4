"""The folder that labels are written to, in which each item has one row at most, whenever a run is killed.

Rows are written in two steps, as Ray Data's `CheckpointConfig` does it, so that either engine goes on after the other:
`done/X.pending.parquet` has the ids of the rows to come, `rows/X-0.parquet` has the rows, and when these are complete
the first file becomes `done/X.parquet`. What still is pending when a run begins was not completed, and is removed.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from edgetam_cli.endings import first_line

from .errors import ErrorFiles
from .place import Place
from .rows import table_of_rows

PENDING, ENDING = ".pending.parquet", ".parquet"
ID_TYPE = "S32"


@dataclass(frozen=True)
class LabelFolder:
    """A folder `place` with `label.json`, `rows/`, `done/` and `errors/`."""

    place: Place

    @property
    def settings(self) -> Place:
        """The file that says what was asked."""
        return self.place / "label.json"

    @property
    def rows(self) -> Place:
        """The folder of rows."""
        return self.place / "rows"

    @property
    def done(self) -> Place:
        """The folder of ids of items that have a row."""
        return self.place / "done"

    @property
    def errors(self) -> ErrorFiles:
        """The items that cannot be labelled."""
        return ErrorFiles(self.place / "errors")

    def clean(self) -> None:
        """Removes rows that were not completed, so that their items are labelled again."""
        pending = [name.removesuffix(PENDING) for name in _names(self.done) if name.endswith(PENDING)]
        if not pending:
            return
        rows = _names(self.rows)
        for name in pending:
            # There too if a task was repeated after it had ended: its rows may be half written again
            (self.done / f"{name}{ENDING}").delete()
            for file in rows:
                if file.startswith(f"{name}-"):
                    (self.rows / file).delete()
            (self.done / f"{name}{PENDING}").delete()

    def finished_names(self) -> list[str]:
        """Names X of all completed files, sorted."""
        return [name.removesuffix(ENDING) for name in _names(self.done) if not name.endswith(PENDING)]

    def row_file(self, name: str) -> Place:
        """The rows of a completed file X."""
        return self.rows / f"{name}-0{ENDING}"

    def row_files(self) -> Iterator[Place]:
        """All completed files of rows, also while a run adds more."""
        return map(self.row_file, self.finished_names())

    def finished_ids(self) -> np.ndarray:
        """Sorted ids of all items that have a row, bytes (num_items,): 32 bytes each."""
        paths = [(self.done / f"{name}{ENDING}").path for name in self.finished_names()]
        if not paths:
            return np.empty(0, ID_TYPE)
        try:
            table = pa.dataset.dataset(paths, filesystem=self.place.filesystem, format="parquet").to_table(["id"])
        except (OSError, pa.ArrowException) as error:
            raise OSError(f"{self.done} cannot be read: {first_line(error)}") from error
        return np.sort(table["id"].to_numpy().astype(ID_TYPE))

    def commit(self, rows: list[dict[str, Any]]) -> None:
        """Writes rows, completely or in such a way that the next run knows them for incomplete.

        Raises:
            OSError: of one line, if they cannot be written, as on a full disk.
        """
        name = uuid.uuid4().hex
        table, pending = table_of_rows(rows), self.done / f"{name}{PENDING}"
        pending.write_whole(_as_parquet(table.select(["id"])))
        self.row_file(name).write_whole(_as_parquet(table))
        pending.move_to(self.done / f"{name}{ENDING}")


@dataclass
class FinishedRows:
    """Counts what is completed in a folder after `before`, the names of its files until then; only footers are read."""

    folder: LabelFolder
    before: set[str]
    num_items: int = 0
    num_masks: int = 0
    counted: set[str] = field(default_factory=set)

    def update(self) -> int:
        """The number of rows that have come since the last call."""
        num_before = self.num_items
        for name in set(self.folder.finished_names()) - self.before - self.counted:
            with self.folder.row_file(name).open() as file:
                footer = pq.read_metadata(file)
            self.num_items += footer.num_rows
            self.num_masks += _num_values(footer, "masks.list.element.object")
            self.counted.add(name)
        return self.num_items - num_before


def _num_values(footer: pq.FileMetaData, column: str) -> int:
    """How many values that are not null there are in a column of a Parquet file."""
    num_values = 0
    for group in map(footer.row_group, range(footer.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            if chunk.path_in_schema == column:
                num_values += chunk.num_values - chunk.statistics.null_count
    return num_values


def _names(folder: Place) -> list[str]:
    """Names of the Parquet files in a folder, sorted; those whose writing has not ended are hidden."""
    names = folder.file_names(is_recursive=False)
    return [name for name in names if name.endswith(ENDING) and not name.startswith(".")]


def _as_parquet(table: pa.Table) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    return buffer.getvalue().to_pybytes()
