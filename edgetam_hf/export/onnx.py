"""Graphs as ONNX files, which ONNX Runtime, OpenVINO and browsers read."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from .graphs import Graph

try:
    import onnx
    import onnxscript  # noqa: F401 (PyTorch's exporter needs it)
except ImportError as error:
    raise ImportError("to write ONNX files, install them: pip install 'edgetam-hf[onnx]'") from error

OPSET_VERSION = 20  # the first with Gelu, which ONNX Runtime computes in one pass
KEPT_NAMES = ("input_points", "input_labels", "input_boxes", "points", "labels")
# Points (b, p, n, 2), labels (b, q, n) and boxes (b, m, 4), of which any number may be 0, as one list of points: the
# corners of a box, then clicks. What some of the Max(p, q, m) objects lack is filled up with padding, which is -10.
JOINED_PROMPTS = """
agraph (float[b, p, n, 2] input_points, int64[b, q, n] input_labels, float[b, m, 4] input_boxes)
    => (float[b, o, t, 2] points, int64[b, o, t] labels) {
    one = Constant<value = int64[1] {1}>()
    two = Constant<value = int64[1] {2}>()
    four = Constant<value = int64[1] {4}>()
    pair = Constant<value = int64[2] {2, 2}>()
    padding = Constant<value = float[1] {-10.0}>()
    padding_label = Constant<value = int64[1] {-10}>()
    corner_labels = Constant<value = int64[2] {2, 3}>()
    pictures = Shape<start = 0, end = 1>(input_points)
    num_clicked = Shape<start = 1, end = 2>(input_points)
    num_labelled = Shape<start = 1, end = 2>(input_labels)
    num_boxed = Shape<start = 1, end = 2>(input_boxes)
    num_clicks = Shape<start = 2, end = 3>(input_points)
    objects = Max(num_clicked, num_labelled, num_boxed)
    missing_clicked = Sub(objects, num_clicked)
    missing_labelled = Sub(objects, num_labelled)
    missing_boxed = Sub(objects, num_boxed)
    clicks_shape = Concat<axis = 0>(pictures, missing_clicked, num_clicks, two)
    labels_shape = Concat<axis = 0>(pictures, missing_labelled, num_clicks)
    boxes_shape = Concat<axis = 0>(pictures, missing_boxed, four)
    no_clicks = Expand(padding, clicks_shape)
    no_labels = Expand(padding_label, labels_shape)
    no_boxes = Expand(padding, boxes_shape)
    clicks = Concat<axis = 1>(input_points, no_clicks)
    click_labels = Concat<axis = 1>(input_labels, no_labels)
    boxes = Concat<axis = 1>(input_boxes, no_boxes)
    corners_shape = Concat<axis = 0>(pictures, objects, pair)
    corners = Reshape(boxes, corners_shape)
    is_padding = Equal(boxes, padding)
    padding_count = Cast<to = 7>(is_padding)
    least_count = ReduceMin<keepdims = 1>(padding_count, two)
    is_no_box = Cast<to = 9>(least_count)
    box_labels = Where(is_no_box, padding_label, corner_labels)
    points = Concat<axis = 2>(corners, clicks)
    labels = Concat<axis = 2>(box_labels, click_labels)
}
"""


def write_onnx(graph: Graph, path: Path) -> None:
    """Writes a graph as one file, weights included.

    Nothing is optimised here: the runtimes do that when they load a graph, each in its own way, and tables of
    positions would become constants that are larger than the weights.
    """
    model = as_onnx(graph)
    if graph.has_boxes:
        join_prompts(model.graph)
    if graph.is_stored_in_half:
        store_in_half(model.graph)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def as_onnx(graph: Graph) -> Any:
    """The `onnx.ModelProto` of a graph."""
    axes: dict[str, Any] = {}
    shapes = tuple(
        {axis: axes.setdefault(label, torch.export.Dim(label)) for axis, label in graph.dynamic.get(name, {}).items()}
        for name in graph.inputs
    )
    with torch.no_grad():
        exported = torch.export.export(graph.module, tuple(graph.inputs.values()), dynamic_shapes=shapes)
        program = torch.onnx.export(
            exported,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET_VERSION,
            optimize=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    # traces of the lines that made each node, with paths of this machine
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.functions):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for axis, label in graph.dynamic.get(value.name, {}).items():
            value.type.tensor_type.shape.dim[axis].dim_param = label
    name_types(model)
    return model


def name_types(model: Any) -> None:
    """Makes casts to the type of another tensor casts to a type by name, in an `onnx.ModelProto`.

    ONNX Runtime 1.30, the newest for browsers, cannot load the others in float16.
    """
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types.update({weight.name: weight.data_type for weight in graph.initializer})
    for node in model.graph.node:
        if node.op_type == "CastLike":
            value, other = node.input
            node.CopyFrom(onnx.helper.make_node("Cast", [value], node.output, node.name, to=types[other]))


def join_prompts(graph: Any) -> None:
    """Gives an `onnx.GraphProto` with points and labels the inputs of `JOINED_PROMPTS` in their place."""
    joined = onnx.parser.parse_graph(JOINED_PROMPTS)
    for node in joined.node:  # names must not be those of the graph
        for values in (node.input, node.output):
            values[:] = [name if name in KEPT_NAMES else f"prompts.{name}" for name in values]
    others = [value for value in graph.input if value.name not in ("points", "labels")]
    nodes = list(graph.node)
    del graph.input[:], graph.node[:]
    graph.input.extend([*joined.input, *others])
    graph.node.extend([*joined.node, *nodes])


def store_in_half(graph: Any) -> None:
    """Rounds the weights of an `onnx.GraphProto` to float16; they become float32 again when they are used."""
    casts = []
    for weight in graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT:
            name = weight.name
            values = onnx.numpy_helper.to_array(weight).astype(np.float16)
            weight.CopyFrom(onnx.numpy_helper.from_array(values, f"{name}.half"))
            casts.append(onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
