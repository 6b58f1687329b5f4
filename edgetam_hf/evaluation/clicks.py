"""Interactive segmentation of pictures: IoU after one click, two clicks, …, each where the mask is most wrong.

Masks are boolean arrays (H, W), points (x, y) in pixels of the picture.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..pictures_edgetam import PICTURE_SUFFIXES, read_picture
from ..processing_edgetam import EdgeTamProcessor
from ..prompts_edgetam import PADDING_LABEL, Prompts
from ..protocols import PictureModel
from .metrics import check_scipy, region_similarity
from .video_datasets import check_root, read_mask_files

try:
    from scipy import ndimage
except ImportError:
    ndimage = None

OBJECTS_PER_BATCH = 16


# Where a user would click.


def center_of(region: np.ndarray) -> tuple[float, float]:
    """The pixel (x, y) of a region (H, W) that is farthest from its edge."""
    check_scipy()
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return float(x), float(y)


def largest_error(mask: np.ndarray, truth: np.ndarray) -> tuple[tuple[float, float], int] | None:
    """A click, ((x, y), label), at the centre of the largest connected region in which a mask is wrong."""
    check_scipy()
    labels, count = ndimage.label(mask != truth)
    if count == 0:
        return None
    region = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    point = center_of(region)
    return point, int(truth[int(point[1]), int(point[0])])


# Pictures with masks.


@dataclass
class MaskedPicture:
    """A picture and the index picture of its objects."""

    picture: Path
    masks: Path


def read_masked_pictures(root: str | Path) -> list[MaskedPicture]:
    """List of `MaskedPicture`s, sorted by name, of the folders images/ and masks/ below a root.

    Raises:
        ValueError: where a folder is missing, and for a picture without masks or the other way round.
    """
    root = Path(root)
    check_root(root)
    found = {}
    for part in ("images", "masks"):
        if not (root / part).is_dir():
            raise ValueError(
                f"{root} must have the folders images/ with NAME.jpg, … and masks/ with NAME.png, found no {part}/"
            )
        files = (path for path in (root / part).iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
        found[part] = {path.stem: path for path in files if not path.name.startswith(".")}
    if unpaired := set(found["images"]) ^ set(found["masks"]):
        name = min(unpaired)
        lacking = "masks" if name in found["images"] else "images"
        raise ValueError(f"{root / lacking} has no picture {name}: every picture needs one with its masks")
    if not found["images"]:
        raise ValueError(f"{root / 'images'} has no pictures: expected files {', '.join(PICTURE_SUFFIXES)}")
    return [MaskedPicture(path, found["masks"][name]) for name, path in sorted(found["images"].items())]


# The protocol.


@torch.inference_mode()
def click_ious(
    model: PictureModel,
    processor: EdgeTamProcessor,
    picture: np.ndarray,
    truths: list[np.ndarray],
    num_clicks: int = 5,
) -> np.ndarray:
    """IoU of each object's mask after each number of clicks, an array (num_objects, num_clicks).

    The first click, at the centre of the object, gets the mask of the best predicted IoU of three. Every further one
    is at the centre of the largest region in which that mask is wrong, and the model sees its logits. An object whose
    mask is right gets no further click.

    Args:
        model, processor: `EdgeTamModel`, or an exported one, and its processor.
        picture: uint8 array (H, W, 3).
        truths: list of true masks (H, W), none of them empty.
        num_clicks: how many clicks each object gets.
    """
    size = picture.shape[:2]
    pixel_values = processor(images=picture, return_tensors="pt")["pixel_values"].to(model.device, model.dtype)
    image_embeddings = model.get_image_embeddings(pixel_values)
    ious = []
    for start in range(0, len(truths), OBJECTS_PER_BATCH):
        batch = truths[start : start + OBJECTS_PER_BATCH]
        clicks, logits = [[(center_of(truth), 1)] for truth in batch], None
        of_batch = []
        for _ in range(num_clicks):
            logits = _predict(model, processor, image_embeddings, size, clicks, logits)
            masks = processor.post_process_masks([logits[:, None].float().cpu()], [size])[0][:, 0].numpy()
            of_batch.append([region_similarity(mask, truth) for mask, truth in zip(masks, batch)])
            for given, mask, truth in zip(clicks, masks, batch):
                given.append(largest_error(mask, truth) or ((PADDING_LABEL, PADDING_LABEL), PADDING_LABEL))
        ious += np.transpose(of_batch).tolist()
    return np.array(ious)


def _predict(
    model: PictureModel,
    processor: EdgeTamProcessor,
    image_embeddings: list[torch.Tensor],
    size: tuple[int, int],
    clicks: list[list[tuple[tuple[float, float], int]]],
    previous: torch.Tensor | None,
) -> torch.Tensor:
    """Mask logits (O, h, w) of objects, from their clicks and the logits (O, h, w) of their last masks, if any."""
    inputs = processor(
        input_points=[[[point for point, _ in given] for given in clicks]],
        input_labels=[[[label for _, label in given] for given in clicks]],
        original_sizes=[size],
        return_tensors="pt",
    ).to(model.device)
    if previous is not None:
        inputs["input_masks"] = Prompts().with_previous_masks(previous[None]).masks
    outputs = model(image_embeddings=image_embeddings, multimask_output=previous is None, **inputs)
    best = outputs.iou_scores[0].argmax(-1)
    return outputs.pred_masks[0, torch.arange(len(best), device=best.device), best]


def evaluate_clicks(
    model: PictureModel, processor: EdgeTamProcessor, pictures: Iterable[MaskedPicture], num_clicks: int = 5
) -> Iterator[tuple[str, list[int], np.ndarray]]:
    """Yields (name, object ids, IoUs (num_objects, num_clicks)) of each of the `MaskedPicture`s; see `click_ious`."""
    for masked in pictures:
        picture = read_picture(masked.picture)
        truths = read_mask_files({None: masked.masks}, picture.shape[:2])
        if not truths:
            raise ValueError(f"{masked.masks} has no object: leave the picture out")
        ious = click_ious(model, processor, picture, list(truths.values()), num_clicks)
        yield masked.picture.stem, list(truths), ious
