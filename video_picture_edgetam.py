"""Decoded pictures of a video file as they are shown: RGB, with square pixels and upright.

A picture is what PyAV decodes, a frame is a uint8 tensor (3, H, W).
"""

from fractions import Fraction

import numpy as np
import torch

try:
    import av
except ImportError:
    av = None

# Ratios so near to 1 come from sides that were rounded, and such as lie beyond the largest are no ratios of pixels
NEAR_SQUARE, LARGEST_RATIO = 0.01, 10


def shown_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """(width, height) with square pixels: the side along which pixels are long grows, so that none is lost.

    Args:
        width, height: of the stored picture.
        aspect: width of a stored pixel by its height.
    """
    longer = max(aspect, 1 / aspect)
    if not 1 + NEAR_SQUARE < longer <= LARGEST_RATIO:
        return width, height
    return (round(width * longer), height) if aspect > 1 else (width, round(height * longer))


def to_frame(picture, aspect: Fraction) -> torch.Tensor:
    """Frame of a decoded picture, turned and mirrored as the file says."""
    width, height = shown_size(picture.width, picture.height, aspect)
    # PyAV 17 began to convert in several threads, for which a forked process would wait when it frees the picture
    settings = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
    pixels = picture.to_ndarray(format="rgb24", width=width, height=height, **settings)
    pixels = _upright(pixels, picture.side_data.get("DISPLAYMATRIX"))
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _upright(pixels: np.ndarray, display_matrix) -> np.ndarray:
    """Pixels (H, W, 3) in the one of eight orientations that is nearest to a display matrix.

    The matrix (a, b, u, c, d, v, x, y, w) shows the pixel (x, y) at (a x + c y, b x + d y).
    """
    if display_matrix is None:
        return pixels
    a, b, _, c, d, *_ = np.frombuffer(display_matrix, np.int32).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, right, down = pixels.transpose(1, 0, 2), c, b
    else:
        right, down = a, d
    return pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]
