"""Files and folders that are written whole or not at all, by one run at a time, whatever ends the process.

What is not finished lies beside its target, hidden, as `.writing_NAME_…`: it is not taken for one of the files of a
folder, and the next run knows it for what a killed process has left, and removes it.
"""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock
from PIL import Image
from safetensors import SafetensorError

from edgetam_cli.endings import first_line

UNFINISHED = ".writing_"
LOCK = ".lock"
# Errors of a system that cannot write a file: a full disk, quota or limit, missing rights, broken hardware
WRITE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
LONGEST_NAME = 100  # bytes of the target's name in that of its unfinished file: file systems allow 255 in all


def unfinished_prefix(path: str | Path) -> str:
    """What the names of all unfinished files and folders of a target begin with."""
    return f"{UNFINISHED}{Path(path).name.encode()[:LONGEST_NAME].decode(errors='ignore')}_"


# Files and folders.


@contextmanager
def whole_file(path: str | Path) -> Iterator[str]:
    """Path of a temporary file that takes the place of `path` when the block ends, and vanishes if it raises.

    Raises:
        OSError: of one line that names `path`, if it cannot be written, as on a full disk.
    """
    path = Path(path)
    check_parent(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file, such as {path / 'name'}")
    with writing(path):
        handle, temporary = tempfile.mkstemp(prefix=unfinished_prefix(path), suffix=path.suffix, dir=path.parent)
        os.close(handle)
        try:
            yield temporary
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Path of a temporary folder that takes the place of `path` when the block ends, and vanishes if it raises.

    No other run writes `path` at the same time; see `reserved`.

    Raises:
        ValueError: if there is anything at `path` but an empty folder, and if another run is making it.
        OSError: of one line that names `path`, if it cannot be written, as on a full disk.
    """
    path = Path(path).absolute()
    check_free(path)
    with reserved(path), writing(path):
        temporary = Path(tempfile.mkdtemp(prefix=unfinished_prefix(path), dir=path.parent))
        try:
            yield temporary
            os.chmod(temporary, 0o755)
            if path.exists():
                path.rmdir()  # empty, or this fails
            os.rename(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def save_whole(image: Image.Image, path: str | Path) -> None:
    """Writes a picture to a path, completely or not at all."""
    with whole_file(path) as temporary:
        image.save(temporary)


def write_json_whole(data: Any, path: str | Path) -> None:
    """Writes data as JSON to a path, completely or not at all."""
    with whole_file(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(data, file, allow_nan=False)


def check_free(path: str | Path) -> None:
    """Raises a ValueError if there is anything at `path` but an empty folder."""
    path = Path(path)
    if path.is_dir() and any(path.iterdir()):
        raise ValueError(f"folder {path} is not empty: choose another one, or remove what is in it")
    if os.path.lexists(path) and not path.is_dir():
        raise ValueError(f"{path} is a file, expected a new or empty folder: choose another one")


def check_parent(path: str | Path) -> None:
    """Raises a FileNotFoundError unless the folder that `path` lies in is there."""
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to: make it first")


def remove(path: str | Path) -> None:
    """Removes a file, a link or a folder with all that is in it, not what a link points to."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


# One run at a time.


@contextmanager
def locked(folder: str | Path, is_needed: bool = True) -> Iterator[Path]:
    """The folder, which no other run writes to within the block; the operating system frees it when a process dies.

    The folder is made if it is not there, and goes again if nothing is in it in the end. What a killed run left
    unfinished in it is removed.

    Args:
        folder: where a run writes.
        is_needed: whether to do any of this; of several processes that share a run only the first one does.

    Raises:
        ValueError: if another run is writing there, and for a file.
        OSError: if the folder cannot be made or written to.
    """
    folder = Path(folder)
    if not is_needed:
        yield folder
        return
    made = _make(folder)
    try:
        with _held(folder / LOCK, folder):
            for path, names, files in os.walk(folder):
                for name in [*names, *files]:
                    if name.startswith(UNFINISHED):
                        remove(Path(path, name))
            yield folder
    finally:
        with suppress(OSError):  # not empty
            for new in made:
                new.rmdir()


@contextmanager
def reserved(path: str | Path) -> Iterator[Path]:
    """The path of a new file or folder, which no other run makes within the block; see `locked`.

    What a killed run left unfinished of it is removed; other things beside it stay.

    Raises:
        ValueError: if another run is making it.
        OSError: if there is no folder to make it in, or that cannot be written to.
    """
    path, prefix = Path(path), unfinished_prefix(path)
    parent = path.absolute().parent
    check_parent(path)
    lock = parent / f"{prefix}{LOCK}"
    with _held(lock, path):
        for entry in parent.iterdir():
            if entry.name.startswith(prefix) and entry != lock:
                remove(entry)
        yield path


@contextmanager
def _held(lock: Path, target: Path) -> Iterator[None]:
    """Holds a lock file, which is there only as long as it is held."""
    while True:
        holder = filelock.FileLock(lock, timeout=0)
        try:
            holder.acquire()
        except filelock.Timeout as error:
            raise ValueError(
                f"another run is writing to {target}: wait until it is done, or choose another place"
            ) from error
        if os.path.lexists(lock):
            break
        holder.release()  # its last holder removed the file after it was opened here
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open
            os.unlink(lock)
        holder.release()


def _make(folder: Path) -> list[Path]:
    """Makes a folder and those above it; returns those that are new, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{folder} is a file, or lies below one: results go into a folder") from error
    return missing


# Errors.


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Within the block, an error of writing, from the system or a library, becomes one line that names the path."""
    try:
        yield
    except Exception as error:
        if not is_of_writing(error):
            raise
        reason = getattr(error, "strerror", None) or first_line(error)
        reason = "torch could not write all of it" if isinstance(error, RuntimeError) else reason
        raise OSError(f"could not write {path}: {reason}{_free_space(path)}") from error


def is_of_writing(error: Exception) -> bool:
    """Whether an error means that a file cannot be written: libraries have ways of their own to say so."""
    if isinstance(error, OSError):
        return error.errno in WRITE_ERRORS
    if isinstance(error, SafetensorError):
        return "I/O error" in str(error) or "os error" in str(error)
    return isinstance(error, RuntimeError) and bool(re.search("inline_container|PytorchStreamWriter", str(error)))


def _free_space(path: str | Path) -> str:
    """How much the disk of a path has left, as the end of a sentence."""
    try:
        return f" ({shutil.disk_usage(Path(path).absolute().parent).free / 2**20:.0f} MB are free)"
    except OSError:
        return ""
