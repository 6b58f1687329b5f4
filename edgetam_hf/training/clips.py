"""Training data: clips, which are frames with masks of objects, and what they are drawn from.

A picture is a clip of one frame.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass
class Clip:
    """Frames of one size, in order, and the masks of some of their objects, or of none.

    Args:
        frames: uint8 arrays (height, width, 3), RGB, one per frame.
        masks: bool array (num_frames, num_objects, height, width); that of an object not seen on a frame is empty.
    """

    frames: list[np.ndarray]
    masks: np.ndarray


class ClipSource(Protocol):
    """What clips are drawn from at random: a dataset of pictures or of videos."""

    has_videos: bool  # whether clips may have more than one frame

    def __len__(self) -> int:
        """Number of pictures or videos."""

    def draw(self, index: int, num_frames: int, max_objects: int, rng: np.random.Generator) -> Clip:
        """A clip of one picture or video, with up to `max_objects` of its objects; `rng` has all its randomness."""
