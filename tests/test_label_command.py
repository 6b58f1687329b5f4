"""`edgetam label`: what it takes and refuses, what it prints, and that it goes on."""

import json

import pytest
from fake_labels import read_errors, read_rows
from PIL import Image
from small_models import random
from small_videos import write_video

from edgetam_cli import main


@pytest.fixture
def photos(tmp_path):
    """A folder of three pictures, of which one is broken."""
    (tmp_path / "photos").mkdir()
    for idx in range(2):
        pixels = (random((96, 128, 3)).sigmoid() * 255).byte().numpy()
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{idx}.png")
    (tmp_path / "photos" / "broken.png").write_bytes(b"broken")
    return tmp_path / "photos"


@pytest.fixture
def run(folder, tmp_path, capsys):
    """Exit code, stdout and stderr of `edgetam label` with the small model, in this process."""

    def call(*arguments):
        words = ["label", "--model", folder, *arguments, "--no-ray"]
        return main([str(word) for word in words]), *capsys.readouterr()

    return call


def test_label_command_finds_everything_and_goes_on(photos, tmp_path, run):
    search = ["--everything", "--points-per-side", 3, "--pred-iou-thresh", 0, "--stability-score-thresh", 0]
    code, out, err = run(photos, tmp_path / "out", *search)
    lines = out.splitlines()
    assert lines[0].split() == ["items", "labelled", "now", "before", "failed", "masks", "seconds", "items/s"]
    assert code == 1 and lines[1].split()[:4] == ["3", "2", "0", "1"] and "broken.png" in lines[3]
    assert lines[-1] == f"output: {tmp_path / 'out'}" and "2/3" in err
    rows = read_rows(tmp_path / "out")
    assert {row["name"] for row in rows} == {"0.png", "1.png"}
    assert json.loads(rows[0]["settings"])["mask_generation"]["points_per_crop"] == 3

    (photos / "broken.png").write_bytes((photos / "0.png").read_bytes())
    code, out, err = run(photos, tmp_path / "out", *search, "--json")
    report = json.loads(out)
    assert code == 0 and err == "" and report["failed"] == [] and read_errors(tmp_path / "out") == {}
    assert (report["labelled"], report["before"], report["num_failed"]) == (1, 2, 0)

    code, out, err = run(photos, tmp_path / "out", *search[:-2])
    assert code == 1 and out == "" and "mask_generation.stability_score_thresh was 0" in err.splitlines()[-1]


def test_label_command_takes_prompts(photos, tmp_path, run):
    (photos / "broken.png").unlink()
    (tmp_path / "prompts.json").write_text(json.dumps({"0.png": [{"box": [9, 9, 60, 60]}, [[80, 50, 1]]]}))
    code, out, _ = run(photos, tmp_path / "out", "--prompts", tmp_path / "prompts.json", "--json")
    assert code == 0 and json.loads(out)["labelled"] == 2
    masks = {row["name"]: [mask["object"] for mask in row["masks"]] for row in read_rows(tmp_path / "out")}
    assert masks == {"0.png": [1, 2], "1.png": []}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--everything", "--address", "auto"], "--address is for Ray: leave it out, or leave out --no-ray"),
        (["--everything", "--num-gpus-per-worker", "0.5"], "--num-gpus-per-worker is for Ray"),
        (["--boxes", "nowhere.json"], "there is no file or folder nowhere.json"),
        (["--everything", "--multimask"], "leave multimask out"),
    ],
)
def test_label_command_rejects_what_does_not_fit(photos, tmp_path, run, arguments, message):
    code, out, err = run(photos, tmp_path / "out", *arguments)
    assert code == 1 and out == "" and err.count("\n") == 1 and message in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("inner", ["", "labels"])
def test_label_command_rejects_results_among_the_pictures(photos, run, inner):
    code, _, err = run(photos, photos / inner, "--everything")
    assert code == 1 and "which is labelled: choose a folder beside it" in err


@pytest.fixture
def clips(clip, tmp_path):
    """A folder of two clips."""
    (tmp_path / "clips").mkdir()
    for idx in range(2):
        write_video(tmp_path / "clips" / f"{idx}.mp4", clip[idx : idx + 3])
    return tmp_path / "clips"


def test_label_command_finds_everything_in_clips_and_goes_on(clips, video_folder, tmp_path, run):
    search = ["--everything", "--points-per-side", 3, "--pred-iou-thresh", 0, "--stability-score-thresh", 0]
    search += ["--every", 2, "--max-objects", 3, "--model", video_folder]
    whole = (clips / "1.mp4").read_bytes()
    (clips / "1.mp4").write_bytes(b"broken")
    code, out, _ = run(clips, tmp_path / "out", *search)
    assert code == 1 and "1.mp4 is no video file" in out
    (clips / "1.mp4").write_bytes(whole)
    code, out, _ = run(clips, tmp_path / "out", *search, "--json")
    report = json.loads(out)
    assert code == 0 and (report["labelled"], report["before"]) == (1, 1)
    rows = read_rows(tmp_path / "out")
    assert {row["name"] for row in rows} == {"0.mp4", "1.mp4"}
    assert all(0 < len({mask["object"] for mask in row["masks"]}) <= 3 for row in rows)
    code, _, err = run(clips, tmp_path / "out", *search, "--every", 1)
    assert code == 1 and "in_clips.every was 2 and is 1" in err


@pytest.mark.parametrize("arguments", [["--everything"], ["--boxes", "boxes.json"]])
def test_label_command_rejects_options_of_clips_without_clips(photos, tmp_path, run, arguments):
    code, _, err = run(photos, tmp_path / "out", *arguments, "--every", 3)
    assert code == 1 and "--every is for --everything in clips: leave it out" in err


@pytest.mark.parametrize("value", ["1.5", "-1", "much"])
def test_label_command_rejects_shares_of_gpus_that_cannot_be(photos, tmp_path, run, capsys, value):
    with pytest.raises(SystemExit):
        run(photos, tmp_path / "out", "--everything", "--num-gpus-per-worker", value)
    assert "expected" in capsys.readouterr().err


def test_label_command_needs_to_know_what_to_look_for(photos, tmp_path, run, capsys):
    with pytest.raises(SystemExit):
        run(photos, tmp_path / "out")
    assert "--everything --boxes --points --prompts is required" in capsys.readouterr().err
