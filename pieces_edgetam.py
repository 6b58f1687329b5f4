"""What a CPU does for a few objects or pixels at a time, so that it finds in its cache what it has just computed."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from .folding_edgetam import is_recorded, is_watched

BYTES_AT_ONCE = 8 * 2**20  # of the largest tensor that a CPU should work on, so that it stays in the cache


@lru_cache
def has_amx() -> bool:
    """Whether the processor has AMX, which PyTorch's fused attention uses in bfloat16."""
    return torch.cpu._is_amx_tile_supported()


def num_at_once(width: int, dtype: torch.dtype) -> int:
    """How many objects (or pixels) a CPU should work on at a time, if each takes so many numbers."""
    return max(1, BYTES_AT_ONCE // (width * dtype.itemsize))


def in_pieces(
    modules: Sequence[nn.Module],
    function: Callable[..., Any],
    *tensors: torch.Tensor,
    size: int = 1,
    dim: int = 0,
) -> Any:
    """`function(*tensors)`, on a CPU for a few objects (or pixels) at a time, as these do not depend on each other.

    What is computed on the way then stays in the cache, and memory does not grow with the number of objects.

    Args:
        modules: which the function calls. If one of their parts is watched, all are called once, with everything.
        function: of tensors; its result, a tensor or a named tuple of tensors, has as many objects as they have.
            What is no tensor in the tuple is the same for all objects.
        tensors: the objects are in dimension `dim`; a tensor of size one is for all of them.
        size: how many objects at a time.
    """
    count = max(tensor.shape[dim] for tensor in tensors)
    is_whole = is_recorded() or tensors[0].device.type != "cpu" or count <= size
    if is_whole or any(is_watched(part) for module in modules for part in module.modules()):
        return function(*tensors)
    pieces = ([tensor] * count if tensor.shape[dim] == 1 else tensor.split(size, dim) for tensor in tensors)
    results = [function(*piece) for piece in zip(*pieces)]
    if torch.is_tensor(results[0]):
        return torch.cat(results, dim)
    joined = (torch.cat(parts, dim) if torch.is_tensor(parts[0]) else parts[0] for parts in zip(*results))
    return type(results[0])(*joined)
