"""The files of rows that a run has finished, whoever else is writing beside them."""

import posixpath
from pathlib import Path

from pyarrow import fs

from .place import Place

SETTINGS, ROWS, DONE, ERRORS = "label.json", "rows", "done", "errors"  # in the folder that `edgetam label` writes
ROWS_SUFFIX, PENDING_SUFFIX = ".parquet", ".pending.parquet"


def open_labels(out: str | Path) -> Place:
    """The folder that `edgetam label` has written.

    Raises:
        ValueError: for any other folder, and one that is not there.
    """
    place = Place.of(out)
    if (place / SETTINGS).info().type != fs.FileType.File:
        raise ValueError(f"{place} has no {SETTINGS}: expected the folder that `edgetam label` has written")
    return place


def finished_files(out: Place) -> tuple[list[Place], int]:
    """(files of finished rows sorted by name, number of files that are not finished) of a folder of labels.

    A file of rows counts once the ids in it do: as long as `done/X.pending.parquet` is there, the files of rows whose
    names begin with X are of a part that is being written, or that a killed run will write anew.
    """
    # Rows first: what is pending is noted before its rows are written, and taken back after them
    files = [place for place in (out / ROWS).files() if _name(place).endswith(ROWS_SUFFIX) and _name(place)[0] != "."]
    done = [_name(place) for place in (out / DONE).files()]
    pending = tuple(name.removesuffix(PENDING_SUFFIX) for name in done if name.endswith(PENDING_SUFFIX))
    finished = [place for place in files if not _name(place).startswith(pending)]
    return finished, len(files) - len(finished)


def _name(place: Place) -> str:
    return posixpath.basename(place.path)
