"""Arguments of `edgetam demo`."""

import argparse
from pathlib import Path

from .arguments import add_model_options, add_speed_options, parse_count, parse_rate

HELP = "a web page to click on objects, track them and save the masks"
EXAMPLES = """\
examples:
  edgetam demo                                           opens the page, with the embedded checkpoint
  edgetam demo dog.mp4                                   ... and a picture or video in it
  edgetam demo --model yonigozlan/EdgeTAM-hf             the published checkpoint (downloads 56 MB)
  edgetam demo --host 0.0.0.0 --no-browser               for other machines: the address that is printed has a token,
                                                         without which nobody comes in
  edgetam demo --engine browser --model exported --ort node_modules/onnxruntime-web/dist
                                                         computes in the browser, with the folder that `edgetam export`
                                                         has written

Ctrl-C ends it. What was opened in the page is gone then; save the project before.
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments to a parser."""
    command.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="picture, video, or folder of pictures to open in the page"
    )
    model = command.add_argument_group("model")
    add_model_options(model, default="nano")
    add_speed_options(model)
    model.add_argument(
        "--engine",
        choices=("server", "browser"),
        default="server",
        help="what computes: this program, or the browser, with an exported --model and --ort (default: server)",
    )
    model.add_argument(
        "--ort", type=Path, metavar="FOLDER", help="of ONNX Runtime Web, for the browser: onnxruntime-web/dist"
    )
    server = command.add_argument_group("server")
    server.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on, such as 0.0.0.0 for all networks (default: this machine only)",
    )
    server.add_argument(
        "--port",
        type=parse_port,
        metavar="N",
        help="0 takes any that is free (default: the first free one from 8770 on)",
    )
    server.add_argument("--no-browser", action="store_true", help="do not open the page in a browser")
    limits = command.add_argument_group("limits")
    limits.add_argument(
        "--max-sessions", type=parse_count, default=8, metavar="N", help="pages at a time (default: %(default)s)"
    )
    limits.add_argument(
        "--max-upload", type=parse_rate, default=4.0, metavar="GB", help="size of a file (default: %(default)g)"
    )
    limits.add_argument(
        "--max-frames",
        type=parse_count,
        default=1_000_000,
        metavar="N",
        help="length of a video in frames (default: %(default)s)",
    )


def parse_port(text: str) -> int:
    """A number of a port; 0 stands for any that is free."""
    if not text.isdecimal() or len(text) > 5 or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port in 0..65535, got {text!r}")
    return int(text)
