"""Values of options: what is written on a command line, made into numbers and paths, or refused in one line."""

import argparse
import math
import re
from pathlib import Path

VIDEO_CHECKPOINT = "yonigozlan/EdgeTAM-hf"  # the published one
PROMPT = {"action": "append", "dest": "prompts"}  # options whose order counts, as a list of (option, value)
YES = {"action": "store_true", "default": None}  # a switch of which --resume can tell that it was not given


def parse_point(text):
    """("point", (x, y, label)) from "X,Y" or "X,Y,LABEL" with label 1 (the object, default) or 0 (not the object)."""
    values = _numbers(text, (2, 3), "X,Y or X,Y,LABEL in pixels of the picture")
    label = int(values[2]) if len(values) == 3 else 1
    if len(values) == 3 and values[2] not in (0, 1):
        raise argparse.ArgumentTypeError(f"the label of a point is 1 (object) or 0 (not the object), got {text!r}")
    return "point", (values[0], values[1], label)


def parse_box(text):
    """("box", (x_min, y_min, x_max, y_max)) from "X0,Y0,X1,Y1"."""
    x_min, y_min, x_max, y_max = _numbers(text, (4,), "X0,Y0,X1,Y1 in pixels of the picture")
    if x_max <= x_min or y_max <= y_min:
        raise argparse.ArgumentTypeError(f"a box is X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1, got {text!r}")
    return "box", (x_min, y_min, x_max, y_max)


def _numbers(text, counts, layout):
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts or not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"expected {layout}, got {text!r}")
    return values


def parse_object(text):
    """("object", number) from a number that fits the 8 bits of a mask file."""
    return "object", _integer(text, 1, 255)


def parse_frame(text):
    """("frame", index) from an index counted from 0."""
    return "frame", _integer(text, 0)


def parse_count(text):
    """A positive integer."""
    return _integer(text, 1)


def _integer(text, low, high=None):
    if not text.isdecimal() or int(text) < low or (high is not None and int(text) > high):
        limits = f"from {low} on" if high is None else f"in {low}..{high}"
        raise argparse.ArgumentTypeError(f"expected an integer {limits}, got {text!r}")
    return int(text)


def parse_rate(text):
    """A positive number."""
    (rate,) = _numbers(text, (1,), "a number")
    if rate <= 0:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return rate


def parse_mask(text):
    """("mask", absolute path)."""
    return "mask", str(Path(text).absolute())


def add_model_options(command, default=None):
    """Adds the options of every command that runs a model."""
    command.add_argument("--model", default=default, help="folder, Hub id, or nano, which is embedded")
    command.add_argument("--device", help="cpu, cuda, cuda:1, mps, … (default: cuda where there is one, else cpu)")


def with_negative_values(arguments):
    """The arguments with `--point -5,10` written as `--point=-5,10`, which argparse does not take for an option."""
    joined = []
    for argument in arguments:
        is_value = re.match(r"-[\d.]", argument) and joined and re.fullmatch(r"--[a-z-]+", joined[-1])
        if is_value:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined
