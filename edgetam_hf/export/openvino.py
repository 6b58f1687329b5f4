"""Graphs as OpenVINO files, which Intel's runtime reads without its ONNX reader."""

import tempfile
from pathlib import Path

from .graphs import Graph
from .onnx import write_onnx

try:
    import openvino
except ImportError as error:
    raise ImportError("to write OpenVINO files, install it: pip install 'edgetam-hf[openvino]'") from error


def write_openvino(graph: Graph, path: Path, has_half_weights: bool = False) -> None:
    """Writes a graph as a file NAME.xml and its weights as NAME.bin.

    `openvino.convert_model` would compute tables of positions and store them; here they are left to the runtime, as in
    an ONNX file. Of a file, unlike of bytes, the reader keeps inputs that nothing depends on.

    Args:
        graph: to be written.
        path: of the .xml file.
        has_half_weights: whether weights are stored in float16; inputs and outputs are float32, whatever they are.
    """
    with tempfile.TemporaryDirectory() as folder:
        onnx_path = Path(folder) / "graph.onnx"
        write_onnx(graph, onnx_path)
        model = openvino.Core().read_model(onnx_path)
        openvino.save_model(model, path, compress_to_fp16=has_half_weights)
