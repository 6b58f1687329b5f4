"""Where the frames of a video file are, found from its packets, or by decoding it once where they do not tell.

A packet is what a container stores as one piece, mostly one picture. Packets are numbered in the order of the file.
"""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from .video_picture_edgetam import to_frame

try:
    import av
except ImportError:
    av = None

# Where each packet is one whole picture and has the time at which it is shown. AVI, MXF and streams without a container
# have no such times, and in other codecs some packets have no picture, or a part of one.
EXACT_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "flv")
EXACT_CODECS = ("h264", "hevc", "vp9", "av1", "libdav1d", "mjpeg", "prores", "dnxhd", "ffv1")
DEFAULT_RATE, MAX_RATE = 25, 1000  # frames per second, where a file tells none, and beyond which it tells nonsense


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

    times: list = field(default_factory=list)
    marks: dict = field(default_factory=dict)
    seek_times: dict = field(default_factory=dict)
    first_picture: object = None
    is_whole: bool = True
    is_plain: bool = True

    def add_key(self, packet):
        """Takes the next packet for a key frame."""
        number = len(self.times)
        self.marks[number] = mark_of(packet)
        # With B-frames, containers that seek by decoding time would find the next key frame
        if known := [time for time in (packet.pts, packet.dts) if time is not None]:
            self.seek_times[number] = min(known)


def open_container(path: Path):
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


def mark_of(packet) -> tuple:
    """What tells a packet from the others, also after seeking."""
    return packet.pts if packet.pos is None else packet.pos, packet.size


def decode_numbered(packet, number: int) -> list:
    """Pictures that come out of the decoder when a packet goes in, with the numbers of their packets as their times.

    So a picture can be told from the others also where the file gives it no time, or the same one again.

    Raises:
        av.FFmpegError: for a packet that cannot be decoded.
    """
    packet.pts = packet.dts = number
    return packet.decode()


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
    if is_exact and _tell_order(packets):
        numbers = sorted(range(len(packets.times)), key=packets.times.__getitem__)
    else:
        numbers = _decode_order(path, packets)
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


def _num_promised(container, stream) -> int:
    """How many packets a file says that it has.

    Only MP4 counts what it holds; other formats guess. With older PyAV, what an edit list leaves out cannot be told
    from what was cut off, so that nothing is promised.
    """
    return len(getattr(stream, "index_entries", ())) if "mp4" in container.format.name else 0


def _read_packets(container, stream) -> _Packets:
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


def _tell_order(packets: _Packets) -> bool:
    """Whether the times of the packets are the order in which decoding gives the pictures."""
    times = packets.times
    if not packets.is_plain or None in times or len(set(times)) < len(times):
        return False
    # What is stored behind the first picture and shown before it can mostly not be decoded
    if 0 not in packets.marks or min(times) < times[0]:
        return False
    if packets.first_picture.interlaced_frame:  # the two fields of a picture may lie in two packets
        return False
    # Times that start again, as in joined files, would mix the parts: a key frame is shown after all stored before it
    latest = times[0]
    for number, time in enumerate(times):
        if number in packets.marks and time < latest:
            return False
        latest = max(latest, time)
    return True


def _decode_order(path: Path, packets: _Packets) -> list[int]:
    """Numbers of the packets of all frames in the order in which decoding gives them.

    Packets from the first key frame on that cannot be decoded count as frames.
    """
    numbers, damaged = [], []
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
    place = range(len(packets.times))
    if _ascend([packets.times[number] for number in numbers]):
        place = packets.times
    for number in damaged:
        behind = (idx for idx, other in enumerate(numbers) if place[other] > place[number])
        numbers.insert(next(behind, len(numbers)), number)
    return numbers


def _ascend(times: list) -> bool:
    return None not in times and all(before <= after for before, after in pairwise(times))


def _ascending_seconds(times: list, unit: Fraction, rates: list) -> list[float]:
    """Seconds after the first frame; where times are missing or do not ascend, frames follow at equal distances."""
    if _ascend(times) and times[-1] > times[0]:
        return [float((time - times[0]) * unit) for time in times]
    return [float(idx / Fraction(rates[0] if rates else DEFAULT_RATE)) for idx in range(len(times))]


def _mean_rate(times: list[float], rates: list) -> float:
    """Mean number of frames per second; the exact one that the file names, if it is that but for rounding."""
    num_gaps = len(times) - 1
    for rate in rates:
        if num_gaps == 0 or abs(float(rate) * times[-1] - num_gaps) < 0.25:
            return float(rate)
    return num_gaps / times[-1] if num_gaps else float(DEFAULT_RATE)
