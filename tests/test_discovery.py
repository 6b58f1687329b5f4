"""Everything in a video: objects are discovered on frames, followed with stable ids, merged and dropped."""

import pickle

import numpy as np
import pytest
import torch
from edgetam_hf.discovery_edgetam_video import discover, let_go, uncovered_masks
from edgetam_hf.everything_edgetam_video import (
    EverythingOptions,
    EverythingState,
    Known,
    Seen,
    look_at,
    looks_of,
    middles,
    recognized,
)
from edgetam_hf.masks_edgetam import resize_mask
from edgetam_hf.memory_selection_edgetam import MemorySelection
from edgetam_hf.pipeline_edgetam import EdgeTamMaskGenerationPipeline
from PIL import Image
from simulated_gpu import on_gpu
from small_models import make_video_model, make_video_processor
from tracking import CLICK, CORRECTION, NAMES, Tracker, assert_equal, differ, of_object

# Random weights give neither confident nor stable masks.
LOOSE = {"points_per_crop": 3, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "crops_nms_thresh": 1.0}
EVERYTHING = {**LOOSE, "every": 4, "max_objects": 5, "max_uncovered": 1.0, "max_covered": 0.8}
SIZE = (90, 120)
LOOK = (1.0, 0.0)
KNOWN = Known(LOOK, (0.5, 0.5))


@pytest.fixture(scope="module")
def parts():
    return make_video_model(64, seed=7), make_video_processor(64)


@pytest.fixture
def make_tracker(parts, clip):
    """A tracker of the clip, or with `video=None` of a stream."""

    def make(video=clip, **settings):
        return Tracker(*parts, video, **settings)

    return make


def follow(tracker, **settings):
    return list(tracker.model.track_everything(tracker.session, **{**EVERYTHING, **settings}))


def stream(tracker, frames, **settings):
    pixel_values = tracker.processor(images=list(frames), return_tensors="pt")["pixel_values"]
    options = {**EVERYTHING, **settings, "original_size": SIZE}
    return [tracker.model.track_everything_on_frame(tracker.session, frame=frame, **options) for frame in pixel_values]


def prompted_masks(session, frame_idx=0):
    """Mask prompts (H, W) on a frame, by object id."""
    return {obj_id: known.prompts[frame_idx][0].mask for obj_id, known in session.objects.items()}


def greedy(masks, covered, max_covered):
    """What is left of masks in turn that are covered little enough."""
    left = []
    for mask in masks:
        rest = mask & ~covered
        resized = resize_mask(rest, (64, 64))
        if resized.any() and (mask & covered).sum() <= max_covered * mask.sum():
            left.append(resized)
            covered = covered | rest
    return left


# On a frame


@pytest.mark.parametrize("num_layers", [0, 1])
@pytest.mark.parametrize("max_covered", [0.3, 1.0])
def test_discover_finds_the_masks_of_everything_that_do_not_overlap(make_tracker, clip, max_covered, num_layers):
    tracker = make_tracker()
    options = {**LOOSE, "crops_n_layers": num_layers}
    generator = EdgeTamMaskGenerationPipeline(
        model=tracker.model, image_processor=tracker.processor.image_processor, device="cpu"
    )
    masks = generator(Image.fromarray(clip[2]), **options)["masks"]
    expected = greedy(masks, torch.zeros(SIZE, dtype=torch.bool), max_covered)
    obj_ids = tracker.model.discover(tracker.session, 2, max_covered=max_covered, min_area=0, max_area=1, **options)
    found = prompted_masks(tracker.session, 2)
    assert obj_ids == list(found) == list(range(1, len(expected) + 1)) and len(expected) > 1
    assert all(torch.equal(mask, other) for mask, other in zip(found.values(), expected))
    assert tracker.show(2).object_ids == obj_ids


def test_discover_leaves_out_what_objects_cover(make_tracker):
    tracker = make_tracker()
    tracker.add(0, 7, **CLICK)
    output = tracker.show(0)
    covered = torch.nn.functional.interpolate(output.pred_masks, SIZE, mode="bilinear")[0, 0] > 0
    obj_ids = tracker.model.discover(tracker.session, 0, max_covered=0.2, min_area=0, **LOOSE)
    assert obj_ids[0] == 8
    for obj_id, mask in prompted_masks(tracker.session).items():
        assert obj_id == 7 or not (mask & resize_mask(covered, (64, 64))).float().mean() > 0.02


def test_discover_answers_prompts_that_wait(make_tracker):
    asked, answered = make_tracker(), make_tracker()
    for tracker in (asked, answered):
        tracker.add(0, 1, **CLICK)
    answered.show(0)
    found = [tracker.model.discover(tracker.session, 0, **LOOSE) for tracker in (asked, answered)]
    assert found[0] == found[1] != []
    assert_equal([asked.show(0)], [answered.show(0)])


def test_discover_takes_the_best_of_thousands(make_tracker):
    tracker = make_tracker()
    many = {**LOOSE, "points_per_crop": 20, "crops_nms_thresh": 1.0, "max_covered": 1, "min_area": 0}
    few = tracker.model.discover(tracker.session, 0, **many, max_objects=4)
    assert few == [1, 2, 3, 4]
    other = make_tracker()
    assert other.model.discover(other.session, 0, **many, max_objects=6)[:4] == few
    best = prompted_masks(other.session)
    assert all(torch.equal(mask, best[obj_id]) for obj_id, mask in prompted_masks(tracker.session).items())
    assert tracker.model.discover(tracker.session, 0, **many, max_objects=4) == []


def test_discover_gives_no_id_twice(make_tracker):
    tracker = make_tracker()
    tracker.add(0, 40, **CLICK)
    tracker.session.remove_object(40)
    obj_ids = tracker.model.discover(tracker.session, 0, **LOOSE)
    assert obj_ids[0] == 41
    for obj_id in obj_ids:
        tracker.session.remove_object(obj_id)
    assert tracker.model.discover(tracker.session, 0, **LOOSE)[0] == obj_ids[-1] + 1
    tracker.session.reset_tracking_data()
    assert tracker.model.discover(tracker.session, 0, **LOOSE)[0] == 1


def test_discover_recognizes_objects_that_are_missed(make_tracker):
    options = EverythingOptions.read(LOOSE, None)
    first, again = make_tracker(), make_tracker()
    once = discover(first.model, first.session, 0, options, known={})
    assert list(once) == [*range(1, len(once) + 1)] and len(once) > 2
    again.session.set_everything(EverythingState(next_id=50))
    known = {7: once[2], 8: once[1]._replace(look=tuple(-part for part in once[1].look))}
    found = discover(again.model, again.session, 0, options, known)
    assert [*found.values()] == [*once.values()]
    assert [obj_id for obj_id, one in found.items() if one == once[2]] == [7]
    assert {*found} - {7} == {*range(50, 50 + len(found) - 1)}


def test_let_go_removes_objects_whose_masks_look_like_something_else(make_tracker):
    tracker = make_tracker()
    output, session = follow(tracker, max_frame_num_to_track=0)[0], tracker.session
    features, obj_ids = session.image_embeddings[0][0], output.object_ids
    looks = looks_of(features, list(output.pred_masks[:, 0] > 0))
    known = {obj_id: Known(look, (0.5, 0.5)) for obj_id, look in zip(obj_ids, looks)}
    empty = {obj_id: one for obj_id, one in known.items() if not any(one.look)}
    assert let_go(session, 0, features, known, 0.3) == empty and session.obj_ids == obj_ids
    other = Known(tuple(-part for part in known[1].look), (0.5, 0.5))
    assert let_go(session, 0, features, {**known, 1: other, 99: other}, 0.3) == {1: other, **empty, 99: other}
    assert session.obj_ids == obj_ids[1:]


def test_discover_has_the_checkpoints_options(nano, clip):
    session = nano[1].init_video_session(clip)
    assert session.mask_generation == nano[1].image_processor.mask_generation
    options = EverythingOptions.read({"points_per_crop": 5}, session.mask_generation)
    assert (options.search.points_per_crop, options.search.max_hole_area, options.search.crops_n_layers) == (5, 16, 0)


def test_discover_works_under_autocast(make_tracker):
    tracker = make_tracker()
    with torch.autocast("cpu", torch.bfloat16):
        assert len(tracker.model.discover(tracker.session, 0, **LOOSE)) > 1


def test_discover_changes_nothing_after_an_error(make_tracker, monkeypatch):
    tracker = make_tracker()
    outputs = follow(tracker, max_frame_num_to_track=3)

    def fail(*arguments):
        raise RuntimeError("out of memory")

    before = pickle.dumps(tracker.session)
    with monkeypatch.context() as patched:
        patched.setattr(type(tracker.model), "confident_masks", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            follow(tracker)
    assert tracker.session.everything == pickle.loads(before).everything
    assert tracker.session.obj_ids == outputs[-1].object_ids
    assert_equal([*outputs, *follow(tracker)], follow(make_tracker()))


# Through a video


def test_track_everything_keeps_ids_and_discovers_in_turn(make_tracker, clip):
    tracker = make_tracker(max_memory_frames=1)
    outputs = follow(tracker)
    assert [output.frame_idx for output in outputs] == list(range(len(clip)))
    searched = [idx for idx in range(1, 12) if set(outputs[idx].object_ids) - set(outputs[idx - 1].object_ids)]
    assert outputs[0].object_ids[0] == 1 and {*searched} <= {4, 8}
    assert all(len(output.object_ids) <= 5 for output in outputs)
    assert tracker.session.everything.frame_idx == 11
    assert follow(tracker) == []


def test_track_everything_finds_an_object_as_if_it_were_alone(make_tracker):
    tracker, alone = make_tracker(), make_tracker()
    outputs = follow(tracker, every=20, merge_frames=20)
    obj_id = outputs[0].object_ids[-1]
    alone.session.add_prompts(0, {obj_id: tracker.session.objects[obj_id].prompts[0][0]}, SIZE)
    assert len(outputs[0].object_ids) > 2
    assert_equal(of_object(outputs, obj_id), alone.track())


def test_track_everything_with_little_memory_equals_that_with_all(make_tracker):
    assert_equal(follow(make_tracker(max_memory_frames=1)), follow(make_tracker()))
    assert_equal(follow(make_tracker(max_objects_per_batch=1)), follow(make_tracker()))


@pytest.mark.parametrize("num_before", [0, 2, 4, 9])
def test_track_everything_resumed_equals_uninterrupted(make_tracker, num_before):
    tracker = make_tracker(max_memory_frames=1)
    outputs = follow(tracker, max_frame_num_to_track=num_before)
    tracker.session = pickle.loads(pickle.dumps(tracker.session))
    assert_equal([*outputs, *follow(tracker)], follow(make_tracker(max_memory_frames=1)))


def test_track_everything_in_a_stream_equals_that_of_the_video(make_tracker, clip):
    assert_equal(stream(make_tracker(None), clip), follow(make_tracker(max_memory_frames=1)))


def test_track_everything_needs_no_more_memory_with_time(make_tracker, clip):
    tracker, sizes = make_tracker(None), []
    for _ in range(3):  # objects come and go: three times 12 frames, in a memory of 7 frames and 16 pointers
        stream(tracker, clip, max_objects=2, every=3, max_absence=1, min_area=0.05)
        sizes.append(len(pickle.dumps(tracker.session)))
    assert sizes[2] <= 1.02 * sizes[1]
    assert tracker.session.everything.next_id > 3


@pytest.mark.parametrize("state_device", ["cpu", "cuda"])
def test_track_everything_on_a_gpu_is_the_same(parts, make_tracker, clip, gpu, state_device):
    settings = {"memory_selection": MemorySelection(num_searched=9, least_iou=0.5, has_absent=False)}
    expected = follow(make_tracker(clip[:5], **settings), every=3)
    assert {*expected[2].object_ids} - {*expected[3].object_ids}  # some are dropped
    with gpu:
        tracker = Tracker(on_gpu(parts[0]), parts[1], clip[:5], inference_state_device=state_device, **settings)
        outputs = follow(tracker, every=3)
    for output in outputs:
        for name in NAMES:
            assert output[name].device.type == "cuda"
            output[name] = output[name].numbers
    assert_equal(outputs, expected)


def test_track_everything_on_frame_is_a_step_of_track_everything(make_tracker):
    steps, whole = make_tracker(), make_tracker()
    outputs = [
        steps.model.track_everything_on_frame(steps.session, frame_idx=frame_idx, **EVERYTHING)
        for frame_idx in range(6)
    ]
    assert_equal(outputs, follow(whole, max_frame_num_to_track=5))


def test_track_everything_follows_a_users_objects(make_tracker):
    tracker = make_tracker()
    tracker.add(0, 3, **CLICK)
    outputs = follow(tracker, max_objects=3)
    assert outputs[0].object_ids == [3, 4, 5]
    alone = make_tracker()
    alone.add(0, 3, **CLICK)
    assert_equal(of_object(outputs, 3), alone.track())


def test_track_everything_leaves_alone_what_a_user_has_prompted_or_removed(make_tracker):
    tracker = make_tracker()
    follow(tracker, max_frame_num_to_track=1)
    tracker.add(1, 1, **CLICK)
    tracker.session.remove_object(2)
    assert not {1, 2} & {*tracker.session.everything.known, *tracker.session.everything.num_unseen}
    outputs = follow(tracker, every=1)
    assert len(outputs) > 5 and all(1 in output.object_ids and 2 not in output.object_ids for output in outputs)


def test_track_everything_never_drops_what_a_user_has_prompted(make_tracker):
    tracker = make_tracker()
    (output,) = follow(tracker, max_frame_num_to_track=0)
    corrected, reused, other = output.object_ids[:3]
    tracker.add(0, corrected, **CORRECTION)
    tracker.session.remove_object(reused)
    tracker.add(1, reused, **CLICK)
    outputs = follow(tracker, max_absence=0, min_area=0.7, max_area=0.71)  # all objects count as absent
    assert other not in outputs[-1].object_ids
    assert {corrected, reused} <= {*outputs[-1].object_ids}


def test_session_of_an_earlier_version_can_be_used(make_tracker):
    tracker = make_tracker()
    tracker.add(0, 1, **CLICK)
    expected = [tracker.show(0), *follow(tracker)]
    tracker = make_tracker()
    tracker.add(0, 1, **CLICK)
    shown = tracker.show(0)
    state = tracker.session.__getstate__()
    for name in ("everything", "memory_selection", "mask_generation"):
        del state[name]
    session = object.__new__(type(tracker.session))
    session.__setstate__(state)
    tracker.session = pickle.loads(pickle.dumps(session))
    assert_equal([shown, *follow(tracker)], expected)


def test_track_everything_begins_with_an_empty_frame(nano):
    model, processor = nano
    # 16 frames: of shorter videos the model is told that no more will come, which it cannot be of a stream
    frames = np.zeros((18, 128, 128, 3), np.uint8)
    frames[16:, 40:80, 30:90] = (250, 120, 10)
    session = processor.init_video_session(frames, max_memory_frames=1)
    options = {"points_per_crop": 4, "every": 8}
    outputs = list(model.track_everything(session, **options))
    assert all(output.object_ids == [] for output in outputs[:16])
    assert outputs[0].pred_masks.shape == (0, 1, 64, 64)
    assert 1 in outputs[16].object_ids and 1 in outputs[17].object_ids
    stream = processor.init_video_session()
    pixel_values = processor(images=list(frames), return_tensors="pt")["pixel_values"]
    streamed = [
        model.track_everything_on_frame(stream, frame=frame, original_size=(128, 128), **options)
        for frame in pixel_values
    ]
    assert_equal(streamed, outputs)


def test_track_everything_searches_early_when_much_is_uncovered(make_tracker, monkeypatch):
    tracker, searched = make_tracker(), []
    confident_masks = type(tracker.model).confident_masks

    def noted(model, image_embeddings, points, thresh):
        searched.append(tracker.session.everything.frame_idx)
        return confident_masks(model, image_embeddings, points, thresh)

    monkeypatch.setattr(type(tracker.model), "confident_masks", noted)
    outputs = follow(tracker, every=100, max_uncovered=1.0)
    assert searched == [None]
    tracker.session.reset_tracking_data()
    searched.clear()
    assert len(follow(tracker, every=100, max_uncovered=0.0)) == len(outputs)
    assert len(searched) > 1


def test_what_is_left_of_a_mask_must_be_seen_by_the_model():
    lines, square = torch.zeros(2, 1000, 1000, dtype=torch.bool)
    lines[:, ::4] = True  # a quarter of the picture, and of none of the model's pixels half
    square[100:400, 100:400] = True
    nothing, options = torch.zeros_like(lines), EverythingOptions()
    assert uncovered_masks([lines], nothing, (64, 64), options, 2) == []
    found = uncovered_masks([lines, square], nothing, (64, 64), options, 1)
    assert [mask.unpack().sum().item() for mask in found] == [resize_mask(square, (64, 64)).sum().item()]


# What is known of the objects


def seen(areas, agreeing=(), uncovered=0.5):
    return Seen(areas, {obj_id: (0.25, area) for obj_id, area in areas.items()}, list(agreeing), uncovered)


def after(state, *views, **options):
    """The state and what was dropped on each frame."""
    options, all_dropped = EverythingOptions(**options), []
    for frame_idx, view in enumerate(views):
        state, dropped = state.after(frame_idx, view, options)
        all_dropped.append(dropped)
    return state, all_dropped


def test_state_drops_what_is_absent_small_or_huge_for_long():
    state = EverythingState().discovered(dict.fromkeys([1, 2], KNOWN), 0.3)
    views = [seen({1: area, 2: 0.1, 9: 0.0}) for area in (0.1, 0.0, 0.001, 0.1, 0.0, 0.9, 0.0)]
    state, dropped = after(state, *views, max_absence=2, min_area=0.01, max_area=0.8)
    assert dropped == [[], [], [], [], [], [], [1]]  # 9 is a user's
    assert state.num_unseen == {2: 0} and state.known == {2: Known(LOOK, (0.25, 0.1))}


def test_state_knows_where_objects_were_last_seen():
    state, _ = after(EverythingState().discovered({1: KNOWN}, 0.3), seen({1: 0.1}), seen({1: 0.2}), seen({1: 0.0}))
    assert state.known == {1: Known(LOOK, (0.25, 0.2))}


def test_state_drops_the_younger_of_two_that_agree():
    views = [seen({1: 0.1, 2: 0.1, 3: 0.1}, pairs) for pairs in ([(1, 2)], [], [(1, 2)], [(1, 2), (2, 3)], [(1, 2)])]
    _, dropped = after(EverythingState().discovered(dict.fromkeys([1, 2, 3], KNOWN), 0.3), *views, merge_frames=3)
    assert dropped == [[], [], [], [], [2]]
    _, dropped = after(EverythingState().discovered(dict.fromkeys([1, 3], KNOWN), 0.3), *views[2:], merge_frames=3)
    assert dropped == [[], [], [1]]  # 2 is a user's, and stays
    _, dropped = after(EverythingState(), *views[2:], merge_frames=3)
    assert dropped == [[], [], []]


def test_state_is_due_in_turn_or_when_more_is_uncovered():
    options = EverythingOptions(every=5, max_uncovered=0.2)
    state, _ = EverythingState().after(0, seen({}, uncovered=1.0), options)
    assert state.is_due(seen({}), options)
    state = state.discovered({1: KNOWN}, 0.5)
    for frame_idx, uncovered, is_due in ((1, 0.65, False), (2, 0.4, False), (3, 0.65, True), (4, 0.6, False)):
        view = seen({1: 0.1}, uncovered=uncovered)
        state, _ = state.after(frame_idx, view, options)
        assert state.is_due(view, options) == is_due
    assert state.after(5, view, options)[0].is_due(view, options)


def test_look_at_measures_masks_and_their_agreement():
    masks = torch.full((4, 8, 8), -1024.0)
    masks[0, :4], masks[1, :4, :7], masks[2, 4:, :4] = 1, 1, 1
    view = look_at([5, 2, 9, 4], masks, 0.8)
    assert view.areas == {5: 0.5, 2: 28 / 64, 9: 0.25, 4: 0.0}
    assert view.agreeing == [(5, 2)]
    assert view.uncovered == 0.25
    assert view.places == {5: (0.5, 0.25), 2: (3.5 / 8, 0.25), 9: (0.25, 0.75), 4: (0.0, 0.0)}
    assert look_at([], torch.zeros(0, 8, 8), 0.8) == Seen({}, {}, [], 1.0)


def test_looks_of_are_means_inside_masks():
    features = torch.zeros(1, 2, 4, 4)
    features[0, 0, :, :2], features[0, 1, :2, 2:] = 8, 8
    masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    masks[0, :, :4], masks[1, :4, 4:] = True, True
    left, corner, empty = looks_of(features, list(masks))
    assert left == pytest.approx(unit(8 - 4, 0 - 2))
    assert corner == pytest.approx(unit(0 - 4, 8 - 2))
    assert empty == (0, 0) and looks_of(features, []) == []


def unit(x, y):
    """The unit vector along (x, y)."""
    return x / np.hypot(x, y), y / np.hypot(x, y)


def at(look, x=0.5, y=0.5):
    return Known(look, (x, y))


def test_recognized_takes_the_most_alike_first_and_each_once():
    one, other, between = at((1.0, 0.0)), at((0.0, 1.0)), at((0.8, 0.6))
    strict, loose = EverythingOptions(same_look=0.7), EverythingOptions(same_look=0.5)
    assert recognized([between, one, other], {3: one, 5: other}, strict) == [None, 3, 5]
    assert recognized([between, one], {3: one, 5: other}, loose) == [5, 3]
    assert recognized([one], {3: between, 5: one}, strict) == [5]
    assert recognized([one, other], {}, strict) == [None, None]


def test_recognized_takes_nothing_that_is_far_off():
    missed = {3: at(LOOK, x=0.9), 5: at(LOOK, x=0.2, y=0.9)}
    assert recognized([at(LOOK, x=0.1)], missed, EverythingOptions(max_jump=0.3)) == [None]
    assert recognized([at(LOOK, x=0.1)], missed, EverythingOptions(max_jump=0.5)) == [5]
    assert recognized([at(LOOK, x=0.1), at(LOOK, x=0.6, y=0.1)], missed, EverythingOptions(max_jump=0.5)) == [5, 3]


def test_middles_are_means_of_pixels():
    masks = torch.zeros(3, 4, 8, dtype=torch.bool)
    masks[0, :2, :4], masks[1, 3, 7] = True, True
    assert middles(masks).tolist() == [[0.25, 0.25], [7.5 / 8, 3.5 / 4], [0.0, 0.0]]


def test_options_are_plain_numbers():
    given = {"every": np.int64(3), "min_area": torch.tensor(0.25), "merge_iou": np.float32(0.5), "max_covered": 1}
    read = EverythingOptions(**given)
    assert read == EverythingOptions(every=3, min_area=0.25, merge_iou=0.5, max_covered=1.0)
    assert {type(getattr(read, name)) for name in given} == {int, float}


# Refused


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"evry": 3}, TypeError, "discovery has no option evry; it accepts every, "),
        ({"output_areas": True}, TypeError, "has no option output_areas"),
        ({"every": 0}, ValueError, "every must be at least 1, got 0"),
        ({"every": 1.5}, TypeError, "every must be a whole number"),
        ({"max_objects": 0}, ValueError, "max_objects must be at least 1"),
        ({"max_covered": 1.1}, ValueError, "max_covered must be between 0 and 1"),
        ({"min_area": "a"}, TypeError, "min_area must be a number"),
        ({"merge_iou": float("nan")}, ValueError, "merge_iou must be between 0 and 1"),
        ({"merge_iou": 10**400}, ValueError, "merge_iou must be between 0 and 1"),
        ({"max_absence": -1}, ValueError, "max_absence must be at least 0"),
        ({"same_look": 2}, ValueError, "same_look must be between 0 and 1"),
        ({"max_jump": -0.1}, ValueError, "max_jump must be between 0 and 1"),
        ({"min_area": 0.9}, ValueError, "min_area must not exceed max_area, .* got 0.9 and 0.8"),
        ({"points_per_crop": 0}, ValueError, "`points_per_crop` must be between 1 and 4096"),
        ({"points_per_crop": 10**9}, ValueError, "`points_per_crop` must be between 1 and 4096"),
        ({"pred_iou_thresh": 2}, ValueError, "`pred_iou_thresh` must be between 0 and 1"),
    ],
)
def test_everything_rejects_wrong_options(make_tracker, options, error, message):
    tracker = make_tracker()
    for call in (tracker.model.track_everything, tracker.model.track_everything_on_frame):
        with pytest.raises(error, match=message):
            call(tracker.session, **options)
    with pytest.raises(error, match=message):
        tracker.model.discover(tracker.session, 0, **options)


def test_everything_rejects_other_sessions_and_frames(make_tracker):
    video, stream = make_tracker(), make_tracker(None)
    model = video.model
    with pytest.raises(TypeError, match="must come from EdgeTamVideoProcessor"):
        model.track_everything(None)
    with pytest.raises(ValueError, match=r"give them one by one, model.track_everything_on_frame\(session, frame"):
        model.track_everything(stream.session)
    with pytest.raises(ValueError, match="leave out crops_n_layers"):
        model.track_everything_on_frame(stream.session, frame=torch.zeros(3, 64, 64), crops_n_layers=1)
    with pytest.raises(ValueError, match="must be given with the first frame of a stream"):
        model.track_everything_on_frame(stream.session, frame=torch.zeros(3, 64, 64))
    with pytest.raises(TypeError, match="frame_idx must be an integer"):
        model.track_everything_on_frame(stream.session, "a picture")
    with pytest.raises(ValueError, match="has not arrived"):
        model.discover(stream.session, 0, original_size=SIZE)
    with pytest.raises(ValueError, match="original_size must be that of the video"):
        model.discover(video.session, 0, original_size=(9, 9))
    with pytest.raises(ValueError, match=r"one of 0\.\.11 of this video, got 12"):
        model.discover(video.session, 12)
    with pytest.raises(ValueError, match=r"one of 0\.\.11 of this video, got 12"):
        model.track_everything(video.session, start_frame_idx=12)
    with pytest.raises(ValueError, match="give frame_idx, or in a stream the next frame"):
        model.track_everything_on_frame(video.session)


def test_everything_follows_what_moves(make_tracker):
    outputs = follow(make_tracker(), every=20, merge_frames=20)
    assert differ(of_object(outputs[:1], 1), of_object(outputs[-1:], 1))
