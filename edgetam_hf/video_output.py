"""What tracking writes: videos for people, index pictures, and the JSON files of evaluation servers and of COCO."""

import json
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from .drawing import index_picture, save_whole, whole_file
from .pictures_edgetam import open_picture

try:
    import av
except ImportError:
    av = None
try:
    from pycocotools import mask as coco_mask
except ImportError:
    coco_mask = None


class OverlayVideo:
    """Writer of an H.264 MP4 that can be watched while it grows, and after the process that writes it was killed.

    A killed process loses at most the last second. Odd sides get one more row or column, since H.264 halves the
    colours: those of the border are repeated.

    Args:
        path: the file to write; its folder exists.
        height, width: size of the pictures.
        frame_rate: pictures per second.

    Raises:
        ImportError: without PyAV.
        ValueError: for a size or a frame rate that is not positive.
    """

    def __init__(self, path, height, width, frame_rate):
        if av is None:
            raise ImportError("writing a video file needs PyAV: pip install av")
        if min(height, width) < 1 or not 0 < frame_rate < float("inf"):
            raise ValueError(f"height, width and frame_rate must be positive, got {height}, {width} and {frame_rate:g}")
        self.shape = (height, width, 3)
        self.padding = ((0, height % 2), (0, width % 2), (0, 0))
        self.num_written = 0
        # Fragments are readable without the index that MP4 otherwise gets when the file is closed
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
        self.container = av.open(str(path), "w", format="mp4", options=options)
        # 1001 is the denominator of the rates of television, such as 30000/1001
        self.rate = Fraction(frame_rate).limit_denominator(1001)
        self.stream = self.container.add_stream("libx264", rate=self.rate)
        self.stream.height, self.stream.width = height + height % 2, width + width % 2
        self.stream.pix_fmt = "yuv420p"
        self.stream.codec_context.gop_size = max(1, round(frame_rate))
        # Tuned to hold no pictures back, which would be lost too
        self.stream.codec_context.options = {"preset": "veryfast", "crf": "20", "tune": "zerolatency"}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def write(self, picture):
        """Appends a picture, a uint8 array (H, W, 3)."""
        if self.container is None:
            raise ValueError("the video is closed: write to it inside its `with` block")
        picture = np.asarray(picture)
        if picture.dtype != np.uint8 or picture.shape != self.shape:
            raise ValueError(
                f"picture must be a uint8 array {self.shape}, got {picture.dtype} {picture.shape}: all pictures of a "
                "video have the size it was opened with"
            )
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.pad(picture, self.padding, "edge")), "rgb24")
        frame.pts, frame.time_base = self.num_written, 1 / self.rate
        self.container.mux(self.stream.encode(frame))
        self.num_written += 1

    def close(self):
        """Writes what the encoder holds and closes the file; nothing if it is closed."""
        if self.container is not None:
            container, self.container = self.container, None
            with container:
                container.mux(self.stream.encode(None))


# Index pictures, as DAVIS and YouTube-VOS have them.


def write_index_picture(masks, object_numbers, path):
    """Writes a palette PNG whose value is an object's number in its mask and 0 elsewhere, completely or not at all.

    Args:
        masks: boolean arrays or tensors (H, W), one per object, at least one; later masks lie on top.
        object_numbers: one different integer in 1..255 per mask.
        path: the file to write.
    """
    masks = [_to_mask(mask) for mask in masks]
    if not masks or len({mask.shape for mask in masks}) > 1:
        raise ValueError(f"masks must be at least one and of one size, got {[mask.shape for mask in masks]}")
    save_whole(index_picture(masks, object_numbers), path)


def read_index_picture(path, object_numbers):
    """Boolean masks (H, W) of the numbered objects from a palette or grey picture; an absent object's is empty."""
    image = open_picture(path, str(path))
    if image.mode not in ("P", "L"):
        raise ValueError(f"{path} must be a palette or grey picture of 8 bits, got mode {image.mode}")
    indices = np.array(image)
    return [indices == number for number in object_numbers]


def _to_mask(mask) -> np.ndarray:
    mask = np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask)
    if mask.dtype != bool or mask.ndim != 2:
        raise TypeError(f"mask must be boolean (H, W), got {mask.dtype} {mask.shape}: compare logits with > 0")
    return mask


# Run lengths, and what is made of them.


def mask_to_rle(mask):
    """COCO's compressed run lengths of a boolean array or tensor (H, W): `{"size": [H, W], "counts": str}`."""
    rle = _coco_mask().encode(np.asfortranarray(_to_mask(mask), np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def _coco_mask():
    if coco_mask is None:
        raise ImportError("run lengths of masks need pycocotools: pip install pycocotools")
    return coco_mask


@dataclass
class Track:
    """One object through a video: per frame the run lengths of its mask, or None where it is absent."""

    object_id: int
    category_id: int = 1
    score: float = 1.0
    segmentations: list = field(default_factory=list)

    def append(self, mask=None):
        """Adds the next frame's mask, boolean (H, W); none, or an empty one, says that the object is absent."""
        is_present = mask is not None and bool(_to_mask(mask).any())
        self.segmentations.append(mask_to_rle(mask) if is_present else None)


def _check_lengths(tracks, num_frames):
    for track in tracks:
        if len(track.segmentations) != num_frames:
            raise ValueError(
                f"every track must have a mask or None for each of the {num_frames} frames, the track of object "
                f"{track.object_id} has {len(track.segmentations)}"
            )


def youtube_vis_tracks(video_id, tracks):
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


def coco_annotations(video_name, file_names, size, tracks, categories=None):
    """COCO dataset of one video: dictionary with `videos`, `images`, `annotations` and `categories`; ids count from 1.

    Every frame is an image with `video_id` and `frame_id` (from 0), every mask an annotation with `segmentation`,
    `bbox` [x, y, width, height] in pixels of the frame, `area` in pixels, and as `track_id` the object's id.

    Args:
        video_name: name of the video.
        file_names: name of each frame's picture.
        size: (height, width) of the frames.
        tracks: `Track` of each object, with as many segmentations as there are frames.
        categories: names by category id; `{1: "object"}` unless given.
    """
    _check_lengths(tracks, len(file_names))
    size = {"height": int(size[0]), "width": int(size[1])}
    images = [
        {"id": idx + 1, "video_id": 1, "frame_id": idx, "file_name": str(name), **size}
        for idx, name in enumerate(file_names)
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


def write_json_whole(data, path):
    """Writes data as JSON to a path, completely or not at all."""
    with whole_file(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(data, file, allow_nan=False)
