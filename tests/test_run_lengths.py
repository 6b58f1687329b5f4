"""Run lengths of strangers: what pycocotools writes is read as it reads it, and nothing else is read at all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_sources import NEEDS_COCO, compressed, run_lengths

from edgetam_hf.formats.run_lengths import decode_run_lengths, read_counts

MASKS = [np.zeros((5, 7), bool), np.ones((5, 7), bool), np.eye(6, 9, dtype=bool), np.ones((1, 1), bool)]


def random_masks():
    """Masks of any pattern, with runs from one pixel to all of a large picture."""
    generator = np.random.default_rng(0)
    for size in ((1, 40), (40, 1), (33, 57), (400, 300)):
        for share in (0.001, 0.5, 0.999):
            yield generator.random(size) < share
    yield np.kron(generator.random((5, 5)) < 0.5, np.ones((200, 300))).astype(bool)


@pytest.mark.parametrize("encode", [run_lengths, compressed])
def test_run_lengths_give_the_mask_they_were_made_of(encode):
    for mask in (*MASKS, *random_masks()):
        decoded = decode_run_lengths(encode(mask), mask.shape, "it")
        assert decoded.dtype == bool and decoded.shape == mask.shape
        np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        [],
        "abc",
        {},
        {"size": [4, 6]},
        {"counts": [24]},
        {"size": [6, 4], "counts": [24]},
        {"size": 24, "counts": [24]},
        {"size": None, "counts": [24]},
        {"size": [4, 6], "counts": None},
        {"size": [4, 6], "counts": {"a": 1}},
        {"size": [4, 6], "counts": []},
        {"size": [4, 6], "counts": [23]},
        {"size": [4, 6], "counts": [25]},
        {"size": [4, 6], "counts": [-1, 25]},
        {"size": [4, 6], "counts": [24.0]},
        {"size": [4, 6], "counts": [True, 23]},
        {"size": [4, 6], "counts": [2**70, 24]},
        {"size": [4, 6], "counts": ["24"]},
        {"size": [4, 6], "counts": ""},
        {"size": [4, 6], "counts": "abc"},
        {"size": [4, 6], "counts": "P"},  # says that more follow
        {"size": [4, 6], "counts": "o" * 40 + "0"},
        {"size": [4, 6], "counts": "ü"},
        {"size": [4, 6], "counts": "\0"},
        {"size": [4, 6], "counts": "~~~~"},
        {"size": [4, 6], "counts": "h0" * 10_000},
    ],
)
def test_run_lengths_reject_what_is_damaged(damaged):
    with pytest.raises(ValueError, match=r"^frame 3 (must|has run lengths that are damaged)"):
        decode_run_lengths(damaged, (4, 6), "frame 3")


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
def test_run_lengths_of_any_text_fill_the_picture_or_are_rejected(text):
    try:
        counts = read_counts({"size": [30, 40], "counts": text}, (30, 40), "it")
    except ValueError:
        return
    assert counts.sum() == 1200 and (counts >= 0).all()
    coco_mask = pytest.importorskip("pycocotools.mask", reason=NEEDS_COCO)
    decoded = decode_run_lengths({"size": [30, 40], "counts": text}, (30, 40), "it")
    np.testing.assert_array_equal(decoded, coco_mask.decode({"size": [30, 40], "counts": text}))


@settings(max_examples=200, deadline=None)
@given(
    bits=st.binary(min_size=6, max_size=6),
    place=st.integers(0, 50),
    character=st.characters(min_codepoint=48, max_codepoint=111),
)
def test_run_lengths_with_one_changed_character_are_those_of_pycocotools_or_rejected(bits, place, character):
    coco_mask = pytest.importorskip("pycocotools.mask", reason=NEEDS_COCO)
    mask = np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(6, 8).astype(bool)
    counts = compressed(mask)["counts"]
    place %= len(counts)
    changed = {"size": [6, 8], "counts": counts[:place] + character + counts[place + 1 :]}
    try:
        decoded = decode_run_lengths(changed, (6, 8), "it")
    except ValueError as error:
        assert "it has run lengths that are damaged" in str(error)
    else:
        np.testing.assert_array_equal(decoded, coco_mask.decode(changed))
