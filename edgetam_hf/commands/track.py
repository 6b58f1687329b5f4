"""`edgetam track`: objects, prompted or everything, followed through a video; what is found is written by frame.

A folder is filled: `run.json` (what was asked), `masks/` (index pictures), `frames.jsonl` (a line per frame), the
overlay, `session.pt` (from which `--resume` goes on) and in the end `tracks.json` and `annotations.json`.
"""

import json
import sys
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers.utils import logging

from edgetam_cli.arguments import MEMORIES, RECENT, VIDEO_CHECKPOINT

from .. import EdgeTamVideoProcessor
from ..drawing.overlays import overlay, write_numbers
from ..files.writing import locked
from ..formats import overlay_video, run_lengths
from ..formats.index_pictures import LARGEST_NUMBER, read_numbered_masks
from ..formats.run_lengths import read_counts
from ..formats.tables import as_columns
from ..found_objects import CutMask
from ..loading import load_video_model
from ..protocols import VideoModel
from ..tracking_edgetam import EdgeTamVideoSegmentationOutput
from . import track_everything
from .pictures import MAX_ROWS, NOTHING_FOUND
from .prompts import ObjectPrompt, check_inside, read_prompts
from .support import model_choice
from .track_folder import START_AGAIN, TrackFolder, mean_score
from .track_sources import LiveVideo, RecordedVideo, find_source, fingerprint
from .track_steps import LiveTracking, RecordedTracking, Step, check_frames

FRAMES_PER_CHECKPOINT = 10
OBJECTS_AT_ONCE = 16  # masks that are brought to the size of the video together
# What decides the results, so that a resumed run must have it as it was; by option
SETTINGS: dict[str, Any] = {
    "model": VIDEO_CHECKPOINT,
    "prompts": [],
    "start": None,
    "max_frames": None,
    "stride": 1,
    "reverse": False,
    "non_overlapping": False,
    "image_size": None,
    "dtype": None,
    "runtime": None,
    "frame_rate": None,
    **track_everything.SETTINGS,
    "memory": RECENT,
}


def run(options: Namespace) -> dict[str, Any]:
    """Tracks objects, writes what is found, and returns the report."""
    source = find_source(options)
    track_everything.check_options(options, source)
    if source.is_live and (options.resume or options.reverse or options.start is not None):
        raise ValueError(f"{source.name} is live, its frames come once: leave out --resume, --reverse and --start")
    folder = TrackFolder(options.output or source.default_output)
    with locked(folder.path):
        settings = read_settings(options, folder)
        prompts = read_prompts(settings["prompts"]) if settings["prompts"] or not settings["everything"] else []
        with source.opened():
            return track(options, source, prompts, settings, folder)


def track(
    options: Namespace,
    source: RecordedVideo | LiveVideo,
    prompts: list[ObjectPrompt],
    settings: dict[str, Any],
    folder: TrackFolder,
) -> dict[str, Any]:
    """The report of a run, once its source is open and its folder is locked."""
    check_frames(source, [prompt.frame_idx for prompt in prompts], "--frame")
    check_object_numbers(prompt.object_id for prompt in prompts)
    for prompt in prompts:
        check_inside(prompt, (source.height, source.width))
    video = {"num_frames": source.num_frames, "height": source.height, "width": source.width}
    if options.resume and folder.started_with()[1] != video:
        raise ValueError(f"the run in {folder.path} was started with another video: {folder.started_with()[1]}")
    if not source.is_live:
        tell_missing_packages()
    model, processor = load_video_model(model_choice(options, settings))
    tracking: LiveTracking | RecordedTracking
    if source.is_live:
        tracking = LiveTracking(model, processor, source, prompts, settings)
    else:
        tracking = RecordedTracking(model, processor, source, prompts, settings)
    if settings["everything"]:
        track_everything.check_search(settings, tracking.session)
    run = TrackRun(model, processor, source, tracking, prompts, settings, folder)
    if options.resume:
        run.go_on()
    if run.num_done == 0:  # later the checkpoint has the answers to them
        tracking.add_prompts(prompts)
    if not options.resume:
        folder.start(settings, video)
    error = run.track(is_quiet=options.json)
    files = {"masks": str(folder.masks), "overlay": str(run.overlay_path), "frames": str(folder.frames)}
    rows = folder.rows()
    objects = track_everything.report_objects(rows) if settings["everything"] else report_objects(prompts, rows)
    files.update(folder.write_tracks(source, [of_object["object"] for of_object in objects]))
    if error is not None:
        raise ValueError(f"{error}; the {run.num_done} frames before it are in {folder.path}") from error
    head = {"video": source.name if source.is_live else options.video, **video, "model": settings["model"]}
    return {**head, "num_tracked": run.num_done, "output": str(folder.path), "objects": objects, **files}


def read_settings(options: Namespace, folder: TrackFolder) -> dict[str, Any]:
    """`SETTINGS` with what the options say, or those of the run that they resume."""
    given = {name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None}
    if options.model and Path(options.model).is_dir():
        given["model"] = str(Path(given["model"]).resolve())
    given = json.loads(json.dumps(given))
    if not options.resume:
        folder.check_empty()
        return {**SETTINGS, **given}
    settings = {**SETTINGS, **folder.started_with()[0]}
    if not are_settings(settings):
        raise ValueError(f"{folder.run} has settings that `edgetam track` has not written: {START_AGAIN}")
    for name, value in given.items():
        if value != settings[name]:
            raise ValueError(
                f"the run in {folder.path} was started with other {name.replace('_', ' ')}: leave it out with "
                "--resume, or start a new run in another --output"
            )
    return settings


def are_settings(settings: dict[str, Any]) -> bool:
    """Whether JSON can be the settings of a run."""
    counts = [settings[name] for name in ("start", "max_frames", "image_size")]
    return (
        settings.keys() == SETTINGS.keys()
        and isinstance(settings["model"], str)
        and isinstance(settings["prompts"], list)
        and all(isinstance(entry, list) and len(entry) == 2 and is_option(*entry) for entry in settings["prompts"])
        and all(isinstance(count, int | None) for count in counts)
        and isinstance(settings["stride"], int)
        and settings["stride"] > 0
        and all(isinstance(settings[name], bool) for name in ("reverse", "non_overlapping"))
        and all(isinstance(settings[name], str | None) for name in ("dtype", "runtime"))
        and track_everything.are_settings(settings)
        and settings["memory"] in MEMORIES
        and isinstance(settings["frame_rate"], int | float | None)
        and overlay_video.LOWEST_RATE <= (settings["frame_rate"] or 1) <= overlay_video.HIGHEST_RATE
    )


def is_option(name: Any, value: Any) -> bool:
    """Whether JSON can be a prompt of the command line, or what chooses its frame or object."""
    num_numbers = {"point": 3, "box": 4}
    if name in num_numbers:
        is_list = isinstance(value, list) and len(value) == num_numbers[name]
        return is_list and all(isinstance(number, Real) for number in value)
    return isinstance(value, {"mask": str, "frame": int, "object": int}.get(name, ()))


def check_object_numbers(object_ids: Iterable[int]) -> None:
    """Raises a ValueError for an object that no mask picture can number."""
    largest = max(object_ids, default=1)
    if largest > LARGEST_NUMBER:
        raise ValueError(
            f"masks are written with 16 bits, which count to {LARGEST_NUMBER}, but there is an object {largest}; "
            "objects that are found are numbered on from the largest one, and no number comes twice"
        )


def tell_missing_packages() -> None:
    """Prints what will not be written, because a package is missing."""
    if overlay_video.av is None:
        print("edgetam: without PyAV the overlay becomes a folder of pictures: pip install av", file=sys.stderr)
    if run_lengths.coco_mask is None:
        print(
            "edgetam: without pycocotools there will be no tracks.json and annotations.json: pip install pycocotools",
            file=sys.stderr,
        )


@dataclass
class TrackRun:
    """A run; `num_done` of its frames are finished."""

    model: VideoModel
    processor: EdgeTamVideoProcessor
    source: RecordedVideo | LiveVideo
    tracking: RecordedTracking | LiveTracking
    prompts: list[ObjectPrompt]
    settings: dict[str, Any]
    folder: TrackFolder
    num_done: int = 0
    overlay_path: Path | None = None

    @property
    def object_ids(self) -> list[int]:
        """All prompted objects, in the order of their first prompts."""
        return list(dict.fromkeys(prompt.object_id for prompt in self.prompts))

    def go_on(self) -> None:
        """Takes over what an earlier run has finished; raises a ValueError if that was another video."""
        object_ids = None if self.settings["everything"] else self.object_ids
        rows, source = self.folder.load_checkpoint(self.tracking.session, object_ids), self.source
        assert not source.is_live  # whose frames come once
        size = (source.height, source.width)
        if [row["frame"] for row in rows] != self.tracking.frame_indices[: len(rows)]:
            raise ValueError(f"{self.folder.frames} has other frames than those of this run: {START_AGAIN}")
        for row in rows:
            frame_idx = row["frame"]
            for found in row["objects"].values():
                if found.get("segmentation") is not None:
                    read_counts(found["segmentation"], size, f"frame {frame_idx} in {self.folder.frames}")
            pixels = source.frames[frame_idx].permute(1, 2, 0).contiguous().numpy()
            if row.get("fingerprint") != fingerprint(pixels):
                raise ValueError(
                    f"the run in {self.folder.path} was started with another video: its frame {frame_idx} differs"
                )
            self.folder.check_mask(source.frame_name(frame_idx), size)
        self.num_done = len(rows)

    def track(self, is_quiet: bool) -> ValueError | None:
        """Goes through all frames and writes them; returns the error that ended it at a frame, if any did.

        Frames that are finished are drawn again, from their masks: a video cannot be added to. A live video ends well
        when it is interrupted.
        """
        try:
            error = self._write_all(is_quiet)
        except KeyboardInterrupt:
            if self.source.is_live:
                return None
            # A frame may be half done, so there is no checkpoint of now
            raise InterruptedError(
                f"stopped after {self.num_done} frames: the same command with --resume goes on"
            ) from None
        except OSError as error:
            mend = "" if self.source.is_live else ", and the same command with --resume goes on"
            raise OSError(f"{error}; the {self.num_done} frames before are in {self.folder.path}{mend}") from error
        if self.num_done and not self.source.is_live:
            self.folder.save_checkpoint(self.tracking.session, self.num_done)
        return error

    def _write_all(self, is_quiet: bool) -> ValueError | None:
        """Writes all frames; returns the ValueError that ended it, if any did."""
        source, tracking = self.source, self.tracking
        rate = self.settings["frame_rate"] or max(
            source.frame_rate / self.settings["stride"], overlay_video.LOWEST_RATE
        )
        names = map(source.frame_name, tracking.frame_indices)
        extras = {"colours": source.colours(), "sound": tracking.sound()} if overlay_video.av is not None else {}
        writer, self.overlay_path = self.folder.open_overlay((source.height, source.width), rate, names, **extras)
        steps = tracking.steps(self.num_done)
        bar = {"desc": "track", "unit": "frame", "total": tracking.num_frames, "disable": is_quiet}
        with writer:
            try:
                for idx, step in enumerate(logging.tqdm(steps, **bar)):
                    if step.output is not None:
                        self.write(step)
                        self.num_done = idx + 1
                        if self.num_done % FRAMES_PER_CHECKPOINT == 0 and not source.is_live:
                            self.folder.save_checkpoint(tracking.session, self.num_done)
                    writer.write(self.draw(step), step.time)
            except ValueError as error:
                return error
        return None

    def write(self, step: Step) -> None:
        """Writes the masks and the line of a frame."""
        output, name = step.output, self.source.frame_name(step.frame_idx)
        assert output is not None  # or an earlier run has written them
        masks = dict(zip(output.object_ids, self.masks_of(output)))
        nothing = np.zeros((self.source.height, self.source.width), bool)  # of objects that are prompted later on
        numbers = [*dict.fromkeys([*self.object_ids, *masks])] or [1]  # of no object an empty picture
        check_object_numbers(numbers)
        self.folder.write_masks([masks.get(number, nothing) for number in numbers], numbers, name)
        found = {}
        for (object_id, mask), score, logit in zip(
            masks.items(), output.iou_scores.tolist(), output.object_score_logits.tolist()
        ):
            cut = CutMask.of(mask)
            row = {"score": round(score, 4), "visible": logit > 0, "area": cut.area, "box": cut.box}
            if run_lengths.coco_mask is not None:
                row["segmentation"] = run_lengths.compress(cut) if cut.area else None
            found[str(object_id)] = row
        picture = {"picture": self.source.file_name(step.frame_idx)} if getattr(self.source, "files", None) else {}
        self.folder.append(
            {"frame": step.frame_idx, **picture, "fingerprint": fingerprint(step.pixels), "objects": found}
        )

    def masks_of(self, output: EdgeTamVideoSegmentationOutput) -> np.ndarray:
        """Boolean array (O, H, W) of the masks of an output, at the size of the video."""
        is_exclusive = self.settings["non_overlapping"]  # for which all objects are needed at once
        size = [(self.source.height, self.source.width)]
        parts = output.pred_masks.split(max(1, len(output.pred_masks)) if is_exclusive else OBJECTS_AT_ONCE)
        found = [
            self.processor.post_process_masks([part], size, apply_non_overlapping_constraints=is_exclusive)[0][:, 0]
            for part in parts
        ]
        return np.concatenate([masks.cpu().numpy() for masks in found])

    def draw(self, step: Step) -> Image.Image:
        """The picture of a frame with its masks, as they were written, their numbers, and the prompts on it."""
        masks = read_numbered_masks(self.folder.mask_path(self.source.frame_name(step.frame_idx)))
        prompts = [prompt for prompt in self.prompts if prompt.frame_idx == step.frame_idx]
        points = [point for prompt in prompts for point in prompt.points]
        image = overlay(
            step.pixels, [*masks.values()], points, [prompt.box for prompt in prompts if prompt.box], numbers=[*masks]
        )
        write_numbers(image, [*masks.values()], [*masks], points)
        return image


def report_objects(prompts: list[ObjectPrompt], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the report says of each object."""
    objects = []
    for object_id in dict.fromkeys(prompt.object_id for prompt in prompts):
        found = [row["objects"][str(object_id)] for row in rows if str(object_id) in row["objects"]]
        own = [prompt for prompt in prompts if prompt.object_id == object_id]
        objects.append(
            {
                "object": object_id,
                "prompts": "; ".join(f"frame {prompt.frame_idx}: {prompt}" for prompt in own),
                "visible": sum(o["visible"] for o in found),
                "frames": len(found),
                "score": mean_score(found),
            }
        )
    return objects


def as_text(report: dict[str, Any]) -> str:
    """The report as text: a line per object, then where the files are."""
    num_pixels = report["height"] * report["width"]
    rows = [_readable(row, num_pixels) for row in report["objects"]]
    files = [name for name in ("masks", "overlay", "frames", "tracks", "annotations") if name in report]
    width = max(map(len, files)) + 1
    written = f"{report['num_tracked']} frames of {report['video']}, written to {report['output']}:"
    table = as_columns(rows[:MAX_ROWS]) if rows else [NOTHING_FOUND]
    if len(rows) > MAX_ROWS:
        table.append(f"… and {len(rows) - MAX_ROWS} more, which --json lists too")
    return "\n".join([*table, "", written, *(f"{name + ':':{width}} {report[name]}" for name in files)])


def _readable(row: dict[str, Any], num_pixels: int) -> dict[str, Any]:
    """A row for people: frames on which an object is visible of all, area in percent, a dash for what there is not."""
    row = {name: "-" if value is None else value for name, value in row.items() if name != "frames"} | {
        "visible": f"{row['visible']} / {row['frames']}"
    }
    return row | ({"area": f"{100 * row['area'] / num_pixels:.1f} %"} if "area" in row else {})
