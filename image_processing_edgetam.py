"""Pictures in, masks out: preprocessing, mask post-processing and the helpers of mask generation.

Shapes: B pictures, O objects, M masks per object, h x w low-res masks, H x W the original picture. Coordinates are
(x, y); sizes are (height, width).
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers.image_processing_utils import BatchFeature

from .mask_generation_edgetam import (
    Crop,
    crops_of_picture,
    is_cut_by_crop,
    masks_to_boxes,
    masks_to_rle,
    point_grid,
    stability_score,
)
from .mask_labels_edgetam import as_label_tensor, labels_of_objects, read_objects
from .pictures_edgetam import decode_picture, is_picture_source, largest_level, read_picture, to_8_bits
from .settings_edgetam import (
    LARGEST_SIDE,
    LAYOUTS,
    as_count,
    as_device,
    as_flag,
    as_layout,
    as_list,
    as_number,
    checked_settings,
    height_width,
)

try:
    from transformers import Sam2ImageProcessor
except ImportError:  # the name up to Transformers 5.0
    from transformers import Sam2ImageProcessorFast as Sam2ImageProcessor


MASK_STRIDE = 4  # the mask decoder predicts at a quarter of the input's resolution
MOST_CROP_LAYERS = 8  # the last of which has 65,536 crops
# Distance from the threshold that the original gives to filled holes and removed sprinkles.
REPAIRED_LOGIT = 10.0


class EdgeTamImageProcessorKwargs(Sam2ImageProcessor.valid_kwargs, total=False):
    """Settings of `EdgeTamImageProcessor` that can also be given per call."""

    resize_in_float: bool | None


def _mask_size(size) -> dict[str, int]:
    height, width = height_width(size)
    return {"height": max(1, height // MASK_STRIDE), "width": max(1, width // MASK_STRIDE)}


def _flat_list(images) -> list:
    """Single pictures, in order, from a picture, a batch (4-D) or lists of these."""
    if isinstance(images, (list, tuple)):
        return [image for item in images for image in _flat_list(item)]
    if isinstance(images, (np.ndarray, torch.Tensor)) and images.ndim == 4:
        return list(images)
    return [images]


def _to_8_bit_range(image: torch.Tensor, name: str, is_rescaled: bool) -> torch.Tensor:
    """The picture in a dtype that can be resized, uint8 or float, with levels in 0..255.

    Floats stay in 0..1, or wherever they are, if they are not to be rescaled.
    """
    if image.is_floating_point():
        if not image.isfinite().all():
            raise ValueError(f"{name} has NaN or infinite pixels")
        image = image.float() if image.element_size() < 4 else image
        lowest, highest = (float(level) for level in image.aminmax()) if is_rescaled else (0.0, 255.0)
        white = largest_level(lowest, highest, False, name)
        return image if white == 255 else image * (255 / white)
    if image.dtype == torch.bool:
        return image.to(torch.uint8) * 255
    if image.dtype == torch.uint8:
        return image
    return torch.from_numpy(to_8_bits(image.cpu().numpy(), name)).to(image.device)


def _channel_axis(shape, data_format, name: str) -> int:
    if data_format is not None:
        return LAYOUTS.index(data_format) * 2
    for num_channels in (3, 4, 1):
        axes = [axis for axis in (0, 2) if shape[axis] == num_channels]
        if len(axes) == 2 and max(shape) > 1:
            raise ValueError(
                f"{name} has shape {tuple(shape)}, whose channels may be first or last: say which with "
                'input_data_format="channels_first" or "channels_last"'
            )
        if axes:
            return axes[0]
    raise ValueError(
        f"{name} must have shape (height, width), (height, width, channels) or (channels, height, width) "
        f"with 1, 3 or 4 channels, got {tuple(shape)}"
    )


def _as_tensor(image, name: str) -> torch.Tensor:
    """A dense tensor of real numbers."""
    if isinstance(image, np.ndarray):
        if image.dtype.kind not in "buif" or image.dtype.itemsize > 8:
            raise TypeError(f"{name} must hold real numbers, got an array of dtype {image.dtype}")
        image = torch.from_numpy(np.require(image, image.dtype.newbyteorder("="), ["C", "W"]))
    if not isinstance(image, torch.Tensor):
        raise TypeError(
            f"{name} must be a PIL picture, an array, a tensor, or the path, address or bytes of a file, got "
            f"{type(image).__name__}"
        )
    if image.is_complex() or image.layout != torch.strided or image.is_quantized or image.is_meta:
        raise TypeError(f"{name} must hold real numbers, got a tensor {image.dtype}, {image.layout} on {image.device}")
    return image


def to_rgb(image, name: str, data_format=None, is_rescaled: bool = True, is_converted: bool = True) -> torch.Tensor:
    """Tensor (3, H, W) of one picture of any kind, in 0..255; 8-bit levels stay uint8, floats stay floats."""
    if is_picture_source(image):
        image, data_format = read_picture(image), "channels_last"
    elif isinstance(image, Image.Image):
        if len(image.getbands()) == 4 and not is_converted:
            raise ValueError(f"{name} has mode {image.mode}, the model takes RGB: leave do_convert_rgb=False out")
        image, data_format = decode_picture(image, name), "channels_last"
    image = _as_tensor(image, name)
    if image.ndim not in (2, 3) or image.numel() == 0:
        raise ValueError(f"{name} must be one non-empty picture with 2 or 3 dimensions, got shape {tuple(image.shape)}")
    image = image[None] if image.ndim == 2 else image.movedim(_channel_axis(image.shape, data_format, name), 0)
    if image.shape[0] not in (1, 3, 4):
        raise ValueError(f"{name} must have 1, 3 or 4 channels, got shape {tuple(image.shape)} (channels first)")
    if image.shape[0] == 4 and not is_converted:
        raise ValueError(f"{name} has 4 channels, the model takes 3: leave do_convert_rgb=False out")
    return _to_8_bit_range(image[:3], name, is_rescaled).expand(3, -1, -1).contiguous()


def _to_label_map(label_map, name: str) -> torch.Tensor:
    """Integer tensor (H, W) of one segmentation map."""
    label_map = as_label_tensor(label_map, name)
    if label_map.ndim == 3 and label_map.shape[0] == 1:
        label_map = label_map[0]
    if label_map.ndim != 2:
        raise ValueError(f"{name} must have shape (height, width), got {tuple(label_map.shape)}")
    return label_map if label_map.dtype == torch.uint8 else label_map.to(torch.int64)


def connected_component_areas(mask: torch.Tensor, pixel_areas: torch.Tensor | None = None) -> torch.Tensor:
    """For every foreground pixel, the area of its 8-connected component; 0 elsewhere.

    `mask` is bool (N, h, w), the result int64 (N, h, w); `pixel_areas` int64 (h, w) are 1 unless given. Every round
    hooks each component's root to the largest label that its pixels touch and then shortens all paths, so that
    windings (spirals) cost rounds only logarithmically.
    """
    shape, foreground = mask.shape, mask.flatten()
    # A pixel's parent is a pixel of its own component with no smaller index; 0 stands for the background.
    parent = torch.arange(foreground.numel() + 1, device=mask.device)
    parent[1:] *= foreground
    while True:
        touched = _neighbourhood_max(parent[1:].view(shape)).flatten() * foreground
        hooked = parent.scatter_reduce(0, parent[1:], touched, "amax")
        while not torch.equal(shorter := hooked[hooked], hooked):
            hooked = shorter
        if torch.equal(hooked, parent):
            break
        parent = hooked
    if pixel_areas is None:
        pixel_areas = parent.new_ones(())
    pixel_areas = pixel_areas.expand(shape).flatten()
    areas = torch.zeros_like(parent).scatter_add(0, parent[1:], pixel_areas)
    return (areas[parent[1:]] * foreground).view(shape)


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


class EdgeTamImageProcessor(Sam2ImageProcessor):
    """Pixel values for EdgeTAM from pictures, and masks at the pictures' size from its logits.

    Pictures are PIL pictures of any mode, arrays or tensors (H, W), (H, W, C) or (C, H, W), whatever `read_picture`
    takes (paths, addresses, bytes…), or lists of these. Files are read upright, as their EXIF data say; PIL pictures
    and arrays are taken as their pixels lie. All become RGB: grey levels are repeated, an alpha channel is dropped.

    Levels are in 0..255, 0..4095 or 0..65535, or floats in 0..1: the least of these that the picture does not exceed,
    whatever the type of its numbers, see `largest_level`. With `do_rescale=False` floats are taken as they are.

    Args:
        size (`dict`, *optional*, defaults to `{"height": 1024, "width": 1024}`):
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

    def __init__(self, **kwargs):
        kwargs = checked_settings(kwargs)
        if kwargs.get("mask_size") is None:
            kwargs["mask_size"] = _mask_size(kwargs.get("size") or self.size)
        super().__init__(**kwargs)

    @classmethod
    def from_dict(cls, image_processor_dict, **kwargs):
        """An image processor from saved settings; a `size` given here also sets `mask_size`."""
        if kwargs.get("size") is not None:
            kwargs.setdefault("mask_size", _mask_size(kwargs["size"]))
        return super().from_dict(image_processor_dict, **kwargs)

    def to_dict(self):
        """Settings that load this class with remote code allowed and native's class without."""
        settings = super().to_dict()
        settings.pop("_processor_class", None)
        if self.mask_generation is None:
            settings.pop("mask_generation", None)
        settings["image_processor_type"] = "Sam2ImageProcessorFast"
        settings["processor_class"] = "Sam2Processor"
        settings["auto_map"] = {self._auto_class: f"{type(self).__module__.split('.')[-1]}.{type(self).__name__}"}
        return settings

    def preprocess(self, images, segmentation_maps=None, mask_labels=None, **kwargs) -> BatchFeature:
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
        objects = None if mask_labels is None else read_objects(mask_labels, [p.shape[-2:] for p in pictures])
        encoding = super().preprocess(pictures, segmentation_maps, input_data_format="channels_first", **kwargs)
        if objects is not None:
            labels = {"mask_labels": labels_of_objects(objects, height_width(used["size"]))}
            encoding.update(BatchFeature(labels, tensor_type=kwargs.get("return_tensors") or "pt"))
        return encoding

    def _checked_call(self, settings: dict) -> dict:
        accepted = self.valid_kwargs.__annotations__.keys()
        if unknown := sorted(set(settings) - accepted):
            raise TypeError(
                f"the image processor has no setting {', '.join(unknown)}; it accepts {', '.join(sorted(accepted))}"
            )
        # for these Transformers takes no None
        settings = {
            name: value for name, value in settings.items() if value is not None or name not in ("size", "mask_size")
        }
        return checked_settings(settings)

    def _check_maps(self, segmentation_maps, pictures: list[torch.Tensor]) -> list[torch.Tensor]:
        if isinstance(segmentation_maps, (np.ndarray, torch.Tensor)) and segmentation_maps.ndim > 2:
            segmentation_maps = list(segmentation_maps)
        maps = [_to_label_map(m, f"segmentation_maps[{i}]") for i, m in enumerate(_flat_list(segmentation_maps))]
        sizes = [tuple(m.shape) for m in maps], [tuple(p.shape[-2:]) for p in pictures]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"segmentation_maps must be one per picture and of its size, got {sizes[0]} for pictures of {sizes[1]}"
            )
        return maps

    def _preprocess(self, images, resize_in_float: bool = False, **kwargs):
        if resize_in_float and kwargs["do_rescale"]:
            images = [image.float() * kwargs["rescale_factor"] for image in images]
            kwargs["do_rescale"] = False
        return super()._preprocess(images, **kwargs)

    def post_process_masks(
        self,
        masks,
        original_sizes,
        mask_threshold: float = 0.0,
        binarize: bool = True,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        apply_non_overlapping_constraints: bool = False,
        **kwargs,
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
            if is_exclusive:
                logits = self._apply_non_overlapping_constraints(logits)
            results.append(logits > mask_threshold if binarize else logits.to(given.dtype))
        return results

    def generate_crop_boxes(
        self,
        image,
        target_size,
        crop_n_layers: int = 0,
        overlap_ratio: float = 512 / 1500,
        points_per_crop: int = 32,
        crop_n_points_downscale_factor: int = 1,
        device=None,
    ):
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
        points_per_crop = as_count(points_per_crop, "points_per_crop", 1)
        num_layers = as_count(crop_n_layers, "crop_n_layers", 0, MOST_CROP_LAYERS)
        factor = as_number(crop_n_points_downscale_factor, "crop_n_points_downscale_factor", 1)
        device = torch.device("cpu") if device is None else as_device(device, "device")
        picture = to_rgb(image, "image")
        crops = crops_of_picture(*picture.shape[-2:], num_layers, as_number(overlap_ratio, "overlap_ratio", 0, 1))
        height, width = self._target_height_width(target_size)
        points = []
        for crop in crops:
            per_side = max(1, int(points_per_crop / factor**crop.layer))
            grid = point_grid(per_side, crop, height, width)
            points.append(grid[torch.arange(points_per_crop**2) % len(grid)])
        points = torch.stack(points, dim=1)[None].to(device)
        boxes = torch.tensor([crop.box for crop in crops], dtype=torch.float32, device=points.device)
        pictures = [picture[:, crop.top : crop.bottom, crop.left : crop.right] for crop in crops]
        return boxes, points, pictures, torch.ones(points.shape[:-1], dtype=torch.int64, device=points.device)

    def _target_height_width(self, target_size) -> tuple[int, int]:
        target = height_width(target_size, "target_size")
        if not isinstance(target_size, int):
            return target
        height, width = height_width(self.size)
        return target[0], round(target[0] * width / height)

    def filter_masks(
        self,
        masks,
        iou_scores,
        original_size,
        cropped_box_image,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        mask_threshold: float = 0.0,
        stability_score_offset: float = 1.0,
    ):
        """Run lengths, scores (kept,) and boxes (kept, 4) of the good masks of one crop, in the picture's frame.

        `masks` (O, M, H, W) are logits at the crop's size, `iou_scores` (O, M); `cropped_box_image` is the crop's
        [left, top, right, bottom]. Kept are masks with a predicted IoU and a stability score above the thresholds
        that do not end at an edge of the crop inside the picture. Scores are float32.
        """
        mask_threshold = as_number(mask_threshold, "mask_threshold")
        pred_iou_thresh = as_number(pred_iou_thresh, "pred_iou_thresh")
        stability_score_thresh = as_number(stability_score_thresh, "stability_score_thresh")
        stability_score_offset = as_number(stability_score_offset, "stability_score_offset", 0)
        (height, width), crop = check_original_sizes([original_size])[0], _check_crop(cropped_box_image)
        masks = _check_logits(masks, "masks")
        if tuple(getattr(iou_scores, "shape", ())) != masks.shape[:2]:
            raise ValueError(
                f"iou_scores must have shape {tuple(masks.shape[:2])}, one for each of the masks, got "
                f"{tuple(getattr(iou_scores, 'shape', ())) or type(iou_scores).__name__}"
            )
        masks, scores = masks.flatten(0, 1), torch.as_tensor(iou_scores).flatten(0, 1).float().to(masks.device)
        keep = scores > pred_iou_thresh if pred_iou_thresh > 0 else torch.ones_like(scores, dtype=torch.bool)
        masks, scores = masks[keep], scores[keep]
        if stability_score_thresh > 0:
            keep = stability_score(masks, mask_threshold, stability_score_offset) > stability_score_thresh
            masks, scores = masks[keep], scores[keep]
        masks = masks > mask_threshold
        picture = Crop(0, 0, width, height)
        boxes = masks_to_boxes(masks)
        boxes = boxes + boxes.new_tensor([crop.left, crop.top, crop.left, crop.top])
        keep = ~is_cut_by_crop(boxes, crop, picture)
        margins = (crop.left, width - crop.right, crop.top, height - crop.bottom)
        return masks_to_rle(F.pad(masks[keep], margins)), scores[keep], boxes[keep]


def check_original_sizes(original_sizes) -> list[tuple[int, int]]:
    """(height, width) pairs from a tensor, an array or nested lists of shape (B, 2)."""
    original_sizes = as_list(original_sizes, "original_sizes")
    if not isinstance(original_sizes, (list, tuple)):
        raise TypeError(f"original_sizes must be a list of (height, width) pairs, got {type(original_sizes)}")
    sizes = []
    for i, size in enumerate(original_sizes):
        size = as_list(size, f"original_sizes[{i}]")
        if not isinstance(size, (list, tuple)) or len(size) != 2:
            raise ValueError(f"original_sizes must have shape (batch_size, 2), got {size!r} at index {i}")
        sizes.append(tuple(_pixels(side, i) for side in size))
    if not sizes:
        raise ValueError("original_sizes is empty: give one (height, width) per picture")
    return sizes


def _pixels(side, index: int) -> int:
    side = as_list(side, "original_sizes")
    if isinstance(side, bool) or not isinstance(side, (int, float)):
        raise TypeError(f"original_sizes must hold numbers, got {side!r} at index {index}")
    if not (1 <= side <= LARGEST_SIDE and side == int(side)):
        raise ValueError(f"original_sizes must be whole numbers of pixels, at least 1, got {side} at index {index}")
    return int(side)


def _check_masks(masks) -> list[torch.Tensor]:
    """Per picture logits (O, M, h, w)."""
    if not isinstance(masks, (list, tuple)):
        if not isinstance(masks, (np.ndarray, torch.Tensor)) or masks.ndim == 0:
            raise TypeError(
                "masks must have shape (batch_size, objects, masks, height, width) or be a list of tensors or arrays, "
                f"one for each picture, got {type(masks).__name__}"
            )
        masks = list(masks)
    return [_check_logits(logits, f"masks[{i}]") for i, logits in enumerate(masks)]


def _check_logits(masks, name: str) -> torch.Tensor:
    """Float logits (O, M, h, w)."""
    if isinstance(masks, np.ndarray) and masks.dtype.kind == "f" and masks.dtype.itemsize <= 8:
        masks = torch.from_numpy(np.require(masks, masks.dtype.newbyteorder("="), ["C", "W"]))
    if not isinstance(masks, torch.Tensor):
        kind = f"array of {masks.dtype}" if isinstance(masks, np.ndarray) else type(masks).__name__
        raise TypeError(f"{name} must be a tensor or an array of floating-point logits, got {kind}")
    if not masks.is_floating_point():
        raise TypeError(f"{name} must be floating-point logits, got {masks.dtype}: pass the model's pred_masks")
    if masks.ndim != 4:
        raise ValueError(f"{name} must have shape (objects, masks, height, width), got {tuple(masks.shape)}")
    return masks


def _check_crop(box) -> Crop:
    """The crop of a box [left, top, right, bottom]."""
    sides = box.tolist() if isinstance(box, (np.ndarray, torch.Tensor)) else box
    if not isinstance(sides, (list, tuple)) or len(sides) != 4:
        raise ValueError(f"cropped_box_image must be [left, top, right, bottom] in pixels, got {box!r}")
    return Crop(*(int(as_number(side, "cropped_box_image")) for side in sides))
