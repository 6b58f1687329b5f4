"""What items are called: relative paths with `/`, each once in a source, and 64-bit keys to compare millions."""

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

import numpy as np

from .place import Place


def key_of(name: str) -> int:
    """64-bit hash of a name, by which tables are sorted and searched."""
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def keys_of(names: Iterable[str]) -> np.ndarray:
    """uint64 (N,) of the keys of N names, in their order."""
    return np.fromiter(map(key_of, names), np.uint64)


def check_unique(names: Callable[[], Iterator[str]], source: str) -> None:
    """Raises a ValueError, which says that it is of the source, if names repeat.

    Args:
        names: gives the names, and gives them again if keys are equal.
    """
    keys, counts = np.unique(keys_of(names()), return_counts=True)
    repeated = set(keys[counts > 1].tolist())
    if repeated:
        seen = set()
        for name in names():
            if name in seen:
                raise ValueError(
                    f"{source} has several items called {name!r}: each needs a name of its own, by which its result "
                    "is found again"
                )
            if key_of(name) in repeated:
                seen.add(name)


def clean_name(name: str, source: str) -> str:
    """A name in data as a relative path with `/`, without `.` and empty parts.

    Raises:
        ValueError: for one that is empty, leads out of its source, or is no text in UTF-8.
    """
    cleaned = posixpath.normpath(name).lstrip("/")
    try:
        is_possible = cleaned.encode() and b"\0" not in cleaned.encode()
    except UnicodeEncodeError:  # bytes of a file name that are no UTF-8
        is_possible = False
    if not is_possible or cleaned in (".", "..") or cleaned.startswith("../"):
        raise ValueError(f"{source} names an item {name!r}: expected a path like part/name, without .. and in UTF-8")
    return cleaned


def resolve(entry: str, folder: Place) -> tuple[str, str]:
    """(name, address) of a file that a list or table in a folder names by its path or address.

    What lies in the folder is named by its path from there, anything else by its whole path.
    """
    if "://" in entry:
        inside = f"{folder}/"
        path = entry.removeprefix(inside) if entry.startswith(inside) else entry.partition("://")[2]
        return clean_name(path, str(folder)), entry
    path = posixpath.normpath(posixpath.join(folder.path, entry.replace(os.sep, "/")))
    inside = f"{folder.path.rstrip('/')}/"
    if path.startswith(inside):
        name = clean_name(path.removeprefix(inside), str(folder))
        return name, str(folder / name)
    if not folder.is_local:
        raise ValueError(f"{folder} has a file that names {entry}, outside of it: write the whole address, scheme://…")
    return clean_name(path, str(folder)), path
