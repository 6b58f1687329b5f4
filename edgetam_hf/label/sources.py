"""What a user writes as SOURCE, found: files, folders, patterns, lists, tables, tars, datasets, and Python objects."""

from collections.abc import Iterable
from pathlib import Path

from .items import Item, Source


def find_source(
    source: str | Path | Source | Iterable[Item | str | Path],
    *,
    is_clips: bool | None = None,
    column: str | None = None,
    name_column: str | None = None,
    pictures: str | Path | None = None,
) -> Source:
    """The `Source` of what a user names; all that can be wrong with it is found here, as far as that is cheap.

    Args:
        source: path or address of a folder, a pattern with `*`, `**`, `{000..099}` or `{train,val}`, a list file
            (.txt), Parquet files, WebDataset tars, a COCO JSON, a picture or a video file; or a `Source`, or `Item`s or
            paths.
        is_clips: whether video files and folders of frames are labelled, or pictures; None where only one of pictures
            and video files is there.
        column: column of a table that has the pictures, as paths, addresses or bytes; None if there is but one.
        name_column: column of a table that has their names; None for their path, or file/row for bytes.
        pictures: folder of the pictures of a COCO JSON; None for that of the JSON.

    Raises:
        FileNotFoundError, OSError: of one line, for what is not there, cannot be reached or not be read.
        ValueError: for what has no items, is damaged or unclear, and for names that repeat.
    """
    raise NotImplementedError
