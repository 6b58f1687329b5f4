"""Arguments of `edgetam segment`."""

from pathlib import Path

from .arguments import PROMPT, add_model_options, parse_box, parse_point

HELP = "segment prompted objects"
EXAMPLES = """\
examples:
  edgetam segment                                        a sample photograph, with the embedded checkpoint
  edgetam segment dog.jpg --point 320,200                one click on the object
  edgetam segment dog.jpg --point 320,200 --point 50,60,0   ... and one beside it (0: not the object)
  edgetam segment dog.jpg --box 100,80,420,390           a box around the object
  edgetam segment dog.jpg --box 9,9,90,90 --point 40,40 --box 100,80,420,390
                                                         two objects: every --box begins a new one
  edgetam segment dog.jpg --box 9,9,90,90 --model yonigozlan/EdgeTAM-hf
                                                         the published checkpoint (downloads 56 MB)
  edgetam masks dog.jpg                                  masks of everything
  edgetam track dog.mp4 --point 320,200                  the object through a video; more: edgetam track --help
  edgetam convert edgetam.pt folder                      the original checkpoint for Transformers, or back
"""


def add_arguments(command):
    """Adds the arguments to a parser."""
    command.add_argument("image", nargs="?", type=Path, help="picture file (default: a sample photograph)")
    command.add_argument(
        "--point", type=parse_point, metavar="X,Y[,0|1]", help="click, off the object with 0", **PROMPT
    )
    command.add_argument("--box", type=parse_box, metavar="X0,Y0,X1,Y1", help="box; begins a new object", **PROMPT)
    command.add_argument("--multimask", action="store_true", help="choose the best of three masks per object")
    add_model_options(command, default="nano")
    command.add_argument("--output", type=Path, metavar="PNG", help="where the overlay goes; the mask goes beside it")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
