"""Names of files and folders in the data of others, which must not lead out of the folder that they belong to."""

import os
from pathlib import Path, PurePosixPath, PureWindowsPath


def inside(folder: str | Path, name: str, is_written: bool = False) -> Path:
    """Path of a file or folder, named in data, below a folder.

    Args:
        folder: what the name may not leave.
        name: relative, with / between its parts.
        is_written: whether links on the way may not lead out of the folder, either; what is read may be linked.

    Raises:
        ValueError: for a name that is no text, empty, absolute, of a drive or with `..`, or that no file can have.
    """
    if not isinstance(name, str) or not _is_below(name):
        raise ValueError(f"{name!r} names nothing inside {folder}: expected a path like part/name, without ..")
    path = Path(folder, name)
    if is_written and not path.resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(f"{path} is a link that leads out of {folder}: remove it, nothing is written there")
    return path


def check_name(name: str, what: str) -> None:
    """Raises a ValueError, which says that `what` has the name, unless it is a plain one, without a path."""
    if not isinstance(name, str) or not _is_below(name) or "/" in name or name.startswith("."):
        raise ValueError(f"{what} has the name {name!r}: expected a plain one, without / and not beginning with a dot")


def _is_below(name: str) -> bool:
    """Whether a name stays below its folder on every system."""
    try:
        is_possible = b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    is_relative = not (windows.drive or windows.root or posix.root)
    return is_possible and is_relative and bool(posix.parts) and ".." not in windows.parts
