"""Weights computed from other weights: batch normalisation folded into a convolution, convolutions merged into one.

Modules keep the weights of the checkpoint as their parameters and compute with folded ones, which nobody sees:
`state_dict`, training, `.to` and offloading go on as if there were none.
"""

import weakref

import torch
import torch.nn.functional as F
from torch import nn


class FoldedModule(nn.Module):
    """Module that computes with tensors made from its weights, and makes them anew only when a weight has changed.

    A weight counts as changed if it is another tensor, lies elsewhere, or was written in place. What is written through
    `.data` goes unnoticed until `.train()` or `.eval()`. With gradients on nothing is kept, so that they flow through
    the folding; nor is it under `torch.compile` and `torch.export`, or in copies and pickles.
    """

    _versions, _folded = (), None

    def folded(self, fold, *weights):
        """Results of `fold(*weights)`, computed in float32 at least, in the dtype of the weights."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or any(weight.is_inference() for weight in weights):
            return _in_full_precision(fold, weights)
        if not self._is_folded(weights):
            self._folded = _in_full_precision(fold, weights)
            self._versions = [(weakref.ref(weight), weight.data_ptr(), weight._version) for weight in weights]
        return self._folded

    def _is_folded(self, weights):
        return len(self._versions) == len(weights) and all(
            kept() is weight and address == weight.data_ptr() and version == weight._version
            for (kept, address, version), weight in zip(self._versions, weights)
        )

    def train(self, mode=True):
        self.__dict__.pop("_versions", None)
        return super().train(mode)

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name not in ("_versions", "_folded")}


def _in_full_precision(function, tensors):
    dtype = tensors[0].dtype
    precise = torch.promote_types(dtype, torch.float32)
    return [result.to(dtype) for result in function(*(tensor.to(precise) for tensor in tensors))]


def is_plain(*modules):
    """Whether modules do nothing but their arithmetic: no wrapper such as LoRA's, no hook."""
    return all(
        type(module) in (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and not hasattr(module, "_hf_hook")  # accelerate's, which may have to fetch the weights first
        for module in modules
    )


def fold_norm(weight, norm_weight, norm_bias, mean, variance, eps):
    """Weight and bias of a convolution that normalises its output by itself, from those of convolution and norm."""
    scale = norm_weight * (variance + eps).rsqrt()
    return weight * scale[:, None, None, None], norm_bias - mean * scale


def convolve_twice(feature_map, first, second):
    """`second(first(feature_map))` of two convolutions, the second of kernel size 1, in one step where possible."""
    if not is_plain(first, second):
        return second(first(feature_map))
    outer = second.weight.flatten(1)
    weight = (outer @ first.weight.flatten(1)).unflatten(1, first.weight.shape[1:])
    return F.conv2d(feature_map, weight, outer @ first.bias + second.bias, first.stride, first.padding)
