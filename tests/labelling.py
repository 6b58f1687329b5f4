"""What the tests of labelling share: items of pictures, and labellers that are called as an engine calls them."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="labelling needs pyarrow: pip install 'edgetam-hf[label]'")

from edgetam_hf.formats.run_lengths import decode_run_lengths
from edgetam_hf.label.label_settings import LabelSettings
from edgetam_hf.label.labeller import PoisonError
from edgetam_hf.label.make_labeller import make_labeller
from edgetam_hf.loading import ModelChoice


def labeller_of(folder, batch_size=4, image_size=None, **settings):
    """A labeller as it arrives in another process."""
    choice = ModelChoice(str(folder), image_size=image_size)
    return pickle.loads(pickle.dumps(make_labeller(LabelSettings(**settings), choice, batch_size)))


def label(labeller, items):
    """The row of each item, or its `PoisonError`; all steps are pickled in between, as between processes."""
    prepared = pickle.loads(pickle.dumps([labeller.prepare(item) for item in items]))
    found = pickle.loads(pickle.dumps(labeller.label(prepared)))
    return [one if isinstance(one, PoisonError) else labeller.finish(one) for one in found]


def masks_of(row):
    """Boolean masks (H, W) of a row, by object and frame."""
    size = [row.height, row.width]
    return {
        (mask.object, mask.frame): decode_run_lengths({"size": size, "counts": mask.counts}, size, "mask")
        for mask in row.masks
    }


def assert_fits(mask, pixels, height, width):
    """What a `MaskRow` says of its mask is so."""
    ys, xs = np.nonzero(pixels)
    assert mask.area == pixels.sum() > 0
    assert mask.bbox == [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
    assert pixels.shape == (height, width)


def assert_same_rows(actual, expected):
    """Rows are equal but for rounding, which depends on how many pictures are encoded together."""
    for one, other in zip(actual, expected, strict=True):
        assert replace(one, masks=[]) == replace(other, masks=[])
        assert [(mask.object, mask.frame, mask.point, mask.category) for mask in one.masks] == [
            (mask.object, mask.frame, mask.point, mask.category) for mask in other.masks
        ]
        scores = [[mask.score for mask in row.masks] for row in (one, other)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)
        for mask, other_mask in zip(masks_of(one).values(), masks_of(other).values(), strict=True):
            assert (mask != other_mask).sum() <= 2  # pixels on the edge
