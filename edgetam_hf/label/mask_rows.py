"""Masks on their way from a model to a row: cut to their boxes, and not yet run lengths."""

from dataclasses import dataclass

from ..formats.run_lengths import compress
from ..found_objects import CutMask
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


def row_of_picture(item: Item, size: tuple[int, int], masks: list[FoundMask], provenance: Provenance) -> Row:
    """The row of a picture (height, width), with those masks that are not empty."""
    return Row(item, *size, [found.to_row() for found in masks if found.mask.area], *provenance)
