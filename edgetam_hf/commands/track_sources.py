"""What `edgetam track` reads: recorded videos, any frame of which can be read, and live ones."""

import platform
import re
import zlib
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import torch

from ..formats.overlay_video import HIGHEST_RATE, LOWEST_RATE, Colours, colours_of
from ..formats.sound import Sound, open_sound
from ..video_file_edgetam import to_frame
from ..video_frames_edgetam import open_video

try:
    import av
except ImportError:
    av = None

FRAME_RATE = 25.0  # of pictures, and of live videos that do not tell
LONGEST_WAIT = 20.0  # in seconds, for an address to answer
ADDRESS = re.compile(r"[a-z][a-z0-9+]+:", re.IGNORECASE)  # longer than the letter of a drive


def find_source(options: Namespace) -> "RecordedVideo | LiveVideo":
    """`RecordedVideo` or `LiveVideo` of what the command line names, not opened yet."""
    if (options.video is None) == (options.camera is None):
        raise ValueError("give a video: a file, a folder of pictures, an address, or --camera 0")
    if options.camera is not None:
        name = re.sub(r"\W+", "_", options.camera).strip("_")
        return LiveVideo(f"camera {options.camera}", f"camera_{name}", *camera_input(options.camera))
    video = options.video
    if ADDRESS.match(video) and not Path(video).exists():
        parts = urlsplit(video)
        if parts.scheme.lower() != "file":
            name = Path(parts.path).stem or parts.hostname or "stream"
            return LiveVideo(video, re.sub(r"\W+", "_", name), video, timeout=LONGEST_WAIT)
        video = url2pathname(parts.path)
    if Path(video).is_fifo():
        return LiveVideo(video, Path(video).stem, video)
    return RecordedVideo(video)


def camera_input(camera: str) -> tuple[str, str, dict[str, str]]:
    """(address, format, options) by which FFmpeg opens a camera, from its number or its name."""
    system = platform.system()
    if system == "Linux":
        return f"/dev/video{camera}" if camera.isdecimal() else camera, "v4l2", {}
    if system == "Darwin":
        return camera, "avfoundation", {"framerate": "30"}  # it has no default that all cameras know
    if camera.isdecimal():
        names = [device.name for device in av.enumerate_input_devices("dshow") if "video" in device.media_types]
        if int(camera) >= len(names):
            raise ValueError(f"there is no camera {camera}, only {', '.join(names) or 'none'}")
        camera = names[int(camera)]
    return f"video={camera}", "dshow", {}


class RecordedVideo:
    """A video file or a folder of pictures.

    `frames` are its frames; `num_frames`, `height`, `width` and `frame_rate` describe it.
    """

    is_live: Literal[False] = False

    def __init__(self, path: str):
        self.path = Path(path)
        resolved = self.path.resolve()
        self.name = resolved.name
        # the part behind the last dot of a folder's name is no suffix
        self.default_output = f"{resolved.name if resolved.is_dir() else resolved.stem}_track"

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Within it, everything but names can be read."""
        self.frames = open_video(self.path)
        self.num_frames, self.height, self.width = len(self.frames), int(self.frames.height), int(self.frames.width)
        self.times = getattr(self.frames, "times", None)
        self.frame_rate = _possible_rate(getattr(self.frames, "frame_rate", FRAME_RATE))
        self.files = [file.name for file in getattr(self.frames, "files", [])]
        stems = [Path(name).stem for name in self.files]
        is_unique = len({stem.casefold() for stem in stems}) == len(stems)
        self._picture_names = stems if is_unique else self.files
        yield

    def frame_name(self, frame_idx: int) -> str:
        """Name of what is written of a frame: that of its picture, or its index in a video file."""
        return self._picture_names[frame_idx] if self.files else f"{frame_idx:05d}"

    def file_name(self, frame_idx: int) -> str:
        """Name of a frame's picture; for a video file that of its mask."""
        return self.files[frame_idx] if self.files else f"{frame_idx:05d}.png"

    def time_of(self, frame_idx: int) -> float:
        """Seconds from the first frame of the video to another one."""
        if self.times is not None and frame_idx < len(self.times):
            return float(self.times[frame_idx])
        return frame_idx / self.frame_rate

    def colours(self) -> Colours | None:
        """`Colours` of the frames."""
        if self.path.is_dir():
            return None
        with av.open(str(self.path), metadata_errors="replace") as container:
            return colours_of(container.streams.video[0])

    def sound(self, first_idx: int, last_idx: int, stride: int) -> Sound | None:
        """`Sound` of a stretch of frames, the last of which is shown until `stride` frames later, if there is any."""
        if self.path.is_dir():
            return None
        return open_sound(self.path, self.time_of(first_idx), self.time_of(last_idx) + stride / self.frame_rate)


class LiveVideo:
    """A camera, or an address or pipe that FFmpeg reads: frames come one after another and are not kept.

    `height` and `width` are known within `opened`, how many frames will come is not.

    Args:
        name: what messages call it.
        stem: what its default output begins with.
        address, format, options, timeout: how PyAV opens it.
    """

    is_live: Literal[True] = True
    num_frames = None

    def __init__(
        self,
        name: str,
        stem: str,
        address: str,
        format: str | None = None,
        options: dict[str, str] | None = None,
        timeout: float | None = None,
    ):
        self.name, self.default_output = name, f"{stem}_track"
        self.address, self.settings = address, {"format": format, "options": options or {}, "timeout": timeout}

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Within it, the video is open; its first frame has come."""
        if av is None:
            raise ImportError("reading a camera or an address needs PyAV: pip install av")
        try:
            self.container = av.open(self.address, metadata_errors="replace", **self.settings)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise ValueError(f"{self.name} cannot be opened: {_reason(error)}") from error
        with self.container:
            if not self.container.streams.video:
                raise ValueError(f"{self.name} has no video track")
            self._stream = self.container.streams.video[0]
            self.frame_rate = _possible_rate(self._stream.average_rate or self._stream.guessed_rate or FRAME_RATE)
            arriving = self._arriving()
            first = next(arriving, None)
            if first is None:
                raise ValueError(f"{self.name} has no frames")
            self.height, self.width = first[2].shape[-2:]
            self.arriving = chain([first], arriving)
            yield

    def _arriving(self) -> Iterator[tuple[int, float | None, torch.Tensor]]:
        """(index, seconds since the first one or None, uint8 tensor (3, H, W)) of each frame as it comes."""
        frame_idx, first_time, size = 0, None, None
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        try:
            for picture in self.container.decode(self._stream):
                frame = to_frame(picture, aspect)
                size = size or frame.shape
                if frame.shape != size:
                    raise ValueError(f"frame {frame_idx} of {self.name} has another size than those before it")
                first_time = picture.time if first_time is None else first_time
                yield frame_idx, None if picture.time is None else picture.time - first_time, frame
                frame_idx += 1
        except av.FFmpegError as error:
            mend = "" if frame_idx else "; a file can be downloaded first"  # such as one whose index comes last
            raise ValueError(f"{self.name} broke off after {frame_idx} frames: {_reason(error)}{mend}") from error

    def frame_name(self, frame_idx: int) -> str:
        """Name of what is written of a frame."""
        return f"{frame_idx:05d}"

    def file_name(self, frame_idx: int) -> str:
        """Name of a frame's mask, in place of a picture."""
        return f"{frame_idx:05d}.png"

    def colours(self) -> Colours | None:
        """`Colours` of the frames."""
        return colours_of(self._stream)


def fingerprint(pixels: np.ndarray) -> int:
    """Number by which a frame, uint8 array (H, W, 3), is known again."""
    return zlib.crc32(pixels.data)


def _possible_rate(rate: Any) -> float:
    return min(max(float(rate), LOWEST_RATE), HIGHEST_RATE)


def _reason(error: Exception) -> str:
    """What an error says, in a few words."""
    return getattr(error, "strerror", None) or str(error)
