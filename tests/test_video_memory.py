"""Memory with a limit: what a user said outlives it, results equal those without one, and nothing grows."""

from itertools import permutations

import numpy as np
import pytest
import torch
from edgetam_hf.memory_bank_edgetam import closest_frames
from small_models import make_video_model, make_video_processor, small_video_config
from tracking import BOX, CLICK, CORRECTION, OTHER_CLICK, Tracker, assert_equal, differ, square


@pytest.fixture(scope="module")
def parts():
    return make_video_model(64), make_video_processor(64)


@pytest.fixture
def make_tracker(parts, clip):
    """A tracker of the clip, or with `video=None` of a stream, as that of other files but smaller."""

    def make(video=clip, model=parts[0], **settings):
        return Tracker(model, parts[1], video, **settings)

    return make


def both(make_tracker, clip, limit, **settings):
    return make_tracker(clip, max_memory_frames=limit, **settings), make_tracker(clip, **settings)


@pytest.fixture
def long_clip(clip):
    return clip[[*range(12), *range(10, 0, -1)]]


@pytest.fixture
def mask(clip):
    return {"input_masks": square(clip, 9)}


# With a limit as without


@pytest.mark.parametrize("limit", [1, 3])
@pytest.mark.parametrize("kind", ["mask", "click"])
def test_correction_far_behind_the_last_frame_is_kept(make_tracker, long_clip, mask, kind, limit):
    outputs = []
    for tracker in both(make_tracker, long_clip, limit):
        tracker.add(0, 1, **CLICK)
        before = tracker.track()
        tracker.add(4, 1, **(mask if kind == "mask" else CORRECTION))
        looked = tracker.show(4)
        outputs.append(tracker.track())
        assert differ(outputs[-1][4:], before[4:])
        if kind == "mask":
            assert_equal(outputs[-1][4:5], [looked])
    assert_equal(*outputs)


def test_correction_that_nobody_looked_at_is_kept(make_tracker, long_clip, mask):
    outputs = []
    for tracker in both(make_tracker, long_clip, 1):
        tracker.add(0, [1, 2], input_points=[[[[25, 45]], [[70, 20]]]])
        tracker.track()
        tracker.add(3, 1, **CORRECTION)
        tracker.add(11, 2, **mask)
        outputs.append(tracker.track() + tracker.track())
    assert_equal(*outputs)


def test_clicks_one_after_the_other_survive_being_forgotten(make_tracker, long_clip):
    outputs = []
    for tracker in both(make_tracker, long_clip, 1):
        tracker.add(0, 1, **CLICK)
        tracker.track()
        tracker.track(6, max_frame_num_to_track=0)  # now it can be corrected
        tracker.add(6, 1, **CORRECTION)
        tracker.add(6, 1, input_points=[[[[60, 40]]]], clear_old_inputs=False)
        outputs.append(tracker.track(0) + tracker.track(0))
    assert_equal(*outputs)


def test_conditioning_frames_that_were_forgotten_are_found_anew(make_tracker, long_clip, mask):
    config = small_video_config(64, num_maskmem=2, max_object_pointers_in_encoder=2, max_cond_frame_num=2)
    outputs, model = [], make_video_model(config=config)
    for tracker in both(make_tracker, long_clip, 1, model=model):
        tracker.add(0, 1, **CLICK)
        tracker.add(0, 1, **CORRECTION, clear_old_inputs=False)
        tracker.add(7, 1, **mask)
        tracker.add(12, 1, **BOX)
        tracker.add(20, 1, **OTHER_CLICK)
        outputs.append(tracker.track() + tracker.track(20, reverse=True) + tracker.track())
        assert sorted(tracker.session.objects[1].prompts) == [0, 7, 12, 20]
        num_kept = 2 if tracker.session.max_memory_frames else 4
        assert len(tracker.session.objects[1].conditioning) == num_kept
    assert_equal(*outputs)


def test_number_of_conditioning_frames_is_limited_by_the_larger_of_two_numbers(make_tracker, long_clip):
    outputs = []
    for tracker in both(make_tracker, long_clip, 9):
        for t in range(0, 18, 2):
            tracker.add(t, 1, **CLICK)
        outputs.append(tracker.track(18))
    assert_equal(*outputs)


def test_refinement_of_a_conditioning_frame_is_kept(make_tracker, long_clip):
    outputs = []
    for tracker in both(make_tracker, long_clip, 1):
        tracker.add(0, 1, **CLICK)
        tracker.track()
        tracker.track(0, max_frame_num_to_track=0)
        tracker.add(0, 1, **CORRECTION, clear_old_inputs=False)
        outputs.append(tracker.track(0) + tracker.track(0))
    assert_equal(*outputs)


@pytest.mark.parametrize("num_back", [0, 2])
def test_correction_within_the_limit_sees_all_of_the_memory(make_tracker, long_clip, num_back):
    outputs = []
    for tracker in both(make_tracker, long_clip, num_back + 1):
        tracker.add(0, 1, **CLICK)
        tracker.track(max_frame_num_to_track=18)
        tracker.add(18 - num_back, 1, **CORRECTION)
        outputs.append([tracker.show(18 - num_back), *tracker.track(18 - num_back)])
    assert_equal(*outputs)


def test_stream_corrects_the_last_frame_from_all_of_the_memory(make_tracker, long_clip):
    streamed, whole = make_tracker(video=None), make_tracker(long_clip)
    for one in (streamed, whole):
        one.add(0, 1, **CLICK)
    streamed.stream(long_clip[:19])
    whole.track(max_frame_num_to_track=18)
    for one in (streamed, whole):
        one.add(18, 1, **CORRECTION)
    assert_equal([streamed.show(18), *streamed.stream(long_clip[19:])], whole.track(18))


def test_stream_refines_a_new_prompt_of_a_known_object_as_a_video_does(make_tracker, clip):
    streamed, whole = make_tracker(video=None), make_tracker()
    for one in (streamed, whole):
        one.add(0, 1, **CLICK)
    streamed.stream(clip[:6])
    whole.track(max_frame_num_to_track=5)
    for one in (streamed, whole):
        one.add(6, 1, **OTHER_CLICK)
    streamed.stream(clip[6:7])
    whole.show(6)
    for one in (streamed, whole):
        one.add(6, 1, **CORRECTION, clear_old_inputs=False)
    assert_equal([streamed.show(6), *streamed.stream(clip[7:])], whole.track(6))


def test_prompts_can_be_cleared_when_their_results_are_gone(make_tracker, long_clip):
    outputs = []
    for tracker in both(make_tracker, long_clip, 1):
        tracker.add(0, 1, **CLICK)
        tracker.track()
        tracker.add(3, 1, **CORRECTION)
        tracker.track(0)
        tracker.session.clear_prompts(3, 1)
        outputs.append(tracker.track(0))
    assert_equal(*outputs)


def test_look_at_an_old_frame_shows_the_other_objects(make_tracker, long_clip):
    tracker = make_tracker(long_clip, max_memory_frames=1)
    tracker.add(0, [1, 2], input_points=[[[[25, 45]], [[70, 20]]]])
    tracker.track()
    tracker.add(8, 1, **CORRECTION)
    output = tracker.show(8)
    assert output.object_ids == [1, 2] and (output.pred_masks[1] > -1024).any()


def test_prompt_during_propagation_loses_no_other_object(make_tracker):
    tracker, interrupted = make_tracker(), make_tracker()
    for one in (tracker, interrupted):
        one.add(0, 1, **CLICK)
    outputs = []
    for output in tracker.model.propagate_in_video_iterator(tracker.session):
        outputs.append(output)
        if output.frame_idx == 4:
            tracker.add(5, 2, **BOX)
    interrupted.track(max_frame_num_to_track=4)
    interrupted.add(5, 2, **BOX)
    assert_equal(outputs[5:], interrupted.track(5))


def test_closest_frames_do_not_depend_on_the_order_of_prompts():
    for frames in permutations((1, 4, 6, 9)):
        assert closest_frames(frames, 5, 3) == [1, 4, 6] and closest_frames(frames, 5, 2) == [4, 6]
        assert closest_frames(frames, 5, -1) == [1, 4, 6, 9]


# Nothing grows


def num_bytes(tracker):
    """Of all tensors that a session keeps for its objects, but for prompts."""
    tensors = {}
    for tracked_object in tracker.session.objects.values():
        for results in (tracked_object.staged, tracked_object.conditioning, tracked_object.tracked):
            for result in results.values():
                for part in (result.mask, result.pointer, result.memory):
                    if part is not None:
                        tensors[id(part)] = part.untyped_storage().nbytes()
    return sum(tensors.values())


@pytest.mark.parametrize("kind", ["stream", "ahead", "on the way", "looks"])
def test_memory_is_constant_however_many_prompts_there_are(parts, clip, kind):
    model, processor = parts
    long_clip, square_mask = clip[[t % 12 for t in range(120)]], square(clip)
    tracker = Tracker(model, processor, None if kind == "stream" else long_clip, max_memory_frames=1)
    prompts = [CLICK, {"input_masks": square_mask}]
    tracker.add(0, 1, **CLICK)
    if kind == "ahead":
        for t in range(5, 120, 5):
            tracker.add(t, 1, **prompts[t % 2])
    sizes = []
    for t in range(120):
        if t % 5 == 0 and kind != "ahead":
            tracker.add(t, 1, **prompts[t // 5 % 2])
        if kind == "stream":
            tracker.stream(long_clip[t : t + 1])
        elif kind == "looks":
            if t % 5 == 0:
                tracker.show(t)
        else:
            tracker.show(t)
            if t % 10 == 3 and kind == "on the way":
                tracker.add(t, 1, **CORRECTION)
        if t in (59, 119):
            sizes.append(num_bytes(tracker))
    assert sizes[0] == sizes[1]
    num_prompts = len(tracker.session.objects[1].prompts)
    assert num_prompts <= 16 if kind == "stream" else num_prompts >= 24


def test_stream_forgets_prompts_with_their_results(make_tracker, clip):
    tracker = make_tracker(video=None)
    for t in range(40):
        if t % 2 == 0:
            tracker.add(t, 1, **CLICK)
        tracker.stream(clip[t % 12 : t % 12 + 1])
    one = tracker.session.objects[1]
    assert len(one.conditioning) + len(one.staged) <= 16 and len(one.prompts) <= 16 and len(one.directions) <= 1


def test_masks_are_kept_in_few_bytes(make_tracker, clip):
    tracker = make_tracker()
    tracker.add(0, 1, input_masks=square(clip))
    (prompt,) = tracker.session.objects[1].prompts[0]
    assert prompt.packed_mask.bits.numel() < 64 * 64 / 16
    noise = np.random.default_rng(0).random((90, 120)) > 0.5
    tracker.add(0, 1, input_masks=noise)
    (prompt,) = tracker.session.objects[1].prompts[0]
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(noise)[None, None].float(), (64, 64), mode="bilinear", antialias=True
    )
    assert torch.equal(prompt.mask, expected[0, 0] >= 0.5)


def test_directions_of_frames_are_kept_as_runs(make_tracker):
    tracker = make_tracker()
    tracker.add(4, 1, **CLICK)
    tracker.track(4)
    tracker.track(8, reverse=True, max_frame_num_to_track=2)
    one = tracker.session.objects[1]
    assert one.directions == ((4, 5, False), (6, 8, True), (9, 11, False))
    assert [one.direction_at(t) for t in (3, 5, 7, 11)] == [None, False, True, False]
    tracker.track(4)
    assert one is not tracker.session.objects[1] and tracker.session.objects[1].directions == ((4, 11, False),)
