"""Copies of tensors to a GPU and back, with as few waits for the device as possible."""

import torch


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
