"""Tracking: whatever the order and the number of calls, the same results; and memory that does not grow."""

import copy
import gc
import pickle
import threading

import pytest
import torch
from small_models import make_video_model, make_video_processor, small_video_config
from tracking import BOX, CLICK, CORRECTION, NAMES, OTHER_CLICK, Tracker, assert_equal, differ, of_object, square


def test_memory_reaches_later_frames(make_tracker):
    first, second = make_tracker(), make_tracker()
    first.add(0, 1, **CLICK)
    second.add(0, 1, **OTHER_CLICK)
    assert differ(first.track()[5:], second.track()[5:])


# Order of calls


def test_streamed_equals_whole(make_tracker, clip):
    whole, streamed = make_tracker(), make_tracker(video=None)
    for tracker in (whole, streamed):
        tracker.add(0, 1, **CLICK)
        tracker.add(0, 2, **BOX)
    assert_equal(streamed.stream(clip), whole.track())


def test_frame_by_frame_equals_propagation(make_tracker):
    one, other = make_tracker(), make_tracker()
    for tracker in (one, other):
        tracker.add(0, 1, **CLICK)
    assert_equal([one.show(i) for i in range(12)], other.track())


def test_clicks_one_after_the_other_give_the_same_with_and_without_a_look(make_tracker):
    shown, waiting = make_tracker(), make_tracker()
    for tracker in (shown, waiting):
        tracker.add(0, 1, **CLICK)
        if tracker is shown:
            tracker.show(0)
        tracker.add(0, 1, **CORRECTION, clear_old_inputs=False)
    assert_equal(waiting.track(), shown.track())


def test_reverse_equals_the_mirrored_video(make_tracker, clip):
    backward, mirrored = make_tracker(), make_tracker(video=clip[::-1].copy())
    backward.add(8, 1, **CLICK)
    mirrored.add(3, 1, **CLICK)
    backward, mirrored = backward.track(8, reverse=True), mirrored.track(3)
    assert [output.frame_idx for output in backward] == list(range(8, -1, -1))
    for one, other in zip(backward, mirrored):
        for name in NAMES:
            torch.testing.assert_close(one[name], other[name], atol=1e-4, rtol=0.0)


def test_reverse_from_the_first_frame_gives_nothing(make_tracker):
    tracker = make_tracker()
    tracker.add(0, 1, **CLICK)
    assert tracker.track(reverse=True) == []


def test_propagation_twice_gives_the_same(make_tracker):
    tracker = make_tracker()
    tracker.add(2, 1, **CLICK)
    assert_equal(tracker.track(0), tracker.track(0))


# Objects


@pytest.mark.parametrize("max_objects_per_batch", [1, 2, 8])
def test_batched_equals_one_by_one(make_tracker, clip, max_objects_per_batch):
    prompts = {
        1: CLICK,
        2: BOX,
        3: {"input_masks": square(clip)},
        4: {"input_points": [[[[25, 45], [90, 70], [5, 5]]]], "input_labels": [[[1, 0, 0]]]},
        5: {**BOX, **CLICK},
    }
    together = make_tracker(max_objects_per_batch=max_objects_per_batch)
    for obj_id, prompt in prompts.items():
        together.add(0, obj_id, **prompt)
    together = together.track()
    for obj_id, prompt in prompts.items():
        alone = make_tracker()
        alone.add(0, obj_id, **prompt)
        assert_equal(of_object(together, obj_id), alone.track())


def test_new_object_in_the_middle_of_tracking_equals_it_alone(make_tracker):
    together, alone = make_tracker(), make_tracker()
    together.add(0, 1, **CLICK)
    first = together.track(max_frame_num_to_track=5)
    together.add(6, 2, **BOX)
    alone.add(6, 2, **BOX)
    rest = together.track(6)
    assert_equal(of_object(rest, 2), alone.track(6))
    undisturbed = make_tracker()
    undisturbed.add(0, 1, **CLICK)
    assert_equal(of_object([*first, *rest], 1), undisturbed.track())


def test_objects_without_a_prompt_yet_are_absent_where_another_is_prompted(make_tracker):
    tracker = make_tracker()
    tracker.add(0, 1, **CLICK)
    tracker.add(6, 2, **BOX)
    output = tracker.show(6)
    assert output.object_ids == [1, 2]
    assert (output.pred_masks[0] == -1024).all() and output.object_score_logits[0] < 0
    assert (output.pred_masks[1] > -1024).any()


@pytest.mark.parametrize("is_tracked", [False, True])
def test_clear_prompts_is_as_if_they_had_not_been_given(make_tracker, is_tracked):
    tracker, without = make_tracker(), make_tracker()
    for one in (tracker, without):
        one.add(0, 1, **CLICK)
    tracker.add(5, 1, **OTHER_CLICK)
    tracker.show(5)
    if is_tracked:
        tracker.track(0)
    tracker.session.clear_prompts(5, 1)
    assert_equal(tracker.track(0), without.track(0))


def test_session_says_in_a_line_what_it_holds(make_tracker):
    tracker, stream = make_tracker(), make_tracker(None)
    tracker.add(0, 3, **CLICK)
    tracker.show(0)
    assert repr(tracker.session) == "EdgeTamVideoInferenceSession(12 frames of 90x120, objects [3])"
    assert repr(stream.session) == "EdgeTamVideoInferenceSession(stream, 0 frames, objects [])"


@pytest.mark.parametrize("reset", ["reset_tracking_data", "reset_inference_session"])
def test_reset_is_as_if_the_session_were_new(make_tracker, reset):
    tracker, new = make_tracker(), make_tracker()
    tracker.add(3, 1, **OTHER_CLICK)
    tracker.track()
    getattr(tracker.session, reset)()
    assert tracker.session.obj_ids == []
    for one in (tracker, new):
        one.add(0, 2, **CLICK)
    assert_equal(tracker.track(), new.track())


def test_reset_stream_begins_at_the_first_frame(make_tracker, clip):
    tracker, new = make_tracker(video=None), make_tracker(video=None)
    tracker.add(0, 1, **CLICK)
    tracker.stream(clip[:3])
    tracker.session.reset_inference_session()
    for one in (tracker, new):
        one.add(0, 1, **CLICK)
    assert_equal(tracker.stream(clip), new.stream(clip))


# Corrections


def test_correction_is_no_conditioning_frame_but_a_prompt_ahead_of_tracking_is(make_tracker):
    tracker = make_tracker()
    tracker.add(0, 1, **CLICK)
    tracker.track(max_frame_num_to_track=6)
    tracker.add(5, 1, **CORRECTION)
    tracker.add(9, 1, **OTHER_CLICK)
    tracker.track(0)
    assert sorted(tracker.session.objects[1].conditioning) == [0, 9]


def test_masks_stay_where_a_look_does_not_track(make_tracker):
    tracker, untouched = make_tracker(), make_tracker()
    for one in (tracker, untouched):
        one.add(0, 1, **CLICK)
    tracker.show(0)
    tracker.add(8, 2, **BOX)
    tracker.show(8)
    tracker.add(8, 1, **OTHER_CLICK)
    untouched.add(8, 1, **OTHER_CLICK)
    assert_equal(of_object(tracker.track(0), 1), untouched.track(0))


# Streams and what is kept


def test_stream_takes_prompts_for_the_current_frame(make_tracker, clip):
    tracker, whole = make_tracker(video=None), make_tracker()
    tracker.stream(clip[:1])
    for one in (tracker, whole):
        one.add(0, 1, **CLICK)
        one.show(0)
        one.add(0, 1, **CORRECTION, clear_old_inputs=False)
    assert_equal([tracker.show(0), *tracker.stream(clip[1:])], whole.track())


def test_stream_takes_corrections_of_the_current_frame(make_tracker, clip):
    tracker, whole = make_tracker(video=None), make_tracker()
    for one in (tracker, whole):
        one.add(0, 1, **CLICK)
    tracker.stream(clip[:6])
    whole.track(max_frame_num_to_track=5)
    for one in (tracker, whole):
        one.add(5, 1, **CORRECTION)
    assert_equal([tracker.show(5), *tracker.stream(clip[6:])], whole.track(5))


def test_stream_may_leave_frames_out(make_tracker, clip):
    tracker = make_tracker(video=None)
    tracker.add(0, 1, **CLICK)
    tracker.stream(clip[:2])
    pixel_values = tracker.processor(images=clip[5], return_tensors="pt")["pixel_values"][0]
    assert tracker.model(tracker.session, frame=pixel_values, frame_idx=5).frame_idx == 5
    with pytest.raises(ValueError, match="must follow each other, got 3"):
        tracker.model(tracker.session, frame=pixel_values, frame_idx=3)


def test_bounded_memory_changes_no_result(make_tracker, clip):
    long_clip = clip[list(range(12)) * 3]
    bounded, whole = make_tracker(long_clip, max_memory_frames=1), make_tracker(long_clip)
    for one in (bounded, whole):
        one.add(0, 1, **CLICK)
        one.add(20, 1, **OTHER_CLICK)
    assert_equal(bounded.track(), whole.track())


def live_tensors():
    gc.collect()
    return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "bounded video"])
def test_long_run_does_not_grow(clip, is_stream):
    model, processor = make_video_model(64), make_video_processor(64)
    long_clip = clip[[i % 12 for i in range(100)]]
    tracker = Tracker(model, processor, None if is_stream else long_clip, max_memory_frames=2)
    for obj_id, prompt in enumerate((CLICK, BOX, OTHER_CLICK)):
        tracker.add(0, obj_id, **prompt)
    sizes = []
    for frame_idx in range(100):
        if is_stream:
            tracker.stream(long_clip[frame_idx : frame_idx + 1])
        else:
            tracker.show(frame_idx)
        if frame_idx in (40, 99):
            frames, tracker.session.frames = tracker.session.frames, None
            sizes.append((live_tensors(), round(len(pickle.dumps(tracker.session)), -3)))
            tracker.session.frames = frames
    assert sizes[0] == sizes[1]


def test_video_keeps_all_results_for_corrections_unless_bounded(make_tracker):
    tracker = make_tracker()
    tracker.add(0, 1, **CLICK)
    tracker.track()
    assert sorted(tracker.session.objects[1].tracked) == list(range(1, 12))
    assert all(result.mask is not None for result in tracker.session.objects[1].tracked.values())


@pytest.mark.parametrize("num_frames", [0, 1, 5, 11])
def test_resumed_session_equals_uninterrupted(make_tracker, clip, num_frames):
    uninterrupted, resumed = make_tracker(), make_tracker()
    for one in (uninterrupted, resumed):
        one.add(0, 1, **CLICK)
        one.add(4, 2, **BOX)
    first = resumed.track(0, max_frame_num_to_track=num_frames)
    stored = pickle.dumps(resumed.session)
    resumed.session = pickle.loads(stored)
    assert_equal([*first[:num_frames], *resumed.track(num_frames)], uninterrupted.track(0))


def test_resumed_stream_equals_uninterrupted(make_tracker, clip):
    uninterrupted, resumed = make_tracker(video=None), make_tracker(video=None)
    for one in (uninterrupted, resumed):
        one.add(0, 1, **CLICK)
    first = resumed.stream(clip[:5])
    resumed.session = pickle.loads(pickle.dumps(resumed.session))
    resumed.add(4, 1, **CORRECTION)
    uninterrupted.stream(clip[:5])
    uninterrupted.add(4, 1, **CORRECTION)
    assert len(first) == 5
    assert_equal([resumed.show(4), *resumed.stream(clip[5:])], [uninterrupted.show(4), *uninterrupted.stream(clip[5:])])


def test_pickled_session_holds_each_object_once(make_tracker):
    """Results are copies: a view would take the storage of its whole batch along."""
    sizes = []
    for num_objects in (1, 4):
        tracker = make_tracker(video=None)
        for obj_id in range(num_objects):
            tracker.add(0, obj_id, **CLICK)
        tracker.stream([make_tracker().session.frames[0].permute(1, 2, 0).numpy()])
        tracker.session.image_embeddings.clear()
        sizes.append(len(pickle.dumps(tracker.session)))
    assert sizes[1] < 4.5 * sizes[0]


# Other models and devices


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_tracks_nearly_the_same(video_model, video_processor, clip, dtype):
    outputs = []
    for model in (video_model, copy.deepcopy(video_model).to(dtype)):
        tracker = Tracker(model, video_processor, clip, dtype=model.dtype)
        tracker.add(0, 1, **BOX)
        outputs.append(tracker.track(max_frame_num_to_track=3))
    for one, other in zip(*outputs):
        assert other.pred_masks.dtype == dtype
        assert ((one.pred_masks > 0) == (other.pred_masks > 0)).float().mean() > 0.95


def test_number_of_conditioning_frames_can_be_limited(clip, video_processor):
    outputs = []
    for limit, frames in ((2, (0, 4, 9)), (-1, (4, 9))):
        # the pointer of a frame that is left out would count as that of a tracked frame
        config = small_video_config(max_cond_frame_num=limit, max_object_pointers_in_encoder=8)
        tracker = Tracker(make_video_model(config=config), video_processor, clip)
        for frame_idx in frames:
            tracker.add(frame_idx, 1, **CLICK)
        outputs.append(tracker.track(10, max_frame_num_to_track=0))
    assert_equal(*outputs)


def test_progress_bar_is_shown_on_request(make_tracker, capfd):
    tracker = make_tracker()
    tracker.add(0, 1, **CLICK)
    tracker.track(max_frame_num_to_track=1)
    assert "propagate" not in capfd.readouterr().err
    tracker.track(max_frame_num_to_track=1, show_progress_bar=True)
    assert "propagate" in capfd.readouterr().err


def test_prompt_given_while_a_frame_is_tracked_is_kept(make_tracker):
    tracker, expected = make_tracker(), make_tracker()
    tracker.add(0, 1, **CLICK)
    is_busy, is_given = threading.Event(), threading.Event()

    def give_prompt():
        is_busy.wait()
        tracker.add(5, 2, **BOX)
        is_given.set()

    def let_others_run(*_):
        is_busy.set()
        is_given.wait(0.2)  # in vain: the prompt has to wait for the frame

    user = threading.Thread(target=give_prompt)
    user.start()
    handle = tracker.model.memory_encoder.register_forward_hook(let_others_run)
    tracker.show(0)
    handle.remove()
    user.join()
    for obj_id, frame_idx, prompt in ((1, 0, CLICK), (2, 5, BOX)):
        expected.add(frame_idx, obj_id, **prompt)
    assert_equal(tracker.track(), expected.track())
