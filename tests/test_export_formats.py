"""Formats of exported graphs beside ONNX: each runtime computes what PyTorch does."""

import importlib

import pytest
import torch
from small_models import make_video_model, random, small_video_config

from edgetam_hf.export.fixed import fixed_graphs
from edgetam_hf.export.folded import folded_copy
from edgetam_hf.export.graphs import Graph, picture_graphs, video_graphs

TOLERANCES = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module")
def model():
    config = small_video_config()
    config.mask_decoder_config.num_hidden_layers = 1
    return folded_copy(make_video_model(config=config))


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


def run_executorch(path, graph, inputs):
    runtime = pytest.importorskip("executorch.runtime", reason="runs ExecuTorch files: pip install executorch")
    outputs = runtime.Runtime.get().load_program(path).load_method("forward").execute(list(inputs.values()))
    return dict(zip(graph.outputs, outputs, strict=True))


def run_litert(path, graph, inputs):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="runs LiteRT: pip install ai-edge-litert")
    signature = interpreter.Interpreter(model_path=str(path)).get_signature_runner()
    numbered = {f"args_{idx}": tensor for idx, tensor in enumerate(inputs.values())}
    arrays = {name: (t.int() if t.dtype == torch.long else t).numpy() for name, t in numbered.items()}
    results = signature(**arrays)
    return {name: torch.from_numpy(results[f"output_{idx}"]) for idx, name in enumerate(graph.outputs)}


@pytest.fixture(scope="module")
def graphs(model):
    return {graph.name: graph for graph in (*picture_graphs(model), *video_graphs(model))}


@pytest.mark.parametrize(
    "name", ["vision_encoder", "object_decoder", "memory_attention", "mask_adopter", "memory_encoder"]
)
def test_openvino_file_computes_the_same_for_other_sizes(graphs, name, tmp_path):
    pytest.importorskip("openvino", reason="writes OpenVINO files: pip install openvino")
    from edgetam_hf.export.openvino import write_openvino

    graph = graphs[name]
    write_openvino(graph, tmp_path / f"{name}.xml")
    run = OpenVino(tmp_path / f"{name}.xml", graph)
    assert len(run.model.inputs) == len(graph.inputs)
    for lengths in ({}, {"pictures": 1, "objects": 1, "frames": 7, "pointers": 0, "points": 0}):
        inputs = other_inputs(graph, lengths)
        assert_computes(graph, inputs, run(inputs))


def test_openvino_decoder_joins_clicks_and_boxes(graphs, tmp_path):
    pytest.importorskip("openvino", reason="writes OpenVINO files: pip install openvino")
    from edgetam_hf.export.openvino import write_openvino

    graph = graphs["prompt_encoder_mask_decoder"]
    write_openvino(graph, tmp_path / "decoder.xml", has_half_weights=True)
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
def test_executorch_file_computes_the_same(fixed, name, tmp_path):
    pytest.importorskip("executorch.exir", reason="writes ExecuTorch files: pip install executorch")
    from edgetam_hf.export.executorch import write_executorch

    graph, path = fixed[name], tmp_path / f"{name}.pte"
    write_executorch(graph, path)
    inputs = other_inputs(graph, {})
    assert_computes(graph, inputs, run_executorch(path, graph, inputs))


@pytest.mark.parametrize("name", FIXED_NAMES)
def test_litert_file_computes_the_same(fixed, name, tmp_path):
    pytest.importorskip("litert_torch", reason="writes LiteRT files: pip install litert-torch")
    from edgetam_hf.export.litert import write_litert

    graph, path = fixed[name], tmp_path / f"{name}.tflite"
    write_litert(graph, path)
    inputs = other_inputs(graph, {})
    assert_computes(graph, inputs, run_litert(path, graph, inputs))


def test_core_ml_package_has_the_names_of_the_outputs(fixed, tmp_path):
    coremltools = pytest.importorskip("coremltools", reason="writes Core ML packages: pip install coremltools")
    from edgetam_hf.export.coreml import write_coreml

    graph, path = fixed["memory_encoder"], tmp_path / "memory_encoder.mlpackage"
    write_coreml(graph, path)
    description = coremltools.utils.load_spec(str(path)).description
    assert [output.name for output in description.output] == list(graph.outputs)
    assert len(description.input) == len(graph.inputs)


PACKAGES = [("executorch", "executorch"), ("litert", "litert_torch"), ("coreml", "coremltools")]


@pytest.mark.parametrize("module, package", PACKAGES)
def test_mobile_formats_reject_graphs_of_any_size(graphs, module, package, tmp_path):
    pytest.importorskip(package, reason=f"writes the files: pip install {package}")
    write = getattr(importlib.import_module(f"edgetam_hf.export.{module}"), f"write_{module}")
    with pytest.raises(ValueError, match="fixed sizes"):
        write(graphs["mask_adopter"], tmp_path / "file")
