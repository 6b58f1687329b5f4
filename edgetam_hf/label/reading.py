"""Pictures of items, read without trust."""

import warnings
from functools import cache

import numpy as np
from PIL import Image

from ..pictures_edgetam import read_picture
from .items import Item
from .place import Place


def read_pixels(item: Item) -> np.ndarray:
    """uint8 array (H, W, 3) of the picture of an item, upright; see `read_picture` and `Place` for errors."""
    accept_large_pictures()
    if item.data is not None:
        return read_picture(item.data, item.name)
    if item.address is None:
        raise ValueError(f"{item.name} has neither an address nor data: its dataset gave no picture")
    return read_picture(Place.of(item.address).read(), item.name)


@cache
def accept_large_pictures() -> None:
    """Makes Pillow silent, in this process, about large pictures that it takes."""
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
