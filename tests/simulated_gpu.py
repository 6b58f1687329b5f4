"""A GPU that is none: its tensors keep their numbers on the CPU, and what a program waits for is counted."""

import copy

import torch
from torch.nn.attention import SDPBackend
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# the shape of their result, or the way that the program takes, depends on numbers
READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "repeat_interleave", "unique_dim")
READS += ("_unique2", "unique_consecutive")


class TensorOnGpu(torch.Tensor):
    """Says that it is on a GPU; nothing can be done with it but inside `SimulatedGpu`."""

    @staticmethod
    def __new__(cls, numbers):
        layout = {"strides": numbers.stride(), "storage_offset": numbers.storage_offset()}
        tensor = torch.Tensor._make_wrapper_subclass(cls, numbers.shape, **layout, dtype=numbers.dtype, device="cuda")
        tensor.numbers = numbers
        return tensor

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise AssertionError(f"{function} of a tensor on a simulated GPU, outside of it")


def is_on_gpu(value):
    return isinstance(value, TensorOnGpu)


def on_gpu(model):
    """A copy of the model with its weights on the GPU."""
    model = copy.deepcopy(model)
    with torch.inference_mode():  # a mark by which folding knows that there is no address to look at
        for module in model.modules():
            for tensors in (module._parameters, module._buffers):
                tensors.update((name, TensorOnGpu(data)) for name, data in tensors.items() if data is not None)
    return model


class SimulatedGpu(TorchDispatchMode):
    """Inside of it programs may use the device "cuda"; `waits` names what made them wait."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def synchronize(self):
        """What a stream does."""
        self.waits.append("synchronize")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, kwargs = function.overloadpacket.__name__, dict(kwargs or {})
        starts_there = ends_there = any(map(is_on_gpu, tree_leaves((args, kwargs))))
        if name == "copy_":
            ends_there, starts_there = map(is_on_gpu, args[:2])
        elif kwargs.get("device") is not None:
            ends_there = torch.device(kwargs["device"]).type == "cuda"
            kwargs["device"] = "cpu"
        if name == "_fused_sdp_choice" and starts_there:
            return SDPBackend.MATH.value
        is_copy = name in ("_to_copy", "copy_") and starts_there != ends_there and args[0].numel() > 0
        if (is_copy and not kwargs.get("non_blocking")) or (
            starts_there and (name in READS or self._has_slow_index(name, args))
        ):
            self.waits.append(name)
        args, kwargs = tree_map(lambda value: value.numbers if is_on_gpu(value) else value, (args, kwargs))
        result = function(*args, **kwargs)
        return tree_map(lambda x: TensorOnGpu(x) if torch.is_tensor(x) else x, result) if ends_there else result

    @staticmethod
    def _has_slow_index(name, args):
        """Whether an index has to be counted on the GPU, or to be copied there first."""
        indices = args[1] if name in ("index", "index_put", "index_put_") else ()
        return any(index is not None and (index.dtype == torch.bool or not is_on_gpu(index)) for index in indices)
