"""Masks of everything in a picture as commands and labelling number them: the largest first."""

from typing import Any, NamedTuple

from .found_objects import CutMask
from .mask_generation_edgetam import Masks

# Options of `EdgeTamMaskGenerationPipeline` with which it returns what `largest_first` takes
RETURNED = {"output_stability_scores": True, "output_points": True, "masks_on_demand": True}


class GeneratedMask(NamedTuple):
    """A mask of mask generation: predicted IoU, stability score, and the point (x, y) that prompted it."""

    mask: CutMask
    score: float
    stability_score: float
    point: list[float]


def largest_first(outputs: dict[str, Any]) -> list[GeneratedMask]:
    """The masks of what `EdgeTamMaskGenerationPipeline` returns of a picture."""
    masks: Masks = outputs["masks"]
    cut = (CutMask.placed(*masks.part(idx), masks.height, masks.width) for idx in range(len(masks)))
    columns = (outputs[name].tolist() for name in ("scores", "stability_scores", "points"))
    return sorted(map(GeneratedMask, cut, *columns), key=lambda found: -found.mask.area)
