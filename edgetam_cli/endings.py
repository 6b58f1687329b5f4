"""How a command ends: its exit code, and one line on stderr for what is not a fault of its own."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and what asks a service to stop
USER_ERRORS = (ValueError, TypeError, OSError, ImportError, FloatingPointError)


class Stopped(KeyboardInterrupt):
    """A signal that asks to stop: what is half done goes, and what is finished stays."""


def end(name: str, work: Callable[[], int | None]) -> int:
    """Exit code of `work()`, which returns one or None for 0; its errors are one line that begins with `name`.

    128 + the number of the signal for a run that was stopped, or whose output nobody reads any more.
    """
    try:
        with _stopped_by_signals():
            try:
                return work() or 0
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
    except (KeyboardInterrupt, InterruptedError) as error:
        _say(f"{name}: {first_line(error) if isinstance(error, InterruptedError) else 'stopped'}")
        number = next((cause.args[0] for cause in _causes(error) if isinstance(cause, Stopped)), signal.SIGINT)
        return 128 + number
    except BrokenPipeError:  # the reader has what it wanted, as in `| head`
        _drop_output()
        return 128 + 13
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        _drop_output()
        _say(f"{name}: error: {line}")
        return 1


def explain(error: Exception) -> str | None:
    """One line about an error that the user, the data or the machine caused; None for a fault of the program."""
    kind = type(error).__name__
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or "can't allocate memory" in str(error):
        return "there is not enough memory: take smaller pictures or batches, or a smaller image size"
    if isinstance(error, USER_ERRORS) or kind == "SafetensorError":
        return first_line(error)
    return None


@contextmanager
def loading_libraries() -> Iterator[None]:
    """Within it a signal ends the process at once: libraries that are being imported would make other errors of it."""

    def leave(number: int, frame: object) -> None:
        _say("edgetam: stopped")
        os._exit(128 + number)

    with _handled_by(leave):
        yield


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise Stopped(number)

    with _handled_by(stop):
        yield


@contextmanager
def _handled_by(function: Callable[[int, object], None]) -> Iterator[None]:
    """Within it a function handles the signals; only the main thread can do that, and ignored signals stay ignored."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS} if is_main else {}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, function)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the error's class where the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _say(line: str) -> None:
    with suppress(OSError, ValueError):  # nobody reads it
        print(line, file=sys.stderr, flush=True)


def _drop_output() -> None:
    """Leaves nothing in the buffer of stdout that Python would fail to write when it ends."""
    with suppress(OSError, ValueError, AttributeError):
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
