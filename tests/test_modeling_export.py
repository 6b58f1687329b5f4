"""Whole models under `torch.compile`, `torch.export`, `torch.jit.trace` and ONNX: few graphs, equal results."""

import io

import pytest
import torch
from small_models import make_model, random, small_config
from torch import nn
from torch.export import Dim

PICTURES = random((2, 3, 64, 64))


@pytest.fixture
def model():
    config = small_config(64)
    config.mask_decoder_config.num_attention_heads = 2  # as in the released one, projections move to the tokens
    config.mask_decoder_config.num_hidden_layers = 1
    return make_model(config=config)


@pytest.fixture
def embeddings(model):
    with torch.no_grad():
        return [fm.clone() for fm in model.get_image_embeddings(PICTURES)]


def points(*shape):
    return 64 * torch.rand(*shape, 2, generator=torch.Generator().manual_seed(sum(shape)))


class Decoder(nn.Module):
    """Masks and scores, with positions for arguments, of a model."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, stride_4, stride_8, stride_16, input_points, input_labels):
        prompts = {"input_points": input_points, "input_labels": input_labels}
        output = self.model(image_embeddings=[stride_4, stride_8, stride_16], **prompts)
        return output.pred_masks, output.iou_scores, output.object_score_logits


class Encoder(Decoder):
    """Image embeddings of a model."""

    def forward(self, pixel_values):
        return tuple(self.model.get_image_embeddings(pixel_values))


def assert_equal(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, atol=3e-5, rtol=0)


def some_inputs(kind, embeddings, sizes):
    """Keyword arguments that differ in one size."""
    one = [fm[:1] for fm in embeddings]
    for size in sizes:
        yield {
            "objects": lambda n: {"image_embeddings": one, "input_points": points(1, n, 1)},
            "boxes_and_masks": lambda n: {
                "image_embeddings": one,
                "input_boxes": points(1, n, 2).sort(2).values.flatten(2),
                "input_masks": random((1, n, 16, 16)),
            },
            "points": lambda n: {"image_embeddings": one, "input_points": points(1, 1, n)},
            "pictures": lambda n: {
                "image_embeddings": [fm.repeat(n, 1, 1, 1) for fm in one],
                "input_points": points(n, 2, 1),
            },
        }[kind](size)


@pytest.mark.parametrize("kind", ["objects", "boxes_and_masks", "points", "pictures"])
@torch.no_grad()
def test_compiled_model_has_few_graphs_whatever_the_size(model, embeddings, kind):
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend=count)
    for inputs in some_inputs(kind, embeddings, (1, 2, 3, 64, 5, 1)):
        assert_equal([compiled(**inputs).pred_masks], [model(**inputs).pred_masks])
    assert len(graphs) <= 3


@torch.no_grad()
def test_exported_decoder_takes_any_number_of_pictures_objects_and_points(model, embeddings):
    pictures, objects, clicks = Dim("pictures", max=64), Dim("objects", max=64), Dim("clicks", max=64)
    sides = {0: pictures, 1: objects, 2: clicks}
    inputs = (*embeddings, points(2, 3, 4), torch.ones(2, 3, 4).long())
    shapes = ({0: pictures}, {0: pictures}, {0: pictures}, sides, sides)
    exported = torch.export.export(Decoder(model), inputs, dynamic_shapes=shapes).module()
    for shape in [(2, 3, 4), (4, 6, 9), (4, 2, 2)]:
        maps = [fm.repeat(shape[0] // 2, 1, 1, 1) for fm in embeddings]
        others = (*maps, points(*shape), torch.ones(shape).long())
        assert_equal(exported(*others), Decoder(model)(*others))


@torch.no_grad()
def test_exported_encoder_takes_any_number_of_pictures_and_stores_weights_alone(model):
    shapes = ({0: Dim("pictures", max=64)},)
    exported = torch.export.export(Encoder(model), (PICTURES,), dynamic_shapes=shapes)
    others = random((5, 3, 64, 64))
    assert_equal(exported.module()(others), Encoder(model)(others))
    for node in exported.graph.nodes:
        if node.op == "call_function" and "conv" in str(
            node.target
        ):  # runtimes know convolutions whose weights are stored
            assert node.args[1].op == "placeholder", node


@pytest.mark.parametrize("was_used", [False, True])
@torch.no_grad()
def test_traced_encoder_equals_the_model_and_leaves_it_as_it_was(model, was_used):
    encoder = Encoder(model).eval()
    expected = Encoder(make_model(config=model.config))(PICTURES)
    if was_used:
        encoder(PICTURES)
    traced = torch.jit.trace(encoder, (random((2, 3, 64, 64), seed=1),))  # which traces it twice, and compares
    assert_equal(traced(PICTURES), expected)
    assert_equal(encoder(PICTURES), expected)


@torch.no_grad()
def test_traced_decoder_equals_the_model(model, embeddings):
    shape = (2, 3, 4)
    decoder = Decoder(model).eval()
    traced = torch.jit.trace(decoder, (*embeddings, points(*shape), torch.ones(shape).long()))
    others = (*embeddings, points(*shape) / 2, torch.zeros(shape).long())
    assert_equal(traced(*others), decoder(*others))


@torch.no_grad()
def test_encoder_is_written_as_onnx(model):
    pytest.importorskip("onnx", reason="writing ONNX needs onnx: pip install onnx")
    content = io.BytesIO()
    torch.onnx.export(Encoder(model).eval(), (PICTURES,), content, dynamo=False)
    assert len(content.getvalue()) > 100_000


@torch.no_grad()
def test_simulated_tensors_leave_nothing_behind(model):
    from torch._subclasses.fake_tensor import FakeTensorMode

    config = small_config(96)  # of another size than any other test's, so that its tables are computed here first
    with FakeTensorMode():
        simulated = type(model)(config).eval()
        output = simulated(pixel_values=torch.randn(1, 3, 96, 96), input_points=torch.rand(1, 2, 1, 2))
    assert output.pred_masks.shape == (1, 2, 3, 24, 24)
    real = make_model(config=config)(pixel_values=random((1, 3, 96, 96)), input_points=points(1, 2, 1))
    assert type(real.pred_masks) is torch.Tensor


@torch.no_grad()
def test_several_models_run_at_once_under_vmap(model):
    others = [model, make_model(config=model.config, seed=1)]
    inputs = {"pixel_values": PICTURES, "input_points": points(2, 1, 1)}
    stacked = torch.func.stack_module_state(others)
    masks = torch.func.vmap(lambda *state: torch.func.functional_call(model, state, (), inputs).pred_masks)(*stacked)
    for actual, other in zip(masks, others, strict=True):
        assert_equal([actual], [other(**inputs).pred_masks])


@torch.no_grad()
def test_pictures_are_mapped_over_under_vmap(model):
    inputs = {"input_points": points(1, 2, 1)}
    masks = torch.func.vmap(lambda picture: model(pixel_values=picture[None], **inputs).pred_masks)(PICTURES)
    for actual, picture in zip(masks, PICTURES, strict=True):
        assert_equal([actual], [model(pixel_values=picture[None], **inputs).pred_masks])
