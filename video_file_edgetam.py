"""Video files: where their frames are, and the frames, decoded when they are asked for.

`index_video` reads a file once and tells its frames, `VideoReader` decodes those that are asked for.

A packet is what a container stores as one piece, mostly one picture. Packets are numbered in the order of the file. A
picture is what PyAV decodes; a frame is a uint8 tensor (3, H, W), RGB, upright and with square pixels.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TypeGuard, cast

import numpy as np
import torch

try:
    import av
except ImportError:
    av = None

# Where each packet is one whole picture and has the time at which it is shown. AVI, MXF and streams without a container
# have no such times, and in other codecs some packets have no picture, or a part of one.
EXACT_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "flv")
EXACT_CODECS = ("h264", "hevc", "vp9", "av1", "libdav1d", "mjpeg", "prores", "dnxhd", "ffv1")
DEFAULT_RATE = 25  # frames per second, where a file names none
MAX_RATE = 1000  # a file that names a higher one is wrong
INTRA = (0, 1)  # PyAV's types of pictures that need no other one: unknown, in codecs that have no other type, and I
NEAR_SQUARE = 0.01  # a ratio of pixels that differs from 1 by less comes from sides that were rounded
LARGEST_RATIO = 10  # a file that names a larger ratio of pixels is wrong


@dataclass
class VideoIndex:
    """The frames of a video file, in the order of presentation.

    Args:
        numbers: number of the packet that each frame is in.
        times: when each frame is shown, in seconds after the first one, ascending.
        frame_rate: mean number of frames per second.
        keys: numbers of the packets at which decoding can start, ascending; the first one is 0.
        marks: number of each of them by its mark, see `mark_of`, unless others have the same.
        seek_times: time to seek for them, in units of the stream, where it is known.
        num_lost: how many further frames the file promises behind its end.
        aspect: width of a pixel by its height.
        height, width: size of the first frame as it is shown.
    """

    numbers: list[int]
    times: list[float]
    frame_rate: float
    keys: list[int]
    marks: dict[tuple, int]
    seek_times: dict[int, int]
    num_lost: int
    aspect: Fraction
    height: int
    width: int


def index_video(path: Path) -> VideoIndex:
    """Index of a video file.

    Raises:
        ImportError: without PyAV.
        ValueError: for a file that is no video, or has no frames.
    """
    container, stream = open_container(path)
    with container:
        packets = _read_packets(container, stream)
        format_name, unit = container.format.name, stream.time_base
        is_exact = format_name in EXACT_FORMATS and stream.codec_context.name in EXACT_CODECS
        rates = [rate for rate in (stream.average_rate, stream.guessed_rate) if rate and 0 < rate <= MAX_RATE]
        num_lost = max(_num_promised(container, stream) - len(packets.times), 0 if packets.is_whole else 1)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
    if packets.first_picture is None:
        raise ValueError(f"{path} has no frames" if packets.is_whole else f"{path} is damaged: no frame can be decoded")
    numbers = (_order_of_times(packets) if is_exact else None) or _order_of_decoding(path, packets)
    times = _ascending_seconds([packets.times[number] for number in numbers], unit, rates)
    has_frame, counts = set(numbers), Counter(packets.marks.values())
    keys = [number for number in packets.marks if number in has_frame and number > 0]
    height, width = to_frame(packets.first_picture, aspect).shape[-2:]
    return VideoIndex(
        numbers=numbers,
        times=times,
        frame_rate=_mean_rate(times, rates),
        keys=[0, *keys],
        marks={mark: number for number, mark in packets.marks.items() if counts[mark] == 1},
        seek_times=packets.seek_times,
        num_lost=num_lost,
        aspect=aspect,
        height=height,
        width=width,
    )


@dataclass
class _Packets:
    """What the packets of a stream tell.

    Args:
        times: when the picture of each is to be shown, in units of the stream; None where it is not known.
        marks, seek_times: of key frames, by number.
        first_picture: that comes out of the decoder, or None.
        is_whole: whether all could be read.
        is_plain: whether none is to be decoded without being shown.
    """

    times: list[int | None] = field(default_factory=list)
    marks: dict[int, tuple] = field(default_factory=dict)
    seek_times: dict[int, int] = field(default_factory=dict)
    first_picture: av.VideoFrame | None = None
    is_whole: bool = True
    is_plain: bool = True

    @property
    def has_fields(self) -> bool:
        """Whether a picture is made of two fields, its odd and its even rows."""
        return self.first_picture is not None and self.first_picture.interlaced_frame

    def add_key(self, packet: av.Packet) -> None:
        """Takes the next packet for a key frame."""
        number = len(self.times)
        self.marks[number] = mark_of(packet)
        # With B-frames, containers that seek by decoding time would find the next key frame
        if known := [time for time in (packet.pts, packet.dts) if time is not None]:
            self.seek_times[number] = min(known)


def _read_packets(container: av.container.InputContainer, stream: av.VideoStream) -> _Packets:
    """What all packets of a stream tell; only as many are decoded as the first picture needs."""
    packets = _Packets()
    try:
        for packet in container.demux(stream):
            if packet.size and packet.is_keyframe:
                packets.add_key(packet)
            if packet.size:
                packets.times.append(packet.pts)
                packets.is_plain &= not packet.is_discard
            if packets.first_picture is None:
                with suppress(av.FFmpegError):
                    packets.first_picture = next(iter(packet.decode()), None)
    except av.FFmpegError:  # what follows the damage cannot be found
        packets.is_whole = False
    return packets


def _num_promised(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """How many packets a file says that it has.

    Only MP4 counts what it holds; other formats guess. With older PyAV, what an edit list leaves out cannot be told
    from what was cut off, so that nothing is promised.
    """
    return len(getattr(stream, "index_entries", ())) if "mp4" in container.format.name else 0


def _order_of_times(packets: _Packets) -> list[int] | None:
    """Numbers of the packets in the order of their times, or None if decoding may give the pictures in another one."""
    times = packets.times
    if not packets.is_plain or not _are_known(times) or len(set(times)) < len(times):
        return None
    # What is stored behind the first picture and shown before it can mostly not be decoded
    if 0 not in packets.marks or min(times) < times[0]:
        return None
    if packets.has_fields:  # which may lie in two packets
        return None
    # Times that start again, as in joined files, would mix the parts: a key frame is shown after all stored before it
    latest = times[0]
    for number, time in enumerate(times):
        if number in packets.marks and time < latest:
            return None
        latest = max(latest, time)
    return sorted(range(len(times)), key=times.__getitem__)


def _order_of_decoding(path: Path, packets: _Packets) -> list[int]:
    """Numbers of the packets of all frames in the order in which decoding gives them.

    Packets from the first key frame on that cannot be decoded count as frames.
    """
    numbers: list[int] = []
    damaged: list[int] = []
    container, stream = open_container(path)
    with container, suppress(av.FFmpegError):
        # A packet without content says that the last picture stays, and would end decoding
        for number, packet in enumerate(packet for packet in container.demux(stream) if packet.size):
            try:
                numbers += [picture.pts for picture in decode_numbered(packet, number)]
            except av.FFmpegError:
                if number >= min(packets.marks, default=0):
                    damaged.append(number)
        numbers += [picture.pts for picture in stream.codec_context.decode(None)]
    place: Sequence[int] = range(len(packets.times))
    if _ascend([packets.times[number] for number in numbers]) and _are_known([packets.times[n] for n in damaged]):
        place = cast("list[int]", packets.times)
    for number in damaged:
        behind = (idx for idx, other in enumerate(numbers) if place[other] > place[number])
        numbers.insert(next(behind, len(numbers)), number)
    return numbers


def _are_known(times: list[int | None]) -> TypeGuard[list[int]]:
    return None not in times


def _ascend(times: list[int | None]) -> TypeGuard[list[int]]:
    return _are_known(times) and all(before <= after for before, after in pairwise(times))


def _ascending_seconds(times: list[int | None], unit: Fraction, rates: list[Fraction]) -> list[float]:
    """Seconds after the first frame; where times are missing or do not ascend, frames follow at equal distances."""
    if _ascend(times) and times[-1] > times[0]:
        return [float((time - times[0]) * unit) for time in times]
    return [float(idx / Fraction(rates[0] if rates else DEFAULT_RATE)) for idx in range(len(times))]


def _mean_rate(times: list[float], rates: list[Fraction]) -> float:
    """Mean number of frames per second; the exact one that the file names, if it is that but for rounding."""
    num_gaps = len(times) - 1
    for rate in rates:
        if num_gaps == 0 or abs(float(rate) * times[-1] - num_gaps) < 0.25:
            return float(rate)
    return num_gaps / times[-1] if num_gaps else float(DEFAULT_RATE)


class VideoReader:
    """Reads frames of a video file whose pictures are whole; may be asked by several threads, in one process.

    Reading in order decodes every picture once. Another one is reached from the key frame before it.
    """

    def __init__(self, path: Path, index: VideoIndex):
        self.path, self.index = path, index
        self._frame_idx: dict[int, int] = {}  # by number of the packet
        for idx, number in enumerate(index.numbers):
            self._frame_idx.setdefault(number, idx)
        self._keys = list(index.keys)  # without those that turn out to be none
        self._lock = threading.Lock()
        self._container, self._stream = open_container(path)
        # The picture that was asked for last, with its index, and those to come
        self._current: av.VideoFrame | None = None
        self._current_idx = -1
        self._upcoming: Iterator[tuple[int, av.VideoFrame]] = iter(())

    def read(self, idx: int) -> torch.Tensor | None:
        """Frame (3, H, W) of an index, or None if the file is damaged there."""
        with self._lock:  # for the conversion, too: a picture that two threads convert at a time ends the process
            picture = self._picture_of(idx)
            return None if picture is None else to_frame(picture, self.index.aspect)

    def _picture_of(self, idx: int) -> av.VideoFrame | None:
        """Decoded picture of a frame, or None."""
        if self._current is not None and idx == self._current_idx:
            return self._current
        if self._is_ahead(idx) and self._go_on_to(idx):
            return self._current
        while True:
            key = self._key_before(idx)
            self._upcoming = self._pictures_from(key)
            if self._go_on_to(idx):
                return self._current
            if key in self._keys:  # else it was none, and there is an earlier one
                return None

    def _key_before(self, idx: int) -> int:
        """Number of the last key frame from which a frame can be decoded."""
        keys = self._keys
        key_idx = bisect_right(keys, self.index.numbers[idx]) - 1
        # What is stored behind a key frame but shown before it needs what is stored before the key frame, too
        while key_idx > 0 and self._frame_idx[keys[key_idx]] > idx:
            key_idx -= 1
        return keys[key_idx]

    def _is_ahead(self, idx: int) -> bool:
        """Whether a frame is reached faster from the current one than from its key frame."""
        if self._current is None or idx <= self._current_idx:
            return False
        return idx == self._current_idx + 1 or self._key_before(idx) <= self.index.numbers[self._current_idx]

    def _go_on_to(self, idx: int) -> bool:
        """Whether a frame is among the upcoming ones; then it becomes the current one."""
        self._current = None
        for upcoming_idx, picture in self._upcoming:
            if upcoming_idx >= idx:
                self._current_idx, self._current = upcoming_idx, picture
                break
        return self._current is not None and self._current_idx == idx

    def _pictures_from(self, key: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """(index of the frame, picture) in the order of presentation from a key frame on, up to damage."""
        queue = None
        for number, packet in self._packets_from(key):
            queue = queue or _WholePictures(self._frame_idx, key if number else 0)
            queue.expect(number)
            try:
                pictures = decode_numbered(packet, number)
            except av.FFmpegError:
                pictures = []
                queue.give_up(number)
            yield from queue.take(pictures)
            if queue.is_damaged:
                break
        if queue is not None:
            # The decoder still holds pictures, also from before damage
            with suppress(av.FFmpegError):
                yield from queue.take(self._stream.codec_context.decode(None))
            yield from queue.end()
            if queue.has_false_key:
                self._keys = [other for other in self._keys if other != key]

    def _packets_from(self, key: int) -> Iterator[tuple[int, av.Packet]]:
        """(number, packet) from a key frame on, or from an earlier one, up to where the file cannot be read."""
        if key in self.index.seek_times:
            # Some formats cannot seek, or land behind the key frame: they are read from the start
            with suppress(av.FFmpegError):
                self._container.seek(self.index.seek_times[key], stream=self._stream)
                packets = self._numbered(None)
                first = next(packets, None)
                if first is not None and first[0] <= key:
                    yield first
                    yield from packets
                    return
        self._container, self._stream = open_container(self.path)
        yield from self._numbered(0)

    def _numbered(self, number: int | None) -> Iterator[tuple[int, av.Packet]]:
        """(number, packet) of the packets to come, of which the first has a number or must be a known key frame."""
        # Where parts of a stream were joined, MPEG-TS takes the last packet of the first one for corrupt
        is_strict = self._container.format.name != "mpegts"
        with suppress(av.FFmpegError):
            for packet in self._container.demux(self._stream):
                if packet.is_keyframe:
                    number = self.index.marks.get(mark_of(packet), number)
                if packet.size and number is not None:
                    packet.is_corrupt &= is_strict
                    yield number, packet
                    number += 1


class _WholePictures:
    """Passes pictures on once all that are stored before them have come out whole, since they may be built on them.

    Args:
        frame_idx: index of the frame by number of the packet.
        key: number of the packet from whose picture on pictures count; what is decoded before it may lack something.
    """

    def __init__(self, frame_idx: dict[int, int], key: int):
        self.frame_idx, self.key = frame_idx, key
        self.first_idx = frame_idx[key] if key else 0
        self.has_false_key = False  # files also call so where pictures begin to be refreshed bit by bit
        self.awaited: dict[int, int] = {}  # like `frame_idx`, of the packets whose pictures are in the decoder
        self.held: deque[tuple[int, av.VideoFrame]] = deque()  # (index of the frame, picture)
        self.first_damaged: float = math.inf  # number of the packet
        self.last_number: int | None = None  # of the picture that came out last
        self.last_idx = -1

    @property
    def is_damaged(self) -> bool:
        """Whether no more pictures will be passed on but those stored before damage."""
        return self.first_damaged < math.inf

    def expect(self, number: int) -> None:
        """Says that a packet goes into the decoder."""
        if self.frame_idx.get(number, -1) >= self.first_idx:
            self.awaited[number] = self.frame_idx[number]

    def give_up(self, number: int) -> None:
        """Says that no whole picture comes of a packet, if one was to be expected."""
        if self.awaited.pop(number, None) is not None:
            self.first_damaged = min(self.first_damaged, number)

    def take(self, pictures: list[av.VideoFrame]) -> Iterator[tuple[int, av.VideoFrame]]:
        """(index of the frame, picture) of those that can be passed on after further ones have come out."""
        for picture in pictures:
            # A packet may have several pictures
            is_same = self.last_number == picture.pts
            idx = self.last_idx + 1 if is_same else self.frame_idx.get(picture.pts, -1)
            if idx < self.first_idx:
                continue
            if self.last_number is None and self.key and (picture.pts != self.key or picture.pict_type not in INTRA):
                self.has_false_key, self.first_damaged = True, -1
            for number in [number for number, awaited_idx in self.awaited.items() if awaited_idx < idx]:
                self._miss(number)
            self.last_number, self.last_idx = picture.pts, idx
            if picture.is_corrupt:
                self.give_up(picture.pts)
            else:
                self.awaited.pop(picture.pts, None)
                self.held.append((idx, picture))
        yield from self._release()

    def end(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """(index of the frame, picture) of those that can be passed on when no more will come out."""
        self.has_false_key |= self.key > 0 and self.last_number is None and not self.is_damaged
        for number in list(self.awaited):
            self._miss(number)
        yield from self._release()

    def _miss(self, number: int) -> None:
        """Says that a picture has not come out in its turn; before the first one it may have lacked what it needs."""
        if self.last_number is None:
            del self.awaited[number]
        else:
            self.give_up(number)

    def _release(self) -> Iterator[tuple[int, av.VideoFrame]]:
        while self.held and min(self.awaited, default=math.inf) > self.held[0][1].pts:
            idx, picture = self.held.popleft()
            if picture.pts < self.first_damaged:
                yield idx, picture


# What both index and reader need.


def open_container(path: Path) -> tuple[av.container.InputContainer, av.VideoStream]:
    """(open file, its video stream).

    Raises:
        ImportError: without PyAV.
        ValueError: for a file that is no video.
    """
    if av is None:
        raise ImportError("reading a video file needs PyAV: pip install av")
    try:
        container = av.open(str(path), metadata_errors="replace")  # titles need not be UTF-8
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{path} is no video file, or it is damaged: {error.strerror}") from error
    format_name, streams = container.format.name, container.streams.video
    # FFmpeg also takes single pictures and texts for videos
    if format_name == "image2" or format_name.endswith("_pipe"):
        raise ValueError(
            f"{path} is no video file: it was read as a single picture ({format_name}); give a folder of pictures, or "
            "segment it as a picture"
        )
    if not streams or format_name == "tty":
        raise ValueError(f"{path} is no video file: it was read as {format_name} without a video track")
    streams = [stream for stream in streams if not stream.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise ValueError(f"{path} is no video file: it was read as {format_name} with sound and a cover picture only")
    streams[0].thread_count = 1  # a forked process would wait for further ones in vain when it frees the decoder
    return container, streams[0]


def mark_of(packet: av.Packet) -> tuple:
    """What tells a packet from the others, also after seeking."""
    return packet.pts if packet.pos is None else packet.pos, packet.size


def decode_numbered(packet: av.Packet, number: int) -> list[av.VideoFrame]:
    """Pictures that come out of the decoder when a packet goes in, with the numbers of their packets as their times.

    So a picture can be told from the others also where the file gives it no time, or the same one again.

    Raises:
        av.FFmpegError: for a packet that cannot be decoded.
    """
    packet.pts = packet.dts = number
    return packet.decode()


def to_frame(picture: av.VideoFrame, aspect: Fraction) -> torch.Tensor:
    """Frame of a decoded picture, turned and mirrored as the file says."""
    width, height = shown_size(picture.width, picture.height, aspect)
    # PyAV 17 began to convert in several threads, for which a forked process would wait when it frees the picture
    settings = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
    pixels = picture.to_ndarray(format="rgb24", width=width, height=height, **settings)
    pixels = _upright(pixels, picture.side_data.get("DISPLAYMATRIX"))
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _upright(pixels: np.ndarray, display_matrix: bytes | None) -> np.ndarray:
    """Pixels (H, W, 3) in the one of eight orientations that is nearest to a display matrix.

    The matrix (a, b, u, c, d, v, x, y, w) shows the pixel (x, y) at (a x + c y, b x + d y).
    """
    if display_matrix is None:
        return pixels
    a, b, _, c, d, *_ = np.frombuffer(display_matrix, np.int32).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, right, down = pixels.transpose(1, 0, 2), c, b
    else:
        right, down = a, d
    return pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]


def shown_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """(width, height) with square pixels: the side along which pixels are long grows, so that none is lost.

    Args:
        width, height: of the stored picture.
        aspect: width of a stored pixel by its height.
    """
    longer = max(aspect, 1 / aspect)
    if not 1 + NEAR_SQUARE < longer <= LARGEST_RATIO:
        return width, height
    return (round(width * longer), height) if aspect > 1 else (width, round(height * longer))
