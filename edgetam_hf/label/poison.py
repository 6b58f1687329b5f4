"""Errors that an item leads to, as the reason why it cannot be labelled."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from edgetam_cli.endings import first_line

from .labeller import PoisonError

OUT_OF_MEMORY = ("out of memory", "allocate memory", "ALLOC_FAILED", "not enough memory")  # of devices and runtimes


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory has run out, on the CPU or a GPU."""
    is_named = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
    return is_named or any(text in str(error) for text in OUT_OF_MEMORY)


def poison_of(error: Exception) -> PoisonError:
    """The reason why an item cannot be labelled, one line, from what it led to."""
    if isinstance(error, PoisonError):
        return PoisonError(str(error))
    if is_out_of_memory(error):
        return PoisonError("it does not fit into memory, even alone: try a smaller image size, or another dtype")
    if isinstance(error, ValueError | TypeError | OSError | ImportError):
        return PoisonError(first_line(error))
    return PoisonError(f"{type(error).__name__}: {first_line(error)}")


@contextmanager
def poison_of_errors() -> Iterator[None]:
    """Within it, whatever error an item leads to becomes its `PoisonError`."""
    try:
        yield
    except Exception as error:  # files of others lead libraries into errors of every kind
        raise poison_of(error) from error
