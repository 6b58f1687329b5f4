"""Layers of the memory (arXiv 2501.07256, section 3): what frames and masks leave, and how later frames use it.

In memory attention a frame attends to what earlier frames have left. Once its masks are found, the memory encoder
joins them with the frame, and the 2D spatial perceiver compresses that to a few latents, its memory.

Shapes: O objects, (H, W) the model input, (h, w) = (H / 16, W / 16), L = h * w pixels of the image embedding. C are the
channels of the model, m those of the memory. A frame leaves K latents: the global ones, then G = g * g of a grid, row
by row. F remembered frames and P object pointers make S = F * K + P * C / m memory tokens. Tokens are (O, tokens, C).
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_edgetam import EdgeTamProjectedAttention
from .configuration_edgetam import EdgeTamVideoConfig
from .folding_edgetam import is_exported, is_plain
from .layers_edgetam import EdgeTamLayerNorm2d
from .pieces_edgetam import in_pieces, num_at_once
from .position_edgetam import grid_rotation, rotate, sine_place_encoding
from .stages_edgetam_video import Memories


class EdgeTamRotaryAttention(EdgeTamProjectedAttention):
    """Attention whose queries and keys are rotated by their place in the picture (RoFormer, arXiv 2104.09864)."""

    def __init__(self, config: EdgeTamVideoConfig, key_value_size: int | None = None):
        size = config.memory_attention_hidden_size
        inner_size = size // config.memory_attention_downsample_rate
        super().__init__(config, size, config.memory_attention_num_attention_heads, inner_size, key_value_size)
        self.dropout = config.memory_attention_rope_dropout


class EdgeTamFrameAttention(EdgeTamRotaryAttention):
    """Attention of a frame to itself."""

    def forward(self, states: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
        """Attention output (O, L, C) of states (O, L, C); see `grid_rotation`."""
        query, key, value = self.project(states, states, states)
        query, key = rotate(query, rotation), rotate(key, rotation)
        # in float32 the fused kernel is as fast, and takes less memory
        if query.dtype == torch.float32 or not self.works_in_blocks(query):
            return self.attend(query, key, value)[0]
        keys = key.transpose(2, 3)
        average = self.average_in_blocks(query, lambda queries: queries @ keys, value)
        return self.o_proj(average.transpose(1, 2).flatten(2))


class EdgeTamMemoryCrossAttention(EdgeTamRotaryAttention):
    """Attention of a frame to the memory."""

    def forward(
        self,
        states: torch.Tensor,
        keys: torch.Tensor,
        memory: torch.Tensor,
        rotation: torch.Tensor,
        latent_rotation: torch.Tensor,
        key_bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attention output (O, L, C).

        Memories x have m channels, fewer than projected ones. On a CPU and in exported graphs they are averaged before
        they are projected, by the right side of identity (2) in attention_edgetam.py; it takes L * S multiplications
        per channel.

        Args:
            states: (O, L, C), or (1, L, C) of a frame that all objects share.
            keys, memory: (O, S, m), both not projected yet.
            rotation: of the pixels, see `grid_rotation`.
            latent_rotation: the same for the first tokens of the memory; the others have no place.
            key_bias: (O, 1, 1, S), added to the logits.
        """
        query = rotate(self.split_heads(self.q_proj(states)), rotation).expand(keys.shape[0], -1, -1, -1)
        latents, others = keys.tensor_split((latent_rotation.shape[0],), dim=1)
        latents = rotate(self.split_heads(self.k_proj(latents)), latent_rotation)
        is_narrow = memory.shape[-1] < query.shape[-1]
        if is_narrow and self.works_in_blocks(query) and is_plain(self.k_proj):
            return self._project(self._average_by_unprojected(query, latents, others, memory, key_bias))
        key = torch.cat((latents, self.split_heads(self.k_proj(others))), dim=2)
        if is_narrow and is_exported():
            return self._project(self.average(query, key, memory[:, None], key_bias)[0])
        return self.attend(query, key, self.split_heads(self.v_proj(memory)), key_bias)[0]

    def _average_by_unprojected(
        self,
        query: torch.Tensor,
        latents: torch.Tensor,
        others: torch.Tensor,
        memory: torch.Tensor,
        key_bias: torch.Tensor | None,
    ) -> torch.Tensor:
        """Averages (O, L, heads, m) of the memory, by identity (1) in attention_edgetam.py.

        Keys that are not rotated are not projected either: by the right side of the identity the query absorbs their
        projection. Its bias b adds b · q to all of their logits; as the softmax ignores what all logits of a query have
        in common, b is instead taken from the keys of the others.

        Args:
            query: (O, heads, L, I / heads), where I are all projected channels.
            latents: (O, heads, n, I / heads), keys of the first n memory tokens, projected and rotated.
            others: (O, S - n, m), keys of the others, not projected yet.
            memory: (O, S, m).
            key_bias: as in `forward`.
        """
        weight, bias = (part.unflatten(0, (self.num_heads, -1)) for part in (self.k_proj.weight, self.k_proj.bias))
        latents, others = (latents - bias[:, None]).transpose(2, 3), others[:, None].transpose(2, 3)

        def logits(queries: torch.Tensor) -> torch.Tensor:
            products = torch.cat((queries @ latents, (queries @ weight) @ others), dim=-1)
            return products if key_bias is None else products + key_bias

        return self.average_in_blocks(query, logits, memory[:, None]).transpose(1, 2)

    def _project(self, average: torch.Tensor) -> torch.Tensor:
        """Attention output (O, L, C) of averages (O, L, heads, m): of the projection a head takes its own channels."""
        projected = self.v_proj(average).unflatten(-1, (self.num_heads, -1))  # (O, L, heads, heads, I / heads)
        return self.o_proj(projected.diagonal(dim1=2, dim2=3).transpose(2, 3).flatten(2))


class EdgeTamMemoryAttentionMLP(nn.Module):
    """Two linear layers."""

    def __init__(self, config: EdgeTamVideoConfig):
        super().__init__()
        size, inner_size = config.memory_attention_hidden_size, config.memory_attention_mlp_hidden_size
        self.up_proj = nn.Linear(size, inner_size)
        self.down_proj = nn.Linear(inner_size, size)
        self.activation = ACT2FN[config.memory_attention_mlp_hidden_act]
        if isinstance(self.activation, nn.ReLU):
            self.activation.inplace = True  # what it acts on is the largest tensor of a frame
        self.dropout = config.memory_attention_dropout

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        num_tokens = num_at_once(self.up_proj.out_features, hidden_states.dtype)
        return in_pieces([self], self._transform, hidden_states, size=num_tokens, dim=1)

    def _transform(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = F.dropout(self.activation(self.up_proj(hidden_states)), self.dropout, self.training)
        return self.down_proj(hidden_states)


class EdgeTamMemoryAttentionLayer(GradientCheckpointingLayer):
    """The frame attends to itself and to the memory."""

    def __init__(self, config: EdgeTamVideoConfig):
        super().__init__()
        size = config.memory_attention_hidden_size
        self.self_attn = EdgeTamFrameAttention(config)
        self.cross_attn_image = EdgeTamMemoryCrossAttention(config, config.memory_encoder_output_channels)
        self.mlp = EdgeTamMemoryAttentionMLP(config)
        self.layer_norm1 = nn.LayerNorm(size)
        self.layer_norm2 = nn.LayerNorm(size)
        self.layer_norm3 = nn.LayerNorm(size)
        self.dropout = config.memory_attention_dropout

    def forward(
        self,
        frame: torch.Tensor,
        keys: torch.Tensor,
        memory: torch.Tensor,
        rotation: torch.Tensor,
        latent_rotation: torch.Tensor,
        key_bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Frame tokens (O, L, C); see `EdgeTamMemoryCrossAttention`.

        Objects share their frame until the first layer attends to the memory: `frame` may be (1, L, C), and its
        attention to itself is then computed once for all of them.
        """

        def see_frame(frame: torch.Tensor) -> torch.Tensor:
            attended = self.self_attn(self.layer_norm1(frame), rotation)
            return frame + F.dropout(attended, self.dropout, self.training)

        def see_memory(
            frame: torch.Tensor, keys: torch.Tensor, memory: torch.Tensor, key_bias: torch.Tensor | None = None
        ) -> torch.Tensor:
            attended = self.cross_attn_image(self.layer_norm2(frame), keys, memory, rotation, latent_rotation, key_bias)
            frame = frame + F.dropout(attended, self.dropout, self.training)
            return frame + F.dropout(self.mlp(self.layer_norm3(frame)), self.dropout, self.training)

        biases = () if key_bias is None else (key_bias,)
        return in_pieces([self], see_memory, in_pieces([self], see_frame, frame), keys, memory, *biases)


class EdgeTamMemoryAttention(nn.Module):
    """The image embedding of a frame, informed by the memories of every object."""

    def __init__(self, config: EdgeTamVideoConfig):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(
            EdgeTamMemoryAttentionLayer(config) for _ in range(config.memory_attention_num_layers)
        )
        self.layer_norm = nn.LayerNorm(config.memory_attention_hidden_size)

    def forward(
        self,
        image_embedding: torch.Tensor,
        memories: Memories,
        time_encoding: torch.Tensor,
        pointer_encoding: torch.Tensor,
        key_bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Image embeddings (O, C, h, w).

        Args:
            image_embedding: (1, C, h, w) of a frame that all objects share, or (O, C, h, w).
            memories: `Memories`.
            time_encoding: (O, F, m), added to the keys of each frame's memory.
            pointer_encoding: (O, P, m), added to the keys of each pointer's tokens.
            key_bias: (O, 1, 1, S), added to the logits of the memory tokens, in the order of `_join_tokens`.
        """
        (height, width), side, device = image_embedding.shape[-2:], grid_side(self.config), image_embedding.device
        encoding = sine_place_encoding(image_embedding.shape[1], height, width, device, image_embedding.dtype)
        frame = (image_embedding.flatten(2).transpose(1, 2) + 0.1 * encoding).contiguous()
        keys, memory = self._join_tokens(memories, time_encoding, pointer_encoding)
        rotation = self._rotation(height, width, device)
        num_frames = memories.features.shape[1]
        latent_rotation = self._rotation(side, side, device).repeat(num_frames, 1, 1)
        for layer in self.layers:
            frame = layer(frame, keys, memory, rotation, latent_rotation, key_bias)
        return self.layer_norm(frame).transpose(1, 2).unflatten(2, (height, width))

    def _join_tokens(
        self, memories: Memories, time_encoding: torch.Tensor, pointer_encoding: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and memory, both (O, S, m): latents of the grid, global ones, pointers cut into tokens of m channels."""
        features, pointers = memories.features, memories.pointers
        side, num_channels = grid_side(self.config), features.shape[-1]
        global_latents, latents = features.split((self.config.perceiver_resampler_num_latents, side**2), dim=2)
        pointers = pointers.unflatten(-1, (-1, num_channels))
        place = sine_place_encoding(num_channels, side, side, features.device, features.dtype)
        time = time_encoding[:, :, None]
        memory = (latents, global_latents, pointers)
        keys = (latents + place + time, global_latents + time, pointers + pointer_encoding[:, :, None])
        joined_keys, joined_memory = (torch.cat([part.flatten(1, 2) for part in parts], 1) for parts in (keys, memory))
        return joined_keys, joined_memory

    def _rotation(self, height: int, width: int, device: torch.device) -> torch.Tensor:
        config = self.config
        head_size = config.memory_attention_hidden_size // (
            config.memory_attention_downsample_rate * config.memory_attention_num_attention_heads
        )
        return grid_rotation(height, width, head_size, config.rope_parameters["rope_theta"], device)


def grid_side(config: EdgeTamVideoConfig) -> int:
    """Number of rows, and of columns, of the grid of 2D latents."""
    return math.isqrt(config.perceiver_resampler_num_latents_2d)


class EdgeTamMaskDownsamplerLayer(nn.Module):
    """Strided convolution, normalisation, activation."""

    def __init__(self, config: EdgeTamVideoConfig, in_channels: int, out_channels: int):
        super().__init__()
        kernel_size, stride = config.mask_downsampler_kernel_size, config.mask_downsampler_stride
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, config.mask_downsampler_padding)
        self.layer_norm = EdgeTamLayerNorm2d(out_channels, eps=1e-6)
        self.activation = ACT2FN[config.mask_downsampler_hidden_act]

    def forward(self, masks: torch.Tensor) -> torch.Tensor:
        return self.activation(self.layer_norm(self.conv(masks)))


class EdgeTamMaskDownsampler(nn.Module):
    """Masks (O, C, h, w) from (O, 1, H, W); each layer has as many times more channels as it has fewer pixels."""

    def __init__(self, config: EdgeTamVideoConfig):
        super().__init__()
        stride = config.mask_downsampler_stride
        self.layers, channels, total_stride = nn.ModuleList(), 1, 1
        while total_stride < config.mask_downsampler_total_stride:
            self.layers.append(EdgeTamMaskDownsamplerLayer(config, channels, channels * stride**2))
            channels, total_stride = channels * stride**2, total_stride * stride
        self.final_conv = nn.Conv2d(channels, config.mask_downsampler_embed_dim, kernel_size=1)

    def forward(self, masks: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            masks = layer(masks)
        return self.final_conv(masks)


class EdgeTamMemoryFuserBlock(GradientCheckpointingLayer):
    """ConvNeXt block (arXiv 2201.03545)."""

    def __init__(self, config: EdgeTamVideoConfig):
        super().__init__()
        size, inner_size = config.memory_fuser_embed_dim, config.memory_fuser_intermediate_dim
        kernel_size, padding = config.memory_fuser_kernel_size, config.memory_fuser_padding
        self.depthwise_conv = nn.Conv2d(size, size, kernel_size, padding=padding, groups=size)
        self.layer_norm = nn.LayerNorm(size, eps=1e-6)
        self.activation = ACT2FN[config.memory_fuser_hidden_act]
        self.pointwise_conv1 = nn.Linear(size, inner_size)
        self.pointwise_conv2 = nn.Linear(inner_size, size)
        self.scale = nn.Parameter(torch.full((size,), config.memory_fuser_layer_scale_init_value))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        update = self.layer_norm(self.depthwise_conv(hidden_states).permute(0, 2, 3, 1))
        num_rows = num_at_once(update.shape[2] * self.pointwise_conv1.out_features, update.dtype)
        update = in_pieces([self], self._transform, update, size=num_rows, dim=1)
        return torch.addcmul(hidden_states, update.permute(0, 3, 1, 2), self.scale[:, None, None])

    def _transform(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.pointwise_conv2(self.activation(self.pointwise_conv1(pixels)))


class EdgeTamMemoryFuser(nn.Module):
    """A stack of blocks."""

    def __init__(self, config: EdgeTamVideoConfig):
        super().__init__()
        self.layers = nn.ModuleList(EdgeTamMemoryFuserBlock(config) for _ in range(config.memory_fuser_num_layers))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return hidden_states


class EdgeTamMemoryEncoder(nn.Module):
    """One map per object from the image embedding of a frame and the object's mask on it."""

    def __init__(self, config: EdgeTamVideoConfig):
        super().__init__()
        size = config.memory_encoder_hidden_size
        self.mask_downsampler = EdgeTamMaskDownsampler(config)
        self.feature_projection = nn.Conv2d(size, size, kernel_size=1)
        self.memory_fuser = EdgeTamMemoryFuser(config)
        self.projection = nn.Conv2d(size, config.memory_encoder_output_channels, kernel_size=1)

    def forward(self, image_embedding: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Memory maps (O, m, h, w).

        Args:
            image_embedding: (1, C, h, w) of a frame that all objects share, or (O, C, h, w).
            masks: (O, 1, H, W), scaled as the memory encoder was trained with.
        """
        # OpenVINO 2026.4 writes the sum over the output of a convolution: in this order over that of all objects
        fused = self.mask_downsampler(masks) + self.feature_projection(image_embedding)
        return self.projection(self.memory_fuser(fused))


class EdgeTamLatentAttention(EdgeTamProjectedAttention):
    """What both attentions of the perceiver share: their sizes."""

    def __init__(self, config: EdgeTamVideoConfig):
        num_heads = config.perceiver_resampler_num_attention_heads
        inner_size = num_heads * config.perceiver_resampler_attention_head_dim
        super().__init__(config, config.perceiver_resampler_hidden_size, num_heads, inner_size, bias=False)
        self.dropout = config.perceiver_resampler_attention_dropout


class EdgeTamPerceiverAttention(EdgeTamLatentAttention):
    """Attention of the latents to the map, whose keys and values get a position encoding after their projection."""

    def forward(self, latents: torch.Tensor, windows: torch.Tensor, encoding: torch.Tensor) -> torch.Tensor:
        """Attention output (O, K, m): global latents attend to all windows, those of the grid to their own.

        Args:
            latents: (O, K, m).
            windows: (O, G, N, m), N pixels in each.
            encoding: (G * N, m), which only the global ones see.
        """
        num_windows = windows.shape[1]
        query, key, value = self.q_proj(latents), self.k_proj(windows), self.v_proj(windows)
        global_query, query = query.tensor_split((-num_windows,), dim=1)
        placed_key, placed_value = (self.split_heads(states.flatten(1, 2) + encoding) for states in (key, value))
        attended, _ = self.average(self.split_heads(global_query), placed_key, placed_value)
        # one query to a window: the grid goes to the batch dimension
        query, key, value = (self.split_heads(states.flatten(0, 1)) for states in (query[:, :, None], key, value))
        in_windows = self.average(query, key, value)[0].unflatten(0, (-1, num_windows))[:, :, 0]
        return self.o_proj(torch.cat((attended, in_windows), dim=1).flatten(2))


class EdgeTamPerceiverSelfAttention(EdgeTamLatentAttention):
    """Attention of the latents to each other."""

    def forward(self, latents: torch.Tensor, num_global: int) -> torch.Tensor:
        """Attention output (O, K, m) of latents (O, K, m), of which `num_global` are global.

        Global latents attend to each other. A latent of the grid attends to itself alone, and attention to a single
        key is its value, as the only weight is one.
        """
        value = self.v_proj(latents)
        global_value, own_value = value.tensor_split((num_global,), dim=1)
        query, key = (projection(latents[:, :num_global]) for projection in (self.q_proj, self.k_proj))
        query, key, global_value = map(self.split_heads, (query, key, global_value))
        attended, _ = self.average(query, key, global_value)
        return self.o_proj(torch.cat((attended.flatten(2), own_value), dim=1))


class EdgeTamPerceiverMLP(nn.Module):
    """Normalisation and two linear layers."""

    def __init__(self, config: EdgeTamVideoConfig):
        super().__init__()
        size, inner_size = config.perceiver_resampler_hidden_size, config.perceiver_resampler_mlp_intermediate_size
        self.layer_norm = nn.LayerNorm(size)
        self.up_proj = nn.Linear(size, inner_size, bias=False)
        self.down_proj = nn.Linear(inner_size, size, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.gelu(self.up_proj(self.layer_norm(hidden_states))))


class EdgeTamPerceiverLayer(GradientCheckpointingLayer):
    """Latents attend to their input, then to each other."""

    def __init__(self, config: EdgeTamVideoConfig):
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

    def forward(self, latents: torch.Tensor, windows: torch.Tensor, encoding: torch.Tensor) -> torch.Tensor:
        """Latents (O, K, m), global ones first; see `EdgeTamPerceiverAttention`."""
        attended = self.cross_attention(self.layer_norm_latents(latents), self.layer_norm_input(windows), encoding)
        latents = latents + F.dropout(attended, self.dropout, self.training)
        latents = latents + self.mlp(latents)
        num_global = latents.shape[1] - windows.shape[1]
        latents = latents + self.self_attention(self.layer_norm_self(latents), num_global)
        return latents + self.self_mlp(latents)


class EdgeTamSpatialPerceiver(nn.Module):
    """Compresses a memory map into latents: some see all of it, the others a window each."""

    def __init__(self, config: EdgeTamVideoConfig):
        super().__init__()
        size = config.perceiver_resampler_hidden_size
        self.grid_side = grid_side(config)
        self.latents_1d = nn.Parameter(torch.randn(config.perceiver_resampler_num_latents, size))
        self.latents_2d = nn.Parameter(torch.randn(config.perceiver_resampler_num_latents_2d, size))
        self.layers = nn.ModuleList(EdgeTamPerceiverLayer(config) for _ in range(config.perceiver_resampler_num_layers))
        self.layer_norm = nn.LayerNorm(size)

    def forward(self, memory: torch.Tensor) -> torch.Tensor:
        """Latents (O, K, m) of memory maps (O, m, h, w); h and w are multiples of the grid's side."""
        num_objects, size, height, width = memory.shape
        encoding = sine_place_encoding(size, height, width, memory.device, memory.dtype)
        encoding = self._as_windows(encoding.unflatten(0, (1, height, width)))[0].flatten(0, 1)
        windows = self._as_windows(memory.permute(0, 2, 3, 1))
        latents = torch.cat((self.latents_1d, self.latents_2d)).expand(num_objects, -1, -1)
        for layer in self.layers:
            latents = layer(latents, windows, encoding)
        return self.layer_norm(latents)

    def _as_windows(self, memory: torch.Tensor) -> torch.Tensor:
        """Windows (O, G, N, m) of maps (O, h, w, m), of as many rows and columns as the grid has, row by row."""
        sides = (self.grid_side, -1)
        return memory.unflatten(2, sides).unflatten(1, sides).transpose(2, 3).flatten(3, 4).flatten(1, 2)
