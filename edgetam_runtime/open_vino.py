"""Graphs on OpenVINO."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import openvino

from .folder import ExportedFolder

PRECISIONS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "int8": "f32"}


class OpenVinoGraph:
    """See `Graph`."""

    def __init__(self, compiled: Any):
        self.request, self.lock = compiled.create_infer_request(), Lock()

    def __call__(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        with self.lock:  # a request has one place for its outputs
            self.request.infer(dict(inputs), share_inputs=True, share_outputs=True)
            return [np.array(self.request.get_tensor(name).data) for name in outputs]


def graph_path(folder: ExportedFolder, name: str, dtype: str) -> Path:
    """The file of a graph, its own or, where that was not exported, that of ONNX, which OpenVINO reads as well.

    Raises:
        OSError: if there is neither.
    """
    is_converted = any((folder.path / "openvino").glob("*.xml"))
    return folder.graph_path(name, "xml" if is_converted else "onnx", dtype)


def opener(device: str, dtype: str) -> Callable[[Path], OpenVinoGraph]:
    """A function that opens a file; raises a ValueError for a device that is not there."""
    core = openvino.Core()
    name = device.upper().replace(":", ".")
    kind = name.partition(".")[0]
    if not any(one in (kind, name) or one.startswith(f"{kind}.") for one in core.available_devices):
        have = ", ".join(one.lower() for one in core.available_devices)
        raise ValueError(f"OpenVINO has no device {device!r} here, it has {have}")
    # without a hint it may compute float32 in less precision; on CPUs float16 is a way to store weights
    precision = "f32" if kind == "CPU" and dtype == "float16" else PRECISIONS[dtype]

    def open_graph(path: Path) -> OpenVinoGraph:
        model = core.read_model(path)
        return OpenVinoGraph(core.compile_model(model, name, {"INFERENCE_PRECISION_HINT": precision}))

    return open_graph
