"""Arguments of `edgetam masks`."""

from pathlib import Path

from .arguments import add_model_options

HELP = "segment everything"
EXAMPLES = """\
examples:
  edgetam masks dog.jpg                                  masks of everything
"""


def add_arguments(command):
    """Adds the arguments to a parser."""
    command.add_argument("image", type=Path, help="picture file")
    command.add_argument("--points-per-side", type=int, default=32, metavar="N", help="N x N clicks (default: 32)")
    command.add_argument("--points-per-batch", type=int, default=64, metavar="N", help="clicks at a time (default: 64)")
    command.add_argument("--pred-iou-thresh", type=float, default=0.88, metavar="IOU", help="default: %(default)s")
    command.add_argument(
        "--stability-score-thresh", type=float, default=0.95, metavar="IOU", help="default: %(default)s"
    )
    add_model_options(command, default="nano")
    command.add_argument("--output", type=Path, metavar="PNG", help="where the overlay goes; the mask goes beside it")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
