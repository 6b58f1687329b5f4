"""Stages that are replayed as CUDA graphs equal those that run, and are recorded again when the model has changed."""

import copy
import pickle
import threading
import weakref
from functools import partial

import pytest
import torch
from edgetam_hf.base_edgetam import EdgeTamBaseModel
from edgetam_hf.cuda_graphs_edgetam_video import REPLAYED, StageGraphs
from edgetam_hf.position_edgetam import pixel_centres
from edgetam_hf.repvit_edgetam import RepVitTokenMixer
from simulated_graphs import TapedGraph
from small_models import make_video_model, random
from torch import nn
from tracking import BOX, CLICK, CORRECTION, OTHER_CLICK, Tracker, assert_equal

from edgetam_hf import cuda_graphs_edgetam_video, modeling_edgetam_video

GRAPHS = {"backend": "cudagraphs"}


@pytest.fixture
def recorded(monkeypatch):
    """Names of the stages that were recorded, as if the CPU could."""
    names = []

    class NotedGraph(TapedGraph):
        def __init__(self, function, *arguments):
            names.append(function.__name__)
            super().__init__(function, *arguments)

    monkeypatch.setattr(modeling_edgetam_video, "StageGraphs", partial(StageGraphs, NotedGraph))
    return names


@pytest.fixture
def twins(recorded, video_model):
    """Two copies of a model, the second of them with CUDA graphs."""
    models = [copy.deepcopy(video_model) for _ in range(2)]
    models[1].compile(**GRAPHS)
    return models


@pytest.fixture
def track(video_processor, clip):
    """Outputs of a short video with one object."""

    def call(model, num_frames=4, prompt=CLICK):
        tracker = Tracker(model, video_processor, clip[:num_frames])
        tracker.add(0, [1], **prompt)
        return tracker.track()

    return call


def edit(tracker):
    """Outputs of a video whose objects are added and corrected on the way."""
    tracker.add(0, [1], **CLICK)
    tracker.add(0, [2], **BOX)
    outputs = tracker.track(max_frame_num_to_track=5)
    tracker.add(3, [3], **OTHER_CLICK)
    tracker.add(4, [1], **CORRECTION)
    return outputs + tracker.track() + tracker.track(5, reverse=True)


def test_videos_with_cuda_graphs_equal_plain_ones(twins, recorded, video_processor, clip):
    """Three times, so that all shapes of a growing memory are replayed; what was found first stays as it was."""
    expected = edit(Tracker(twins[0], video_processor, clip[:8]))
    outputs, num_recorded = [], []
    for _ in range(3):
        outputs.append(edit(Tracker(twins[1], video_processor, clip[:8])))
        num_recorded.append(len(recorded))
    for found in outputs:
        assert_equal(found, expected)
    assert set(recorded) == set(REPLAYED) and 0 < num_recorded[0] < num_recorded[1] == num_recorded[2]


def test_streams_with_cuda_graphs_equal_plain_ones(twins, recorded, video_processor, clip):
    outputs = []
    for model in twins:
        tracker = Tracker(model, video_processor)
        tracker.add(0, [1, 2], input_boxes=[[[10, 30, 40, 60], [50, 20, 90, 70]]])
        with torch.inference_mode():
            outputs.append(tracker.stream(clip[:5]))
        outputs[-1] += tracker.stream(clip[5:7])
    assert_equal(outputs[1], outputs[0])
    assert "get_frame_embeddings" in recorded


def test_stages_are_recorded_when_their_shapes_are_seen_again(twins, recorded, track):
    track(twins[1], num_frames=2)
    assert recorded == ["get_frame_embeddings", "encode_memory"]  # what depends on neither prompts nor memory
    track(twins[1], num_frames=2)
    assert recorded.count("get_frame_embeddings") == recorded.count("attend_to_memory") == 1
    assert recorded.count("decode_objects") == 2  # with a click and without
    num_recorded = len(recorded)
    track(twins[1], num_frames=2)
    assert len(recorded) == num_recorded


def test_graphs_are_bounded(twins, recorded, track, monkeypatch):
    monkeypatch.setattr(cuda_graphs_edgetam_video, "MAX_SHAPES", 5)
    for prompt in (CLICK, OTHER_CLICK):
        assert_equal(track(twins[1], 6, prompt), track(twins[0], 6, prompt))
        assert 0 < len(twins[1]._graphs._graphs) <= 5
    assert recorded.count("get_frame_embeddings") > 1


def load_other_weights(model):
    model.load_state_dict(make_video_model(seed=3).state_dict())


def write_in_place(model):
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)


def give_other_data(model):
    for weight in model.vision_encoder.parameters():
        weight.data = weight.data * 1.1


def write_unnoticed(model):
    for weight in model.vision_encoder.parameters():
        weight.data.mul_(1.1)
    model.eval()


def replace_part(model):
    model.memory_attention = make_video_model(seed=3).memory_attention


def replace_weight(model):
    projection = model.memory_encoder.projection
    projection.weight = nn.Parameter(projection.weight.detach() * 2)


def convert(model):
    model.double().float()
    write_in_place(model)


@pytest.mark.parametrize(
    "change",
    [load_other_weights, write_in_place, give_other_data, write_unnoticed, replace_part, replace_weight, convert],
)
def test_changed_models_are_recorded_again(twins, recorded, track, change):
    before = [track(twins[1]) for _ in range(2)][1]
    num_recorded = len(recorded)
    for model in twins:
        change(model)
    expected = track(twins[0])
    for _ in range(2):
        assert_equal(track(twins[1]), expected)
    assert len(recorded) > num_recorded
    assert (before[-1].pred_masks - expected[-1].pred_masks).abs().max() > 1e-3


def test_graphs_read_what_was_folded_when_they_were_recorded(twins, track):
    """Even after a part has folded its weights anew: the old ones are kept where they lie."""
    expected = [track(twins[1]) for _ in range(2)][1]
    (part,) = [part for part in twins[1].vision_encoder.modules() if isinstance(part, RepVitTokenMixer)][:1]
    folded = part._folded
    twins[1].vision_encoder.train().eval()
    with torch.no_grad():
        twins[1].get_frame_embeddings(random((1, 3, 128, 128)))
    assert_equal(track(twins[1]), expected)
    assert part._folded is not folded
    assert all(any(one is folded for one in weights) for weights in twins[1]._graphs._folded_weights)


def watch_part(model, calls):
    handle = model.memory_encoder.memory_fuser.register_forward_hook(lambda *_: calls.append(1))
    return handle.remove


def watch_all_modules(model, calls):
    note = lambda module, *_: calls.append(1) if module is model.memory_encoder else None  # noqa: E731
    return torch.nn.modules.module.register_module_forward_hook(note).remove


def wrap_part(model, calls):
    forward = model.memory_encoder.forward

    def wrapper(*arguments):
        calls.append(1)
        return forward(*arguments)

    model.memory_encoder.forward = wrapper
    return partial(delattr, model.memory_encoder, "forward")


def wrap_stage(model, calls):
    stage = model.encode_memory

    def wrapper(*arguments):
        calls.append(1)
        return stage(*arguments)

    model.encode_memory = wrapper
    return partial(delattr, model, "encode_memory")


@pytest.mark.parametrize("watch", [watch_part, watch_all_modules, wrap_part, wrap_stage])
def test_hooks_and_wrappers_see_every_frame(twins, recorded, track, watch):
    calls, model = [], twins[1]
    expected = [track(model) for _ in range(2)][1]
    num_recorded, stop = len(recorded), watch(model, calls)
    for _ in range(2):
        assert_equal(track(model), expected)
    assert len(calls) == 8 and len(recorded) == num_recorded
    stop()
    assert_equal(track(model), expected)
    assert len(calls) == 8 and len(recorded) == num_recorded


def test_hooks_of_the_model_itself_do_not_keep_from_replaying(twins, recorded, video_processor, clip):
    calls = []
    twins[1].register_forward_hook(lambda *_: calls.append(1))
    tracker = Tracker(twins[1], video_processor)
    tracker.add(0, [1], **CLICK)
    tracker.stream(clip[:3])
    assert len(calls) == 3 and recorded


@pytest.mark.parametrize("is_part", [False, True])
def test_training_records_nothing(twins, recorded, track, is_part):
    for model in twins:
        (model.memory_attention if is_part else model).train()
    for _ in range(2):
        outputs = []
        for model in twins:
            torch.manual_seed(0)  # of dropout
            outputs.append(track(model))
        assert_equal(*outputs)
    assert recorded == []


def test_autocast_records_nothing(twins, recorded, track):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = track(twins[0])
        for _ in range(2):
            assert_equal(track(twins[1]), expected)
    assert recorded == []


def test_weights_of_inference_mode_are_not_recorded(recorded, video_model, track):
    with torch.inference_mode():
        model = copy.deepcopy(video_model)
        for module in model.modules():
            for name, weight in module._parameters.items():
                if weight is not None:
                    module._parameters[name] = nn.Parameter(weight.clone(), requires_grad=False)
    model.compile(**GRAPHS)
    for _ in range(2):
        assert_equal(track(model), track(video_model))
    assert recorded == []


def test_stages_that_are_called_alone_are_not_replayed(twins, recorded):
    frame = random((1, 3, 128, 128)).requires_grad_()
    for _ in range(3):
        sum(part.sum() for part in twins[1].get_frame_embeddings(frame)).backward()
    assert recorded == [] and frame.grad is not None


def test_streams_of_callers_have_graphs_of_their_own(twins, recorded, track, monkeypatch):
    expected = track(twins[0])
    for stream in (0, 1):
        recorded.clear()
        monkeypatch.setattr(TapedGraph, "current_stream", lambda device, stream=stream: stream)
        for _ in range(3):
            assert_equal(track(twins[1]), expected)
        assert set(recorded) == set(REPLAYED)


def test_threads_share_the_graphs_of_a_model(twins, track):
    expected = {name: track(twins[0], prompt=prompt) for name, prompt in (("click", CLICK), ("other", OTHER_CLICK))}
    found = {}

    def run(name, prompt):
        found[name] = [track(twins[1], prompt=prompt) for _ in range(3)]

    threads = [threading.Thread(target=run, args=case) for case in (("click", CLICK), ("other", OTHER_CLICK))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, outputs in found.items():
        for output in outputs:
            assert_equal(output, expected[name])
    assert len(found) == 2


def test_failed_recording_leaves_the_session_as_it_was(twins, track, video_processor, clip, monkeypatch):
    tracker = Tracker(twins[1], video_processor, clip[:4])
    tracker.add(0, [1], **CLICK)
    expected = track(twins[0])
    before = pickle.dumps(tracker.session)

    def fail(*arguments):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(TapedGraph, "_record", fail)
        tracker.show(0)
        before = pickle.dumps(tracker.session)
        with pytest.raises(RuntimeError, match="out of memory"):
            tracker.show(1)
    assert pickle.dumps(tracker.session) == before
    assert_equal(tracker.track(), expected)


def test_copies_pickles_and_saved_models_have_no_graphs(twins, track, tmp_path):
    model = twins[1]
    for _ in range(2):
        expected = track(model)
    copies = [copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    model.save_pretrained(tmp_path)
    copies.append(type(model).from_pretrained(tmp_path).eval())
    for twin in copies:
        assert twin._graphs is None and twin.state_dict().keys() == twins[0].state_dict().keys()
        assert_equal(track(twin), expected)
    assert model._graphs is not None


def test_compile_without_graphs_forgets_them(twins, track, recorded, monkeypatch):
    for _ in range(2):
        track(twins[1])
    recorded.clear()
    monkeypatch.setattr(EdgeTamBaseModel, "compile", lambda model, **options: None)
    twins[1].compile(backend="eager")
    assert twins[1]._graphs is None
    assert_equal(track(twins[1]), track(twins[0]))
    assert recorded == []


def test_graphs_compile_nothing_and_other_modes_are_those_of_torch(video_model, monkeypatch):
    model, options = copy.deepcopy(video_model), []
    monkeypatch.setattr(nn.Module, "compile", lambda part, **given: options.append(given))
    model.compile(**GRAPHS)
    assert options == [] and model._graphs is not None
    for given, mode in (("reduce-overhead", "default"), ("max-autotune", "max-autotune-no-cudagraphs")):
        model.compile(mode=given)
        assert model._graphs is not None and {one["mode"] for one in options} == {mode}
        options.clear()
    model.compile(mode="default", fullgraph=True)
    assert model._graphs is None and options[0] == {"mode": "default", "fullgraph": True}


def test_models_on_a_cpu_are_not_recorded(video_model, track):
    model = copy.deepcopy(video_model)
    model.compile(**GRAPHS)
    for _ in range(2):
        assert_equal(track(model), track(video_model))
    assert not model._graphs._graphs


def test_graphs_do_not_keep_their_model_alive(twins, track):
    """Nor leave it to the garbage collector."""
    model, destroyed = twins.pop(), []
    for _ in range(2):
        track(model)
    assert model._graphs._graphs
    weakref.finalize(model, destroyed.append, True)
    del model
    assert destroyed


def test_nothing_is_kept_of_what_is_computed_while_a_graph_is_captured(video_model, monkeypatch):
    model, frame = copy.deepcopy(video_model), random((1, 3, 128, 128))
    with torch.no_grad():
        expected = model.get_frame_embeddings(frame)
        model.train().eval()
        folded = [module._folded for module in model.modules() if hasattr(module, "_folded")]
        for name in ("is_initialized", "is_current_stream_capturing"):
            monkeypatch.setattr(torch.cuda, name, lambda: True)
        for actual, other in zip(model.get_frame_embeddings(frame), expected):
            torch.testing.assert_close(actual, other, atol=1e-6, rtol=0)
    assert all(
        module is other
        for module, other in zip((part._folded for part in model.modules() if hasattr(part, "_folded")), folded)
    )
    size = (3, 5, torch.device("cpu"))
    captured = pixel_centres(*size)
    monkeypatch.undo()
    assert pixel_centres(*size) is not captured and pixel_centres(*size) is pixel_centres(*size)
