"""Datasets as Python has them, with a length and items by number: those of PyTorch, of Hugging Face, and lists."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ..pictures_edgetam import decode_picture
from .items import PICTURE, Item
from .source_lists import split_evenly

PICTURE_KEYS = ("image", "picture", "img", "path", "file_name")  # of entries that are dictionaries, the first counts


class Dataset(Protocol):
    """What a map-style dataset is."""

    def __len__(self) -> int: ...

    def __getitem__(self, idx: int, /) -> Any: ...


def is_dataset(value: Any) -> bool:
    """Whether a value has a length and items by number."""
    is_sized = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return is_sized and not isinstance(value, str | bytes | Mapping)


@dataclass(frozen=True)
class DatasetPart:
    """Entries `start` to `end` of a whole dataset, of which `dataset` has those from `first` on; see `Part`."""

    name: str
    dataset: Dataset
    start: int
    end: int
    first: int = 0

    def __iter__(self) -> Iterator[Item]:
        for idx in range(self.start, self.end):
            name = f"{idx:08d}"
            try:
                yield item_of(self.dataset[idx - self.first], name)
            except Exception:  # a dataset raises errors of any kind, which must cost this entry only
                yield Item(name)


class DatasetSource:
    """A `Source` of pictures; they are called 00000000, 00000001, … by their numbers, and read by the workers.

    An entry is a picture as PIL picture, array (H, W, 3) of uint8, path or bytes of a file, or a dictionary or tuple
    that begins with one: as the `image` of a dataset of Hugging Face, or the first value of one of torchvision.

    Args:
        dataset: with a length and items by number; it is pickled for each part, but of a list only the part's entries.
    """

    kind = PICTURE

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.name, self.num_items = dataset, type(dataset).__name__, len(dataset)
        self.description = f"{self.name} of {self.num_items}"
        if not self.num_items:
            raise ValueError(f"{self.name} is empty: there is nothing to label")
        item_of(dataset[0], "entry 0")  # so that a dataset of something else is known at the door

    def names(self) -> Iterator[str]:
        """See `Source`."""
        return (f"{idx:08d}" for idx in range(self.num_items))

    def parts(self, num_parts: int) -> list[DatasetPart]:
        """See `Source`."""
        return [self._part(*bounds) for bounds in split_evenly(self.num_items, num_parts)]

    def _part(self, start: int, end: int) -> DatasetPart:
        name = f"{self.name} {start} to {end - 1}"
        if type(self.dataset) in (list, tuple):  # whose slices are of their kind, so that the rest need not travel
            return DatasetPart(name, self.dataset[slice(start, end)], start, end, start)  # type: ignore[index]
        return DatasetPart(name, self.dataset, start, end)


def item_of(entry: Any, name: str) -> Item:
    """The item of an entry of a dataset; pictures in memory become files without a loss.

    Raises:
        TypeError: for something else.
    """
    if isinstance(entry, Mapping):
        entry = next((entry[key] for key in PICTURE_KEYS if key in entry), None)
    if isinstance(entry, tuple) and entry:
        entry = entry[0]
    if isinstance(entry, str | Path):
        return Item(name, address=str(entry))
    if isinstance(entry, bytes):
        return Item(name, data=entry)
    if isinstance(entry, np.ndarray) and entry.dtype == np.uint8 and entry.ndim == 3 and entry.shape[2] == 3:
        entry = Image.fromarray(entry)
    if not isinstance(entry, Image.Image):
        raise TypeError(
            f"{name} of a dataset must be a picture: a PIL picture, uint8 array (H, W, 3), path or bytes, or a "
            f"dictionary with one as {' or '.join(map(repr, PICTURE_KEYS))}, got {type(entry).__name__}"
        )
    file = io.BytesIO()
    Image.fromarray(decode_picture(entry, name)).save(file, "PNG", compress_level=1)
    return Item(name, data=file.getvalue())
