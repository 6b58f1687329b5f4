"""Output folders: one run at a time writes to them, and what killed ones have left unfinished is removed."""

import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from .whole_files import UNFINISHED, check_parent, unfinished_prefix

LOCK = ".lock"


@contextmanager
def locked(folder, is_needed=True):
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
            for path in made:
                path.rmdir()


@contextmanager
def reserved(path):
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
def _held(lock, target):
    """Holds a lock file, which is there only as long as it is held."""
    while True:
        holder = filelock.FileLock(lock, timeout=0)
        try:
            holder.acquire()
        except filelock.Timeout as error:
            raise ValueError(
                f"another run is writing to {target}: wait until it is done, or choose another --output"
            ) from error
        if os.path.lexists(lock):
            break
        holder.release()  # the one before was about to remove the file when it was opened
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open
            os.unlink(lock)
        holder.release()


def _make(folder):
    """Makes a folder and those above it; returns those that are new, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{folder} is a file, or lies below one: --output must be a folder") from error
    return missing


def remove(path):
    """Removes a file, a link or a folder with all that is in it, not what a link points to."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
