"""Files and folders that are written whole or not at all, whatever ends the process that writes them.

What is not finished lies beside its target, hidden, as `.writing_NAME_…`: it is not taken for one of the files of a
folder, and `output_folder.py` knows it for what a killed process has left.
"""

import errno
import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

UNFINISHED = ".writing_"
# What systems say when a file cannot be written: of disks, quotas and limits that are full, of rights, of hardware
WRITE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
LONGEST_NAME = 100  # of the target, in that of its unfinished file: file systems allow 255 bytes in all


def unfinished_prefix(path):
    """What the names of all unfinished files and folders of a target begin with."""
    return f"{UNFINISHED}{Path(path).name.encode()[:LONGEST_NAME].decode(errors='ignore')}_"


@contextmanager
def whole_file(path):
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
def whole_folder(path):
    """Path of a temporary folder that takes the place of `path` when the block ends, and vanishes if it raises.

    Raises:
        ValueError: if there is anything at `path` but an empty folder.
        OSError: of one line that names `path`, if it cannot be written, as on a full disk.
    """
    path = Path(path).absolute()
    check_free(path)
    check_parent(path)
    with writing(path):
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


def check_free(path):
    """Raises a ValueError if there is anything at `path` but an empty folder."""
    path = Path(path)
    if path.is_dir() and any(path.iterdir()):
        raise ValueError(f"folder {path} is not empty: choose another one, or remove what is in it")
    if os.path.lexists(path) and not path.is_dir():
        raise ValueError(f"{path} is a file, expected a new or empty folder: choose another one")


def check_parent(path):
    """Raises a FileNotFoundError unless the folder that `path` lies in is there."""
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to: make it first")


@contextmanager
def writing(path):
    """Within it, an error of the system or of a library that writes says in one line what could not be written."""
    try:
        yield
    except Exception as error:
        if not is_of_writing(error):
            raise
        reason = first_line(error) if not isinstance(error, RuntimeError) else "torch could not write all of it"
        raise OSError(f"could not write {path}: {reason}{_free_space(path)}") from error


def is_of_writing(error):
    """Whether an error means that a file cannot be written: libraries have ways of their own to say so."""
    if isinstance(error, OSError):
        return error.errno in WRITE_ERRORS
    if isinstance(error, SafetensorError):
        return "I/O error" in str(error) or "os error" in str(error)
    return isinstance(error, RuntimeError) and bool(re.search("inline_container|PytorchStreamWriter", str(error)))


def first_line(error):
    """The first line of an error, or its kind where it says nothing."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _free_space(path):
    """How much the disk of a path has left, as the end of a sentence."""
    try:
        return f" ({shutil.disk_usage(Path(path).absolute().parent).free / 2**20:.0f} MB are free)"
    except OSError:
        return ""


def save_whole(image, path):
    """Writes a picture to a path, completely or not at all."""
    with whole_file(path) as temporary:
        image.save(temporary)


def write_json_whole(data, path):
    """Writes data as JSON to a path, completely or not at all."""
    with whole_file(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(data, file, allow_nan=False)
