"""Arguments of `edgetam segment`."""

import argparse

from .arguments import (
    FORMATS_HELP,
    add_model_options,
    add_output_options,
    add_picture_argument,
    add_prompt_options,
    add_speed_options,
)

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

{FORMATS_HELP.format(command="segment")}"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments to a parser."""
    add_picture_argument(command)
    prompts = command.add_argument_group("what to segment")
    add_prompt_options(prompts)
    prompts.add_argument("--multimask", action="store_true", help="choose the best of three masks per object")
    model = command.add_argument_group("model")
    add_model_options(model, default="nano")
    add_speed_options(model)
    add_output_options(command.add_argument_group("results"))
