"""The README's Python examples run as they stand there, and print what it says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from edgetam_hf.video_output import OverlayVideo

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_readme_examples_print_what_follows_them(monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    namespace, num_compared = {}, 0
    for (language, code), (next_language, expected) in zip(blocks, [*blocks[1:], ("", None)]):
        if language != "python" or "EdgeTamVideo" in code:
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), namespace)
        if next_language == "" and expected is not None:
            assert printed.getvalue() == expected
            num_compared += 1
    assert num_compared == 1 and len(namespace["masks"]) == len(namespace["scores"])


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


def test_readme_pictures_exist():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert pictures and all((ROOT / picture).is_file() for picture in pictures)
