"""True objects of pictures as labels that a model learns from.

Shapes: B pictures, O objects, H x W a picture, h x w the model input.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .pictures_edgetam import is_picture_source, read_index_picture
from .settings_edgetam import as_plain_tensor

NO_OBJECT = -1  # the label of every pixel where a picture has fewer objects than others of the batch


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
