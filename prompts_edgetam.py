"""Prompts: what a user says of objects, in one record from the processor to the prompt encoder.

Shapes: B pictures, O objects per picture, N points per object, (H, W) the model input in pixels. Points are (x, y) and
boxes (x_min, y_min, x_max, y_max) in pixels of the model input.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

ON_OBJECT_LABEL, OFF_OBJECT_LABEL = 1, 0
BOX_CORNER_LABELS = (2, 3)  # top left, bottom right
NOT_A_POINT_LABEL = -1  # a point without a position
PADDING_LABEL = -10  # a point, or with -10 in every place a box, without any influence; it fills up ragged prompts


class Prompts(NamedTuple):
    """Prompts of objects; each kind may be missing.

    points: (B, O, N, 2) and labels: integers (B, O, N), clicks, see the labels above; boxes: (B, O, 4); masks: logits
    (B, O, h, w) of earlier masks, or (B, 1, h, w) for all objects of a picture.
    """

    points: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    boxes: torch.Tensor | None = None
    masks: torch.Tensor | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said."""
        return all(prompt is None for prompt in self)

    @property
    def num_objects(self) -> int:
        """Number of objects O; 1 if nothing is said."""
        return max((prompt.shape[1] for prompt in self if prompt is not None), default=1)

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Prompts":
        """The prompts with a function applied to each tensor that is given."""
        return Prompts(*(None if prompt is None else function(prompt) for prompt in self))
