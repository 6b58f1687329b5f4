"""The README's Python examples run as they stand there, and print what it says."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from edgetam_hf import EdgeTamModel
from edgetam_hf.formats.overlay_video import OverlayVideo

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_readme_examples_print_what_follows_them(monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    namespace, num_compared = {}, 0
    for (language, code), (next_language, expected) in zip(blocks, [*blocks[1:], ("", None)]):
        if language != "python" or "EdgeTamVideo" in code or "Trainer" in code:
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), namespace)
        if next_language == "" and expected is not None:
            assert printed.getvalue() == expected
            num_compared += 1
    assert num_compared == 2 and len(namespace["masks"]) == len(namespace["scores"])


def test_readme_video_example_tracks(video_folder, clip, tmp_path, capsys):
    """With a small model and a drawn clip in place of what would have to be downloaded."""
    pytest.importorskip("av", reason="writing the clip needs PyAV")
    with OverlayVideo(tmp_path / "clip.mp4", *clip.shape[1:3], frame_rate=25) as video:
        for frame in clip:
            video.write(frame)
    (code,) = (code for language, code in BLOCK.findall((ROOT / "README.md").read_text()) if "EdgeTamVideo" in code)
    for name, stand_in in (("yonigozlan/EdgeTAM-hf", video_folder), ("clip.mp4", tmp_path / "clip.mp4")):
        assert name in code
        code = code.replace(name, str(stand_in))
    exec(compile(code, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(clip) and all(f"{i} [1, 2] tensor(" in line for i, line in enumerate(lines))


def test_readme_training_example_trains(folder, monkeypatch, tmp_path):
    """With a small model and one photograph in place of what would have to be downloaded and drawn."""
    pytest.importorskip("pycocotools", reason="masks of COCO need pycocotools: pip install pycocotools")
    (tmp_path / "photos").mkdir()
    shutil.copy(ROOT / "edgetam_hf" / "samples" / "cat.jpg", tmp_path / "photos")
    image = {"id": 1, "file_name": "cat.jpg", "height": 300, "width": 451}
    eye = {"id": 1, "image_id": 1, "segmentation": [[135, 86, 209, 86, 209, 149, 135, 149]]}
    (tmp_path / "instances.json").write_text(json.dumps({"images": [image], "annotations": [eye]}))
    (code,) = (code for language, code in BLOCK.findall((ROOT / "README.md").read_text()) if "Trainer(" in code)
    for name, stand_in in (("yonigozlan/EdgeTAM-hf", folder), ("max_steps=1000", "max_steps=1, report_to='none'")):
        assert name in code
        code = code.replace(name, str(stand_in))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    before, after = (EdgeTamModel.from_pretrained(path).state_dict() for path in (folder, "finetuned"))
    assert any(not torch.equal(value, before[name]) for name, value in after.items())


def test_readme_pictures_exist():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert pictures and all((ROOT / picture).is_file() for picture in pictures)
