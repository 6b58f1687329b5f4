"""Arguments of `edgetam segment`."""

from .arguments import (
    PROMPT,
    add_model_options,
    add_output_options,
    add_picture_argument,
    add_speed_options,
    parse_box,
    parse_mask,
    parse_object,
    parse_point,
)
from .masks import FILES

HELP = "segment prompted objects of pictures"
EXAMPLES = f"""\
examples:
  edgetam segment                                        a sample photograph, with the embedded checkpoint
  edgetam segment dog.jpg --point 320,200                one click on the object
  edgetam segment dog.jpg --point 320,200 --point 50,60,0   ... and one beside it (0: not the object)
  edgetam segment dog.jpg --box 100,80,420,390           a box around the object
  edgetam segment dog.jpg --box 9,9,90,90 --point 40,40 --box 100,80,420,390
                                                         two objects: another --box begins a new one
  edgetam segment dog.jpg --object 1 --point 9,9 --object 2 --point 50,60
                                                         two objects by clicks
  edgetam segment dog.jpg --mask rough.png               a mask to refine; an index picture has several objects
  edgetam segment dog.jpg --box 9,9,90,90 --format coco,cutouts --output results/
                                                         run lengths in COCO's JSON, and the object on its own
  edgetam segment photos/ --box 100,80,420,390 --output results/
                                                         the same prompts for each picture of a folder
  edgetam segment dog.jpg --box 9,9,90,90 --model yonigozlan/EdgeTAM-hf
                                                         the published checkpoint (downloads 56 MB)

coordinates are in pixels of the picture as it is seen, x from the left and y from the top.

{FILES.format(command="segment")}"""


def add_arguments(command):
    """Adds the arguments to a parser."""
    add_picture_argument(command)
    prompts = command.add_argument_group("what to segment")
    prompts.add_argument("--point", type=parse_point, metavar="X,Y[,0|1]", help="click; 0: off the object", **PROMPT)
    prompts.add_argument(
        "--box", type=parse_box, metavar="X0,Y0,X1,Y1", help="box; another one begins a new object", **PROMPT
    )
    prompts.add_argument(
        "--mask",
        type=parse_mask,
        metavar="PNG",
        help="mask to refine: pixels that are not zero, or of an index picture an object for each value",
        **PROMPT,
    )
    prompts.add_argument(
        "--object", type=parse_object, metavar="N", help="object of the prompts that follow (default: 1)", **PROMPT
    )
    prompts.add_argument("--multimask", action="store_true", help="choose the best of three masks per object")
    model = command.add_argument_group("model")
    add_model_options(model, default="nano")
    add_speed_options(model)
    add_output_options(command.add_argument_group("results"))
