"""The console command: what it writes and prints, and how it refuses."""

import json
import os
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from edgetam_hf.pipeline_edgetam import MaskGenerationOptions
from PIL import Image

from edgetam_cli import main
from edgetam_hf import EdgeTamMaskGenerationPipeline, EdgeTamModel
from edgetam_hf.commands.pictures import _notes
from edgetam_hf.commands.support import load_picture
from edgetam_hf.formats import polygons, run_lengths
from edgetam_hf.formats.tables import as_columns


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
    top = min((o for o in report["objects"] if o["area"]), key=lambda o: o["area"])
    rows, columns = np.nonzero(indices == top["object"])
    assert len(rows) == top["area"]  # the smallest object lies on top
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


def test_masks_says_what_to_try_when_nothing_is_found(capsys, folder, picture, tmp_path):
    arguments = ("--pred-iou-thresh", "1", "--points-per-side", "2", "--model", folder, "--output", f"{tmp_path}/out/")
    formats = ("--format", "overlay,index,masks,cutouts,coco,yolo")
    code, out, _ = run(capsys, "masks", picture, *arguments, *formats)
    assert code == 0 and "lower --pred-iou-thresh" in out
    report = json.loads(run(capsys, "masks", picture, *arguments, *formats, "--json")[1])
    assert report["objects"] == [] == json.loads(Path(report["coco"]).read_text())["annotations"]
    assert Path(report["yolo"]).read_text() == "" and not np.asarray(Image.open(report["mask"])).any()
    assert np.array_equal(np.asarray(Image.open(report["overlay"])), load_picture(picture))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["segment", "{picture}"], "say what to segment"),
        (["segment", "missing.png", "--point", "1,1"], "missing.png"),
        (["segment", "{text}", "--point", "1,1"], "not a picture"),
        (["segment", "{cut}", "--point", "1,1"], "truncated"),
        (["segment", "{picture}", "--point", "1,1", "--model", "no/such/folder"], "no/such/folder"),
        (["segment", "{picture}", "--point", "1,1", "--output", "o.xyz"], "must end in .png"),
        (["segment", "{picture}", "--point", "1,1", "--output", "o.png", "--format", "coco"], "must end in .json"),
        (["segment", "{picture}", "--point", "1,1", "--output", "{picture}"], "over a picture that is read"),
        (["segment", "{picture}", "--mask", "mask.png", "--output", "mask.png"], "over a picture that is read"),
        (["segment", "{picture}", "--mask", "mask.png"], "must have the size of the picture, 60x40 pixels, got 4x3"),
        (["segment", "{picture}", "--mask", "empty.png"], "empty.png is empty"),
        (["segment", "{picture}", "--mask", "missing.png"], "missing.png cannot be read"),
        (["segment", "{picture}", "--object", "2"], "say what to"),
        (["segment", "clip.MP4", "--point", "1,1"], "clip.MP4 is a video: `edgetam track` follows one object"),
        (["masks", "clip.MP4"], "or all with --everything"),
        (["masks", "folder"], "no pictures in folder"),
        (["masks", "*.jpg"], "no pictures in *.jpg"),
        (["masks", "missing.png", "gone.png"], "no picture missing.png, nor the 1 others"),
        (["masks", "{picture}", "{cut}", "--output", "o.png"], "must be a folder"),
        (["masks", "{picture}", "--output", "{text}/"], "text.png is a file"),
        (
            ["masks", "{picture}", "--model", "gone/folder"],
            "--model gone/folder cannot be loaded: there is no such folder",
        ),
    ],
)
def test_command_rejects_bad_calls_in_one_line(capsys, folder, picture, monkeypatch, arguments, message):
    monkeypatch.chdir(picture.parent)
    (picture.parent / "text.png").write_text("not a picture")
    (picture.parent / "cut.png").write_bytes(picture.read_bytes()[:120])
    Image.new("L", (4, 3), 255).save(picture.parent / "mask.png")
    Image.new("L", (60, 40)).save(picture.parent / "empty.png")
    (picture.parent / "folder").mkdir()
    (picture.parent / "clip.MP4").touch()
    before = sorted(picture.parent.iterdir())
    files = {"{picture}": "square.png", "{text}": "text.png", "{cut}": "cut.png", "{text}/": "text.png/"}
    arguments = [files.get(argument, argument) for argument in arguments]
    if "--model" not in arguments:
        arguments += ["--model", str(folder)]
    code, out, err = run(capsys, *arguments)
    assert code == 1 and out == "" and message in err and len(err.splitlines()) == 1
    assert sorted(picture.parent.iterdir()) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("--points-per-batch", "0"),
        ("--pred-iou-thresh", "2"),
        ("--nms", "nan"),
        ("--crops", "9"),
        ("--min-area", "-1"),
        ("--format", "png"),
        ("--dtype", "float64"),
    ],
)
def test_masks_names_its_own_options_when_it_refuses(capsys, arguments):
    with pytest.raises(SystemExit):
        main(["masks", "x.png", *arguments])
    assert f"argument {arguments[0]}" in capsys.readouterr().err


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


def test_load_picture_turns_upright(tmp_path):
    image = Image.new("RGB", (30, 20))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    upright = load_picture(tmp_path / "turned.png")
    assert upright.shape == (30, 20, 3) and upright[0, 19].tolist() == [255, 255, 255]


def test_segment_without_arguments_finds_the_eyes_of_the_sample(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "segment", "--json")
    report = json.loads(out)
    eyes = np.asarray(Image.open(report["mask"]))
    assert code == 0 and (report["height"], report["width"]) == (300, 451)
    for number, (x, y) in enumerate([(175, 115), (324, 135)], start=1):
        assert eyes[y, x] == number and 800 < (eyes == number).sum() < 4000


EVERYTHING = ("--pred-iou-thresh", "0", "--stability-score-thresh", "0", "--points-per-side", "2")


def test_masks_takes_files_folders_and_patterns_and_goes_on_after_a_bad_one(capsys, folder, picture, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("b.png", "a.png"):
        shutil.copy(picture, photos / name)
    (photos / "bad.jpg").write_bytes(b"no picture")
    (photos / "notes.txt").write_text("not looked at")
    arguments = (photos, picture, f"{tmp_path}/*/a.*", tmp_path / "gone.png", *EVERYTHING, "--model", folder)
    output = ("--output", tmp_path / "new" / "out", "--format", "coco,masks", "--json")
    code, out, err = run(capsys, "masks", *arguments, *output)
    report = json.loads(out)
    assert code == 1 and [Path(of["image"]).name for of in report["pictures"]] == ["a.png", "b.png", "square.png"]
    assert [Path(of["image"]).name for of in report["failed"]] == ["bad.jpg", "gone.png"]
    assert len(err.splitlines()) == 2 and "bad.jpg" in err and "gone.png" in err
    data = json.loads((tmp_path / "new" / "out" / "coco.json").read_text())
    assert [image["file_name"] for image in data["images"]] == ["a.png", "b.png", "square.png"]
    assert {"a_masks_objects", "b_masks_objects", "square_masks_objects", "coco.json"} == set(
        os.listdir(tmp_path / "new/out")
    )


def test_masks_of_several_pictures_are_those_of_each(capsys, folder, picture, tmp_path):
    shutil.copy(picture, tmp_path / "other.png")
    shared = (*EVERYTHING, "--model", folder, "--json", "--format", "index", "--output", tmp_path / "out")
    together = json.loads(run(capsys, "masks", picture, tmp_path / "other.png", *shared)[1])["pictures"]
    alone = json.loads(run(capsys, "masks", picture, *shared)[1])
    assert [of["objects"] for of in together] == [alone["objects"]] * 2 and alone["objects"]


def test_segment_prints_a_line_per_picture(capsys, folder, picture, tmp_path):
    shutil.copy(picture, tmp_path / "other.png")
    arguments = (picture, tmp_path / "other.png", "--point", "30,20", "--model", folder, "--output", tmp_path / "out")
    code, out, err = run(capsys, "segment", *arguments)
    assert code == 0 and [line.split()[1] for line in out.splitlines()] == ["objects", "1", "1"]
    assert "2/2" in err and (tmp_path / "out" / "other_segment.png").exists()


def test_command_rejects_pictures_whose_results_have_one_name(capsys, folder, picture, tmp_path):
    shutil.copy(picture, tmp_path / "square.bmp")
    code, _, err = run(capsys, "masks", picture, tmp_path / "square.bmp", "--model", folder)
    assert code == 1 and "square.png and" in err and "would both be written to" in err


@pytest.mark.parametrize(("library", "name"), [("coco_mask", "coco"), ("measure", "yolo")])
def test_command_names_a_missing_library_before_the_work(capsys, monkeypatch, picture, library, name):
    owner = run_lengths if name == "coco" else polygons
    monkeypatch.setattr(owner, library, None)
    code, _, err = run(capsys, "masks", picture, "--format", name, "--model", "no/such/folder")
    assert code == 1 and "pip install" in err and len(err.splitlines()) == 1


def test_segment_of_an_empty_mask_has_no_box(capsys, folder, picture, tmp_path, monkeypatch):
    monkeypatch.setattr(EdgeTamModel, "forward", forward_with(lambda output: output.pred_masks.fill_(-1)))
    arguments = ("segment", picture, "--point", "30,20", "--model", folder, "--output", tmp_path / "o.png")
    (found,) = json.loads(run(capsys, *arguments, "--json")[1])["objects"]
    assert found["area"] == 0 and found["box"] is None
    assert run(capsys, *arguments)[1].splitlines()[1].split()[-1] == "-"


def forward_with(change):
    """The model's forward pass, after which its output is changed."""
    forward = EdgeTamModel.forward

    def changed(*arguments, **options):
        output = forward(*arguments, **options)
        change(output)
        return output

    return changed


def test_segment_by_a_mask_is_segment_by_its_box_and_the_mask(capsys, folder, picture, tmp_path):
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:45] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    shared = ("--model", folder, "--json", "--output", tmp_path / "o.png")
    (alone,) = json.loads(run(capsys, "segment", picture, "--mask", tmp_path / "mask.png", *shared)[1])["objects"]
    both = ("--mask", tmp_path / "mask.png", "--object", "1", "--box", "20,10,44,29")
    (boxed,) = json.loads(run(capsys, "segment", picture, *both, *shared)[1])["objects"]
    (unmasked,) = json.loads(run(capsys, "segment", picture, "--box", "20,10,44,29", *shared)[1])["objects"]
    assert {**alone, "prompt": ""} == {**boxed, "prompt": ""} and alone["score"] != unmasked["score"]
    assert alone["prompt"] == "mask mask.png"


def test_segment_of_objects_with_and_without_masks_is_segment_of_each(capsys, folder, picture, tmp_path):
    values = np.zeros((40, 60), np.uint8)
    values[5:20, 5:20], values[22:36, 30:50] = 3, 7
    Image.fromarray(values).save(tmp_path / "masks.png")
    shared = ("--model", folder, "--json", "--output", tmp_path / "o.png")
    prompts = ("--mask", tmp_path / "masks.png", "--box", "2,2,30,30", "--object", "3", "--point", "9,9")
    together = json.loads(run(capsys, "segment", picture, *prompts, *shared)[1])["objects"]
    assert [(o["object"], o["prompt"]) for o in together] == [
        (3, "+9,9 mask masks.png:3"),
        (7, "mask masks.png:7"),
        (8, "box 2,2,30,30"),
    ]
    alone = json.loads(run(capsys, "segment", picture, "--box", "2,2,30,30", *shared)[1])["objects"][0]
    assert together[2]["area"] == pytest.approx(alone["area"], abs=3)


def test_segment_writes_more_than_255_objects_with_16_bits(capsys, folder, picture, tmp_path):
    boxes = (f"--box={x},{y},{x + 9},{y + 9}" for x in range(0, 50, 3) for y in range(0, 30, 2))
    code, out, _ = run(
        capsys, "segment", picture, *list(boxes)[:255], "--object", "300", "--box", "0,0,60,40", "--model", folder,
        "--json", "--output", tmp_path / "o.png",
    )  # fmt: skip
    report = json.loads(out)
    with Image.open(report["mask"]) as image:
        indices = np.asarray(image)
    seen = set(np.unique(indices).tolist()) - {0}
    written = {o["object"] for o in report["objects"] if o["area"]}
    assert code == 0 and len(report["objects"]) == 256 and written - seen == set(report["hidden"])
    assert 300 in seen and indices.dtype != np.uint8


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], (torch.float32, (128, 128), (8, 8), False)),
        (["--dtype", "bfloat16"], (torch.bfloat16, (128, 128), (8, 8), False)),
        (["--image-size", "96"], (torch.float32, (96, 96), (6, 6), False)),
        (["--multimask"], (torch.float32, (128, 128), (8, 8), True)),
    ],
)
def test_segment_computes_as_it_is_told(capsys, folder, picture, tmp_path, monkeypatch, options, expected):
    forward, seen = EdgeTamModel.forward, []

    def watched(model, **inputs):
        side = inputs["image_embeddings"][-1]
        seen.append((model.dtype, model.prompt_encoder.image_size, side.shape[-2:], inputs["multimask_output"]))
        return forward(model, **inputs)

    monkeypatch.setattr(EdgeTamModel, "forward", watched)
    arguments = ("--point", "30,20", "--model", folder, "--output", tmp_path / "o.png", *options)
    assert run(capsys, "segment", picture, *arguments)[0] == 0
    assert seen == [expected]


def test_segment_compiles_the_model(capsys, folder, picture, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(EdgeTamModel, "compile", lambda model: compiled.append(model))
    arguments = ("--point", "30,20", "--model", folder, "--output", tmp_path / "o.png", "--compile")
    assert run(capsys, "segment", picture, *arguments)[0] == 0 and len(compiled) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--nms", "0.5", "--crops", "1", "--min-area", "9"],
         {"crops_nms_thresh": 0.5, "crops_n_layers": 1, "min_mask_region_area": 9}),
        (["--points-per-side", "3", "--points-per-batch", "7"], {"points_per_crop": 3, "points_per_batch": 7}),
        ([], {}),
    ],
)  # fmt: skip
def test_masks_hands_on_what_is_given_only(capsys, folder, picture, tmp_path, monkeypatch, arguments, expected):
    given = {}

    def generate(pipeline, image, **options):
        given.update(options)
        none = torch.zeros(0)
        return {"masks": [], "scores": none, "stability_scores": none, "points": none}

    monkeypatch.setattr(EdgeTamMaskGenerationPipeline, "__call__", generate)
    run(capsys, "masks", picture, "--model", folder, "--output", tmp_path / "o.png", *arguments)
    names = {field.name for field in fields(MaskGenerationOptions)}
    others = ("output", "progress", "masks")
    assert {name: value for name, value in given.items() if not name.startswith(others)} == expected
    assert set(given) <= names


def test_as_columns_lines_numbers_up():
    rows = [
        {"object": 1, "score": 0.95, "box": "1,2", "area": "2.8 %", "seen": "5 / 10"},
        {"object": 12, "score": 0.955, "box": "10,20", "area": "100.0 %", "seen": "10 / 10"},
    ]
    assert as_columns(rows) == [
        "object  score  box       area     seen",
        "     1  0.950  1,2      2.8 %   5 / 10",
        "    12  0.955  10,20  100.0 %  10 / 10",
    ]


def test_masks_counts_the_objects_that_others_cover():
    report = {"mask": "mask.png", "objects": [{}], "hidden": list(range(1, 14))}
    assert _notes(report) == [
        "covered by others in mask.png: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 3 others (--format masks or coco writes all)"
    ]


def test_segment_tells_why_a_file_with_a_line_break_in_its_name_is_refused(capsys, folder, tmp_path):
    (tmp_path / "a\nb.jpg").write_bytes(b"not a picture")
    arguments = ("--point", "1,1", "--model", folder, "--output", tmp_path / "found")
    code, _, err = run(capsys, "segment", tmp_path / "a\nb.jpg", *arguments)
    assert code == 1 and err.count("\n") == 1 and r"a\nb.jpg' cannot be read, it is not a picture" in err
    code, _, err = run(capsys, "segment", tmp_path, tmp_path / "c\nd.jpg", *arguments)
    assert code == 1 and r"a\nb.jpg' cannot be read, it is not a picture" in err and r"c\nd.jpg' cannot be read" in err
    code, _, err = run(capsys, "segment", tmp_path / "c\nd.jpg", *arguments)
    assert code == 1 and err.endswith("c\\nd.jpg'\n")


def test_command_reads_a_large_picture_without_a_warning(capsys, folder, picture, tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 40 - 1)
    arguments = ("--point", "30,20", "--model", folder, "--output", tmp_path / "o.png")
    assert run(capsys, "segment", picture, *arguments)[0] == 0 and not recwarn.list


def test_command_says_how_to_name_a_file_that_begins_with_a_dash(capsys, picture, monkeypatch):
    monkeypatch.chdir(picture.parent)
    picture.rename("-square.png")
    with pytest.raises(SystemExit, match="2"):
        main(["segment", "-square.png", "--point", "1,1"])
    assert "write the name of the file as ./-square.png" in capsys.readouterr().err
