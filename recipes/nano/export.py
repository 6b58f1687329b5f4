"""Writes the averaged weights of a training run, or a model with memory, as a checkpoint folder in half precision.

python -m recipes.nano.export --run runs/nano --output runs/nano-images
python -m recipes.nano.export --tracker runs/last --images runs/nano-images --output edgetam_hf/nano
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from edgetam_hf.modeling_edgetam import EdgeTamModel
from edgetam_hf.modeling_edgetam_video import EdgeTamVideoModel

from edgetam_hf.loading import make_processor

from .crops import Composites
from .evaluate import load_model

# Chosen on other clips than those of the figures. A mask where the object is absent costs a frame its whole score, no
# mask where it is visible only what a doubtful mask would have won, so silence pays well above a probability of a half.
OBJECT_SCORE_SHIFT = -2.0


@torch.no_grad()
def recalibrate(model: EdgeTamModel, composites: Composites, num_batches: int = 40) -> EdgeTamModel:
    """The model with normalisation statistics of its own: those of the run belong to the weights before averaging."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
        norm.train()
    rng = np.random.default_rng(0)
    for _ in range(num_batches):
        pixels, _ = composites.batch(rng, 16, model.config.image_size, whole=0.8)
        model.get_image_embeddings(pixels)
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


@torch.no_grad()
def blend_image_parts(tracker: EdgeTamVideoModel, image_model: EdgeTamModel, share: float = 0.6) -> EdgeTamVideoModel:
    """The tracker, whose image model becomes the weighted mean of its own and the one that it learnt from.

    It clicks as well as the image model, and tracks no worse than the tracker (arXiv 2109.01903). The object score,
    which the image model has never learnt, stays.
    """
    before = image_model.state_dict()
    for name, weights in tracker.named_parameters():
        if name in before and not name.startswith("mask_decoder.pred_obj"):
            weights.copy_(share * weights + (1 - share) * before[name])
    return tracker


@torch.no_grad()
def shift_object_score(tracker: EdgeTamVideoModel, shift: float = OBJECT_SCORE_SHIFT) -> EdgeTamVideoModel:
    """The tracker, which calls an object visible from another logit on than 0."""
    tracker.mask_decoder.pred_obj_score_head.proj_out.bias.add_(shift)
    return tracker


def export_checkpoint(model: EdgeTamModel, output: Path) -> None:
    """Writes config.json, model.safetensors and the processor's files."""
    for part in (model.half(), make_processor(model.config)):
        part.save_pretrained(output)
    # half precision is for the size of the file: the model is to run in single precision unless told otherwise
    _edit_json(output / "config.json", {"dtype": "float32"})
    # the folder is part of the package, which has the code already
    for code in output.glob("*.py"):
        code.unlink()
    for settings in output.glob("*.json"):
        _edit_json(settings, {"auto_map": None, "custom_pipelines": None})
    (output / "model.safetensors").chmod(0o644)


def _edit_json(path: Path, changes: dict) -> None:
    """Sets fields of a JSON file, at its top and one level below; those set to None are removed."""
    fields = json.loads(path.read_text())
    fields.update({name: value for name, value in changes.items() if value is not None})
    for part in (fields, *(value for value in fields.values() if isinstance(value, dict))):
        for name in [name for name, value in changes.items() if value is None]:
            part.pop(name, None)
    path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")


def main() -> None:
    """Exports from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/nano"))
    parser.add_argument("--output", type=Path, default=Path("edgetam_hf/nano"))
    parser.add_argument("--data", type=Path, default=Path("data/composites"))
    parser.add_argument("--tracker", type=Path, metavar="FOLDER", help="what `edgetam train` made of it, in its place")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="blend its image model with this one")
    arguments = parser.parse_args()
    if arguments.tracker is not None:
        model = shift_object_score(EdgeTamVideoModel.from_pretrained(arguments.tracker, dtype=torch.float32))
        if arguments.images is not None:
            model = blend_image_parts(model, EdgeTamModel.from_pretrained(arguments.images, dtype=torch.float32))
    else:
        model = recalibrate(load_model(arguments.run / "last.pt"), Composites(arguments.data, "training"))
    export_checkpoint(model, arguments.output)


if __name__ == "__main__":
    main()
