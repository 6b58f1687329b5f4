"""Files and folders that are written whole or not at all, whatever ends the process that writes them.

What is not finished lies beside its target, hidden, as `.writing_NAME_…`: it is not taken for one of the files of a
folder, and `output_folder.py` knows it for what a killed process has left.
"""

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = ".writing_"
LONGEST_NAME = 100  # of the target, in that of its unfinished file: file systems allow 255 bytes in all


def unfinished_prefix(path):
    """What the names of all unfinished files and folders of a target begin with."""
    return f"{UNFINISHED}{Path(path).name.encode()[:LONGEST_NAME].decode(errors='ignore')}_"


@contextmanager
def whole_file(path):
    """Path of a temporary file that takes the place of `path` when the block ends, and vanishes if it raises."""
    path = Path(path)
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
    """
    path = Path(path).absolute()
    check_free(path)
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
        raise ValueError(f"folder {path} is not empty: name a new one, or remove what is in it")
    if os.path.lexists(path) and not path.is_dir():
        raise ValueError(f"{path} is a file, expected a new or empty folder: name another one")


def save_whole(image, path):
    """Writes a picture to a path, completely or not at all."""
    with whole_file(path) as temporary:
        image.save(temporary)


def write_json_whole(data, path):
    """Writes data as JSON to a path, completely or not at all."""
    with whole_file(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(data, file, allow_nan=False)
