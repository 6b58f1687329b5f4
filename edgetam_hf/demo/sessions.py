"""Sessions of pages: what each has open, the calls that it waits for, and when it is forgotten."""

import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

from edgetam_cli.endings import explain

from .asked import read_integer
from .calls import Call, Channel, Nowhere
from .media import Picture, open_media
from .models import Models
from .pictures import PictureWork
from .tracking import LiveWork, VideoWork
from .worker import Worker

MOST_WAITING_CALLS = 256  # of a session
IDLE_SECONDS = 2 * 3600.0  # after which a session is forgotten that a page is connected to,
LOST_SECONDS = 15 * 60.0  # one that none is connected to,
CROWDED_SECONDS = 60.0  # and such a one where somebody waits for a place
LARGEST_LIVE_SIDE = 4096
NOTHING_OPEN = "nothing is open: open a picture or a video first"
NO_MEMORY = "the model of this server is for pictures, it has no memory for video: start it with a --model for video"
FAULT = "something went wrong in the server, whose log says what; try again, or open the file anew"

Work: TypeAlias = PictureWork | VideoWork | LiveWork
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What a server takes: sessions at a time, bytes of an upload, and frames of a video."""

    sessions: int = 8
    upload: int = 4 * 10**9
    frames: int = 1_000_000


class FullError(Exception):
    """There is no place for another session."""


class Session:
    """A page's session: one picture, video or camera at a time, and the calls on it.

    Args:
        session_id: which nobody can guess.
        models, worker: of the server.
        limits: of the server.
        folder: of its own, for uploads.
        now: seconds of a clock.
    """

    def __init__(
        self,
        session_id: str,
        models: Models,
        worker: Worker,
        limits: Limits,
        folder: Path,
        now: Callable[[], float],
    ):
        self.session_id, self.folder = session_id, folder
        self._models, self._worker, self._limits, self._now = models, worker, limits, now
        self._lock = threading.Lock()  # of what is open
        self._names: dict[str, str] = {}  # of files, by their paths
        self._upload: Path | None = None
        self.work: Work | None = None
        self.channel: Channel | None = None
        self.used()

    def wake(self) -> None:
        """Says that a channel has room again."""
        self._worker.wake()

    def new_path(self, suffix: str) -> Path:
        """Where a file of that suffix can be written, which is gone when the session is."""
        return self.folder / (secrets.token_hex(8) + suffix)

    def used(self) -> None:
        """Says that somebody uses it."""
        self.last_used = self._now()

    @property
    def num_idle_seconds(self) -> float:
        """For how long nobody has used it; 0 while it works."""
        return 0.0 if self._worker.jobs(self.session_id) else self._now() - self.last_used

    def open(self, path: Path, name: str) -> dict[str, Any]:
        """`Media` of a file, which is open from now on in place of what was; see `open_media` for errors."""
        self._names[str(path)] = name
        media = open_media(path, name, self._limits.frames)
        if isinstance(media, Picture):
            work: Work = PictureWork(self._models, media)
        else:
            self._check_memory()
            work = VideoWork(self._models, media)
        self._replace(work)
        if isinstance(work, PictureWork):  # so that the first click is answered at once
            self._add(Call(0, work.encode, ({}, b""), Nowhere(), self.sentence_of))
        return work.info.as_json()

    def keep_upload(self, path: Path | None) -> None:
        """Notes the file that was sent and is open now, and removes the one before."""
        before, self._upload = self._upload, path
        if before is not None:
            with suppress(OSError):  # some systems keep a file that is read
                before.unlink()

    def start_live(self, params: dict[str, Any]) -> dict[str, Any]:
        """`Media` of a camera, in place of what was open."""
        self._check_memory()
        height, width = (read_integer(params, side, 1, LARGEST_LIVE_SIDE) for side in ("height", "width"))
        work = LiveWork(self._models, (height, width))
        self._replace(work)
        return work.info.as_json()

    def call(self, call_id: int, method: str, message: tuple[dict[str, Any], bytes], channel: Channel) -> None:
        """Begins a call, whose answers go to the channel; raises a ValueError for one that cannot be."""
        work = self.work
        if work is None:
            raise ValueError(NOTHING_OPEN)
        answer = work.answers.get(method)
        if answer is None:
            raise ValueError(f"{method[:50]!r} cannot be asked of a {work.info.kind}")
        if len(self._worker.jobs(self.session_id)) >= MOST_WAITING_CALLS:
            raise ValueError("too many calls are waiting for an answer already")
        self._add(Call(call_id, answer, message, channel, self.sentence_of))

    def cancel(self, call_id: int) -> None:
        """Ends a call: one that waits at once, and one at work after its step; others are left alone."""
        for call in self._calls():
            if call.call_id == call_id:
                self._end(call)

    def attach(self, channel: Channel) -> None:
        """Takes the channel of a page for that of the session, in place of an earlier one."""
        self.channel = channel
        self.used()

    def detach(self, channel: Channel) -> None:
        """Ends the calls of a channel that is gone; what is open, and what was found, stays."""
        self.used()
        if self.channel is channel:
            self.channel = None
        for call in self._calls():
            if call.channel is channel:
                self._end(call)

    def close(self) -> None:
        """Forgets everything."""
        self._replace(None)
        shutil.rmtree(self.folder, ignore_errors=True)

    def sentence_of(self, error: BaseException) -> str:
        """What the page is told of an error; the log has the traceback of one that is not of users' making."""
        sentence = explain(error) if isinstance(error, Exception) else None
        if sentence is None:
            log.error("an error in a session", exc_info=error)
            return FAULT
        for path, name in self._names.items():
            sentence = sentence.replace(path, name)
        return sentence

    def _check_memory(self) -> None:
        if self._models.video is None:
            raise ValueError(NO_MEMORY)

    def _add(self, call: Call) -> None:
        self.used()
        self._worker.add(self.session_id, call)

    def _calls(self) -> list[Call]:
        return cast("list[Call]", self._worker.jobs(self.session_id))

    def _end(self, call: Call) -> None:
        call.is_cancelled = True
        if self._worker.take_back(self.session_id, call):
            call.finish(None)
        self._worker.wake()

    def _replace(self, work: Work | None) -> None:
        """Opens something else, and ends the calls on what was open."""
        with self._lock:
            self.work = work
            for call in self._calls():
                self._end(call)


class Sessions:
    """All sessions of a server.

    Args:
        models, worker, limits: of the server.
        folder: for uploads; each session has a folder of its own in it.
        file: what `open_file` opens, if anything.
        now: seconds of a clock.
    """

    def __init__(
        self,
        models: Models,
        worker: Worker,
        limits: Limits,
        folder: Path,
        file: Path | None = None,
        now: Callable[[], float] = time.monotonic,
    ):
        self.models, self.worker, self.limits, self.file = models, worker, limits, file
        self._folder, self._now = folder, now
        self._sessions: dict[str, Session] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._sessions)

    def create(self) -> Session:
        """A new session; raises a `FullError` where there are as many as the server takes, and all are in use."""
        with self._lock:
            if len(self) >= self.limits.sessions:
                self._free(CROWDED_SECONDS, IDLE_SECONDS)
            if len(self) >= self.limits.sessions:
                raise FullError(
                    f"all {self.limits.sessions} places of this server are taken: close another page of it, or try "
                    "later"
                )
            session_id = secrets.token_urlsafe(24)
            folder = self._folder / secrets.token_hex(8)
            folder.mkdir()
            session = Session(session_id, self.models, self.worker, self.limits, folder, self._now)
            self._sessions[session_id] = session
            return session

    def get(self, session_id: str) -> Session | None:
        """The session of that id, which counts as used now."""
        session = self._sessions.get(session_id)
        if session is not None:
            session.used()
        return session

    def close(self, session_id: str) -> None:
        """Forgets a session."""
        session = self._sessions.pop(session_id, None)
        if session is not None:
            session.close()

    def close_all(self) -> None:
        """Forgets all sessions."""
        for session_id in list(self._sessions):
            self.close(session_id)

    def free_idle(self) -> None:
        """Forgets the sessions that nobody has used for long."""
        self._free(LOST_SECONDS, IDLE_SECONDS)

    def _free(self, most_lost: float, most_idle: float) -> None:
        for session_id, session in list(self._sessions.items()):
            if session.num_idle_seconds > (most_lost if session.channel is None else most_idle):
                self.close(session_id)
