"""Masks as polygons, and the text files of YOLO that hold them."""

from collections.abc import Sequence

import numpy as np

from ..found_objects import CutMask

try:
    from skimage import measure
except ImportError:
    measure = None

TOLERANCE = 0.5  # pixels that a corner may be off when it is left out


def check_library() -> None:
    """Raises an ImportError without the library that follows outlines."""
    if measure is None:
        raise ImportError("--format yolo needs scikit-image: pip install scikit-image")


def rings_of(mask: CutMask) -> list[np.ndarray]:
    """Closed rings of a `CutMask`, float arrays (N, 2) of (x, y) in pixels of the picture, the largest first.

    They run along the edges of pixels: the pixel at column x covers x to x + 1. Filled by the even-odd rule, they give
    the parts of the mask without its holes.
    """
    rings = []
    for contour in measure.find_contours(mask.widened(1).astype(np.float32), 0.5):
        ring = measure.approximate_polygon(contour, TOLERANCE)
        ring = (ring if len(ring) > 3 else contour)[:-1, ::-1]  # the last corner is the first one again
        rings.append(ring - 0.5 + (mask.left, mask.top))
    return sorted(rings, key=lambda ring: -np.prod(np.ptp(ring, axis=0)))


def joined(rings: Sequence[np.ndarray]) -> np.ndarray:
    """One ring (N, 2) of many: each is joined to those before it where they are nearest, by a cut of no width."""
    whole = rings[0]
    for ring in rings[1:]:
        whole_idx, ring_idx = _nearest(whole, ring)
        ring = np.roll(ring, -ring_idx, axis=0)
        whole = np.concatenate([whole[: whole_idx + 1], ring, ring[:1], whole[whole_idx:]])
    return whole


def _nearest(first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    """Indices in both rings of the two corners that are nearest to each other."""
    best = (np.inf, 0, 0)
    for start in range(0, len(first), 4096):  # in parts, which need little memory
        x, y = np.moveaxis(first[start : start + 4096, None] - second, -1, 0)
        distances = x * x + y * y
        idx = int(distances.argmin())
        row, column = divmod(idx, len(second))
        best = min(best, (float(distances.flat[idx]), start + row, column))
    return best[1:]


def yolo_text(masks: Sequence[CutMask], classes: Sequence[int] | None = None) -> str:
    """Lines `CLASS x y x y …` of the masks, in fractions of the picture's width and height; none for empty masks.

    An object is one line, as YOLO expects: further parts and holes are joined to its largest part by cuts without
    width.

    Args:
        masks: of one picture.
        classes: number of each mask's class, from 0 on; all are of class 0 unless given.
    """
    lines = []
    for mask, number in zip(masks, classes or [0] * len(masks)):
        if mask.area:
            fractions = (joined(rings_of(mask)) / (mask.width, mask.height)).clip(0, 1)
            lines.append(f"{number} " + " ".join(f"{fraction:.6g}" for fraction in fractions.ravel().tolist()) + "\n")
    return "".join(lines)
