"""`edgetam segment`: masks of the objects that are prompted in pictures."""

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from .. import EdgeTamModel, EdgeTamProcessor
from ..found_objects import CutMask, FoundObject, masks_of_logits
from ..modeling_edgetam import EdgeTamImageSegmentationOutput
from ..prompts_edgetam import BOX_CORNER_LABELS
from ..protocols import PictureModel
from .picture_files import SAMPLE_PICTURE
from .pictures import PictureRun, as_text, load_model
from .prompts import ObjectPrompt, check_inside, read_prompts

__all__ = ["as_text", "run"]

SAMPLE_PROMPTS = [("point", (175, 115, 1)), ("box", (296, 105, 352, 165))]  # the eyes of a cat
MASK_LOGIT = 10.0  # of a mask prompt, inside; outside its negative


def run(options: argparse.Namespace) -> dict:
    """Segments the prompted objects of each picture, writes what is found, and returns the report."""
    given = options.prompts or ([] if options.pictures else SAMPLE_PROMPTS)
    if not given:
        raise ValueError(
            "say what to segment with --point X,Y, --box X0,Y0,X1,Y1 or --mask PNG, or use `edgetam masks`"
        )
    prompts = read_prompts(given)
    pictures = PictureRun(options, has_prompts=True, sample=SAMPLE_PICTURE)
    segmenter = Segmenter(*load_model(options, EdgeTamModel, EdgeTamProcessor), prompts, options.multimask)
    return pictures.go(segmenter.find)


class Segmenter:
    """Finds the same prompted objects in any picture.

    Args:
        model: `EdgeTamModel`, or an exported one.
        processor: `EdgeTamProcessor`.
        prompts: an `ObjectPrompt` for each object.
        is_multimask: whether the best of three masks is chosen for each object.
    """

    def __init__(
        self, model: PictureModel, processor: EdgeTamProcessor, prompts: list[ObjectPrompt], is_multimask: bool
    ):
        self.model, self.processor = model, processor
        self.prompts, self.is_multimask = prompts, is_multimask

    def find(self, pixels: np.ndarray) -> list[FoundObject]:
        """`FoundObject`s, one for each prompt, in a picture uint8 (H, W, 3)."""
        size = pixels.shape[:2]
        for prompt in self.prompts:
            check_inside(prompt, size)
        inputs = self.processor(images=pixels, return_tensors="pt").to(self.model.device, self.model.dtype)
        found: dict[int, tuple[CutMask, float, bool]] = {}
        with torch.inference_mode():
            embeddings = self.model.get_image_embeddings(inputs["pixel_values"])
            # The model takes a mask for every object or for none
            for has_mask in (False, True):
                group = [prompt for prompt in self.prompts if (prompt.mask is not None) == has_mask]
                if group:
                    outputs = self._answer(embeddings, group, size)
                    found.update(zip((prompt.object_id for prompt in group), self._choose(outputs, size)))
        return [
            FoundObject(prompt.object_id, mask, score, str(prompt), prompt.points, prompt.box, {"present": is_present})
            for prompt in self.prompts
            for mask, score, is_present in [found[prompt.object_id]]
        ]

    def _answer(
        self, embeddings: list[torch.Tensor], prompts: list[ObjectPrompt], size: tuple[int, int]
    ) -> EdgeTamImageSegmentationOutput:
        """The model's outputs for objects that all have a mask, or all have none."""
        clicks, masks = [], []
        for prompt in prompts:
            box: Sequence[float] | None = prompt.box
            if prompt.mask is not None:
                mask = prompt.mask.pixels()
                masks.append(self._low_res(mask))
                if box is None and not prompt.points:  # a mask is no prompt of its own to the model: it refines a box
                    box = CutMask.of(mask).box
                    if box is None:
                        raise ValueError(f"--mask {prompt.mask.path} is empty: give one with pixels that are not zero")
            clicks.append(corner_points(box) + prompt.points)
        inputs = self.processor(
            original_sizes=[size],
            input_points=[[[point[:2] for point in points] for points in clicks]],
            input_labels=[[[point[2] for point in points] for points in clicks]],
            return_tensors="pt",
        ).to(self.model.device)
        if masks:
            inputs["input_masks"] = torch.cat(masks, dim=1).to(self.model.device)
        return self.model(image_embeddings=embeddings, multimask_output=self.is_multimask, **inputs)

    def _low_res(self, mask: np.ndarray) -> torch.Tensor:
        """Logits (1, 1, h, w) of a mask (H, W) at the size that the model takes."""
        logits = (2.0 * torch.from_numpy(mask) - 1)[None, None] * MASK_LOGIT
        size = self.model.mask_size
        return F.interpolate(logits, size, mode="bilinear", align_corners=False, antialias=True)

    def _choose(
        self, outputs: EdgeTamImageSegmentationOutput, size: tuple[int, int]
    ) -> Iterator[tuple[CutMask, float, bool]]:
        """(mask, score, whether the object is there) of each object, from the best of its masks."""
        best = outputs.iou_scores[0].float().argmax(-1)
        rows = torch.arange(len(best), device=best.device)
        scores = outputs.iou_scores[0].float()[rows, best].tolist()
        is_present = (outputs.object_score_logits[0, :, 0] > 0).tolist()
        yield from zip(masks_of_logits(outputs.pred_masks[0][rows, best], size), scores, is_present)


def corner_points(box: Sequence[float] | None) -> list[tuple[float, float, int]]:
    """A box as two points (x, y, label) with the labels of its corners; no points for None."""
    if box is None:
        return []
    x_min, y_min, x_max, y_max = box
    return [(x_min, y_min, BOX_CORNER_LABELS[0]), (x_max, y_max, BOX_CORNER_LABELS[1])]
