"""Training data: clips, which are frames with masks of objects, drawn from sources at random.

A source is an object with `len(source)` and `draw(index, num_frames, max_objects, rng)`, which gives a `Clip`; all
randomness is that of the `np.random.Generator` it gets. A picture is a clip of one frame.
"""

from dataclasses import dataclass

import numpy as np


@dataclass
class Clip:
    """Frames of one size, in order, and the masks of some of their objects.

    Args:
        frames: uint8 arrays (height, width, 3), RGB, one per frame.
        masks: bool array (num_frames, num_objects, height, width); that of an object not seen on a frame is empty.
    """

    frames: list[np.ndarray]
    masks: np.ndarray
