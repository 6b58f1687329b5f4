"""Prompts of a command line: how they are put together to objects."""

import numpy as np
import pytest
from PIL import Image

from edgetam_cli.arguments import parse_box, parse_point
from edgetam_hf.commands.prompts import MaskPrompt, ObjectPrompt, check_inside, read_prompts, read_values
from edgetam_hf.formats.index_pictures import index_picture
from edgetam_hf.prompted_pictures import corner_points

BOX, OTHER_BOX = ("box", (1, 2, 3, 4)), ("box", (5, 6, 7, 8))
VALUES = np.array([[0, 2, 2], [0, 5, 0]])


def write_mask(path, values, mode="L"):
    """The ("mask", path) option of a picture with these values."""
    image = index_picture([values == 2, values == 5], [2, 5]) if mode == "P" else Image.fromarray(values)
    image.save(path)
    return "mask", str(path)


def test_read_prompts_begins_an_object_at_another_box():
    prompts = [parse_point("1,2"), parse_box("1,2,3,4"), parse_point("5,6,0"), parse_point("7,8,1")]
    assert read_prompts(prompts) == [
        ObjectPrompt(0, 1, points=[(1, 2, 1)]),
        ObjectPrompt(0, 2, points=[(5, 6, 0), (7, 8, 1)], box=(1, 2, 3, 4)),
    ]
    assert corner_points((1, 2, 3, 4)) == [(1, 2, 2), (3, 4, 3)] and corner_points(None) == []


def test_read_prompts_gives_objects_what_follows_their_numbers(tmp_path):
    mask = write_mask(tmp_path / "mask.png", np.array([[0, 255]], np.uint8))
    prompts = [("object", 4), BOX, ("object", 2), ("point", (1, 1, 1)), ("object", 4), mask]
    assert read_prompts(prompts) == [
        ObjectPrompt(0, 4, box=BOX[1], mask=MaskPrompt(mask[1])),
        ObjectPrompt(0, 2, points=[(1, 1, 1)]),
    ]
    assert str(read_prompts(prompts)[0]) == "box 1,2,3,4 mask mask.png"


@pytest.mark.parametrize("mode", ["P", "L", "I;16"])
def test_read_prompts_makes_an_object_of_each_value_of_an_index_picture(tmp_path, mode):
    values = VALUES.astype(np.uint16 if mode == "I;16" else np.uint8)
    mask = write_mask(tmp_path / "masks.png", values, mode)
    first, second, third = read_prompts([mask, BOX])
    assert [first.object_id, second.object_id, third.object_id] == [2, 5, 6] and third.box == BOX[1]
    assert np.array_equal(first.mask.pixels(), values == 2) and np.array_equal(second.mask.pixels(), values == 5)


def test_read_prompts_takes_a_mask_with_white_for_one_object_and_cuts_its_soft_edge(tmp_path):
    soft = write_mask(tmp_path / "soft.png", np.array([[90, 200, 255]], np.uint8))
    colours = np.zeros((1, 3, 4), np.uint8)
    colours[..., 3], colours[0, 1, 2] = 255, 7  # opaque, and one pixel that is not black
    coloured = write_mask(tmp_path / "coloured.png", colours)
    prompts = read_prompts([soft, coloured])
    assert [prompt.object_id for prompt in prompts] == [1, 2]
    assert [prompt.mask.pixels().tolist() for prompt in prompts] == [[[False, True, True]], [[False, True, False]]]


def test_read_values_are_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(np.array([[1, 2]], np.uint8)).save(tmp_path / "turned.png", exif=exif)
    assert read_values(tmp_path / "turned.png").tolist() == [[1], [2]]


def test_read_prompts_rejects_what_has_no_place(tmp_path):
    masks = write_mask(tmp_path / "masks.png", VALUES.astype(np.uint8))
    with pytest.raises(ValueError, match="object 2 has two of --box: put another --object"):
        read_prompts([("object", 2), BOX, ("object", 2), OTHER_BOX])
    with pytest.raises(ValueError, match=r"several objects \(2, 5\): leave out the --object"):
        read_prompts([("object", 1), masks])
    with pytest.raises(ValueError, match="object 2 has two of --mask"):
        read_prompts([masks, masks])
    with pytest.raises(ValueError, match="no prompt follows --object 2"):
        read_prompts([("object", 1), BOX, ("object", 2)])
    soft = write_mask(tmp_path / "soft.png", np.arange(200, dtype=np.uint8).reshape(10, 20))
    with pytest.raises(ValueError, match=r"199 levels of grey and no white.*save the one in black and white"):
        read_prompts([soft])
    (tmp_path / "cut.png").write_bytes((tmp_path / "masks.png").read_bytes()[:40])
    with pytest.raises(ValueError, match=r"cut.png cannot be read"):
        read_prompts([("mask", str(tmp_path / "cut.png"))])


def test_check_inside_warns_of_what_lies_outside(capsys):
    for prompt in (
        ObjectPrompt(0, 1, points=[(0, 0, 1), (60, 40, 0)]),
        ObjectPrompt(0, 1, box=(-5, -5, 1, 1)),
        ObjectPrompt(0, 1, box=(59, 39, 90, 90)),
    ):
        check_inside(prompt, (40, 60))
    assert capsys.readouterr().err == ""
    for prompt in (ObjectPrompt(0, 1, points=[(-1, 5, 1)]), ObjectPrompt(0, 1, box=(-5, -5, 0, 1))):
        check_inside(prompt, (40, 60))
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("edgetam: warning: --") and "outside of the picture, which is 60 wide" in line


def test_read_prompts_takes_a_mask_of_floats_for_one_object(tmp_path):
    mask = write_mask(tmp_path / "soft.tif", np.array([[0, 0.3, 0.6, 1]], np.float32))
    assert [prompt.mask.pixels().tolist() for prompt in read_prompts([mask])] == [[[False, False, True, True]]]
    empty = write_mask(tmp_path / "empty.tif", np.zeros((1, 4), np.float32))
    assert not read_prompts([empty])[0].mask.pixels().any()
