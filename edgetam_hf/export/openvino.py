"""Graphs as OpenVINO files, which Intel's runtime reads without its ONNX reader."""

from pathlib import Path

try:
    import openvino
except ImportError as error:
    raise ImportError("to write OpenVINO files, install it: pip install 'edgetam-hf[openvino]'") from error


def write_openvino(source: Path, target: Path) -> None:
    """Writes an ONNX file as NAME.xml, the graph, and NAME.bin, its weights, which stay in the precision they have.

    `openvino.convert_model` would compute tables of positions and store them; here they are left to the runtime, as in
    an ONNX file. Of a file, unlike of bytes, the reader keeps inputs that nothing depends on.
    """
    openvino.save_model(openvino.Core().read_model(source), target, compress_to_fp16=False)
