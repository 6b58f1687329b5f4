"""Frames of a video from pictures, arrays, a folder or a file, all read the same way.

Shapes: T frames of H x W pixels. A frame is a uint8 tensor (3, H, W), RGB.
"""

import os
import re
from collections.abc import Sequence
from operator import index
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import torch
from PIL import Image

from .pictures_edgetam import PICTURE_SUFFIXES, VIDEO_SUFFIXES, decode_picture, read_picture
from .video_file_edgetam import VideoReader, index_video

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

    def __getitem__(self, idx: SupportsIndex) -> torch.Tensor:
        idx = index(idx)
        if not 0 <= idx < len(self):
            raise IndexError(f"frame index must be in 0..{len(self) - 1}, got {idx}")
        return self._read(idx)

    def _read(self, idx: int) -> torch.Tensor:
        """Frame of an index in 0..T-1."""
        raise NotImplementedError


def open_video(video: Any, storage_device: torch.device | str = "cpu") -> Frames:
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


def _open_path(name: str | os.PathLike) -> Frames:
    path = _local_path(name)
    if not path.exists():
        raise ValueError(f"video {path} does not exist")
    return PictureFolder(path) if path.is_dir() else VideoFile(path)


class StoredFrames(Frames):
    """Frames that lie in one uint8 tensor (T, 3, H, W) on any device."""

    def __init__(self, pixels: torch.Tensor):
        self.pixels = pixels
        self.height, self.width = pixels.shape[-2:]

    def __len__(self) -> int:
        return len(self.pixels)

    def _read(self, idx: int) -> torch.Tensor:
        return self.pixels[idx]


class PictureFolder(Frames):
    """Frames that are the pictures of a folder in the natural order of their names, read when they are asked for.

    Pictures are turned upright as their EXIF data say.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        files = (file for file in self.path.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES)
        self.files = sorted((file for file in files if not file.name.startswith(".")), key=natural_key)
        if not self.files:
            videos = sorted(file.name for file in self.path.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES)
            mend = f"; it has videos, give one of them: {videos[0]}" if videos else ""
            raise ValueError(f"folder {self.path} has no pictures: expected files {', '.join(PICTURE_SUFFIXES)}{mend}")
        self.height, self.width = self._decode(0).shape[-2:]

    def __len__(self) -> int:
        return len(self.files)

    def _read(self, idx: int) -> torch.Tensor:
        return _of_size(self._decode(idx), (self.height, self.width), f"frame {idx} ({self.files[idx]})")

    def _decode(self, idx: int) -> torch.Tensor:
        pixels = read_picture(self.files[idx], f"frame {idx} ({self.files[idx]})")
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


class VideoFile(Frames):
    """Frames of a video file, decoded by PyAV when they are asked for; several threads and processes may read them.

    They are those that decoding the whole file gives, in that order and number, whatever the file says of times; but
    frames that cannot be decoded count, and a file that was cut off has as many frames as its header promises.
    Reading in order decodes every frame once, another index is reached from the key frame before it.

    Frames are as they are to be shown: turned and mirrored as the file says, and with square pixels. Where the stored
    ones are not square, the side along which they are long is scaled, so that no stored pixel is lost: 720 x 480
    with pixels of 32:27 come out as 853 x 480. Coordinates of prompts and masks are those of the frames as returned.

    `times` are the seconds at which frames are shown, ascending from 0, and `frame_rate` is their mean number per
    second.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(os.path.abspath(path))
        self._index = index_video(self.path)
        self.height, self.width = self._index.height, self._index.width
        self.times, self.frame_rate = self._index.times, self._index.frame_rate
        self._readers: dict[int, VideoReader] = {}  # by process: an open file cannot be shared with a forked one

    def __len__(self) -> int:
        return len(self._index.numbers) + self._index.num_lost

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": {}}

    def _read(self, idx: int) -> torch.Tensor:
        frame = None
        if idx < len(self._index.numbers):
            process_id = os.getpid()
            if process_id not in self._readers:
                self._readers.setdefault(process_id, VideoReader(self.path, self._index))
            frame = self._readers[process_id].read(idx)
        if frame is None:
            raise ValueError(
                f"frame {idx} of {self.path} cannot be decoded, the file is truncated or damaged there: "
                "`ffmpeg -i INPUT OUTPUT.mp4` writes a file without the damaged frames"
            )
        return _of_size(frame, (self.height, self.width), f"frame {idx} of {self.path}")


def _local_path(name: str | os.PathLike) -> Path:
    """Path on this computer; that of a file:// address, too."""
    path = os.fsdecode(name)
    address = re.fullmatch(r"([a-z][a-z0-9+.-]+):(?=/)(?://([^/]*))?(/.*)?", path, re.IGNORECASE | re.DOTALL)
    if address is None:
        return Path(path)
    scheme, host, local = address.groups()
    if scheme.lower() != "file" or host not in (None, "", "localhost") or local is None:
        raise TypeError(f"{ACCEPTED}, got the address {path}: download the video first, or record it to a file")
    # Bytes of names are written as %41, and drives of Windows as /C:/
    local = re.sub(rb"%([0-9a-f]{2})", lambda code: bytes([int(code[1], 16)]), os.fsencode(local), flags=re.IGNORECASE)
    return Path(os.fsdecode(re.sub(rb"^/(?=[a-z]:/)", b"", local, flags=re.IGNORECASE)))


def natural_key(path: Path) -> tuple[list[int | str], str]:
    """Sorting key by which frame2 comes before frame10."""
    parts = re.split("([0-9]+)", path.name)
    return [int(part) if idx % 2 else part for idx, part in enumerate(parts)], path.name


def _to_tensor(pixels: np.ndarray | torch.Tensor, name: str) -> torch.Tensor:
    """uint8 tensor of an array or a tensor, of the same shape; shares its memory where that can be done."""
    is_tensor = isinstance(pixels, torch.Tensor)
    if pixels.dtype != (torch.uint8 if is_tensor else np.uint8):
        mend = "to(torch.uint8)" if is_tensor else "astype(np.uint8)"
        raise TypeError(f"{name} must be uint8, got {pixels.dtype}: scale it to 0..255 and convert it with .{mend}")
    if isinstance(pixels, torch.Tensor):
        return pixels
    pixels = np.ascontiguousarray(pixels)
    return torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())


def _channels_first(pixels: torch.Tensor, channel_axes: tuple[int, int], name: str) -> torch.Tensor:
    """Pixels (..., 3, H, W) of a tensor whose channels are on the first of two axes that has length 3."""
    for axis in channel_axes:
        if pixels.shape[axis] == 3:
            return pixels.movedim(axis, -3)
    raise ValueError(f"{name} must have 3 channels, first or last, got shape {tuple(pixels.shape)}")


def _stored_batch(video: np.ndarray | torch.Tensor, storage_device: torch.device | str) -> torch.Tensor:
    """Pixels (T, 3, H, W) of a video in one array or tensor."""
    if video.ndim != 4:
        mend = {3: "give a video of one frame as video[None]", 5: "give one video of a batch, such as video[0]"}
        raise ValueError(
            f"video must have shape (T, H, W, 3) or (T, 3, H, W), got {tuple(video.shape)}: "
            + mend.get(video.ndim, "give the frames of one video")
        )
    if 0 in video.shape:
        raise ValueError(f"video has no frames or no pixels: its shape is {tuple(video.shape)}")
    channel_axes = (-3, -1) if isinstance(video, torch.Tensor) else (-1, -3)
    return _channels_first(_to_tensor(video, "video"), channel_axes, "video").to(storage_device)


def _stored_list(pictures: Sequence[Any], storage_device: torch.device | str) -> torch.Tensor:
    """Pixels (T, 3, H, W) of a video in a list of pictures."""
    if not pictures:
        raise ValueError("video is an empty list: give at least one frame")
    first = _frame_of(pictures[0], "frame 0")
    pixels = torch.empty((len(pictures), *first.shape), dtype=torch.uint8, device=storage_device)
    for idx, picture in enumerate(pictures):
        pixels[idx] = _of_size(_frame_of(picture, f"frame {idx}"), first.shape[-2:], f"frame {idx}")
    return pixels


def _frame_of(picture: Any, name: str) -> torch.Tensor:
    """Tensor (3, H, W) of one item of a list."""
    if isinstance(picture, (list, tuple)) or getattr(picture, "ndim", 0) > 3:
        raise ValueError(
            f"{name} must have shape (H, W, 3), (3, H, W) or (H, W), but it is several pictures: give a list of the "
            "pictures of one video, or an array, without a list around it"
        )
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


def _of_size(frame: torch.Tensor, size: Sequence[int], name: str) -> torch.Tensor:
    """The frame (3, H, W), which must have the size (H, W) of the first one."""
    if tuple(frame.shape[-2:]) != tuple(size):
        height, width = frame.shape[-2:]
        raise ValueError(
            f"all frames must have one size: {name} has {width}x{height} pixels, the first one {size[1]}x{size[0]}"
        )
    return frame
