"""Mask generation, step by step: crops of a picture, grids of points on them, and the masks that are left of them.

A crop is searched with a grid of points. Of the masks of which the model is confident those stay that are stable, are
not cut by the crop, and have no better duplicate. Each is upsampled by itself and only near its object: once to measure
it, and again if it is among the results.

Shapes: N masks, (h, w) low-res masks of a crop, (H, W) the original picture. Points are (x, y) and boxes (left, top,
right, bottom), in pixels of the original picture, of a crop of it, or of the model input; every docstring says which.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.ops import nms

from .device_edgetam import fetch
from .masks_edgetam import masks_to_boxes, remove_small_regions

MOST_CROP_LAYERS = 8  # the last of which has 65,536 crops
CROP_EDGE_TOLERANCE = 20.0  # pixels; as in SAM's automatic mask generator
# Interpolated values may exceed all values that they are made of by a rounding error, at most this part of the level.
ROUNDING = 1e-5
# Parts of masks are fetched from the device together, once they have about this many pixels of a byte each.
MAX_PIXELS_AT_ONCE = 2**27


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


@dataclass(frozen=True)
class BoxedLogits:
    """Low-res logits of a mask inside a box, outside of which none exceeds `floor`.

    logits (h', w') begin at pixel (left, top) of the (height, width) low-res mask. Those at the edges of the box do not
    exceed `floor` either, unless they lie at the edges of the mask.
    """

    logits: torch.Tensor
    left: int
    top: int
    height: int
    width: int
    floor: float

    @classmethod
    def cut_out(cls, low_res_masks: torch.Tensor, level: float) -> list["BoxedLogits"]:
        """Each of the masks (N, h, w), for what exceeds `level` once they are upsampled."""
        height, width = low_res_masks.shape[1:]
        floor = level - ROUNDING * abs(level)
        (boxes,) = fetch([masks_to_boxes(low_res_masks > floor)])
        cut = []
        for mask, (left, top, right, bottom) in zip(low_res_masks, boxes.tolist(), strict=True):
            left, top = max(left - 1, 0), max(top - 1, 0)  # interpolation reaches one pixel further
            logits = mask[top : bottom + 2, left : right + 2].clone()
            cut.append(cls(logits, left, top, height, width, floor))
        return cut

    def upsampled(self, height: int, width: int) -> tuple[torch.Tensor, int, int]:
        """Logits (H', W') where any exceed `floor` at the size (height, width), and the (left, top) of this part.

        Bilinear interpolation is linear interpolation along one axis and then along the other. Computed so, numbers are
        equal (to the bit, on a CPU, if the size has more than 128 rows and columns together: below that, PyTorch's
        bilinear interpolation adds in another order).
        """
        lines, left = self._stretched(self.logits, self.left, self.width, width)
        lines, top = self._stretched(lines.T, self.top, self.height, height)
        return lines.T, left, top

    def _stretched(self, lines: torch.Tensor, start: int, old_length: int, new_length: int) -> tuple[torch.Tensor, int]:
        """Lines (…, L), which begin at `start` of an axis, on a longer or shorter axis; and where they begin on it."""
        if old_length == new_length:  # exact also for infinite logits, which interpolation would turn into NaN
            return lines, start
        stop = start + lines.shape[1]
        padded = F.pad(lines, (start, old_length - stop), value=self.floor)
        stretched = F.interpolate(padded[None], new_length, mode="linear")[0]
        scale = new_length / old_length
        # not below 0, where the first pixel of a much shorter axis reaches over several of the longer one
        new_start = max(0, math.floor((start + 0.5) * scale - 0.5)) if start > 0 else 0
        new_stop = math.ceil((stop - 0.5) * scale - 0.5) + 1 if stop < old_length else new_length
        return stretched[:, new_start:new_stop], new_start


class Masks(Sequence):
    """Boolean masks (H, W) of a picture: tensors on the CPU, each made when it is asked for.

    What is kept of a mask is the part inside a box, a bit for each pixel.
    """

    def __init__(self, height: int, width: int):
        self.height, self.width = height, width
        self._parts: list[tuple[np.ndarray, torch.Size, int, int]] = []

    def append(self, part: torch.Tensor, left: int = 0, top: int = 0) -> None:
        """Adds a mask that is bool (H', W') from (left, top) on and empty elsewhere."""
        self._parts.append((np.packbits(part.numpy()), part.shape, left, top))

    def chosen(self, indices: torch.Tensor) -> "Masks":
        """The masks at these indices, in their order."""
        masks = Masks(self.height, self.width)
        masks._parts = [self._parts[idx] for idx in indices.tolist()]
        return masks

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, idx: Any) -> Any:
        if isinstance(idx, slice):
            return [self[i] for i in range(*idx.indices(len(self)))]
        bits, (height, width), left, top = self._parts[idx]
        part = np.unpackbits(bits, count=height * width).reshape(height, width)
        mask = torch.zeros(self.height, self.width, dtype=torch.bool)
        mask[top : top + height, left : left + width] = torch.from_numpy(part)
        return mask


@dataclass
class MaskCandidates:
    """Masks that passed the filters, and what is known of them. Tensors are on the CPU, except for the logits.

    logits: N masks in pixels of their crop; crops: their N crops. scores (N,): predicted IoU. stability_scores (N,):
    IoU of the mask cut above and below the threshold. points (N, 2): what prompted each mask, (x, y). boxes (N, 4):
    integers, right and bottom included. Points and boxes are in pixels of the original picture.
    """

    scores: torch.Tensor
    stability_scores: torch.Tensor
    points: torch.Tensor
    boxes: torch.Tensor
    logits: list[BoxedLogits]
    crops: list[Crop]

    @classmethod
    def joined(cls, parts: list["MaskCandidates"]) -> "MaskCandidates":
        """All candidates of the parts, in order."""
        columns: list[list[Any]] = [[getattr(part, field.name) for part in parts] for field in fields(cls)]
        whole: list[Any] = [torch.cat(c) if torch.is_tensor(c[0]) else list(itertools.chain(*c)) for c in columns]
        return cls(*whole)

    def chosen(self, indices: torch.Tensor) -> "MaskCandidates":
        """The candidates at these indices, in their order."""
        columns: list[Any] = [getattr(self, field.name) for field in fields(self)]
        kept: list[Any] = [c[indices] if torch.is_tensor(c) else [c[i] for i in indices.tolist()] for c in columns]
        return MaskCandidates(*kept)

    def without_duplicates(self, max_overlap: float) -> "MaskCandidates":
        """Best score first, without those whose boxes overlap that of a better one with an IoU above `max_overlap`."""
        return self.chosen(nms(self.boxes.float(), self.scores, max_overlap))

    def masks(self, height: int, width: int, mask_threshold: float) -> Masks:
        """N masks of a picture of this size."""
        masks, parts, corners = Masks(height, width), [], []
        for idx, (logits, crop) in enumerate(zip(self.logits, self.crops, strict=True)):
            part, left, top = logits.upsampled(crop.height, crop.width)
            parts.append(part > mask_threshold)
            corners.append((crop.left + left, crop.top + top))
            is_last = idx == len(self.logits) - 1
            if is_last or parts[0].device.type == "cpu" or sum(p.numel() for p in parts) > MAX_PIXELS_AT_ONCE:
                for fetched, corner in zip(fetch(parts), corners, strict=True):
                    masks.append(fetched, *corner)
                parts, corners = [], []
        return masks


class StabilityFilter(NamedTuple):
    """Masks, cut at `mask_threshold`, stay if their stability score exceeds `lowest_score`; all stay if that is 0.

    The stability score is the IoU of the mask cut `offset` above and `offset` below the threshold.
    """

    mask_threshold: float
    offset: float
    lowest_score: float


def candidates_of_crop(
    low_res_masks: torch.Tensor,
    scores: torch.Tensor,
    points: torch.Tensor,
    crop: Crop,
    picture: Crop,
    stability: StabilityFilter,
) -> MaskCandidates:
    """The stable masks that the crop does not cut off.

    Args:
        low_res_masks: float32 logits (N, h, w) of the crop, at any size.
        scores, points: (N,) and (N, 2) on the CPU; see `MaskCandidates`.
        crop, picture: in pixels of the original picture.
        stability: what makes a mask stable.
    """
    logits = BoxedLogits.cut_out(low_res_masks, stability.mask_threshold - stability.offset)
    numbers, lefts_and_tops = [], []
    for mask in logits:
        upsampled, left, top = mask.upsampled(crop.height, crop.width)
        numbers.append(_measure(upsampled, stability.mask_threshold, stability.offset))
        lefts_and_tops.append((left, top))
    measured = torch.stack(fetch(numbers)) if numbers else torch.zeros(0, 6, dtype=torch.int64)
    corners = torch.tensor(lefts_and_tops, dtype=torch.int64).view(-1, 2)

    intersection, union, boxes = measured[:, 0], measured[:, 1], measured[:, 2:]
    stability_scores = intersection / union  # NaN for an empty mask, which no threshold lets pass
    is_empty = (boxes < 0).any(dim=1, keepdim=True)
    boxes = torch.where(is_empty, 0, boxes + corners.repeat(1, 2)) + torch.tensor(crop.box)[[0, 1, 0, 1]]
    is_kept = ~is_cut_by_crop(boxes, crop, picture)
    if stability.lowest_score > 0:
        is_kept &= stability_scores > stability.lowest_score
    candidates = MaskCandidates(scores, stability_scores, points, boxes, logits, [crop] * len(logits))
    return candidates.chosen(is_kept.nonzero().flatten())


def _measure(logits: torch.Tensor, mask_threshold: float, offset: float) -> torch.Tensor:
    """Integers (6,): pixels above the raised and the lowered threshold, and the box, which is -1s for an empty mask."""
    areas = [(logits > mask_threshold + offset).sum(), (logits > mask_threshold - offset).sum()]
    mask = logits > mask_threshold
    box = masks_to_boxes(mask[None])[0]
    return torch.cat([torch.stack(areas), torch.where(mask.any(), box, -1)])


def without_small_regions(
    candidates: MaskCandidates, masks: Sequence, min_area: float, max_overlap: float
) -> tuple[MaskCandidates, Sequence]:
    """Candidates and masks after `remove_small_regions`, and without the duplicates that it makes.

    Of duplicates the one that was not changed stays, as in SAM's automatic mask generator.
    """
    if not masks:
        return candidates, masks
    cleaned, is_unchanged, boxes = Masks(*masks[0].shape), [], []
    for mask in masks:
        clean = remove_small_regions(mask, min_area)
        is_unchanged.append(torch.equal(clean, mask))
        boxes.append(masks_to_boxes(clean[None])[0])
        left, top, right, bottom = boxes[-1].tolist()
        cleaned.append(clean[top : bottom + 1, left : right + 1], left, top)
    candidates.boxes = torch.stack(boxes)
    ranks = torch.tensor(is_unchanged, dtype=torch.float32)
    kept = nms(candidates.boxes.float(), ranks, max_overlap).sort().values  # best score first again
    return candidates.chosen(kept), cleaned.chosen(kept)
