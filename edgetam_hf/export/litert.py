"""Graphs of fixed sizes as LiteRT (TensorFlow Lite) files, for phones and other small devices."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from .graphs import Graph, RunGraph

try:
    import litert_torch
    from ai_edge_litert.interpreter import Interpreter
except ImportError as error:
    raise ImportError("to write LiteRT files, install it: pip install 'edgetam-hf[litert]'") from error


def write_graph(graph: Graph, path: Path) -> None:
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


def open_graph(path: Path) -> RunGraph:
    """A file of `write_graph` as a function of arrays by name, in the order of the graph's inputs."""
    interpreter = Interpreter(model_path=str(path))  # which the signature does not keep
    signature = interpreter.get_signature_runner()

    def run(inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        arrays = (array.astype(np.int32) if array.dtype == np.int64 else array for array in inputs.values())
        results = signature(**{f"args_{idx}": array for idx, array in enumerate(arrays)})
        assert interpreter is not None
        return [results[f"output_{idx}"] for idx in range(len(outputs))]

    return run
