"""Exported models for tests."""

from edgetam_hf.modeling_edgetam_video import EdgeTamVideoModel

from edgetam_hf.export.folded import folded_copy
from edgetam_hf.export.folder import write_configuration
from edgetam_hf.export.graphs import picture_graphs, video_graphs
from edgetam_hf.export.onnx import write_onnx


def export_model(model, processor, folder):
    """The folder, with the model's graphs for ONNX Runtime, which OpenVINO reads, too."""
    is_video = isinstance(model, EdgeTamVideoModel)
    write_configuration(model, processor, folder, is_video)
    folded = folded_copy(model)
    (folder / "onnx").mkdir()
    for graph in picture_graphs(folded) + (video_graphs(folded) if is_video else []):
        write_onnx(graph, folder / "onnx" / f"{graph.name}.onnx")
    return folder
