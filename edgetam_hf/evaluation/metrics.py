"""J and F of masks, as davis2017-evaluation defines them.

Shapes: masks are boolean arrays (H, W).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..found_objects import CutMask

try:
    from scipy.spatial import KDTree
except ImportError:
    KDTree = None

TOLERANCE = 0.008  # of the diagonal of the picture
NUM_QUARTERS = 4


def region_similarity(mask: np.ndarray, truth: np.ndarray) -> float:
    """J, the IoU of a mask with the true one, in [0, 1]; 1 where both are empty.

    Args:
        mask, truth: boolean arrays (H, W).
    """
    _check_sizes(mask, truth)
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def boundary_measure(mask: np.ndarray, truth: np.ndarray) -> float:
    """F, the harmonic mean of precision and recall of a mask's boundary, in [0, 1]; 1 where both have none.

    A boundary pixel is right if the other boundary has a pixel within `boundary_tolerance`: the same as to lie in its
    dilation by a disk of that radius.

    Args:
        mask, truth: boolean arrays (H, W).
    """
    _check_sizes(mask, truth)
    found, true = boundary_pixels(mask), boundary_pixels(truth)
    if len(found) == 0 or len(true) == 0:
        return float(len(found) == len(true))
    tolerance = boundary_tolerance(mask.shape)
    precision, recall = _share_near(found, true, tolerance), _share_near(true, found, tolerance)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_tolerance(size: tuple[int, int]) -> int:
    """Distance in pixels at which a boundary still counts as found in a picture of size (height, width)."""
    return int(np.ceil(TOLERANCE * np.linalg.norm(size)))


def boundary_pixels(mask: np.ndarray) -> np.ndarray:
    """Integers (N, 2), (row, column) of the pixels that differ from their right, lower or lower right neighbour.

    Beyond the picture the mask goes on as on its border, so that the border itself is no boundary.
    """
    box = CutMask.of(mask).box
    if box is None:
        return np.zeros((0, 2), int)
    # nothing changes farther than one pixel from the mask
    left, top = max(box[0] - 1, 0), max(box[1] - 1, 0)
    part = np.pad(mask[top : box[3] + 2, left : box[2] + 2], ((0, 1), (0, 1)), "edge")
    inner = part[:-1, :-1]
    differs = (inner ^ part[:-1, 1:]) | (inner ^ part[1:, :-1]) | (inner ^ part[1:, 1:])
    return np.argwhere(differs) + np.array([top, left])


def _share_near(pixels: np.ndarray, others: np.ndarray, distance: float) -> float:
    """Share of pixels (N, 2) that have one of the others (M, 2) within a distance."""
    check_scipy()
    nearest, _ = KDTree(others).query(pixels, distance_upper_bound=distance + 1)
    return np.count_nonzero(nearest <= distance) / len(pixels)


def _check_sizes(mask: np.ndarray, truth: np.ndarray) -> None:
    for name, array in (("mask", mask), ("truth", truth)):
        if array.dtype != bool or array.ndim != 2:
            raise TypeError(f"{name} must be a boolean array (H, W), got {array.dtype} {array.shape}")
    if mask.shape != truth.shape:
        raise ValueError(f"mask and truth must have one size, got {mask.shape} and {truth.shape}")


def check_scipy() -> None:
    """Raises an ImportError without SciPy."""
    if KDTree is None:
        raise ImportError("the boundary measure F, and clicks on masks, need SciPy: pip install scipy")


# Over the frames of an object, and over objects.


@dataclass
class Statistics:
    """Mean over frames, recall (share of frames above 0.5) and decay (mean of the first quarter minus the last)."""

    mean: float
    recall: float
    decay: float


def statistics(per_frame: Sequence[float]) -> Statistics:
    """`Statistics` of an object's J or F, one per frame.

    The quarters overlap by a frame, as in davis2017-evaluation.
    """
    values = np.asarray(per_frame, float)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"values must be one per frame, at least one, got shape {values.shape}")
    # 1e-10 rounds halves up
    edges = (np.round(np.linspace(1, len(values), NUM_QUARTERS + 1) + 1e-10) - 1).astype(int)
    first, last = values[: edges[1] + 1], values[edges[-2] :]
    return Statistics(float(values.mean()), float((values > 0.5).mean()), float(first.mean() - last.mean()))


def total(per_object: Sequence[tuple[Statistics, Statistics]]) -> dict[str, float]:
    """Means over objects: J_mean, J_recall, J_decay, the same of F, and J&F.

    Args:
        per_object: list of pairs (J, F) of `Statistics`, at least one.
    """
    totals = {}
    for name, column in zip("JF", zip(*per_object)):
        for measure in ("mean", "recall", "decay"):
            totals[f"{name}_{measure}"] = float(np.mean([getattr(of_object, measure) for of_object in column]))
    return {"J&F": (totals["J_mean"] + totals["F_mean"]) / 2, **totals}
