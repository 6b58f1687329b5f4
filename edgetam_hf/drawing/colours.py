"""Colours for objects: those of index pictures, which never change, and those that stand out from a photograph."""

import colorsys
from typing import TypeAlias

import numpy as np

from ..found_objects import CutMask

Colour: TypeAlias = tuple[int, int, int]  # red, green and blue, in 0..255
Box: TypeAlias = tuple[int, int, int, int]

GOLDEN_RATIO = 0.618034
USED_AGAIN = 0.1  # distance that a colour loses for each mask that has it already
NUM_SAMPLES = 64  # points along each side of the sampled region of a mask and its surroundings
# Vivid ones, as many as people can tell apart
VIVID = np.array(
    [
        (255, 64, 80),
        (255, 140, 26),
        (255, 222, 40),
        (140, 235, 40),
        (20, 210, 110),
        (0, 222, 222),
        (40, 150, 255),
        (90, 90, 255),
        (170, 80, 255),
        (245, 60, 220),
        (255, 130, 180),
    ],
    np.uint8,
)


def colour_of(object_idx: int) -> Colour:
    """RGB colour of an object, in 0..255; neighbouring indices get hues far apart."""
    hue = (0.55 + object_idx * GOLDEN_RATIO) % 1
    red, green, blue = (round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 0.85, 1.0))
    return red, green, blue


def standing_out(picture: np.ndarray, masks: list[CutMask]) -> list[Colour]:
    """An RGB colour for each mask, far from what it covers, from what is around it, and from its neighbours' colours.

    Args:
        picture: uint8 array (H, W, 3).
        masks: `CutMask`s; where they crowd, the earlier ones choose first.
    """
    vivid = perceived(VIVID)
    regions: list[Box] = []
    chosen: list[int] = []
    num_uses = np.zeros(len(VIVID))
    for mask in masks:
        region = _surroundings(mask)
        neighbours = [vivid[idx] for other, idx in zip(regions, chosen) if _is_overlapping(region, other)]
        avoided = np.array([*_mean_colours(picture, mask, region), *neighbours]).reshape(-1, 3)
        distances = np.linalg.norm(vivid[:, None] - avoided, axis=-1).min(axis=1, initial=1.0)
        chosen.append(int((distances - USED_AGAIN * num_uses).argmax()))
        regions.append(region)
        num_uses[chosen[-1]] += 1
    return [tuple(VIVID[idx].tolist()) for idx in chosen]


def perceived(colours: np.ndarray) -> np.ndarray:
    """Colours (…, 3) in Oklab, where distances are about as large as they look, of RGB colours (…, 3) in 0..255."""
    linear = (np.asarray(colours, np.float64) / 255) ** 2.2
    to_cones = [[0.4122, 0.2119, 0.0883], [0.5363, 0.6807, 0.2817], [0.0514, 0.1074, 0.6300]]
    to_lab = [[0.2105, 1.9780, 0.0259], [0.7936, -2.4286, 0.7828], [-0.0041, 0.4506, -0.8087]]
    return np.cbrt(linear @ np.array(to_cones)) @ np.array(to_lab)


def _surroundings(mask: CutMask) -> Box:
    """(x_min, y_min, x_max, y_max), the last pixel not included, of a mask's box and a quarter of its size around."""
    height, width = mask.part.shape
    margin = 4 + (height + width) // 8
    left, top = max(mask.left - margin, 0), max(mask.top - margin, 0)
    return left, top, min(mask.left + width + margin, mask.width), min(mask.top + height + margin, mask.height)


def _is_overlapping(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _mean_colours(picture: np.ndarray, mask: CutMask, region: Box) -> list[np.ndarray]:
    """Mean colours under a mask and in its surroundings, without those that have no pixel."""
    rows, columns = (
        np.linspace(start, stop - 1, NUM_SAMPLES).astype(int)
        for start, stop in ((region[1], region[3]), (region[0], region[2]))
    )
    samples = perceived(picture[np.ix_(rows, columns)])
    is_covered = np.zeros((NUM_SAMPLES, NUM_SAMPLES), bool)
    part_rows, part_columns = rows - mask.top, columns - mask.left
    has_rows = (part_rows >= 0) & (part_rows < mask.part.shape[0])
    has_columns = (part_columns >= 0) & (part_columns < mask.part.shape[1])
    is_covered[np.ix_(has_rows, has_columns)] = mask.part[np.ix_(part_rows[has_rows], part_columns[has_columns])]
    return [samples[where].mean(axis=0) for where in (is_covered, ~is_covered) if where.any()]
