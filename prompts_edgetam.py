"""Prompts of objects, in one record from the processor to the prompt encoder.

Shapes: B pictures, O objects per picture, N points per object, (H, W) the model input in pixels. Points are (x, y) and
boxes (x_min, y_min, x_max, y_max) in pixels of the model input.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from .device_edgetam import send

ON_OBJECT_LABEL, OFF_OBJECT_LABEL = 1, 0
BOX_CORNER_LABELS = (2, 3)  # top left, bottom right
NOT_A_POINT_LABEL = -1  # a point without a position
PADDING_LABEL = -10  # a point, or with -10 in every place a box, without any influence; it fills up ragged prompts
LABEL_MEANINGS = {
    ON_OBJECT_LABEL: "foreground",
    OFF_OBJECT_LABEL: "background",
    NOT_A_POINT_LABEL: "not a point",
    BOX_CORNER_LABELS[0]: "top left of a box",
    BOX_CORNER_LABELS[1]: "bottom right of a box",
}
PROMPT_LAYOUTS = {  # of the arguments of a model: shape, rank, and the last side where it is fixed
    "input_points": ("(batch_size, num_objects, num_points, 2)", 4, 2),
    "input_labels": ("(batch_size, num_objects, num_points)", 3, None),
    "input_boxes": ("(batch_size, num_objects, 4)", 3, 4),
    "input_masks": ("(batch_size, num_objects, height, width)", 4, None),
}
LARGEST_PREVIOUS_LOGIT = 32.0  # of a mask that is given to the model again with a new click, in training and after it


class Prompts(NamedTuple):
    """Prompts of objects; each kind may be missing. Its fields are the one list of kinds, in which masks come last.

    points: (B, O, N, 2) and labels: integers (B, O, N), clicks, see the labels above; boxes: (B, O, 4); masks: logits
    (B, O, h, w) of earlier masks, or (B, 1, h, w) for all objects of a picture.
    """

    points: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    boxes: torch.Tensor | None = None
    masks: torch.Tensor | None = None

    @classmethod
    def stack(cls, prompts: "Sequence[Prompts]") -> "Prompts":
        """One batch of prompts that have the same kinds, those with fewer points padded."""
        num_points = max(0 if one.points is None else one.points.shape[2] for one in prompts)
        kinds = zip(*(one.pad_points(num_points) for one in prompts))
        return cls(*(None if parts[0] is None else torch.cat(parts) for parts in kinds))

    def named_inputs(self) -> dict[str, torch.Tensor]:
        """The kinds that are given, by the names of their arguments: `input_points` and so on."""
        return {f"input_{kind}": prompt for kind, prompt in self._asdict().items() if prompt is not None}

    @property
    def is_empty(self) -> bool:
        """Whether no prompt is given."""
        return all(prompt is None for prompt in self)

    @property
    def num_objects(self) -> int:
        """Number of objects O; 1 if no prompt is given."""
        # that of the first kind: masks come last, since all objects may share one
        return next((prompt.shape[1] for prompt in self if prompt is not None), 1)

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Prompts":
        """The prompts with a function applied to each tensor that is given."""
        return Prompts(*(None if prompt is None else function(prompt) for prompt in self))

    def to(self, device: torch.device | str) -> "Prompts":
        """The prompts on a device."""
        return self.map(lambda prompt: send(prompt, device))

    def transpose(self) -> "Prompts":
        """The prompts with pictures and objects in each other's place: (B, O, …) becomes (O, B, …)."""
        return self.map(lambda prompt: prompt.transpose(0, 1))

    def scale(self, factors: torch.Tensor) -> "Prompts":
        """The prompts with all coordinates but those of padding times factors (B, 2) of x and y; masks stay."""
        points, boxes = self.points, self.boxes
        if points is not None and self.labels is not None:
            is_padding = (self.labels == PADDING_LABEL)[..., None]
            points = torch.where(is_padding, float(PADDING_LABEL), points * factors[:, None, None])
        if boxes is not None:
            is_padding = (boxes == PADDING_LABEL).all(dim=-1, keepdim=True)
            boxes = torch.where(is_padding, float(PADDING_LABEL), boxes * factors.repeat(1, 2)[:, None])
        return self._replace(points=points, boxes=boxes)

    def pad_points(self, num_points: int) -> "Prompts":
        """The prompts with `num_points` points per object, the last of which are padding."""
        if self.points is None or self.labels is None:
            return self
        num_missing = num_points - self.points.shape[2]
        points = F.pad(self.points, (0, 0, 0, num_missing), value=PADDING_LABEL)
        return self._replace(points=points, labels=F.pad(self.labels, (0, num_missing), value=PADDING_LABEL))

    def add_points(self, points: torch.Tensor, labels: torch.Tensor) -> "Prompts":
        """The prompts with points (B, O, N, 2) and labels (B, O, N) after the earlier ones."""
        if self.points is not None and self.labels is not None:
            points, labels = torch.cat((self.points, points), dim=2), torch.cat((self.labels, labels), dim=2)
        return self._replace(points=points, labels=labels)

    def with_previous_masks(self, logits: torch.Tensor) -> "Prompts":
        """The prompts with the logits (B, O, h, w) that a model found for earlier ones, clamped as in training."""
        return self._replace(masks=logits.clamp(-LARGEST_PREVIOUS_LOGIT, LARGEST_PREVIOUS_LOGIT))
