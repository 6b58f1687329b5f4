"""The notebooks in examples/ run from the first cell to the last, and print what is stored in them."""

import contextlib
import io
import json
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_runs_and_prints_what_is_stored(path, monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    namespace = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("".join(cell["source"]), path.name, "exec"), namespace)
            stored = "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")
            assert printed.getvalue() == stored
