"""Memory encoder and 2D spatial perceiver of EdgeTAM: what a frame and its mask leave in memory (arXiv 2501.07256).

Shapes: O objects, (H, W) the model input, (h, w) = (H / 16, W / 16), C channels of the model, m channels of the memory,
K latents: the global ones, then G = g * g of a grid, row by row.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_edgetam import EdgeTamAttention
from .memory_attention_edgetam import grid_side
from .position_edgetam import sine_place_encoding
from .prompt_encoder_edgetam import EdgeTamLayerNorm2d


class EdgeTamMaskDownsamplerLayer(nn.Module):
    """Strided convolution, normalisation, activation."""

    def __init__(self, config, in_channels, out_channels):
        super().__init__()
        kernel_size, stride = config.mask_downsampler_kernel_size, config.mask_downsampler_stride
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, config.mask_downsampler_padding)
        self.layer_norm = EdgeTamLayerNorm2d(out_channels, eps=1e-6)
        self.activation = ACT2FN[config.mask_downsampler_hidden_act]

    def forward(self, masks):
        return self.activation(self.layer_norm(self.conv(masks)))


class EdgeTamMaskDownsampler(nn.Module):
    """Masks (O, C, h, w) from (O, 1, H, W); what a layer takes in area it gives in channels."""

    def __init__(self, config):
        super().__init__()
        stride = config.mask_downsampler_stride
        self.layers, channels, total_stride = nn.ModuleList(), 1, 1
        while total_stride < config.mask_downsampler_total_stride:
            self.layers.append(EdgeTamMaskDownsamplerLayer(config, channels, channels * stride**2))
            channels, total_stride = channels * stride**2, total_stride * stride
        self.final_conv = nn.Conv2d(channels, config.mask_downsampler_embed_dim, kernel_size=1)

    def forward(self, masks):
        for layer in self.layers:
            masks = layer(masks)
        return self.final_conv(masks)


class EdgeTamMemoryFuserBlock(GradientCheckpointingLayer):
    """ConvNeXt block (arXiv 2201.03545)."""

    def __init__(self, config):
        super().__init__()
        size, inner_size = config.memory_fuser_embed_dim, config.memory_fuser_intermediate_dim
        kernel_size, padding = config.memory_fuser_kernel_size, config.memory_fuser_padding
        self.depthwise_conv = nn.Conv2d(size, size, kernel_size, padding=padding, groups=size)
        self.layer_norm = nn.LayerNorm(size, eps=1e-6)
        self.activation = ACT2FN[config.memory_fuser_hidden_act]
        self.pointwise_conv1 = nn.Linear(size, inner_size)
        self.pointwise_conv2 = nn.Linear(inner_size, size)
        self.scale = nn.Parameter(torch.full((size,), config.memory_fuser_layer_scale_init_value))

    def forward(self, hidden_states):
        update = self.layer_norm(self.depthwise_conv(hidden_states).permute(0, 2, 3, 1))
        update = self.pointwise_conv2(self.activation(self.pointwise_conv1(update)))
        return torch.addcmul(hidden_states, update.permute(0, 3, 1, 2), self.scale[:, None, None])


class EdgeTamMemoryFuser(nn.Module):
    """A stack of blocks."""

    def __init__(self, config):
        super().__init__()
        self.layers = nn.ModuleList(EdgeTamMemoryFuserBlock(config) for _ in range(config.memory_fuser_num_layers))

    def forward(self, hidden_states):
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return hidden_states


class EdgeTamMemoryEncoder(nn.Module):
    """One map per object from the image embedding of a frame and the object's mask on it."""

    def __init__(self, config):
        super().__init__()
        size = config.memory_encoder_hidden_size
        self.mask_downsampler = EdgeTamMaskDownsampler(config)
        self.feature_projection = nn.Conv2d(size, size, kernel_size=1)
        self.memory_fuser = EdgeTamMemoryFuser(config)
        self.projection = nn.Conv2d(size, config.memory_encoder_output_channels, kernel_size=1)

    def forward(self, image_embedding, masks):
        """Memory maps (O, m, h, w).

        Args:
            image_embedding: (1, C, h, w) of a frame that all objects share, or (O, C, h, w).
            masks: (O, 1, H, W), scaled as the memory encoder was trained with.
        """
        fused = self.feature_projection(image_embedding) + self.mask_downsampler(masks)
        return self.projection(self.memory_fuser(fused))


class EdgeTamPerceiverAttention(EdgeTamAttention):
    """Attention whose keys and values get a position encoding after their projection."""

    def __init__(self, config):
        num_heads = config.perceiver_resampler_num_attention_heads
        inner_size = num_heads * config.perceiver_resampler_attention_head_dim
        super().__init__(config, config.perceiver_resampler_hidden_size, num_heads, inner_size, bias=False)
        self.dropout = config.perceiver_resampler_attention_dropout

    def forward(self, latents, windows, encoding):
        """Attention output (O, K, m): global latents look at all windows, those of the grid at their own.

        Args:
            latents: (O, K, m).
            windows: (O, G, N, m), N pixels in each.
            encoding: (G * N, m), which only the global ones see.
        """
        num_windows = windows.shape[1]
        query, key, value = self.q_proj(latents), self.k_proj(windows), self.v_proj(windows)
        global_query, query = query.tensor_split((-num_windows,), dim=1)
        places = (states.flatten(1, 2) + encoding for states in (key, value))
        attended, _ = self.average(self._split(global_query), *map(self._split, places))
        # one query to a window: the grid goes to the batch dimension
        query, key, value = (self._split(states.flatten(0, 1)) for states in (query[:, :, None], key, value))
        in_windows = self.average(query, key, value)[0].unflatten(0, (-1, num_windows))[:, :, 0]
        return self.o_proj(torch.cat((attended, in_windows), dim=1).flatten(2))


class EdgeTamPerceiverSelfAttention(EdgeTamPerceiverAttention):
    """Attention of the latents to each other."""

    def forward(self, latents, num_global):
        """Attention output (O, K, m): global latents look at each other, those of the grid at nothing but themselves.

        Attention to a single key is its value.
        """
        value = self.v_proj(latents)
        global_value, own_value = value.tensor_split((num_global,), dim=1)
        query, key = (projection(latents[:, :num_global]) for projection in (self.q_proj, self.k_proj))
        attended, _ = self.average(*map(self._split, (query, key, global_value)))
        return self.o_proj(torch.cat((attended.flatten(2), own_value), dim=1))


class EdgeTamPerceiverMLP(nn.Module):
    """Normalisation and two linear layers."""

    def __init__(self, config):
        super().__init__()
        size, inner_size = config.perceiver_resampler_hidden_size, config.perceiver_resampler_mlp_intermediate_size
        self.layer_norm = nn.LayerNorm(size)
        self.up_proj = nn.Linear(size, inner_size, bias=False)
        self.down_proj = nn.Linear(inner_size, size, bias=False)

    def forward(self, hidden_states):
        return self.down_proj(F.gelu(self.up_proj(self.layer_norm(hidden_states))))


class EdgeTamPerceiverLayer(GradientCheckpointingLayer):
    """Latents attend to their input, then to each other."""

    def __init__(self, config):
        super().__init__()
        size = config.perceiver_resampler_hidden_size
        self.cross_attention = EdgeTamPerceiverAttention(config)
        self.mlp = EdgeTamPerceiverMLP(config)
        self.self_attention = EdgeTamPerceiverSelfAttention(config)
        self.self_mlp = EdgeTamPerceiverMLP(config)
        self.layer_norm_input = nn.LayerNorm(size)
        self.layer_norm_latents = nn.LayerNorm(size)
        self.layer_norm_self = nn.LayerNorm(size)
        self.dropout = config.perceiver_resampler_hidden_dropout

    def forward(self, latents, windows, encoding):
        """Latents (O, K, m), global ones first; see `EdgeTamPerceiverAttention`."""
        attended = self.cross_attention(self.layer_norm_latents(latents), self.layer_norm_input(windows), encoding)
        latents = latents + F.dropout(attended, self.dropout, self.training)
        latents = latents + self.mlp(latents)
        num_global = latents.shape[1] - windows.shape[1]
        latents = latents + self.self_attention(self.layer_norm_self(latents), num_global)
        return latents + self.self_mlp(latents)


class EdgeTamSpatialPerceiver(nn.Module):
    """Compresses a memory map into latents: some see all of it, the others a window each."""

    def __init__(self, config):
        super().__init__()
        size = config.perceiver_resampler_hidden_size
        self.grid_side = grid_side(config)
        self.latents_1d = nn.Parameter(torch.randn(config.perceiver_resampler_num_latents, size))
        self.latents_2d = nn.Parameter(torch.randn(config.perceiver_resampler_num_latents_2d, size))
        self.layers = nn.ModuleList(EdgeTamPerceiverLayer(config) for _ in range(config.perceiver_resampler_num_layers))
        self.layer_norm = nn.LayerNorm(size)

    def forward(self, memory):
        """Latents (O, K, m) of memory maps (O, m, h, w); h and w are multiples of the grid's side."""
        num_objects, size, height, width = memory.shape
        encoding = sine_place_encoding(size, height, width, memory.device, memory.dtype)
        encoding = self._as_windows(encoding.unflatten(0, (1, height, width)))[0].flatten(0, 1)
        windows = self._as_windows(memory.permute(0, 2, 3, 1))
        latents = torch.cat((self.latents_1d, self.latents_2d)).expand(num_objects, -1, -1)
        for layer in self.layers:
            latents = layer(latents, windows, encoding)
        return self.layer_norm(latents)

    def _as_windows(self, memory):
        """Windows (O, G, N, m) of maps (O, h, w, m), of as many rows and columns as the grid has, row by row."""
        sides = (self.grid_side, -1)
        return memory.unflatten(2, sides).unflatten(1, sides).transpose(2, 3).flatten(3, 4).flatten(1, 2)
