"""Pictures of masks: overlays in colours that stand out, numbers, legends and index pictures."""

import numpy as np
import pytest
from PIL import Image

from edgetam_hf.drawing.colours import VIVID, colour_of, perceived, standing_out
from edgetam_hf.drawing.legend import explained_picture, topmost
from edgetam_hf.drawing.overlays import overlay, write_numbers
from edgetam_hf.files.writing import save_whole
from edgetam_hf.formats.index_pictures import index_picture, picture_of_indices
from edgetam_hf.found_objects import CutMask, FoundObject


def square(x, y, side, size=(200, 300)):
    """Boolean mask (H, W) of a square."""
    mask = np.zeros(size, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def found(number, *place, **facts):
    return FoundObject(number, CutMask.of(square(*place)), 0.9, **facts)


def grey(level, size=(200, 300)):
    return np.full((*size, 3), level, np.uint8)


def test_overlay_tints_the_mask_and_darkens_only_what_touches_it():
    picture, mask = grey(100), square(50, 60, 40)
    before = picture.copy()
    drawn = np.asarray(overlay(picture, [mask]))
    assert (drawn[mask] != 100).any(axis=-1).all() and (picture == before).all()
    assert (drawn[~square(49, 59, 42)] == 100).all() and (drawn[59, 50:90] < 100).all()
    assert drawn[60, 70].tolist() == list(colour_of(0))  # the border
    assert drawn[80, 70].tolist() == pytest.approx((100 + np.array(colour_of(0))) / 2, abs=1)


def test_overlay_keeps_colours_by_number():
    picture, masks = grey(100), [square(10, 10, 30), square(100, 10, 30)]
    both = np.asarray(overlay(picture, masks, numbers=[3, 9]))
    alone = np.asarray(overlay(picture, masks[1:], numbers=[9]))
    assert np.array_equal(both[:, 90:], alone[:, 90:]) and not np.array_equal(both[:, :90], alone[:, :90])
    assert np.array_equal(both, overlay(picture, [CutMask.of(mask) for mask in masks], numbers=[3, 9]))


def test_overlay_draws_prompts_beyond_the_borders():
    drawn = np.asarray(overlay(grey(100), [], points=[(-2, -2, 1), (299, 100, 0)], boxes=[(-50, -50, 400, 20)]))
    assert drawn.shape == (200, 300, 3) and (drawn != 100).any()


def test_numbers_are_written_where_there_is_room():
    masks, numbers = [square(20, 20, 120), square(60, 60, 40), square(200, 20, 5), square(0, 0, 0)], [3, 1, 2, 4]
    drawn = overlay(grey(100), masks, numbers=numbers)
    before = np.array(drawn)
    write_numbers(drawn, masks, numbers, points=[(80, 80, 1)])
    changed = (np.asarray(drawn) != before).any(axis=-1)
    below = masks[0] & ~masks[1]
    assert changed[below].any() and changed[masks[1]].any()  # on both, and on neither too small nor empty ones
    assert not changed[~masks[0]].any() and not changed[75:85, 75:85].any()  # nor on a click
    alone = overlay(grey(100), masks[:1])
    write_numbers(alone, masks[:1], [1])
    rows, columns = np.nonzero((np.asarray(alone) != np.asarray(overlay(grey(100), masks[:1]))).any(axis=-1))
    assert (rows.min() + rows.max()) / 2 == pytest.approx(79.5, abs=1.5)  # in the middle
    assert (columns.min() + columns.max()) / 2 == pytest.approx(79.5, abs=1.5)


@pytest.mark.parametrize("colour", VIVID.tolist())
def test_colours_stand_out_from_any_ground(colour):
    picture = np.broadcast_to(np.array(colour, np.uint8), (200, 300, 3))
    (chosen,) = standing_out(picture, [CutMask.of(square(50, 50, 60))])
    assert np.linalg.norm(perceived(chosen) - perceived(colour)) > 0.2


def test_colours_of_few_objects_are_all_different():
    masks = [CutMask.of(square(20 * idx, 50, 15)) for idx in range(6)]
    assert len(set(standing_out(grey(120), masks))) == 6
    assert standing_out(grey(120), masks) == standing_out(grey(120), masks)
    assert len(standing_out(grey(120), [CutMask.of(np.zeros((200, 300), bool))])) == 1


def test_explained_picture_puts_smaller_objects_on_top_whatever_their_order():
    large, small = found(1, 20, 20, 120), found(2, 50, 50, 30)
    drawn = explained_picture(grey(100), [large, small], has_prompts=False)
    assert np.array_equal(drawn, explained_picture(grey(100), [small, large], has_prompts=False))
    assert drawn.getpixel((30, 130)) != drawn.getpixel((53, 77)) != (100, 100, 100)


def test_explained_picture_has_a_legend_below_where_there_is_room():
    objects = [found(1, 20, 20, 60, prompt="box 20,20,80,80"), found(2, 150, 50, 40, prompt="+170,70")]
    drawn = explained_picture(grey(100), objects)
    assert drawn.width == 300 and drawn.height > 200
    assert explained_picture(grey(100), objects, has_prompts=False).size == (300, 200)
    tiny = FoundObject(1, CutMask.of(square(2, 2, 9, (16, 24))), 0.9, "box 2,2,11,11")
    assert explained_picture(grey(100, (16, 24)), [tiny]).size == (24, 16)


def test_explained_picture_numbers_where_there_is_room_or_need():
    size = (200, 300)
    speck = FoundObject(7, CutMask.of(square(150, 100, 2, size)), 0.9, "+151,101")
    without = np.asarray(explained_picture(grey(100), [speck], has_prompts=False))
    assert (without[~square(149, 99, 4)] == 100).all()
    assert (np.asarray(explained_picture(grey(100), [speck]))[:200][~square(149, 99, 4)] != 100).any()


def test_topmost_numbers_smaller_objects_on_top():
    indices = topmost([found(1, 50, 50, 30), found(300, 20, 20, 120)], (200, 300))
    assert indices[60, 60] == 1 and indices[30, 30] == 300 and indices[0, 0] == 0
    assert topmost([], (4, 5)).tolist() == np.zeros((4, 5)).tolist()


def test_picture_of_indices_holds_any_number(tmp_path):
    for largest in (0, 255, 256, 65535):
        picture_of_indices(np.array([[0, 1, largest]])).save(tmp_path / "indices.png")
        with Image.open(tmp_path / "indices.png") as image:
            assert np.array(image).tolist() == [[0, 1, largest]]
            assert image.mode == "P" or largest > 255
    with pytest.raises(ValueError, match="at most 65535 objects, got 65536"):
        picture_of_indices(np.array([[65536]]))


def test_index_picture_has_16_bits_where_a_number_needs_them():
    mask = np.ones((2, 2), bool)
    for num_masks, mode in ((255, "P"), (256, "I;16")):
        image = index_picture([mask] * num_masks)
        assert image.mode == mode and np.asarray(image).tolist() == [[num_masks] * 2] * 2


def test_save_whole_leaves_nothing_behind_when_it_fails(tmp_path):
    (tmp_path / "o.png").write_bytes(b"before")
    with pytest.raises(ValueError):
        save_whole(Image.new("RGB", (2, 2)), tmp_path / "o.unknown")
    with pytest.raises(OSError):
        save_whole(Image.new("RGB", (2, 2)), tmp_path / "missing" / "o.png")
    assert [path.name for path in tmp_path.iterdir()] == ["o.png"]
    assert (tmp_path / "o.png").read_bytes() == b"before"
