"""Objects found in a picture, with masks that are kept only where they are.

Hundreds of such masks fit into memory whatever the size of the picture.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .device_edgetam import fetch
from .mask_generation_edgetam import BoxedLogits, masks_at_once
from .masks_edgetam import run_lengths


@dataclass(frozen=True)
class CutMask:
    """A mask of a picture (height, width): boolean `part` (h, w), which begins at pixel (left, top), and False outside.

    Make one with `of` or `placed`, which cut it to its box; an empty mask has a part of no pixels.
    """

    part: np.ndarray
    left: int
    top: int
    height: int
    width: int

    @classmethod
    def of(cls, mask: np.ndarray) -> "CutMask":
        """The mask of a boolean array (H, W)."""
        return cls.placed(mask, 0, 0, *mask.shape)

    @classmethod
    def placed(cls, part: np.ndarray, left: int, top: int, height: int, width: int) -> "CutMask":
        """The mask of a picture (height, width) with a boolean array (h, w) at pixel (left, top)."""
        rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        if not len(rows):
            return cls(np.zeros((0, 0), bool), 0, 0, height, width)
        cut = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()  # so that the rest can be forgotten
        return cls(cut, int(left + columns[0]), int(top + rows[0]), height, width)

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.part))

    @property
    def box(self) -> list[int] | None:
        """[x_min, y_min, x_max, y_max] in pixels of the picture, last pixel included; None for an empty mask."""
        height, width = self.part.shape
        return [self.left, self.top, self.left + width - 1, self.top + height - 1] if height else None

    @property
    def window(self) -> tuple[slice, slice]:
        """Slices of rows and columns of the picture where the part lies."""
        height, width = self.part.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def full(self) -> np.ndarray:
        """Boolean array (H, W)."""
        mask = np.zeros((self.height, self.width), bool)
        mask[self.window] = self.part
        return mask

    def widened(self, margin: int) -> np.ndarray:
        """Boolean array of the part with `margin` more pixels of False on every side, also beyond the picture."""
        return np.pad(self.part, margin)

    def run_lengths(self) -> dict:
        """Uncompressed COCO run lengths `{"size": [H, W], "counts": [...]}`, column by column."""
        return run_lengths(self.part, self.left, self.top, self.height, self.width)


def masks_of_logits(logits: torch.Tensor, size: tuple[int, int]) -> list[CutMask]:
    """Masks at a size (height, width), as `post_process_masks` makes them of low-res logits (N, h, w)."""
    masks, logits = [], logits.float()
    at_once = masks_at_once(logits.device, size[0] * size[1])
    for group in BoxedLogits.cut_out(logits, 0.0, at_once) if len(logits) else ():
        upsampled, left, top = group.upsampled(*size)
        masks += [CutMask.placed(part.numpy(), left, top, *size) for part in fetch([upsampled > 0])[0]]
    return masks


@dataclass
class FoundObject:
    """An object of a picture: its number, from 1 on, its mask, and what is known of it.

    `prompt` says in words what it was found by; `points` (x, y, label) and `box` are what is drawn of that.
    `facts` are further columns of a report.
    """

    number: int
    mask: CutMask
    score: float
    prompt: str = ""
    points: list[tuple[float, float, int]] = field(default_factory=list)
    box: tuple[float, float, float, float] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
