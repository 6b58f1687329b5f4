"""Tensors on their way to a GPU and back, for which the program waits no more often than it must."""

import torch


def send(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """The tensor on the device of the model; a GPU gets it when it is ready for it, and the program goes on."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return (tensor.pin_memory() if tensor.device.type == "cpu" else tensor).to(device, non_blocking=True)


def fetch(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Copies on the CPU of tensors of one dtype, for which the device is waited for once."""
    if not tensors or tensors[0].device.type == "cpu":
        return tensors
    flat = torch.cat([tensor.flatten() for tensor in tensors]).cpu()
    return [part.view(tensor.shape) for part, tensor in zip(flat.split([t.numel() for t in tensors]), tensors)]
