"""What depends on the device: copies to a GPU and back, and work cut into pieces that fit the cache of a CPU."""

from collections.abc import Callable
from functools import lru_cache

import torch

from .folding_edgetam import is_recorded


def send(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """The tensor on a device; while it is copied to a GPU, the program goes on."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return (tensor.pin_memory() if tensor.device.type == "cpu" else tensor).to(device, non_blocking=True)


def fetch(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Copies on the CPU of tensors of one dtype, with a single wait for their device."""
    if not tensors or tensors[0].device.type == "cpu":
        return tensors
    flat = torch.cat([tensor.flatten() for tensor in tensors]).cpu()
    return [part.view(tensor.shape) for part, tensor in zip(flat.split([t.numel() for t in tensors]), tensors)]


@lru_cache
def has_amx() -> bool:
    """Whether the processor has AMX, which PyTorch's fused attention uses in bfloat16."""
    return torch.cpu._is_amx_tile_supported()


def in_pieces(
    function: Callable[..., torch.Tensor], *tensors: torch.Tensor, size: int = 1, dim: int = 0
) -> torch.Tensor:
    """`function(*tensors)`, on a CPU for a few objects (or tokens) at a time, as these do not depend on each other.

    What is computed on the way then stays in the cache, and memory does not grow with the number of objects. Tensors
    and the result have the objects in dimension `dim`; a tensor has one there that all objects share. Where operations
    are recorded, they are not cut up.
    """
    if is_recorded() or tensors[0].device.type != "cpu" or max(tensor.shape[dim] for tensor in tensors) <= size:
        return function(*tensors)
    count = max(tensor.shape[dim] for tensor in tensors)
    sizes = [-1] * dim + [count]
    pieces = zip(*(tensor.expand(*sizes, *[-1] * (tensor.dim() - dim - 1)).split(size, dim) for tensor in tensors))
    return torch.cat([function(*piece) for piece in pieces], dim)
