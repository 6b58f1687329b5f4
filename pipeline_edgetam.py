"""Mask generation: the masks of all objects of a picture, found by prompting with a grid of points.

The steps: crops -> grid -> confident low-res masks -> stable masks -> non-maximum suppression -> masks.

Legend: P points, N masks, (H, W) a crop or the original picture, (h, w) low-res masks. Points are (x, y) and boxes
(left, top, right, bottom), in pixels of the original picture, of a crop of it, or of the model input (a crop resized
by the image processor); every docstring says which.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from PIL import Image
from transformers import Pipeline
from transformers.utils import logging

from .device_edgetam import send
from .mask_generation_edgetam import (
    CandidateSearch,
    Crop,
    MaskGenerationOptions,
    best_masks,
    find_candidates,
)
from .masks_edgetam import masks_to_rle
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
                f"mask generation needs EdgeTamModel or EdgeTamVideoModel, got {type(self.model).__name__}; "
                "EdgeTamModel.from_pretrained also loads the checkpoint of a video model"
            )
        if self.image_processor is None:
            raise TypeError("mask generation needs an image processor: give `image_processor`")

    def _sanitize_parameters(self, **given: Any) -> tuple[dict, dict, dict]:
        # Merged here and not by the base class, so that options given in two places are checked together.
        options = self.options.updated(given)
        if options.output_rle_mask == "compressed" and coco_mask is None:
            raise ImportError("compressed run-length encodings need pycocotools: pip install pycocotools")
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

        def embeddings_of(crop: Crop) -> list[torch.Tensor]:
            return self.model.get_image_embeddings(self.pixel_values_of_crop(image, crop))

        return self.search(image.shape[:2], embeddings_of, options)

    def search(
        self, size: tuple[int, int], embeddings_of: Callable[[Crop], list[torch.Tensor]], options: MaskGenerationOptions
    ) -> dict:
        """What `postprocess` takes: the candidates of a picture (height, width).

        Args:
            size: of the picture.
            embeddings_of: image embeddings of a crop, batch size 1; asked for each of `options.crops` in turn.
            options: how the crops are searched.
        """
        num_points = options.num_points(*size)
        with logging.tqdm(total=num_points, unit="point", leave=None, disable=not options.progress) as progress:
            candidates = find_candidates(CandidateSearch(self.model, embeddings_of, size, options), progress.update)
        return {"candidates": candidates, "height": size[0], "width": size[1]}

    def postprocess(self, model_outputs: dict, options: MaskGenerationOptions) -> dict:
        """The result of one picture, from its candidates by non-maximum suppression of their boxes."""
        size = model_outputs["height"], model_outputs["width"]
        candidates, masks = best_masks(model_outputs["candidates"], size, options)
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
