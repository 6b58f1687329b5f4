"""`edgetam evaluate`: J&F of a video model, or of finished pictures, and IoU after clicks on pictures.

A folder is filled: `run.json` (what was asked), `masks/` with a folder for each finished sequence (where a simulated
user clicks, `objects/` with a file for each finished object), `scores.json`, `plot.png`, `worst/`. Started again, it
goes on with what is missing. `torchrun` divides the work among processes.
"""

import argparse
import sys
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers.utils import logging

from edgetam_cli.arguments import RECENT
from edgetam_runtime import is_exported

from .. import EdgeTamModel, EdgeTamProcessor, EdgeTamVideoProcessor
from ..evaluation.clicks import evaluate_clicks, read_masked_pictures
from ..evaluation.inference import share_of, write_sequence, write_submission
from ..evaluation.metrics import check_scipy
from ..evaluation.promptable import MODES, NUM_FRAMES, ObjectVideo, Round, annotate_object, object_videos, report_rounds
from ..evaluation.report import (
    ANCHORS,
    CLICK_ANCHORS,
    as_click_table,
    as_round_table,
    as_score_table,
    matplotlib,
    write_clicks,
    write_plot,
    write_round_plot,
    write_worst,
)
from ..evaluation.scoring import report_categories, report_scores, score_results
from ..evaluation.video_datasets import LAYOUTS, VideoSequence, read_categories, read_dataset
from ..files.names import inside
from ..files.reading import read_json
from ..files.writing import locked, write_json_whole
from ..loading import ModelChoice, load_video_model, load_with_processor
from ..protocols import VideoModel
from .support import model_choice

LONGEST_WAIT = timedelta(days=7)  # of a process for the others, when it is done
FIRST_MASK = "first-mask"  # the protocol of semi-supervised video object segmentation
FIRST_BOX = "first-box"  # the same, from the box round the first mask
PROTOCOLS = (FIRST_MASK, FIRST_BOX, *MODES)
NUM_CLICKS = 5
T = TypeVar("T")
SUBMISSION_FOLDERS = {"mose": "", "youtube-vos": "Annotations"}


def run(options: argparse.Namespace) -> dict[str, Any] | None:
    """Tracks what is missing, scores it, and returns the report; None in all processes but the first."""
    check_options(options)
    check_scipy()
    options.device = model_choice(options).device
    state = PartialState(cpu=options.device == "cpu" or is_exported(options.model), timeout=LONGEST_WAIT)
    is_quiet = options.json or not state.is_main_process
    if matplotlib is None and not is_quiet:
        print("there will be no plot.png: it needs matplotlib (pip install matplotlib)", file=sys.stderr)
    if options.dataset == "clicks":
        return run_clicks(options, state)
    sequences = read_dataset(options.dataset, options.root, options.sequences)
    if options.protocol in MODES:
        return run_promptable(options, sequences, state)
    if options.results and not options.results.is_dir():
        raise ValueError(
            f"--results must be a folder with a folder of pictures for each sequence, got {options.results}"
        )
    seen = read_categories(options.train_meta) if options.train_meta else None
    folder = options.output or Path(f"{(options.results or options.root).resolve().name}_{options.dataset}")
    with locked(folder, state.is_main_process):
        if not options.results:
            track_missing(options, sequences, folder, state, is_quiet)
        state.wait_for_everyone()
        if not state.is_main_process:
            return None
        return report(options, sequences, options.results or folder / "masks", folder, seen)


def check_options(options: argparse.Namespace) -> None:
    """Raises a ValueError for options that do not go together."""
    is_clicked = options.protocol in MODES
    if options.dataset == "clicks" and options.protocol != FIRST_MASK:
        raise ValueError(f"--protocol {options.protocol} is for videos, whose layout is given in place of clicks")
    if (options.dataset == "clicks" or is_clicked) and (options.results or options.submission):
        raise ValueError("clicks are given to a model: leave --results and --submission out")
    if options.submission and options.dataset not in SUBMISSION_FOLDERS:
        raise ValueError(f"--submission is for {' and '.join(SUBMISSION_FOLDERS)}, {options.dataset} is scored here")
    if options.frames and not is_clicked:
        raise ValueError(f"--frames is for --protocol {' and '.join(MODES)}: each object has one first mask")
    if options.memory != RECENT and (options.dataset == "clicks" or options.results):
        raise ValueError("--memory is for videos that are tracked: leave it out with clicks and --results")
    if options.train_meta and (is_clicked or options.dataset != "youtube-vos"):
        raise ValueError(f"--train-meta is for youtube-vos with --protocol {FIRST_MASK}, nothing else has a G")


def track_missing(
    options: argparse.Namespace, sequences: list[VideoSequence], folder: Path, state: PartialState, is_quiet: bool
) -> None:
    """Writes the results of this process's share of the sequences that have none."""
    settings = checked_settings(options, folder, protocol=options.protocol)
    missing = [sequence for sequence in sequences if not inside(folder / "masks", sequence.name).exists()]
    tasks = begin(options, settings, folder / "masks", missing, state)
    is_per_object, has_boxes = LAYOUTS[options.dataset].is_per_object, options.protocol == FIRST_BOX
    for sequence, model, processor in logging.tqdm(tasks, desc="track", disable=is_quiet or not tasks):
        write_sequence(
            model, processor, sequence, folder / "masks", is_per_object, has_boxes=has_boxes, memory=options.memory
        )


def begin(
    options: argparse.Namespace, settings: dict[str, Any], results: Path, missing: list[T], state: PartialState
) -> list[tuple[T, VideoModel, EdgeTamVideoProcessor]]:
    """This process's share of what is missing, each with the model and processor, when all processes have theirs.

    Then the folder of the run has its settings and a folder for the results.
    """
    state.wait_for_everyone()  # all see the same results before they divide what is missing
    tasks = []
    if mine := share_of(missing, state.process_index, state.num_processes):
        is_release, choice = options.preprocessing == "release", process_choice(options, state)
        model, processor = load_video_model(choice, resize_with_pil=is_release)
        tasks = [(one, model, processor) for one in mine]
    state.wait_for_everyone()  # a model that cannot be loaded leaves nothing behind
    if state.is_main_process:
        write_json_whole(settings, results.parent / "run.json")  # first: without it the folder is taken for another's
        results.mkdir(exist_ok=True)
    state.wait_for_everyone()
    return tasks


def process_choice(options: argparse.Namespace, state: PartialState) -> ModelChoice:
    """The model of this process: of several GPUs each process has its own."""
    choice = model_choice(options)
    return replace(choice, device=f"cuda:{state.local_process_index}") if choice.device == "cuda" else choice


def checked_settings(options: argparse.Namespace, folder: Path, **more: Any) -> dict[str, Any]:
    """The settings of a run, with some more, for a folder that has no results of others.

    Raises:
        ValueError: if the folder has results of other settings, or anything but results.
    """
    settings = {
        "dataset": options.dataset,
        "root": str(options.root.resolve()),
        "model": str(Path(options.model).resolve()) if Path(options.model).is_dir() else options.model,
        "preprocessing": options.preprocessing,
        "image_size": options.image_size,
        "dtype": options.dtype,
        "runtime": options.runtime,
        "memory": options.memory,
        **more,
    }
    if not visible(folder):
        return settings
    try:
        known = {"memory": RECENT, **read_json(folder / "run.json")}  # of older versions, which had no other
        if "dataset" not in known:
            raise ValueError(f"{folder / 'run.json'} is not of an evaluation")
    except ValueError as error:
        raise ValueError(f"folder {folder} has files of something else, choose another --output: {error}") from error
    names = [name for name in {**settings, **known} if known.get(name) != settings.get(name)]
    has_results = any(visible(folder / part) for part in ("masks", "objects"))
    if names and has_results:  # else they are of a run that was stopped before its first result
        other = ", ".join(name.replace("_", " ") for name in names)
        raise ValueError(f"{folder} has results of another {other}: choose another --output")
    return settings


def visible(folder: Path) -> list[Path]:
    """Paths in a folder that are not hidden; none where it is not there."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []


def report(
    options: argparse.Namespace, sequences: list[VideoSequence], masks: Path, folder: Path, seen: set[str] | None
) -> dict[str, Any]:
    """Scores the results and writes the files; without ground truth only the submission."""
    files = {"masks": str(masks)}
    if options.submission:
        write_submission(masks, sequences, options.submission, SUBMISSION_FOLDERS[options.dataset])
        return {"submission": str(options.submission), "num_sequences": len(sequences), **files}
    is_per_object = LAYOUTS[options.dataset].is_per_object
    scores = score_results(sequences, masks, is_per_object, options.json)
    found = {**report_scores(scores), "anchors": ANCHORS[options.dataset]}
    if options.dataset == "youtube-vos":
        found["categories"] = report_categories(scores, sequences, seen)
    write_json_whole(found, folder / "scores.json")
    files["scores"] = str(folder / "scores.json")
    if write_plot(scores, folder / "plot.png"):
        files["plot"] = str(folder / "plot.png")
    write_worst(scores, sequences, masks, folder / "worst", is_per_object)
    return {**found, **files, "worst": str(folder / "worst")}


# A simulated user.


def run_promptable(
    options: argparse.Namespace, sequences: list[VideoSequence], state: PartialState
) -> dict[str, Any] | None:
    """Annotates and tracks this process's share of the objects that are missing, and returns the report of all."""
    videos, num_frames = object_videos(sequences), options.frames or NUM_FRAMES
    folder = options.output or Path(f"{options.root.resolve().name}_{options.dataset}_{options.protocol}")
    with locked(folder, state.is_main_process):
        settings = checked_settings(options, folder, protocol=options.protocol, frames=num_frames)
        paths = {video.name: inside(folder / "objects", f"{video.name}.json", is_written=True) for video in videos}
        missing = [video for video in videos if not paths[video.name].exists()]
        tasks = begin(options, settings, folder / "objects", missing, state)
        is_quiet = options.json or not state.is_main_process or not tasks
        for video, model, processor in logging.tqdm(tasks, desc="annotate", disable=is_quiet):
            rounds = annotate_object(model, processor, video, options.protocol, num_frames, options.memory)
            write_json_whole([asdict(one) for one in rounds], paths[video.name])
        state.wait_for_everyone()
        if not state.is_main_process:
            return None
        results = [(video, read_rounds(paths[video.name])) for video in videos]
        return report_promptable(options, results, num_frames, folder)


def report_promptable(
    options: argparse.Namespace, results: list[tuple[ObjectVideo, list[Round]]], num_frames: int, folder: Path
) -> dict[str, Any]:
    """Writes the files about the rounds of all objects, and returns the report."""
    found = {"protocol": options.protocol, **report_rounds(results, num_frames)}
    write_json_whole(found, folder / "scores.json")
    files = {"scores": str(folder / "scores.json")}
    if write_round_plot(results, num_frames, folder / "plot.png"):
        files["plot"] = str(folder / "plot.png")
    write_clicks(results, folder / "clicks")
    return {**found, **files, "clicks": str(folder / "clicks")}


def read_rounds(path: Path) -> list[Round]:
    """List of `Round`s of a finished object."""
    try:
        return [Round(**of_frame) for of_frame in read_json(path, list)]
    except TypeError as error:
        raise ValueError(f"{path} is damaged: remove it, and its object is annotated again") from error


# Clicks on pictures.


def run_clicks(options: argparse.Namespace, state: PartialState) -> dict[str, Any] | None:
    """Clicks on all objects of a folder of pictures, and returns the report; None in all processes but the first."""
    pictures = read_masked_pictures(options.root)
    with locked(options.output, state.is_main_process) if options.output else nullcontext():
        model, processor = load_with_processor(EdgeTamModel, EdgeTamProcessor, process_choice(options, state))
        mine = pictures[state.process_index :: state.num_processes]
        bar = logging.tqdm(mine, desc="click", disable=options.json or not state.is_main_process)
        objects = [
            {"picture": name, "object": number, "IoU": of_object.tolist()}
            for name, object_ids, ious in evaluate_clicks(model, processor, bar, NUM_CLICKS)
            for number, of_object in zip(object_ids, ious)
        ]
        objects = sorted(gather_object(objects), key=lambda row: (row["picture"], row["object"]))
        if not state.is_main_process:
            return None
        mean = np.mean([row["IoU"] for row in objects], axis=0).tolist()
        found = {"mIoU": mean, "objects": objects, "anchors": CLICK_ANCHORS}
        if options.output:
            write_json_whole(found, options.output / "clicks.json")
        return found


def as_text(report: dict[str, Any]) -> str:
    """The report as text."""
    if "mIoU" in report:
        return as_click_table(report)
    if "protocol" in report:
        return as_round_table(report)
    if "objects" not in report:
        return f"{report['num_sequences']} sequences in {report['submission']}"
    return as_score_table(report)
