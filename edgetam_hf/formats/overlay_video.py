"""H.264 videos for people, with the right speed and colours, and with sound, which can be watched while they grow."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from .sound import Sound

try:
    import av
except ImportError:
    av = None

LOWEST_RATE, HIGHEST_RATE = 0.01, 1000.0  # frames per second
TIME_BASE = Fraction(1, 90000)  # in which the frame rates of film and television are whole numbers
BT709 = 1  # in the numbering of H.273 of colour primaries, transfer characteristics and matrices
UNKNOWN_COLOURS = (0, 2)
LIMITED_RANGE = 1


class Colours(NamedTuple):
    """Colour primaries and transfer characteristic of pictures, numbered as in H.273; those of HD video by default."""

    primaries: int = BT709
    transfer: int = BT709


def colours_of(stream: Any) -> Colours:
    """`Colours` of the pictures of a video stream; what the stream does not tell is that of HD video."""
    codec = stream.codec_context
    return Colours(
        *(BT709 if value in UNKNOWN_COLOURS else value for value in (codec.color_primaries, codec.color_trc))
    )


class OverlayVideo:
    """Writer of an H.264 MP4 that can be watched while it grows, and after the process that writes it was killed.

    A killed process loses at most the last second. Odd sides get one more row or column, since H.264 halves the
    colours: those of the border are repeated.

    Args:
        path: the file to write; its folder exists.
        height, width: size of the pictures.
        frame_rate: pictures per second, in 0.01..1000; of pictures with times of their own, their mean rate.
        colours: `Colours` of the pictures.
        sound: a `Sound` to take along, if any; its times count from the first picture.

    Raises:
        ImportError: without PyAV.
        ValueError: for a size that is not positive, and for another frame rate.
    """

    def __init__(
        self,
        path: str | Path,
        height: int,
        width: int,
        frame_rate: float,
        colours: Colours | None = None,
        sound: Sound | None = None,
    ):
        if av is None:
            raise ImportError("writing a video file needs PyAV: pip install av")
        if min(height, width) < 1 or not LOWEST_RATE <= frame_rate <= HIGHEST_RATE:
            raise ValueError(
                f"height, width and frame_rate must be positive, the rate in {LOWEST_RATE:g}..{HIGHEST_RATE:g}, got "
                f"{height}, {width} and {frame_rate:g}"
            )
        self.shape = (height, width, 3)
        self.padding = ((0, height % 2), (0, width % 2), (0, 0))
        self.frame_rate, self.sound = frame_rate, sound
        self.num_written, self.last_pts = 0, -1
        # Fragments are readable without the index that MP4 otherwise gets when the file is closed; and pictures do not
        # wait long for sound that has ended
        options = {
            "movflags": "frag_keyframe+empty_moov+default_base_moof",
            "flush_packets": "1",
            "max_interleave_delta": "500000",
        }
        self.container: Any = av.open(str(path), "w", format="mp4", options=options)
        self.stream = self._add_stream(colours or Colours())
        if sound is not None:
            sound.add_stream(self.container)

    def _add_stream(self, colours: Colours) -> Any:
        """The video stream; like that of the sound, it has to be added before anything is written."""
        height, width = self.shape[:2]
        # 1001 is the denominator of the rates of television, such as 30000/1001
        stream = self.container.add_stream("libx264", rate=Fraction(self.frame_rate).limit_denominator(1001))
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.time_base = TIME_BASE
        codec.gop_size = max(1, round(self.frame_rate))
        # Without this, some players take the colours for those of SD video
        codec.colorspace, codec.color_range = BT709, LIMITED_RANGE
        codec.color_primaries, codec.color_trc = colours
        # zerolatency: the encoder holds no pictures back, which a killed process would lose
        codec.options = {"preset": "veryfast", "crf": "20", "tune": "zerolatency"}
        return stream

    def __enter__(self) -> "OverlayVideo":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def write(self, picture: np.ndarray | Image.Image, time: float | None = None) -> None:
        """Appends a picture.

        Args:
            picture: uint8 array (H, W, 3).
            time: seconds from the first picture to this one; by default pictures follow each other at the frame rate.
        """
        if self.container is None:
            raise ValueError("the video is closed: write to it inside its `with` block")
        picture = np.asarray(picture)
        if picture.dtype != np.uint8 or picture.shape != self.shape:
            raise ValueError(
                f"picture must be a uint8 array {self.shape}, got {picture.dtype} {picture.shape}: all pictures of a "
                "video have the size it was opened with"
            )
        time = self.num_written / self.frame_rate if time is None else time
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.pad(picture, self.padding, "edge")), "rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED_RANGE)
        # Times that hardly differ must not coincide
        self.last_pts = max(round(time / TIME_BASE), self.last_pts + 1)
        frame.pts, frame.time_base = self.last_pts, TIME_BASE
        self._write_sound(until=time + 1 / self.frame_rate)
        self._write_packets(self.stream.encode(frame))
        self.num_written += 1

    def _write_sound(self, until: float) -> None:
        if self.sound is not None:
            for packet in self.sound.packets(until):
                self.container.mux(packet)

    def _write_packets(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            packet.duration = packet.duration or round(1 / self.frame_rate / TIME_BASE)  # matters for the last one only
            self.container.mux(packet)

    def close(self) -> None:
        """Writes what the encoder holds and closes the file; nothing if it is closed."""
        if self.container is not None:
            container, self.container = self.container, None
            with container:
                for packet in self.stream.encode(None):
                    container.mux(packet)
            if self.sound is not None:
                self.sound.close()
