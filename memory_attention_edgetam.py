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
from .position_edgetam import grid_rotation, rotate, sine_place_encoding

QUERIES_AT_ONCE = 512  # whose attention weights fit the cache of a processor


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

    def forward(self, states, rotation):
        """Attention output (O, L, C) of a frame to itself; see `grid_rotation`."""
        query, key, value = self.project(states, states, states)
        return self.attend(rotate(query, rotation), rotate(key, rotation), value)[0]


class EdgeTamMemoryLookup(EdgeTamRotaryAttention):
    """Attention of a frame to the memory."""

    def forward(self, states, keys, memory, rotation, latent_rotation):
        """Attention output (O, L, C).

        Args:
            states: (O, L, C), or (1, L, C) of a frame that all objects share.
            keys, memory: (O, S, m), both not projected yet.
            rotation: see `grid_rotation`.
            latent_rotation: the same for the first tokens of the memory; the others have no place.
        """
        query, key = self._split(self.q_proj(states)), self._split(self.k_proj(keys))
        latents, others = key.tensor_split((len(latent_rotation[0]),), dim=2)
        query, key = rotate(query, rotation), torch.cat((rotate(latents, latent_rotation), others), dim=2)
        # half precision has fused kernels, which want values as wide as keys
        if query.dtype == torch.float32 and memory.shape[-1] < query.shape[-1]:
            return self.o_proj(self._average_unprojected(query.expand(len(key), -1, -1, -1), key, memory))
        return self.attend(query, key, self._split(self.v_proj(memory)))[0]

    def _average_unprojected(self, query, key, memory):
        """Heads of the output side by side (O, L, C), made by projecting averages of memories, not all memories.

        Weights of a query sum to one, so the bias comes out right (with dropout of weights, on average).
        """
        value = memory[:, None].expand(-1, self.num_heads, -1, -1)
        size = QUERIES_AT_ONCE if query.device.type == "cpu" else query.shape[2]
        average = torch.cat([self.average(queries, key, value)[0] for queries in query.split(size, dim=2)], dim=1)
        # (O, L, heads, heads, C): a head takes its own part of the projection
        projected = self.v_proj(average).unflatten(-1, (self.num_heads, -1))
        return projected.diagonal(dim1=2, dim2=3).transpose(2, 3).flatten(2)


class EdgeTamMemoryAttentionMLP(nn.Module):
    """Two linear layers."""

    def __init__(self, config):
        super().__init__()
        size, inner_size = config.memory_attention_hidden_size, config.memory_attention_mlp_hidden_size
        self.up_proj = nn.Linear(size, inner_size)
        self.down_proj = nn.Linear(inner_size, size)
        self.activation = ACT2FN[config.memory_attention_mlp_hidden_act]
        if isinstance(self.activation, nn.ReLU):
            self.activation.inplace = True  # what it acts on is the largest tensor of a frame
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
        self.cross_attn_image = EdgeTamMemoryLookup(config, config.memory_encoder_output_channels)
        self.mlp = EdgeTamMemoryAttentionMLP(config)
        self.layer_norm1 = nn.LayerNorm(size)
        self.layer_norm2 = nn.LayerNorm(size)
        self.layer_norm3 = nn.LayerNorm(size)
        self.dropout = config.memory_attention_dropout

    def forward(self, frame, keys, memory, rotation, latent_rotation):
        """Frame tokens (O, L, C); see `EdgeTamMemoryLookup`.

        Until the first look at the memory objects share their frame: `frame` may have batch size 1, and then the
        attention to itself is computed once for all of them.
        """
        attended = self.self_attn(self.layer_norm1(frame), rotation)
        frame = frame + F.dropout(attended, self.dropout, self.training)
        attended = self.cross_attn_image(self.layer_norm2(frame), keys, memory, rotation, latent_rotation)
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
        (height, width), side, device = image_embedding.shape[-2:], grid_side(self.config), image_embedding.device
        encoding = sine_place_encoding(image_embedding.shape[1], height, width, device, image_embedding.dtype)
        frame = torch.add(image_embedding.flatten(2).transpose(1, 2), encoding, alpha=0.1)
        keys, memory = self._join_tokens(memories, time_encoding, pointer_encoding)
        rotation = self._rotation(height, width, device)
        latent_rotation = [
            factors.repeat(memories.features.shape[1], 1) for factors in self._rotation(side, side, device)
        ]
        for layer in self.layers:
            frame = layer(frame, keys, memory, rotation, latent_rotation)
        return self.layer_norm(frame).transpose(1, 2).unflatten(2, (height, width))

    def _join_tokens(self, memories, time_encoding, pointer_encoding):
        """Keys and memory, both (O, S, m): latents of the grid, global ones, pointers cut into tokens of m channels."""
        features, pointers = memories.features, memories.pointers
        side, num_channels = grid_side(self.config), features.shape[-1]
        global_latents, latents = features.split((self.config.perceiver_resampler_num_latents, side**2), dim=2)
        pointers = pointers.unflatten(-1, (-1, num_channels))
        place = sine_place_encoding(num_channels, side, side, features.device, features.dtype)
        time = time_encoding[:, :, None]
        memory = (latents, global_latents, pointers)
        keys = (latents + place + time, global_latents + time, pointers + pointer_encoding[:, :, None])
        return tuple(torch.cat([part.flatten(1, 2) for part in parts], dim=1) for parts in (keys, memory))

    def _rotation(self, height, width, device):
        config = self.config
        head_size = config.memory_attention_hidden_size // (
            config.memory_attention_downsample_rate * config.memory_attention_num_attention_heads
        )
        return grid_rotation(height, width, head_size, config.rope_parameters["rope_theta"], device)


def grid_side(config):
    """Number of rows, and of columns, of the grid of 2D latents."""
    return math.isqrt(config.perceiver_resampler_num_latents_2d)
