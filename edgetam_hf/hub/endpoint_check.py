"""The handler of an inference endpoint in a clean process: what it answers, against the source."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..commands.picture_files import SAMPLE_PICTURE
from .check import CheckError, run_clean
from .clean_process import BOXES
from .endpoint import HANDLER
from .source import Source

SMALLEST_IOU, LARGEST_DIFFERENCE = 0.999, 1e-3


def check_endpoint(folder: str | Path, source: Source) -> str:
    """A line about the handler, once it has answered in a clean process as the source does.

    Raises:
        CheckError: if it does not, or fails.
    """
    answers = run_clean(folder, ["endpoint"])[0]["endpoint"]
    for found, (mask, score) in zip(answers["boxes"]["objects"], boxed_masks(source), strict=True):
        iou = agreement(found["segmentation"], mask)
        if iou < SMALLEST_IOU or abs(found["score"] - score) > LARGEST_DIFFERENCE:
            raise CheckError(
                f"{HANDLER} finds another mask than the source: IoU {iou:.4f}, score {found['score']:.4f} in place of "
                f"{score:.4f}"
            )
    num_found = len(answers["everything"]["objects"])
    return f"{HANDLER} answers as the source does, and finds {num_found} objects when asked for everything"


def boxed_masks(source: Source) -> list[tuple[np.ndarray, float]]:
    """(mask (H, W), score) of both boxes on the sample picture."""
    with Image.open(SAMPLE_PICTURE) as image:
        inputs = source.processor(images=image, input_boxes=[BOXES], return_tensors="pt")
    with torch.no_grad():
        outputs = source.image_model()(**inputs, multimask_output=False)
    masks = source.processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])[0][:, 0].numpy()
    return list(zip(masks, outputs.iou_scores[0, :, 0].tolist()))


def agreement(encoded: dict[str, Any], mask: np.ndarray) -> float:
    """IoU of COCO's compressed run lengths and of a boolean mask (H, W); 1 where both are empty."""
    from pycocotools import mask as coco_mask

    found = coco_mask.decode(encoded).astype(bool)
    union = (found | mask).sum()
    return float((found & mask).sum() / union) if union else 1.0
