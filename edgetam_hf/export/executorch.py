"""Graphs of fixed sizes as ExecuTorch programs, for phones and other small devices, computed by XNNPACK."""

from pathlib import Path

import torch

from .graphs import Graph

try:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
except ImportError as error:
    raise ImportError("to write ExecuTorch files, install it: pip install 'edgetam-hf[executorch]'") from error


def write_executorch(graph: Graph, path: Path) -> None:
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
