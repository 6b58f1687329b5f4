"""The packages that can compute graphs, and graphs that are loaded when they are first needed."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np

from .folder import DTYPES, EXPORT_AGAIN, ExportedFolder

RUNTIMES = {"onnxruntime": "onnx", "openvino": "openvino"}  # packages, and the extras of pip that bring them


class Graph(Protocol):
    """A part of the model: a function from named arrays to arrays."""

    def __call__(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """The outputs of these names, in their order; others are not copied."""
        ...


def default_runtime() -> str:
    """The first of `RUNTIMES` that is installed; raises an ImportError where none is."""
    for name in RUNTIMES:
        if find_spec(name) is not None:
            return name
    raise ImportError("exported models need ONNX Runtime or OpenVINO: pip install 'edgetam-hf[onnx]'")


def graph_loader(folder: ExportedFolder, runtime: str, device: str, dtype: str) -> Callable[[str], Graph]:
    """A function from the name of a graph to the graph, which is loaded once; see `load` for errors."""
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime must be one of {', '.join(RUNTIMES)}, got {runtime!r}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    try:
        module = import_module(f"edgetam_runtime.{'onnx_runtime' if runtime == 'onnxruntime' else 'open_vino'}")
    except ImportError as error:
        raise ImportError(f"{runtime} is not installed: pip install 'edgetam-hf[{RUNTIMES[runtime]}]'") from error
    open_graph: Callable[[Path], Graph] = module.opener(device, dtype)

    @cache
    def graph(name: str) -> Graph:
        path = module.graph_path(folder, name, dtype)
        try:
            return open_graph(path)
        except Exception as error:  # each runtime has its own, with lines of its code in them
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise ValueError(
                f"{path} cannot be loaded by {runtime}, it may be damaged or incomplete: {EXPORT_AGAIN} ({reason})"
            ) from error

    graph("vision_encoder")  # which everything needs: what is wrong is told now
    return graph
