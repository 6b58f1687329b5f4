"""Graphs of fixed sizes as Core ML packages, for Apple's devices; only those can run them."""

from pathlib import Path

import torch

from .graphs import Graph, RunGraph

try:
    import coremltools
except ImportError as error:
    raise ImportError("to write Core ML packages, install it: pip install coremltools") from error

# operators that coremltools 9 does not know, but what they consist of
DECOMPOSED = (
    "aten.addcmul.default",
    "aten.diag.default",
    "aten.diagonal_copy.default",
    "aten.diag_embed.default",
    "aten.where.ScalarOther",
    "aten.__or__.Tensor",
)


def write_graph(graph: Graph, path: Path) -> None:
    """Writes a graph of `fixed_graphs` as one .mlpackage folder, computed in float32.

    Outputs have their names, with an underscore for each dot; inputs have those of the arguments of the graph's module,
    in their order. coremltools warns that it has not been tested with newer PyTorch; an operator that it does not know
    is an error.

    Raises:
        ValueError: if the graph has an axis of any length.
        RuntimeError: if coremltools cannot lower the graph.
    """
    if graph.dynamic:
        raise ValueError(f"Core ML needs graphs of fixed sizes, see fixed_graphs, got {graph.name} of {graph.dynamic}")
    table = {op: rule for op, rule in torch.export.default_decompositions().items() if str(op) in DECOMPOSED}
    table[torch.ops.aten.bitwise_or.Tensor] = torch.logical_or  # the graphs join conditions alone
    try:
        with torch.no_grad():
            exported = torch.export.export(graph.module, tuple(graph.inputs.values()))
        package = coremltools.convert(
            exported.run_decompositions(table),
            outputs=[coremltools.TensorType(name=name.replace(".", "_")) for name in graph.outputs],
            minimum_deployment_target=coremltools.target.iOS17,
            compute_precision=coremltools.precision.FLOAT32,
        )
    except Exception as error:
        raise RuntimeError(f"coremltools could not lower the graph {graph.name}: {error}") from error
    package.save(str(path))


def open_graph(path: Path) -> RunGraph | None:
    """`None`: only Apple's devices run these files, so they are not compared with PyTorch."""
    return None
