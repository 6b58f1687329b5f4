"""The one thread that computes for all sessions: in turns, a step of a call of one, then a step of the next one's."""

import threading
from collections import deque
from typing import Protocol


class Job(Protocol):
    """Work that is done in steps, of which none raises an error."""

    @property
    def is_ready(self) -> bool:
        """Whether somebody takes what the next step finds; else its turn passes."""
        ...

    def step(self) -> bool:
        """Takes a step; whether it was the last one."""
        ...


class Worker:
    """Computes jobs in a thread: those of one owner one after the other, and those of several owners in turns.

    `start` starts the thread and `stop` ends it after the step at work. Without a thread, `run_step` takes one step.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queues: dict[str, deque[Job]] = {}  # by owner, in the order of their turns
        self._begun: dict[str, Job] = {}  # the first jobs of queues that have taken a step
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="edgetam-demo", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Drops all jobs, and waits at most so many seconds for the end of the step at work."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
        self._thread.join(timeout)

    def add(self, owner: str, job: Job) -> None:
        """Puts a job behind those of its owner."""
        with self._changed:
            self._queues.setdefault(owner, deque()).append(job)
            self._changed.notify()

    def jobs(self, owner: str) -> list[Job]:
        """The jobs of an owner that are not finished, in order."""
        with self._changed:
            return list(self._queues.get(owner, ()))

    def take_back(self, owner: str, job: Job) -> bool:
        """Removes a job that has not begun; whether it did."""
        with self._changed:
            queue = self._queues.get(owner, deque())
            if job not in queue or job is self._begun.get(owner):
                return False
            queue.remove(job)
            if not queue:
                del self._queues[owner]
            return True

    def wake(self) -> None:
        """Says that a job may have become ready."""
        with self._changed:
            self._changed.notify()

    def run_step(self) -> bool:
        """Takes a step of the job whose turn it is; whether there was one."""
        with self._changed:
            owner = self._next()
        if owner is not None:
            self._take_step(owner)
        return owner is not None

    def _run(self) -> None:
        while True:
            with self._changed:
                while (owner := self._next()) is None and not self._is_stopped:
                    self._changed.wait()
                if owner is None or self._is_stopped:
                    return
            self._take_step(owner)

    def _next(self) -> str | None:
        """The owner whose turn it is; its first job counts as begun."""
        for owner, queue in self._queues.items():
            if queue[0].is_ready:
                self._begun[owner] = queue[0]
                return owner
        return None

    def _take_step(self, owner: str) -> None:
        is_done = self._begun[owner].step()
        with self._changed:
            queue = self._queues.pop(owner)  # a job that has begun is not taken back
            if is_done:
                queue.popleft()
                del self._begun[owner]
            if queue:
                self._queues[owner] = queue  # behind the others
