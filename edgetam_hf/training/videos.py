"""Annotated videos as a source of clips, and the datasets of them that are kinds of training data."""

from collections.abc import Collection
from functools import partial
from typing import Protocol

import numpy as np
import torch

from ..evaluation.video_datasets import LAYOUTS, read_sequences
from .clips import Clip
from .sources import register_source


class Frames(Protocol):
    """Pictures by their index."""

    def __getitem__(self, frame_idx: int) -> torch.Tensor:
        """uint8 (3, H, W), RGB."""


class AnnotatedVideo(Protocol):
    """Frames, of some of which the masks are known, as a `VideoSequence` has them."""

    @property
    def frames(self) -> Frames:
        """The pictures."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames."""

    @property
    def annotations(self) -> Collection[int]:
        """Indices of the frames with masks, ascending."""

    def read_masks(self, frame_idx: int) -> dict[int, np.ndarray]:
        """True masks (H, W) by number of the object, of the objects in a frame."""


class AnnotatedVideos(Protocol):
    """Videos by their index."""

    def __len__(self) -> int:
        """Number of videos."""

    def __getitem__(self, index: int) -> AnnotatedVideo:
        """One of them."""


class VideoClips:
    """Source of clips of annotated videos.

    A clip's frames are annotated ones, equally far from each other among those: every one, or every second, …; or
    the same backwards. Its objects are those that can be seen on its first frame.

    Args:
        sequences: those that `read_sequences` and `read_dataset` give, or other `AnnotatedVideos`.
        max_stride: the largest distance of two frames of a clip, counted in annotated frames.
        reverse_probability: of time running backwards; 0.5 in SAM 2 (arXiv 2408.00714).

    Raises:
        ValueError: without sequences, and for settings out of range.
    """

    has_videos = True

    def __init__(self, sequences: AnnotatedVideos, max_stride: int = 3, reverse_probability: float = 0.5) -> None:
        self.sequences = sequences
        if not len(sequences):
            raise ValueError("sequences must be one VideoSequence at least, got none")
        if max_stride < 1 or not 0 <= reverse_probability <= 1:
            raise ValueError(
                f"max_stride must be at least 1 and reverse_probability in 0..1, got {max_stride} and "
                f"{reverse_probability}"
            )
        self.max_stride, self.reverse_probability = max_stride, reverse_probability

    def __len__(self) -> int:
        return len(self.sequences)

    def draw(self, index: int, num_frames: int, max_objects: int, rng: np.random.Generator) -> Clip:
        """A `Clip` of one sequence; without objects where its first frame has none.

        Args:
            index: of the sequence; where that has too few annotated frames, the next one that has enough is taken.
            num_frames: how many frames it has.
            max_objects: the most objects it has; which ones is drawn.
            rng: of all randomness.

        Raises:
            ValueError: where no sequence has enough annotated frames, and for frames and masks that cannot be read or
                have different sizes.
        """
        sequence = self._find(index, num_frames)
        frames = self._draw_frames(list(sequence.annotations), num_frames, rng)
        pixels = {frame_idx: sequence.frames[frame_idx] for frame_idx in sorted(frames)}  # as a file has them
        objects_by_frame = [sequence.read_masks(frame_idx) for frame_idx in frames]
        visible = sorted(objects_by_frame[0])
        chosen = [visible[i] for i in sorted(rng.permutation(len(visible))[:max_objects])]
        masks = np.zeros((num_frames, len(chosen), *sequence.size), bool)
        for of_frame, found in zip(masks, objects_by_frame):
            for mask, number in zip(of_frame, chosen):
                mask |= found.get(number, False)
        return Clip([pixels[frame_idx].permute(1, 2, 0).numpy() for frame_idx in frames], masks)

    def _find(self, index: int, num_frames: int) -> AnnotatedVideo:
        for offset in range(len(self)):
            sequence = self.sequences[(index + offset) % len(self)]
            if len(sequence.annotations) >= num_frames:
                return sequence
        raise ValueError(
            f"a clip of {num_frames} frames needs as many annotated ones, which none of {len(self)} sequences has: "
            "take fewer frames"
        )

    def _draw_frames(self, annotated: list[int], num_frames: int, rng: np.random.Generator) -> list[int]:
        """Indices of a clip's frames, in its order, drawn from the ascending indices of annotated frames."""
        longest_stride = (len(annotated) - 1) // max(1, num_frames - 1)
        stride = int(rng.integers(1, min(self.max_stride, max(1, longest_stride)) + 1))
        start = int(rng.integers(len(annotated) - stride * (num_frames - 1)))
        frames = annotated[start : start + stride * (num_frames - 1) + 1 : stride]
        return frames[::-1] if rng.random() < self.reverse_probability else frames


def open_videos(
    layout: str, root: str, listing: str | None = None, max_stride: int = 3, reverse_probability: float = 0.5
) -> VideoClips:
    """Videos in a layout that `edgetam evaluate` knows, too; see `VideoClips`. `listing` is a file of their names."""
    return VideoClips(read_sequences(layout, root, listing=listing), max_stride, reverse_probability)


for layout in LAYOUTS:
    register_source(layout)(partial(open_videos, layout))
