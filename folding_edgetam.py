"""Weights computed from other weights, by which two linear steps become one: see `ConvNorm` and `convolve_twice`.

Modules keep the weights of the checkpoint as their parameters and compute with folded ones beside them: `state_dict`,
training, `.to` and offloading go on as if there were none. Folding leaves out the call of a module, which a hook or a
wrapper on it would miss; where there is one, the module is called as it is.
"""

import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as module_calls

# Types of tensors that hold their numbers as they are; subclasses are quantised or simulated.
PLAIN_TYPES: tuple[type, ...] = (torch.Tensor, nn.Parameter)


class FoldedModule(nn.Module):
    """Module that computes with tensors made from its weights, and makes them anew only when a weight has changed.

    A weight counts as changed if it is another tensor, lies elsewhere, or was written in place. What is written through
    `.data` goes unnoticed until `.train()` or `.eval()`. Nothing is kept of weights that learn while gradients are on,
    so that those flow through the folding, nor of operations that are recorded, nor in copies and pickles.
    """

    _versions: Sequence[tuple[weakref.ref, int, int]] = ()  # (weight, address, version) of each when it was folded
    _folded: list[torch.Tensor] | None = None

    def folded(self, fold: Callable[..., Iterable[torch.Tensor]], *weights: torch.Tensor) -> list[torch.Tensor]:
        """Results of `fold(*weights)`, computed in float32 at least, in the dtype of the first weight."""
        if is_recorded() or (torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)):
            return in_full_precision(fold, weights)
        if self._folded is None or not self._is_unchanged(weights):
            if is_captured() or not all(map(_is_tangible, (*weights, torch.empty(0)))):
                # new tensors are not numbers where they are simulated, nor while a graph is captured
                return in_full_precision(fold, weights)
            with torch.inference_mode(False), torch.no_grad():  # autograd refuses tensors of inference mode
                self._folded = in_full_precision(fold, weights)
            self._versions = [(weakref.ref(weight), weight.data_ptr(), weight._version) for weight in weights]
        return self._folded

    def _is_unchanged(self, weights: Sequence[torch.Tensor]) -> bool:
        return len(self._versions) == len(weights) and all(
            kept() is weight and address == weight.data_ptr() and version == weight._version
            for (kept, address, version), weight in zip(self._versions, weights)
        )

    def train(self, mode: bool = True) -> "FoldedModule":
        self.__dict__.pop("_versions", None)
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name not in ("_versions", "_folded")}


def is_recorded() -> bool:
    """Whether operations are recorded to be run later, so that nothing may be kept of what they compute now."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def is_captured() -> bool:
    """Whether a CUDA graph is being captured: what is computed now are no numbers yet, in memory of the graph."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def is_exported() -> bool:
    """Whether operations are recorded for another runtime, which needs convolutions with stored weights."""
    return torch.jit.is_tracing() or getattr(torch.compiler, "is_exporting", bool)()


def _is_tangible(tensor: torch.Tensor) -> bool:
    """Whether a tensor is numbers in memory that can be kept: not quantised, simulated, batched by `vmap` and such."""
    return (
        type(tensor) in PLAIN_TYPES
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        and not tensor.is_inference()
    )


def in_full_precision(
    function: Callable[..., Iterable[torch.Tensor]], tensors: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Results of `function(*tensors)` in the dtype of the first, computed in float32 at least, under autocast too."""
    dtype, device_type = tensors[0].dtype, tensors[0].device.type
    precise = torch.promote_types(dtype, torch.float32)
    is_cast = device_type != "meta" and torch.is_autocast_enabled(device_type)
    with torch.autocast(device_type, enabled=False) if is_cast else nullcontext():
        return [result.to(dtype) for result in function(*(tensor.to(precise) for tensor in tensors))]


def is_watched(module: nn.Module) -> bool:
    """Whether somebody sees the calls of a module: hooks, a wrapper, or accelerate, which may fetch weights first."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
        or hasattr(module, "_hf_hook")
        or module_calls._has_any_global_hook()
    )


def is_untouched(module: nn.Module, module_class: type) -> bool:
    """Whether a module is of exactly this class and nobody sees its calls, so that one can be left out."""
    return type(module) is module_class and module._compiled_call_impl is None and not is_watched(module)


def is_plain(*modules: nn.Module) -> bool:
    """Whether arithmetic with their weights may stand for modules: they are untouched, and the weights are numbers."""
    return all(
        type(module) in (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
        and is_untouched(module, type(module))
        and type(module.weight) in PLAIN_TYPES
        for module in modules
    )


def is_foldable(*modules: nn.Module) -> bool:
    """Whether modules are plain, see `is_plain`, and nothing is exported, where the modules themselves are wanted."""
    return not is_exported() and is_plain(*modules)


def can_merge(first: nn.Module, second: nn.Module) -> bool:
    """Whether two convolutions in a row can be one: the second is 1x1, and no hook sees the map between them."""
    return (
        isinstance(first, nn.Conv2d)
        and isinstance(second, nn.Conv2d)
        and is_foldable(first, second)
        and second.weight.shape[1:] == (first.weight.shape[0], 1, 1)
        and (second.stride, second.padding) == ((1, 1), (0, 0))
        and first.groups == 1
        and first.bias is not None
        and second.bias is not None
    )


def convolve_twice(feature_map: torch.Tensor, first: nn.Module, second: nn.Module) -> torch.Tensor:
    """`second(first(feature_map))`, (B, C'', h, w) of (B, C, h, w), in one step; see `can_merge`.

    With weights W, V and biases b, c of the first and the second, where V is a matrix, as its kernel is 1x1:

        V (W * x + b) + c  =  (V W) * x + (V b + c)

    It saves the map (B, C', h, w) between them, and multiplications where C'' is smaller than C'.
    """

    assert isinstance(first, nn.Conv2d) and first.bias is not None
    assert isinstance(second, nn.Conv2d) and second.bias is not None
    weight, bias = in_full_precision(merge_weights, (first.weight, first.bias, second.weight, second.bias))
    return first._conv_forward(feature_map, weight, bias)


def merge_weights(
    weight: torch.Tensor, bias: torch.Tensor, outer: torch.Tensor, outer_bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (C'', C, k, k) and bias (C'') of two convolutions in one, see `convolve_twice`; outer: of the second."""
    outer = outer.flatten(1)
    return (outer @ weight.flatten(1)).unflatten(1, weight.shape[1:]), outer @ bias + outer_bias
