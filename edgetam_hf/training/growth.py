"""Weights of a larger memory from those of a smaller one: more latents, or more layers of memory attention."""

import math
import re

import torch
import torch.nn.functional as F

from ..configuration_edgetam import EdgeTamConfig
from ..memory_layers_edgetam import grid_side

LATENTS_2D = "spatial_perceiver.latents_2d"  # (rows * columns, m)
LAYERS = "memory_attention.layers"
LAYER = re.compile(rf"{re.escape(LAYERS)}\.(\d+)\.(.+)")
# The last layer in each of the three terms that a layer of memory attention adds to the frame.
BRANCH_END = re.compile(r".*(o_proj|down_proj)\.(weight|bias)")


def grow_memory(weights: dict[str, torch.Tensor], config: EdgeTamConfig) -> dict[str, torch.Tensor]:
    """Weights for a memory that is as large as a configuration says, where those given are of a smaller one.

    A finer grid of 2D latents takes the nearest ones. New layers of memory attention are copies of the last one that
    add nothing yet: with them the model does what it did.

    Raises:
        ValueError: for fewer layers than there are.
    """
    return add_layers(refine_grid(weights, config), config)


def refine_grid(weights: dict[str, torch.Tensor], config: EdgeTamConfig) -> dict[str, torch.Tensor]:
    """Weights whose grid of 2D latents has as many rows and columns as a configuration says."""
    latents = weights.get(LATENTS_2D)
    if latents is None or len(latents) == config.perceiver_resampler_num_latents_2d:
        return weights
    grid = latents.unflatten(0, (math.isqrt(len(latents)), -1)).permute(2, 0, 1)[None]
    grid = F.interpolate(grid, size=2 * (grid_side(config),), mode="nearest-exact")
    return {**weights, LATENTS_2D: grid[0].flatten(1).T}


def add_layers(weights: dict[str, torch.Tensor], config: EdgeTamConfig) -> dict[str, torch.Tensor]:
    """Weights whose memory attention has as many layers as a configuration says."""
    layers = [match for name in weights if (match := LAYER.fullmatch(name))]
    if not layers:
        return weights
    num_layers = 1 + max(int(match[1]) for match in layers)
    if config.memory_attention_num_layers < num_layers:
        raise ValueError(
            f"model.config.memory_attention_num_layers is {config.memory_attention_num_layers}, the checkpoint has "
            f"{num_layers}, which belong together: leave it out, or set model.from_scratch=true"
        )
    last = {match[2]: weights[match[0]] for match in layers if int(match[1]) == num_layers - 1}
    new = {name: torch.zeros_like(value) if BRANCH_END.fullmatch(name) else value for name, value in last.items()}
    added = range(num_layers, config.memory_attention_num_layers)
    return {**weights, **{f"{LAYERS}.{idx}.{name}": value for idx in added for name, value in new.items()}}
