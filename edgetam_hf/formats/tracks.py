"""Tracks of objects through a video, as the JSON files of evaluation servers and of COCO."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from ..found_objects import CutMask
from .index_pictures import as_mask
from .run_lengths import compress, pycocotools, read_counts


@dataclass
class Track:
    """One object through a video: per frame the run lengths of its mask, or None where it is absent."""

    object_id: int
    category_id: int = 1
    score: float = 1.0
    segmentations: list[dict | None] = field(default_factory=list)

    def append(self, mask: np.ndarray | torch.Tensor | None = None) -> None:
        """Adds the next frame's mask, boolean (H, W); none, or an empty one, says that the object is absent."""
        cut = None if mask is None else CutMask.of(as_mask(mask))
        self.segmentations.append(compress(cut) if cut is not None and cut.area else None)


def _check_lengths(tracks: Sequence[Track], num_frames: int) -> None:
    for track in tracks:
        if len(track.segmentations) != num_frames:
            raise ValueError(
                f"every track must have a mask or None for each of the {num_frames} frames, the track of object "
                f"{track.object_id} has {len(track.segmentations)}"
            )


def youtube_vis_tracks(video_id: int, tracks: Sequence[Track]) -> list[dict]:
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
    size: Sequence[int],
    tracks: Sequence[Track],
    categories: dict[int, str] | None = None,
    frame_indices: Sequence[int] | None = None,
) -> dict:
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
    sides = {"height": int(size[0]), "width": int(size[1])}
    images = [
        {"id": idx + 1, "video_id": 1, "frame_id": frame_idx, "file_name": str(name), **sides}
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
            "bbox": [float(side) for side in pycocotools().toBbox(rle)],
            "area": int(pycocotools().area(rle)),
            "iscrowd": 0,
        }
        for number, (idx, track, rle) in enumerate(present, start=1)
    ]
    return {
        "videos": [{"id": 1, "name": str(video_name), "length": len(images), **sides}],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": idx, "name": name} for idx, name in (categories or {1: "object"}).items()],
    }
