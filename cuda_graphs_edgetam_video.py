"""The stages of tracking as CUDA graphs, which start all kernels of a stage at once.

A frame has hundreds of kernels, and on a GPU it takes a program longer to start them one by one than to run them.

    stage, shapes of its arguments -> CUDA graph, recorded once -> arguments copied in, replayed, results copied out
"""

import threading
from collections.abc import Callable, Hashable
from functools import lru_cache
from itertools import chain
from operator import is_, itemgetter
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as module_calls
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from .folding_edgetam import PLAIN_TYPES, is_captured, is_recorded
from .prompts_edgetam import Prompts
from .stages_edgetam_video import Memories, ObjectPrediction, TrackingModel

REPLAYED = ("get_frame_embeddings", "attend_to_memory", "decode_objects", "encode_memory")
NUM_WARM_UPS = 2  # calls before a recording, in which is made what is compiled, folded or kept in tables
MAX_SHAPES = 128  # of arguments; a graph of EdgeTAM keeps some 10 MB for each object


@lru_cache
def _recording_lock() -> threading.Lock:
    """The lock of all recordings: PyTorch allows one at a time."""
    return threading.Lock()


class CudaGraph:
    """A function of tensors that was recorded on a GPU, to be called again with other numbers in the same shapes.

    A graph reads and writes the same memory each time. So arguments are copied to where it reads them, and results from
    where it writes them before the next call can. Everything else that it reads, such as weights, has to stay in place.
    """

    device_type = "cuda"

    def __init__(self, function: Callable[..., Any], arguments: tuple, stream: Any, pool: Any = None):
        """Records a call; `stream` is where that happens, `pool` the memory of other graphs that this one shares."""
        with torch.inference_mode(False), torch.no_grad():  # later calls may write into no tensor of inference mode
            self._arguments = tree_map(lambda leaf: None if leaf is None else leaf.clone(), arguments)
            self._places = tree_leaves(self._arguments)
            self._results, self._structure = tree_flatten(self._record(function, stream, pool))

    def __call__(self, leaves: list[torch.Tensor | None]) -> Any:
        """What the function returns for arguments with these leaves, in tensors of their own."""
        for place, leaf in zip(self._places, leaves):
            if leaf is not None:
                place.copy_(leaf)
        self._replay()
        return tree_unflatten([result.clone() for result in self._results], self._structure)

    @property
    def pool(self) -> Any:
        """The memory in which it works."""
        return self._graph.pool()

    @staticmethod
    def make_stream(device: torch.device) -> Any:
        """A stream on which graphs can be recorded."""
        return torch.cuda.Stream(device)

    @staticmethod
    def current_stream(device: torch.device) -> Hashable:
        """The stream on which the caller works."""
        return torch.cuda.current_stream(device)

    def _record(self, function: Callable[..., Any], stream: torch.cuda.Stream, pool: Any) -> Any:
        caller, self._graph = torch.cuda.current_stream(stream.device), torch.cuda.CUDAGraph()
        stream.wait_stream(caller)
        with _recording_lock(), torch.cuda.stream(stream):
            for _ in range(NUM_WARM_UPS):
                function(*self._arguments)
            # other threads may go on to take memory meanwhile
            with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                results = function(*self._arguments)
        caller.wait_stream(stream)
        return results

    def _replay(self) -> None:
        self._graph.replay()


class ModelState:
    """The modules and weights of a model as they were when this was made, to see whether they still are the same.

    It is asked on every frame, so it goes through lists that are made once: 0.2 ms for EdgeTAM, half of what it takes
    to go through `model.modules()`. The model itself is not kept, as it keeps this.
    """

    def __init__(self, model: nn.Module):
        modules = list(model.modules())
        registries = [registry for part in modules for registry in (part._modules, part._parameters, part._buffers)]
        self._filled = [registry for registry in registries if registry]
        self._empty = [registry for registry in registries if not registry]
        self._parts = list(chain.from_iterable(registry.values() for registry in self._filled))
        self._states = [vars(part) for part in modules[1:]]  # hooks of the model itself see no stage
        self._hooks = [hooks for part in modules[1:] for hooks in (part._forward_pre_hooks, part._forward_hooks)]
        weights = [part for part in self._parts if isinstance(part, torch.Tensor)]
        self.is_plain = all(type(weight) in PLAIN_TYPES and not weight.is_inference() for weight in weights)
        self._weights = weights if self.is_plain else []  # others may have no address and no version
        self._addresses, self._versions = self._read_weights()

    def is_current(self) -> bool:
        """Whether all modules and weights are the same, lie where they lay, and were not written in place.

        As for folded weights, what is written through `.data` goes unnoticed until `.train()` or `.eval()`.
        """
        parts = list(chain.from_iterable(registry.values() for registry in self._filled))
        return (
            not any(self._empty)
            and len(parts) == len(self._parts)
            and all(map(is_, parts, self._parts))
            and self._read_weights() == (self._addresses, self._versions)
        )

    def is_untouched(self) -> bool:
        """Whether all parts are in eval mode, without a hook or a wrapper, which a graph would run only once."""
        return not (
            any(self._hooks)
            or any(map(itemgetter("training"), self._states))
            or any("forward" in state for state in self._states)
            or module_calls._has_any_global_hook()
        )

    def folded_weights(self) -> list[Any]:
        """All that modules have folded, see `FoldedModule`."""
        return [state["_folded"] for state in self._states if "_folded" in state]

    def _read_weights(self) -> tuple[list[int], list[int]]:
        return [weight.data_ptr() for weight in self._weights], [weight._version for weight in self._weights]


class StageGraphs:
    """The CUDA graphs of one model: one for each stage, shapes of arguments, and stream of a caller.

    A stage is recorded when it meets the same shapes a second time: many occur once, such as those of a prompt.
    Everything is forgotten when the model has changed, or too many shapes were seen. That happens to all graphs at
    once: some releases of PyTorch clear the workspace of all products on a stream with the first graph of that stream.

    Threads may share it: one after the other copies arguments, replays and copies results. All this stays on the
    caller's stream, where the GPU keeps to that order, too. So the graphs of a stream can also share their memory.
    """

    def __init__(self, graph_class: type[CudaGraph] = CudaGraph):
        self._graph_class = graph_class
        self._graphs: dict[tuple[Hashable, ...], CudaGraph | None] = {}  # `None` where shapes were seen once
        self._folded_weights: list[Any] = []  # which graphs read, even if their modules have replaced them
        self._streams: dict[Hashable, Any] = {}  # on which is recorded what the caller's stream replays
        self._state: ModelState | None = None
        self._lock = threading.Lock()

    def stages_of(self, model: Any) -> TrackingModel:
        """The stages of the model for one frame: replayed, or where that would change anything the model itself."""
        with self._lock:
            if self._state is None or not self._state.is_current():
                self._forget()
                self._state = ModelState(model)
            state = self._state
        is_replayed = (
            model.device.type == self._graph_class.device_type
            and state.is_plain
            and state.is_untouched()
            and not (model.training or torch.is_grad_enabled() or torch.is_autocast_enabled(model.device.type))
            and not (is_recorded() or is_captured() or type(torch.empty(0)) is not torch.Tensor)
            and not any(name in vars(model) for name in REPLAYED)
        )
        return ReplayedStages(model, self) if is_replayed else model

    def forget(self) -> None:
        """Forgets all graphs."""
        with self._lock:
            self._forget()

    def run(self, model: Any, name: str, *arguments: Any) -> Any:
        """Results of a stage, replayed if its arguments have had these shapes before."""
        stage, leaves = getattr(model, name), tree_leaves(arguments)
        with self._lock:
            key = (self._graph_class.current_stream(model.device), name, *map(_layout, leaves))
            if key in self._graphs:
                graph = self._graphs[key] or self._record(key, stage, arguments, model.device)
                return graph(leaves)
            if len(self._graphs) == MAX_SHAPES:
                self._forget()
            self._graphs[key] = None
        return stage(*arguments)

    def _record(
        self, key: tuple[Hashable, ...], stage: Callable[..., Any], arguments: tuple, device: torch.device
    ) -> CudaGraph:
        if key[0] not in self._streams:
            self._streams[key[0]] = self._graph_class.make_stream(device)
        # that of a graph which is there: the memory of graphs that are gone cannot be used again
        others = (graph for other, graph in self._graphs.items() if graph is not None and other[0] == key[0])
        pool = next((graph.pool for graph in others), None)
        graph = self._graphs[key] = self._graph_class(stage, arguments, self._streams[key[0]], pool)
        assert self._state is not None
        self._folded_weights.append(self._state.folded_weights())
        return graph

    def _forget(self) -> None:
        self._graphs.clear()
        self._folded_weights.clear()


class ReplayedStages:
    """The stages of a model as a `TrackingModel`, replayed as CUDA graphs."""

    def __init__(self, model: TrackingModel, graphs: StageGraphs):
        self.config, self.device, self.dtype, self.mask_size = model.config, model.device, model.dtype, model.mask_size
        self.forget_memory, self.adopt_masks = model.forget_memory, model.adopt_masks
        self._model, self._graphs = model, graphs

    def get_frame_embeddings(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        return self._graphs.run(self._model, "get_frame_embeddings", pixel_values)

    def attend_to_memory(self, frame_embedding: torch.Tensor, memories: Memories) -> torch.Tensor:
        return self._graphs.run(self._model, "attend_to_memory", frame_embedding, memories)

    def decode_objects(
        self,
        frame_embeddings: list[torch.Tensor],
        conditioned: torch.Tensor,
        prompts: Prompts,
        is_ambiguous: torch.Tensor,
    ) -> ObjectPrediction:
        return self._graphs.run(self._model, "decode_objects", frame_embeddings, conditioned, prompts, is_ambiguous)

    def encode_memory(
        self,
        frame_embedding: torch.Tensor,
        masks: torch.Tensor,
        object_score_logits: torch.Tensor,
        is_prompted: torch.Tensor,
    ) -> torch.Tensor:
        return self._graphs.run(self._model, "encode_memory", frame_embedding, masks, object_score_logits, is_prompted)


def _layout(leaf: torch.Tensor | None) -> Hashable:
    """What an argument has in common with those that a graph takes."""
    return None if leaf is None else (leaf.shape, leaf.dtype, leaf.device)
