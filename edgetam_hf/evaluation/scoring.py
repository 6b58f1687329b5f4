"""Scores of finished result pictures, over several processes."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging

from ..files.names import inside
from .metrics import boundary_measure, region_similarity, statistics, total
from .video_datasets import VideoSequence, read_mask_files


@dataclass
class ObjectScores:
    """J and F of one object, one value per scored frame."""

    sequence: str
    object_id: int
    frames: list[int]
    j: list[float]
    f: list[float]


def result_files(folder: Path, sequence: VideoSequence, frame_idx: int, is_per_object: bool) -> dict[int | None, Path]:
    """Files for `read_mask_files` of the results on a frame: SEQUENCE/FRAME.png or SEQUENCE/OBJECT/FRAME.png."""
    folder, name = inside(folder, sequence.name), f"{sequence.frame_names[frame_idx]}.png"
    if not is_per_object:
        return {None: folder / name}
    return {number: folder / f"{number:03d}" / name for number in sequence.annotations[frame_idx]}


def score_sequence(sequence: VideoSequence, folder: Path, is_per_object: bool = False) -> list[ObjectScores]:
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
    empty = np.zeros(sequence.size, bool)
    for frame_idx in sorted({t for of_object in scores for t in of_object.frames}):
        files = result_files(folder, sequence, frame_idx, is_per_object)
        truth, found = sequence.read_masks(frame_idx), read_mask_files(files, sequence.size)
        if unknown := set(found) - set(frames):
            raise ValueError(f"{next(iter(files.values()))} has object {min(unknown)}, the sequence has {list(frames)}")
        for of_object in scores:
            if frame_idx in of_object.frames:
                masks = found.get(of_object.object_id, empty), truth.get(of_object.object_id, empty)
                of_object.j.append(region_similarity(*masks))
                of_object.f.append(boundary_measure(*masks))
    return scores


def score_results(
    sequences: Sequence[VideoSequence], folder: Path, is_per_object: bool = False, is_quiet: bool = True
) -> list[ObjectScores]:
    """List of the `ObjectScores` of all sequences, in order, scored on all cores; see `score_sequence`.

    Raises:
        ValueError: also where no sequence has ground truth to score.
    """
    score = partial(score_sequence, folder=folder, is_per_object=is_per_object)
    # threads suffice: NumPy, SciPy and Pillow release the interpreter's lock during most of the work
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bar = logging.tqdm(pool.map(score, sequences), total=len(sequences), desc="score", disable=is_quiet)
        scores = [of_object for of_sequence in bar for of_object in of_sequence]
    if not scores:
        raise ValueError(
            "no object has ground truth to score: between its first and the last annotated frame there is none; "
            "results of such a set are scored by the server of the benchmark, see --submission"
        )
    return scores


def report_scores(scores: list[ObjectScores]) -> dict[str, Any]:
    """Dictionary of `total`, and of `objects`: for each its sequence, id, J&F, and J and F over its frames."""
    per_object = [(statistics(of_object.j), statistics(of_object.f)) for of_object in scores]
    objects = []
    for of_object, (j, f) in zip(scores, per_object):
        head = {"sequence": of_object.sequence, "object": of_object.object_id, "J&F": (j.mean + f.mean) / 2}
        objects.append({**head, "J": asdict(j), "F": asdict(f), "frames": of_object.frames})
        objects[-1].update(frame_J=of_object.j, frame_F=of_object.f)
    return {"total": total(per_object), "objects": objects}


def report_categories(
    scores: list[ObjectScores], sequences: Sequence[VideoSequence], seen: set[str] | None
) -> dict[str, Any]:
    """G of YouTube-VOS and the four means that it averages: J and F of objects of seen and of unseen categories.

    Of each object J and F are means over its frames; those are averaged over the objects of a group. As youtube-vos.org
    defines it; frames on which an absent object is found to be absent count as right, as they do in `score_sequence`.

    Args:
        scores: list of `ObjectScores`, at least one.
        sequences: the `VideoSequence`s they are of.
        seen: categories of the training split, or None.

    Returns:
        Dictionary of G, J_seen, F_seen, J_unseen, F_unseen, num_seen and num_unseen; or of `missing`, which says in one
        line what it takes.
    """
    if seen is None:
        return {"missing": "it needs the categories seen in training: give meta.json of that split with --train-meta"}
    categories = {sequence.name: sequence.categories or {} for sequence in sequences}
    groups: dict[str, list[tuple[float, float]]] = {"seen": [], "unseen": []}
    for of_object in scores:
        number, name = of_object.object_id, of_object.sequence
        if number not in categories[name]:
            return {"missing": f"meta.json of the dataset has no category of object {number} of sequence {name}"}
        group = groups["seen" if categories[name][number] in seen else "unseen"]
        group.append((float(np.mean(of_object.j)), float(np.mean(of_object.f))))
    found = {}
    for name, group in groups.items():
        if not group:
            return {"missing": f"there is no object of {name} categories, and it needs both kinds"}
        found[f"J_{name}"], found[f"F_{name}"] = np.mean(group, axis=0).tolist()
    return {"G": float(np.mean(list(found.values()))), **found, **{f"num_{name}": len(groups[name]) for name in groups}}
