"""`edgetam masks`: masks of everything in pictures."""

import argparse
from typing import Any

import numpy as np
from PIL import Image

from .. import EdgeTamImageProcessor, EdgeTamMaskGenerationPipeline, EdgeTamModel
from ..found_objects import FoundObject
from ..generated_masks import RETURNED, largest_first
from .picture_files import SAMPLES
from .pictures import PictureRun, as_text, load_model

__all__ = ["as_text", "run"]

# Options of mask generation by those of the command line
NAMES = {
    "points_per_side": "points_per_crop",
    "points_per_batch": "points_per_batch",
    "pred_iou_thresh": "pred_iou_thresh",
    "stability_score_thresh": "stability_score_thresh",
    "nms": "crops_nms_thresh",
    "crops": "crops_n_layers",
    "min_area": "min_mask_region_area",
}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Segments everything in each picture, writes what is found, and returns the report."""
    pictures = PictureRun(options, has_prompts=False, sample=SAMPLES / "coins.jpg")
    model, processor = load_model(options, EdgeTamModel, EdgeTamImageProcessor)
    generator = EdgeTamMaskGenerationPipeline(model=model, image_processor=processor)
    given = search_settings(options) | {"progress": not options.json and not pictures.is_several}
    return pictures.go(lambda pixels: find_everything(generator, pixels, given))


def search_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Options of mask generation that a command line gives; the others come from the checkpoint."""
    return {name: getattr(options, option) for option, name in NAMES.items() if getattr(options, option) is not None}


def find_everything(
    generator: EdgeTamMaskGenerationPipeline, pixels: np.ndarray, settings: dict[str, Any]
) -> list[FoundObject]:
    """`FoundObject`s of a picture uint8 (H, W, 3), the largest first."""
    outputs = generator(Image.fromarray(pixels), **RETURNED, **settings)
    return [
        FoundObject(
            number, mask, score, f"+{x:.0f},{y:.0f}", [(x, y, 1)], facts={"stability_score": round(stability, 3)}
        )
        for number, (mask, score, stability, (x, y)) in enumerate(largest_first(outputs), start=1)
    ]
