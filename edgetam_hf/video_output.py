"""What tracking writes: index pictures, and the JSON files of evaluation servers and of COCO."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from . import pictures_edgetam
from .drawing import index_picture
from .run_lengths import read_counts
from .whole_files import save_whole

try:
    from pycocotools import mask as coco_mask
except ImportError:
    coco_mask = None

LARGEST_NUMBER = 65535  # of an object in a picture of 16 bits


# Index pictures, as DAVIS and YouTube-VOS have them.


def write_index_picture(
    masks: Sequence[np.ndarray | torch.Tensor], object_numbers: Sequence[int], path: str | Path
) -> None:
    """Writes a PNG whose value is an object's number in its mask and 0 elsewhere, completely or not at all.

    Numbers up to 255 make a palette picture, larger ones a grey picture of 16 bits.

    Args:
        masks: boolean arrays or tensors (H, W), one per object, at least one; later masks lie on top.
        object_numbers: one different integer in 1..65535 per mask.
        path: the file to write.
    """
    masks = [_to_mask(mask) for mask in masks]
    if not masks or len({mask.shape for mask in masks}) > 1:
        raise ValueError(f"masks must be at least one and of one size, got {[mask.shape for mask in masks]}")
    is_known = all(1 <= number <= LARGEST_NUMBER for number in object_numbers)
    if len(object_numbers) != len(masks) or len(set(object_numbers)) != len(masks) or not is_known:
        raise ValueError(
            f"{len(masks)} masks need as many different numbers in 1..{LARGEST_NUMBER}, got {list(object_numbers)}"
        )
    if max(object_numbers) <= 255:
        save_whole(index_picture(masks, object_numbers), path)
        return
    indices = np.zeros(masks[0].shape, np.uint16)
    for number, mask in zip(object_numbers, masks):
        indices[mask] = number
    save_whole(Image.fromarray(indices), path)


def read_index_picture(path: str | Path, object_numbers: Sequence[int]) -> list[np.ndarray]:
    """Boolean masks (H, W) of the numbered objects from a palette or grey picture; an absent object's is empty."""
    indices = pictures_edgetam.read_index_picture(path, str(path))
    return [indices == number for number in object_numbers]


def _to_mask(mask: np.ndarray | torch.Tensor) -> np.ndarray:
    mask = np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask)
    if mask.dtype != bool or mask.ndim != 2:
        raise TypeError(f"mask must be boolean (H, W), got {mask.dtype} {mask.shape}: compare logits with > 0")
    return mask


# Run lengths, and what is made of them.


def mask_to_rle(mask: np.ndarray | torch.Tensor) -> dict[str, Any]:
    """COCO's compressed run lengths of a boolean array or tensor (H, W): `{"size": [H, W], "counts": str}`."""
    rle = _coco_mask().encode(np.asfortranarray(_to_mask(mask), np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def _coco_mask() -> Any:
    if coco_mask is None:
        raise ImportError("run lengths of masks need pycocotools: pip install pycocotools")
    return coco_mask


@dataclass
class Track:
    """One object through a video: per frame the run lengths of its mask, or None where it is absent."""

    object_id: int
    category_id: int = 1
    score: float = 1.0
    segmentations: list[dict[str, Any] | None] = field(default_factory=list)

    def append(self, mask: np.ndarray | torch.Tensor | None = None) -> None:
        """Adds the next frame's mask, boolean (H, W); none, or an empty one, says that the object is absent."""
        is_present = mask is not None and bool(_to_mask(mask).any())
        self.segmentations.append(mask_to_rle(mask) if is_present else None)


def _check_lengths(tracks: Sequence[Track], num_frames: int) -> None:
    for track in tracks:
        if len(track.segmentations) != num_frames:
            raise ValueError(
                f"every track must have a mask or None for each of the {num_frames} frames, the track of object "
                f"{track.object_id} has {len(track.segmentations)}"
            )


def youtube_vis_tracks(video_id: int, tracks: Sequence[Track]) -> list[dict[str, Any]]:
    """List of one dictionary per `Track`, as the evaluation of YouTube-VIS takes its results."""
    _check_lengths(tracks, len(tracks[0].segmentations) if tracks else 0)
    return [
        {
            "video_id": video_id,
            "category_id": track.category_id,
            "score": float(track.score),
            "segmentations": track.segmentations,
        }
        for track in tracks
    ]


def coco_annotations(
    video_name: str,
    file_names: Sequence[str],
    size: tuple[int, int],
    tracks: Sequence[Track],
    categories: dict[int, str] | None = None,
    frame_indices: Sequence[int] | None = None,
) -> dict[str, Any]:
    """COCO dataset of one video: dictionary with `videos`, `images`, `annotations` and `categories`; ids count from 1.

    Every frame is an image with `video_id` and `frame_id` (from 0), every mask an annotation with `segmentation`,
    `bbox` [x, y, width, height] in pixels of the frame, `area` in pixels, and as `track_id` the object's id.

    Args:
        video_name: name of the video.
        file_names: name of each frame's picture.
        size: (height, width) of the frames.
        tracks: `Track` of each object, with as many segmentations as there are frames.
        categories: names by category id; `{1: "object"}` unless given.
        frame_indices: index of each frame in the video, from 0; 0, 1, … unless given.

    Raises:
        ValueError: for segmentations of another size, or of another number than there are frames.
    """
    _check_lengths(tracks, len(file_names))
    for track in tracks:
        for rle in filter(None, track.segmentations):
            read_counts(rle, size, f"a mask of object {track.object_id}")  # pycocotools does not check them
    size = {"height": int(size[0]), "width": int(size[1])}
    images = [
        {"id": idx + 1, "video_id": 1, "frame_id": frame_idx, "file_name": str(name), **size}
        for idx, (name, frame_idx) in enumerate(zip(file_names, frame_indices or range(len(file_names))))
    ]
    present = [
        (idx, track, track.segmentations[idx])
        for idx in range(len(file_names))
        for track in tracks
        if track.segmentations[idx] is not None
    ]
    annotations = [
        {
            "id": number,
            "image_id": idx + 1,
            "video_id": 1,
            "track_id": track.object_id,
            "category_id": track.category_id,
            "segmentation": rle,
            "bbox": [float(side) for side in _coco_mask().toBbox(rle)],
            "area": int(_coco_mask().area(rle)),
            "iscrowd": 0,
        }
        for number, (idx, track, rle) in enumerate(present, start=1)
    ]
    return {
        "videos": [{"id": 1, "name": str(video_name), "length": len(images), **size}],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": idx, "name": name} for idx, name in (categories or {1: "object"}).items()],
    }
