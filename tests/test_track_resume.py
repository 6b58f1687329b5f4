"""`edgetam track --resume` goes on with its own run only, and tells in one line what is in the way."""

import json
import os
import pickle
import shutil
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgetam_cli import main
from edgetam_hf.files.writing import locked


@pytest.fixture(scope="module")
def pictures(clip, tmp_path_factory):
    """Folder with the frames of the clip."""
    folder = tmp_path_factory.mktemp("resume") / "clip"
    folder.mkdir()
    for idx, frame in enumerate(clip):
        Image.fromarray(frame).save(folder / f"{idx}.png")
    return folder


@pytest.fixture(scope="module")
def finished(pictures, video_folder, tmp_path_factory):
    """Output folder of a run over the pictures that has ended."""
    folder = tmp_path_factory.mktemp("finished") / "out"
    arguments = ["track", pictures, "--point", "25,45", "--model", video_folder, "--output", folder, "--json"]
    assert main([str(argument) for argument in arguments]) == 0
    return folder


@pytest.fixture
def begun(finished, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(finished, tmp_path / "out")


@pytest.mark.parametrize("changed", [0, 7, 11])
def test_resume_rejects_another_video_of_equal_size_and_length(track, pictures, begun, tmp_path, changed):
    other = shutil.copytree(pictures, tmp_path / "clip")
    pixels = np.asarray(Image.open(other / f"{changed}.png")).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(other / f"{changed}.png")
    overlay = (begun / "overlay.mp4").read_bytes()
    code, out, err = track(other, "--resume", "--output", begun)
    assert code == 1 and out == "" and err.count("\n") == 1
    assert f"started with another video: its frame {changed} differs" in err
    assert (begun / "overlay.mp4").read_bytes() == overlay


def test_resume_takes_pictures_that_were_stored_anew(track, pictures, begun, tmp_path):
    (tmp_path / "clip").mkdir()
    for path in pictures.iterdir():
        Image.open(path).save(tmp_path / "clip" / f"{path.stem}.bmp")
    assert track("clip", "--resume", "--output", begun)[0] == 0


class Code:
    """What runs a command when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("attacked",)


def replace_row(folder, content):
    lines = (folder / "frames.jsonl").read_text().splitlines()
    lines[2] = content(json.loads(lines[2]))
    (folder / "frames.jsonl").write_text("\n".join(lines) + "\n")


def with_counts(counts):
    def change(row):
        row["objects"]["1"]["segmentation"]["counts"] = counts
        return json.dumps(row)

    return change


def change_settings(folder, **settings):
    content = json.loads((folder / "run.json").read_text())
    content["settings"].update(settings)
    (folder / "run.json").write_text(json.dumps(content))


DAMAGES = {
    "run.json is a list": lambda f: (f / "run.json").write_text("[]"),
    "run.json is cut": lambda f: (f / "run.json").write_text('{"settings": '),
    "run.json is nested": lambda f: (f / "run.json").write_text("[" * 100_000),
    "run.json has no bytes of text": lambda f: (f / "run.json").write_bytes(b"\xff\xfe\x00"),
    "run.json is of another program": lambda f: (f / "run.json").write_text(
        '{"settings": {"dataset": 1}, "video": {}}'
    ),
    "prompts are a number": lambda f: change_settings(f, prompts=5),
    "a prompt is no point": lambda f: change_settings(f, prompts=[["point", ["a", "b", "c"]]]),
    "the stride is nothing": lambda f: change_settings(f, stride=0),
    "frames.jsonl is damaged": lambda f: replace_row(f, lambda row: '{"frame": 2, "obj'),
    "frames.jsonl has no rows": lambda f: replace_row(f, lambda row: "[1, 2]"),
    "frames.jsonl has no scores": lambda f: replace_row(f, lambda row: '{"frame": 2, "objects": {"1": {}}}'),
    "frames.jsonl has other frames": lambda f: replace_row(f, lambda row: json.dumps({**row, "frame": 9})),
    "run lengths are too long": lambda f: replace_row(f, with_counts("o" * 99)),
    "run lengths are a number": lambda f: replace_row(f, with_counts(5)),
    "frames.jsonl is missing": lambda f: (f / "frames.jsonl").unlink(),
    "a mask is missing": lambda f: (f / "masks" / "4.png").unlink(),
    "a mask is another file": lambda f: (f / "masks" / "4.png").write_text("hello"),
    "session.pt is empty": lambda f: (f / "session.pt").write_bytes(b""),
    "session.pt is a text": lambda f: (f / "session.pt").write_text("hello, this is not what was expected"),
    "session.pt is of something else": lambda f: torch.save({"weight": torch.ones(3)}, f / "session.pt"),
    "session.pt is a list": lambda f: torch.save([1, 2], f / "session.pt"),
    "session.pt has other objects": lambda f: torch.save({"objects": {1: 5}, "num_done": 3}, f / "session.pt"),
    "session.pt has code": lambda f: (f / "session.pt").write_bytes(pickle.dumps(Code())),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_resume_tells_foreign_and_damaged_files_in_one_line(track, pictures, begun, tmp_path, damage):
    DAMAGES[damage](begun)
    code, out, err = track(pictures, "--resume", "--output", begun)
    assert code == 1 and out == "" and err.count("\n") == 1
    assert "start again in another --output" in err or "run lengths" in err
    assert not (tmp_path / "attacked").exists() and not Path("attacked").exists()


def test_resume_rejects_the_state_of_another_version(track, pictures, begun, monkeypatch):
    module = types.ModuleType("edgetam_hf.module_of_another_version")
    module.TrackedObject = type("TrackedObject", (), {"__module__": module.__name__})
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        torch.save({"objects": {1: module.TrackedObject()}, "num_done": 3}, begun / "session.pt")
    rows = (begun / "frames.jsonl").read_bytes()
    code, _, err = track(pictures, "--resume", "--output", begun)
    assert code == 1 and "session.pt is damaged, or no state of tracking of this version: start again" in err
    assert (begun / "frames.jsonl").read_bytes() == rows  # the other version can go on


def test_resume_rejects_the_state_of_other_objects(track, pictures, begun, finished):
    change_settings(begun, prompts=[["object", 2], ["point", [25, 45, 1]]])
    code, _, err = track(pictures, "--resume", "--output", begun)
    assert code == 1 and "of other objects than those of this run" in err


def test_rows_have_the_checksums_of_their_frames(begun, clip):
    rows = [json.loads(line) for line in (begun / "frames.jsonl").read_text().splitlines()]
    assert [row["fingerprint"] for row in rows] == [zlib.crc32(frame) for frame in clip]


def test_a_second_run_in_a_folder_is_refused(track, pictures, begun):
    with locked(begun):
        code, out, err = track(pictures, "--resume", "--output", begun)
    assert code == 1 and out == "" and "another run is writing to" in err and err.count("\n") == 1
    assert track(pictures, "--resume", "--output", begun)[0] == 0


@pytest.mark.parametrize("limit", [100, 1500, 20_000])
def test_a_full_disk_is_told_in_one_line_and_resume_goes_on(track, pictures, finished, tmp_path, limit):
    """At the first file, at the overlay or the line of a frame, and at the state of tracking."""
    resource = pytest.importorskip("resource", reason="files are limited by POSIX systems only")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        code, out, err = track(pictures, "--point", "25,45", "--output", "part", "--json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1 and out == "" and err.count("\n") == 1
    if limit == 100:
        assert "run.json: File too large" in err and not (tmp_path / "part").exists()
    else:
        assert "frames before are in part" in err and "--resume goes on" in err
        assert track(pictures, "--resume", "--output", "part")[0] == 0
        for name in ("frames.jsonl", "tracks.json"):
            assert (tmp_path / "part" / name).read_text() == (finished / name).read_text()
