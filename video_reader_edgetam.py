"""Frames of an indexed video file, decoded when they are asked for.

Packets are numbered in the order of the file; see `video_index_edgetam`.
"""

import math
import threading
from bisect import bisect_right
from collections import deque
from contextlib import suppress
from pathlib import Path

import torch

from .video_index_edgetam import VideoIndex, av, decode_numbered, mark_of, open_container
from .video_picture_edgetam import to_frame

INTRA = (0, 1)  # PyAV's types of pictures that are built on no other: unknown, as where all are so, and I


class VideoReader:
    """Reads frames of a video file whose pictures are whole; may be asked by several threads, in one process.

    Reading in order decodes every picture once. Another one is reached from the key frame before it.
    """

    def __init__(self, path: Path, index: VideoIndex):
        self.path, self.index = path, index
        self._frame_idx = {}  # by number of the packet
        for idx, number in enumerate(index.numbers):
            self._frame_idx.setdefault(number, idx)
        self._keys = list(index.keys)  # without those that turn out to be none
        self._lock = threading.Lock()
        self._container = self._stream = None
        # The picture that was asked for last, with its index, and those to come
        self._current = self._upcoming = None
        self._current_idx = -1

    def read(self, idx: int) -> torch.Tensor | None:
        """Frame (3, H, W) of an index, or None if the file is damaged there."""
        with self._lock:  # for the conversion, too: a picture that two threads convert at a time ends the process
            picture = self._picture_of(idx)
            return None if picture is None else to_frame(picture, self.index.aspect)

    def _picture_of(self, idx: int):
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

    def _pictures_from(self, key: int):
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

    def _packets_from(self, key: int):
        """(number, packet) from a key frame on, or from an earlier one, up to where the file cannot be read."""
        if self._container is None:
            self._container, self._stream = open_container(self.path)
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

    def _numbered(self, number: int | None):
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
        self.awaited = {}  # like `frame_idx`, of the packets whose pictures are in the decoder
        self.held = deque()  # (index of the frame, picture)
        self.first_damaged = math.inf  # number of the packet
        self.last_number, self.last_idx = None, -1  # of the picture that came out last

    @property
    def is_damaged(self) -> bool:
        """Whether no more pictures will be passed on but those stored before damage."""
        return self.first_damaged < math.inf

    def expect(self, number: int):
        """Says that a packet goes into the decoder."""
        if self.frame_idx.get(number, -1) >= self.first_idx:
            self.awaited[number] = self.frame_idx[number]

    def give_up(self, number: int):
        """Says that no whole picture comes of a packet, if one was to be expected."""
        if self.awaited.pop(number, None) is not None:
            self.first_damaged = min(self.first_damaged, number)

    def take(self, pictures: list):
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

    def end(self):
        """(index of the frame, picture) of those that can be passed on when no more will come out."""
        self.has_false_key |= self.key > 0 and self.last_number is None and not self.is_damaged
        for number in list(self.awaited):
            self._miss(number)
        yield from self._release()

    def _miss(self, number: int):
        """Says that a picture has not come out in its turn; before the first one it may have lacked what it needs."""
        if self.last_number is None:
            del self.awaited[number]
        else:
            self.give_up(number)

    def _release(self):
        while self.held and min(self.awaited, default=math.inf) > self.held[0][1].pts:
            idx, picture = self.held.popleft()
            if picture.pts < self.first_damaged:
                yield idx, picture
