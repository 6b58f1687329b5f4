"""`model.compile()` changes no result, and compiles nothing anew for more clicks, objects, points or frames."""

import copy
import pickle

import pytest
import torch
from small_models import assert_outputs_close, make_model, make_video_model, random, small_config, small_video_config

from edgetam_hf import base_edgetam


@pytest.fixture
def compiled():
    """Compiles a copy of a model; returns it with the list to which graphs are added when they are compiled."""
    torch._dynamo.reset()

    def compile_copy(model):
        graphs = []

        def add(graph, example_inputs):
            graphs.append(graph)
            return graph.forward

        model = copy.deepcopy(model)
        model.compile(backend=add, fullgraph=True)
        return model, graphs

    return compile_copy


@torch.no_grad()
def test_clicks_and_objects_are_compiled_once(compiled):
    config = small_config(64)
    config.mask_decoder_config.num_attention_heads = 2  # with EdgeTAM's ratio to the channels
    model = make_model(config=config)
    twin, graphs = compiled(model)

    def predict(num_objects, num_clicks):
        points = 64 * torch.rand(1, num_objects, num_clicks, 2, generator=torch.Generator().manual_seed(num_clicks))
        output, expected = (one(image_embeddings=embeddings, input_points=points) for one in (twin, model))
        assert_outputs_close(output, expected, 2e-5)
        return len(graphs)

    embeddings = model.get_image_embeddings(random((1, 3, 64, 64)))
    for actual, expected in zip(twin.get_image_embeddings(random((1, 3, 64, 64))), embeddings):
        torch.testing.assert_close(actual, expected, atol=2e-5, rtol=1e-5)
    assert predict(1, 1) < predict(2, 2)
    num_graphs = len(graphs)
    for shape in [(1, 2), (1, 3), (1, 5), (2, 1), (3, 4), (7, 2), (1, 1), (1, 8)]:
        assert predict(*shape) == num_graphs
    assert num_graphs < predict(1, 9) < predict(3, 9)
    num_graphs = len(graphs)
    for shape in [(1, 20), (2, 30), (5, 9), (1, 1), (4, 1)]:
        assert predict(*shape) == num_graphs


@torch.no_grad()
def test_mask_generation_is_compiled_for_one_point_and_for_several(compiled, monkeypatch):
    monkeypatch.setattr(base_edgetam, "num_at_once", lambda width, dtype: 16)
    model = make_model(config=small_config(160, hidden_size=96))  # where 16 is no other size, as in EdgeTAM
    twin, graphs = compiled(model)
    image_embeddings = model.get_image_embeddings(random((1, 3, 160, 160)))
    points = 160 * torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    thresh = model.confident_masks(image_embeddings, points)[1].median().item()
    num_graphs = []
    for part in 2 * points.split((40, 40, 40, 30, 33, 17)):
        masks, scores, point_idx = twin.confident_masks(image_embeddings, part, thresh)
        expected = model.confident_masks(image_embeddings, part, thresh)
        torch.testing.assert_close(masks, expected[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(scores, expected[1], atol=1e-4, rtol=0)
        assert torch.equal(point_idx, expected[2]) and len(masks) > 10
        num_graphs.append(len(graphs))
    assert len(set(num_graphs[:4])) == 1  # until a batch ends with a single point
    assert 0 < num_graphs[4] == num_graphs[-1] <= 4


def test_video_is_compiled_until_its_memory_is_full(compiled, video_processor, clip):
    """Once for one object and once for several, whatever their number."""
    model = make_video_model(config=small_video_config(num_maskmem=3, max_object_pointers_in_encoder=4))
    twin, graphs = compiled(model)

    def track(model, num_objects):
        session = video_processor.init_video_session(video=clip[:8])
        clicks = {"input_points": [[[[25 + 15 * i, 45]] for i in range(num_objects)]]}
        clicks["input_labels"] = [[[1]] * num_objects]
        video_processor.add_inputs_to_inference_session(session, 0, list(range(num_objects)), **clicks)
        return [(output.pred_masks, len(graphs)) for output in model.propagate_in_video_iterator(session)]

    counts = {}
    for num_objects in (1, 3, 2, 4):
        masks, counts[num_objects] = zip(*track(twin, num_objects))
        expected, _ = zip(*track(model, num_objects))
        torch.testing.assert_close(torch.stack(masks), torch.stack(expected), atol=1e-4, rtol=0)
    for num_objects in (1, 3):
        assert counts[num_objects][0] < counts[num_objects][3] == counts[num_objects][-1]
    assert set(counts[2] + counts[4]) == {counts[3][-1]}


def test_copies_and_pickles_are_not_compiled(video_model):
    model = copy.deepcopy(video_model)
    model.compile(backend="eager")
    assert sum(module._compiled_call_impl is not None for module in model.modules()) == 6
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(module._compiled_call_impl is None for module in twin.modules())
        assert "draw_masks" in vars(model.mask_decoder) and "draw_masks" not in vars(twin.mask_decoder)
        assert twin.state_dict().keys() == video_model.state_dict().keys()
