"""Importing without searches for garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Within it Python does not search for garbage, as it does again and again among all that imports make, and keep.

    Afterwards it does so as before. What has been made by then waits for the next full search, also what was frozen.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # Together these two move all objects to the oldest generation unsearched; young ones would be searched thrice.
        gc.freeze()
        gc.unfreeze()
        if was_enabled:
            gc.enable()
