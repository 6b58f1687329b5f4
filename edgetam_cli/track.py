"""Arguments of `edgetam track`; what is not given stays None, so that --resume can tell."""

from pathlib import Path

from .arguments import (
    PROMPT,
    YES,
    add_model_options,
    parse_box,
    parse_count,
    parse_frame,
    parse_mask,
    parse_object,
    parse_point,
    parse_rate,
)

HELP = "track prompted objects through a video"
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
  edgetam track dog.mp4 --resume                         goes on after it was stopped or killed

written to dog_track/:
  masks/00000.png …   palette pictures whose value is the object's number, the later one where objects overlap
  overlay.mp4         the video with its masks, to look at; it can be watched while it grows
  frames.jsonl        a line per frame: score, visibility, area, box and run lengths of each object
  tracks.json, annotations.json
                      the same in the formats of YouTube-VIS and of COCO, in the end (needs pycocotools)
"""


def add_arguments(command):
    """Adds the arguments to a parser."""
    command.add_argument("video", help="video file, or folder of pictures")
    command.add_argument("--point", type=parse_point, metavar="X,Y[,0|1]", help="click; 0: off the object", **PROMPT)
    command.add_argument(
        "--box", type=parse_box, metavar="X0,Y0,X1,Y1", help="box; another one on a frame begins a new object", **PROMPT
    )
    command.add_argument("--mask", type=parse_mask, metavar="PNG", help="mask: pixels that are not zero", **PROMPT)
    command.add_argument(
        "--frame", type=parse_frame, metavar="N", help="frame of the prompts that follow (default: 0)", **PROMPT
    )
    command.add_argument(
        "--object", type=parse_object, metavar="N", help="object of the prompts that follow (default: 1)", **PROMPT
    )
    add_model_options(command)
    command.add_argument("--output", type=Path, metavar="FOLDER", help="default: the video's name and _track")
    command.add_argument("--resume", action="store_true", help="go on with the run in the output folder")
    command.add_argument(
        "--start", type=int, metavar="N", help="first frame to track (default: earliest prompted; in reverse: latest)"
    )
    command.add_argument("--max-frames", type=parse_count, metavar="N", help="track N frames (default: all)")
    command.add_argument("--reverse", help="go back in time; the overlay plays backwards too", **YES)
    command.add_argument("--non-overlapping", help="give each pixel to one object at most", **YES)
    command.add_argument("--image-size", type=parse_count, metavar="N", help="side of the input (smaller: faster)")
    command.add_argument(
        "--frame-rate", type=parse_rate, metavar="N", help="of the overlay (default: the video's, or 25)"
    )
    command.add_argument("--json", action="store_true", help="print JSON instead of a table, and no progress bar")
