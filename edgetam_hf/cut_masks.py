"""Masks kept only where they are, so that hundreds of them fit into memory whatever the size of the picture."""

from dataclasses import dataclass

import numpy as np


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
    def of(cls, mask):
        """The mask of a boolean array (H, W)."""
        return cls.placed(mask, 0, 0, *mask.shape)

    @classmethod
    def placed(cls, part, left, top, height, width):
        """The mask of a picture (height, width) with a boolean array (h, w) at pixel (left, top)."""
        rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        if not len(rows):
            return cls(np.zeros((0, 0), bool), 0, 0, height, width)
        cut = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()  # so that the rest can be forgotten
        return cls(cut, int(left + columns[0]), int(top + rows[0]), height, width)

    @property
    def area(self):
        """Number of pixels."""
        return int(np.count_nonzero(self.part))

    @property
    def box(self):
        """[x_min, y_min, x_max, y_max] in pixels of the picture, last pixel included; None for an empty mask."""
        height, width = self.part.shape
        return [self.left, self.top, self.left + width - 1, self.top + height - 1] if height else None

    @property
    def window(self):
        """Slices of rows and columns of the picture where the part lies."""
        height, width = self.part.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def full(self):
        """Boolean array (H, W)."""
        mask = np.zeros((self.height, self.width), bool)
        mask[self.window] = self.part
        return mask

    def widened(self, margin):
        """Boolean array of the part with `margin` more pixels of False on every side, also beyond the picture."""
        return np.pad(self.part, margin)

    def run_lengths(self):
        """Uncompressed COCO run lengths `{"size": [H, W], "counts": [...]}`, column by column."""
        # Runs begin and end where a column changes; each column is closed by a row of False above and below it
        changes = np.diff(self.widened(1)[:, 1:-1].astype(np.int8).T, axis=1)
        column, row = np.nonzero(changes)
        ends = ((self.left + column) * self.height + self.top + row).reshape(-1, 2)
        # In a mask as high as the picture a run may go on from the end of a column to the next one
        goes_on = ends[1:, 0] == ends[:-1, 1]
        ends = np.stack([ends[np.r_[True, ~goes_on], 0], ends[np.r_[~goes_on, True], 1]], axis=1) if len(ends) else ends
        counts = np.diff(ends.ravel(), prepend=0, append=self.height * self.width)
        return {"size": [self.height, self.width], "counts": counts.tolist()[: None if counts[-1] else -1]}
