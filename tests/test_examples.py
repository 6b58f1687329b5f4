"""The scripts and notebooks of examples/ run, and print what stands beside them."""

import contextlib
import io
import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
RUN = re.compile(r"^```bash\npython examples/(\S+\.py)([^\n]*)\n```\n\n```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def run_script(path, arguments, monkeypatch):
    """What a script prints."""
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(path), run_name="__main__")
    return printed.getvalue()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_example_prints_what_its_readme_says(path, monkeypatch, tmp_path):
    if path.stem in ("track", "track_everything", "live"):
        pytest.importorskip("av", reason="video files need PyAV: pip install av")
    runs = {name: (options, expected) for name, options, expected in RUN.findall((EXAMPLES / "README.md").read_text())}
    options, expected = runs[path.name]
    for folder in ("edgetam_hf/samples", "examples"):
        (tmp_path / folder).parent.mkdir(exist_ok=True)
        (tmp_path / folder).symlink_to(EXAMPLES.parent / folder)
    monkeypatch.chdir(tmp_path)
    printed = run_script(path, shlex.split(options), monkeypatch)
    assert NUMBER.sub("N", printed) == NUMBER.sub("N", expected)
    assert [float(number) for number in NUMBER.findall(printed)] == pytest.approx(
        [float(number) for number in NUMBER.findall(expected)], rel=0.02
    )


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_example_is_short_and_explains_itself(path, monkeypatch):
    assert len(path.read_text().splitlines()) < 60
    with pytest.raises(SystemExit) as ended:
        run_script(path, ["--help"], monkeypatch)
    assert ended.value.code == 0


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_runs_and_prints_what_is_stored(path, monkeypatch):
    pytest.importorskip("av", reason="video files need PyAV: pip install av")
    monkeypatch.chdir(EXAMPLES)
    namespace = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("".join(cell["source"]), path.name, "exec"), namespace)
            stored = "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")
            assert printed.getvalue() == stored
