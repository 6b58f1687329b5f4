"""Random changes of clips: mirroring, turning, shearing and colours, as SAM 2 is trained with (arXiv 2408.00714).

What moves pixels is the same for all frames of a clip and their masks. Shapes: T frames of H x W pixels, O objects.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torchvision.transforms.v2 import functional as TF
from torchvision.tv_tensors import Image, Mask

CORNERS = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])  # (x, y) from the centre, in halves of the sides


@dataclass(frozen=True)
class Augmentation:
    """Settings of the changes; the defaults are those of SAM 2, without its mosaics.

    Args:
        flip_probability: of a clip that is mirrored left to right.
        degrees: largest angle by which a clip is turned, to either side.
        shear: largest angle in degrees by which the vertical axis is slanted, to either side.
        jitter: largest relative change of brightness, of contrast and of saturation, once for the whole clip and
            once more for each frame.
        grey_probability: of a clip that loses its colours.

    Raises:
        ValueError: for a setting out of range.
    """

    flip_probability: float = 0.5
    degrees: float = 25.0
    shear: float = 20.0
    jitter: float = 0.1
    grey_probability: float = 0.05

    def __post_init__(self) -> None:
        for name, limit in (("flip_probability", 1), ("degrees", 180), ("shear", 89), ("jitter", 1)):
            if not 0 <= getattr(self, name) <= limit:
                raise ValueError(f"{name} must be in 0..{limit}, got {getattr(self, name)}")
        if not 0 <= self.grey_probability <= 1:
            raise ValueError(f"grey_probability must be in 0..1, got {self.grey_probability}")

    def change_colours(self, frames: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Frames (T, 3, H, W), float in [0, 1], of other brightness, contrast and saturation, or grey."""
        # one change by the product is both changes, but for what leaves the range in between
        factors = 1 + rng.uniform(-self.jitter, self.jitter, (1, 3))
        factors = factors * (1 + rng.uniform(-self.jitter, self.jitter, (len(frames), 3)))
        changed = []
        for frame, (brightness, contrast, saturation) in zip(frames, factors):
            frame = TF.adjust_contrast(TF.adjust_brightness(frame, brightness), contrast)
            changed.append(TF.adjust_saturation(frame, saturation))
        frames = torch.stack(changed)
        return TF.rgb_to_grayscale(frames, 3) if rng.random() < self.grey_probability else frames

    def move(
        self, frames: torch.Tensor, masks: torch.Tensor, size: tuple[int, int], rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames (T, 3, H, W), float, and masks (T, O, H, W), uint8, mirrored, turned and sheared alike.

        What comes in from outside is 0: in frames that are normalised already, the mean colour. `size` is the (height,
        width) of the clip before it was resized: angles are measured at that size.
        """
        if rng.random() < self.flip_probability:
            frames, masks = TF.horizontal_flip(frames), TF.horizontal_flip(masks)
        turn, slant = np.deg2rad(rng.uniform(-1, 1, 2) * (self.degrees, self.shear))
        matrix = np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
        matrix = matrix @ [(1, np.tan(slant)), (0, 1)]
        # torchvision's `affine` knows no proportions but those of the pixels; corners carry others
        original_sides, sides = np.array(size)[::-1] / 2, np.array(frames.shape[:-3:-1]) / 2
        corners = CORNERS * original_sides @ matrix.T / original_sides
        start, end = (((1 + ends) * sides).tolist() for ends in (CORNERS, corners))
        frames, masks = (TF.perspective(pixels, start, end) for pixels in (Image(frames), Mask(masks)))
        return frames.as_subclass(torch.Tensor), masks.as_subclass(torch.Tensor)
