"""What a user writes as SOURCE, found: files, folders, patterns, lists, tables, tars, datasets, and Python objects."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..pictures_edgetam import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from .items import Item, Source
from .place import Place
from .source_coco import CocoSource
from .source_datasets import Dataset, DatasetSource, is_dataset
from .source_files import TABLE_SUFFIXES, TAR_SUFFIXES, find_files, has_suffix, media_of
from .source_lists import ItemList, find_listed, list_files, read_list
from .source_tables import TableSource
from .source_tars import TarSource

SUFFIXES = {
    "pictures or videos": PICTURE_SUFFIXES + VIDEO_SUFFIXES,
    "Parquet": TABLE_SUFFIXES,
    "tars": TAR_SUFFIXES,
    "list": (".txt",),
    "COCO": (".json",),
}
MANY = ("pictures or videos", "Parquet", "tars")  # of which a folder may have many
OPTIONS = {kind: {"Parquet": ("column", "name_column"), "COCO": ("pictures",)}.get(kind, ()) for kind in SUFFIXES}


def find_source(
    source: str | Path | Source | Iterable[Item | str | Path] | Dataset,
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
            to the file; Parquet; WebDataset tars; a COCO JSON; a picture or video file. Or a `Source`; a list or
            iterator of `Item`s, or of paths and addresses; or a dataset of pictures, see `DatasetSource`.
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
        check_chosen({}, str(type(source).__name__), column=column, name_column=name_column, pictures=pictures)
        return source_of_python(source, is_clips)
    name = str(source)
    folder, files = find_files(name)
    kind = kind_of_files(name, files)
    check_chosen(OPTIONS[kind], name, column=column, name_column=name_column, pictures=pictures)
    files = [file for file in files if has_suffix(file, SUFFIXES[kind])]
    if kind == "Parquet":
        return TableSource(name, folder, files, is_clips, column=column, name_column=name_column)
    if kind == "tars":
        return TarSource(name, folder, files, is_clips)
    if kind == "COCO":
        return CocoSource(folder / files[0], pictures)
    if kind == "list":
        return read_list(folder / files[0], is_clips)
    return list_files(name, folder, *media_of(files, is_clips, name))


def kind_of_files(name: str, files: list[str]) -> str:
    """Which of `SUFFIXES` a source is, by the files that its name stands for.

    Raises:
        ValueError: for files of several kinds, and of none.
    """
    own = Place.of(name).path  # a list or a dataset is named itself, others may lie in a folder
    alone = [kind for kind in ("COCO", "list") if len(files) == 1 and has_suffix(own, SUFFIXES[kind])]
    found = alone or [kind for kind in MANY if any(has_suffix(file, SUFFIXES[kind]) for file in files)]
    if len(found) > 1:
        raise ValueError(
            f"{name} has {' and '.join(found)}: label them apart, with a pattern for each such as FOLDER/**/*.parquet"
        )
    if not found:
        raise ValueError(
            f"{name} has nothing to label: expected pictures such as .jpg or .png, videos such as .mp4, .parquet or "
            ".tar files, a list of paths in .txt, or a COCO .json"
        )
    return found[0]


def check_chosen(allowed: Collection[str], name: str, **chosen: object) -> None:
    """Raises a ValueError for an option that is given and not among those allowed for a source."""
    for option, value in chosen.items():
        if value is not None and option not in allowed:
            kinds = " or ".join(kind for kind, options in OPTIONS.items() if option in options)
            raise ValueError(f"{option}={value} is for {kinds}, and {name} is none: leave it out")


def source_of_python(source: Any, is_clips: bool | None) -> Source:
    """A `Source` as it is, or that of `Item`s, paths or a dataset."""
    if hasattr(source, "parts"):
        return source
    if isinstance(source, list | tuple | Iterator):
        source = list(source)
        if all(isinstance(entry, Item) for entry in source):
            return ItemList(source)
        if all(isinstance(entry, str | Path) for entry in source):
            return find_listed(source, Place.of("."), is_clips, "list")
    if is_dataset(source):
        return DatasetSource(source)
    raise TypeError(
        "a source must be a path or address, a Source, a list of Items or of paths, or a dataset with a length and "
        f"items by number, got {type(source).__name__}; a dataset of Ray, or one that is streamed, is written by its "
        "write_parquet or to_parquet, and the folder given"
    )
