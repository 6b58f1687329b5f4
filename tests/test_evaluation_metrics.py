"""J and F on masks with known answers."""

import numpy as np
import pytest
from scipy import ndimage

from edgetam_hf.evaluation.metrics import (
    boundary_measure,
    boundary_pixels,
    boundary_tolerance,
    region_similarity,
    statistics,
    total,
)


def rectangle(top, left, height, width, size=(40, 60)):
    """Mask with a filled rectangle."""
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = True
    return mask


EMPTY = np.zeros((40, 60), bool)
SQUARE = rectangle(10, 20, 10, 10)


def dilated_boundary_measure(mask, truth):
    """F by its definition, on whole pictures."""

    def boundary(mask):
        padded = np.pad(mask, ((0, 1), (0, 1)), "edge")
        return (mask != padded[:-1, 1:]) | (mask != padded[1:, :-1]) | (mask != padded[1:, 1:])

    radius = boundary_tolerance(mask.shape)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = x**2 + y**2 <= radius**2
    found, true = boundary(mask), boundary(truth)
    precision = (found & ndimage.binary_dilation(true, disk)).sum() / found.sum()
    recall = (true & ndimage.binary_dilation(found, disk)).sum() / true.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize(
    "mask, truth, j, f",
    [
        (EMPTY, EMPTY, 1, 1),
        (SQUARE, EMPTY, 0, 0),
        (EMPTY, SQUARE, 0, 0),
        (SQUARE, SQUARE, 1, 1),
        (~EMPTY, ~EMPTY, 1, 1),
        (~EMPTY, EMPTY, 0, 1),  # the border of the picture is no boundary
        (SQUARE, rectangle(10, 21, 10, 10), 90 / 110, 1),  # one pixel, which is the tolerance here
        (SQUARE, rectangle(10, 45, 10, 10), 0, 0),
    ],
)
def test_measures_of_cases_with_known_answers(mask, truth, j, f):
    assert boundary_tolerance(mask.shape) == 1
    assert region_similarity(mask, truth) == pytest.approx(j)
    assert boundary_measure(mask, truth) == pytest.approx(f)


def test_measures_of_a_hole():
    """A filled hole costs its pixels, and its boundary in recall."""
    truth = SQUARE & ~rectangle(13, 23, 4, 4)
    outer, hole = 11 * 11 - 9 * 9, 5 * 5 - 3 * 3  # boundaries lie one pixel up and left of the objects
    assert region_similarity(SQUARE, truth) == 84 / 100
    assert (len(boundary_pixels(SQUARE)), len(boundary_pixels(truth))) == (outer, outer + hole)
    recall = outer / (outer + hole)
    assert boundary_measure(SQUARE, truth) == pytest.approx(2 * recall / (1 + recall))


def test_boundary_measure_equals_dilation_of_whole_pictures():
    generator = np.random.default_rng(0)
    for size in ((40, 60), (97, 131), (240, 200)):
        for _ in range(20):
            noise = ndimage.gaussian_filter(generator.normal(size=(2, *size)), (0, 6, 6))
            mask, truth = noise > 0.02 * generator.normal()
            assert boundary_measure(mask, truth) == pytest.approx(dilated_boundary_measure(mask, truth), abs=1e-12)


def test_statistics_of_a_fading_object():
    found = statistics([1, 1, 0.5, 0.4, 0.3, 0.2, 0.1, 0])
    assert found.mean == pytest.approx(3.5 / 8)
    assert found.recall == 2 / 8
    assert found.decay == pytest.approx((1 + 1 + 0.5) / 3 - (0.2 + 0.1 + 0) / 3)
    assert statistics([0.7]).decay == 0


def test_total_is_the_mean_over_objects():
    good, bad = statistics([1.0, 1.0]), statistics([0.0, 0.5])
    assert total([(good, good), (bad, good)])["J&F"] == pytest.approx(((1 + 0.25) / 2 + 1) / 2)


def test_measures_reject_what_does_not_match():
    with pytest.raises(ValueError, match=r"one size, got \(40, 60\) and \(40, 50\)"):
        region_similarity(SQUARE, SQUARE[:, :50])
    with pytest.raises(TypeError, match="boolean array"):
        boundary_measure(SQUARE.astype(np.uint8), SQUARE)
    with pytest.raises(ValueError, match="at least one"):
        statistics([])
