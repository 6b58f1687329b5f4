"""The console command `edgetam`: its arguments, and what runs for them.

What a command does is in `edgetam_hf.commands`, which loads torch: `--help`, `--version` and wrong arguments are
answered without it.
"""

import argparse
import json
import os
import sys
from importlib import import_module

from . import convert, demo, evaluate, export, label, label_export, masks, segment, track, train
from .arguments import with_negative_values
from .endings import end, loading_libraries

__version__ = "0.1.0"

COMMANDS = {
    "segment": segment,
    "masks": masks,
    "track": track,
    "label": label,
    "label-export": label_export,
    "demo": demo,
    "convert": convert,
    "export": export,
    "evaluate": evaluate,
    "train": train,
}
DESCRIPTION = "EdgeTAM: masks of anything you point at in a picture or a video."
EXAMPLES = """\
examples:
  edgetam segment                                        a sample photograph, with the embedded checkpoint
  edgetam segment dog.jpg --point 320,200                one click on the object
  edgetam masks dog.jpg                                  masks of everything
  edgetam track dog.mp4 --point 320,200                  the object through a video
  edgetam label photos/ labels/ --everything             masks of everything in a million pictures
  edgetam demo                                           a web page to click and track in
  edgetam convert edgetam.pt folder                      the original checkpoint for Transformers, or back

more about each: edgetam COMMAND --help
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("edgetam", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=style)
    parser.add_argument("--version", action="version", version=f"edgetam_hf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, epilog=module.EXAMPLES, formatter_class=style)
        module.add_arguments(command)
    return parser


def parse(arguments: list[str]) -> argparse.Namespace:
    """Options of a command line; exits with code 2 and one line for wrong ones."""
    parser = make_parser()
    options, others = parser.parse_known_args(with_negative_values(arguments))
    if options.command == "train":  # its KEY=VALUE may stand behind options, too
        options.overrides += [text for text in others if not text.startswith("-")]
        others = [text for text in others if text.startswith("-")]
    if others:
        names = [text for text in others if text.startswith("-") and os.path.lexists(text)]
        mend = f"; write the name of the file as ./{names[0]}" if names else ""
        parser.error(f"unrecognized arguments: {' '.join(others)}{mend}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Exit code of the command; errors of the user's making are one line on stderr."""
    return end("edgetam", lambda: run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Runs the command and prints its report."""
    options = parse(arguments)
    with loading_libraries():
        command = import_module(f"edgetam_hf.commands.{options.command.replace('-', '_')}")
        import_module("edgetam_hf.commands.support").quieten_libraries()
    report = command.run(options)
    if report is not None:  # of several processes only the first one reports
        print(json.dumps(report) if options.json else command.as_text(report))
    return 1 if report and report.get("failed") else 0  # of several pictures
