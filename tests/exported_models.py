"""Exported models for tests."""

from edgetam_hf.modeling_edgetam_video import EdgeTamVideoModel


def export_model(model, processor, folder):
    """The folder, with the model's graphs for ONNX Runtime, which OpenVINO reads, too."""
    # imported here, since few tests need what writes ONNX files
    from edgetam_hf.export.folder import write_configuration
    from edgetam_hf.export.graphs import graphs_of
    from edgetam_hf.export.onnx import write_onnx

    is_video = isinstance(model, EdgeTamVideoModel)
    write_configuration(model, processor, folder, is_video)
    (folder / "onnx").mkdir()
    for graph in graphs_of(model, is_video):
        write_onnx(graph, folder / "onnx" / f"{graph.name}.onnx")
    return folder
