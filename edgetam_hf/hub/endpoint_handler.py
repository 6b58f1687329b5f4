"""Handler of an inference endpoint on the Hub: a picture in, masks as COCO run lengths out.

A request is JSON, {"inputs": PICTURE, "parameters": {…}}, or the bytes of a picture with their content type. PICTURE is
the file as base64 text or a data: URI; addresses are not fetched. Parameters are one of

* `input_boxes` [picture][object][x_min, y_min, x_max, y_max], `input_points` [picture][object][point][x, y] and
  `input_labels` [picture][object][point] (1 on the object, 0 beside it), in pixels of the one picture;
* options of mask generation, such as `points_per_crop` and `pred_iou_thresh`, for everything in the picture.

The answer is {"size": [height, width], "objects": [{"segmentation", "bbox", "area", "score"}]}, in COCO's formats. What
cannot be answered raises a ValueError or a TypeError, which endpoints tell with status 400.
"""

import base64
import io
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask
from transformers import AutoProcessor, pipeline

PROMPTS = ("input_points", "input_labels", "input_boxes")
SEARCH = (
    *("points_per_crop", "points_per_batch", "crops_n_layers", "crop_overlap_ratio", "crop_n_points_downscale_factor"),
    *("pred_iou_thresh", "stability_score_thresh", "stability_score_offset", "mask_threshold", "crops_nms_thresh"),
    *("max_hole_area", "max_sprinkle_area", "min_mask_region_area"),
)
# these hold all of a picture themselves, and no program is started to read them
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MOST_PIXELS = 100_000_000
PADDING = -10  # coordinates of no point or box


class EndpointHandler:
    """What an endpoint makes once, and calls for each request.

    path: folder of the repository, whose code is run.
    """

    def __init__(self, path: str = ""):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.processor = AutoProcessor.from_pretrained(path, trust_remote_code=True)
        self.generator = pipeline("mask-generation", model=path, trust_remote_code=True, device=device)
        self.model = self.generator.model

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request; see above for both.

        Raises:
            ValueError, TypeError: for a request that cannot be answered.
        """
        if not isinstance(data, dict) or "inputs" not in data:
            raise ValueError('a request must be {"inputs": PICTURE, "parameters": {…}}')
        parameters = data.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise TypeError(f"parameters must be an object {{…}} of JSON, got {type(parameters).__name__}")
        prompts = {name: value for name, value in parameters.items() if name in PROMPTS and value is not None}
        options = {name: value for name, value in parameters.items() if name not in PROMPTS}
        if unknown := sorted(set(options) - set(SEARCH)):
            raise TypeError(
                f"there is no parameter {', '.join(unknown)}: give some of {', '.join((*PROMPTS, *SEARCH))}"
            )
        if prompts and options:
            raise TypeError(
                f"{', '.join(options)} is for everything in a picture: leave it out, or {', '.join(prompts)}"
            )
        pixels = self._read(data["inputs"])
        objects = self._prompted(pixels, prompts) if prompts else self._everything(pixels, options)
        return {"size": [pixels.shape[0], pixels.shape[1]], "objects": objects}

    def _read(self, picture: Any) -> np.ndarray:
        """uint8 array (H, W, 3) of a picture, upright."""
        if isinstance(picture, Image.Image):  # what an endpoint makes of a request that is no JSON
            check_size(picture)
            return self.generator.preprocess(ImageOps.exif_transpose(picture))["picture"]
        content = decode(picture)
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                check_size(image)
        except (OSError, Image.DecompressionBombError) as error:
            raise ValueError(
                f"inputs must be a picture of at most {MOST_PIXELS} pixels in {', '.join(FORMATS)}"
            ) from error
        return self.generator.preprocess(content)["picture"]

    def _prompted(self, pixels: np.ndarray, prompts: dict[str, Any]) -> list[dict[str, Any]]:
        """An object for each prompt; where all have a single point, the best of three masks."""
        size = pixels.shape[:2]
        inputs = self.processor(images=pixels, **prompts, return_tensors="pt").to(self.model.device)
        check_inside(prompts, size)
        is_ambiguous = "input_boxes" not in prompts and inputs["input_points"].shape[2] == 1
        inputs.pop("original_sizes")
        with torch.no_grad():
            outputs = self.model(**inputs.to(self.model.dtype), multimask_output=is_ambiguous)
        objects = []
        for scores, logits in zip(outputs.iou_scores[0].float().cpu(), outputs.pred_masks[0].cpu()):
            best = int(scores.argmax())  # one by one, for masks of a large picture would fill the memory
            mask = self.processor.post_process_masks([logits[None, best : best + 1]], [size])[0][0, 0]
            objects.append(describe(mask, float(scores[best])))
        return objects

    def _everything(self, pixels: np.ndarray, options: dict[str, Any]) -> list[dict[str, Any]]:
        """All objects of a picture, best first."""
        found = self.generator(pixels, masks_on_demand=True, **options)
        return [describe(mask, score) for mask, score in zip(found["masks"], found["scores"].tolist())]


def decode(picture: Any) -> bytes:
    """The file of a picture that is bytes, base64 text or a data: URI."""
    if isinstance(picture, (bytes, bytearray)):
        return bytes(picture)
    if not isinstance(picture, str):
        raise TypeError(f"inputs must be a picture as base64 text or a data: URI, got {type(picture).__name__}")
    if picture.startswith(("http://", "https://")):
        raise ValueError("inputs must be the picture itself, as base64 text: an endpoint fetches no addresses")
    header, comma, text = picture.partition(",") if picture.startswith("data:") else ("", "", picture)
    if header and not (comma and header.endswith(";base64")):
        raise ValueError("inputs is a data: URI that is not in base64: expected data:image/png;base64,…")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise ValueError(f"inputs must be a picture as base64 text or a data: URI, got {picture[:40]!r}…") from error


def check_size(image: Image.Image) -> None:
    """Raises a ValueError for a picture that is too large, before it is decoded."""
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(
            f"the picture has {image.width}x{image.height} pixels, more than {MOST_PIXELS}: make it smaller"
        )


def check_inside(prompts: dict[str, Any], size: tuple[int, ...]) -> None:
    """Raises a ValueError for points and boxes outside of a picture (height, width); they are nested as they should."""
    height, width = size
    for points in (prompts.get("input_points") or [[]])[0]:
        for x, y in points:
            if not (0 <= x <= width and 0 <= y <= height) and [x, y] != [PADDING] * 2:
                raise ValueError(f"point {[x, y]} lies outside of the picture, which is {width} wide and {height} high")
    for x_min, y_min, x_max, y_max in (prompts.get("input_boxes") or [[]])[0]:
        box = [x_min, y_min, x_max, y_max]
        if (x_max <= 0 or y_max <= 0 or x_min >= width or y_min >= height) and box != [PADDING] * 4:
            raise ValueError(f"box {box} lies outside of the picture, which is {width} wide and {height} high")


def describe(mask: torch.Tensor, score: float) -> dict[str, Any]:
    """An object as COCO has it, from its mask (H, W): bbox is [x, y, width, height] in pixels."""
    encoded = coco_mask.encode(np.asfortranarray(mask.numpy(), np.uint8))
    return {
        "segmentation": {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")},
        "bbox": coco_mask.toBbox(encoded).tolist(),
        "area": int(coco_mask.area(encoded)),
        "score": score,
    }
