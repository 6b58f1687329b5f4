"""docs/integrations.md: the blocks of each tool run where that tool is, and print what stands below them."""

import re

import pytest
from test_readme import ROOT, blocks_of, run_blocks, workplace

__all__ = ["workplace"]

PAGE = ROOT / "docs" / "integrations.md"
PACKAGES = {
    "supervision": ("supervision", "supervision"),
    "CVAT": ("cvat_sdk", "cvat-cli"),
    "Label Studio": ("label_studio_ml", "label-studio-ml rq redis"),
    "Hub endpoints": ("pycocotools", "pycocotools"),
}
HEADING = re.compile(r"^## (.*)\n", re.MULTILINE)


def sections():
    """{heading: text} of the page."""
    _, *parts = HEADING.split(PAGE.read_text(encoding="utf-8"))
    return dict(zip(parts[::2], parts[1::2]))


def skip_without(tool):
    """Skips where the tool of a section is missing, or what it needs."""
    if tool == "FiftyOne":
        import fiftyone_database

        fiftyone_database.skip_without_database()
        fiftyone_database.skip_without_ffmpeg()
    else:
        module, package = PACKAGES[tool]
        pytest.importorskip(module, reason=f"the section of the page needs it: pip install {package}")


@pytest.mark.parametrize("tool", sections())
def test_integrations_page_prints_what_follows_its_python(tool, workplace):
    skip_without(tool)
    pytest.importorskip("av", reason="the clip is read by PyAV: pip install av")
    run_blocks(blocks_of(sections()[tool]), tool)
