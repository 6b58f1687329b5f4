"""Scores of finished result pictures, over several processes."""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from transformers.utils import logging

from .metrics import boundary_measure, region_similarity, statistics, total
from .video_datasets import read_mask_files


@dataclass
class ObjectScores:
    """J and F of one object, one value per scored frame."""

    sequence: str
    object_id: int
    frames: list[int]
    j: list[float]
    f: list[float]


def result_files(folder, sequence, frame_idx, is_per_object):
    """Files for `read_mask_files` of the results on a frame: SEQUENCE/FRAME.png or SEQUENCE/OBJECT/FRAME.png."""
    folder, name = Path(folder) / sequence.name, f"{sequence.frame_names[frame_idx]}.png"
    if not is_per_object:
        return {None: folder / name}
    return {number: folder / f"{number:03d}" / name for number in sequence.annotated_objects(frame_idx)}


def score_sequence(sequence, folder, is_per_object=False):
    """List of the `ObjectScores` of a sequence; empty where too few frames are annotated to score any.

    Args:
        sequence: `VideoSequence`.
        folder: folder of results, with a folder for each sequence.
        is_per_object: whether there is one picture per object.

    Raises:
        ValueError: for results that are missing or of another size, or have objects that the sequence lacks.
    """
    frames = {number: sequence.scored_frames(number) for number in sequence.object_ids}
    scores = [ObjectScores(sequence.name, number, frames[number], [], []) for number in frames if frames[number]]
    for frame_idx in sorted({t for of_object in scores for t in of_object.frames}):
        files = result_files(folder, sequence, frame_idx, is_per_object)
        truth, found = sequence.read_masks(frame_idx), read_mask_files(files, sequence.size)
        if unknown := set(found) - set(sequence.object_ids):
            raise ValueError(
                f"{next(iter(files.values()))} has object {min(unknown)}, the sequence has {sequence.object_ids}"
            )
        for of_object in scores:
            if frame_idx in of_object.frames:
                add_frame(of_object, found.get(of_object.object_id), truth.get(of_object.object_id))
    return scores


def add_frame(scores, mask, truth):
    """Appends J and F of a frame; a mask that is None is empty."""
    if mask is None or truth is None:
        # with one mask alone both measures are those of an empty one
        mask, truth = _pair(mask, truth)
    scores.j.append(region_similarity(mask, truth))
    scores.f.append(boundary_measure(mask, truth))
