"""Pictures and videos of a page: opened without trust, and their frames as JPEG.

A file that somebody has sent is opened only in formats that hold all of it themselves: playlists and scripts, which
name other files, are refused.
"""

import io
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps

from ..commands.track_sources import RecordedVideo
from ..pictures_edgetam import PICTURE_SUFFIXES, decode_picture

try:
    import av
except ImportError:
    av = None

PICTURE_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
VIDEO_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,gif,apng,mxf,nut,ivf,dv,h264,hevc,"
    "av1,obu,m4v,mjpeg,wtv,yuv4mpegpipe"
)
JPEG_QUALITY = 92
MOST_PIXELS = 100_000_000
LONGEST_SIDE = 65_500  # of a JPEG
LONGEST_NAME = 120


@dataclass(frozen=True)
class MediaInfo:
    """What is open, as the page is told it."""

    kind: Literal["picture", "video", "live"]
    name: str
    width: int
    height: int
    num_frames: int = 1
    frame_rate: float = 0.0
    has_sound: bool = False

    def as_json(self) -> dict[str, Any]:
        """The record `Media` of the page."""
        return {
            "kind": self.kind,
            "name": self.name,
            "width": self.width,
            "height": self.height,
            "numFrames": self.num_frames,
            "frameRate": self.frame_rate,
            "hasSound": self.has_sound,
        }


class Picture:
    """A picture; `pixels` are uint8 (H, W, 3), upright."""

    def __init__(self, name: str, pixels: np.ndarray):
        self.pixels = pixels
        height, width = pixels.shape[:2]
        self.info = MediaInfo("picture", name, width, height)

    def frame(self, frame_idx: int) -> np.ndarray:
        """uint8 array (H, W, 3); raises an IndexError for any frame but 0."""
        if frame_idx != 0:
            raise IndexError(f"a picture has only frame 0, got {frame_idx}")
        return self.pixels


class Video:
    """A video file or a folder of pictures, whose frames are decoded when they are needed.

    `frames` are for tracking; those that are shown have a reader of their own, so that neither makes the other seek.
    """

    def __init__(self, name: str, path: Path, most_frames: int):
        self.source = RecordedVideo(str(path))
        with self.source.opened():
            pass
        self.frames = self.source.frames
        self._shown = copy(self.frames)
        source = self.source
        if source.num_frames > most_frames:
            raise ValueError(
                f"{name} has {source.num_frames} frames, more than the {most_frames} that this server opens "
                "(--max-frames): cut the part out that you need"
            )
        rate, has_sound = float(source.frame_rate), _has_sound(path)
        self.info = MediaInfo("video", name, source.width, source.height, source.num_frames, rate, has_sound)

    def frame(self, frame_idx: int) -> np.ndarray:
        """uint8 array (H, W, 3); raises an IndexError outside of the video."""
        return np.ascontiguousarray(self._shown[frame_idx].permute(1, 2, 0).numpy())


def open_media(path: Path, name: str, most_frames: int) -> Picture | Video:
    """The picture or video of a file or folder.

    Args:
        path: where it is.
        name: what people call it, as in errors.
        most_frames: how many frames a video may have.

    Raises:
        ValueError: for anything else, and for what is too large.
    """
    pixels = None if path.is_dir() else _read_picture(path, name)
    if pixels is not None:
        return Picture(name, pixels)
    if not path.is_dir():
        _check_video(path, name)
    try:
        video = Video(name, path, most_frames)
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), name)) from error
    _check_size(name, video.info.width, video.info.height)
    return video


def shown_name(name: str) -> str:
    """The last part of a file's name without characters that cannot be printed."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(character for character in last if character.isprintable())[:LONGEST_NAME] or "unnamed"


def as_jpeg(pixels: np.ndarray) -> bytes:
    """A picture uint8 (H, W, 3) as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def read_camera_frame(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """uint8 array (H, W, 3) of a JPEG that has a size (height, width); raises a ValueError for anything else."""
    try:
        image = Image.open(io.BytesIO(data), formats=["JPEG"])
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError("a frame of the camera must be a JPEG") from error
    if image.size != size[::-1]:
        raise ValueError(f"frames of this camera have {size[1]}x{size[0]} pixels, got {image.width}x{image.height}")
    return decode_picture(image, "the frame of the camera")


def _read_picture(path: Path, name: str) -> np.ndarray | None:
    """uint8 array (H, W, 3) of a picture file, upright; None for other files, and for animations.

    Raises:
        ValueError: for a picture that is damaged or too large.
    """
    Image.init()  # formats that this Pillow does not know cannot be asked for
    try:
        image = Image.open(path, formats=[kind for kind in PICTURE_FORMATS if kind in Image.OPEN])
    except Image.DecompressionBombError as error:
        raise ValueError(_too_large(name)) from error
    except Exception as error:  # of whatever kind; the format is unknown, or its header damaged
        if path.suffix.lower() in PICTURE_SUFFIXES and path.suffix.lower() != ".gif":
            raise ValueError(f"{name} cannot be read: it is damaged, or no picture") from error
        return None
    with image:
        if image.format in ("GIF", "WEBP", "PNG") and getattr(image, "n_frames", 1) > 1:
            return None
        _check_size(name, image.width, image.height)
        with suppress(Exception):  # damaged EXIF data do not say how the picture lies
            ImageOps.exif_transpose(image, in_place=True)
        return decode_picture(image, name)


def _check_video(path: Path, name: str) -> None:
    """Raises a ValueError for a file that no video format holds, before anything in it is followed."""
    if av is None:
        raise ImportError("reading a video file needs PyAV: pip install av")
    options = {"format_whitelist": VIDEO_FORMATS, "protocol_whitelist": "file"}
    try:
        av.open(str(path), options=options, metadata_errors="replace").close()
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ValueError(f"{name} is neither a picture nor a video that can be opened, or it is damaged") from error


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        raise ValueError(f"{_too_large(name)}; it has {width}x{height}")


def _too_large(name: str) -> str:
    return (
        f"{name} is too large: make it smaller, to at most {MOST_PIXELS // 10**6} million pixels, and {LONGEST_SIDE} "
        "along a side"
    )


def _has_sound(path: Path) -> bool:
    if path.is_dir():
        return False
    with av.open(str(path), metadata_errors="replace") as container:
        return bool(container.streams.audio)
