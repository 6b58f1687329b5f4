"""Memory that chooses: what is remembered of an object, and that everything else is as with a memory that does not."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from edgetam_hf.memory_bank_edgetam import Reach
from edgetam_hf.memory_selection_edgetam import learn_looks, look_of_all
from PIL import Image
from small_models import make_video_model, make_video_processor
from tracking import BOX, CLICK, CORRECTION, Tracker, assert_equal, differ, of_object, square

from edgetam_cli import main
from edgetam_hf import MemorySelection
from edgetam_hf.export.runtime import ExportedEdgeTam
from edgetam_hf.files.reading import read_json

POINTS = {"input_points": [[[[25, 45]], [[70, 20]], [[60, 40]]]]}


@pytest.fixture(scope="module")
def parts():
    return make_video_model(64), make_video_processor(64)


@pytest.fixture(scope="module")
def long_clip(clip):
    return clip[[*range(12), *range(10, 0, -1)]]


@pytest.fixture(scope="module")
def choosy(parts, long_clip):
    """A selection that is sure of about half of the frames, and compares looks."""
    tracker = Tracker(*parts, long_clip)
    tracker.add(0, [1, 2, 3], **POINTS)
    scores = torch.cat([output.iou_scores for output in tracker.track()[1:]])
    return MemorySelection(num_searched=9, least_iou=float(scores.median()), look_weight=1.0)


@pytest.fixture
def make_tracker(parts, long_clip, choosy):
    """A tracker of the long clip, or with `video=None` of a stream, with a memory that chooses."""

    def make(video=long_clip, memory_selection=choosy, **settings):
        return Tracker(*parts, video, memory_selection=memory_selection, **settings)

    return make


def seen(iou=1.0, logit=5.0, memory=True, prompt=None):
    return SimpleNamespace(
        iou_score=torch.tensor(iou), object_score_logit=torch.tensor(logit), memory=memory or None, prompt=prompt
    )


# What is chosen.


def test_selection_without_values_leaves_nothing_out():
    earlier = {d: seen(iou=0.0, logit=-9.0) for d in (1, 2, 4, 7)}
    assert list(MemorySelection().choose(earlier, 6).items()) == [(4, 3), (2, 1), (1, 0)]
    assert MemorySelection().sure(earlier) == [1, 2, 4, 7]
    assert MemorySelection.of("recent") == MemorySelection()


def test_selection_of_another_copy_of_the_class_becomes_one_of_this():
    values = {"num_searched": 9, "least_iou": 0.5, "has_absent": False, "look_weight": 1.5}
    selection = MemorySelection.of(SimpleNamespace(**values))
    assert selection == MemorySelection(**values) == MemorySelection.of(selection)


def test_selection_takes_the_nearest_of_which_it_is_sure():
    earlier = {d: seen(iou=0.9 if d % 2 else 0.1) for d in range(1, 16)}
    chosen = MemorySelection(num_searched=12, least_iou=0.5).choose(earlier, 4)
    assert list(chosen.items()) == [(7, 3), (5, 3), (3, 2), (1, 0)]
    assert MemorySelection(num_searched=4, least_iou=0.5).choose(earlier, 4) == {3: 2, 1: 0}


@pytest.mark.parametrize("doubtful", [{"iou": 0.4}, {"logit": 0.0}, {"iou": 0.9, "logit": -3.0}])
def test_selection_leaves_out_doubtful_frames_but_not_prompted_ones(doubtful):
    selection = MemorySelection(least_iou=0.5, has_absent=False)
    earlier = {1: seen(**doubtful), 2: seen(), 3: seen(**doubtful, prompt=object()), 4: seen(memory=False)}
    assert selection.sure(earlier) == [2, 3, 4]
    assert selection.choose(earlier, 6) == {3: 2, 2: 1}


def test_absent_frames_are_remembered_whatever_their_predicted_iou():
    earlier = {1: seen(iou=0.1, logit=-3.0), 2: seen(iou=0.1), 3: seen(iou=0.6)}
    assert MemorySelection(least_iou=0.5).sure(earlier) == [1, 3]


def test_frames_of_which_an_object_is_not_sure_are_not_remembered(make_tracker, choosy):
    tracker, recent = make_tracker(), make_tracker(memory_selection="recent")
    for one in (tracker, recent):
        one.add(0, [1, 2, 3], **POINTS)
    outputs = tracker.track()
    assert differ(outputs, recent.track())

    def is_sure(result):
        return result.object_score_logit <= 0 or result.iou_score >= choosy.least_iou

    num_left_out = 0
    for tracked_object in tracker.session.objects.values():
        results = tracked_object.tracked
        reach = tracker_reach(tracker)
        memory = tracked_object.memory_at(21, reach, reverse=False)
        sure = [t for t in range(20, 11, -1) if is_sure(results[t])][:6]
        expected = [results[t].memory for t in reversed(sure)]
        assert len(memory.features) == 1 + len(expected)
        assert all(one is other for one, other in zip(memory.features[1:], expected))
        num_left_out += 9 - len(sure)
    assert num_left_out > 0


def tracker_reach(tracker):
    session = tracker.session
    return Reach.of(tracker.model.config, session.num_frames, session.num_kept, session.memory_selection)


# What an object looks like.


@pytest.fixture
def coloured():
    """Features (1, 3, 8, 8) whose left half has another colour than the right one, and masks of both halves."""
    features = 0.1 * torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    features[..., :4] += 1
    left = torch.full((8, 8), -5.0)
    left[:, :4] = 5
    return features, left, -left


def test_score_falls_where_a_mask_does_not_look_like_the_object(coloured):
    features, left, right = coloured
    looks, scores = learn_looks(features, torch.stack((left, right))), torch.tensor([6.0, 6.0])
    selection = MemorySelection(look_weight=2.0)
    assert selection.doubt(features, torch.stack((left, right)), scores, looks).tolist() == [6, 6]
    assert selection.doubt(features, torch.stack((right, left)), scores, looks).tolist() == [-2, -2]
    alone = selection.doubt(features, right[None], scores[:1], looks[:1])
    assert alone.tolist() == [-2]


@pytest.mark.parametrize("num_pixels", [0, 2, 62, 64])
def test_an_object_of_too_few_pixels_looks_like_everything(coloured, num_pixels):
    features, left, _ = coloured
    mask = torch.full((64,), -5.0)
    mask[:num_pixels] = 5
    looks = learn_looks(features, mask.view(1, 8, 8))
    assert torch.equal(looks[0], look_of_all(features))
    assert MemorySelection(look_weight=9.0).doubt(features, left[None], torch.ones(1), looks).tolist() == [1]


def test_one_colour_is_a_look(coloured):
    features, left, right = coloured
    looks = learn_looks(torch.ones_like(features), left[None])
    assert torch.isfinite(looks).all()
    assert torch.isfinite(MemorySelection(look_weight=2.0).doubt(features, right[None], torch.ones(1), looks)).all()


def test_doubt_changes_what_is_shown_and_not_what_is_remembered(make_tracker):
    shown, recent = (
        make_tracker(memory_selection=MemorySelection(look_weight=50.0)),
        make_tracker(memory_selection="recent"),
    )
    outputs, others = [], []
    for tracker, found in ((shown, outputs), (recent, others)):
        tracker.add(0, [1, 2, 3], **POINTS)
        found += tracker.track()
    num_absent = 0
    for output, other in zip(outputs, others):
        is_absent = output.object_score_logits <= 0
        assert (output.object_score_logits <= other.object_score_logits).all()
        assert torch.equal(output.pred_masks[~is_absent], other.pred_masks[~is_absent])
        assert (output.pred_masks[is_absent] < 0).all()
        num_absent += int((is_absent & (other.object_score_logits > 0)).sum())
    assert num_absent > 0
    for obj_id, tracked_object in shown.session.objects.items():
        for t, result in recent.session.objects[obj_id].tracked.items():
            assert torch.equal(tracked_object.tracked[t].memory, result.memory)
            assert torch.equal(tracked_object.tracked[t].pointer, result.pointer)


def test_a_session_may_begin_to_compare_looks_in_the_middle(make_tracker):
    tracker, recent = make_tracker(memory_selection="recent"), make_tracker(memory_selection="recent")
    for one in (tracker, recent):
        one.add(0, [1, 2, 3], **POINTS)
    outputs = tracker.track(max_frame_num_to_track=5)
    tracker.session.memory_selection = MemorySelection(look_weight=50.0)
    assert_equal(outputs + tracker.track(6), recent.track(), atol=0)


# All else.


def test_pickled_in_the_middle_equals_uninterrupted(make_tracker):
    whole, part = make_tracker(max_memory_frames=1), make_tracker(max_memory_frames=1)
    for tracker in (whole, part):
        tracker.add(0, [1, 2, 3], **POINTS)
    outputs = part.track(max_frame_num_to_track=10)
    part.session = pickle.loads(pickle.dumps(part.session))
    assert_equal(outputs + part.track(11), whole.track(), atol=0)


def test_limit_of_memory_and_stream_change_nothing(make_tracker, long_clip):
    whole, bounded, stream = make_tracker(), make_tracker(max_memory_frames=1), make_tracker(None)
    for tracker in (whole, bounded, stream):
        tracker.add(0, [1, 2], input_points=[[[[25, 45]], [[70, 20]]]])
    expected = whole.track()
    assert_equal(bounded.track(), expected)
    assert_equal(stream.stream(long_clip), expected)


def test_objects_do_not_depend_on_each_other(make_tracker):
    together = make_tracker()
    together.add(0, [1, 2, 3], **POINTS)
    outputs = together.track()
    for obj_id, point in enumerate(POINTS["input_points"][0], start=1):
        alone = make_tracker(max_objects_per_batch=1)
        alone.add(0, obj_id, input_points=[[point]])
        assert_equal(of_object(outputs, obj_id), alone.track())


def test_tracking_back_is_tracking_of_the_reversed_clip(make_tracker, long_clip):
    forwards, backwards = make_tracker(long_clip[::-1].copy()), make_tracker()
    forwards.add(0, 1, **BOX)
    backwards.add(21, 1, **BOX)
    expected = forwards.track()
    for output in expected:
        output.frame_idx = 21 - output.frame_idx
    assert_equal(backwards.track(21, reverse=True), expected)


def test_correction_far_behind_is_kept_with_a_limit(make_tracker):
    outputs = []
    for tracker in (make_tracker(max_memory_frames=1), make_tracker()):
        tracker.add(0, 1, **CLICK)
        tracker.track()
        tracker.add(4, 1, **CORRECTION)
        tracker.show(4)
        outputs.append(tracker.track())
    assert_equal(*outputs)


def test_memory_stops_growing(make_tracker, long_clip, choosy):
    stream = make_tracker(None)
    stream.add(0, 1, **CLICK)
    sizes = []
    for part in (long_clip[:18], long_clip[:4], long_clip[:4]):
        stream.stream(part)
        sizes.append(len(pickle.dumps(stream.session)))
    assert sizes[0] == sizes[1] == sizes[2]
    results = stream.session.objects[1].tracked.values()
    assert len([result for result in results if result.memory is not None]) == choosy.num_searched + 1


def test_object_that_is_not_there_on_its_first_frame_is_tracked(make_tracker, long_clip):
    tracker = make_tracker(memory_selection="confident")
    tracker.add(0, 1, input_masks=np.zeros((90, 120), bool))
    tracker.add(5, 1, input_masks=square(long_clip, 5))
    outputs = tracker.track()
    assert len(outputs) == 22 and outputs[0].object_score_logits < 0 < outputs[5].object_score_logits
    assert all(output.pred_masks.isfinite().all() for output in outputs)


def test_exported_model_remembers_the_same(exported, video_model, video_processor, clip, choosy):
    outputs = []
    for model in (ExportedEdgeTam.from_pretrained(exported, "onnxruntime"), video_model):
        tracker = Tracker(model, video_processor, clip, memory_selection=choosy)
        tracker.add(0, [1, 2, 3], **POINTS)
        outputs.append(tracker.track())
    assert_equal(*outputs, atol=1e-3)


# Bad input.


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("last", ValueError, 'must be "recent", "confident" or a MemorySelection, got \'last\''),
        ("", ValueError, "got ''"),
        (None, TypeError, "or a MemorySelection, got NoneType"),
        (3, TypeError, "got int"),
        (MemorySelection, TypeError, "got type"),
        (np.zeros(3), TypeError, "got ndarray"),
        (SimpleNamespace(least_iou=0.5), TypeError, "got SimpleNamespace"),
        (SimpleNamespace(**{**vars(MemorySelection()), "least_iou": 5}), ValueError, "least_iou must be between 0 and"),
    ],
)
def test_session_rejects_other_selections(parts, clip, value, error, message):
    with pytest.raises(error, match=message):
        parts[1].init_video_session(clip, memory_selection=value)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"num_searched": 0}, ValueError, "num_searched must be between 1 and 1000, got 0"),
        ({"num_searched": 10**9}, ValueError, "num_searched must be between 1 and 1000"),
        ({"num_searched": 2.5}, TypeError, "num_searched must be a whole number, got 2.5"),
        ({"least_iou": 1.5}, ValueError, "least_iou must be between 0 and 1, got 1.5"),
        ({"least_iou": float("nan")}, ValueError, "least_iou must be between 0 and 1, got nan"),
        ({"least_iou": "high"}, TypeError, "least_iou must be a number, got 'high'"),
        ({"look_weight": -1}, ValueError, "look_weight must be between 0 and 1000"),
        ({"has_absent": "no"}, TypeError, "has_absent must be True or False, got 'no'"),
    ],
)
def test_selection_rejects_values(values, error, message):
    with pytest.raises(error, match=message):
        MemorySelection(**values)


# Commands.


def test_track_resumes_with_the_memory_with_which_it_began(video_folder, clip, tmp_path, capsys):
    (tmp_path / "clip").mkdir()
    for idx, frame in enumerate(clip):
        Image.fromarray(frame).save(tmp_path / "clip" / f"{idx:02d}.png")
    arguments = ["track", str(tmp_path / "clip"), "--output", str(tmp_path / "out")]
    begun = ["--point", "25,45", "--max-frames", "4", "--model", str(video_folder), "--memory", "confident"]
    assert main([*arguments, *begun]) == 0
    assert read_json(tmp_path / "out/run.json")["settings"]["memory"] == "confident"
    assert main([*arguments, "--resume", "--memory", "confident"]) == 0
    capsys.readouterr()
    assert main([*arguments, "--resume", "--memory", "recent"]) == 1
    assert "was started with other memory: leave it out" in capsys.readouterr().err


def test_evaluation_does_not_mix_memories(davis, video_folder, tmp_path, capsys):
    arguments = ["evaluate", "davis", str(davis), "--model", str(video_folder), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--sequences", "cat", "--memory", "confident"]) == 0
    assert read_json(tmp_path / "out/run.json")["memory"] == "confident"
    capsys.readouterr()
    assert main([*arguments, "--sequences", "cat"]) == 1
    assert "results of another memory: choose another --output" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["clicks"], ["davis", "--results", "pictures"]])
def test_evaluation_rejects_a_memory_where_nothing_is_tracked(tmp_path, capsys, more):
    assert main(["evaluate", more[0], str(tmp_path), *more[1:], "--memory", "confident"]) == 1
    assert "--memory is for videos that are tracked" in capsys.readouterr().err
