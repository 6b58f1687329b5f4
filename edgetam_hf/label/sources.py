"""What a user writes as SOURCE, found: files, folders, patterns, lists, tables, tars, datasets, and Python objects."""

from collections.abc import Iterable
from pathlib import Path

from ..pictures_edgetam import PICTURE_SUFFIXES
from .items import Item, Source
from .place import Place
from .source_coco import CocoSource
from .source_files import TABLE_SUFFIXES, TAR_SUFFIXES, VIDEO_SUFFIXES, find_files, has_suffix, media_of
from .source_lists import ItemList, find_listed, list_files, read_list
from .source_tables import TableSource
from .source_tars import TarSource

KINDS = {"Parquet": TABLE_SUFFIXES, "tar": TAR_SUFFIXES, "pictures and videos": PICTURE_SUFFIXES + VIDEO_SUFFIXES}


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
        source: path or address of one of these, or a pattern of such files (`*`, `**`, `{000..099}`, `{train,val}`):
            a folder of pictures or videos, with its folders; a text file (.txt) with a path or address a line, relative
            to the file; Parquet; WebDataset tars; a COCO JSON; a picture or video file. Or a `Source`, or `Item`s, or
            paths and addresses.
        is_clips: True for clips: video files, or folders of pictures, each of which is a clip. False for pictures. None
            for what is there.
        column: column of a table that has the pictures, as paths, addresses or bytes; None if there is but one.
        name_column: column of a table that has the items' names, or a part of one as in `image.path`; None for their
            paths, or FILE/ROW where the table has bytes.
        pictures: folder of the pictures of a COCO JSON; None for that of the JSON.

    Raises:
        FileNotFoundError, OSError: of one line, for what is not there, cannot be reached or not be read.
        ValueError: for what has no items, is damaged or unclear, and for names that repeat.
    """
    if not isinstance(source, str | Path):
        return source_of_python(source, is_clips)
    name = str(source)
    folder, files = find_files(name)
    first = folder / files[0] if len(files) == 1 else None
    is_json, is_list = (first is not None and has_suffix(files[0], (suffix,)) for suffix in (".json", ".txt"))
    chosen = {"--column": column, "--name-column": name_column, "--pictures": pictures}
    found = {
        kind: some
        for kind, suffixes in KINDS.items()
        if (some := [each for each in files if has_suffix(each, suffixes)])
    }
    ...
