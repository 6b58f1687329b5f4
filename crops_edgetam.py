"""Crops of a picture in which mask generation searches, and grids of points on them.

Points are (x, y) and boxes (left, top, right, bottom), in pixels of the original picture, of a crop of it, or of the
model input; every docstring says which.
"""

import itertools
import math
from typing import NamedTuple

import torch

MOST_CROP_LAYERS = 8  # the last of which has 65,536 crops
CROP_EDGE_TOLERANCE = 20.0  # pixels; as in SAM's automatic mask generator


class Crop(NamedTuple):
    """A part of the original picture: its box in pixels of the picture, and its layer (0 is the whole picture)."""

    left: int
    top: int
    right: int
    bottom: int
    layer: int = 0

    @property
    def box(self) -> tuple[int, int, int, int]:
        return self[:4]

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top


def crops_of_picture(height: int, width: int, num_layers: int, overlap_ratio: float) -> list[Crop]:
    """The whole picture, then for each layer i = 1..num_layers its 2**i x 2**i overlapping crops, column by column.

    In the first layer crops overlap by `overlap_ratio` of the picture's short side, and by half of that from each layer
    to the next.
    """
    crops = [Crop(0, 0, width, height)]
    for layer in range(1, num_layers + 1):
        num_per_side = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / num_per_side))
        crop_width = math.ceil((overlap * (num_per_side - 1) + width) / num_per_side)
        crop_height = math.ceil((overlap * (num_per_side - 1) + height) / num_per_side)
        for column, row in itertools.product(range(num_per_side), repeat=2):
            left, top = column * (crop_width - overlap), row * (crop_height - overlap)
            crop = Crop(left, top, min(left + crop_width, width), min(top + crop_height, height), layer)
            if crop.width > 0 and crop.height > 0:  # rounding leaves empty crops in pictures of a few pixels
                crops.append(crop)
    return crops


def point_grid(num_per_side: int, crop: Crop, input_height: int, input_width: int) -> torch.Tensor:
    """Points (num_per_side**2, 2) at the centres of an even grid over the crop, in pixels of the model input."""
    offset = 1 / (2 * num_per_side)
    positions = torch.linspace(offset, 1 - offset, num_per_side)
    y, x = torch.meshgrid(positions, positions, indexing="ij")
    points = torch.stack([x, y], dim=-1).flatten(0, 1) * torch.tensor([crop.width, crop.height])
    return points * torch.tensor([input_width / crop.width, input_height / crop.height])


def is_cut_by_crop(boxes: torch.Tensor, crop: Crop, picture: Crop) -> torch.Tensor:
    """Whether each box (N, 4), in pixels of the original picture, touches an edge of the crop inside the picture."""
    near_crop_edge = (boxes - boxes.new_tensor(crop.box)).abs() <= CROP_EDGE_TOLERANCE
    near_picture_edge = (boxes - boxes.new_tensor(picture.box)).abs() <= CROP_EDGE_TOLERANCE
    return (near_crop_edge & ~near_picture_edge).any(dim=-1)
