"""What `edgetam track` writes: names, numbers of objects, chosen frames, and prompts from index pictures."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from edgetam_hf import EdgeTamVideoModel
from edgetam_hf.formats.index_pictures import read_numbered_masks, write_index_picture

POINT = ("--point", "25,45")


def write_pictures(folder, frames, names):
    folder.mkdir(parents=True)
    for frame, name in zip(frames, names):
        Image.fromarray(frame).save(folder / name)


def read_json(path):
    return json.loads(path.read_text())


def rows_of(folder):
    return [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_masks_are_named_by_their_pictures(track, clip, tmp_path):
    write_pictures(tmp_path / "day.1", clip, [f"{8 * idx:05d}.jpg" for idx in range(4)])
    code, out, _ = track("day.1", *POINT, "--start", "1", "--max-frames", "2")
    folder = tmp_path / "day.1_track"
    assert code == 0 and "2 frames of day.1, written to day.1_track" in out
    assert names_in(folder / "masks") == ["00008.png", "00016.png"]
    annotations = read_json(folder / "annotations.json")
    assert [(image["file_name"], image["frame_id"]) for image in annotations["images"]] == [
        ("00008.jpg", 1),
        ("00016.jpg", 2),
    ]
    (result,) = read_json(folder / "tracks.json")
    assert [rle is not None for rle in result["segmentations"]] == [False, True, True, False]


def test_masks_of_pictures_of_equal_stems_are_told_apart(track, clip, tmp_path):
    write_pictures(tmp_path / "clip", clip, ["a.jpg", "a.png", "B.png", "b.bmp"])
    assert track("clip", *POINT)[0] == 0
    assert names_in(tmp_path / "clip_track" / "masks") == ["B.png.png", "a.jpg.png", "a.png.png", "b.bmp.png"]


def test_folders_whose_names_have_a_dot_get_outputs_of_their_own(track, clip, tmp_path):
    for name in ("day.1", "day.2"):
        write_pictures(tmp_path / name, clip[:2], ["0.png", "1.png"])
        assert track(name, *POINT)[0] == 0
    assert names_in(tmp_path) == ["day.1", "day.1_track", "day.2", "day.2_track"]


def test_stride_takes_every_nth_frame_and_those_with_prompts(track, clip, tmp_path):
    write_pictures(tmp_path / "clip", clip, [f"{idx}.png" for idx in range(12)])
    write_pictures(tmp_path / "few", clip[[1, 4, 6, 7, 10]], ["1.png", "4.png", "6.png", "7.png", "10.png"])
    objects = ("--object", "2", "--box", "10,30,40,60")
    assert track("clip", "--frame", "1", *POINT, "--frame", "6", *objects, "--stride", "3")[0] == 0
    assert track("few", "--frame", "0", *POINT, "--frame", "2", *objects)[0] == 0
    rows, few = (rows_of(tmp_path / f"{name}_track") for name in ("clip", "few"))
    assert [row["frame"] for row in rows] == [1, 4, 6, 7, 10]
    assert [row["picture"] for row in rows] == [row["picture"] for row in few]
    assert [row["objects"] for row in rows] == [row["objects"] for row in few]


def test_objects_beyond_255_are_written_with_16_bits(track, clip, tmp_path):
    write_pictures(tmp_path / "clip", clip[:2], ["0.png", "1.png"])
    prompts = [part for number in range(1, 281) for part in ("--object", number, "--point", f"{number % 120},{5}")]
    assert track("clip", *prompts, "--object", "65535", "--box", "50,50,70,70")[0] == 0
    with Image.open(tmp_path / "clip_track" / "masks" / "0.png") as image:
        assert image.mode.startswith("I")
        values = np.unique(np.asarray(image))
    assert values[-1] == 65535
    row = rows_of(tmp_path / "clip_track")[0]
    assert len(row["objects"]) == 281 and len(read_json(tmp_path / "clip_track" / "tracks.json")) == 281


def test_index_pictures_of_16_bits_are_read_back(tmp_path):
    masks = np.zeros((3, 12, 17), bool)
    masks[0, :4], masks[1, 4:8], masks[2, 8:] = True, True, True
    write_index_picture(masks, [3, 300, 65535], tmp_path / "0.png")
    assert np.array_equal(list(read_numbered_masks(tmp_path / "0.png").values()), masks)


@pytest.mark.parametrize("numbers", [(2, 5), (7, 300)])
def test_masks_of_an_index_picture_are_objects_of_those_numbers(track, clip, tmp_path, numbers):
    write_pictures(tmp_path / "clip", clip[:3], ["0.png", "1.png", "2.png"])
    masks = np.zeros((2, 90, 120), bool)
    masks[0, 30:60, 10:40] = masks[1, 5:25, 60:110] = True
    write_index_picture(masks, numbers, tmp_path / "first.png")
    code, out, _ = track("clip", "--mask", "first.png", "--box", "60,60,90,80", "--json")
    assert code == 0 and [o["object"] for o in json.loads(out)["objects"]] == [*numbers, numbers[1] + 1]
    row = rows_of(tmp_path / "clip_track")[0]
    for number, mask in zip(numbers, masks):
        left, top = np.flatnonzero(mask.any(0))[0], np.flatnonzero(mask.any(1))[0]
        assert row["objects"][str(number)]["box"][:2] == pytest.approx((left, top), abs=2)


def test_the_box_of_an_absent_object_is_null(track, clip, tmp_path):
    write_pictures(tmp_path / "clip", clip[:1], ["0.png"])
    Image.new("L", (120, 90)).save("empty.png")
    assert track("clip", "--mask", "empty.png")[0] == 0
    found = rows_of(tmp_path / "clip_track")[0]["objects"]["1"]
    assert found["area"] == 0 and found["box"] is None and found["segmentation"] is None and not found["visible"]


def test_precision_compilation_and_image_size_are_those_asked_for(track, clip, tmp_path, monkeypatch):
    seen, forward = [], EdgeTamVideoModel.get_frame_embeddings

    def watched(model, pixel_values):
        seen.append((pixel_values.dtype, pixel_values.shape[-1]))
        return forward(model, pixel_values)

    monkeypatch.setattr(EdgeTamVideoModel, "get_frame_embeddings", watched)
    monkeypatch.setattr(EdgeTamVideoModel, "compile", lambda model: seen.append("compiled"))
    write_pictures(tmp_path / "clip", clip[:1], ["0.png"])
    assert track("clip", *POINT, "--dtype", "bfloat16", "--image-size", "192", "--compile")[0] == 0
    assert seen[0] == "compiled" and set(seen[1:]) == {(torch.bfloat16, 192)}
    code, _, err = track("clip", "--resume", "--dtype", "float32")
    assert code == 1 and "started with other dtype" in err


def test_the_default_checkpoint_without_a_network_names_the_embedded_one(clip, tmp_path, capsys, monkeypatch):
    from edgetam_cli import main

    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "clip", clip[:1], ["0.png"])
    assert main(["track", "clip", *POINT]) == 1
    assert "or nano, which is embedded" in capsys.readouterr().err
