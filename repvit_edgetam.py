"""RepViT backbone (arXiv 2307.09283) under timm's parameter names, blocks bottom-up.

Shapes: maps are (batch, channels, height, width). As in timm's first RepViT models, such as RepViT-M1, the token mixer
normalises each branch by itself.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .folding_edgetam import FoldedModule, is_foldable, is_untouched
from .pieces_edgetam import in_pieces, num_at_once


class ConvNorm(FoldedModule):
    """Convolution without bias followed by batch normalisation, in one step where the statistics are fixed.

    With the normalisation's mean μ, variance σ², weight γ and bias β, and s = γ / √(σ² + ε), both together are a
    convolution with other weights, which saves a pass over the map:

        s (W * x - μ) + β  =  (s W) * x + (β - s μ)
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, groups: int = 1):
        super().__init__()
        padding = kernel_size // 2
        self.c = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        # folding is in float32, and so checkpoints are loaded into it: rounding these few numbers to bfloat16 would
        # change the maps as much as rounding all other weights does
        self.bn = nn.BatchNorm2d(out_channels, dtype=torch.promote_types(torch.get_default_dtype(), torch.float32))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if not self.is_foldable:
            return self.bn(self.c(hidden_states))
        weight, bias = self.folded(self.fold, *self.weights())
        return self.c._conv_forward(hidden_states, weight, bias)

    @property
    def is_foldable(self) -> bool:
        """Whether the normalisation is a fixed affine function, and no hook sees its input."""
        return (
            not self.bn.training
            and is_foldable(self.c, self.bn)
            and self.c.bias is None
            and self.bn.weight is not None
            and self.bn.running_mean is not None
        )

    def weights(self) -> tuple[torch.Tensor, ...]:
        """W, γ, β, μ and σ², as `fold` takes them, of a module that is foldable."""
        mean, variance = self.bn.running_mean, self.bn.running_var
        assert mean is not None and variance is not None
        return self.c.weight, self.bn.weight, self.bn.bias, mean, variance

    def fold(
        self,
        weight: torch.Tensor,
        norm_weight: torch.Tensor,
        norm_bias: torch.Tensor,
        mean: torch.Tensor,
        variance: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight (C', C / groups, k, k) and bias (C') of the convolution with the normalisation inside."""
        scale = norm_weight * (variance + self.bn.eps).rsqrt()
        return weight * scale[:, None, None, None], norm_bias - mean * scale


class RepVitTokenMixer(FoldedModule):
    """Sum of a normalised 3x3 and a normalised 1x1 depthwise convolution and the input.

    Where the statistics are fixed it is one 3x3 convolution (RepVGG, arXiv 2101.03697), one pass over the map in place
    of five. With weights W, V and biases b, c that have the normalisations inside, V + 1 padded by zeros to 3x3:

        (W * x + b) + (V * x + c) + x  =  (W + pad(V + 1)) * x + (b + c)
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = ConvNorm(channels, channels, kernel_size=3, groups=channels)
        self.conv1 = ConvNorm(channels, channels, kernel_size=1, groups=channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if not all(is_untouched(branch, ConvNorm) and branch.is_foldable for branch in (self.conv, self.conv1)):
            return self.conv(hidden_states) + self.conv1(hidden_states) + hidden_states
        weight, bias = self.folded(self.fold, *self.weights())
        return self.conv.c._conv_forward(hidden_states, weight, bias)

    def weights(self) -> tuple[torch.Tensor, ...]:
        """Those of both branches, as `fold` takes them."""
        return *self.conv.weights(), *self.conv1.weights()

    def fold(self, *weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight (C, 1, 3, 3) and bias (C) of the one convolution."""
        (weight, bias), (centre, centre_bias) = self.conv.fold(*weights[:5]), self.conv1.fold(*weights[5:])
        return weight + F.pad(centre + 1, (1, 1, 1, 1)), bias + centre_bias


class SqueezeExcite(nn.Module):
    """Channels scaled by gates in (0, 1) that are computed from their spatial means."""

    def __init__(self, channels: int):
        super().__init__()
        # a quarter of the channels, rounded to a multiple of 8, but never below 90 % of it (as timm does)
        reduced = max(8, int(channels / 4 + 4) // 8 * 8)
        reduced += 8 if reduced < 0.9 * channels / 4 else 0
        self.fc1 = nn.Conv2d(channels, reduced, kernel_size=1)
        self.fc2 = nn.Conv2d(reduced, channels, kernel_size=1)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        means = hidden_states.mean((2, 3), keepdim=True)
        return hidden_states * self.fc2(F.relu(self.fc1(means))).sigmoid()


class RepVitChannelMixer(nn.Module):
    """Input plus a pointwise two-layer network of twice the width."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = ConvNorm(channels, 2 * channels)
        self.conv2 = ConvNorm(2 * channels, channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        batch_size, channels, _, width = hidden_states.shape
        num_rows = num_at_once(batch_size * 2 * channels * width, hidden_states.dtype)
        return in_pieces([self], self._mix, hidden_states, size=num_rows, dim=2)

    def _mix(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states + self.conv2(F.gelu(self.conv1(hidden_states)))


class RepVitBlock(GradientCheckpointingLayer):
    """Token mixer, optional squeeze-and-excite, channel mixer; the shape does not change."""

    def __init__(self, channels: int, has_squeeze_excite: bool):
        super().__init__()
        self.token_mixer = RepVitTokenMixer(channels)
        self.se = SqueezeExcite(channels) if has_squeeze_excite else nn.Identity()
        self.channel_mixer = RepVitChannelMixer(channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.channel_mixer(self.se(self.token_mixer(hidden_states)))


class RepVitDownsample(nn.Module):
    """Map of half the height and width, with more channels."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.pre_block = RepVitBlock(in_channels, has_squeeze_excite=False)
        self.spatial_downsample = ConvNorm(in_channels, in_channels, kernel_size=3, stride=2, groups=in_channels)
        self.channel_downsample = ConvNorm(in_channels, out_channels)
        self.ffn = RepVitChannelMixer(out_channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = self.spatial_downsample(self.pre_block(hidden_states))
        return self.ffn(self.channel_downsample(hidden_states))


class RepVitStage(nn.Module):
    """Optional downsampling, then blocks, of which every second one has squeeze-and-excite, from the first."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, has_downsample: bool):
        super().__init__()
        self.downsample = RepVitDownsample(in_channels, out_channels) if has_downsample else nn.Identity()
        self.blocks = nn.Sequential(*(RepVitBlock(out_channels, block_idx % 2 == 0) for block_idx in range(depth)))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.downsample(hidden_states))


class RepVitStem(nn.Module):
    """Map of a quarter of the picture's height and width."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = ConvNorm(in_channels, out_channels // 2, kernel_size=3, stride=2)
        self.conv2 = ConvNorm(out_channels // 2, out_channels, kernel_size=3, stride=2)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.conv2(F.gelu(self.conv1(pixel_values)))


class RepVit(nn.Module):
    """RepViT without its classifier: the outputs of its four stages.

    Args:
        widths (`tuple[int]`): Channels of the stages, from stride 4 to stride 32.
        depths (`tuple[int]`): Blocks of the stages.
        in_channels (`int`, *optional*, defaults to 3): Channels of the picture.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int], in_channels: int = 3):
        super().__init__()
        self.stem = RepVitStem(in_channels, widths[0])
        self.stage_names = [f"stages_{stage_idx}" for stage_idx in range(len(widths))]
        in_widths = (widths[0], *widths[:-1])
        for stage_idx, (name, in_width, width, depth) in enumerate(zip(self.stage_names, in_widths, widths, depths)):
            self.add_module(name, RepVitStage(in_width, width, depth, has_downsample=stage_idx > 0))

    def forward(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Maps of stride 4, 8, 16 and 32 of `pixel_values` (batch, channels, height, width).

        Channels lie next to each other in memory, which is the fastest layout for pointwise convolutions.
        """
        # as `contiguous(memory_format=torch.channels_last)`, which `vmap` does not know
        hidden_states = self.stem(pixel_values.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2))
        feature_maps = []
        for name in self.stage_names:
            hidden_states = getattr(self, name)(hidden_states)
            feature_maps.append(hidden_states)
        return feature_maps


class RepVitBackbone(nn.Module):
    """RepViT under the name that Transformers' wrapper of timm models gives it."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int], in_channels: int = 3):
        super().__init__()
        self.timm_model = RepVit(widths, depths, in_channels)

    @property
    def in_channels(self) -> int:
        """Channels of the pictures."""
        return self.stem.conv1.c.in_channels

    @property
    def stem(self) -> RepVitStem:
        """The module that sees the picture first."""
        return self.timm_model.stem

    def forward(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        return self.timm_model(pixel_values)
