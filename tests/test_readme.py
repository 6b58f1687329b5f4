"""The README and docs/: their Python runs and prints what stands below it, their commands and links are right."""

import contextlib
import io
import json
import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml

from edgetam_cli import __version__, main, parse
from edgetam_hf import EdgeTamModel, nano_checkpoint

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = {"integrations"}  # pages whose blocks need a tool each: test_integration_docs.py runs them
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FRACTION = re.compile(r"\d+\.\d+")
LINK = re.compile(r"\]\(([^)\s]+)\)")
# what would have to be downloaded, or to run for hours
STAND_INS = {"yonigozlan/EdgeTAM-hf": str(nano_checkpoint()), "max_steps=1000": "max_steps=1, report_to='none'"}


def blocks_of(page):
    """Pairs (language, text) of the fenced blocks of a page, or of a part of one."""
    return BLOCK.findall(page if isinstance(page, str) else page.read_text(encoding="utf-8"))


def has_python(page):
    return page.stem not in ELSEWHERE and any(language == "python" for language, _ in blocks_of(page))


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory with the files of a checkout that blocks open, and with masks of somebody's own."""
    (tmp_path / "edgetam_hf").mkdir()
    (tmp_path / "edgetam_hf" / "samples").symlink_to(ROOT / "edgetam_hf" / "samples")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "photos").mkdir()
    shutil.copy(ROOT / "edgetam_hf" / "samples" / "cat.jpg", tmp_path / "photos")
    image = {"id": 1, "file_name": "cat.jpg", "height": 300, "width": 451}
    eye = {"id": 1, "image_id": 1, "segmentation": [[135, 86, 209, 86, 209, 149, 135, 149]]}
    (tmp_path / "instances.json").write_text(json.dumps({"images": [image], "annotations": [eye]}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_same_but_for_rounding(printed, expected):
    """Equal, but decimal fractions may differ by 0.002, as they do between processors."""
    assert FRACTION.sub("F", printed) == FRACTION.sub("F", expected)
    fractions, wanted = ([float(text) for text in FRACTION.findall(lines)] for lines in (printed, expected))
    assert fractions == pytest.approx(wanted, abs=0.002)


def run_blocks(blocks, name):
    """Runs Python blocks, one after the other, and compares what is printed with the block that follows."""
    namespace = {}
    for (language, code), (next_language, expected) in zip(blocks, [*blocks[1:], ("end", None)]):
        if language != "python":
            continue
        for name, stand_in in STAND_INS.items():
            code = code.replace(name, stand_in)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, name, "exec"), namespace)
        if "print(" in code:
            assert next_language == "" and printed.getvalue() == expected
    return namespace


@pytest.mark.parametrize("page", list(filter(has_python, PAGES)), ids=lambda page: page.stem)
def test_readme_and_docs_print_what_follows_their_python(page, workplace, request):
    if page.stem == "export":
        request.getfixturevalue("kept_graphs")
    if page.stem == "video":
        pytest.importorskip("av", reason="reading the clip needs PyAV: pip install av")
    if page.stem == "training":
        pytest.importorskip("pycocotools", reason="masks of COCO need pycocotools: pip install pycocotools")
    run_blocks(blocks_of(page), page.name)
    if page.stem == "training":
        before, after = (EdgeTamModel.from_pretrained(path).state_dict() for path in (nano_checkpoint(), "finetuned"))
        assert any(not torch.equal(value, before[name]) for name, value in after.items())


def commands_of(page):
    """Command lines of the bash blocks of a page that start the project's own program."""
    for language, text in blocks_of(page):
        if language == "bash":
            for line in text.replace("\\\n", " ").splitlines():
                for command in line.split("&&"):
                    words = shlex.split(command, comments=True)
                    words = words[: words.index(">")] if ">" in words else words
                    if "edgetam_hf" in words and "-m" in words:
                        words = ["edgetam", *words[words.index("edgetam_hf") + 1 :]]
                    if words[:1] == ["edgetam"]:
                        yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_readme_and_docs_name_commands_that_exist(page):
    for words in commands_of(page):
        parse(words)


def test_readme_names_a_command_of_each_kind():
    assert {words[0] for page in PAGES for words in commands_of(page)} == {
        "segment", "masks", "track", "convert", "export", "evaluate", "train", "demo", "label",
        "label-export",
    }  # fmt: skip


@pytest.mark.parametrize(
    "page", [*PAGES, *(ROOT / name for name in ("examples/README.md", "SECURITY.md"))], ids=lambda page: page.name
)
def test_readme_and_docs_link_to_files_that_exist(page):
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    missing = [link for link in links if not (page.parent / link.split("#")[0]).exists()]
    assert not missing


def test_readme_links_to_every_page():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = [page.name for page in PAGES if page.name != "README.md"]
    assert pages and all(f"({page})" in index for page in pages)


@pytest.mark.parametrize(
    ("page", "command"),
    [
        ("README.md", "segment"),
        ("docs/command_line.md", "track examples/coins.mp4"),
        ("docs/command_line.md", "track examples/rolling.mp4"),
    ],
)
def test_readme_and_docs_show_what_a_command_prints(page, command, workplace, capsys):
    if command.startswith("track"):
        pytest.importorskip("av", reason="reading the clip needs PyAV: pip install av")
        pytest.importorskip("pycocotools", reason="tracks.json needs pycocotools: pip install pycocotools")
    blocks = blocks_of(ROOT / page)
    code, expected = next(
        (code, text)
        for (language, code), (next_language, text) in pairwise(blocks)
        if language == "bash" and next_language == "" and f"edgetam {command}" in code
    )
    assert main(shlex.split(code.split("edgetam ")[-1])) == 0
    assert_same_but_for_rounding(capsys.readouterr().out, expected)


def test_readme_cites_whom_the_citation_file_cites():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    paper, readme = citation["preferred-citation"], " ".join(PAGES[0].read_text(encoding="utf-8").split())
    names = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    assert f"author = {{{names}}}" in readme and f"title = {{{paper['title']}}}" in readme
    assert citation["version"] == __version__
