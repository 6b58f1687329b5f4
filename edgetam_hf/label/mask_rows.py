"""Masks on their way from a model to a row: cut to their boxes, and not yet run lengths."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..formats.run_lengths import compress
from ..found_objects import CutMask, masks_of_logits
from ..tracking_edgetam import EdgeTamVideoSegmentationOutput
from .items import Item
from .labeller import Provenance
from .rows import MaskRow, Row


@dataclass(frozen=True)
class FoundMask:
    """A mask that was found, with all else that its `MaskRow` says."""

    mask: CutMask
    object: int
    score: float
    frame: int = 0
    stability_score: float | None = None
    point: list[float] | None = None
    category: str | None = None

    def to_row(self) -> MaskRow:
        """The `MaskRow` of a mask that is not empty."""
        assert self.mask.box is not None
        left, top, right, bottom = self.mask.box
        return MaskRow(
            object=self.object,
            frame=self.frame,
            counts=compress(self.mask)["counts"],
            score=self.score,
            bbox=[left, top, right - left + 1, bottom - top + 1],
            area=self.mask.area,
            stability_score=self.stability_score,
            point=self.point,
            category=self.category,
        )


def masks_of_output(output: EdgeTamVideoSegmentationOutput, size: tuple[int, int]) -> Iterator[FoundMask]:
    """Those masks of a frame (height, width) of a clip that are not empty."""
    masks = masks_of_logits(output.pred_masks[:, 0], size)
    for number, mask, score in zip(output.object_ids, masks, output.iou_scores.tolist(), strict=True):
        if mask.area:
            yield FoundMask(mask, number, score, output.frame_idx)


def row_of_picture(item: Item, size: tuple[int, int], masks: list[FoundMask], provenance: Provenance) -> Row:
    """The row of a picture (height, width), with those masks that are not empty."""
    return Row(item, *size, [found.to_row() for found in masks if found.mask.area], *provenance)
