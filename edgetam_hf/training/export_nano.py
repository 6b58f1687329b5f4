"""Writes the averaged weights of a training run as a checkpoint folder in half precision.

python -m edgetam_hf.training.export_nano --run runs/nano --output edgetam_hf/nano
"""

import argparse
import json
from pathlib import Path

import torch

from edgetam_hf.image_processing_edgetam import EdgeTamImageProcessor
from edgetam_hf.modeling_edgetam import EdgeTamModel
from edgetam_hf.processing_edgetam import EdgeTamProcessor

from .evaluate_nano import load_model


def export_checkpoint(model: EdgeTamModel, output: Path) -> None:
    """Writes config.json, model.safetensors and the processor's files."""
    side = model.config.image_size
    processor = EdgeTamProcessor(EdgeTamImageProcessor(size={"height": side, "width": side}))
    for part in (model.half(), processor):
        part.save_pretrained(output)
    # half precision is for the size of the file: the model is to run in single precision unless told otherwise
    config = json.loads((output / "config.json").read_text())
    config["dtype"] = str(torch.float32).removeprefix("torch.")
    (output / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    # the folder is part of the package, which has the code already
    for code in output.glob("*.py"):
        code.unlink()


def main() -> None:
    """Exports from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/nano"))
    parser.add_argument("--output", type=Path, default=Path("edgetam_hf/nano"))
    arguments = parser.parse_args()
    export_checkpoint(load_model(arguments.run / "last.pt"), arguments.output)


if __name__ == "__main__":
    main()
