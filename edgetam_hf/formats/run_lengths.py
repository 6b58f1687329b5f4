"""Run lengths of masks as COCO has them; read without trust, for pycocotools writes past its memory for damaged ones.

A mask (H, W) is read column by column: a run of background, one of the object, and so on; their lengths add up to the
number of pixels. `counts` lists the lengths, or writes them as text: each number has 5 bits per character, the lowest
first; the sixth bit of a character says that more follow, and the fifth bit of the last character is the sign. From the
fourth length on, the number is the difference to the last length but one.
"""

from collections.abc import Sequence
from types import ModuleType

import numpy as np

from ..found_objects import CutMask

try:
    from pycocotools import mask as coco_mask
except ImportError:
    coco_mask = None

BITS, MORE, SIGN = 5, 32, 16
FIRST_CHARACTER = 48
LONGEST_NUMBER = 7  # characters: 35 bits, more than any picture has pixels


def pycocotools() -> ModuleType:
    """`pycocotools.mask`.

    Raises:
        ImportError: with what to install, if it is not there.
    """
    if coco_mask is None:
        raise ImportError("run lengths of masks need pycocotools: pip install pycocotools")
    return coco_mask


def compress(mask: CutMask) -> dict:
    """COCO's compressed run lengths `{"size": [H, W], "counts": str}` of a mask."""
    rle = pycocotools().frPyObjects(mask.run_lengths(), mask.height, mask.width)
    return {"size": [mask.height, mask.width], "counts": rle["counts"].decode("ascii")}


def read_counts(run_lengths: dict, size: Sequence[int], name: str) -> np.ndarray:
    """int64 array (N,) of the lengths of runs, background first.

    Args:
        run_lengths: `{"size": [H, W], "counts": …}`, a list of lengths or compressed text.
        size: (H, W) that the mask must have.
        name: what errors call it.

    Raises:
        ValueError: for anything else, and for lengths that do not fill just that size.
    """
    is_named = isinstance(run_lengths, dict) and {"size", "counts"} <= run_lengths.keys()
    if not is_named or not isinstance(run_lengths["counts"], (str, bytes, list)):
        raise ValueError(
            f'{name} must be run lengths {{"size": [H, W], "counts": text or list}}, got {str(run_lengths)[:100]}'
        )
    if not isinstance(run_lengths["size"], (list, tuple)) or list(run_lengths["size"]) != list(size):
        raise ValueError(f"{name} must have run lengths of size {list(size)}, got {str(run_lengths['size'])[:100]}")
    counts = run_lengths["counts"]
    num_pixels = int(size[0]) * int(size[1])
    lengths = _to_array(counts, num_pixels) if isinstance(counts, list) else _decompress(counts)
    if lengths is None or (lengths < 0).any() or (lengths > num_pixels).any() or lengths.sum() != num_pixels:
        raise ValueError(f"{name} has run lengths that are damaged: they do not add up to {size[0]} x {size[1]} pixels")
    return lengths


def decode_run_lengths(run_lengths: dict, size: Sequence[int], name: str) -> np.ndarray:
    """Boolean mask (H, W) of run lengths; see `read_counts`."""
    lengths = read_counts(run_lengths, size, name)
    is_object = np.arange(len(lengths)) % 2 == 1
    return np.ascontiguousarray(np.repeat(is_object, lengths).reshape(size[1], size[0]).T)


def _to_array(counts: list, num_pixels: int) -> np.ndarray | None:
    """Array of a list of lengths; None if they are no numbers of pixels."""
    if not all(type(count) is int and 0 <= count <= num_pixels for count in counts):
        return None
    return np.array(counts, np.int64)


def _decompress(text: str | bytes) -> np.ndarray | None:
    """Array of lengths of compressed text; None if it is damaged."""
    try:
        codes = np.frombuffer(text.encode("ascii") if isinstance(text, str) else text, np.uint8).astype(np.int64)
    except UnicodeEncodeError:
        return None
    codes -= FIRST_CHARACTER
    is_last = (codes & MORE) == 0
    if not len(codes) or (codes < 0).any() or (codes >= 2 * MORE).any() or not is_last[-1]:
        return None
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    num_characters = ends - starts + 1
    if num_characters.max() > LONGEST_NUMBER:
        return None
    places = np.arange(len(codes)) - np.repeat(starts, num_characters)
    lengths = np.add.reduceat((codes & (MORE - 1)) << (BITS * places), starts)
    is_negative = (codes[ends] & SIGN) != 0
    lengths -= np.where(is_negative, np.left_shift(1, BITS * num_characters), 0)
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    return lengths
