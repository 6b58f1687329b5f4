"""Masks of prompted objects in a picture that is encoded; commands and labelling find them here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from .device_edgetam import fetch, send
from .found_objects import CutMask, masks_of_logits
from .modeling_edgetam import EdgeTamImageSegmentationOutput
from .processing_edgetam import EdgeTamProcessor
from .prompts_edgetam import BOX_CORNER_LABELS
from .protocols import PictureModel

MASK_LOGIT = 10.0  # of a mask prompt, inside; outside its negative
OBJECTS_AT_ONCE = 64  # or as many as the model decodes at once, if these are more


@dataclass(frozen=True)
class PicturePrompt:
    """What is said of one object, in pixels of the picture.

    points: (x, y, label); box: (x_min, y_min, x_max, y_max); mask: boolean array (H, W), not empty, to be refined.
    """

    points: Sequence[tuple[float, float, int]] = ()
    box: Sequence[float] | None = None
    mask: np.ndarray | None = None

    def clicks(self) -> list[tuple[float, float, int]]:
        """The corners of the box, then the points."""
        box: Sequence[float] | None = self.box
        if self.mask is not None and box is None and not self.points:
            box = CutMask.of(self.mask).box  # a mask is no prompt of its own to the model: it refines a box
        return [*corner_points(box), *self.points]


class PromptedMask(NamedTuple):
    """The best mask of an object, its predicted IoU, and whether the object seems to be there."""

    mask: CutMask
    score: float
    is_present: bool


class PromptedFinder:
    """Finds prompted objects in pictures.

    Args:
        model: `EdgeTamModel`, or an exported one.
        processor: `EdgeTamProcessor`.
        is_multimask: whether the best of three masks is chosen for each object.
    """

    def __init__(self, model: PictureModel, processor: EdgeTamProcessor, is_multimask: bool):
        self.model, self.processor, self.is_multimask = model, processor, is_multimask

    def find(
        self, image_embeddings: Sequence[torch.Tensor], prompts: Sequence[PicturePrompt], size: tuple[int, int]
    ) -> list[PromptedMask]:
        """What each prompt finds in a picture of a size (height, width), from its image embeddings, batch size 1."""
        found: dict[int, PromptedMask] = {}
        at_once = max(OBJECTS_AT_ONCE, self.model.prompts_at_once(image_embeddings))
        with torch.inference_mode():
            # The model takes a mask for every object or for none
            for has_mask in (False, True):
                indices = [idx for idx, prompt in enumerate(prompts) if (prompt.mask is not None) == has_mask]
                for start in range(0, len(indices), at_once):
                    group = indices[start : start + at_once]
                    outputs = self._answer(image_embeddings, [prompts[idx] for idx in group], size)
                    found.update(zip(group, self._choose(outputs, size)))
        return [found[idx] for idx in range(len(prompts))]

    def _answer(
        self, image_embeddings: Sequence[torch.Tensor], prompts: list[PicturePrompt], size: tuple[int, int]
    ) -> EdgeTamImageSegmentationOutput:
        """The model's outputs for objects that all have a mask, or all have none."""
        clicks = [prompt.clicks() for prompt in prompts]
        inputs = self.processor(
            original_sizes=[size],
            input_points=[[[point[:2] for point in points] for points in clicks]],
            input_labels=[[[point[2] for point in points] for points in clicks]],
            return_tensors="pt",
        )
        masks = [self._low_res(prompt.mask) for prompt in prompts if prompt.mask is not None]
        if masks:
            inputs["input_masks"] = torch.cat(masks, dim=1)
        tensors = {name: send(tensor, self.model.device) for name, tensor in inputs.items()}
        return self.model(image_embeddings=list(image_embeddings), multimask_output=self.is_multimask, **tensors)

    def _low_res(self, mask: np.ndarray) -> torch.Tensor:
        """Logits (1, 1, h, w) of a mask (H, W) at the size that the model takes."""
        logits = (2.0 * torch.from_numpy(mask) - 1)[None, None] * MASK_LOGIT
        size = self.model.mask_size
        return F.interpolate(logits, size, mode="bilinear", align_corners=False, antialias=True)

    def _choose(self, outputs: EdgeTamImageSegmentationOutput, size: tuple[int, int]) -> Iterator[PromptedMask]:
        """The best of the masks of each object."""
        iou_scores = outputs.iou_scores[0].float()
        best = iou_scores.argmax(-1)
        rows = torch.arange(len(best), device=best.device)
        scores, presence = fetch([iou_scores[rows, best], outputs.object_score_logits[0, :, 0].float()])
        masks = masks_of_logits(outputs.pred_masks[0][rows, best], size)
        for mask, score, logit in zip(masks, scores.tolist(), presence.tolist(), strict=True):
            yield PromptedMask(mask, score, logit > 0)


def corner_points(box: Sequence[float] | None) -> list[tuple[float, float, int]]:
    """A box as two points (x, y, label) with the labels of its corners; no points for None."""
    if box is None:
        return []
    x_min, y_min, x_max, y_max = box
    return [(x_min, y_min, BOX_CORNER_LABELS[0]), (x_max, y_max, BOX_CORNER_LABELS[1])]
