"""Clips of items, on this machine for as long as they are read."""

import posixpath
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyarrow.fs import FileType

from ..files.names import inside
from ..pictures_edgetam import PICTURE_SUFFIXES
from ..video_frames_edgetam import Frames, open_video
from .items import Item
from .place import Place


def is_remote(item: Item) -> bool:
    """Whether the clip of an item has to come over a network."""
    return item.data is None and item.address is not None and not Place.of(item.address).is_local


@contextmanager
def opened_clip(item: Item) -> Iterator[Frames]:
    """The frames of a video file or of a folder of pictures; what is not on this machine is copied while they are read.

    Raises:
        OSError: of one line, for what cannot be fetched.
        ValueError: for what is missing or no video.
    """
    if item.data is None and item.address is None:
        raise ValueError(f"{item.name} has neither an address nor data")
    if item.data is None and not is_remote(item):
        place = Place.of(item.address or "")
        place.check_ends()
        yield open_video(place.path)
        return
    with tempfile.TemporaryDirectory(prefix="edgetam_clip_", ignore_cleanup_errors=True) as folder:
        yield open_video(_copied(item, Path(folder)))


def check_is_there(item: Item) -> None:
    """Raises a ValueError unless there is something at the address of an item; see `Place.info` for other errors."""
    if Place.of(item.address or "").info().type == FileType.NotFound:
        raise ValueError(f"{item.name}: there is no {item.address}")


def _copied(item: Item, folder: Path) -> Path:
    """Path of the clip of an item once it is copied into a folder."""
    if item.data is not None:
        path = inside(folder, posixpath.basename(item.name))
        path.write_bytes(item.data)
        return path
    check_is_there(item)
    place = Place.of(item.address or "")
    if place.info().type == FileType.File:
        return _fetched(place, folder)
    for file in place.files(is_recursive=False):
        if posixpath.splitext(file.path)[1].lower() in PICTURE_SUFFIXES:
            _fetched(file, folder)
    return folder


def _fetched(place: Place, folder: Path) -> Path:
    """Path of a file once it is copied into a folder."""
    path = inside(folder, posixpath.basename(place.path))
    with place.open() as source, path.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    return path
