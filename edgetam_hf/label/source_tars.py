"""WebDataset: tar files of pictures or videos, read as a stream; each tar is a part."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgetam_cli.endings import first_line

from ..pictures_edgetam import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from .items import CLIP, Item
from .place import Place
from .source_files import TAR_SUFFIXES, has_suffix, kind_of
from .source_names import check_unique, clean_name, key_of

BYTES_AT_ONCE = 2**22  # that are asked of a disk or a cloud


class StrictTarInfo(tarfile.TarInfo):
    """A member of a tar, which must be whole: Python takes a damaged header for the end."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> Any:
        """The member of a header; the end is a block of zeros."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(str(error)) from error


@dataclass(frozen=True)
class TarPart:
    """The pictures or videos of a tar, which are called TAR/MEMBER, without the suffix of the tar; see `Part`."""

    folder: Place
    tar: str
    suffixes: tuple[str, ...]
    kind: str = CLIP

    @property
    def name(self) -> str:
        """The address of the tar."""
        return str(self.folder / self.tar)

    def __iter__(self) -> Iterator[Item]:
        prefix = without_suffix(self.tar)
        keys: set[int] = set()
        try:
            with (
                (self.folder / self.tar).open() as stream,
                tarfile.open(fileobj=stream, mode="r|*", bufsize=BYTES_AT_ONCE, tarinfo=StrictTarInfo) as tar,
            ):
                for member in tar:
                    name = clean_name(member.name, self.name)
                    is_hidden = name.startswith(".") or "/." in name
                    if not member.isreg() or is_hidden or not has_suffix(name, self.suffixes):
                        continue
                    if key_of(name) in keys:
                        raise ValueError(f"{self.name} has several members called {name!r}")
                    file = tar.extractfile(member)
                    data = file.read() if file else b""
                    if len(data) < member.size:
                        raise tarfile.ReadError("unexpected end of data")
                    keys.add(key_of(name))
                    yield Item(f"{prefix}/{name}", self.kind, data=data)
                    tar.members.clear()  # type: ignore[attr-defined]  # which keeps all headers
        except tarfile.TarError as error:
            raise ValueError(
                f"{self.name} is no tar, or it is damaged or cut off, after {len(keys)} items: {first_line(error)}"
            ) from error
        except OSError as error:
            raise OSError(f"{self.name} broke off after {len(keys)} items: {first_line(error)}") from error


def without_suffix(tar: str) -> str:
    """The path of a tar without its suffix."""
    return next(tar[: -len(suffix)] for suffix in TAR_SUFFIXES if has_suffix(tar, (suffix,)))


class TarSource:
    """Tars of a folder; see `Source`. How many items there are only reading tells."""

    num_items = None

    def __init__(self, name: str, folder: Place, tars: list[str], is_clips: bool | None) -> None:
        self.name, self.description = name, Place.of(name).identity
        self.folder, self.tars = folder, tars
        check_unique(lambda: map(without_suffix, tars), name)
        self.kind = kind_of([self._first_name(is_clips)], is_clips, name)

    def _first_name(self, is_clips: bool | None) -> str:
        """Name of the first item of all."""
        suffixes = {None: PICTURE_SUFFIXES + VIDEO_SUFFIXES, True: VIDEO_SUFFIXES, False: PICTURE_SUFFIXES}[is_clips]
        for tar in self.tars:
            for item in TarPart(self.folder, tar, suffixes):
                return item.name
        raise ValueError(f"{self.name} has no member that is a picture or a video, such as .jpg or .mp4")

    def names(self) -> None:
        """See `Source`."""
        return None

    def parts(self, num_parts: int) -> list[TarPart]:
        """A part for each tar."""
        suffixes = VIDEO_SUFFIXES if self.kind == CLIP else PICTURE_SUFFIXES
        return [TarPart(self.folder, tar, suffixes, self.kind) for tar in self.tars]
