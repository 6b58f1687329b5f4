"""`edgetam track --everything`: what is written of objects that come and go, and how it goes on."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_videos import write_video

from edgetam_cli import main
from edgetam_hf import EdgeTamVideoModel
from edgetam_hf.commands import track as track_command
from edgetam_hf.formats.index_pictures import read_numbered_masks

# Random weights give neither confident nor stable masks.
LOOSE = ("--points-per-side", "3", "--pred-iou-thresh", "0", "--stability-score-thresh", "0", "--nms", "1")
EVERYTHING = ("--everything", "--every", "4", "--max-objects", "6", *LOOSE)


@pytest.fixture
def video(clip, tmp_path):
    write_video(tmp_path / "clip.mp4", clip)
    return tmp_path / "clip.mp4"


def rows_of(folder):
    return [json.loads(line) for line in (Path(folder) / "frames.jsonl").read_text().splitlines()]


def contents_of(folder):
    """Everything that is written, but for the state of tracking, which pickles."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.suffix not in (".pt", ".mp4"))
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_track_everything_writes_all_that_comes_and_goes(track, video):
    code, out, _ = track(video, *EVERYTHING, "--json")
    report, rows = json.loads(out), rows_of("clip_track")
    assert code == 0 and report["num_tracked"] == len(rows) == 12
    numbers = [of_object["object"] for of_object in report["objects"]]
    assert len(numbers) > 1 and numbers[0] == 1
    for row in rows:
        masks = read_numbered_masks(f"clip_track/masks/{row['frame']:05d}.png")
        assert {str(number) for number in masks} <= set(row["objects"]) and len(row["objects"]) <= 6
    for of_object in report["objects"]:
        found = {row["frame"]: row["objects"].get(str(of_object["object"])) for row in rows}
        seen = [frame_idx for frame_idx, of_frame in found.items() if of_frame and of_frame["visible"]]
        assert (of_object["first"], of_object["last"], of_object["visible"]) == (min(seen), max(seen), len(seen))
        assert of_object["area"] == round(np.mean([found[frame_idx]["area"] for frame_idx in seen]))
    assert len(json.loads(Path("clip_track/tracks.json").read_text())) == len(numbers)
    annotations = json.loads(Path("clip_track/annotations.json").read_text())["annotations"]
    assert {annotation["track_id"] for annotation in annotations} <= {*numbers}
    assert Path("clip_track/overlay.mp4").stat().st_size > 0


def test_track_everything_searches_crops(track, video, monkeypatch):
    num_points, confident_masks = [], EdgeTamVideoModel.confident_masks

    def noted(model, image_embeddings, points, thresh):
        num_points.append(len(points))
        return confident_masks(model, image_embeddings, points, thresh)

    monkeypatch.setattr(EdgeTamVideoModel, "confident_masks", noted)
    assert track(video, *EVERYTHING, "--crops", "1", "--max-frames", "1")[0] == 0
    assert num_points == [9] * 5
    assert json.loads(Path("clip_track/run.json").read_text())["settings"]["crops"] == 1


def test_track_everything_prints_a_table(track, video):
    code, out, _ = track(video, *EVERYTHING, "--max-frames", "2", "--stride", "3")
    assert code == 0 and out.split("\n")[0].split() == ["object", "first", "last", "visible", "area", "score"]


def test_track_everything_prints_so_many_lines_and_no_more(track, video, monkeypatch):
    monkeypatch.setattr(track_command, "MAX_ROWS", 1)
    code, out, _ = track(video, *EVERYTHING, "--max-frames", "1")
    _, row, others, *_ = out.splitlines()
    assert code == 0 and " % " in row and re.fullmatch(r"… and \d+ more, which --json lists too", others)


def test_track_everything_finds_nothing(track, video):
    code, out, _ = track(video, "--everything", "--points-per-side", "2", "--pred-iou-thresh", "1", "--max-frames", "2")
    assert code == 0 and out.startswith("nothing found: try lower --pred-iou-thresh")
    assert [row["objects"] for row in rows_of("clip_track")] == [{}, {}]
    assert json.loads(Path("clip_track/tracks.json").read_text()) == []


def test_track_everything_numbers_objects_with_16_bits(track, video):
    prompt = ("--object", "300", "--point", "25,45")
    code, out, _ = track(video, *EVERYTHING, *prompt, "--max-frames", "1", "--json")
    numbers = [of_object["object"] for of_object in json.loads(out)["objects"]]
    assert code == 0 and numbers[:2] == [300, 301]
    with Image.open("clip_track/masks/00000.png") as image:
        assert image.mode in ("I;16", "I") and np.max(np.asarray(image)) >= 300


@pytest.mark.parametrize("last", [5, 9])
def test_track_everything_resumed_equals_uninterrupted(track, video, monkeypatch, last):
    assert track(video, *EVERYTHING, "--output", "whole")[0] == 0
    monkeypatch.setattr(track_command, "FRAMES_PER_CHECKPOINT", 4)
    write = track_command.TrackRun.write

    def write_or_stop(run, step):
        if step.frame_idx == last:
            raise KeyboardInterrupt
        write(run, step)

    with monkeypatch.context() as patched:
        patched.setattr(track_command.TrackRun, "write", write_or_stop)
        assert track(video, *EVERYTHING, "--output", "parts")[0] != 0
    code, _, err = track(video, "--every", "5", "--resume", "--output", "parts")
    assert code == 1 and "started with other every" in err
    assert track(video, "--resume", "--output", "parts")[0] == 0
    assert contents_of("parts") == contents_of("whole")
    states = [torch.load(f"{name}/session.pt", weights_only=True)["everything"] for name in ("parts", "whole")]
    assert states[0] == states[1]


def test_track_everything_resumes_runs_from_before(track, video):
    assert track(video, "--point", "25,45", "--max-frames", "3")[0] == 0
    path = Path("clip_track/run.json")
    content = json.loads(path.read_text())
    for name in ("everything", "every", "max_objects", "points_per_side", "nms"):
        del content["settings"][name]
    path.write_text(json.dumps(content))
    state = torch.load("clip_track/session.pt", weights_only=False)
    del state["everything"]
    torch.save(state, "clip_track/session.pt")
    assert track(video, "--resume")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--every", "3", "--point", "5,5"), "--every is for --everything"),
        (("--everything", "--reverse"), "--everything goes forward"),
        (("--max-objects", "3"), "--max-objects is for --everything"),
        (("--crops", "1", "--point", "5,5"), "--crops is for --everything"),
    ],
)
def test_track_everything_rejects_options_that_do_not_fit(track, video, arguments, message):
    code, _, err = track(video, *arguments)
    assert code == 1 and message in err


def test_track_everything_rejects_crops_of_live_videos(track):
    code, _, err = track("rtsp://127.0.0.1/door", "--everything", "--crops", "1")
    assert code == 1 and "door is live, no parts of its frames can be searched: leave out --crops" in err


def test_track_everything_says_where_numbers_end(track, video):
    code, _, err = track(video, *EVERYTHING, "--object", "65535", "--point", "25,45", "--max-frames", "2")
    assert code == 1 and "which count to 65535, but there is an object 655" in err
    assert "numbered on from the largest one" in err


def test_track_everything_refuses_a_wrong_checkpoint_before_it_begins(
    video, video_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    path = shutil.copytree(video_folder, tmp_path / "wrong")
    for name in ("processor_config.json", "preprocessor_config.json"):  # of either version of Transformers
        if (path / name).exists():
            content = json.loads((path / name).read_text())
            content.get("image_processor", content)["mask_generation"] = {"points_per_crop": 10**9}
            (path / name).write_text(json.dumps(content))
    assert main(["track", str(video), "--everything", "--model", str(path)]) == 1
    assert "`mask_generation` of the image processor is wrong: `points_per_crop` must" in capsys.readouterr().err
    assert not Path("clip_track").exists()


def test_track_without_prompts_names_everything(track, video):
    code, _, err = track(video, "--memory", "confident")
    assert code == 1 and "`edgetam track --everything`" in err


def test_track_everything_rejects_a_grid_finer_than_pixels(track, video, capsys):
    with pytest.raises(SystemExit):
        track(video, "--everything", "--points-per-side", "4097")
    assert "argument --points-per-side: expected an integer in 1..4096, got '4097'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [("everything", 3), ("every", "a"), ("every", 0), ("every", True), ("nms", []), ("nms", 2), ("reverse", "a")],
)
def test_track_everything_rejects_settings_of_others(track, video, name, value):
    assert track(video, *EVERYTHING, "--max-frames", "1")[0] == 0
    content = json.loads(Path("clip_track/run.json").read_text())
    content["settings"][name] = value
    Path("clip_track/run.json").write_text(json.dumps(content))
    code, _, err = track(video, "--resume")
    assert code == 1 and "has settings that `edgetam track` has not written" in err


@pytest.mark.parametrize("change", [{"next_id": None}, {"more": 1}])
def test_track_everything_rejects_a_state_of_others(track, video, change):
    assert track(video, *EVERYTHING, "--max-frames", "1")[0] == 0
    state = torch.load("clip_track/session.pt", weights_only=False)
    vars(state["everything"]).update(change)
    if change == {"next_id": None}:
        del vars(state["everything"])["next_id"]
    torch.save(state, "clip_track/session.pt")
    code, _, err = track(video, "--resume")
    assert code == 1 and "is no state of tracking of this version" in err
