"""Index pictures, as DAVIS and YouTube-VOS have them: each pixel has the number of the object that it shows."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..drawing.colours import colour_of
from ..files.writing import save_whole
from ..pictures_edgetam import read_index_picture

LARGEST_NUMBER = 65535  # of an object in a picture of 16 bits


def index_picture(masks: Iterable[np.ndarray | torch.Tensor], numbers: Sequence[int] | None = None) -> Image.Image:
    """PIL picture whose value is 0 for background and an object's number in its mask; later masks lie on top.

    Numbers up to 255 make a palette picture, larger ones a grey picture of 16 bits.

    Args:
        masks: boolean arrays or tensors (H, W), one per object, at least one.
        numbers: one different integer in 1..65535 per mask; 1, 2, … unless given.
    """
    masks = [as_mask(mask) for mask in masks]
    if not masks or len({mask.shape for mask in masks}) > 1:
        raise ValueError(f"masks must be at least one and of one size, got {[mask.shape for mask in masks]}")
    numbers = range(1, len(masks) + 1) if numbers is None else numbers
    is_known = all(1 <= number <= LARGEST_NUMBER for number in numbers)
    if len(numbers) != len(masks) or len(set(numbers)) != len(masks) or not is_known:
        raise ValueError(
            f"{len(masks)} masks need as many different numbers in 1..{LARGEST_NUMBER}, got {list(numbers)}"
        )
    indices = np.zeros(masks[0].shape, np.uint16)
    for number, mask in zip(numbers, masks):
        indices[mask] = number
    return picture_of_indices(indices) if max(numbers) <= 255 else Image.fromarray(indices)


def picture_of_indices(indices: np.ndarray) -> Image.Image:
    """PIL picture of integers (H, W): a palette picture, or 16 bits of grey where a number exceeds 255."""
    if indices.max() > LARGEST_NUMBER:
        raise ValueError(f"an index picture numbers at most {LARGEST_NUMBER} objects, got {indices.max()}")
    if indices.max() > 255:
        return Image.fromarray(indices.astype(np.uint16))
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette([0, 0, 0, *(channel for idx in range(255) for channel in colour_of(idx))])
    return image


def write_index_picture(masks: Iterable[np.ndarray | torch.Tensor], numbers: Sequence[int], path: str | Path) -> None:
    """Writes the PNG of `index_picture`, completely or not at all."""
    save_whole(index_picture(masks, numbers), path)


def read_numbered_masks(path: str | Path) -> dict[int, np.ndarray]:
    """Boolean mask (H, W) of each object that an index picture shows, by its number."""
    indices = read_index_picture(path, str(path))
    return {number: indices == number for number in np.flatnonzero(np.bincount(indices.ravel())).tolist() if number}


def as_mask(mask: np.ndarray | torch.Tensor) -> np.ndarray:
    """A boolean array (H, W) of a mask.

    Raises:
        TypeError: for anything else, such as logits.
    """
    mask = np.asarray(mask.cpu() if isinstance(mask, torch.Tensor) else mask)
    if mask.dtype != bool or mask.ndim != 2:
        raise TypeError(f"mask must be boolean (H, W), got {mask.dtype} {mask.shape}: compare logits with > 0")
    return mask
