"""Arguments of `edgetam convert`."""

import argparse

from .arguments import DTYPES, add_json_option

HELP = "convert checkpoints of the original release"
EXAMPLES = """\
examples:
  edgetam convert edgetam.pt EdgeTAM                     a checkpoint of the original release (or of its training code)
                                                         into a folder for Transformers, with code and processor
  edgetam convert yonigozlan/EdgeTAM-hf edgetam.pt       a folder or Hub id of Transformers (downloads 56 MB) into a
                                                         file that the original release loads
  edgetam convert edgetam.pt EdgeTAM-half --dtype float16
                                                         half the size

Numbers stay as they are, bit by bit, unless --dtype is given. A checkpoint is converted whole or not at all: keys that
are unknown, missing or of another shape are all listed. Checkpoints with code in them are refused. Where a checkpoint
came from, and the SHA-256 of its files, is kept: in provenance.json, or as "provenance" beside "model" in a .pt file,
which also has the configuration, for the way back. A file of torch.save(model.state_dict()) is taken, too.
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments to a parser."""
    command.add_argument("source", help="checkpoint: .pt file of the original release, folder, Hub id, or nano")
    command.add_argument("target", help="new .pt file for the original release, or new folder for Transformers")
    command.add_argument("--dtype", choices=DTYPES, help="type of the numbers (default: as they are)")
    add_json_option(command)
