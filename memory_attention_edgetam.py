"""Memory attention of EdgeTAM: the current frame looks up what earlier frames have left (arXiv 2501.07256, section 3).

Shapes: O objects, F remembered frames, K latents per frame (global ones first, then those of a grid), P object
pointers, S = F * K + P * C / m memory tokens, C channels of the model, m channels of the memory, L = h * w pixels of
the image embedding. Tokens are (O, tokens, channels).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_edgetam import EdgeTamAttention
from .position_edgetam import axial_angles, rotate, rotation, sine_position_encoding


class Memories(NamedTuple):
    """What objects remember on one frame; all of them remember equally many frames and pointers.

    features: (O, F, K, m), see `EdgeTamSpatialPerceiver`.
    time_idx: integers (O, F), rows of the temporal encoding: distance - 1, and the last row for conditioning frames.
    pointers: (O, P, C).
    pointer_offsets: (O, P), distance of each pointer in time, 1 at the farthest that tracked frames have.
    """

    features: torch.Tensor
    time_idx: torch.Tensor
    pointers: torch.Tensor
    pointer_offsets: torch.Tensor


class EdgeTamRotaryAttention(EdgeTamAttention):
    """Attention whose queries and keys are rotated by their place in the picture (RoFormer, arXiv 2104.09864)."""

    def __init__(self, config, key_value_size=None):
        size = config.memory_attention_hidden_size
        inner_size = size // config.memory_attention_downsample_rate
        super().__init__(config, size, config.memory_attention_num_attention_heads, inner_size, key_value_size)
        self.dropout = config.memory_attention_rope_dropout

    def forward(self, query, key, value, query_rotation, key_rotation):
        """Attention output (O, T, C); see `rotation`."""
        query, key, value = self.project(query, key, value)
        return self.attend(rotate(query, query_rotation), rotate(key, key_rotation), value)[0]


class EdgeTamMemoryAttentionMLP(nn.Module):
    """Two linear layers."""

    def __init__(self, config):
        super().__init__()
        size, inner_size = config.memory_attention_hidden_size, config.memory_attention_mlp_hidden_size
        self.up_proj = nn.Linear(size, inner_size)
        self.down_proj = nn.Linear(inner_size, size)
        self.activation = ACT2FN[config.memory_attention_mlp_hidden_act]
        self.dropout = config.memory_attention_dropout

    def forward(self, hidden_states):
        hidden_states = F.dropout(self.activation(self.up_proj(hidden_states)), self.dropout, self.training)
        return self.down_proj(hidden_states)


class EdgeTamMemoryAttentionLayer(GradientCheckpointingLayer):
    """The frame attends to itself and to the memory."""

    def __init__(self, config):
        super().__init__()
        size = config.memory_attention_hidden_size
        self.self_attn = EdgeTamRotaryAttention(config)
        self.cross_attn_image = EdgeTamRotaryAttention(config, config.memory_encoder_output_channels)
        self.mlp = EdgeTamMemoryAttentionMLP(config)
        self.layer_norm1 = nn.LayerNorm(size)
        self.layer_norm2 = nn.LayerNorm(size)
        self.layer_norm3 = nn.LayerNorm(size)
        self.dropout = config.memory_attention_dropout

    def forward(self, frame, memory, memory_encoding, frame_rotation, memory_rotation):
        """Frame tokens (O, L, C).

        Until the first look at the memory objects share their frame: `frame` may have batch size 1, and then the
        attention to itself is computed once for all of them.
        """
        normed = self.layer_norm1(frame)
        attended = self.self_attn(normed, normed, normed, frame_rotation, frame_rotation)
        frame = frame + F.dropout(attended, self.dropout, self.training)
        normed = self.layer_norm2(frame)
        attended = self.cross_attn_image(normed, memory + memory_encoding, memory, frame_rotation, memory_rotation)
        frame = frame + F.dropout(attended, self.dropout, self.training)
        return frame + F.dropout(self.mlp(self.layer_norm3(frame)), self.dropout, self.training)


class EdgeTamMemoryAttention(nn.Module):
    """The image embedding of a frame, informed by the memories of every object."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(
            EdgeTamMemoryAttentionLayer(config) for _ in range(config.memory_attention_num_layers)
        )
        self.layer_norm = nn.LayerNorm(config.memory_attention_hidden_size)

    def forward(self, image_embedding, memories, time_encoding, pointer_encoding):
        """Image embeddings (O, C, h, w).

        Args:
            image_embedding: (1, C, h, w) of a frame that all objects share, or (O, C, h, w).
            memories: `Memories`.
            time_encoding: (O, F, m), added to the keys of each frame's memory.
            pointer_encoding: (O, P, m), added to the keys of each pointer's tokens.
        """
        height, width = image_embedding.shape[-2:]
        encoding = sine_position_encoding(
            image_embedding.shape[1], height, width, image_embedding.device, image_embedding.dtype
        )
        frame = (image_embedding + 0.1 * encoding).flatten(2).transpose(1, 2)
        memory, memory_encoding = self._join_tokens(memories, time_encoding, pointer_encoding)
        frame_rotation = rotation(self._angles(height, width, frame.device))
        memory_rotation = rotation(self._memory_angles(memories.features.shape[1], memory.shape[1], frame.device))
        for layer in self.layers:
            frame = layer(frame, memory, memory_encoding, frame_rotation, memory_rotation)
        return self.layer_norm(frame).transpose(1, 2).unflatten(2, (height, width))

    def _join_tokens(self, memories, time_encoding, pointer_encoding):
        """Memory tokens and their encodings, both (O, S, m); a pointer is cut into tokens of m channels."""
        features, pointers = memories.features, memories.pointers
        side, num_channels = grid_side(self.config), features.shape[-1]
        grid = sine_position_encoding(num_channels, side, side, features.device, features.dtype).flatten(2)
        place = F.pad(grid[0].T, (0, 0, self.config.perceiver_resampler_num_latents, 0))  # none for global latents
        encoding = (place + time_encoding[:, :, None]).flatten(1, 2)
        num_parts = pointers.shape[-1] // num_channels
        tokens = torch.cat((features.flatten(1, 2), pointers.unflatten(-1, (num_parts, -1)).flatten(1, 2)), dim=1)
        return tokens, torch.cat((encoding, pointer_encoding.repeat_interleave(num_parts, dim=1)), dim=1)

    def _angles(self, height, width, device):
        config = self.config
        head_size = config.memory_attention_hidden_size // (
            config.memory_attention_downsample_rate * config.memory_attention_num_attention_heads
        )
        return axial_angles(height, width, head_size, config.rope_parameters["rope_theta"], device)

    def _memory_angles(self, num_frames, num_tokens, device):
        """Angles of all memory tokens: those of the latents' own grid; zero for global latents and pointers."""
        side = grid_side(self.config)
        grid = self._angles(side, side, device)
        frame = F.pad(grid, (0, 0, self.config.perceiver_resampler_num_latents, 0))
        return F.pad(frame.repeat(num_frames, 1), (0, 0, 0, num_tokens - num_frames * len(frame)))


def grid_side(config):
    """Number of rows, and of columns, of the grid of 2D latents."""
    return math.isqrt(config.perceiver_resampler_num_latents_2d)
