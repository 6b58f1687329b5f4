"""The folder that `edgetam track` fills, and from which it goes on after an interruption."""

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..everything_edgetam_video import EverythingState, Known
from ..files.writing import LOCK, save_whole, whole_file, write_json_whole, writing
from ..formats import overlay_video, run_lengths, tracks
from ..formats.index_pictures import write_index_picture
from ..memory_bank_edgetam import STATE_TYPES, TrackedObject
from ..session_edgetam import EdgeTamVideoInferenceSession
from .track_sources import LiveVideo, RecordedVideo

START_AGAIN = "start again in another --output"


class TrackFolder:
    """The folder of a run; all files but `frames.jsonl` and the overlay are written whole or not at all.

    `run.json` has what was asked and the properties of the video, `masks/` an index picture and `frames.jsonl` a line
    per frame, `session.pt` the state of tracking.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.run, self.masks = self.path / "run.json", self.path / "masks"
        self.frames, self.checkpoint = self.path / "frames.jsonl", self.path / "session.pt"

    def mask_path(self, name: str) -> Path:
        """Path of the index picture of a frame of that name."""
        return self.masks / f"{name}.png"

    def check_empty(self) -> None:
        """Raises a ValueError if there is something in the way of a new run."""
        if any(path.name != LOCK for path in self.path.iterdir()):
            raise ValueError(f"folder {self.path} is not empty: go on with --resume, or choose another --output")

    def start(self, settings: dict[str, Any], video: dict[str, Any]) -> None:
        """Notes what was asked and the properties of the video."""
        write_json_whole({"settings": settings, "video": video}, self.run)

    def started_with(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(settings, properties of the video) as `start` has written them."""
        if not self.run.exists():
            raise ValueError(f"nothing to resume in {self.path}: start without --resume")
        try:
            content = json.loads(self.run.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            content = None
        settings, video = map(content.get, ("settings", "video")) if isinstance(content, dict) else (None, None)
        if not isinstance(settings, dict) or not isinstance(video, dict):
            raise ValueError(f"{self.run} is not what `edgetam track` has written there: {START_AGAIN}")
        return settings, video

    def write_masks(self, masks: Sequence[np.ndarray], object_ids: list[int], name: str) -> None:
        """Writes the masks of a frame, boolean (H, W)."""
        self.masks.mkdir(exist_ok=True)
        write_index_picture(masks, object_ids, self.mask_path(name))

    def append(self, row: dict[str, Any]) -> None:
        """Adds the line of a finished frame."""
        with writing(self.frames), open(self.frames, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """What is known of each finished frame, in the order of tracking; a torn last line does not count."""
        lines = self.frames.read_bytes().split(b"\n")[:-1] if self.frames.exists() else []
        return [self._read_row(number, line) for number, line in enumerate(lines, start=1)]

    def _read_row(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not _is_row(row):
            raise ValueError(f"line {number} of {self.frames} is damaged: {START_AGAIN}")
        return row

    def save_checkpoint(self, session: EdgeTamVideoInferenceSession, num_done: int) -> None:
        """Keeps the state of tracking after the first `num_done` frames; there is nothing of the video in it."""
        with whole_file(self.checkpoint) as temporary:
            state = {"objects": session.objects, "everything": session.everything, "num_done": num_done}
            torch.save(state, temporary)

    def load_checkpoint(
        self, session: EdgeTamVideoInferenceSession, object_ids: list[int] | None
    ) -> list[dict[str, Any]]:
        """The rows of the finished frames, after which the session is; lines of later frames are dropped.

        object_ids: which objects there must be, `None` where they come and go.
        """
        rows, num_done = self.rows(), 0
        if self.checkpoint.exists():
            state = self._read_checkpoint(session.inference_state_device)
            if object_ids is not None and list(state["objects"]) != object_ids:
                raise ValueError(f"{self.checkpoint} is of other objects than those of this run: {START_AGAIN}")
            session.restore(state["objects"], state.get("everything"))
            num_done = state["num_done"]
        if len(rows) < num_done:
            raise ValueError(f"{self.frames} lacks frames that were finished: {START_AGAIN}")
        with whole_file(self.frames) as temporary:
            text = "".join(json.dumps(row) + "\n" for row in rows[:num_done])
            Path(temporary).write_text(text, encoding="utf-8")
        return rows[:num_done]

    def _read_checkpoint(self, device: torch.device | str) -> dict[str, Any]:
        torch.serialization.add_safe_globals([*STATE_TYPES, EverythingState, Known])
        try:
            with warnings.catch_warnings():  # about what other programs have pickled
                warnings.simplefilter("ignore")
                state = torch.load(self.checkpoint, map_location=device, weights_only=True)
        except OSError:
            raise
        except Exception as error:  # whatever foreign bytes lead PyTorch to, code in them is not run
            raise ValueError(
                f"{self.checkpoint} is damaged, or no state of tracking of this version: {START_AGAIN}"
            ) from error
        if not _is_state(state):
            raise ValueError(f"{self.checkpoint} is no state of tracking of this version: {START_AGAIN}")
        return state

    def check_mask(self, name: str, size: tuple[int, int]) -> None:
        """Raises a ValueError unless there is an index picture of a size (H, W) for a frame of that name."""
        path = self.mask_path(name)
        try:
            with Image.open(path) as image:
                is_right = (image.height, image.width) == tuple(size)
        except (OSError, SyntaxError, EOFError, Image.DecompressionBombError):
            is_right = False
        if not is_right:
            raise ValueError(f"{path} is missing, or not what was written there: {START_AGAIN}")

    def open_overlay(
        self, size: tuple[int, int], frame_rate: float, names: Iterable[str], **extras: Any
    ) -> tuple["overlay_video.OverlayVideo | OverlayPictures", Path]:
        """(writer of the overlay, its path): a video, or without PyAV a folder of pictures of these names."""
        if overlay_video.av is not None:
            path = self.path / "overlay.mp4"
            return overlay_video.OverlayVideo(path, *size, frame_rate, **extras), path
        path = self.path / "overlay"
        path.mkdir(exist_ok=True)
        return OverlayPictures(path / f"{name}.png" for name in names), path

    def write_tracks(self, source: RecordedVideo | LiveVideo, object_ids: list[int]) -> dict[str, str]:
        """Writes the tracks as results of YouTube-VIS and as COCO annotations; returns the paths, by name.

        The former have a mask or null for each frame of the video, the latter have what was tracked only.
        """
        rows = sorted(self.rows(), key=lambda row: row["frame"])
        has_masks = all("segmentation" in found for row in rows for found in row["objects"].values())
        if run_lengths.coco_mask is None or not has_masks:
            return {}
        frame_indices = [row["frame"] for row in rows]
        num_frames = source.num_frames or max(frame_indices, default=-1) + 1
        tracked, whole = [], []
        for object_id in object_ids:
            found = [row["objects"].get(str(object_id)) for row in rows]
            masks = [of_frame and of_frame["segmentation"] for of_frame in found]
            tracked.append(tracks.Track(object_id, 1, mean_score(filter(None, found)), masks))
            by_frame = dict(zip(frame_indices, masks))
            whole.append(tracks.Track(object_id, 1, tracked[-1].score, [by_frame.get(t) for t in range(num_frames)]))
        names, size = [source.file_name(t) for t in frame_indices], (source.height, source.width)
        data = {
            "tracks": tracks.youtube_vis_tracks(1, whole),
            "annotations": tracks.coco_annotations(source.name, names, size, tracked, frame_indices=frame_indices),
        }
        for name, content in data.items():
            write_json_whole(content, self.path / f"{name}.json")
        return {name: str(self.path / f"{name}.json") for name in data}


class OverlayPictures:
    """Writer of pictures to given paths, in place of an `OverlayVideo`."""

    def __init__(self, paths: Iterator[Path]):
        self.paths = paths

    def __enter__(self) -> "OverlayPictures":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def write(self, picture: Image.Image, time: float) -> None:
        """Writes the next picture."""
        save_whole(picture, next(self.paths))


def mean_score(found: Iterable[dict[str, Any]]) -> float:
    """Mean predicted IoU over the frames on which an object is visible; 0 without any."""
    scores = [o["score"] for o in found if o["visible"]]
    return round(sum(scores) / len(scores), 4) if scores else 0.0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _is_state(state: Any) -> bool:
    """Whether what a file holds is what `save_checkpoint` has put there."""
    if not (isinstance(state, dict) and isinstance(state.get("objects"), dict) and _is_count(state.get("num_done"))):
        return False
    everything = state.get("everything")
    if everything is not None and not _has_fields(everything, EverythingState):
        return False
    return all(_has_fields(known, TrackedObject) for known in state["objects"].values())


def _has_fields(value: Any, kind: type) -> bool:
    """Whether a value is a dataclass of a kind, with all fields and nothing else."""
    return isinstance(value, kind) and vars(value).keys() == {field.name for field in fields(kind)}


def _is_row(row: Any) -> bool:
    """Whether JSON is a line of `frames.jsonl`."""
    return (
        isinstance(row, dict)
        and _is_count(row.get("frame"))
        and isinstance(row.get("objects"), dict)
        and all(
            isinstance(found, dict)
            and isinstance(found.get("score"), Real)
            and isinstance(found.get("visible"), bool)
            and _is_count(found.get("area"))
            for found in row["objects"].values()
        )
    )
