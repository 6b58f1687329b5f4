"""Graphs of fixed sizes as LiteRT (TensorFlow Lite) files, for phones and other small devices."""

from pathlib import Path

import torch

from .graphs import Graph

try:
    import litert_torch
except ImportError as error:
    raise ImportError("to write LiteRT files, install it: pip install 'edgetam-hf[litert]'") from error


def write_litert(graph: Graph, path: Path) -> None:
    """Writes a graph of `fixed_graphs` as one .tflite file, weights included.

    Its only signature has the inputs args_0, args_1, … and the outputs output_0, output_1, … in the order of the graph;
    integers are int32.

    Raises:
        ValueError: if the graph has an axis of any length.
        RuntimeError: if LiteRT cannot lower the graph.
    """
    if graph.dynamic:
        raise ValueError(
            f"LiteRT files need graphs of fixed sizes, see fixed_graphs, got {graph.name} of {graph.dynamic}"
        )
    try:
        with torch.no_grad():
            model = litert_torch.convert(graph.module.eval(), tuple(graph.inputs.values()))
    except Exception as error:
        raise RuntimeError(f"LiteRT could not lower the graph {graph.name}: {error}") from error
    model.export(str(path))
