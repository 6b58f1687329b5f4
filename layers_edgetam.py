"""Small layers that more than one part of EdgeTAM uses."""

import torch
import torch.nn.functional as F
from torch import nn


class EdgeTamLayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of every pixel of a map (B, C, height, width)."""

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        return super().forward(feature_map.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class EdgeTamFeedForward(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, input_size: int, hidden_size: int, output_size: int, num_layers: int):
        super().__init__()
        self.proj_in = nn.Linear(input_size, hidden_size)
        self.layers = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in range(num_layers - 2))
        self.proj_out = nn.Linear(hidden_size, output_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = F.relu(self.proj_in(hidden_states))
        for layer in self.layers:
            hidden_states = F.relu(layer(hidden_states))
        return self.proj_out(hidden_states)
