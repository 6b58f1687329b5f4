"""Which of the frames before one an object remembers there: the last ones, or the last on which it was surely seen.

That a tracker gains by leaving out frames on which it was unsure, and needs no training for it, is known from SAMURAI
(arXiv 2411.11922), SAM2Long (arXiv 2410.16268) and DAM4SAM (arXiv 2411.17576).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch

from .device_edgetam import fetch
from .settings_edgetam import as_count, as_flag, as_number

EXPECTED = '"recent", "confident" or a MemorySelection'
MOST_SEARCHED = 1000  # frames, whose memories are all kept
# by the names that users give
SELECTIONS: dict[str, dict[str, Any]] = {
    "recent": {},
    "confident": {"num_searched": 15, "least_iou": 0.3},
}


class Seen(Protocol):
    """What a selection asks of a result on a frame; see `FrameResult`."""

    @property
    def iou_score(self) -> torch.Tensor: ...

    @property
    def object_score_logit(self) -> torch.Tensor: ...

    @property
    def memory(self) -> torch.Tensor | None: ...

    @property
    def prompt(self) -> object | None: ...


@dataclass(frozen=True)
class MemorySelection:
    """Which results of tracking an object remembers on a frame, of those before it.

    Without arguments it leaves none out: these are the last ones, as in the original release. Frames on which an object
    begins are remembered in any case, and are no part of the choice; nor is left out what answers a prompt.

    Args:
        num_searched (`int`, *optional*):
            How many frames before are searched for memories; by default no more than are remembered if none is left
            out.
        least_iou (`float`, *optional*, defaults to 0):
            Predicted IoU, in [0, 1], that the mask of a visible object must have for the frame to be remembered.
        has_absent (`bool`, *optional*, defaults to `True`):
            Whether frames are remembered on which the object was not visible.
    """

    num_searched: int | None = None
    least_iou: float = 0.0
    has_absent: bool = True

    def __post_init__(self) -> None:
        num_searched = self.num_searched
        if num_searched is not None:
            num_searched = as_count(num_searched, "num_searched", 1, MOST_SEARCHED)
        vars(self).update(  # a frozen dataclass takes values only so
            num_searched=num_searched,
            least_iou=as_number(self.least_iou, "least_iou", 0, 1),
            has_absent=as_flag(self.has_absent, "has_absent"),
        )

    @classmethod
    def of(cls, value: Any) -> "MemorySelection":
        """The selection that a user has given: a name, "recent" or "confident", or one with values of its own.

        Raises:
            ValueError: for another name. TypeError: for anything else.
        """
        names = [option.name for option in fields(cls)]
        if not isinstance(value, type) and all(hasattr(value, name) for name in names):
            # of this class or, as remote code may have several copies of it, of another one
            return cls(**{name: getattr(value, name) for name in names})
        if not isinstance(value, str):
            raise TypeError(f"memory_selection must be {EXPECTED}, got {type(value).__name__}")
        if value not in SELECTIONS:
            raise ValueError(f"memory_selection must be {EXPECTED}, got {value!r}")
        return cls(**SELECTIONS[value])

    def sure(self, earlier: Mapping[int, Seen]) -> list[int]:
        """The distances at which the object was surely seen, of the frames before one, by distance.

        What answers a prompt is sure, since a user has looked at it.
        """
        if self.has_absent and self.least_iou == 0:
            return list(earlier)
        # a GPU is waited for once
        scores = fetch([torch.stack((result.iou_score, result.object_score_logit)) for result in earlier.values()])
        return [
            distance
            for (distance, result), score in zip(earlier.items(), scores)
            if result.prompt is not None or self._is_sure(*score.tolist())
        ]

    def choose(self, earlier: Mapping[int, Seen], limit: int) -> dict[int, int]:
        """The row of the temporal encoding, by distance, of at most so many frames to remember, the farthest first.

        Args:
            earlier: results on the frames before one, by distance, the nearest first.
            limit: number of rows, and of frames.
        """
        searched = self.num_searched or limit
        near = [d for d in self.sure(earlier) if d <= searched and earlier[d].memory is not None][:limit]
        return {d: min(d, limit) - 1 for d in reversed(near)}

    def _is_sure(self, iou_score: float, logit: float) -> bool:
        return iou_score >= self.least_iou if logit > 0 else self.has_absent
