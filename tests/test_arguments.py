"""Arguments of the console command: what is answered without torch, and what they are turned into."""

import subprocess
import sys

import pytest

import edgetam_cli
import edgetam_hf
from edgetam_cli import evaluate, parse
from edgetam_hf.evaluation.promptable import MODES
from edgetam_hf.evaluation.video_datasets import LAYOUTS

WITHOUT_TORCH = """
import sys

sys.modules["torch"] = sys.modules["transformers"] = sys.modules["numpy"] = None  # importing them fails
from edgetam_cli import main

main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], *([name, "--help"] for name in edgetam_cli.COMMANDS), ["segment", "--box"]]
)
def test_arguments_are_answered_without_torch(arguments):
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *arguments], capture_output=True, text=True)
    assert done.returncode == (2 if "--box" in arguments else 0)
    assert "Traceback" not in done.stderr and bool(done.stdout) == (done.returncode == 0)


def test_version_is_the_same_everywhere():
    done = subprocess.run([sys.executable, "-m", "edgetam_hf", "--version"], capture_output=True, text=True)
    assert done.stdout.split() == ["edgetam_hf", edgetam_hf.__version__]


def test_choices_are_those_of_the_evaluation():
    assert (*LAYOUTS, "clicks") == evaluate.DATASETS
    assert evaluate.PROTOCOLS[2:] == MODES


def test_coordinates_may_be_negative():
    options = parse(["segment", "dog.jpg", "--point", "-5,10", "--box", "-1.5,-2,30,40", "--point=-5,-6,0"])
    assert options.prompts == [("point", (-5, 10, 1)), ("box", (-1.5, -2, 30, 40)), ("point", (-5, -6, 0))]
    assert parse(["track", "dog.mp4", "--box", "-.5,0,30,40"]).prompts == [("box", (-0.5, 0, 30, 40))]
