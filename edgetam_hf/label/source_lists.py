"""Sources whose items are all known: files that were found, those of a list, and items that Python made."""

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from .items import Item
from .place import Place
from .source_files import kind_of
from .source_names import check_unique, clean_name, resolve


def split_evenly(num_items: int, num_parts: int) -> list[tuple[int, int]]:
    """(start, end) of up to `num_parts` parts that are equally long, but for one item."""
    bounds = np.linspace(0, num_items, min(num_parts, num_items) + 1).astype(int).tolist()
    return list(pairwise(bounds))


@dataclass(frozen=True)
class ListedPart:
    """Files with their names; see `Part`."""

    name: str
    kind: str
    files: pa.Table

    def __iter__(self) -> Iterator[Item]:
        for batch in self.files.to_batches(max_chunksize=1024):
            for name, address in zip(batch["name"].to_pylist(), batch["address"].to_pylist()):
                yield Item(name, self.kind, address)


class ListedSource:
    """Files by their addresses, which are kept as Arrow text: a million take as many bytes as they have characters.

    Args:
        name, kind, description: see `Source`.
        files: (name, address) of each.
    """

    def __init__(self, name: str, kind: str, description: str, files: Iterable[tuple[str, str]]) -> None:
        self.name, self.kind, self.description = name, kind, description
        columns: tuple[list[str], list[str]] = ([], [])
        for file in files:
            for column, text in zip(columns, file):
                column.append(text)
        self.files = pa.table({"name": pa.array(columns[0], pa.large_string()), "address": columns[1]})
        self.num_items = len(self.files)
        if not self.num_items:
            raise ValueError(f"{name} is empty: there is nothing to label")
        check_unique(self.names, name)

    def names(self) -> Iterator[str]:
        """See `Source`."""
        for batch in self.files["name"].chunks:
            yield from (name.as_py() for name in batch)

    def parts(self, num_parts: int) -> list[ListedPart]:
        """See `Source`."""
        parts = []
        for start, end in split_evenly(self.num_items, num_parts):
            rows = self.files.slice(start, end - start).take(pa.array(range(end - start)))  # a slice is pickled whole
            parts.append(ListedPart(f"{self.name}, items {start} to {end - 1}", self.kind, rows))
        return parts


@dataclass(frozen=True)
class ItemPart:
    """Items that are there; see `Part`."""

    name: str
    items: tuple[Item, ...]

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)


class ItemList:
    """A `Source` of items that Python made, all of one kind."""

    def __init__(self, items: Iterable[Item], name: str = "items") -> None:
        self.items, self.name = tuple(items), name
        kinds = {item.kind for item in self.items}
        if len(kinds) != 1:
            raise ValueError(f"{name} must be items of one kind, pictures or clips, got {sorted(kinds) or 'none'}")
        self.kind, self.num_items, self.description = kinds.pop(), len(self.items), name
        for item in self.items:
            if clean_name(item.name, name) != item.name:
                raise ValueError(f"{name} must have items with names like part/name, got {item.name!r}")
        check_unique(self.names, name)

    def names(self) -> Iterator[str]:
        """See `Source`."""
        return (item.name for item in self.items)

    def parts(self, num_parts: int) -> list[ItemPart]:
        """See `Source`."""
        bounds = split_evenly(self.num_items, num_parts)
        return [ItemPart(f"{self.name} {start} to {end - 1}", self.items[start:end]) for start, end in bounds]


def find_listed(
    entries: Iterable[str | Path], folder: Place, is_clips: bool | None, name: str, description: str = "list"
) -> ListedSource:
    """The source of files that a list names, from a folder on; what is not there is found when it is read."""
    paths = [str(entry).rstrip("/") for entry in entries]
    files = (resolve(path, folder) for path in paths)
    return ListedSource(name, kind_of(paths, is_clips, name), description, files)


def read_list(place: Place, is_clips: bool | None) -> ListedSource:
    """The source of a text file with a path or address a line, relative to the file; see `find_listed`."""
    try:
        text = place.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is no text in UTF-8: save it as that ({error})") from error
    lines = (line.strip() for line in text.splitlines())
    return find_listed([line for line in lines if line], place.folder, is_clips, str(place), place.identity)


def list_files(name: str, folder: Place, names: list[str], kind: str) -> ListedSource:
    """The source of files, or folders of frames, below a folder; the folder itself has an empty name."""
    own_name = posixpath.basename(folder.path)
    files = ((clean_name(file or own_name, name), str(folder / file if file else folder)) for file in names)
    return ListedSource(name, kind, Place.of(name).identity, files)
