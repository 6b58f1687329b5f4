"""`edgetam evaluate`: J&F of a video model, or of finished pictures, and IoU after clicks on pictures.

A folder is filled: `run.json` (what was asked), `masks/` with a folder for each finished sequence (where a simulated
user clicks, `objects/` with a file for each finished object), `scores.json`, `plot.png`, `worst/`. Started again, it
goes on with what is missing. `torchrun` shares it out.
"""

import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import numpy as np
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers.utils import logging

from .. import EdgeTamModel, EdgeTamProcessor
from ..evaluation.clicks import evaluate_clicks, read_masked_pictures
from ..evaluation.inference import share_of, write_sequence, write_submission
from ..evaluation.promptable import MODES, NUM_FRAMES, Round, annotate_object, object_videos, report_rounds
from ..evaluation.report import (
    ANCHORS,
    as_round_table,
    as_score_table,
    write_clicks,
    write_plot,
    write_round_plot,
    write_worst,
)
from ..evaluation.scoring import report_categories, report_scores, score_results
from ..evaluation.video_datasets import LAYOUTS, read_categories, read_dataset
from ..whole_files import write_json_whole
from .support import as_columns, checkpoint_of, device_of, load_quietly
from .track import load_video_model

LONGEST_WAIT = timedelta(days=7)  # of a process that is done for the others
FIRST_MASK = "first-mask"  # the protocol of semi-supervised video object segmentation
FIRST_BOX = "first-box"  # the same, from the box round the first mask
PROTOCOLS = (FIRST_MASK, FIRST_BOX, *MODES)
NUM_CLICKS = 5
CLICK_ANCHORS = {"SA-23, 1 click": 55.5, "SA-23, 5 clicks": 81.7}
SUBMISSION_FOLDERS = {"mose": "", "youtube-vos": "Annotations"}


def run(options):
    """Tracks what is missing, scores it, and returns the report; None in all processes but the first."""
    check_options(options)
    options.device = device_of(options.device)
    state = PartialState(cpu=options.device == "cpu", timeout=LONGEST_WAIT)
    if options.dataset == "clicks":
        return run_clicks(options, state)
    sequences = read_dataset(options.dataset, options.root, options.sequences)
    if options.protocol in MODES:
        return run_promptable(options, sequences, state)
    seen = read_categories(options.train_meta) if options.train_meta else None
    folder = options.output or Path(f"{(options.results or options.root).resolve().name}_{options.dataset}")
    is_quiet = options.json or not state.is_main_process
    masks = options.results
    if masks is None:
        masks = folder / "masks"
        track_missing(options, sequences, folder, state, is_quiet)
    elif not masks.is_dir():
        raise ValueError(f"--results must be a folder with a folder of pictures for each sequence, got {masks}")
    state.wait_for_everyone()
    return report(options, sequences, masks, folder, seen) if state.is_main_process else None


def check_options(options):
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
    if options.train_meta and (is_clicked or options.dataset != "youtube-vos"):
        raise ValueError(f"--train-meta is for youtube-vos with --protocol {FIRST_MASK}, nothing else has a G")


def track_missing(options, sequences, folder, state, is_quiet):
    """Writes the results of this process's share of the sequences that have none."""
    settings = begin(options, folder, "masks", state, protocol=options.protocol)
    missing = [sequence for sequence in sequences if not (folder / "masks" / sequence.name).exists()]
    state.wait_for_everyone()  # all share out the same
    mine = share_of(missing, state.process_index, state.num_processes)
    if mine:
        model, processor = load_tracker(settings, options, state)
        is_per_object, has_boxes = LAYOUTS[options.dataset].is_per_object, options.protocol == FIRST_BOX
        for sequence in logging.tqdm(mine, desc="track", disable=is_quiet):
            write_sequence(model, processor, sequence, folder / "masks", is_per_object, has_boxes)


def begin(options, folder, part, state, **more):
    """The settings of a run, with some more, once its folder has them and the folder of a part of it."""
    settings = {
        "dataset": options.dataset,
        "root": str(options.root.resolve()),
        "model": str(Path(options.model).resolve()) if Path(options.model).is_dir() else options.model,
        "preprocessing": options.preprocessing,
        "image_size": options.image_size,
        **more,
    }
    check_settings(settings, folder)
    state.wait_for_everyone()  # until all have checked, before anything is written
    if state.is_main_process:
        (folder / part).mkdir(parents=True, exist_ok=True)
        write_json_whole(settings, folder / "run.json")
    state.wait_for_everyone()
    return settings


def load_tracker(settings, options, state):
    """The video model of a run and its processor."""
    is_release = options.preprocessing == "release"
    return load_video_model(settings, process_device(options, state), resize_with_pil=is_release)


def process_device(options, state):
    """The device of this process: of several GPUs each process has its own."""
    return state.device if options.device == "cuda" else options.device


def check_settings(settings, folder):
    """Raises a ValueError if the folder has results of other settings, or anything but results."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: --output must be a folder")
    if not folder.exists() or not any(folder.iterdir()):
        return
    try:
        known = dict(json.loads((folder / "run.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"folder {folder} has files of something else: choose another --output") from error
    names = [name for name in {**settings, **known} if known.get(name) != settings.get(name)]
    if other := [name.replace("_", " ") for name in names]:
        raise ValueError(f"{folder} has results of another {', '.join(other)}: choose another --output")


def report(options, sequences, masks, folder, seen):
    """Scores the results and writes the files; without ground truth only the submission."""
    files = {"masks": str(masks)}
    folder.mkdir(parents=True, exist_ok=True)
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


def run_promptable(options, sequences, state):
    """Annotates and tracks this process's share of the objects that are missing, and returns the report of all."""
    videos, num_frames = object_videos(sequences), options.frames or NUM_FRAMES
    folder = options.output or Path(f"{options.root.resolve().name}_{options.dataset}_{options.protocol}")
    settings = begin(options, folder, "objects", state, protocol=options.protocol, frames=num_frames)
    paths = {video.name: folder / "objects" / f"{video.name}.json" for video in videos}
    missing = [video for video in videos if not paths[video.name].exists()]
    state.wait_for_everyone()  # all share out the same
    mine = share_of(missing, state.process_index, state.num_processes)
    if mine:
        model, processor = load_tracker(settings, options, state)
        for video in logging.tqdm(mine, desc="annotate", disable=options.json or not state.is_main_process):
            rounds = annotate_object(model, processor, video, options.protocol, num_frames)
            write_json_whole([asdict(one) for one in rounds], paths[video.name])
    state.wait_for_everyone()
    if not state.is_main_process:
        return None
    results = [(video, read_rounds(paths[video.name])) for video in videos]
    found = {"protocol": options.protocol, **report_rounds(results, num_frames)}
    write_json_whole(found, folder / "scores.json")
    files = {"scores": str(folder / "scores.json")}
    if write_round_plot(results, num_frames, folder / "plot.png"):
        files["plot"] = str(folder / "plot.png")
    write_clicks(results, folder / "clicks")
    return {**found, **files, "clicks": str(folder / "clicks")}


def read_rounds(path):
    """List of `Round`s of a finished object."""
    return [Round(**of_frame) for of_frame in json.loads(path.read_text(encoding="utf-8"))]


# Clicks on pictures.


def run_clicks(options, state):
    """Clicks on all objects of a folder of pictures, and returns the report; None in all processes but the first."""
    mine = read_masked_pictures(options.root)[state.process_index :: state.num_processes]
    checkpoint = checkpoint_of(options.model)
    model = load_quietly(EdgeTamModel, checkpoint, device_map=process_device(options, state))
    processor = EdgeTamProcessor.from_pretrained(checkpoint)
    objects = []
    bar = logging.tqdm(mine, desc="click", disable=options.json or not state.is_main_process)
    for name, object_ids, ious in evaluate_clicks(model, processor, bar, NUM_CLICKS):
        objects += [
            {"picture": name, "object": number, "IoU": of_object.tolist()}
            for number, of_object in zip(object_ids, ious)
        ]
    objects = sorted(gather_object(objects), key=lambda row: (row["picture"], row["object"]))
    if not state.is_main_process:
        return None
    mean = np.mean([row["IoU"] for row in objects], axis=0).tolist()
    found = {"mIoU": mean, "objects": objects, "anchors": CLICK_ANCHORS}
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        write_json_whole(found, options.output / "clicks.json")
    return found


def as_click_table(report):
    """The report as text: mean IoU by number of clicks."""
    rows = [{"clicks": count, "mIoU": f"{100 * mean:.1f}"} for count, mean in enumerate(report["mIoU"], start=1)]
    anchors = ", ".join(f"{name} {value}" for name, value in report["anchors"].items())
    return "\n".join([*as_columns(rows), "", f"{len(report['objects'])} objects; in the paper (EdgeTAM): {anchors}"])


def as_text(report):
    """The report as text."""
    if "mIoU" in report:
        return as_click_table(report)
    if "protocol" in report:
        return as_round_table(report)
    if "objects" not in report:
        return f"{report['num_sequences']} sequences in {report['submission']}"
    return as_score_table(report)
