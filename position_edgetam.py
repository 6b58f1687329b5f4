"""Fixed encodings of place and time: sines, and rotations of queries and keys."""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

from .folding_edgetam import is_captured, is_recorded


def table(function: Callable) -> Callable:
    """Decorator that keeps all results of a function of numbers, devices and dtypes; do not write into them.

    Nothing is kept where operations are recorded, so that tables become a part of the graph, or simulated. CUDA graphs
    read tables where they lie, so none is dropped; they are few, as a model has maps of few sizes.
    """
    kept: dict[tuple[Any, ...], Any] = {}

    @wraps(function)
    def look_up(*args: Any) -> Any:
        if is_recorded() or type(torch.empty(0)) is not torch.Tensor:
            return function(*args)
        if args not in kept:
            if is_captured():
                return function(*args)
            with torch.inference_mode(False), torch.no_grad():  # autograd refuses tensors of inference mode
                kept[args] = function(*args)
        return kept[args]

    return look_up


def sine_position_encoding(
    num_channels: int,
    height: int,
    width: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Sine position encoding (1, C, height, width): channels of y, then of x; sine and cosine alternate.

    Row y of 1..height has sin and cos of 2π y / height / 10000^(2 i / C), for even i below C / 2; columns likewise.
    """

    def encode(length: int) -> torch.Tensor:
        position = torch.arange(1, length + 1, device=device, dtype=torch.float32) / (length + 1e-6) * 2 * math.pi
        exponent = torch.arange(0, num_channels // 2, 2, device=device, dtype=torch.float32) * 2 / num_channels
        angle = position[:, None] / 10000**exponent
        return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1).T.to(dtype)

    encoding_y = encode(height)[:, :, None].expand(-1, -1, width)
    encoding_x = encode(width)[:, None, :].expand(-1, height, -1)
    return torch.cat((encoding_y, encoding_x))[None]


@table
def sine_place_encoding(
    num_channels: int, height: int, width: int, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Sine position encoding (height * width, C) of the tokens of a grid, row by row."""
    return sine_position_encoding(num_channels, height, width, device, dtype)[0].flatten(1).T.contiguous()


@table
def pixel_centres(height: int, width: int, device: torch.device) -> torch.Tensor:
    """Centres (height, width, 2) of the pixels of a map, as (x, y) between its corners (0, 0) and (1, 1)."""
    y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
    x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def sine_time_encoding(times: torch.Tensor, num_channels: int) -> torch.Tensor:
    """Sine encoding (…, C) in float32 of times (…): all sines, then all cosines, each frequency twice."""
    channel = torch.arange(num_channels // 2, device=times.device, dtype=torch.float32)
    angle = times.float()[..., None] / 10000 ** (2 * (channel // 2) / (num_channels // 2))
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


def axial_angles(
    height: int, width: int, num_channels: int, theta: float, device: torch.device | None = None
) -> torch.Tensor:
    """Angles (height * width, num_channels / 2) by which a grid turns channel pairs: first by x, then by y.

    Each half has the frequencies theta^(-i / (C / 2)), for even i below C / 2.
    """
    exponent = torch.arange(0, num_channels // 2, 2, device=device, dtype=torch.float32) / (num_channels // 2)
    frequency = theta**-exponent
    y = torch.arange(height, device=device, dtype=torch.float32)[:, None, None].expand(-1, width, 1)
    x = torch.arange(width, device=device, dtype=torch.float32)[None, :, None].expand(height, -1, 1)
    return torch.cat((x * frequency, y * frequency), dim=-1).flatten(0, 1)


@table
def grid_rotation(height: int, width: int, num_channels: int, theta: float, device: torch.device) -> torch.Tensor:
    """The rotation of the tokens of a grid: (height * width, C / 2, 2), cosine and sine of every angle.

    See `axial_angles` for the angles, and `rotate`, which applies them.
    """
    angles = axial_angles(height, width, num_channels, theta, device)
    return torch.stack((angles.cos(), angles.sin()), dim=-1)


def rotate(states: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """States (…, T, C) whose pairs of neighbouring channels are turned, in float32; see `grid_rotation`.

    A pair (a, b) is turned by its angle φ to (a cos φ - b sin φ, b cos φ + a sin φ), the product of the complex numbers
    a + b i and cos φ + i sin φ. One product of complex tensors is by far the fastest way, but compilers and exporters
    want real ones.
    """
    pairs = states.float().unflatten(-1, (-1, 2))
    if is_recorded():
        (a, b), (cos, sin) = pairs.unbind(-1), rotation.unbind(-1)
        turned = torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(rotation))
    return turned.flatten(-2).to(states.dtype)
