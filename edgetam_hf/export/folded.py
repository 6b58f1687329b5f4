"""A copy of a model whose convolutions have stored weights, in which steps that are linear in a row are one."""

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn

from ..base_edgetam import EdgeTamBaseModel
from ..folding_edgetam import can_merge, in_full_precision, merge_weights
from ..repvit_edgetam import ConvNorm, RepVitTokenMixer

Model = TypeVar("Model", bound=EdgeTamBaseModel)


@torch.no_grad()
def folded_copy(model: Model) -> Model:
    """A float32 model in eval mode that computes the same in fewer steps; it can be neither trained nor saved.

    In PyTorch weights are folded when a model runs, and the checkpoint's stay its parameters. A graph has no such
    pair, so here the folded weights are the parameters: normalisations become a part of the convolution before them,
    the branches of a token mixer one convolution, and the mask decoder's projections of the maps of stride 4 and 8 a
    part of the neck.
    """
    model = copy.deepcopy(model).float().eval().requires_grad_(False)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, (ConvNorm, RepVitTokenMixer)):
                convolution = child.c if isinstance(child, ConvNorm) else child.conv.c
                setattr(parent, name, _with_weights(convolution, in_full_precision(child.fold, child.weights())))
    decoder, convolutions = model.mask_decoder, model.vision_encoder.neck.convs
    for level, name in ((-1, "conv_s0"), (-2, "conv_s1")):
        first, second = convolutions[level], getattr(decoder, name)
        assert isinstance(first, nn.Conv2d) and first.bias is not None
        if can_merge(first, second):
            weights = (first.weight, first.bias, second.weight, second.bias)
            convolutions[level] = _with_weights(first, in_full_precision(merge_weights, weights))
            setattr(decoder, name, nn.Identity())
    return model


def _with_weights(convolution: nn.Conv2d, weights: Sequence[torch.Tensor]) -> nn.Conv2d:
    """A convolution as the given one, with another weight and bias."""
    new = copy.deepcopy(convolution)
    new.weight, new.bias = (nn.Parameter(weight, requires_grad=False) for weight in weights)
    new.out_channels = new.weight.shape[0]
    return new
