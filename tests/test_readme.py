"""The README's Python examples run as they stand there, and print what it says."""

import contextlib
import io
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_readme_examples_print_what_follows_them(monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    namespace, num_compared = {}, 0
    for (language, code), (next_language, expected) in zip(blocks, [*blocks[1:], ("", None)]):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), namespace)
        if next_language == "" and expected is not None:
            assert printed.getvalue() == expected
            num_compared += 1
    assert num_compared == 1 and len(namespace["masks"]) == len(namespace["scores"])


def test_readme_pictures_exist():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert pictures and all((ROOT / picture).is_file() for picture in pictures)
