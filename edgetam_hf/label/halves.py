"""What keeps an item that fails from costing the others of its batch."""

from collections.abc import Callable
from typing import Any

import torch

from .poison import is_out_of_memory, poison_of

BROKEN_DEVICE = "CUDA error"  # after which nothing can be computed there any more


def label_in_halves(label_batch: Callable[[list[Any]], list[Any]], prepared: list[Any]) -> list[Any]:
    """What `label_batch` finds in each of the prepared items, or the `PoisonError` of those that fail alone.

    After an error, as where memory runs out, each half of the batch is tried by itself, so that only the items that
    fail alone are lost.

    Args:
        label_batch: from a list of items to a list of what was found in each.
        prepared: the items.

    Raises:
        RuntimeError: of a device that is broken, which says nothing of the items.
    """
    if not prepared:
        return []
    try:
        return label_batch(prepared)
    except Exception as error:  # whatever an item leads to
        if BROKEN_DEVICE in str(error) and not is_out_of_memory(error):
            raise
        if len(prepared) == 1:
            return [poison_of(error)]
    # outside of `except`, for the error holds all tensors of the batch
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(prepared) // 2
    return [*label_in_halves(label_batch, prepared[:middle]), *label_in_halves(label_batch, prepared[middle:])]
