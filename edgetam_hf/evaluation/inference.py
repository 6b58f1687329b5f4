"""Results of a model on video object segmentation: each object is given where it first appears and tracked to the end.

As in `vos_inference` of the original release: masks are logits above 0, holes are not filled, and in index pictures no
two objects overlap. An object that appears later begins there and is absent before.
"""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..files.names import inside
from ..files.writing import whole_file, whole_folder
from ..formats.index_pictures import write_index_picture
from ..found_objects import CutMask
from ..processing_edgetam_video import EdgeTamVideoProcessor
from ..protocols import VideoModel
from .video_datasets import VideoSequence


def track_sequence(
    model: VideoModel,
    processor: EdgeTamVideoProcessor,
    sequence: VideoSequence,
    non_overlapping: bool = True,
    has_boxes: bool = False,
    memory: str = "recent",
) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
    """Yields (frame index, boolean masks (H, W) by object id) for every frame of a `VideoSequence`.

    Args:
        model, processor: `EdgeTamVideoModel`, or an exported one, and its processor.
        sequence: what to track.
        non_overlapping: whether to give each pixel to the object with the highest logit only.
        has_boxes: whether objects are given by the boxes round their first masks, in place of these.
        memory: what is remembered, "recent" or "confident"; see `MemorySelection`.
    """
    session = processor.init_video_session(
        sequence.frames,
        inference_device=model.device,
        dtype=model.dtype,
        max_memory_frames=1,
        memory_selection=memory,
    )
    for frame_idx in range(len(sequence.frames)):
        if masks := sequence.first_masks(frame_idx):
            processor.add_inputs_to_inference_session(
                session,
                frame_idx,
                list(masks),
                input_boxes=[[CutMask.of(mask).box for mask in masks.values()]] if has_boxes else None,
                input_masks=None if has_boxes else list(masks.values()),
            )
            model(session, frame_idx=frame_idx, return_dict=True)  # answers them; the call below tracks the others
        if not session.obj_ids:
            yield frame_idx, {}
            continue
        output = model(session, frame_idx=frame_idx, return_dict=True)
        masks = processor.post_process_masks(
            [output.pred_masks], [sequence.size], apply_non_overlapping_constraints=non_overlapping
        )
        yield frame_idx, dict(zip(output.object_ids, masks[0][:, 0].cpu().numpy()))


@torch.inference_mode()
def write_sequence(
    model: VideoModel,
    processor: EdgeTamVideoProcessor,
    sequence: VideoSequence,
    folder: str | Path,
    is_per_object: bool = False,
    **given: Any,
) -> None:
    """Tracks a sequence and writes folder/SEQUENCE, completely or not at all; nothing if it is there already.

    Args:
        model, processor: `EdgeTamVideoModel`, or an exported one, and its processor.
        sequence: `VideoSequence`.
        folder: of all results.
        is_per_object: write OBJECT/FRAME.png for each object, which may overlap, in place of index pictures FRAME.png,
            in which the lowest id wins.
        **given: how objects are given and remembered, has_boxes and memory: see `track_sequence`.
    """
    target = inside(folder, sequence.name, is_written=True)
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(target) as unfinished:
        names, size = sequence.frame_names, sequence.size
        for frame_idx, masks in track_sequence(model, processor, sequence, not is_per_object, **given):
            # all objects on all frames, from the highest id so that the lowest lies on top
            masks = {number: masks.get(number, np.zeros(size, bool)) for number in reversed(sequence.object_ids)}
            if not is_per_object:
                write_index_picture(masks.values(), list(masks), unfinished / f"{names[frame_idx]}.png")
                continue
            for number, mask in masks.items():
                (unfinished / f"{number:03d}").mkdir(exist_ok=True)
                write_index_picture([mask], [1], unfinished / f"{number:03d}" / f"{names[frame_idx]}.png")


def share_of(sequences: Sequence[Any], process_idx: int, num_processes: int) -> list[Any]:
    """The sequences that one process of many tracks: each falls to one process, long ones to different ones.

    What else has a name and frames can be shared out, too.
    """
    by_length = sorted(sequences, key=lambda sequence: (-len(sequence.frames), sequence.name))
    return by_length[process_idx::num_processes]


def write_submission(
    folder: str | Path, sequences: Sequence[VideoSequence], path: str | Path, prefix: str = ""
) -> None:
    """Writes the ZIP file that a benchmark's server takes, of index pictures prefix/SEQUENCE/FRAME.png.

    Args:
        folder: of finished results.
        sequences: those to send in; each must be there.
        path: the file to write, completely or not at all.
        prefix: folder in the ZIP file: "Annotations" for YouTube-VOS, none for MOSE.
    """
    files = []
    for sequence in sequences:
        for name in sequence.frame_names:
            picture = inside(folder, sequence.name) / f"{name}.png"
            if not picture.exists():
                raise ValueError(f"{picture} is missing: finish the results before they are sent in")
            files.append((picture, Path(prefix, sequence.name, picture.name).as_posix()))
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for picture, name in files:
            archive.write(picture, name)
