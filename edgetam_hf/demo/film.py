"""Overlay films: the masks that a page has drawn over the frames of its video, with its colours and the sound."""

import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from ..drawing.overlays import paint
from ..formats.overlay_video import OverlayVideo
from ..formats.run_lengths import decode_run_lengths
from ..found_objects import CutMask
from .asked import read_integer
from .media import Video
from .messages import LENGTH, RUNS, read_object, unpack

LONGEST_HEADER = 10**6  # bytes
LONGEST_MESSAGE = 2**28
Colours = dict[int, tuple[int, int, int]]


@dataclass(frozen=True)
class FilmPlan:
    """What a page has sent: a file with a message for each frame that has masks, at `places`; colours of objects."""

    path: Path
    places: dict[int, tuple[int, int]]  # (first byte, number of bytes) by frame
    colours: Colours

    @classmethod
    def read(cls, path: Path, video: Video) -> "FilmPlan":
        """The plan in a file; raises a ValueError where it is damaged, or not of the video."""
        places: dict[int, tuple[int, int]] = {}
        last, num_frames = -1, video.info.num_frames
        with open(path, "rb") as file:
            header = read_object(_read_part(file, LONGEST_HEADER) or b"")
            colours = _read_colours(header.get("objects"))
            while (message := _read_part(file, LONGEST_MESSAGE)) is not None:
                frame_idx, _ = _read_frame(message, video, colours)
                if not last < frame_idx < num_frames:
                    raise ValueError(f"frames must ascend within 0..{num_frames - 1}, got {frame_idx} after {last}")
                places[frame_idx] = (file.tell() - len(message), len(message))
                last = frame_idx
        if not places:
            raise ValueError("there is no frame with masks to make a film of")
        return cls(path, places, colours)

    def masks_on(self, frame_idx: int, video: Video) -> dict[int, CutMask]:
        """The masks on a frame, by object."""
        if frame_idx not in self.places:
            return {}
        start, length = self.places[frame_idx]
        with open(self.path, "rb") as file:
            file.seek(start)
            return _read_frame(file.read(length), video, self.colours)[1]


def write_film(plan: FilmPlan, video: Video, path: Path) -> Generator[bytes, None, None]:
    """Writes a film to a path, from the first to the last frame of the plan, and yields its bytes as they come."""
    source, first, last = video.source, min(plan.places), max(plan.places)
    size, num_read = (video.info.height, video.info.width), 0
    with OverlayVideo(path, *size, source.frame_rate, source.colours(), source.sound(first, last, 1)) as writer:
        for frame_idx in range(first, last + 1):
            image = Image.fromarray(video.frame(frame_idx))
            for object_id, mask in plan.masks_on(frame_idx, video).items():
                paint(image, mask, plan.colours[object_id])
            writer.write(image, source.time_of(frame_idx) - source.time_of(first))
            part = _read_from(path, num_read)
            num_read += len(part)
            yield part
    yield _read_from(path, num_read)


def _read_from(path: Path, start: int) -> bytes:
    """What a file has from a byte on; a film has none before its first packet."""
    if not path.exists():
        return b""
    with open(path, "rb") as file:
        file.seek(start)
        return file.read()


def _read_part(file: IO[bytes], longest: int) -> bytes | None:
    """What follows its length in a file; None at its end."""
    head = file.read(LENGTH.size)
    if not head:
        return None
    length = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else longest + 1
    part = file.read(length) if length <= longest else b""
    if len(part) != length:
        raise ValueError("what was sent of the film is cut off or damaged")
    return part


def _read_colours(objects: Any) -> Colours:
    """Colours by object."""
    if not isinstance(objects, list):
        raise ValueError("objects must be a list with the objectId and colour of each")
    colours: Colours = {}
    for entry in objects:
        colour: Any = entry.get("colour") if isinstance(entry, dict) else None
        is_colour = isinstance(colour, list) and len(colour) == 3
        if not is_colour or not all(type(level) is int and 0 <= level <= 255 for level in colour):
            raise ValueError(f"a colour must be [red, green, blue] in 0..255, got {json.dumps(colour)[:50]}")
        colours[read_integer(entry, "objectId")] = (colour[0], colour[1], colour[2])
    return colours


def _read_frame(message: bytes, video: Video, colours: Colours) -> tuple[int, dict[int, CutMask]]:
    """(index of the frame, masks by object) of a message."""
    header, payload = unpack(message)
    objects, frame_idx = header.get("objects"), read_integer(header, "frameIdx")
    if not isinstance(objects, list) or not all(isinstance(entry, dict) for entry in objects):
        raise ValueError("each frame of a film must have a list of objects")
    size, masks, start = (video.info.height, video.info.width), {}, 0
    for entry in objects:
        object_id, num_runs = read_integer(entry, "objectId"), read_integer(entry, "numRuns", 1)
        if object_id not in colours:
            raise ValueError(f"object {object_id} on frame {frame_idx} of the film has no colour")
        part = payload[start : start + num_runs * RUNS.itemsize]
        start += len(part)
        if len(part) != num_runs * RUNS.itemsize:
            raise ValueError(f"frame {frame_idx} of the film has fewer run lengths than it says")
        runs = {"size": list(size), "counts": np.frombuffer(part, RUNS).tolist()}
        masks[object_id] = CutMask.of(decode_run_lengths(runs, size, f"a mask on frame {frame_idx}"))
    return frame_idx, masks
