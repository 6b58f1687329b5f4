"""Values of options: what is written on a command line, made into numbers and paths, or refused in one line."""

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

Command: TypeAlias = argparse._ActionsContainer  # a parser, or a group of its options

VIDEO_CHECKPOINT = "yonigozlan/EdgeTAM-hf"  # the published one
DTYPES = ("float32", "float16", "bfloat16")
RUNTIMES = ("onnxruntime", "openvino")
MEMORIES = RECENT, CONFIDENT = ("recent", "confident")  # what is remembered of an object
FORMATS = ("overlay", "index", "coco", "masks", "yolo", "cutouts")
DEFAULT_FORMATS = ("overlay", "index")
# Text for the help of a command whose name is `command`.
FORMATS_HELP = """\
formats, written as dog_{command}… for dog.jpg:
  overlay    dog_{command}.png: the picture with its masks, to look at
  index      dog_{command}_mask.png: each pixel has the number of its object, 0 where there is none; smaller objects lie
             on top; a palette picture, or 16 bits of grey beyond 255 objects
  coco       dog_{command}_coco.json, or coco.json for all of several pictures: overlapping masks as run lengths, with
             boxes and scores (needs pycocotools)
  masks      dog_{command}_objects/1.png …: a black and white picture of each object
  yolo       labels/dog.txt: class 0 and a polygon in shares of the picture's size, a line for each object; parts and
             holes are joined to it by cuts without width (needs scikit-image)
  cutouts    dog_{command}_cutouts/1.png …: each object on its own, transparent around it
"""
MOST_DIGITS = 18  # of integers that PyTorch and files can hold
# Options whose order counts, as a list of (option, value)
PROMPT: dict[str, Any] = {"action": "append", "dest": "prompts"}
# A switch that stays None if it is not given, which --resume has to know
YES: dict[str, Any] = {"action": "store_true", "default": None}


def parse_point(text: str) -> tuple[str, tuple[float, float, int]]:
    """("point", (x, y, label)) from "X,Y" or "X,Y,LABEL" with label 1 (the object, default) or 0 (not the object)."""
    values = _numbers(text, (2, 3), "X,Y or X,Y,LABEL in pixels of the picture")
    label = int(values[2]) if len(values) == 3 else 1
    if len(values) == 3 and values[2] not in (0, 1):
        raise argparse.ArgumentTypeError(f"the label of a point is 1 (object) or 0 (not the object), got {text!r}")
    return "point", (values[0], values[1], label)


def parse_box(text: str) -> tuple[str, tuple[float, float, float, float]]:
    """("box", (x_min, y_min, x_max, y_max)) from "X0,Y0,X1,Y1"."""
    x_min, y_min, x_max, y_max = _numbers(text, (4,), "X0,Y0,X1,Y1 in pixels of the picture")
    if x_max <= x_min or y_max <= y_min:
        raise argparse.ArgumentTypeError(f"a box is X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1, got {text!r}")
    return "box", (x_min, y_min, x_max, y_max)


def _numbers(text: str, counts: Sequence[int], layout: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts or not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"expected {layout}, got {text!r}")
    return values


def parse_object(text: str) -> tuple[str, int]:
    """("object", number) from a number that fits the 16 bits of a mask file."""
    return "object", _integer(text, 1, 65535)


def parse_frame(text: str) -> tuple[str, int]:
    """("frame", index) from an index counted from 0."""
    return "frame", _integer(text, 0)


def parse_count(text: str) -> int:
    """A positive integer."""
    return _integer(text, 1)


def _integer(text: str, low: int, high: int | None = None) -> int:
    if text.isdecimal() and len(text) > MOST_DIGITS:
        raise argparse.ArgumentTypeError(f"expected an integer of at most {MOST_DIGITS} digits, got {text[:30]!r}")
    if not text.isdecimal() or int(text) < low or (high is not None and int(text) > high):
        limits = f"from {low} on" if high is None else f"in {low}..{high}"
        raise argparse.ArgumentTypeError(f"expected an integer {limits}, got {text!r}")
    return int(text)


def parse_rate(text: str) -> float:
    """A positive number."""
    (rate,) = _numbers(text, (1,), "a number")
    if rate <= 0:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return rate


def parse_share(text: str) -> float:
    """A number that is not negative: a share of one, or a whole number of them."""
    (share,) = _numbers(text, (1,), "a number")
    if share < 0 or (share > 1 and share % 1):
        raise argparse.ArgumentTypeError(f"expected a share in 0..1 or a whole number, got {text!r}")
    return share


def parse_fraction(text: str) -> float:
    """A number in 0..1."""
    (fraction,) = _numbers(text, (1,), "a number in 0..1")
    if not 0 <= fraction <= 1:
        raise argparse.ArgumentTypeError(f"expected a number in 0..1, got {text!r}")
    return fraction


def parse_number(text: str) -> int:
    """An integer that is not negative."""
    return _integer(text, 0)


def parse_side(text: str) -> int:
    """A number of clicks along a side of a picture; 4096 are finer than the pixels of any model input."""
    return _integer(text, 1, 4096)


def parse_layers(text: str) -> int:
    """A number of layers of crops; the eighth alone has 65,536 crops."""
    return _integer(text, 0, 8)


def parse_formats(text: str) -> list[str]:
    """Names of `FORMATS` from a list with commas."""
    names = text.split(",")
    for name in names:
        if name not in FORMATS:
            raise argparse.ArgumentTypeError(f"expected one or several of {', '.join(FORMATS)}, got {name!r}")
    return names


def parse_mask(text: str) -> tuple[str, str]:
    """("mask", absolute path)."""
    return "mask", str(Path(text).absolute())


def add_prompt_options(command: Command) -> None:
    """Adds the prompts, whose order counts: `--object` is for those that follow."""
    command.add_argument("--point", type=parse_point, metavar="X,Y[,0|1]", help="click; 0: off the object", **PROMPT)
    command.add_argument(
        "--box",
        type=parse_box,
        metavar="X0,Y0,X1,Y1",
        help="box; another one on the same picture begins a new object",
        **PROMPT,
    )
    command.add_argument(
        "--mask",
        type=parse_mask,
        metavar="PNG",
        help="mask: what is white or, without white, not black; or an index picture, an object for each value",
        **PROMPT,
    )
    command.add_argument(
        "--object", type=parse_object, metavar="N", help="object of the prompts that follow (default: 1)", **PROMPT
    )


def add_model_options(command: Command, default: str | None = None) -> None:
    """Adds the options of every command that runs a model."""
    command.add_argument(
        "--model",
        default=default,
        help="folder, also of an exported model, Hub id, or nano, which is embedded",
    )
    command.add_argument(
        "--device",
        help="cpu, cuda, cuda:1, mps, … (default: cuda where there is one, else cpu; of exported models cpu)",
    )
    command.add_argument(
        "--runtime",
        choices=RUNTIMES,
        metavar="NAME",
        help="what computes an exported model: %(choices)s (default: the first that is installed)",
    )
    command.add_argument(
        "--dtype",
        choices=(*DTYPES, "int8"),
        metavar="TYPE",
        help="precision: %(choices)s (default: the checkpoint's; of exported models float32, others if exported so)",
    )


def add_speed_options(command: Command) -> None:
    """Adds more options for how a model computes; what is not given stays None."""
    command.add_argument(
        "--image-size",
        type=parse_count,
        metavar="N",
        help="side of what the model sees, in pixels (default: the checkpoint's; smaller: faster, coarser; an exported "
        "model has its own)",
    )
    command.add_argument(
        "--compile", help="torch.compile: a slow first picture, then faster ones (needs a C++ compiler on CPUs)", **YES
    )


def add_memory_option(command: Command, default: str | None = None) -> None:
    """Adds the option for what is remembered of an object of a video; of `default` unless given."""
    command.add_argument(
        "--memory",
        choices=MEMORIES,
        default=default,
        help=f"what is remembered of an object: the last frames, or also what it looks like (default: {RECENT})",
    )


def add_picture_argument(command: Command) -> None:
    """Adds the pictures of a command that takes one or more."""
    command.add_argument(
        "pictures",
        nargs="*",
        metavar="PICTURE",
        help="picture files, folders of them, or patterns such as 'photos/**/*.jpg' (default: a sample photograph)",
    )


def add_output_options(command: Command) -> None:
    """Adds the options for what is written of pictures, and where."""
    command.add_argument(
        "--format",
        type=parse_formats,
        action="extend",
        metavar="NAME[,NAME]",
        help="what to write, see below: " + ", ".join(FORMATS) + " (default: " + ",".join(DEFAULT_FORMATS) + ")",
    )
    command.add_argument(
        "--output", metavar="PATH", help="the overlay's file, or a folder; of several pictures always a folder"
    )
    add_json_option(command)


def add_json_option(command: Command) -> None:
    """Adds the option of every command to report in JSON."""
    command.add_argument("--json", action="store_true", help="print JSON instead of a table, and no progress bar")


def with_negative_values(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--point -5,10` written as `--point=-5,10`, which argparse does not take for an option."""
    joined: list[str] = []
    for argument in arguments:
        is_value = re.match(r"-[\d.]", argument) and joined and joined[-1] in ("--point", "--box")
        if is_value:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined
