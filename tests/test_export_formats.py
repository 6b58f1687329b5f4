"""Formats of exported graphs beside ONNX: each runtime computes what PyTorch does."""

import importlib

import pytest
import torch
from small_models import random

from edgetam_hf.export.fixed import fixed_graphs
from edgetam_hf.export.folded import folded_copy
from edgetam_hf.export.graphs import Graph, picture_graphs, video_graphs
from edgetam_hf.export.onnx import write_onnx

TOLERANCES = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module")
def model(video_model):
    return folded_copy(video_model)


def other_inputs(graph: Graph, lengths: dict[str, int]) -> dict[str, torch.Tensor]:
    """Numbers for a graph, in which axes have these lengths by name, and otherwise those of its example."""
    inputs = {}
    for seed, (name, example) in enumerate(graph.inputs.items()):
        labels = graph.dynamic.get(name, {})
        shape = [lengths.get(labels.get(axis, ""), size) for axis, size in enumerate(example.shape)]
        numbers = random(shape, seed)
        if example.dtype == torch.bool:
            numbers = numbers > 0
        elif example.dtype == torch.long:  # labels of points, and rows of the temporal encoding
            numbers = (numbers > 0).long()
        elif name == "points":
            numbers = 128 * numbers.sigmoid()
        inputs[name] = numbers.to(example.dtype)
    return inputs


def assert_computes(graph: Graph, inputs: dict[str, torch.Tensor], actual: dict[str, torch.Tensor], **tolerances):
    with torch.no_grad():
        expected = dict(zip(graph.outputs, graph.module(*inputs.values()), strict=True))
    torch.testing.assert_close(actual, expected, **(tolerances or TOLERANCES))


class OpenVino:
    """Runs a graph that was written for OpenVINO."""

    def __init__(self, path, graph):
        self.outputs = graph.outputs
        openvino = pytest.importorskip("openvino", reason="runs OpenVINO files: pip install openvino")
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        self.model = openvino.compile_model(path, "CPU", options)

    def __call__(self, inputs):
        results = self.model({name: tensor.numpy() for name, tensor in inputs.items()})
        return {name: torch.from_numpy(results[name].copy()) for name in self.outputs}


def write_as_openvino(graph, path):
    from edgetam_hf.export.openvino import write_openvino

    write_onnx(graph, path.with_suffix(".onnx"))
    write_openvino(path.with_suffix(".onnx"), path)


@pytest.fixture(scope="module")
def graphs(model, kept_graphs):
    return {graph.name: graph for graph in (*picture_graphs(model), *video_graphs(model))}


@pytest.mark.parametrize(
    "name", ["vision_encoder", "object_decoder", "memory_attention", "mask_adopter", "memory_encoder"]
)
def test_openvino_file_computes_the_same_for_other_sizes(graphs, name, tmp_path):
    pytest.importorskip("openvino", reason="writes OpenVINO files: pip install openvino")
    graph = graphs[name]
    write_as_openvino(graph, tmp_path / f"{name}.xml")
    run = OpenVino(tmp_path / f"{name}.xml", graph)
    assert len(run.model.inputs) == len(graph.inputs)
    for lengths in ({}, {"pictures": 1, "objects": 1, "frames": 7, "pointers": 0, "points": 0}):
        inputs = other_inputs(graph, lengths)
        assert_computes(graph, inputs, run(inputs))


def test_openvino_decoder_joins_clicks_and_boxes(graphs, tmp_path):
    pytest.importorskip("openvino", reason="writes OpenVINO files: pip install openvino")
    graph = graphs["prompt_encoder_mask_decoder"]
    write_as_openvino(graph, tmp_path / "decoder.xml")
    inputs = other_inputs(graph, {"pictures": 1, "objects": 2, "points": 3})
    given = {name: inputs[name] for name in inputs if name.startswith("image_embeddings")}
    points, labels = inputs["points"], inputs["labels"]
    given |= {"input_points": points, "input_labels": labels, "input_boxes": torch.zeros(1, 0, 4)}
    assert_computes(graph, inputs, OpenVino(tmp_path / "decoder.xml", graph)(given), atol=1e-1, rtol=1e-2)


@pytest.fixture(scope="module")
def fixed(model):
    return {graph.name: graph for graph in fixed_graphs(model, num_objects=2, num_points=4)}


def filled(tensor: torch.Tensor, shape: torch.Size, value: float = 7.0) -> torch.Tensor:
    """A tensor of this shape that begins with the given one, along every axis."""
    larger = torch.full(shape, value).to(tensor.dtype)
    larger[tuple(slice(size) for size in tensor.shape)] = tensor
    return larger


@torch.no_grad()
def test_fixed_memory_attention_ignores_what_fills_up(graphs, fixed):
    inputs = other_inputs(graphs["memory_attention"], {"objects": 2, "frames": 3, "pointers": 2})
    graph = fixed["memory_attention"]
    padded = {
        name: filled(tensor, graph.inputs[name].shape, value=0 if name == "time_idx" else 7)
        for name, tensor in inputs.items()
    }
    masks = {"is_memory": (2, 3), "is_pointer": (2, 2)}
    for name, shape in masks.items():
        padded[name] = filled(torch.ones(shape, dtype=torch.bool), graph.inputs[name].shape, value=0)
    assert list(padded) == list(graph.inputs)
    expected = graphs["memory_attention"].module(*inputs.values())
    torch.testing.assert_close(graph.module(*padded.values()), expected, **TOLERANCES)


@torch.no_grad()
def test_fixed_decoder_ignores_points_and_objects_that_fill_up(graphs, fixed):
    inputs = other_inputs(graphs["object_decoder"], {"objects": 1, "points": 2})
    graph = fixed["object_decoder"]
    padded = {
        name: filled(tensor, graph.inputs[name].shape, value=-10 if name == "labels" else 0)
        for name, tensor in inputs.items()
    }
    expected = graphs["object_decoder"].module(*inputs.values())
    actual = [output[:1] for output in graph.module(*padded.values())]
    torch.testing.assert_close(actual, list(expected), **TOLERANCES)


def test_fixed_graphs_have_no_axis_of_any_length(fixed, model):
    assert not any(graph.dynamic or graph.has_boxes for graph in fixed.values())
    assert fixed["memory_attention"].inputs["features"].shape[:2] == (2, model.config.num_maskmem)
    assert fixed["prompt_encoder_mask_decoder"].inputs["points"].shape == (1, 2, 4, 2)
    assert fixed["vision_encoder"].inputs["pixel_values"].shape == (1, 3, 128, 128)


FIXED_NAMES = (
    "vision_encoder",
    "prompt_encoder_mask_decoder",
    "object_decoder",
    "memory_attention",
    "mask_adopter",
    "memory_encoder",
)


@pytest.mark.parametrize("name", FIXED_NAMES)
@pytest.mark.parametrize("kind, package", [("executorch", "executorch.exir"), ("litert", "litert_torch")])
def test_mobile_file_computes_the_same_in_its_own_runtime(fixed, name, kind, package, tmp_path):
    pytest.importorskip(package, reason=f"writes and runs the files: pip install 'edgetam-hf[{kind}]'")
    module = importlib.import_module(f"edgetam_hf.export.{kind}")
    graph, path = fixed[name], tmp_path / name
    module.write_graph(graph, path)
    inputs = other_inputs(graph, {})
    outputs = module.open_graph(path)({key: tensor.numpy() for key, tensor in inputs.items()}, graph.outputs)
    assert_computes(graph, inputs, dict(zip(graph.outputs, map(torch.from_numpy, outputs), strict=True)))


def test_core_ml_package_has_the_names_of_the_outputs(fixed, tmp_path):
    coremltools = pytest.importorskip("coremltools", reason="writes Core ML packages: pip install coremltools")
    from edgetam_hf.export.coreml import write_graph

    graph, path = fixed["memory_encoder"], tmp_path / "memory_encoder.mlpackage"
    write_graph(graph, path)
    description = coremltools.utils.load_spec(str(path)).description
    assert [output.name for output in description.output] == list(graph.outputs)
    assert len(description.input) == len(graph.inputs)


PACKAGES = [("executorch", "executorch"), ("litert", "litert_torch"), ("coreml", "coremltools")]


@pytest.mark.parametrize("module, package", PACKAGES)
def test_mobile_formats_reject_graphs_of_any_size(graphs, module, package, tmp_path):
    pytest.importorskip(package, reason=f"writes the files: pip install {package}")
    write_graph = importlib.import_module(f"edgetam_hf.export.{module}").write_graph
    with pytest.raises(ValueError, match="fixed sizes"):
        write_graph(graphs["mask_adopter"], tmp_path / "file")
