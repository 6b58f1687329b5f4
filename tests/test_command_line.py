"""The console command: what it writes and prints, and how it refuses."""

import json

import numpy as np
import pytest
from PIL import Image

from edgetam_cli import main
from edgetam_cli.arguments import parse_box, parse_point
from edgetam_hf.commands.segment import corner_points, group_prompts
from edgetam_hf.commands.support import load_picture
from edgetam_hf.drawing import index_picture, outline, overlay, save_whole


@pytest.fixture
def picture(tmp_path):
    """A file with a bright square on a dark ground, 60 wide and 40 high."""
    pixels = np.full((40, 60, 3), 30, np.uint8)
    pixels[10:30, 20:45] = 220
    Image.fromarray(pixels).save(tmp_path / "square.png")
    return tmp_path / "square.png"


def run(capsys, *arguments):
    """Exit code, stdout and stderr of a call."""
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_segment_writes_overlay_and_mask_and_prints_a_table(capsys, folder, picture, tmp_path):
    code, out, err = run(
        capsys, "segment", picture, "--point", "30,20", "--model", folder, "--output", tmp_path / "o.png"
    )
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["object", "prompt", "score", "present", "area", "box"]
    assert "+30,20" in out and str(tmp_path / "o_mask.png") in out
    with Image.open(tmp_path / "o.png") as drawn, Image.open(tmp_path / "o_mask.png") as mask:
        assert drawn.size == mask.size == (60, 40) and mask.mode == "P"


def test_segment_json_agrees_with_the_mask_file(capsys, folder, picture, tmp_path):
    arguments = ("--box", "20,10,45,30", "--point", "50,35", "--box", "0,0,15,15", "--json")
    code, out, _ = run(capsys, "segment", picture, *arguments, "--model", folder, "--output", tmp_path / "o.png")
    report = json.loads(out)
    assert code == 0 and [o["prompt"] for o in report["objects"]] == ["box 20,10,45,30 +50,35", "box 0,0,15,15"]
    indices = np.asarray(Image.open(report["mask"]))
    top = report["objects"][1]
    assert (indices == 2).sum() == top["area"]  # the last object lies on top
    if top["area"]:
        rows, columns = np.nonzero(indices == 2)
        assert top["box"] == [columns.min(), rows.min(), columns.max(), rows.max()]


def test_segment_draws_prompts_of_one_call_like_separate_calls(capsys, folder, picture, tmp_path):
    prompts = (("--point", "30,20"), ("--box", "2,2,30,30"), ("--box", "20,10,45,30"))
    shared = ("--model", folder, "--json", "--output", tmp_path / "o.png")
    together = json.loads(run(capsys, "segment", picture, *sum(prompts, ()), *shared)[1])["objects"]
    alone = [json.loads(run(capsys, "segment", picture, *prompt, *shared)[1])["objects"][0] for prompt in prompts]
    assert [o["area"] for o in together] == pytest.approx([o["area"] for o in alone], abs=3)


def test_masks_writes_every_mask(capsys, folder, picture, tmp_path):
    thresholds = ("--pred-iou-thresh", "0", "--stability-score-thresh", "0", "--points-per-side", "3")
    code, out, _ = run(
        capsys, "masks", picture, *thresholds, "--model", folder, "--output", tmp_path / "o.png", "--json"
    )
    report = json.loads(out)
    areas = [o["area"] for o in report["objects"]]
    assert code == 0 and areas == sorted(areas, reverse=True) and (tmp_path / "o.png").exists()


def test_masks_shows_progress(capsys, folder, picture, tmp_path):
    thresholds = ("--pred-iou-thresh", "0", "--stability-score-thresh", "0", "--points-per-side", "2")
    _, _, err = run(capsys, "masks", picture, *thresholds, "--model", folder, "--output", tmp_path / "o.png")
    assert "4/4" in err


def test_masks_rejects_thresholds_that_nothing_passes(capsys, folder, picture, tmp_path):
    code, _, err = run(
        capsys, "masks", picture, "--pred-iou-thresh", "1", "--points-per-side", "2", "--model", folder, "--json"
    )
    assert code == 1 and "lower --pred-iou-thresh" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["segment", "{picture}"], "say what to segment"),
        (["segment", "missing.png", "--point", "1,1"], "missing.png"),
        (["segment", "{text}", "--point", "1,1"], "not a picture"),
        (["segment", "{cut}", "--point", "1,1"], "truncated"),
        (["segment", "{picture}", "--point", "1,1", "--model", "no/such/folder"], "no/such/folder"),
        (["segment", "{picture}", "--point", "1,1", "--output", "no_folder/o.png"], "no_folder"),
        (["masks", "{picture}", "--points-per-batch", "0"], "points_per_batch"),
        (["masks", "{picture}", "--pred-iou-thresh", "2"], "pred_iou_thresh"),
    ],
)
def test_command_rejects_bad_calls_in_one_line(capsys, folder, picture, monkeypatch, arguments, message):
    monkeypatch.chdir(picture.parent)
    (picture.parent / "text.png").write_text("not a picture")
    (picture.parent / "cut.png").write_bytes(picture.read_bytes()[:120])
    before = sorted(picture.parent.iterdir())
    files = {"{picture}": "square.png", "{text}": "text.png", "{cut}": "cut.png"}
    arguments = [files.get(argument, argument) for argument in arguments]
    if "--model" not in arguments:
        arguments += ["--model", str(folder)]
    code, out, err = run(capsys, *arguments)
    assert code == 1 and out == "" and message in err and len(err.splitlines()) == 1
    assert sorted(picture.parent.iterdir()) == before


@pytest.mark.parametrize("text", ["1", "1,2,3", "a,b", "1,2,3,4", "nan,1", "", "1,inf"])
def test_parse_point_rejects_anything_but_two_numbers_and_a_label(capsys, text):
    with pytest.raises(SystemExit):
        main(["segment", "x.png", f"--point={text}"])
    error = capsys.readouterr().err
    assert "X,Y" in error or "label" in error


@pytest.mark.parametrize("text", ["1,2,3", "5,5,1,9", "1,5,9,5", "a,b,c,d", "nan,1,2,3"])
def test_parse_box_rejects_anything_but_two_corners(capsys, text):
    with pytest.raises(SystemExit):
        main(["segment", "x.png", f"--box={text}"])
    assert "X0,Y0,X1,Y1" in capsys.readouterr().err


def test_group_prompts_begins_an_object_at_every_box():
    prompts = [parse_point("1,2"), parse_box("1,2,3,4"), parse_point("5,6,0"), parse_point("7,8,1")]
    assert group_prompts(prompts) == [
        {"box": None, "points": [(1, 2, 1)]},
        {"box": (1, 2, 3, 4), "points": [(5, 6, 0), (7, 8, 1)]},
    ]
    assert corner_points((1, 2, 3, 4)) == [(1, 2, 2), (3, 4, 3)] and corner_points(None) == []


def test_load_picture_turns_upright(tmp_path):
    image = Image.new("RGB", (30, 20))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    upright = load_picture(tmp_path / "turned.png")
    assert upright.shape == (30, 20, 3) and upright[0, 19].tolist() == [255, 255, 255]


def test_overlay_tints_the_mask_only():
    picture, mask = np.full((20, 30, 3), 100, np.uint8), np.zeros((20, 30), bool)
    mask[5:15, 5:15] = True
    drawn = np.asarray(overlay(picture, [mask]))
    assert (drawn[~mask] == 100).all() and (drawn[mask] != 100).any(axis=-1).all()
    assert outline(mask, 1).sum() == 36 and not outline(np.ones((4, 4), bool), 1)[1:3, 1:3].any()


def test_index_picture_rejects_more_masks_than_a_byte_counts():
    mask = np.ones((2, 2), bool)
    assert np.asarray(index_picture([mask] * 255)).tolist() == [[255, 255], [255, 255]]
    with pytest.raises(ValueError, match="at most 255 masks, got 256"):
        index_picture([mask] * 256)


def test_save_whole_leaves_nothing_behind_when_it_fails(tmp_path):
    (tmp_path / "o.png").write_bytes(b"before")
    with pytest.raises(ValueError):
        save_whole(Image.new("RGB", (2, 2)), tmp_path / "o.unknown")
    with pytest.raises(OSError):
        save_whole(Image.new("RGB", (2, 2)), tmp_path / "missing" / "o.png")
    assert [path.name for path in tmp_path.iterdir()] == ["o.png"]
    assert (tmp_path / "o.png").read_bytes() == b"before"


def test_segment_without_arguments_finds_the_eyes_of_the_sample(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "segment", "--json")
    report = json.loads(out)
    eyes = np.asarray(Image.open(report["mask"]))
    assert code == 0 and (report["height"], report["width"]) == (300, 451)
    for number, (x, y) in enumerate([(175, 115), (324, 135)], start=1):
        assert eyes[y, x] == number and 800 < (eyes == number).sum() < 4000
