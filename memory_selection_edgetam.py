"""What an object remembers: which of the frames before one, and what it looks like.

That a tracker gains by leaving out frames on which it was unsure, and needs no training for it, is known from SAMURAI
(arXiv 2411.11922), SAM2Long (arXiv 2410.16268) and DAM4SAM (arXiv 2411.17576). A look is Fisher's linear discriminant
between the pixels of an object and all others, on a frame on which it begins. Where what is tracked looks otherwise, it
is often something else, while the object is out of sight.

Shapes: O objects, (4h, 4w) low-res masks and the finest map of a frame, of C / 8 channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch

from .device_edgetam import fetch
from .settings_edgetam import as_count, as_flag, as_number

EXPECTED = '"recent", "confident" or a MemorySelection'
MOST_SEARCHED = 1000  # frames, whose memories are all kept
MOST_LOOK_WEIGHT = 1000.0
# by the names that users give
SELECTIONS: dict[str, dict[str, Any]] = {
    "recent": {},
    "confident": {"look_weight": 2.0},
}
MOST_ODDS = 3.0  # of one pixel, so that no pixel decides alone
LEAST_LOOK = 1.0  # mean log-odds of a mask that is in no doubt
FEWEST_PIXELS = 3  # of an object, and of all others, from which a look can be learnt
RIDGE = 0.1  # of the mean variance, which keeps the discriminant finite where colours are few


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
        look_weight (`float`, *optional*, defaults to 0):
            How much the object score of a tracked object falls where its mask does not look like the object on the
            closest frame on which it begins, see `doubt`. Where it falls below zero the object counts as absent. What
            is remembered of the frame does not change.
    """

    num_searched: int | None = None
    least_iou: float = 0.0
    has_absent: bool = True
    look_weight: float = 0.0

    def __post_init__(self) -> None:
        num_searched = self.num_searched
        if num_searched is not None:
            num_searched = as_count(num_searched, "num_searched", 1, MOST_SEARCHED)
        vars(self).update(  # a frozen dataclass takes values only so
            num_searched=num_searched,
            least_iou=as_number(self.least_iou, "least_iou", 0, 1),
            has_absent=as_flag(self.has_absent, "has_absent"),
            look_weight=as_number(self.look_weight, "look_weight", 0, MOST_LOOK_WEIGHT),
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

    def doubt(
        self, features: torch.Tensor, masks: torch.Tensor, object_score_logits: torch.Tensor, looks: torch.Tensor
    ) -> torch.Tensor:
        """Object scores (O,), lower where masks do not look like their objects.

        Both are logits, and add up: a score falls by `look_weight` for each unit by which the mean log-odds of the
        pixels of a mask is below `LEAST_LOOK`.

        Args:
            features: (1, C / 8, 4h, 4w), the finest map of the frame.
            masks: low-res logits (O, 4h, 4w).
            object_score_logits: (O,).
            looks: (O, C / 8 + 1), of `learn_looks`.
        """
        weights, offsets = looks[:, :-1].float(), looks[:, -1:].float()
        odds = (weights @ features[0].flatten(1).float() + offsets).clamp(-MOST_ODDS, MOST_ODDS)
        is_object = masks.flatten(1) > 0
        look = (odds * is_object).sum(dim=1) / is_object.sum(dim=1).clamp(min=1)
        return object_score_logits + self.look_weight * (look - LEAST_LOOK).clamp(max=0).to(object_score_logits.dtype)

    def _is_sure(self, iou_score: float, logit: float) -> bool:
        return iou_score >= self.least_iou if logit > 0 else self.has_absent


def learn_looks(features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """What objects look like, (O, C / 8 + 1): weights and an offset that make log-odds of a pixel.

    They say how much rather a pixel is the object's than another's. An object that has too few pixels, or leaves too
    few, looks like everything.

    Args:
        features: (1, C / 8, 4h, 4w), the finest map of a frame.
        masks: low-res logits (O, 4h, 4w).
    """
    pixels, everything = features[0].flatten(1).T.float(), look_of_all(features)
    parts = [(pixels[is_object], pixels[~is_object]) for is_object in masks.flatten(1) > 0]
    return torch.stack([everything if min(map(len, pair)) < FEWEST_PIXELS else _discriminant(*pair) for pair in parts])


def look_of_all(features: torch.Tensor) -> torch.Tensor:
    """The look (C / 8 + 1,) that everything has, for what has none; features: (1, C / 8, 4h, 4w)."""
    look = features.new_zeros(features.shape[1] + 1, dtype=torch.float32)
    look[-1] = MOST_ODDS
    return look


def _discriminant(pixels: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Weights and offset (c + 1,) of Fisher's linear discriminant between pixels (p, c) and others (q, c)."""
    num_channels = pixels.shape[1]
    covariance = (torch.cov(pixels.T) + torch.cov(others.T)) / 2
    ridge = RIDGE * covariance.diagonal().mean().clamp(min=torch.finfo(pixels.dtype).eps)
    mean, other_mean = pixels.mean(dim=0), others.mean(dim=0)
    weights = torch.linalg.solve(covariance + ridge * torch.eye(num_channels, device=pixels.device), mean - other_mean)
    return torch.cat((weights, -(weights @ (mean + other_mean) / 2)[None]))
