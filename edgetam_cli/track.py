"""Arguments of `edgetam track`; what is not given stays None, so that --resume can tell."""

import argparse
from pathlib import Path

from .arguments import (
    PROMPT,
    YES,
    Command,
    add_json_option,
    add_memory_option,
    add_model_options,
    add_prompt_options,
    add_speed_options,
    parse_count,
    parse_fraction,
    parse_frame,
    parse_layers,
    parse_rate,
    parse_side,
)

HELP = "track prompted objects, or everything, through a video"
EXAMPLES = """\
examples:
  edgetam track dog.mp4 --point 320,200                  one click on the first frame, with the published checkpoint
                                                         (downloads 56 MB)
  edgetam track frames/ --frame 30 --box 9,9,90,90       a folder of pictures, and a box on frame 30
  edgetam track dog.mp4 --box 9,9,90,90 --box 100,80,420,390
                                                         two objects: another --box on a frame begins a new one
  edgetam track dog.mp4 --box 9,9,90,90 --frame 30 --point 50,60,0 --object 2 --point 200,80
                                                         --frame and --object are for the prompts after them: the
                                                         first object is corrected on frame 30, a second begins there
  edgetam track dog.mp4 --frame 99 --point 320,200 --reverse
                                                         back to the beginning
  edgetam track street.mp4 --everything                  finds what to track by itself, also what enters later
  edgetam track dog.mp4 --resume                         goes on after it was stopped or killed
  edgetam track dog.mp4 --mask first.png --stride 5      the objects of an index picture, on every fifth frame
  edgetam track --camera 0 --point 320,200               live, until Ctrl-C, a number of frames or the end comes; so
  edgetam track rtsp://host/stream --point 320,200       are addresses: prompts wait for their frames

written to dog_track/:
  masks/00000.png …   pictures whose value is the object's number, the later one where objects overlap: with a palette,
                      or 16 bits where numbers exceed 255; named by frame, or as the pictures of a folder
  overlay.mp4         the video with its masks, to look at, with its sound; it can be watched while it grows
  frames.jsonl        a line per frame: score, visibility, area, box and run lengths of each object
  tracks.json, annotations.json
                      the same in the formats of YouTube-VIS and of COCO, in the end (needs pycocotools)
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments to a parser."""
    command.add_argument("video", nargs="?", help="video file, folder of pictures, or address: https://…, rtsp://…")
    command.add_argument("--camera", metavar="N", help="number or name of a camera, in place of a video")
    prompts = command.add_argument_group("what to track")
    add_prompt_options(prompts)
    prompts.add_argument(
        "--frame", type=parse_frame, metavar="N", help="frame of the prompts that follow (default: 0)", **PROMPT
    )
    everything = command.add_argument_group(
        "everything", "what is not given comes from the checkpoint, or else from the defaults in brackets"
    )
    everything.add_argument(
        "--everything", help="find objects, follow them, and let go of those that leave; prompts may come on top", **YES
    )
    add_discovery_options(everything)
    everything.add_argument("--points-per-side", type=parse_side, metavar="N", help="search with N x N clicks (32)")
    everything.add_argument(
        "--pred-iou-thresh", type=parse_fraction, metavar="0..1", help="find no masks of a lower score (0.88)"
    )
    everything.add_argument(
        "--stability-score-thresh",
        type=parse_fraction,
        metavar="0..1",
        help="find no masks whose edge is less certain (0.95)",
    )
    everything.add_argument(
        "--nms",
        type=parse_fraction,
        metavar="0..1",
        help="of two masks whose boxes overlap more, take the better one (0.7)",
    )
    everything.add_argument(
        "--crops", type=parse_layers, metavar="N", help="search parts of the frame, too: 4 with 1, 20 with 2, … (0)"
    )
    frames = command.add_argument_group("frames")
    frames.add_argument(
        "--start",
        type=parse_frame_index,
        metavar="N",
        help="first frame to track (default: earliest prompted; in reverse: latest; with --everything: 0)",
    )
    frames.add_argument("--max-frames", type=parse_count, metavar="N", help="track N frames (default: all)")
    frames.add_argument("--stride", type=parse_count, metavar="N", help="track every Nth frame, and those with prompts")
    frames.add_argument("--reverse", help="go back in time; the overlay plays backwards too", **YES)
    model = command.add_argument_group("model")
    add_model_options(model)
    add_speed_options(model)
    add_memory_option(model)
    results = command.add_argument_group("results")
    results.add_argument("--output", type=Path, metavar="FOLDER", help="default: the video's name and _track")
    results.add_argument("--resume", action="store_true", help="go on with the run in the output folder")
    results.add_argument("--non-overlapping", help="give each pixel to one object at most", **YES)
    results.add_argument(
        "--frame-rate",
        type=parse_frame_rate,
        metavar="N",
        help="of the overlay, which then has no sound (default: as the video is shown; pictures: 25)",
    )
    add_json_option(results)


def add_discovery_options(everything: Command) -> None:
    """Adds the options for when objects of a video are searched, and for how many."""
    everything.add_argument(
        "--every", type=parse_count, metavar="N", help="look for new objects on every Nth tracked frame (5)"
    )
    everything.add_argument(
        "--max-objects", type=parse_count, metavar="N", help="at a time; of new ones the best scores come first (64)"
    )


def parse_frame_index(text: str) -> int:
    """An index counted from 0."""
    return parse_frame(text)[1]


def parse_frame_rate(text: str) -> float:
    """A number of frames per second that video files can have."""
    rate = parse_rate(text)
    if not 0.01 <= rate <= 1000:
        raise argparse.ArgumentTypeError(f"expected a number of frames per second in 0.01..1000, got {text!r}")
    return rate
