"""Clips as a dataset in DAVIS 2017's layout, and the results on it of a tracker that repeats the first masks."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from edgetam_hf.evaluation.video_datasets import LAYOUTS, VideoSequence
from edgetam_hf.files.writing import whole_folder
from edgetam_hf.formats.index_pictures import write_index_picture
from edgetam_hf.training.clips import Clip

JPEG_QUALITY = 95


def write_clips(clips: Iterable[Clip], root: Path) -> None:
    """Writes clips as sequences 0000, 0001, … that `read_dataset("davis", root)` reads, all of them or none.

    Object ids count from 1, in the order of the clip's masks.

    Raises:
        ValueError: if `root` is there and no empty folder.
    """
    layout = LAYOUTS["davis"]
    root.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(root) as unfinished:
        names = []
        for number, clip in enumerate(clips):
            names.append(f"{number:04d}")
            frames, annotations = (unfinished / part / names[-1] for part in (layout.frames, layout.annotations))
            frames.mkdir(parents=True)
            annotations.mkdir(parents=True)
            for frame_idx, (frame, masks) in enumerate(zip(clip.frames, clip.masks, strict=True)):
                Image.fromarray(frame).save(frames / f"{frame_idx:05d}.jpg", quality=JPEG_QUALITY)
                write_index_picture(masks, range(1, len(masks) + 1), annotations / f"{frame_idx:05d}.png")
        assert layout.listing is not None
        (unfinished / layout.listing).parent.mkdir(parents=True)
        (unfinished / layout.listing).write_text("\n".join(names) + "\n", encoding="utf-8")


def repeat_first_masks(sequences: Iterable[VideoSequence], folder: Path) -> None:
    """Writes results that `score_results` scores, all or none: each object keeps its first mask, absent before it.

    Raises:
        ValueError: if `folder` is there and no empty folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(folder) as unfinished:
        for sequence in sequences:
            (unfinished / sequence.name).mkdir()
            masks = {number: np.zeros(sequence.size, bool) for number in sequence.object_ids}
            for frame_idx, name in enumerate(sequence.frame_names):
                masks.update(sequence.first_masks(frame_idx))
                write_index_picture(masks.values(), list(masks), unfinished / sequence.name / f"{name}.png")
