"""Calls of a page, from their parameters to their answers, in steps.

A function that answers a call returns the result, a `FoundFrame` or JSON, or is a generator: it yields what is found
meanwhile, a `FoundFrame` or `Progress`, and returns the result. A generator is left after each step, so that others
have their turns.
"""

import json
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, Protocol, TypeAlias

from .messages import FoundFrame, pack_frame


class Progress(NamedTuple):
    """How much of a call is done."""

    done: int
    total: int


class Asked(NamedTuple):
    """A call: its parameters as they came, its payload, and whether it was cancelled since."""

    params: dict[str, Any]
    payload: bytes
    is_cancelled: Callable[[], bool]


Result: TypeAlias = FoundFrame | dict[str, Any] | None
Steps: TypeAlias = Generator[FoundFrame | Progress, None, Result]
Answer: TypeAlias = Callable[[Asked], Result | Steps]


class Channel(Protocol):
    """Where answers go."""

    @property
    def has_room(self) -> bool:
        """Whether most of what was sent before has arrived."""
        ...

    def send(self, message: str | bytes) -> None:
        """Sends a message without waiting; a channel that is closed drops it."""
        ...


class Nowhere:
    """A channel that drops everything, for work that nobody waits for."""

    has_room = True

    def send(self, message: str | bytes) -> None:
        """Drops a message."""


class Call:
    """A call of the page, done step by step, whose answers go to a channel; see `Job`.

    Args:
        call_id: by which the page knows its answers.
        answer: the function that answers it.
        params, payload: what came with it.
        channel: where answers go.
        sentence_of: what the page is told of an error.
    """

    def __init__(
        self,
        call_id: int,
        answer: Answer,
        message: tuple[dict[str, Any], bytes],
        channel: Channel,
        sentence_of: Callable[[Exception], str],
    ):
        self.call_id, self.channel, self.is_cancelled = call_id, channel, False
        self._answer, self._asked = answer, Asked(*message, lambda: self.is_cancelled)
        self._sentence_of = sentence_of
        self._steps: Steps | None = None

    @property
    def is_ready(self) -> bool:
        """Whether its page takes what it is sent."""
        return self.is_cancelled or self.channel.has_room

    def step(self) -> bool:
        """Computes a step, and sends what it finds; whether it was the last one."""
        try:
            return self._step()
        except Exception as error:
            self._say("error", self._sentence_of(error))
            return True

    def _step(self) -> bool:
        if self._steps is None:
            answer = self._answer(self._asked)
            if not isinstance(answer, Generator):
                self.finish(answer)
                return True
            self._steps = answer
        try:
            found = next(self._steps)
        except StopIteration as end:
            self.finish(end.value)
            return True
        if isinstance(found, Progress):
            self._say("progress", list(found))
        else:
            self.channel.send(pack_frame(found, self.call_id, is_result=False))
        return False

    def finish(self, result: Result) -> None:
        """Sends the result."""
        if isinstance(result, FoundFrame):
            self.channel.send(pack_frame(result, self.call_id, is_result=True))
        else:
            self._say("result", result)

    def _say(self, name: str, value: Any) -> None:
        self.channel.send(json.dumps({"id": self.call_id, name: value}))
