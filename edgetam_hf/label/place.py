"""Files and folders wherever Arrow or fsspec reach: on this machine, `s3://…`, `gs://…`, `hf://…`, `memory://…`."""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import fsspec
import pyarrow as pa
from pyarrow import fs

from edgetam_cli.endings import first_line


@dataclass(frozen=True)
class Place:
    """A file or folder: a file system of Arrow and a path on it. `str()` is what the user called it."""

    filesystem: fs.FileSystem
    path: str
    address: str

    @classmethod
    def of(cls, address: str | Path) -> "Place":
        """The place of a path of this machine or of an address with `scheme://`.

        Raises:
            OSError: of one line, if its file system cannot be reached or refuses.
            ValueError, ImportError: for an unknown scheme, or one whose package is missing.
        """
        text = str(address)
        if "://" not in text:
            return cls(fs.LocalFileSystem(), Path(text).absolute().as_posix(), text)
        try:
            try:
                filesystem, path = fs.FileSystem.from_uri(text)
            except pa.ArrowInvalid:  # not one of Arrow's own
                remote, path = fsspec.url_to_fs(text)
                filesystem = fs.PyFileSystem(fs.FSSpecHandler(remote))
        except ImportError as error:
            raise ImportError(f"{text}: {first_line(error)}") from error
        except OSError as error:
            raise OSError(f"{text} cannot be reached: {first_line(error)}") from error
        except ValueError as error:
            raise ValueError(f"{text} is no address of a known kind: {first_line(error)}") from error
        return cls(filesystem, path, text.rstrip("/"))

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> "Place":
        return Place(self.filesystem, posixpath.join(self.path, name), posixpath.join(self.address, name))

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, or on a disk that is mounted here."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def info(self) -> fs.FileInfo:
        """What is there: its `type` is `FileType.File`, `Directory` or `NotFound`.

        Raises:
            OSError: of one line, for what cannot be asked, as with wrong credentials.
        """
        try:
            return self.filesystem.get_file_info(self.path)
        except OSError as error:
            raise OSError(f"{self} cannot be read: {first_line(error)}") from error

    def open(self) -> IO[bytes]:
        """The file, open for reading at any position; see `info` for errors."""
        try:
            return self.filesystem.open_input_file(self.path)
        except OSError as error:
            raise OSError(f"{self} cannot be read: {first_line(error)}") from error

    def read(self) -> bytes:
        """All bytes of the file; see `info` for errors."""
        try:
            with self.filesystem.open_input_stream(self.path) as file:
                return file.read()
        except OSError as error:
            raise OSError(f"{self} cannot be read: {first_line(error)}") from error

    def files(self, is_recursive: bool = True) -> Iterator["Place"]:
        """The files in the folder, sorted by name, and in its folders; none if it is not there."""
        selector = fs.FileSelector(self.path, allow_not_found=True, recursive=is_recursive)
        try:
            infos = self.filesystem.get_file_info(selector)
        except OSError as error:
            raise OSError(f"{self} cannot be read: {first_line(error)}") from error
        for info in sorted(infos, key=lambda info: info.path):
            if info.type == fs.FileType.File:
                yield self / posixpath.relpath(info.path, self.path)

    def file_names(self, is_recursive: bool = True) -> list[str]:
        """Paths of these files below the folder, with `/`, sorted."""
        return [posixpath.relpath(file.path, self.path) for file in self.files(is_recursive)]

    def write_whole(self, data: bytes) -> None:
        """Writes the file, with the folders above it, completely or not at all.

        Raises:
            OSError: of one line, if it cannot be written.
        """
        unfinished = posixpath.join(posixpath.dirname(self.path), f".writing_{posixpath.basename(self.path)}")
        path = unfinished if self.is_local else self.path  # object stores show a file only once it is complete
        try:
            self.filesystem.create_dir(posixpath.dirname(self.path), recursive=True)
            with self.filesystem.open_output_stream(path) as file:
                file.write(data)
            if path != self.path:
                self.filesystem.move(path, self.path)
        except OSError as error:
            raise OSError(f"could not write {self}: {first_line(error)}") from error

    def move_to(self, target: "Place") -> None:
        """Gives the file another place on the same file system; raises an OSError of one line if it cannot."""
        try:
            self.filesystem.move(self.path, target.path)
        except OSError as error:
            raise OSError(f"could not write {target}: {first_line(error)}") from error

    def delete(self) -> None:
        """Removes the file, if it is there."""
        if self.info().type == fs.FileType.File:
            self.filesystem.delete_file(self.path)
