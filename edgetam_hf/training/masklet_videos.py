"""The training videos of SA-V: MP4 files, each with JSON of the masks of its objects through time, its masklets."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..files.reading import read_json
from ..video_frames_edgetam import VideoFile
from .coco_masks import check_pycocotools, decode_segmentation
from .sources import register_source
from .videos import VideoClips

ANNOTATED_EVERY = 4  # frames: SA-V has 24 a second, with masks for 6 of them
MASKLETS = ("manual", "auto")


@register_source("sa-v-train")
def open_masklet_clips(
    root: str, masklets: str = "manual", max_stride: int = 3, reverse_probability: float = 0.5
) -> VideoClips:
    """`VideoClips` of all NAME.mp4 with NAME_manual.json, or NAME_auto.json, in a folder and those below it.

    Args:
        root: the folder.
        masklets: "manual", those that people drew or corrected, or "auto", those that a model found by itself.
        max_stride, reverse_probability: see `VideoClips`; annotated frames count.

    Raises:
        ImportError: without pycocotools; without PyAV as soon as a clip is drawn.
        ValueError: for other masklets, a folder without such files, and JSON without its video.
    """
    check_pycocotools()
    if masklets not in MASKLETS:
        raise ValueError(f"masklets must be one of {', '.join(MASKLETS)}, got {masklets!r}")
    suffix = f"_{masklets}.json"
    files = sorted(path for path in Path(root).rglob(f"*{suffix}") if not path.name.startswith("."))
    if not files:
        raise ValueError(f"{root} has not the layout of SA-V's training videos: looked for *{suffix}, found none")
    videos = [MaskletVideo(path, path.with_name(path.name.removesuffix(suffix) + ".mp4")) for path in files]
    if missing := [video.file for video in videos if not video.file.is_file()]:
        raise ValueError(f"masklets without their video: looked for {missing[0]}")
    return VideoClips(MaskletVideos(videos), max_stride, reverse_probability)


@dataclass
class MaskletVideos:
    """Videos that are read anew whenever one is asked for: what SA-V says of its masks fills no memory."""

    videos: list["MaskletVideo"]

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> "MaskletVideo":
        return MaskletVideo(self.videos[index].json, self.videos[index].file)


@dataclass
class MaskletVideo:
    """One video, as `VideoSequence` has it, of JSON and a video file, which are read when they are needed."""

    json: Path
    file: Path

    @property
    def name(self) -> str:
        return self.file.stem

    @cached_property
    def frames(self) -> VideoFile:
        return VideoFile(self.file)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames."""
        return self.frames.height, self.frames.width

    @cached_property
    def masklets(self) -> list[list[dict]]:
        """For each annotated frame the run lengths of all objects."""
        masklets = read_json(self.json).get("masklet")
        if not isinstance(masklets, list) or not all(isinstance(of_frame, list) for of_frame in masklets):
            raise ValueError(f'{self.json} must have "masklet", a list of lists of run lengths, as SA-V has')
        return masklets

    @property
    def annotations(self) -> range:
        """Indices of the annotated frames."""
        annotated = range(0, ANNOTATED_EVERY * len(self.masklets), ANNOTATED_EVERY)
        if len(annotated) and annotated[-1] >= len(self.frames):
            raise ValueError(
                f"{self.json} has masks for frame {annotated[-1]}, but {self.file} has only {len(self.frames)} frames"
            )
        return annotated

    def read_masks(self, frame_idx: int) -> dict[int, np.ndarray]:
        """True masks (H, W) by number of the object, of the objects in a frame."""
        masks = {}
        for number, segmentation in enumerate(self.masklets[frame_idx // ANNOTATED_EVERY]):
            name = f"{self.json}: object {number} on frame {frame_idx}"
            mask = decode_segmentation(segmentation, self.size, name)
            masks.update({number: mask} if mask.any() else {})
        return masks
