"""A picture that is encoded once, and the masks of what is clicked in it: for tools in which people correct masks."""

from collections.abc import Sequence

import numpy as np
import torch

from ..processing_edgetam import EdgeTamProcessor
from ..prompted_pictures import PicturePrompt, PromptedFinder
from ..protocols import PictureModel

Point = tuple[float, float, int]
Box = tuple[float, float, float, float]


class ClickedPicture:
    """A picture, encoded by a model; nothing that is asked of it changes it.

    Args:
        model: `EdgeTamModel`, or an exported one.
        processor: `EdgeTamProcessor`.
        pixels: uint8 (H, W, 3), in RGB.
    """

    def __init__(self, model: PictureModel, processor: EdgeTamProcessor, pixels: np.ndarray):
        self.model, self.processor = model, processor
        self.size = (pixels.shape[0], pixels.shape[1])
        inputs = processor(images=pixels, return_tensors="pt").to(model.device, model.dtype)
        with torch.inference_mode():
            self.embeddings = list(model.get_image_embeddings(inputs["pixel_values"]))

    def find(self, points: Sequence[Point], box: Box | None = None) -> tuple[np.ndarray, float]:
        """The boolean mask (H, W) of one object, and its predicted IoU; of a single click the best of three masks.

        Args:
            points: (x, y, label) in pixels of the picture; the label is 1 on the object and 0 beside it.
            box: (x_min, y_min, x_max, y_max) in pixels of the picture.

        Raises:
            ValueError: without a point on the object or a box, for points outside of the picture, and for a box that
                is turned inside out or shows nothing of it.
        """
        self._check(points, box)
        prompt = PicturePrompt(list(points), box)
        finder = PromptedFinder(self.model, self.processor, is_multimask=len(prompt.clicks()) == 1)
        (found,) = finder.find(self.embeddings, [prompt], self.size)
        return found.mask.full(), found.score

    def _check(self, points: Sequence[Point], box: Box | None) -> None:
        """Raises the ValueErrors of `find`."""
        height, width = self.size
        place = f"the picture, which is {width} wide and {height} high"
        if box is None and not any(label for *_, label in points):
            raise ValueError("there must be a point on the object, or a box around it, got neither")
        for x, y, _ in points:
            if not (0 <= x <= width and 0 <= y <= height):
                raise ValueError(f"point ({x:g}, {y:g}) lies outside of {place}")
        if box is not None:
            x_min, y_min, x_max, y_max = box
            shown = "(" + ", ".join(f"{side:g}" for side in box) + ")"
            if not (x_min < x_max and y_min < y_max):
                raise ValueError(f"box {shown} must be (x_min, y_min, x_max, y_max) with x_min < x_max, y_min < y_max")
            if x_max <= 0 or y_max <= 0 or x_min >= width or y_min >= height:
                raise ValueError(f"box {shown} lies outside of {place}")
