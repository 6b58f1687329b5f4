"""Graphs of fixed sizes as ExecuTorch programs, for phones and other small devices, computed by XNNPACK."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from .graphs import Graph, RunGraph

try:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime
except ImportError as error:
    raise ImportError("to write ExecuTorch files, install it: pip install 'edgetam-hf[executorch]'") from error


def write_graph(graph: Graph, path: Path) -> None:
    """Writes a graph of `fixed_graphs` as one .pte file, weights included.

    Its method `forward` takes the inputs in order and returns the outputs in order.

    Raises:
        ValueError: if the graph has an axis of any length.
        RuntimeError: if ExecuTorch cannot lower the graph.
    """
    if graph.dynamic:
        raise ValueError(
            f"ExecuTorch files need graphs of fixed sizes, see fixed_graphs, got {graph.name} of {graph.dynamic}"
        )
    try:
        with torch.no_grad():
            exported = torch.export.export(graph.module, tuple(graph.inputs.values()))
        program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    except Exception as error:
        raise RuntimeError(f"ExecuTorch could not lower the graph {graph.name}: {error}") from error
    path.write_bytes(program.buffer)


def open_graph(path: Path) -> RunGraph:
    """A file of `write_graph` as a function of arrays by name, in the order of the graph's inputs."""
    method = Runtime.get().load_program(path).load_method("forward")
    assert method is not None

    def run(inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        return [tensor.numpy() for tensor in method.execute([torch.from_numpy(array) for array in inputs.values()])]

    return run
