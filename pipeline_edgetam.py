"""Mask generation: the masks of all objects of a picture, found by prompting with a grid of points.

The steps: crops -> grid -> confident low-res masks -> stable masks -> non-maximum suppression -> masks.

Legend: P points, N masks, (H, W) a crop or the original picture, (h, w) low-res masks. Points are (x, y) and boxes
(left, top, right, bottom), in pixels of the original picture, of a crop of it, or of the model input (a crop resized
by the image processor); every docstring says which.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from PIL import Image
from transformers import Pipeline
from transformers.utils import logging

from .device_edgetam import send
from .mask_generation_edgetam import (
    MOST_CROP_LAYERS,
    Crop,
    MaskCandidates,
    StabilityFilter,
    candidates_of_crop,
    crops_of_picture,
    point_grid,
    without_small_regions,
)
from .masks_edgetam import masks_to_rle, repair_masks
from .pictures_edgetam import is_picture_source, read_picture, to_rgb

if TYPE_CHECKING:
    # transformers<5: the loader of remote code takes along what an entry file names, and nothing that is only reached
    from .image_processing_edgetam import EdgeTamImageProcessor  # noqa: F401
    from .masks_edgetam import read_objects  # noqa: F401
    from .settings_edgetam import height_width  # noqa: F401

try:
    from pycocotools import mask as coco_mask
except ImportError:
    coco_mask = None

# Confident masks are measured together when they have about this many low-res pixels (128 MB of float32) or the crop
# is done, so that a GPU is waited for twice per group and not twice per batch of points.
MAX_PIXELS_PER_GROUP = 2**25
POINTS_PER_BATCH = 64  # or as many as the model decodes at once, if these are more

# The documentation writes the plural, the code of Transformers reads the singular; both work here.
OPTION_SPELLINGS = {"output_rle_masks": "output_rle_mask", "output_bboxes_masks": "output_bboxes_mask"}

# Options that say what to return and how to work; the others say how to search, and a checkpoint may bring its own.
RESULT_OPTIONS = {
    *("output_rle_mask", "output_bboxes_mask", "output_areas", "output_stability_scores", "output_points"),
    *("masks_on_demand", "timeout", "progress"),
}


@dataclass(frozen=True)
class MaskGenerationOptions:
    """All options of mask generation, checked. `EdgeTamMaskGenerationPipeline.__call__` says what each does."""

    points_per_batch: int | None = None
    points_per_crop: int = 32
    crops_n_layers: int = 0
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: float = 1
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1
    mask_threshold: float = 0
    max_hole_area: float | None = None
    max_sprinkle_area: float | None = None
    crops_nms_thresh: float = 0.7
    min_mask_region_area: float = 0
    output_rle_mask: bool | str = False
    output_bboxes_mask: bool = False
    output_areas: bool = False
    output_stability_scores: bool = False
    output_points: bool = False
    masks_on_demand: bool = False
    timeout: float | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        if self.points_per_batch is not None:
            self._check_number("points_per_batch", Integral, lowest=1)
        self._check_number("points_per_crop", Integral, lowest=1)
        self._check_number("crops_n_layers", Integral, lowest=0, highest=MOST_CROP_LAYERS)
        self._check_number("crop_n_points_downscale_factor", Real, lowest=1)
        self._check_number("stability_score_offset", Real, lowest=0)
        self._check_number("mask_threshold", Real)
        self._check_number("min_mask_region_area", Real, lowest=0)
        for name in ("crop_overlap_ratio", "pred_iou_thresh", "stability_score_thresh", "crops_nms_thresh"):
            self._check_number(name, Real, lowest=0, highest=1)
        for name in ("max_hole_area", "max_sprinkle_area", "timeout"):
            if getattr(self, name) is not None:
                self._check_number(name, Real, lowest=0)
        for name in RESULT_OPTIONS - {"output_rle_mask", "timeout"}:
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"`{name}` must be True or False, got {getattr(self, name)!r}")
        if not isinstance(self.output_rle_mask, bool) and self.output_rle_mask != "compressed":
            raise TypeError(f'`output_rle_mask` must be True, False or "compressed", got {self.output_rle_mask!r}')
        if self.output_rle_mask == "compressed" and coco_mask is None:
            raise ImportError("compressed run-length encodings need pycocotools: pip install pycocotools")
        if self.points_per_side(self.crops_n_layers) < 1:
            raise ValueError(
                f"`crop_n_points_downscale_factor={self.crop_n_points_downscale_factor}` leaves no point of "
                f"`points_per_crop={self.points_per_crop}` in crop layer {self.crops_n_layers}"
            )

    def _check_number(self, name: str, kind: type, lowest: float = -math.inf, highest: float = math.inf) -> None:
        value = getattr(self, name)
        is_of_kind = isinstance(value, kind) and not isinstance(value, bool)
        if not is_of_kind:
            expected = "an integer" if kind is Integral else "a number"
            raise TypeError(f"`{name}` must be {expected}, got {value!r}")
        if not lowest <= value <= highest:  # false for NaN too
            expected = f"at least {lowest}" if highest == math.inf else f"between {lowest} and {highest}"
            raise ValueError(f"`{name}` must be {expected}, got {value!r}")

    @property
    def stability(self) -> StabilityFilter:
        """Which masks are stable."""
        return StabilityFilter(self.mask_threshold, self.stability_score_offset, self.stability_score_thresh)

    def crops(self, height: int, width: int) -> list[Crop]:
        """The crops of a picture of this size that are searched, the whole picture first."""
        return crops_of_picture(height, width, self.crops_n_layers, self.crop_overlap_ratio)

    def points_per_side(self, layer: int) -> int:
        """Number of points along each side of the grid on a crop of this layer; layer 0 is the whole picture."""
        return int(self.points_per_crop / self.crop_n_points_downscale_factor**layer)

    def updated(self, given: dict) -> "MaskGenerationOptions":
        """A copy with the `given` options, by any of their spellings, in place of its own."""
        for plural, singular in OPTION_SPELLINGS.items():
            if plural in given and singular in given:
                raise TypeError(f"`{plural}` and `{singular}` are the same option: give one of them")
        accepted = [field.name for field in fields(self)]
        unknown = sorted(set(given) - {*accepted, *OPTION_SPELLINGS})
        if unknown:
            raise TypeError(f"mask generation has no option {', '.join(unknown)}; it accepts {', '.join(accepted)}")
        spellings = {OPTION_SPELLINGS.get(name, name): name for name in given}
        try:
            return replace(self, **{name: given[spelling] for name, spelling in spellings.items()})
        except (TypeError, ValueError) as error:  # named as it was given
            message = str(error)
            for name, spelling in spellings.items():
                message = message.replace(f"`{name}`", f"`{spelling}`")
            raise type(error)(message) from error

    @classmethod
    def of_checkpoint(cls, options: dict | None) -> "MaskGenerationOptions":
        """The defaults, with the options that a checkpoint has in its `preprocessor_config.json`."""
        try:
            if unfit := sorted(RESULT_OPTIONS & {OPTION_SPELLINGS.get(name, name) for name in options or {}}):
                raise ValueError(f"{', '.join(unfit)} cannot be set by a checkpoint, but when the pipeline is called")
            return cls().updated(options or {})
        except (TypeError, ValueError) as error:
            raise ValueError(f"`mask_generation` of the image processor is wrong: {error}") from error


def compressed_rle(mask: torch.Tensor) -> dict:
    """COCO's compressed run lengths `{"size": [H, W], "counts": str}` of a boolean mask (H, W)."""
    rle_mask = coco_mask.encode(np.asfortranarray(mask.numpy(), np.uint8))
    return {"size": [int(side) for side in rle_mask["size"]], "counts": rle_mask["counts"].decode("ascii")}


class Pictures(torch.utils.data.Dataset):
    """Pictures of a list, which pipelines take lazily in this form only."""

    def __init__(self, images: list):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, idx: int) -> Any:
        return self.images[idx]


class EdgeTamMaskGenerationPipeline(Pipeline):
    """Masks of all objects of a picture: `pipeline("mask-generation", model=..., trust_remote_code=True)`.

    With a model object: `pipeline("mask-generation", model=model, image_processor=image_processor,
    pipeline_class=EdgeTamMaskGenerationPipeline)`. Any option of `__call__` may also be given here, as its new default.
    The defaults of a checkpoint are those that its image processor has in `mask_generation`, if it has any.
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        if not hasattr(self.model, "confident_masks"):
            raise TypeError(
                f"mask generation needs the image model EdgeTamModel, got {type(self.model).__name__}; "
                "EdgeTamModel.from_pretrained also loads the checkpoint of a video model"
            )
        if self.image_processor is None:
            raise TypeError("mask generation needs an image processor: give `image_processor`")

    def _sanitize_parameters(self, **given: Any) -> tuple[dict, dict, dict]:
        # Merged here and not by the base class, so that options given in two places are checked together.
        options = self.options.updated(given)
        return {"timeout": options.timeout}, {"options": options}, {"options": options}

    @property
    def options(self) -> MaskGenerationOptions:
        """What a call does unless told otherwise: options given to the pipeline, the checkpoint's, the defaults."""
        if hasattr(self, "_postprocess_params"):
            return self._postprocess_params["options"]
        return MaskGenerationOptions.of_checkpoint(getattr(self.image_processor, "mask_generation", None))

    @overload
    def __call__(self, image: Image.Image | str, **options: Any) -> dict: ...

    @overload
    def __call__(self, image: Any, **options: Any) -> dict | list[dict] | Iterator[dict]: ...

    def __call__(
        self, image: Any, *, num_workers: int | None = None, batch_size: int | None = None, **options: Any
    ) -> dict | list[dict] | Iterator[dict]:
        """Masks of all objects of each picture, best score first.

        Args:
            image: A picture as PIL picture, path, address, `data:` URI, base64 text, bytes, array or tensor; or a list,
                generator or dataset of them. Files are turned upright as their EXIF data say; PIL pictures and arrays
                are taken as their pixels lie.
            num_workers: Processes that load the pictures of a list or dataset; 0, the default, loads them here.
            batch_size: Accepted as by every pipeline. Pictures run one after the other whatever it is: the model's
                batch is `points_per_batch`.
            points_per_batch (`int`, *optional*): Points decoded before their masks are drawn; memory grows with it. By
                default 64, and on a GPU more where the model input is smaller than 1024x1024: there larger batches
                are faster.
            points_per_crop (`int`, defaults to 32): Points along each side of the grid, on the picture and each crop.
            crops_n_layers (`int`, defaults to 0): Layers of crops to search besides the whole picture. Layer i has
                2**i x 2**i crops.
            crop_overlap_ratio (`float`, defaults to 512 / 1500): How far crops of the first layer overlap, as a
                fraction of the picture's short side; halved from layer to layer.
            crop_n_points_downscale_factor (`float`, defaults to 1): In layer i, `points_per_crop` is divided by this
                factor i times.
            pred_iou_thresh (`float`, defaults to 0.88): Masks of a lower predicted IoU are dropped; 0 keeps all.
            stability_score_thresh (`float`, defaults to 0.95): Masks are dropped whose area changes more than this when
                their threshold moves, measured as IoU; 0 keeps all.
            stability_score_offset (`float`, defaults to 1): How far the threshold moves, up and down.
            mask_threshold (`float`, defaults to 0): The logit above which a pixel belongs to the mask.
            max_hole_area (`float`, *optional*): Holes up to this area, in pixels of the low-res masks, are filled.
            max_sprinkle_area (`float`, *optional*): Specks up to this area, in the same pixels, are removed.
            crops_nms_thresh (`float`, defaults to 0.7): Of two masks whose boxes overlap with a higher IoU, only the
                one of the better score is kept.
            min_mask_region_area (`float`, defaults to 0): In the masks that would be returned, holes of fewer pixels of
                the original picture are filled and regions of fewer removed; of duplicates that this makes one stays.
                The two areas above change what is filtered, this one cleans what is found.
            output_rle_mask, or output_rle_masks (`bool` or `"compressed"`, defaults to `False`): Also return run-length
                encodings, as lists or compressed as COCO does, for which pycocotools is needed.
            output_bboxes_mask, or output_bboxes_masks (`bool`, defaults to `False`): Also return boxes.
            output_areas, output_stability_scores, output_points (`bool`, defaults to `False`): Also return these.
            masks_on_demand (`bool`, defaults to `False`): `masks` is a sequence that makes each mask when it is asked
                for, so that masks of a large picture do not fill the memory.
            timeout (`float`, *optional*): Seconds to wait for a picture from the web.
            progress (`bool`, defaults to `False`): Show a progress bar over the points of each picture and, if there
                are several, one over the pictures.

        Returns:
            A dict for one picture, a list of dicts for a list, an iterator of dicts for a generator or dataset, with
            masks: list of N boolean tensors (H, W), the size of the original picture. N may be 0.
            scores: predicted IoU (N,), descending.
            rle_mask: if asked for, N COCO encodings `{"size": [H, W], "counts": [...]}`; `counts` is a string if
                compressed.
            bounding_boxes: if asked for, (N, 4) in pixels of the original picture, right and bottom included.
            areas: if asked for, pixels of each mask (N,).
            stability_scores: if asked for, (N,); NaN for an empty mask.
            points: if asked for, the point that prompted each mask (N, 2), in pixels of the original picture.
        """
        is_list = isinstance(image, (list, tuple))
        if is_list and len(image) == 0:
            return []
        self.call_count = 0  # after ten calls on a GPU the base class advises batching, which gains nothing here
        pictures = Pictures(image) if is_list else image
        results = super().__call__(pictures, num_workers=num_workers, batch_size=1, **options)
        if isinstance(results, dict):
            return results
        if options.get("progress", self._postprocess_params["options"].progress):
            num_pictures = len(pictures) if hasattr(pictures, "__len__") else None
            results = (result for result in logging.tqdm(results, total=num_pictures, unit="picture"))
        return list(results) if is_list else results

    def preprocess(self, image: Any, timeout: float | None = None) -> dict:
        """The picture as uint8 array (H, W, 3)."""
        if is_picture_source(image):
            return {"picture": read_picture(image, timeout=timeout)}
        pixels = to_rgb(image, "the image")
        if pixels.is_floating_point():
            pixels = pixels.round().clamp(0, 255).byte()
        return {"picture": pixels.permute(1, 2, 0).cpu().numpy()}

    def _forward(self, model_inputs: dict, options: MaskGenerationOptions) -> dict:
        image = model_inputs["picture"]
        crops = options.crops(*image.shape[:2])
        inputs = (self.pixel_values_of_crop(image, crop) for crop in crops)
        return self.search(image.shape[:2], map(self.model.get_image_embeddings, inputs), options)

    def search(
        self, size: tuple[int, int], image_embeddings: Iterable[list[torch.Tensor]], options: MaskGenerationOptions
    ) -> dict:
        """What `postprocess` takes: the candidates of a picture (height, width).

        Args:
            size: of the picture.
            image_embeddings: of each crop in turn, batch size 1; those of the next are asked for when one is done.
            options: which crops these are (`options.crops`), and how they are searched.
        """
        height, width = size
        crops, candidates = options.crops(height, width), []
        num_points = sum(options.points_per_side(crop.layer) ** 2 for crop in crops)
        with logging.tqdm(total=num_points, unit="point", leave=None, disable=not options.progress) as progress:
            for crop, embeddings in zip(crops, image_embeddings, strict=True):
                for masks, scores, points in self.confident_masks_of_crop(embeddings, crop, options, progress):
                    # searching for small regions waits for the device many times, but only for those who ask for it
                    masks = repair_masks(
                        masks, options.mask_threshold, options.max_hole_area or 0, options.max_sprinkle_area or 0
                    )
                    candidates.append(candidates_of_crop(masks, scores, points, crop, crops[0], options.stability))
        return {"candidates": MaskCandidates.joined(candidates), "height": height, "width": width}

    def confident_masks_of_crop(
        self, image_embeddings: list[torch.Tensor], crop: Crop, options: MaskGenerationOptions, progress: Any
    ) -> Iterator[tuple[torch.Tensor, ...]]:
        """Groups of low-res logits (N, h, w) in float32, scores (N,) and points (N, 2) of the original picture."""
        height, width = self.model.image_size
        scale = torch.tensor([crop.width / width, crop.height / height])
        points = point_grid(options.points_per_side(crop.layer), crop, height, width)
        group, num_pixels = [], 0
        suitable = max(POINTS_PER_BATCH, self.model.prompts_at_once(image_embeddings))
        for batch in points.split(options.points_per_batch or suitable):
            masks, scores, point_idx = self.model.confident_masks(
                image_embeddings, send(batch, self.device), options.pred_iou_thresh
            )
            group.append((masks.float(), scores, batch[point_idx] * scale + torch.tensor([crop.left, crop.top])))
            num_pixels += masks.numel()
            progress.update(len(batch))
            if num_pixels >= MAX_PIXELS_PER_GROUP:
                yield tuple(map(torch.cat, zip(*group, strict=True)))
                group, num_pixels = [], 0
        if group:
            yield tuple(map(torch.cat, zip(*group, strict=True)))

    def postprocess(self, model_outputs: dict, options: MaskGenerationOptions) -> dict:
        """The result of one picture, from its candidates by non-maximum suppression of their boxes."""
        candidates = model_outputs["candidates"].without_duplicates(options.crops_nms_thresh)
        masks = candidates.masks(model_outputs["height"], model_outputs["width"], options.mask_threshold)
        if options.min_mask_region_area > 0:
            candidates, masks = without_small_regions(
                candidates, masks, options.min_mask_region_area, options.crops_nms_thresh
            )
        result = {"masks": masks if options.masks_on_demand else list(masks), "scores": candidates.scores}
        if options.output_rle_mask == "compressed":
            result["rle_mask"] = [compressed_rle(mask) for mask in masks]
        elif options.output_rle_mask:
            result["rle_mask"] = [rle_mask for mask in masks for rle_mask in masks_to_rle(mask[None])]
        if options.output_bboxes_mask:
            result["bounding_boxes"] = candidates.boxes
        if options.output_areas:
            result["areas"] = torch.tensor([int(mask.sum()) for mask in masks], dtype=torch.int64)
        if options.output_stability_scores:
            result["stability_scores"] = candidates.stability_scores
        if options.output_points:
            result["points"] = candidates.points
        return result

    def pixel_values_of_crop(self, image: np.ndarray, crop: Crop) -> torch.Tensor:
        """Model input (1, 3, height, width) of a crop of the picture, in the model's dtype and on its device."""
        pixels = image[crop.top : crop.bottom, crop.left : crop.right]
        settings = {"input_data_format": "channels_last", "return_tensors": "pt"}
        pixel_values = self.image_processor(images=pixels, **settings)["pixel_values"]
        return send(pixel_values, self.device).to(self.model.dtype)
