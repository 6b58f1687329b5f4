"""Pictures in, masks out: preprocessing, mask post-processing, and the methods of Transformers for mask generation.

Shapes: B pictures, O objects, M masks per object, h x w low-res masks, H x W the original picture. Coordinates are
(x, y); sizes are (height, width).
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers.image_processing_utils import BatchFeature

from .mask_generation_edgetam import (
    MOST_CROP_LAYERS,
    MOST_POINTS_PER_SIDE,
    Crop,
    StabilityFilter,
    candidates_of_crop,
    crops_of_picture,
    point_grid,
)
from .masks_edgetam import as_label_tensor, labels_of_objects, masks_to_rle, read_objects, repair_masks
from .pictures_edgetam import to_rgb
from .settings_edgetam import (
    LARGEST_SIDE,
    as_count,
    as_device,
    as_flag,
    as_layout,
    as_list,
    as_number,
    as_plain_tensor,
    checked_settings,
    height_width,
    remote_code_name,
)

if TYPE_CHECKING:  # transformers<5: its remote-code loader takes along only files that are named here
    from .device_edgetam import send  # noqa: F401

try:
    from transformers import Sam2ImageProcessor
except ImportError:  # transformers<5: the class has this name, which 5.0 still uses
    from transformers import Sam2ImageProcessorFast as Sam2ImageProcessor


MASK_STRIDE = 4  # the mask decoder predicts at a quarter of the input's resolution


class EdgeTamImageProcessorKwargs(
    Sam2ImageProcessor.valid_kwargs,
    total=False,  # type: ignore[call-arg] # mypy does not know that this is a TypedDict
):
    """Settings of `EdgeTamImageProcessor` that can also be given per call."""

    resize_in_float: bool | None


def _mask_size(size: Any) -> dict[str, int]:
    height, width = height_width(size)
    return {"height": max(1, height // MASK_STRIDE), "width": max(1, width // MASK_STRIDE)}


def _flat_list(images: Any) -> list:
    """Single pictures, in order, from a picture, a batch (4-D) or lists of these."""
    if isinstance(images, (list, tuple)):
        return [image for item in images for image in _flat_list(item)]
    if isinstance(images, (np.ndarray, torch.Tensor)) and images.ndim == 4:
        return list(images)
    return [images]


def _to_label_map(label_map: Any, name: str) -> torch.Tensor:
    """Integer tensor (H, W) of one segmentation map."""
    label_map = as_label_tensor(label_map, name)
    if label_map.ndim == 3 and label_map.shape[0] == 1:
        label_map = label_map[0]
    if label_map.ndim != 2:
        raise ValueError(f"{name} must have shape (height, width), got {tuple(label_map.shape)}")
    return label_map if label_map.dtype == torch.uint8 else label_map.to(torch.int64)


class EdgeTamImageProcessor(Sam2ImageProcessor):
    """Pixel values for EdgeTAM from pictures, and masks at the pictures' size from its logits.

    Pictures are PIL pictures of any mode, arrays or tensors (H, W), (H, W, C) or (C, H, W), whatever `read_picture`
    takes (paths, addresses, bytes…), or lists of these. Files are read upright, as their EXIF data say; PIL pictures
    and arrays are taken as their pixels lie. All become RGB: grey levels are repeated, an alpha channel is dropped.

    Levels are in 0..255, 0..4095 or 0..65535, or floats in 0..1: the least of these that the picture does not exceed,
    whatever the type of its numbers, see `largest_level`. With `do_rescale=False` floats are taken as they are.

    Args:
        size (`dict`, *optional*, defaults to 1024 x 1024):
            Size of the model input; need not be square.
        mask_size (`dict`, *optional*):
            Size of the `labels` made from `segmentation_maps`; a quarter of `size` unless given.
        resize_in_float (`bool`, *optional*, defaults to `False`):
            Resize pictures as floats, as the original release does. By default they are resized as uint8 and rounded,
            bit-equal to `Sam2ImageProcessor` of Transformers.
        mask_generation (`dict`, *optional*):
            Options of `EdgeTamMaskGenerationPipeline` that suit the checkpoint, in place of the pipeline's defaults.
        kwargs:
            The other settings of `Sam2ImageProcessor`. All settings can also be given per call.
    """

    _auto_class = "AutoImageProcessor"
    valid_kwargs = EdgeTamImageProcessorKwargs
    resize_in_float = False
    mask_generation = None

    def __init__(self, **kwargs: Any):
        kwargs = checked_settings(kwargs)
        if kwargs.get("mask_size") is None:
            kwargs["mask_size"] = _mask_size(kwargs.get("size") or self.size)
        super().__init__(**kwargs)

    @classmethod
    def from_dict(cls, image_processor_dict: dict[str, Any], **kwargs: Any) -> "EdgeTamImageProcessor":
        """An image processor from saved settings; a `size` given here also sets `mask_size`."""
        if kwargs.get("size") is not None:
            kwargs.setdefault("mask_size", _mask_size(kwargs["size"]))
        return super().from_dict(image_processor_dict, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Settings that load this class with remote code allowed and native's class without."""
        settings = super().to_dict()
        settings.pop("_processor_class", None)  # transformers<5: would write it in place of `processor_class` below
        if self.mask_generation is None:
            settings.pop("mask_generation", None)
        # transformers<5: the class has this name, which later versions still find
        settings["image_processor_type"] = "Sam2ImageProcessorFast"
        settings["processor_class"] = "Sam2Processor"
        settings["auto_map"] = {self._auto_class: remote_code_name(self)}
        return settings

    def preprocess(
        self, images: Any, segmentation_maps: Any = None, mask_labels: Any = None, **kwargs: Any
    ) -> BatchFeature:
        """`pixel_values` (B, 3, height, width) and `original_sizes` (B, 2), and what a model can learn from.

        Args:
            images: one picture, a batch of four dimensions, or lists of pictures.
            segmentation_maps: one map (H, W) of integers per picture, which gives `labels` of `mask_size` as native.
            mask_labels: the true objects of each picture: a map (H, W) whose integers above 0 number the objects, or
                masks (O, H, W), of whose pixels those above 0 belong to the object. Gives `mask_labels` for the loss
                of `EdgeTamModel`, int8 (B, O, height, width): 1 on an object, 0 elsewhere, in order of the numbers;
                where pictures have fewer objects than others, the rest is filled up with -1.
            kwargs: settings for this call.
        """
        kwargs = self._checked_call(kwargs)
        data_format = as_layout(kwargs.pop("input_data_format", None), "input_data_format")
        own = {name: getattr(self, name) for name in ("do_rescale", "do_convert_rgb", "size")}
        used = own | {name: value for name, value in kwargs.items() if value is not None}
        flags = used["do_rescale"] is not False, used["do_convert_rgb"] is not False
        pictures = [
            to_rgb(picture, f"images[{i}]", data_format, *flags) for i, picture in enumerate(_flat_list(images))
        ]
        if not pictures:
            raise ValueError("images is empty: give at least one picture")
        if segmentation_maps is not None:
            segmentation_maps = self._check_maps(segmentation_maps, pictures)
        if kwargs.get("size") is not None:
            kwargs.setdefault("mask_size", _mask_size(kwargs["size"]))
        objects = (
            None if mask_labels is None else read_objects(mask_labels, [(p.shape[-2], p.shape[-1]) for p in pictures])
        )
        tensor_type = kwargs.get("return_tensors")
        needs_tensors = segmentation_maps is not None and tensor_type in (None, "np")
        if needs_tensors:
            kwargs["return_tensors"] = "pt"  # Transformers makes labels of nothing else
        encoding = super().preprocess(pictures, segmentation_maps, input_data_format="channels_first", **kwargs)
        if needs_tensors and tensor_type == "np":
            encoding = encoding.convert_to_tensors("np")
        if objects is not None:
            labels = {"mask_labels": labels_of_objects(objects, height_width(used["size"]))}
            encoding.update(BatchFeature(labels, tensor_type=tensor_type or "pt"))
        return encoding

    def _checked_call(self, settings: dict) -> dict:
        accepted = self.valid_kwargs.__annotations__.keys()
        if unknown := sorted(set(settings) - accepted):
            raise TypeError(
                f"the image processor has no setting {', '.join(unknown)}; it accepts {', '.join(sorted(accepted))}"
            )
        # Transformers takes no None for these two
        settings = {
            name: value for name, value in settings.items() if value is not None or name not in ("size", "mask_size")
        }
        return checked_settings(settings)

    def _check_maps(self, segmentation_maps: Any, pictures: list[torch.Tensor]) -> list[torch.Tensor]:
        if isinstance(segmentation_maps, (np.ndarray, torch.Tensor)) and segmentation_maps.ndim > 2:
            segmentation_maps = list(segmentation_maps)
        maps = [_to_label_map(m, f"segmentation_maps[{i}]") for i, m in enumerate(_flat_list(segmentation_maps))]
        sizes = [tuple(m.shape) for m in maps], [tuple(p.shape[-2:]) for p in pictures]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"segmentation_maps must be one per picture and of its size, got {sizes[0]} for pictures of {sizes[1]}"
            )
        return maps

    def _preprocess(self, images: list[torch.Tensor], resize_in_float: bool = False, **kwargs: Any) -> BatchFeature:
        if resize_in_float and kwargs["do_rescale"]:
            images = [image.float() * kwargs["rescale_factor"] for image in images]
            kwargs["do_rescale"] = False
        return super()._preprocess(images, **kwargs)

    def post_process_masks(
        self,
        masks: Any,
        original_sizes: Any,
        mask_threshold: float = 0.0,
        binarize: bool = True,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        apply_non_overlapping_constraints: bool = False,
        **kwargs: Any,
    ) -> list[torch.Tensor]:
        """Per picture a mask tensor (O, M, H, W) at its original size: bool, or float logits without `binarize`.

        Args:
            masks (`torch.Tensor`, `np.ndarray` or list of these):
                Low-res logits, (B, O, M, h, w) or per picture (O, M, h, w).
            original_sizes (`torch.Tensor`, `np.ndarray` or list of pairs):
                (height, width) of each picture.
            mask_threshold (`float`):
                Logits above it are foreground.
            binarize (`bool`):
                Return masks instead of logits. Logits keep their dtype.
            max_hole_area, max_sprinkle_area (`float`):
                Holes are filled and sprinkles removed up to this many low-res pixels, before resizing: see
                `repair_masks`. On masks of 256 x 256 one such pixel covers 16 pixels of the model input.
            apply_non_overlapping_constraints (`bool`):
                Leave each pixel only to the object with the highest logit.
        """
        mask_threshold, binarize = as_number(mask_threshold, "mask_threshold"), as_flag(binarize, "binarize")
        max_hole_area = as_number(0.0 if max_hole_area is None else max_hole_area, "max_hole_area", 0)
        max_sprinkle_area = as_number(0.0 if max_sprinkle_area is None else max_sprinkle_area, "max_sprinkle_area", 0)
        is_exclusive = as_flag(apply_non_overlapping_constraints, "apply_non_overlapping_constraints")
        masks, sizes = _check_masks(masks), check_original_sizes(original_sizes)
        if len(masks) != len(sizes):
            raise ValueError(f"masks and original_sizes must have equal lengths, got {len(masks)} and {len(sizes)}")
        results = []
        for given, size in zip(masks, sizes, strict=True):
            logits = given if given.dtype in (torch.float32, torch.float64) else given.float()
            logits = repair_masks(logits, mask_threshold, max_hole_area, max_sprinkle_area)
            if logits.numel():
                logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
            else:
                logits = logits.new_zeros(*logits.shape[:2], *size)
            if is_exclusive and len(logits):
                logits = self._apply_non_overlapping_constraints(logits)
            results.append(logits > mask_threshold if binarize else logits.to(given.dtype))
        return results

    def generate_crop_boxes(
        self,
        image: Any,
        target_size: Any,
        crop_n_layers: int = 0,
        overlap_ratio: float = 512 / 1500,
        points_per_crop: int = 32,
        crop_n_points_downscale_factor: int = 1,
        device: str | torch.device | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """Crops of a picture and a grid of points on each: `(crop_boxes, points, crops, labels)`.

        `crop_boxes` (crops, 4) are [left, top, right, bottom] in pixels of the picture, the whole picture first;
        `points` (1, points, crops, 2) are (x, y) in pixels of the model input and cover all of it; `crops` is a list
        of tensors (3, H, W); `labels` (1, points, crops) are 1. Crops with a coarser grid repeat their points, so that
        all have equally many; suppression of duplicate masks undoes it.

        Args:
            image: one picture, as for `preprocess`.
            target_size (`int` or pair):
                Size of the model input. An int is its height, the width follows from the proportions of `size`.
            crop_n_layers (`int`): layer i cuts the picture into 2**i x 2**i crops.
            overlap_ratio (`float`): overlap of the crops of layer 1, as a part of the picture's shorter side.
            points_per_crop (`int`): points per side of the grid.
            crop_n_points_downscale_factor (`int`): the grid of layer i is coarser by the i-th power of it.
        """
        if isinstance(image, (list, tuple)):
            raise ValueError(f"generate_crop_boxes takes one picture, got a list of {len(image)}")
        points_per_crop = as_count(points_per_crop, "points_per_crop", 1, MOST_POINTS_PER_SIDE)
        num_layers = as_count(crop_n_layers, "crop_n_layers", 0, MOST_CROP_LAYERS)
        factor = as_number(crop_n_points_downscale_factor, "crop_n_points_downscale_factor", 1)
        device = torch.device("cpu") if device is None else as_device(device, "device")
        picture = to_rgb(image, "image")
        overlap = as_number(overlap_ratio, "overlap_ratio", 0, 1)
        crops = crops_of_picture(picture.shape[-2], picture.shape[-1], num_layers, overlap)
        height, width = self._target_height_width(target_size)
        grids = []
        for crop in crops:
            per_side = max(1, int(points_per_crop / factor**crop.layer))
            grid = point_grid(per_side, crop, height, width)
            grids.append(grid[torch.arange(points_per_crop**2) % len(grid)])
        points = torch.stack(grids, dim=1)[None].to(device)
        boxes = torch.tensor([crop.box for crop in crops], dtype=torch.float32, device=points.device)
        pictures = [picture[:, crop.top : crop.bottom, crop.left : crop.right] for crop in crops]
        return boxes, points, pictures, torch.ones(points.shape[:-1], dtype=torch.int64, device=points.device)

    def _target_height_width(self, target_size: Any) -> tuple[int, int]:
        target = height_width(target_size, "target_size")
        if not isinstance(target_size, int):
            return target
        height, width = height_width(self.size)
        return target[0], round(target[0] * width / height)

    def filter_masks(
        self,
        masks: Any,
        iou_scores: Any,
        original_size: Any,
        cropped_box_image: Any,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        mask_threshold: float = 0.0,
        stability_score_offset: float = 1.0,
    ) -> tuple[list[dict], torch.Tensor, torch.Tensor]:
        """Run lengths, scores (kept,) and boxes (kept, 4) of the good masks of one crop, in the picture's frame.

        `masks` (O, M, H, W) are logits at the crop's size, `iou_scores` (O, M); `cropped_box_image` is the crop's
        [left, top, right, bottom]. Kept are masks with a predicted IoU and a stability score above the thresholds
        that do not end at an edge of the crop inside the picture. Scores are float32.
        """
        mask_threshold = as_number(mask_threshold, "mask_threshold")
        pred_iou_thresh = as_number(pred_iou_thresh, "pred_iou_thresh")
        stability_score_thresh = as_number(stability_score_thresh, "stability_score_thresh")
        stability_score_offset = as_number(stability_score_offset, "stability_score_offset", 0)
        masks, (height, width) = _check_logits(masks, "masks"), check_original_sizes([original_size])[0]
        crop = _check_crop(cropped_box_image, masks.shape[-2:], (height, width))
        if tuple(getattr(iou_scores, "shape", ())) != masks.shape[:2]:
            raise ValueError(
                f"iou_scores must have shape {tuple(masks.shape[:2])}, one for each of the masks, got "
                f"{tuple(getattr(iou_scores, 'shape', ())) or type(iou_scores).__name__}"
            )
        masks, scores = masks.flatten(0, 1).float(), torch.as_tensor(iou_scores).flatten(0, 1).float().cpu()
        if pred_iou_thresh > 0:
            is_confident = scores > pred_iou_thresh
            masks, scores = masks[is_confident.to(masks.device)], scores[is_confident]
        stability = StabilityFilter(mask_threshold, stability_score_offset, stability_score_thresh)
        points = torch.zeros(len(scores), 2)  # what prompted the masks is not asked for
        kept = candidates_of_crop(masks, scores, points, crop, Crop(0, 0, width, height), stability)
        run_lengths = [rle for mask in kept.masks(height, width, mask_threshold) for rle in masks_to_rle(mask[None])]
        return run_lengths, kept.scores.to(masks.device), kept.boxes.to(masks.device)


def check_original_sizes(original_sizes: Any) -> list[tuple[int, int]]:
    """(height, width) pairs from a tensor, an array or nested lists of shape (B, 2)."""
    original_sizes = as_list(original_sizes, "original_sizes")
    if not isinstance(original_sizes, (list, tuple)):
        raise TypeError(f"original_sizes must be a list of (height, width) pairs, got {type(original_sizes)}")
    sizes = []
    for i, size in enumerate(original_sizes):
        size = as_list(size, f"original_sizes[{i}]")
        if not isinstance(size, (list, tuple)) or len(size) != 2:
            raise ValueError(f"original_sizes must have shape (batch_size, 2), got {size!r} at index {i}")
        sizes.append((_pixels(size[0], i), _pixels(size[1], i)))
    if not sizes:
        raise ValueError("original_sizes is empty: give one (height, width) per picture")
    return sizes


def _pixels(side: Any, index: int) -> int:
    side = as_list(side, "original_sizes")
    if isinstance(side, bool) or not isinstance(side, (int, float)):
        raise TypeError(f"original_sizes must hold numbers, got {side!r} at index {index}")
    if not (1 <= side <= LARGEST_SIDE and side == int(side)):
        raise ValueError(f"original_sizes must be whole numbers of pixels, at least 1, got {side} at index {index}")
    return int(side)


def _check_masks(masks: Any) -> list[torch.Tensor]:
    """Per picture logits (O, M, h, w)."""
    if not isinstance(masks, (list, tuple)):
        if not isinstance(masks, (np.ndarray, torch.Tensor)) or masks.ndim == 0:
            raise TypeError(
                "masks must have shape (batch_size, objects, masks, height, width) or be a list of tensors or arrays, "
                f"one for each picture, got {type(masks).__name__}"
            )
        masks = list(masks)
    return [_check_logits(logits, f"masks[{i}]") for i, logits in enumerate(masks)]


def _check_logits(masks: Any, name: str) -> torch.Tensor:
    """Float logits (O, M, h, w)."""
    if not isinstance(masks, (np.ndarray, torch.Tensor)):
        raise TypeError(f"{name} must be a tensor or an array of floating-point logits, got {type(masks).__name__}")
    masks = as_plain_tensor(masks, name, "floating-point logits")
    if not masks.is_floating_point():
        raise TypeError(f"{name} must be floating-point logits, got {masks.dtype}: pass the model's pred_masks")
    if masks.ndim != 4:
        raise ValueError(f"{name} must have shape (objects, masks, height, width), got {tuple(masks.shape)}")
    return masks


def _check_crop(box: Any, mask_size: tuple[int, int], picture_size: tuple[int, int]) -> Crop:
    """The crop of a box [left, top, right, bottom], which lies in the picture and has the size of the masks."""
    sides = box.tolist() if isinstance(box, (np.ndarray, torch.Tensor)) else box
    if not isinstance(sides, (list, tuple)) or len(sides) != 4:
        raise ValueError(f"cropped_box_image must be [left, top, right, bottom] in pixels, got {box!r}")
    crop = Crop(*(int(as_number(side, "cropped_box_image")) for side in sides))
    is_inside = 0 <= crop.left <= crop.right <= picture_size[1] and 0 <= crop.top <= crop.bottom <= picture_size[0]
    if not is_inside or (crop.height, crop.width) != tuple(mask_size):
        raise ValueError(
            f"cropped_box_image must lie in the picture of size {tuple(picture_size)} and have the size of the masks, "
            f"{tuple(mask_size)}, got {crop.box}"
        )
    return crop
