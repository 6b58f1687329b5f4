"""Files and folders wherever Arrow or fsspec reach: on this machine, `s3://…`, `gs://…`, `hf://…`, `memory://…`."""

import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

import fsspec
from pyarrow import fs

from edgetam_cli.endings import first_line

ARROW_SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")  # the others are those of fsspec
# The options at the end, such as ?region=eu-west-1, are Arrow's; a file may have a question mark in its name.
ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?]*)(.*?)((?:\?\w+=[^/]*)?)", re.IGNORECASE | re.DOTALL)


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
        parts = ADDRESS.fullmatch(text)
        if parts is None:
            return cls(fs.LocalFileSystem(), Path(text).absolute().as_posix(), text)
        scheme, host, below, options = parts.groups()
        with _reading(text, "reached"):
            try:
                if scheme.lower() not in ARROW_SCHEMES:
                    remote, path = fsspec.url_to_fs(text)
                    return cls(fs.PyFileSystem(fs.FSSpecHandler(remote)), path, text.rstrip("/"))
                filesystem, root = _arrow_filesystem(f"{scheme.lower()}://{host}/{options}")
            except ValueError as error:
                raise ValueError(f"{text} is no address of a known kind: {first_line(error)}") from error
        path = root.rstrip("/") + below.rstrip("/")
        return cls(filesystem, path or "/", f"{scheme}://{host}{below.rstrip('/')}{options}")

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> "Place":
        parts = ADDRESS.fullmatch(self.address)
        options = parts[4] if parts and parts[1].lower() in ARROW_SCHEMES else ""
        address = posixpath.join(self.address.removesuffix(options), name) + options
        return Place(self.filesystem, posixpath.join(self.path, name), address)

    @property
    def identity(self) -> str:
        """The whole path or address, by which it is known again from anywhere; without what is secret."""
        parts = ADDRESS.fullmatch(self.address)
        if parts is None:
            return os.path.abspath(self.path)
        scheme, host, below, _ = parts.groups()
        return f"{scheme}://{re.sub('^[^@:]*:[^@]*@', '', host)}{below}"

    @property
    def folder(self) -> "Place":
        """What the file lies in."""
        name = posixpath.basename(self.path)
        head, _, options = self.address.rpartition(name)
        return Place(self.filesystem, posixpath.dirname(self.path), (head.rstrip("/") or ".") + options)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, or on a disk that is mounted here."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def info(self) -> fs.FileInfo:
        """What is there: its `type` is `FileType.File`, `Directory` or `NotFound`.

        Raises:
            OSError: of one line, for what cannot be asked, as with wrong credentials.
        """
        with _reading(self):
            return self.filesystem.get_file_info(self.path)

    def open(self) -> IO[bytes]:
        """The file, open for reading at any position; see `info` for errors."""
        with _reading(self):
            self.check_ends()
            return self.filesystem.open_input_file(self.path)

    def read(self) -> bytes:
        """All bytes of the file; see `info` for errors."""
        with _reading(self):
            self.check_ends()
            with self.filesystem.open_input_stream(self.path) as file:
                return file.read()

    def check_ends(self) -> None:
        """Raises an OSError for a pipe or a device of this machine, which would be waited for without end."""
        if self.is_local and self.info().type == fs.FileType.Unknown:
            raise OSError("it is a pipe, a socket or a device, expected a file")

    def files(self, is_recursive: bool = True) -> Iterator["Place"]:
        """The files in the folder, sorted by name, and in its folders; none if it is not there."""
        for name in self.file_names(is_recursive):
            yield self / name

    def file_names(self, is_recursive: bool = True) -> list[str]:
        """Paths of these files below the folder, with `/`, sorted."""
        with _reading(self):
            paths = self._local_paths(is_recursive) if self.is_local else self._remote_paths(is_recursive)
        prefix = self.path.rstrip("/") + "/"
        return sorted(path.removeprefix(prefix) for path in paths)

    def _remote_paths(self, is_recursive: bool) -> list[str]:
        selector = fs.FileSelector(self.path, allow_not_found=True, recursive=is_recursive)
        return [info.path for info in self.filesystem.get_file_info(selector) if info.type == fs.FileType.File]

    def _local_paths(self, is_recursive: bool) -> list[str]:
        """Paths of the files; links are followed, but not in circles as Arrow does."""
        paths = []
        for folder, folders, names in os.walk(self.path, onerror=_raise, followlinks=True):
            paths += [os.path.join(folder, name).replace(os.sep, "/") for name in names]
            folders[:] = [name for name in folders if is_recursive and not _leads_back(folder, name)]
        return paths

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


@contextmanager
def _reading(place: "Place | str", verb: str = "read") -> Iterator[None]:
    """Within the block, errors are of one line that begins with the place; clouds have errors of their own."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{place}: {first_line(error)}") from error
    except (ValueError, MemoryError):
        raise
    except Exception as error:
        raise OSError(f"{place} cannot be {verb}: {first_line(error)}") from error


@lru_cache(maxsize=64)
def _arrow_filesystem(root: str) -> tuple[fs.FileSystem, str]:
    """File system and path of an address, once for all its files: clouds are asked where it lies."""
    return fs.FileSystem.from_uri(root)


def _leads_back(folder: str, name: str) -> bool:
    """Whether a folder in a folder is a link to that one, or to one above it."""
    path = os.path.join(folder, name)
    return os.path.islink(path) and f"{os.path.realpath(folder)}/".startswith(f"{os.path.realpath(path)}/")


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
