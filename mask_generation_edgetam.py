"""Geometry of mask generation: crops of a picture, grids of points on them, and masks as scores, boxes and run lengths.

Shapes: P points, N masks, (H, W) a crop or the original picture. Points are (x, y) and boxes (left, top, right,
bottom), in pixels of the original picture, of a crop of it, or of the model input; every docstring says which.
"""

import itertools
import math
from typing import NamedTuple

import torch

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


def stability_score(logits: torch.Tensor, mask_threshold: float, offset: float) -> torch.Tensor:
    """IoU (N,) of each mask cut `offset` above and below the threshold, from logits (N, H, W); NaN if empty."""
    intersection = (logits > mask_threshold + offset).sum((-2, -1))
    union = (logits > mask_threshold - offset).sum((-2, -1))
    return intersection / union


def is_cut_by_crop(boxes: torch.Tensor, crop: Crop, picture: Crop) -> torch.Tensor:
    """Whether each box (N, 4), in pixels of the original picture, touches an edge of the crop inside the picture."""
    near_crop_edge = (boxes - boxes.new_tensor(crop.box)).abs() <= CROP_EDGE_TOLERANCE
    near_picture_edge = (boxes - boxes.new_tensor(picture.box)).abs() <= CROP_EDGE_TOLERANCE
    return (near_crop_edge & ~near_picture_edge).any(dim=-1)


def masks_to_boxes(masks: torch.Tensor) -> torch.Tensor:
    """Boxes (N, 4) int64 [left, top, right, bottom], last pixel included, of masks (N, H, W); zeros for an empty."""
    if masks.shape[0] == 0:
        return torch.zeros(0, 4, dtype=torch.int64, device=masks.device)
    columns, rows = masks.any(dim=1).int(), masks.any(dim=2).int()
    first = [axis.argmax(dim=1) for axis in (columns, rows)]
    last = [axis.shape[1] - 1 - axis.flip(1).argmax(dim=1) for axis in (columns, rows)]
    return torch.stack(first + last, dim=1) * rows.any(dim=1)[:, None]


def masks_to_rle(masks: torch.Tensor) -> list[dict]:
    """Uncompressed COCO run lengths `{"size": [H, W], "counts": [...]}` of bool masks (N, H, W), column by column."""
    height, width = masks.shape[1:]
    pixels = masks.transpose(1, 2).flatten(1)
    encoded = []
    for row in pixels:
        ends = (row[1:] != row[:-1]).nonzero().flatten() + 1
        ends = [0, *ends.tolist(), height * width]
        counts = [end - start for start, end in itertools.pairwise(ends)]
        encoded.append({"size": [height, width], "counts": ([0] if row[0] else []) + counts})
    return encoded
