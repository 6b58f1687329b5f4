"""CUDA graphs without a GPU: operations are noted once, and replayed on the very memory that they worked on then."""

import torch
from edgetam_hf.cuda_graphs_edgetam_video import NUM_WARM_UPS, CudaGraph
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tape(TorchDispatchMode):
    """Notes operations. What they compute is spoilt at the end, as there is nothing in a graph before its replay."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        places = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if torch.is_tensor(leaf)}
        tensors = [leaf for leaf in tree_leaves(results) if torch.is_tensor(leaf)]
        is_new = [tensor.untyped_storage().data_ptr() not in places for tensor in tensors]  # no view, nothing in place
        self.operations.append((function, args, kwargs or {}, tensors, is_new))
        return results

    def __exit__(self, *error):
        super().__exit__(*error)
        for *_, tensors, is_new in self.operations:
            for tensor in (tensor for tensor, new in zip(tensors, is_new) if new):
                tensor.fill_(float("nan") if tensor.is_floating_point() else 0)

    def replay(self):
        for function, args, kwargs, tensors, is_new in self.operations:
            results = [leaf for leaf in tree_leaves(function(*args, **kwargs)) if torch.is_tensor(leaf)]
            for tensor, result, new in zip(tensors, results, is_new):
                if new:
                    tensor.copy_(result)


class TapedGraph(CudaGraph):
    """Keeps to the rules of a CUDA graph: addresses are those of the recording, and no line of Python runs again."""

    device_type = "cpu"

    @property
    def pool(self):
        return None

    @staticmethod
    def make_stream(device):
        return None

    @staticmethod
    def current_stream(device):
        return 0

    def _record(self, function, stream, pool):
        for _ in range(NUM_WARM_UPS):
            function(*self._arguments)
        with Tape() as self._tape:
            return function(*self._arguments)

    def _replay(self):
        with torch.no_grad():
            self._tape.replay()
