"""Parameters of a module laid out in one tensor per optimizer group, for cheap averaging, stepping and clipping."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import nn

DECAY = 0.05


class FlatParameters:
    """Flat parameters, gradients and averages of a module; its own parameters become views of them.

    Args:
        module: the module to train.
        scale_of: learning rate of a parameter, by name, relative to the scheduled one.
    """

    def __init__(self, module: nn.Module, scale_of: Callable[[str], float]):
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in module.named_parameters():
            decay = DECAY if parameter.dim() > 1 and "token" not in name and "embed" not in name else 0.0
            groups.setdefault((scale_of(name), decay), []).append(parameter)
        total = sum(parameter.numel() for parameter in module.parameters())
        self.values = torch.empty(total)
        self.gradients = torch.zeros(total + 1)  # the last one carries the clock, see `average_gradients`
        self.averages = torch.empty(total)
        self.scales, flat_groups, start = [], [], 0
        for (scale, decay), parameters in groups.items():
            first = start
            for parameter in parameters:
                start = self._bind(parameter, start)
            flat = nn.Parameter(self.values[first:start])
            flat.grad = self.gradients[first:start]
            flat_groups.append({"params": [flat], "weight_decay": decay})
            self.scales.append(scale)
        self.optimizer = torch.optim.AdamW(flat_groups, lr=0.0, betas=(0.9, 0.99), fused=True)
        self.averages.copy_(self.values)

    def _bind(self, parameter: nn.Parameter, start: int) -> int:
        end = start + parameter.numel()
        # the strides of channels-last weights are kept, so that no convolution has to reorder them
        strides = parameter.stride()
        value = torch.as_strided(self.values, parameter.shape, strides, start)
        value.copy_(parameter.data)
        parameter.data = value
        parameter.grad = torch.as_strided(self.gradients, parameter.shape, strides, start)
        return end

    def average_gradients(self, seconds: float) -> float:
        """Averages gradients over all processes; returns the average of their clocks, so that all of them agree."""
        if not dist.is_initialized():
            return seconds
        self.gradients[-1] = seconds
        dist.all_reduce(self.gradients)
        self.gradients /= dist.get_world_size()
        return float(self.gradients[-1])

    def step(self, learning_rate: float, average_decay: float, clip: float = 1.0) -> float:
        """Steps the optimizer and the moving average, clears the gradients; returns the gradients' norm."""
        gradients = self.gradients[:-1]
        norm = float(gradients.norm())
        if not norm < float("inf"):
            gradients.zero_()
            return norm
        gradients *= min(1.0, clip / (norm + 1e-6))
        for group, scale in zip(self.optimizer.param_groups, self.scales, strict=True):
            group["lr"] = learning_rate * scale
        self.optimizer.step()
        self.averages.lerp_(self.values, 1 - average_decay)
        gradients.zero_()
        return norm

    def state_dict(self) -> dict:
        """Everything a resumed run needs."""
        return {"values": self.values, "averages": self.averages, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Continues from `state_dict`."""
        self.values.copy_(state["values"])
        self.averages.copy_(state["averages"])
        self.optimizer.load_state_dict(state["optimizer"])
