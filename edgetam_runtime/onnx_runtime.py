"""Graphs on ONNX Runtime."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from .folder import ExportedFolder

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "dml": "DmlExecutionProvider",
}
ERRORS_ONLY = 3  # it warns of what it chooses well, such as small nodes that it leaves on the CPU


class OnnxGraph:
    """See `Graph`."""

    def __init__(self, session: Any):
        self.session = session

    def __call__(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        return self.session.run(list(outputs), dict(inputs))


def graph_path(folder: ExportedFolder, name: str, dtype: str) -> Path:
    """The file of a graph; raises an OSError if there is none."""
    return folder.graph_path(name, "onnx", dtype)


def opener(device: str, dtype: str) -> Callable[[Path], OnnxGraph]:
    """A function that opens a file; raises a ValueError for a device or dtype that is not there."""
    if dtype == "bfloat16":
        raise ValueError("ONNX Runtime does not compute in bfloat16: take float32 or float16, or the runtime openvino")
    kind, _, number = device.partition(":")
    provider = PROVIDERS.get(kind)
    available = onnxruntime.get_available_providers()
    if provider not in available or not (number or "0").isdecimal():
        have = ", ".join(name for name, one in PROVIDERS.items() if one in available)
        mend = "; that for CUDA is another package: pip install onnxruntime-gpu" if kind == "cuda" else ""
        raise ValueError(f"ONNX Runtime has no device {device!r} here, it has {have}{mend}")

    def open_graph(path: Path) -> OnnxGraph:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        chosen: list[Any] = [(provider, {"device_id": number})] if number else [provider]
        if kind != "cpu":  # for what the device cannot do
            chosen.append(PROVIDERS["cpu"])
        session = onnxruntime.InferenceSession(str(path), options, providers=chosen)
        if session.get_providers()[0] != provider:  # it goes on without it in silence
            raise ValueError(f"the device {device!r} cannot be used, its driver or libraries are missing")
        return OnnxGraph(session)

    return open_graph
