"""Image encoder of EdgeTAM: RepViT and a feature pyramid.

Shapes: B pictures, C channels, (H, W) the model input in pixels. Maps are (B, C, height, width).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .checks_edgetam import check_device, check_pixel_values
from .configuration_edgetam import BACKBONE_STRIDE, EdgeTamVisionConfig
from .folding_edgetam import can_merge, convolve_twice, is_untouched
from .position_edgetam import sine_position_encoding
from .pretrained_edgetam import ALWAYS_GIVEN, EdgeTamPreTrainedModel
from .repvit_edgetam import RepVitBackbone


@dataclass
class EdgeTamVisionEncoderOutput(BaseModelOutputWithPooling):
    """Output of the image encoder.

    Args:
        last_hidden_state (`torch.Tensor` of shape `(batch_size, H / 32, W / 32, channels)`):
            Output of the backbone's last stage.
        pooler_output, attentions:
            Always `None`: the backbone is convolutional and has no head.
        fpn_hidden_states (`tuple[torch.Tensor]`):
            Maps of the neck, from high to low resolution.
        fpn_position_encoding (`tuple[torch.Tensor]`):
            Sine position encodings of the same shapes.
        hidden_states (`tuple[torch.Tensor]`, *optional*, with `output_hidden_states=True`):
            Outputs of the backbone's stages, `(batch_size, height, width, channels)`, from stride 4 to stride 32.
    """

    fpn_hidden_states: tuple[torch.Tensor, ...] = ALWAYS_GIVEN
    fpn_position_encoding: tuple[torch.Tensor, ...] | None = None


class EdgeTamVisionNeck(nn.Module):
    """Feature pyramid: lateral 1x1 convolutions, and a top-down path from stride 32 to stride 16."""

    def __init__(self, config: EdgeTamVisionConfig):
        super().__init__()
        self.config = config
        self.convs = nn.ModuleList(
            nn.Conv2d(
                in_channels, config.fpn_hidden_size, config.fpn_kernel_size, config.fpn_stride, config.fpn_padding
            )
            for in_channels in config.backbone_channel_list
        )

    def forward(
        self, hidden_states: Sequence[torch.Tensor]
    ) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """Maps (B, C, height, width) and their position encodings, all of them from stride 32 to stride 4.

        `hidden_states` are the outputs of the backbone's stages, (B, height, width, C) from stride 4 to stride 32.
        """
        maps = self.join(hidden_states)[::-1]
        encodings = [sine_position_encoding(fm.shape[1], fm.shape[2], fm.shape[3], fm.device, fm.dtype) for fm in maps]
        return tuple(maps), tuple(encoding.expand(fm.shape[0], -1, -1, -1) for encoding, fm in zip(encodings, maps))

    def join(self, hidden_states: Sequence[torch.Tensor], projections: Sequence[nn.Conv2d] = ()) -> list[torch.Tensor]:
        """List of the maps (B, C, height, width) of the stages, from stride 4 to stride 32; see `forward`.

        Each of `projections` is a convolution that is applied to one of the first maps, merged with that of the neck.
        """
        convs = self.convs[::-1]
        stages = [states.permute(0, 3, 1, 2) for states in hidden_states]
        maps = [convolve_twice(*chain) for chain in zip(stages, convs, projections)]
        maps += [conv(stage) for conv, stage in list(zip(convs, stages))[len(maps) :]]
        for level in range(len(stages) - 2, -1, -1):
            if level in self.config.fpn_top_down_levels:
                above = F.interpolate(maps[level + 1].float(), scale_factor=2.0, mode="nearest")
                maps[level] = maps[level] + above.to(maps[level].dtype)
        return maps

    def can_project(self, projections: Sequence[nn.Module]) -> bool:
        """Whether the top-down path leaves out the maps that are projected, and no hook sees them."""
        return len(projections) <= min(self.config.fpn_top_down_levels) and all(
            can_merge(conv, projection) for conv, projection in zip(self.convs[::-1], projections)
        )


class EdgeTamVisionModel(EdgeTamPreTrainedModel):
    """Image encoder: RepViT and a feature pyramid, without a head.

    Also loads the image encoder of image and video checkpoints.

    Another backbone can take the place of RepViT if it keeps to this: it is a module that makes, of pixel values
    (B, in_channels, H, W), a list of four maps (B, C_i, H / s, W / s) of stride s = 4, 8, 16 and 32, whose channels C_i
    are `backbone_widths` of the configuration; `in_channels` is the number of channels of the picture, and `stem` the
    module that sees the picture first. Besides here RepViT is named in two places: the configuration has the widths of
    each architecture, and `_no_split_modules` of the models what `device_map` keeps together.
    """

    config_class = EdgeTamVisionConfig
    base_model_prefix = "vision_encoder"  # under which whole checkpoints have its tensors
    _keys_to_ignore_on_load_unexpected = [r"^(?!backbone\.|neck\.|vision_encoder\.)"]  # noqa: RUF012

    def __init__(self, config: EdgeTamVisionConfig):
        super().__init__(config)
        self.backbone = RepVitBackbone(config.backbone_widths, config.backbone_depths, config.backbone_in_channels)
        self.neck = EdgeTamVisionNeck(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The stem of the backbone."""
        return self.backbone.stem

    def forward(
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> EdgeTamVisionEncoderOutput | tuple:
        """Feature maps and their position encodings.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, channels, H, W)`):
                Normalised pictures; H and W are multiples of 32.
            output_hidden_states (`bool`, *optional*): Whether to return the outputs of the backbone's stages.
            output_attentions (`bool`, *optional*): Not used: there are none.
            return_dict (`bool`, *optional*): Whether to return an `EdgeTamVisionEncoderOutput` or a tuple.

        Raises:
            ValueError: for pixel values of another rank, dtype or device, or of a size that is no multiple of 32.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        hidden_states = self._stages(pixel_values)
        maps, encodings = self.neck(hidden_states)
        num_levels = self.config.num_feature_levels
        output = EdgeTamVisionEncoderOutput(
            last_hidden_state=hidden_states[-1],
            hidden_states=hidden_states if output_hidden_states else None,
            fpn_hidden_states=maps[-num_levels:][::-1],
            fpn_position_encoding=encodings[-num_levels:][::-1],
        )
        return self.as_requested(output, return_dict)

    def project(self, pixel_values: torch.Tensor, projections: Sequence[nn.Conv2d]) -> EdgeTamVisionEncoderOutput:
        """As `forward`, without position encodings; convolutions of kernel size 1 are applied to the first maps.

        Such a convolution and that of the neck before it are one convolution, whose weight is the product of theirs.
        It is a quarter of the work, and needs `can_project`.
        """
        hidden_states = self._stages(pixel_values)
        maps = self.neck.join(hidden_states, projections)[: self.config.num_feature_levels]
        return EdgeTamVisionEncoderOutput(
            last_hidden_state=hidden_states[-1], hidden_states=hidden_states, fpn_hidden_states=tuple(maps)
        )

    def can_project(self, projections: Sequence[nn.Module]) -> bool:
        """Whether `project` can stand for `forward` and the projections after it: no hook misses a call."""
        return is_untouched(self.neck, EdgeTamVisionNeck) and self.neck.can_project(projections)

    def _stages(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Outputs (B, height, width, C) of the backbone's stages, from stride 4 to stride 32."""
        check_pixel_values(pixel_values, getattr(self.backbone, "in_channels", None), BACKBONE_STRIDE)
        weight = next(self.parameters())
        check_device("pixel_values", pixel_values, weight.device, self)
        return tuple(stage.permute(0, 2, 3, 1) for stage in self.backbone(pixel_values.to(weight.dtype)))
