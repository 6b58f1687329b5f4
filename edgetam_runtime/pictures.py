"""Masks of prompted objects in pictures, from pixels to pixels.

Shapes: O objects, (H, W) the picture. Points are (x, y) and boxes (x_min, y_min, x_max, y_max), in pixels of the
picture. Masks are boolean arrays (O, H, W).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from .stages import Prompts, Stages

Picture: TypeAlias = str | Path | Image.Image | np.ndarray
Point: TypeAlias = Sequence[float]  # (x, y)
Box: TypeAlias = Sequence[float]  # (x_min, y_min, x_max, y_max)

ON_OBJECT_LABEL, BOX_CORNER_LABELS, PADDING = 1, (2, 3), -10
MASK_LOGIT = 10.0  # of a mask prompt, inside; outside its negative


class FoundMasks(NamedTuple):
    """What is found of objects: masks bool (O, H, W), scores (O,) in [0, 1], is_present bool (O,)."""

    masks: np.ndarray
    scores: np.ndarray
    is_present: np.ndarray


class PictureSegmenter:
    """Finds prompted objects in pictures.

        picture = segmenter.encode("dog.jpg")
        found = picture.segment(points=[[(320, 200)]])

    Args:
        stages: of an exported model.
    """

    def __init__(self, stages: Stages):
        self.stages = stages
        settings = stages.folder.read_json("preprocessor_config.json")
        try:
            self.scale = np.float32(settings["rescale_factor"])
            self.mean, self.std = (
                np.array(settings[name], np.float32)[:, None, None] for name in ("image_mean", "image_std")
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{stages.folder.path / 'preprocessor_config.json'} lacks {error}") from error

    def pixel_values(self, picture: Picture) -> np.ndarray:
        """The model input, float32 (1, 3, height, width), of a picture; see `encode`."""
        height, width = self.stages.folder.image_size
        resized = read_picture(picture).resize((width, height), Image.Resampling.BILINEAR)
        values = np.asarray(resized, np.float32).transpose(2, 0, 1) * self.scale
        return ((values - self.mean) / self.std)[None]

    def encode(self, picture: Picture) -> "EncodedPicture":
        """A picture whose objects can be asked for, any number of times.

        Args:
            picture: path of a file, which is turned upright as its EXIF data say, PIL picture, or array uint8 (H, W, 3)
                or (H, W).
        """
        picture = read_picture(picture)
        embeddings = self.stages.encode(self.pixel_values(picture))
        return EncodedPicture(self.stages, embeddings, (picture.height, picture.width))


class EncodedPicture:
    """A picture of a size (H, W) and its image embeddings."""

    def __init__(self, stages: Stages, image_embeddings: list[np.ndarray], size: tuple[int, int]):
        self.stages, self.image_embeddings, self.size = stages, image_embeddings, size

    def segment(
        self,
        points: Sequence[Sequence[Point]] | None = None,
        labels: Sequence[Sequence[int]] | None = None,
        boxes: Sequence[Box | None] | None = None,
        masks: Sequence[np.ndarray] | None = None,
        multimask: bool = False,
    ) -> FoundMasks:
        """Masks of O prompted objects.

        Args:
            points: of each object a list of points, which may be empty.
            labels: of each point: 1 on the object (the default), 0 off it.
            boxes: of each object a box or None.
            masks: of each object a rough mask, bool (H, W), to be refined within its box.
            multimask: whether to choose the best of three masks of each object, for a prompt that is ambiguous.

        Raises:
            ValueError: for prompts that do not fit each other or the picture, or for none at all.
        """
        given = {"points": points, "labels": labels, "boxes": boxes, "masks": masks}
        counts = {name: len(prompts) for name, prompts in given.items() if prompts is not None}
        if not counts.keys() - {"labels"} or len(set(counts.values())) != 1 or 0 in counts.values():
            raise ValueError(
                f"give points, boxes or masks, in each of them something for each object, got numbers {counts}"
            )
        (num_objects,) = set(counts.values())
        rough = None if masks is None else [self._check_mask(mask) for mask in masks]
        corners = list(boxes) if boxes is not None else [None] * num_objects
        clicks = points if points is not None else [[]] * num_objects
        if rough is not None:  # a mask is no prompt of its own to the model: it refines a box
            pairs = zip(rough, corners, clicks)
            corners = [box_of(mask) if box is None and not len(of) else box for mask, box, of in pairs]
        all_points, all_labels = self._points(clicks, labels, corners)
        low_res = None if rough is None else np.stack([self._low_res(mask) for mask in rough])
        if multimask and low_res is None:
            no_boxes = np.zeros((1, 0, 4), np.float32)
            found = self.stages.decode_prompts(self.image_embeddings, all_points[None], all_labels[None], no_boxes)
            logits, scores, presence = found.masks[0], found.iou_scores[0], found.object_score_logits[0, :, 0]
        else:
            prompts = Prompts(all_points, all_labels, low_res)
            logits, scores, presence = self.stages.decode_candidates(self.image_embeddings, prompts, multimask)
        best = scores.argmax(axis=1)
        rows = np.arange(num_objects)
        return FoundMasks(upsampled_masks(logits[rows, best], self.size), scores[rows, best], presence > 0)

    def _points(
        self,
        clicks: Sequence[Sequence[Point]],
        labels: Sequence[Sequence[int]] | None,
        boxes: Sequence[Box | None],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points (O, N, 2) of the model input and labels (O, N): corners of boxes, then clicks, then padding."""
        found: list[list[tuple[float, float, int]]] = []
        for number, (of_object, box) in enumerate(zip(clicks, boxes)):
            kinds = [ON_OBJECT_LABEL] * len(of_object) if labels is None else labels[number]
            if len(kinds) != len(of_object):
                raise ValueError(f"object {number} has {len(of_object)} points, but {len(kinds)} labels")
            corners = []
            if box is not None:
                x_min, y_min, x_max, y_max = map(float, box)
                corners = [(x_min, y_min, BOX_CORNER_LABELS[0]), (x_max, y_max, BOX_CORNER_LABELS[1])]
            found.append(corners + [(float(x), float(y), int(kind)) for (x, y), kind in zip(of_object, kinds)])
        most = max(map(len, found))
        if most == 0 or not all(found):
            raise ValueError("each object needs a point, a box or a mask that is not empty")
        (height, width), (input_height, input_width) = self.size, self.stages.folder.image_size
        rows = [of_object + [(PADDING, PADDING, PADDING)] * (most - len(of_object)) for of_object in found]
        array = np.array(rows, np.float32)
        all_labels = array[:, :, 2].astype(np.int64)
        scaled = array[:, :, :2] * np.array([input_width / width, input_height / height], np.float32)
        return np.where((all_labels == PADDING)[..., None], np.float32(PADDING), scaled), all_labels

    def _check_mask(self, mask: Any) -> np.ndarray:
        mask = np.asarray(mask)
        if mask.shape != self.size:
            raise ValueError(f"masks must have the size of the picture, {self.size}, got {mask.shape}")
        return mask > 0

    def _low_res(self, mask: np.ndarray) -> np.ndarray:
        """Logits (4h, 4w) of a mask bool (H, W)."""
        height, width = self.stages.folder.mask_size
        logits = Image.fromarray(np.where(mask, np.float32(MASK_LOGIT), np.float32(-MASK_LOGIT)))
        return np.asarray(logits.resize((width, height), Image.Resampling.BILINEAR))


def read_picture(picture: Picture) -> Image.Image:
    """A picture of three colours; see `PictureSegmenter.encode`."""
    if isinstance(picture, (str, Path)):
        with Image.open(picture) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
            raise ValueError(
                f"an array must be uint8 (H, W, 3) or (H, W), got {picture.dtype} of shape {picture.shape}"
            )
        picture = Image.fromarray(picture)
    return picture.convert("RGB")


def box_of(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Box of a mask bool (H, W), right and bottom included; None of an empty one."""
    columns, rows = (np.flatnonzero(mask.any(axis=axis)) for axis in (0, 1))
    if len(rows) == 0:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def upsampled_masks(logits: np.ndarray, size: tuple[int, int], threshold: float = 0.0) -> np.ndarray:
    """Boolean masks (O, H, W): where logits (O, h, w), interpolated bilinearly to a size, exceed a threshold.

    Along each axis interpolation is a product with a matrix of weights.
    """
    rows, columns = (interpolation_weights(*sizes) for sizes in zip(logits.shape[1:], size))
    masks = np.empty((len(logits), *size), bool)
    for mask, of_object in zip(masks, logits):  # one by one, for logits of all would be large
        np.greater(rows @ (of_object @ columns.T), threshold, out=mask)
    return masks


def interpolation_weights(size: int, new_size: int) -> np.ndarray:
    """Matrix (new_size, size) that interpolates a line of pixels linearly, whose outermost ones go on to the edge.

    As `F.interpolate` with `align_corners=False` and without antialiasing.
    """
    places = np.clip((np.arange(new_size) + 0.5) * size / new_size - 0.5, 0, size - 1)
    left = np.floor(places).astype(int)
    right, share = np.minimum(left + 1, size - 1), (places - left).astype(np.float32)
    weights, idx = np.zeros((new_size, size), np.float32), np.arange(new_size)
    weights[idx, left] = 1 - share
    weights[idx, right] += share
    return weights
