"""Masks as they are given and as they are found: true masks of objects as labels, boxes, run lengths, small regions.

Shapes: B pictures, O objects, N masks, (H, W) a picture, (h, w) low-res masks or the model input. Boxes are (left, top,
right, bottom) in pixels, right and bottom included.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .pictures_edgetam import is_picture_source, read_index_picture
from .settings_edgetam import as_plain_tensor

# Distance from the threshold that the original gives to filled holes and removed sprinkles.
REPAIRED_LOGIT = 10.0
CPU_PIXELS_AT_ONCE = 2**20  # of which components are searched at a time, so that they stay in the cache
NO_OBJECT = -1  # the label of every pixel where a picture has fewer objects than others of the batch


def masks_to_boxes(masks: torch.Tensor) -> torch.Tensor:
    """Boxes (N, 4) int64 of bool masks (N, H, W); zeros for an empty one, which torchvision's function refuses."""
    if masks.shape[0] == 0:
        return torch.zeros(0, 4, dtype=torch.int64, device=masks.device)
    return extents_to_boxes(masks.any(dim=1), masks.any(dim=2))


def extents_to_boxes(columns: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Boxes (N, 4) int64 of masks that have pixels in these columns (N, W) and rows (N, H); zeros where in none."""
    columns, rows = columns.int(), rows.int()
    first = [axis.argmax(dim=1) for axis in (columns, rows)]
    last = [axis.shape[1] - 1 - axis.flip(1).argmax(dim=1) for axis in (columns, rows)]
    return torch.stack(first + last, dim=1) * rows.amax(dim=1, keepdim=True)


def resize_mask(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bool (h, w): where a mask (H, W), which covers pixels by 0 to 1, covers at least half of a pixel at that size."""
    coverage = mask[None, None].float()
    return F.interpolate(coverage, size, mode="bilinear", align_corners=False, antialias=True)[0, 0] >= 0.5


def run_lengths(part: np.ndarray, left: int, top: int, height: int, width: int) -> dict:
    """Uncompressed COCO run lengths `{"size": [H, W], "counts": [...]}` of a mask (height, width), column by column.

    `part` is the bool array (h, w) of the mask from pixel (left, top) on; the mask is empty elsewhere.
    """
    # a row above and below the part, where the picture has one, keeps the runs of neighbouring columns apart
    first_row, end_row = max(top - 1, 0), min(top + part.shape[0] + 1, height)
    columns = np.zeros((part.shape[1], end_row - first_row), bool)
    columns[:, top - first_row : top - first_row + part.shape[0]] = part.T
    pixels = np.concatenate([[False], columns.ravel(), [False]])
    first_and_last = np.flatnonzero(pixels[1:] != pixels[:-1]).reshape(-1, 2) - [0, 1]  # pixels of each run
    column, row = np.divmod(first_and_last, columns.shape[1])
    starts_and_ends = (left + column) * height + first_row + row + [0, 1]
    counts = np.diff(starts_and_ends.ravel(), prepend=0, append=height * width).tolist()
    return {"size": [height, width], "counts": counts if counts[-1] else counts[:-1]}


def masks_to_rle(masks: torch.Tensor) -> list[dict]:
    """Uncompressed COCO run lengths `{"size": [H, W], "counts": [...]}` of each of the bool masks (N, H, W)."""
    return [run_lengths(mask, 0, 0, *mask.shape) for mask in masks.cpu().numpy()]


def connected_component_areas(mask: torch.Tensor, pixel_areas: torch.Tensor | None = None) -> torch.Tensor:
    """For every foreground pixel, the area of its 8-connected component; 0 elsewhere.

    `mask` is bool (N, h, w), the result int64 (N, h, w); `pixel_areas` int64 (h, w) are 1 unless given. Every round
    hooks each component's root to the largest label that its pixels touch and then shortens all paths, so that
    windings (spirals) cost rounds only logarithmically.
    """
    if pixel_areas is None:
        pixel_areas = torch.ones((), dtype=torch.int64, device=mask.device)
    is_on_cpu, num_pixels = mask.device.type == "cpu", max(1, mask.shape[1:].numel())
    num_at_once = CPU_PIXELS_AT_ONCE // num_pixels if is_on_cpu else mask.shape[0]
    return torch.cat([_component_areas(part, pixel_areas) for part in mask.split(max(1, num_at_once))])


def _component_areas(mask: torch.Tensor, pixel_areas: torch.Tensor) -> torch.Tensor:
    """What `connected_component_areas` returns."""
    shape, foreground = mask.shape, mask.flatten()
    # A pixel's parent is a pixel of its own component with no smaller index; 0 stands for the background.
    parent = torch.arange(foreground.numel() + 1, device=mask.device)
    parent[1:] *= foreground
    while True:
        touched = _neighbourhood_max(parent[1:].view(shape)).flatten() * foreground
        # only these pixels have something to say: thousands that write to one root would wait for each other on a GPU
        at_border = (touched > parent[1:]).nonzero()[:, 0]
        if len(at_border) == 0:
            break
        root = parent[1:].index_select(0, at_border)
        parent = parent.scatter_reduce(0, root, touched.index_select(0, at_border), "amax")
        while not torch.equal(shorter := parent.index_select(0, parent), parent):
            parent = shorter
    # for the same reason the pixels of a component in one row are counted before they are added to the others
    ends_row = F.pad(mask[..., :-1] & ~mask[..., 1:], (0, 1), value=True).flatten() & foreground
    last = ends_row.nonzero()[:, 0]
    so_far = (pixel_areas * mask).flatten().cumsum(dim=0)[last]
    areas = torch.zeros_like(parent).scatter_add(0, parent[1:][last], so_far.diff(prepend=so_far.new_zeros(1)))
    return (areas.index_select(0, parent[1:]) * foreground).view(shape)


def _neighbourhood_max(labels: torch.Tensor) -> torch.Tensor:
    """Largest of the non-negative integers (N, h, w) in every 3 x 3 neighbourhood."""
    for dim, padding in ((2, (1, 1)), (1, (0, 0, 1, 1))):
        padded, length = F.pad(labels, padding), labels.shape[dim]
        neighbours = torch.maximum(padded.narrow(dim, 0, length), padded.narrow(dim, 2, length))
        labels = torch.maximum(labels, neighbours)
    return labels


def repair_masks(
    masks: torch.Tensor, mask_threshold: float = 0.0, max_hole_area: float = 0.0, max_sprinkle_area: float = 0.0
) -> torch.Tensor:
    """New logits (..., h, w) without small holes and sprinkles.

    Background components of at most `max_hole_area` pixels rise above `mask_threshold`, foreground components of at
    most `max_sprinkle_area` pixels fall below it. Both are found in the given logits, as in the original's
    `SAM2Transforms.postprocess_masks`; areas are in pixels of `masks`.
    """
    flat = masks.reshape(-1, *masks.shape[-2:])
    repaired = flat
    if max_hole_area > 0:
        areas = connected_component_areas(flat <= mask_threshold)
        repaired = repaired.masked_fill((areas > 0) & (areas <= max_hole_area), mask_threshold + REPAIRED_LOGIT)
    if max_sprinkle_area > 0:
        areas = connected_component_areas(flat > mask_threshold)
        repaired = repaired.masked_fill((areas > 0) & (areas <= max_sprinkle_area), mask_threshold - REPAIRED_LOGIT)
    return repaired.view_as(masks)


def remove_small_regions(mask: torch.Tensor, min_area: float) -> torch.Tensor:
    """The mask (H, W) with holes of fewer than `min_area` pixels filled, then without regions of fewer than that.

    Regions are 8-connected, and if all are small the largest stays, as in SAM's automatic mask generator.
    """
    left, top, right, bottom = masks_to_boxes(mask[None])[0].tolist()
    # rows and columns outside the box are all alike: one on each side stands for them, and counts as often
    rows = torch.arange(mask.shape[0]).clamp(top - 1, bottom + 1)
    columns = torch.arange(mask.shape[1]).clamp(left - 1, right + 1)
    rows, columns = rows - rows[0], columns - columns[0]
    pixel_areas = rows.bincount()[:, None] * columns.bincount()
    part = mask[max(top - 1, 0) : bottom + 2, max(left - 1, 0) : right + 2]

    hole_areas = connected_component_areas(~part[None], pixel_areas)[0]
    part = part | (hole_areas < min_area)  # 0 < min_area where the mask is
    areas = connected_component_areas(part[None], pixel_areas)[0]
    part = part & (areas >= min(min_area, int(areas.max())))
    return part[rows][:, columns]


def as_label_tensor(labels: Any, name: str) -> torch.Tensor:
    """Tensor of whole or boolean numbers from an index picture (PIL, or what `read_picture` takes), array or tensor.

    Floats are taken if they are whole numbers.
    """
    if is_picture_source(labels):
        labels = read_index_picture(labels)
    if isinstance(labels, Image.Image):
        labels = np.array(labels)
    labels = as_plain_tensor(labels, name, "whole numbers")
    if labels.numel() == 0:
        raise ValueError(f"{name} must have at least one pixel, got shape {tuple(labels.shape)}")
    if labels.is_floating_point() and not (labels.isfinite() & (labels == labels.round())).all():
        raise ValueError(f"{name} must hold whole numbers, got fractions, NaN or infinity")
    return labels


def read_objects(mask_labels: Any, sizes: list[tuple[int, int]]) -> list[torch.Tensor]:
    """Per picture its objects, bool (O, H, W).

    Args:
        mask_labels: list, or array whose first dimension is the batch, with an entry for each picture: a map (H, W)
            whose integers above 0 number the objects, or masks (O, H, W), also as a list. Of one picture the map may
            come alone.
        sizes: (H, W) of each picture.
    """
    if is_picture_source(mask_labels) or isinstance(mask_labels, Image.Image) or getattr(mask_labels, "ndim", 0) == 2:
        mask_labels = [mask_labels]
    if not isinstance(mask_labels, (list, tuple)) and getattr(mask_labels, "ndim", 0) < 3:
        raise TypeError(f"mask_labels must be a list with one entry per picture, got {type(mask_labels).__name__}")
    if len(mask_labels) != len(sizes):
        raise ValueError(
            f"mask_labels must have one entry per picture, got {len(mask_labels)} for {len(sizes)} pictures; masks of "
            "one picture are one entry: [masks]"
        )
    return [
        _objects(labels, (size[0], size[1]), f"mask_labels[{i}]")
        for i, (labels, size) in enumerate(zip(mask_labels, sizes, strict=True))
    ]


def _objects(labels: Any, size: tuple[int, int], name: str) -> torch.Tensor:
    """Bool (O, H, W) of one picture."""
    if isinstance(labels, (list, tuple)):
        masks = [as_label_tensor(mask, f"{name}[{i}]") for i, mask in enumerate(labels)]
        if any(mask.shape != masks[0].shape for mask in masks):
            raise ValueError(f"{name} must have masks of one size, got {[tuple(mask.shape) for mask in masks]}")
        labels = torch.stack([mask > 0 for mask in masks]) if masks else torch.zeros(0, *size, dtype=torch.bool)
    else:
        labels = as_label_tensor(labels, name)
    if labels.ndim not in (2, 3) or tuple(labels.shape[-2:]) != size:
        raise ValueError(
            f"{name} must be a map of object numbers (height, width) or masks (objects, height, width) of the size of "
            f"its picture, {size}, got shape {tuple(labels.shape)}"
        )
    if labels.ndim == 3:
        return labels > 0
    numbers = labels.unique()
    return labels == numbers[numbers > 0][:, None, None]


def labels_of_objects(objects: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    """int8 (B, O, h, w) from bool (O, H, W) of each picture: 1 on an object, 0 elsewhere, -1 where there is none."""
    num_objects = max(map(len, objects))
    if num_objects == 0:
        raise ValueError("mask_labels have no object in any picture: there is nothing to learn from")
    labels = torch.full((len(objects), num_objects, *size), NO_OBJECT, dtype=torch.int8)
    for label, masks in zip(labels, objects, strict=True):
        if len(masks):  # with centres of pixels where resizing of the picture has them
            label[: len(masks)] = F.interpolate(masks[None].float(), size, mode="nearest-exact")[0]
    return labels
