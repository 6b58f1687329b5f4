"""Frames of a video from pictures, arrays, a folder or a file, all read the same way.

Shapes: T frames of H x W pixels. A frame is a uint8 tensor (3, H, W), RGB.
"""

import os
import re
from bisect import bisect_right
from contextlib import suppress
from itertools import chain
from operator import index
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from .image_processing_edgetam import decode_picture

try:
    import av
except ImportError:
    av = None


PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
ACCEPTED = (
    "a video must be the path of a video file or of a folder of pictures, a list of pictures, or a uint8 array or "
    "tensor (T, H, W, 3) or (T, 3, H, W)"
)


class Frames:
    """Frames of one video by index: a sequence that is pickled without its open files.

    `len(frames)` is the number of frames T, `frames[idx]` for idx in 0..T-1 is a uint8 tensor (3, H, W) in RGB, and
    `height`, `width` are the size of all frames. An index outside 0..T-1, also a negative one, raises IndexError, so
    that iteration ends; a frame that cannot be read raises ValueError with its index, and the others stay readable.
    A returned frame may share memory with the video: do not write to it.
    """

    height: int
    width: int

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, idx) -> torch.Tensor:
        idx = index(idx)
        if not 0 <= idx < len(self):
            raise IndexError(f"frame index must be in 0..{len(self) - 1}, got {idx}")
        return self._read(idx)

    def _read(self, idx: int) -> torch.Tensor:
        """Frame of an index in 0..T-1."""
        raise NotImplementedError


def open_video(video, storage_device="cpu") -> Frames:
    """The `Frames` of a video.

    Args:
        video (`str`, `os.PathLike`, `list`, `np.ndarray`, `torch.Tensor` or `Frames`):
            Path of a video file or of a folder of pictures, which are read one at a time when they are asked for; or
            a list of PIL pictures of any mode, of arrays (H, W, 3) or (H, W) or of tensors (3, H, W); or an array or
            tensor (T, H, W, 3) or (T, 3, H, W). Arrays and tensors are uint8. An object with `height`, `width`,
            `len()` and indexing is returned as it is.
        storage_device (`str` or `torch.device`, *optional*, defaults to `"cpu"`):
            Where lists, arrays and tensors are kept, as one uint8 tensor; not copied if they already are one there.

    Raises:
        TypeError: for something that is no video, and for pixels that are not uint8.
        ValueError: for a video without frames, a path that does not exist or holds no video, and mixed sizes.
        ImportError: for a video file without PyAV.
    """
    if isinstance(video, (str, os.PathLike)):
        return _open_path(video)
    if isinstance(video, (np.ndarray, torch.Tensor)):
        return StoredFrames(_stored_batch(video, storage_device))
    if isinstance(video, (list, tuple)):
        return StoredFrames(_stored_list(video, storage_device))
    if all(hasattr(video, name) for name in ("height", "width", "__len__", "__getitem__")):
        return video
    raise TypeError(f"{ACCEPTED}, got {type(video)}")


def _open_path(path) -> Frames:
    if "://" in str(path):
        raise TypeError(f"{ACCEPTED}, got the address {path}: download the video first")
    path = Path(path)
    if not path.exists():
        raise ValueError(f"video {path} does not exist")
    return PictureFolder(path) if path.is_dir() else VideoFile(path)


# Videos that are kept as one tensor.


class StoredFrames(Frames):
    """Frames that lie in one uint8 tensor (T, 3, H, W) on any device."""

    def __init__(self, pixels: torch.Tensor):
        self.pixels = pixels
        self.height, self.width = pixels.shape[-2:]

    def __len__(self):
        return len(self.pixels)

    def _read(self, idx):
        return self.pixels[idx]


def _to_tensor(pixels, name: str) -> torch.Tensor:
    """uint8 tensor of an array or a tensor, of the same shape; shares its memory where that can be done."""
    is_tensor = isinstance(pixels, torch.Tensor)
    if pixels.dtype != (torch.uint8 if is_tensor else np.uint8):
        mend = "to(torch.uint8)" if is_tensor else "astype(np.uint8)"
        raise TypeError(f"{name} must be uint8, got {pixels.dtype}: scale it to 0..255 and convert it with .{mend}")
    if is_tensor:
        return pixels
    pixels = np.ascontiguousarray(pixels)
    return torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())


def _channels_first(pixels: torch.Tensor, channel_axes, name: str) -> torch.Tensor:
    """(..., 3, H, W) from a tensor with 3 channels on the first of two axes, counted from the last, that has them."""
    for axis in channel_axes:
        if pixels.shape[axis] == 3:
            return pixels.movedim(axis, -3)
    raise ValueError(f"{name} must have 3 channels, first or last, got shape {tuple(pixels.shape)}")


def _stored_batch(video, storage_device) -> torch.Tensor:
    if video.ndim != 4:
        raise ValueError(
            f"video must have shape (T, H, W, 3) or (T, 3, H, W), got {tuple(video.shape)}: "
            "give a video of one frame as video[None]"
        )
    if 0 in video.shape:
        raise ValueError(f"video has no frames or no pixels: its shape is {tuple(video.shape)}")
    channel_axes = (-3, -1) if isinstance(video, torch.Tensor) else (-1, -3)
    return _channels_first(_to_tensor(video, "video"), channel_axes, "video").to(storage_device)


def _stored_list(pictures, storage_device) -> torch.Tensor:
    if not pictures:
        raise ValueError("video is an empty list: give at least one frame")
    first = _frame_of(pictures[0], "frame 0")
    pixels = torch.empty((len(pictures), *first.shape), dtype=torch.uint8, device=storage_device)
    for idx, picture in enumerate(pictures):
        pixels[idx] = _of_size(_frame_of(picture, f"frame {idx}"), first.shape[-2:], f"frame {idx}")
    return pixels


def _frame_of(picture, name: str) -> torch.Tensor:
    """Tensor (3, H, W) of one item of a list."""
    if isinstance(picture, Image.Image):
        picture = decode_picture(picture, name)
    if not isinstance(picture, (np.ndarray, torch.Tensor)):
        raise TypeError(f"{name} must be a PIL picture, an array or a tensor, got {type(picture)}")
    pixels = _to_tensor(picture, name)
    if pixels.ndim not in (2, 3) or pixels.numel() == 0:
        raise ValueError(f"{name} must have shape (H, W, 3), (3, H, W) or (H, W), got {tuple(pixels.shape)}")
    if pixels.ndim == 2:
        return pixels.expand(3, -1, -1)
    return _channels_first(pixels, (-3, -1) if isinstance(picture, torch.Tensor) else (-1, -3), name)


def _of_size(frame: torch.Tensor, size, name: str) -> torch.Tensor:
    """The frame (3, H, W), which must have the size (H, W) of the first one."""
    if tuple(frame.shape[-2:]) != tuple(size):
        height, width = frame.shape[-2:]
        raise ValueError(
            f"all frames must have one size: {name} has {width}x{height} pixels, the first one {size[1]}x{size[0]}"
        )
    return frame


# A folder of pictures.


def _natural_key(path: Path):
    """Sorting key by which frame2 comes before frame10."""
    parts = re.split("([0-9]+)", path.name)
    return [int(part) if idx % 2 else part for idx, part in enumerate(parts)], path.name


class PictureFolder(Frames):
    """Frames that are the pictures of a folder in the natural order of their names, read when they are asked for.

    Pictures are turned upright as their EXIF data say.
    """

    def __init__(self, path):
        self.path = Path(path)
        files = (file for file in self.path.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES)
        self.files = sorted((file for file in files if not file.name.startswith(".")), key=_natural_key)
        if not self.files:
            raise ValueError(f"folder {self.path} has no pictures: expected files {', '.join(PICTURE_SUFFIXES)}")
        self.height, self.width = self._decode(0).shape[-2:]

    def __len__(self):
        return len(self.files)

    def _read(self, idx):
        return _of_size(self._decode(idx), (self.height, self.width), f"frame {idx} ({self.files[idx]})")

    def _decode(self, idx) -> torch.Tensor:
        name = f"frame {idx} ({self.files[idx]})"
        try:
            with Image.open(self.files[idx]) as picture:
                pixels = decode_picture(ImageOps.exif_transpose(picture), name)
        except (OSError, SyntaxError, EOFError) as error:  # what PIL raises for damaged files
            raise ValueError(f"{name} cannot be decoded, its file is missing, truncated or damaged: {error}") from error
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


# A video file.


class VideoFile(Frames):
    """Frames of a video file in the order of presentation, decoded by PyAV when they are asked for.

    Reading in order decodes every frame once. Another index is reached from the key frame before it. Frames are turned
    upright as the file says. A file that was cut off has as many frames as its header promises.
    """

    frame_rate: float

    def __init__(self, path):
        if av is None:
            raise ImportError("reading a video file needs PyAV: pip install av")
        self.path = Path(os.path.abspath(path))
        # The open file, the decoded pictures to come and the last one that was asked for
        self._container = self._upcoming = self._current = None
        self._open()
        # Presentation times of all frames and of the key frames, ascending, and where to seek for each key frame
        self._times, self._key_times, self._seek_times = self._index()
        self.height, self.width = self._turned(self._decode(0)).shape[-2:]

    def __len__(self):
        return self._num_frames

    def __getstate__(self):
        return {**self.__dict__, **dict.fromkeys(("_container", "_upcoming", "_current"))}

    def _open(self):
        try:
            self._container = av.open(str(self.path))
        except (av.FFmpegError, OSError) as error:
            raise ValueError(f"{self.path} is no video file, or it is damaged: {error.strerror}") from error
        format_name = self._container.format.name
        # FFmpeg also takes texts and single pictures for videos
        is_picture_or_text = format_name in ("tty", "image2") or format_name.endswith("_pipe")
        if is_picture_or_text or not self._container.streams.video:
            raise ValueError(f"{self.path} is no video file: it was read as {format_name} without a video track")
        stream = self._container.streams.video[0]
        stream.thread_type = "SLICE"  # threads over frames would report damage late, at another frame
        stream.codec_context.options = {"err_detect": "explode"}  # or damaged frames come out as if they were whole

    def _index(self):
        """(presentation times, times of key frames, times to seek for them) from all packets, without decoding."""
        stream = self._container.streams.video[0]
        times, keys, num_packets, num_lost = set(), {}, 0, 0
        try:
            for packet in self._container.demux(stream):
                if not packet.size:
                    continue
                if packet.pts is None:
                    raise ValueError(
                        f"{self.path} has frames without a presentation time: repack it first, "
                        "for example with `ffmpeg -i INPUT OUTPUT.mp4`"
                    )
                num_packets += 1
                if packet.is_keyframe:
                    # With B-frames, containers that seek by decoding time would find the next key frame
                    keys[packet.pts] = packet.pts if packet.dts is None else min(packet.pts, packet.dts)
                if not packet.is_discard and keys and packet.pts >= min(keys):
                    times.add(packet.pts)
        except av.FFmpegError:  # what follows the damage cannot be found
            num_lost = 1
        if not times:
            raise ValueError(f"{self.path} has no frames")
        # Only MP4 counts exactly what it holds; other formats guess, or count frames that were dropped
        num_promised = stream.frames if "mp4" in self._container.format.name else 0
        self._num_frames = len(times) + max(num_lost, num_promised - num_packets)
        times, key_times = sorted(times), sorted(keys)
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            seconds = (times[-1] - times[0]) * float(stream.time_base)
            rate = (len(times) - 1) / seconds if seconds else 1
        self.frame_rate = float(rate)
        return times, key_times, [keys[time] for time in key_times]

    def _read(self, idx):
        frame = self._turned(self._decode(idx))
        return _of_size(frame, (self.height, self.width), f"frame {idx} of {self.path}")

    def _turned(self, picture) -> torch.Tensor:
        """Tensor (3, H, W) of a decoded picture, upright."""
        pixels = np.rot90(picture.to_ndarray(format="rgb24"), round(picture.rotation / 90))
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def _decode(self, idx: int):
        """Decoded picture of a frame."""
        if idx < len(self._times):
            if self._container is None:
                self._open()
            time = self._times[idx]
            if self._current is None or self._current.pts != time:
                self._current = (self._is_ahead(idx) and self._go_on_to(time)) or self._seek_to(time)
            if self._current is not None:
                return self._current
        raise ValueError(
            f"frame {idx} of {self.path} cannot be decoded, the file is truncated or damaged there: "
            "`ffmpeg -i INPUT OUTPUT.mp4` writes a file without the damaged frames"
        )

    def _is_ahead(self, idx: int) -> bool:
        """Whether a frame is reached faster from the current one than from a key frame."""
        if self._current is None or self._current.pts > self._times[idx]:
            return False
        num_keys = [bisect_right(self._key_times, time) for time in (self._current.pts, self._times[idx])]
        return self._current.pts == self._times[idx - 1] or num_keys[0] == num_keys[1]

    def _go_on_to(self, time: int):
        """Decoded picture of a time, or None if the coming ones lack it or have it damaged."""
        picture = next((picture for picture in self._upcoming if picture.pts >= time), None)
        return None if picture is None or picture.pts != time or picture.is_corrupt else picture

    def _seek_to(self, time: int):
        """Decoded picture of a time, from the key frame before it, or None if the file is damaged there."""
        key_idx = bisect_right(self._key_times, time) - 1
        # Seeking fails in some formats, and in others it may land behind the key frame: they are read from the start
        with suppress(av.FFmpegError):
            self._container.seek(self._seek_times[key_idx], stream=self._container.streams.video[0])
        self._upcoming = _decoded_from(self._container, self._key_times[key_idx])
        first = next(self._upcoming, None)
        if first is None:
            self._open()
            self._upcoming = _decoded_from(self._container, self._key_times[key_idx])
        else:
            self._upcoming = chain([first], self._upcoming)
        return self._go_on_to(time)


def _decoded_from(container, key_time: int):
    """Decoded pictures in the order of presentation, from a key frame no later than `key_time`, up to damage."""
    stream = container.streams.video[0]
    first_time = damaged_time = None
    with suppress(av.FFmpegError):
        for packet in container.demux(stream):
            if first_time is None and packet.is_keyframe:
                if packet.pts > key_time:
                    return
                first_time = packet.pts
            # What is stored behind the first key frame but shown before it needs frames from before it
            if packet.size and (first_time is None or packet.pts < first_time):
                continue
            damaged_time = packet.pts
            if packet.is_corrupt:
                break
            yield from packet.decode()
            damaged_time = None
        else:
            return
    # The decoder still holds whole pictures from before the damage, and maybe a part of the damaged one
    with suppress(av.FFmpegError):
        yield from (picture for picture in stream.codec_context.decode(None) if picture.pts != damaged_time)
