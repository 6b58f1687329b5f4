"""The sound of a video file, taken along into an MP4: packets as they are where it can hold them, else as AAC."""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

try:
    import av
except ImportError:
    av = None

COPIED_CODECS = ("aac", "alac", "flac", "mp3", "opus")  # what players find in an MP4


class Sound:
    """The first audio track of a file from one time on, for the container of another video.

    Args:
        path: the file.
        start, end: the part to take, in seconds from the first picture of the file.

    Raises:
        ValueError: if the file has no audio track that can be read; see `open_sound`.
    """

    def __init__(self, path: str | Path, start: float, end: float):
        self.input = av.open(str(path), metadata_errors="replace")
        first = sum((float((s.start_time or 0) * (s.time_base or 0)) for s in self.input.streams.video[:1]), 0.0)
        self.start, self.end = first + start, first + end
        if not self.input.streams.audio:
            self.input.close()
            raise ValueError(f"{path} has no sound")
        self.stream = self.input.streams.audio[0]
        codec, name = self.stream.codec_context, self.stream.codec_context.codec.canonical_name
        # the header of an MP4 needs these data of a codec; a transport stream has them in each packet instead
        self.is_copied = name in COPIED_CODECS and (name == "mp3" or bool(codec.extradata))
        self.output: Any = None
        self._upcoming: Iterator[Any] = iter(())
        self._next: Any = None

    def add_stream(self, container: Any) -> None:
        """Adds the audio stream to a container that nothing was written to yet."""
        if self.is_copied:
            self.output = container.add_stream_from_template(self.stream)
        else:
            self.output = container.add_stream("aac", rate=self.stream.rate)
            self.output.layout = "mono" if self.stream.channels == 1 else "stereo"
        self._upcoming = self._copied() if self.is_copied else self._encoded()
        self._next = next(self._upcoming, None)

    def packets(self, until: float) -> Iterator[Any]:
        """Packets that begin before a time, in seconds from `start`, each once."""
        while self._next is not None and (time := _time_of(self._next)) < until:
            yield self._next  # and whoever writes it may change its times
            # an MP4 takes no packet that does not come after the one before, as at gaps and after damage
            self._next = next((packet for packet in self._upcoming if _time_of(packet) > time), None)

    def _parts(self, decode: bool) -> Iterator[tuple[float, Any]]:
        """(seconds from the start, packet or decoded frame) of the part, up to damage."""
        with suppress(av.FFmpegError):
            # some way before, since formats find places by the key frames of the picture or by a guess
            with suppress(av.FFmpegError):
                self.input.seek(round(max(0.0, self.start - 1) * av.time_base))
            parts = self.input.decode(self.stream) if decode else self.input.demux(self.stream)
            for part in parts:
                if part.pts is None:
                    continue
                if _time_of(part) >= self.end:
                    return
                if _time_of(part) >= self.start:
                    yield _time_of(part) - self.start, part

    def _copied(self) -> Iterator[Any]:
        for time, packet in self._parts(decode=False):
            packet.pts = packet.dts = round(time / packet.time_base)
            packet.stream = self.output
            yield packet

    def _encoded(self) -> Iterator[Any]:
        # AAC begins with a packet of silence from before the start, for which an MP4 would shift the pictures
        return (packet for packet in self._packets_of_encoder() if packet.pts >= 0)

    def _packets_of_encoder(self) -> Iterator[Any]:
        with suppress(av.FFmpegError):
            for time, frame in self._parts(decode=True):
                # in samples, since some formats count in whole packets, which the encoder's differ from
                frame.time_base = Fraction(1, frame.sample_rate)
                frame.pts = round(time * frame.sample_rate)
                yield from self.output.encode(frame)
            yield from self.output.encode(None)

    def close(self) -> None:
        """Closes the file."""
        self.input.close()


def _time_of(part: Any) -> float:
    """When a packet or frame begins, in seconds."""
    return float(part.pts * part.time_base)


def open_sound(path: str | Path, start: float, end: float) -> Sound | None:
    """The `Sound` of a part of a file, or None where it has none that can be read."""
    try:
        return Sound(path, start, end)
    except (ValueError, OSError, av.FFmpegError):
        return None
