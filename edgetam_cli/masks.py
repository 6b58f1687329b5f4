"""Arguments of `edgetam masks`."""

import argparse

from .arguments import (
    FORMATS_HELP,
    Command,
    add_model_options,
    add_output_options,
    add_picture_argument,
    add_speed_options,
    parse_count,
    parse_fraction,
    parse_layers,
    parse_number,
    parse_side,
)

HELP = "segment everything in pictures"
FROM_CHECKPOINT = "what is not given comes from the checkpoint, or else from EdgeTAM's defaults in brackets"
EXAMPLES = f"""\
examples:
  edgetam masks                                          a sample photograph, with the embedded checkpoint
  edgetam masks dog.jpg                                  masks of everything
  edgetam masks dog.jpg --points-per-side 16             faster, without the smallest objects
  edgetam masks dog.jpg --crops 1                        looks closer, too, at each quarter of the picture
  edgetam masks dog.jpg --pred-iou-thresh 0.6 --stability-score-thresh 0.7
                                                         more masks, and more doubtful ones
  edgetam masks photos/ 'more/*.png' --format coco,yolo --output results/
                                                         many pictures, for training other models

{FORMATS_HELP.format(command="masks")}"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments to a parser; what is not given stays None, so that the checkpoint's own values count."""
    add_picture_argument(command)
    add_search_options(command.add_argument_group("what to look for", FROM_CHECKPOINT))
    model = command.add_argument_group("model")
    add_model_options(model, default="nano")
    add_speed_options(model)
    add_output_options(command.add_argument_group("results"))


def add_search_options(search: Command) -> None:
    """Adds the options for how everything in a picture is searched."""
    search.add_argument("--points-per-side", type=parse_side, metavar="N", help="search with N x N clicks (32)")
    search.add_argument(
        "--points-per-batch", type=parse_count, metavar="N", help="clicks at a time: fewer need less memory (64)"
    )
    search.add_argument(
        "--pred-iou-thresh", type=parse_fraction, metavar="0..1", help="drop masks of a lower score (0.88)"
    )
    search.add_argument(
        "--stability-score-thresh",
        type=parse_fraction,
        metavar="0..1",
        help="drop masks whose edge is less certain: their area, cut a little tighter and wider, agrees less (0.95)",
    )
    search.add_argument(
        "--nms",
        type=parse_fraction,
        metavar="0..1",
        help="of two masks whose boxes overlap more, keep the better one (0.7)",
    )
    search.add_argument(
        "--crops",
        type=parse_layers,
        metavar="N",
        help="search parts of the picture, too: 4 with 1, 20 with 2, … (0)",
    )
    search.add_argument(
        "--min-area",
        type=parse_number,
        metavar="PIXELS",
        help="remove smaller specks and fill smaller holes (0)",
    )
