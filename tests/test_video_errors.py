"""After an error a session is as it was, wherever it happens: what follows is as if nothing had been."""

import pickle
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from small_models import make_video_model, make_video_processor
from tracking import BOX, CLICK, CORRECTION, OTHER_CLICK, Tracker, assert_equal, square

from edgetam_hf import memory_bank_edgetam, tracking_edgetam

STAGES = ("get_frame_embeddings", "attend_to_memory", "decode_objects", "adopt_masks", "encode_memory")
PARTS = ("vision_encoder.backbone", "mask_decoder", "memory_attention", "memory_encoder", "spatial_perceiver")
NUM_FRAMES = 8


@pytest.fixture(scope="module")
def parts():
    return make_video_model(64), make_video_processor(64)


def script(parts, clip, is_stream):
    """A tracker and the steps of a session, which return outputs, or `None` after prompts."""
    tracker = Tracker(*parts, None if is_stream else clip[:NUM_FRAMES], max_memory_frames=2)
    frames = parts[1](images=list(clip[:NUM_FRAMES]), return_tensors="pt")["pixel_values"]
    several = {"input_points": [[[[25, 45]], None]], "input_masks": [None, square(clip)]}

    def go_on(frame_idx):
        if is_stream:
            return lambda: tracker.model(tracker.session, frame=frames[frame_idx])
        return lambda: tracker.show(frame_idx)

    return tracker, [
        lambda: tracker.add(0, [1, 2], **several),
        *map(go_on, range(5)),
        lambda: tracker.add(4, 1, **CORRECTION),
        lambda: tracker.show(4),
        lambda: tracker.add(5, 2, **BOX),
        lambda: tracker.add(5, 3, **OTHER_CLICK),
        go_on(5),
        lambda: tracker.add(5, 2, **CORRECTION, clear_old_inputs=False),
        lambda: tracker.show(5),
        *map(go_on, range(6, NUM_FRAMES)),
        *([] if is_stream else map(go_on, (2, 3, 4))),
    ]


def outputs_of(steps):
    return [output for step in steps if (output := step()) is not None]


@pytest.fixture(scope="module")
def undisturbed(parts, clip):
    return {is_stream: outputs_of(script(parts, clip, is_stream)[1]) for is_stream in (False, True)}


@contextmanager
def failing_method(owner, name, error, num_calls):
    """A method that fails when it is called for the `num_calls`-th time."""
    method, calls = getattr(owner, name), []

    def fail(*arguments, **settings):
        calls.append(name)
        if len(calls) == num_calls:
            raise error
        return method(*arguments, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, fail)
        yield


@contextmanager
def failing_hook(module, error):
    def fail(*arguments):
        raise error

    hook = module.register_forward_hook(fail)
    yield
    hook.remove()


def assert_undisturbed(tracker, steps, failures, expected):
    """The steps give what is expected if each is tried with all failures before it succeeds."""
    num_failures = 0

    def stubborn(step):
        nonlocal num_failures
        for failure, error in failures:
            before = pickle.dumps(tracker.session)
            with failure():
                try:
                    step()
                except type(error):
                    num_failures += 1
                    assert pickle.dumps(tracker.session) == before
                else:
                    tracker.session = pickle.loads(before)
        return step()

    assert_equal(outputs_of(lambda step=step: stubborn(step) for step in steps), expected)
    assert num_failures >= len(failures) // 2


@pytest.mark.parametrize("is_stream", [False, True], ids=["video", "stream"])
@pytest.mark.parametrize("stage", STAGES)
def test_failing_stage_changes_nothing(parts, clip, undisturbed, stage, is_stream):
    tracker, steps = script(parts, clip, is_stream)
    error = RuntimeError("out of memory") if stage != "decode_objects" else KeyboardInterrupt()
    failures = [
        (lambda num_calls=num_calls: failing_method(parts[0], stage, error, num_calls), error) for num_calls in (1, 2)
    ]
    assert_undisturbed(tracker, steps, failures, undisturbed[is_stream])


@pytest.mark.parametrize("is_stream", [False, True], ids=["video", "stream"])
def test_failing_hooks_change_nothing(parts, clip, undisturbed, is_stream):
    tracker, steps = script(parts, clip, is_stream)
    error = ZeroDivisionError("hook")
    modules = [parts[0].get_submodule(name) for name in PARTS]
    failures = [(lambda module=module: failing_hook(module, error), error) for module in modules]
    assert_undisturbed(tracker, steps, failures, undisturbed[is_stream])


@pytest.mark.parametrize("is_stream", [False, True], ids=["video", "stream"])
def test_failing_bookkeeping_changes_nothing(parts, clip, undisturbed, is_stream):
    tracker, steps = script(parts, clip, is_stream)
    error, owners = EOFError(), (tracking_edgetam.Tracker, memory_bank_edgetam.TrackedObject)
    names = ("output", "_compute", "_track_objects"), ("forget", "commit", "stage", "memory_at", "mark_direction")
    failures = [
        (lambda owner=owner, name=name: failing_method(owner, name, error, 1), error)
        for owner, own_names in zip(owners, names)
        for name in own_names
    ]
    assert_undisturbed(tracker, steps, failures, undisturbed[is_stream])


def test_interrupted_propagation_can_be_repeated(parts, clip):
    expected, tracker = (Tracker(*parts, clip[:NUM_FRAMES]) for _ in range(2))
    for one in (expected, tracker):
        one.add(0, 1, **CLICK)
        one.add(5, 2, **BOX)
    outputs = []
    with failing_method(parts[0], "encode_memory", KeyboardInterrupt(), 6), pytest.raises(KeyboardInterrupt):
        outputs.extend(tracker.model.propagate_in_video_iterator(tracker.session))
    assert 0 < len(outputs) < NUM_FRAMES
    assert_equal([*outputs, *tracker.track(len(outputs))], expected.track())


def test_frame_that_cannot_be_read_changes_nothing(parts, clip):
    tracker, expected = (Tracker(*parts, clip[:NUM_FRAMES]) for _ in range(2))
    for one in (tracker, expected):
        one.add(0, 1, **CLICK)
        one.track(max_frame_num_to_track=2)
    before = pickle.dumps(tracker.session)
    unplugged = failing_method(tracker.processor.video_processor, "_preprocess", OSError("unplugged"), 1)
    with unplugged, pytest.raises(OSError, match="unplugged"):
        tracker.show(3)
    assert pickle.dumps(tracker.session) == before
    assert_equal(tracker.track(3), expected.track(3))


# Streams


@pytest.mark.parametrize(
    "frame_idx, error, message",
    [
        (2.5, TypeError, "frame_idx must be an integer, got 2.5"),
        (True, TypeError, "frame_idx must be an integer, got True"),
        (float("nan"), TypeError, "frame_idx must be an integer, got nan"),
        (torch.tensor(2.0), TypeError, "frame_idx must be an integer"),
        (torch.tensor([2]), TypeError, "frame_idx must be an integer"),
        ("2", TypeError, "frame_idx must be an integer, got '2'"),
        (1, ValueError, "must follow each other, got 1 after 1"),
        (-1, ValueError, "must follow each other, got -1 after 1"),
        (4, ValueError, r"frame 4 would leave out frame 3, on which object 1 was prompted.*clear_prompts\(3, 1\)"),
    ],
)
def test_stream_rejects_an_index_and_goes_on(parts, clip, frame_idx, error, message):
    tracker, expected = (Tracker(*parts) for _ in range(2))
    for one in (tracker, expected):
        one.add(0, 1, **CLICK)
        one.stream(clip[:2])
        one.add(3, 1, **OTHER_CLICK)
    frame = tracker.processor(images=clip[4], return_tensors="pt")["pixel_values"][0]
    before = pickle.dumps(tracker.session)
    with pytest.raises(error, match=message):
        tracker.model(tracker.session, frame=frame, frame_idx=frame_idx)
    assert pickle.dumps(tracker.session) == before
    assert_equal(tracker.stream(clip[2:6]), expected.stream(clip[2:6]))


def test_stream_takes_integers_of_every_kind_as_index(parts, clip):

    tracker, expected = (Tracker(*parts) for _ in range(2))
    frames = tracker.processor(images=list(clip[:3]), return_tensors="pt")["pixel_values"]
    indices = (np.int64(0), torch.tensor(3), np.array(7, np.uint8))
    outputs = []
    for one, ids in ((tracker, indices), (expected, (0, 3, 7))):
        one.add(ids[0], ids[1], **CLICK)
        outputs.append([one.model(one.session, frame=f, frame_idx=i) for f, i in zip(frames, ids)])
    assert_equal(*outputs)
    assert [type(output.frame_idx) for output in outputs[0]] == [int] * 3 and tracker.session.obj_ids == [3]


def test_prompt_on_a_frame_that_is_left_out_can_be_cleared(parts, clip):
    tracker = Tracker(*parts)
    tracker.add(0, 1, **CLICK)
    tracker.stream(clip[:2])
    tracker.add(3, 1, **OTHER_CLICK)
    frame = tracker.processor(images=clip[4], return_tensors="pt")["pixel_values"][0]
    with pytest.raises(ValueError, match="would leave out frame 3"):
        tracker.model(tracker.session, frame=frame, frame_idx=5)
    tracker.session.clear_prompts(3, 1)
    assert tracker.model(tracker.session, frame=frame, frame_idx=5).frame_idx == 5


def test_reset_stream_takes_frames_of_another_size(parts, clip):
    tracker = Tracker(*parts)
    tracker.add(0, 1, **CLICK)
    tracker.stream(clip[:2])
    tracker.session.reset_inference_session()
    tracker.processor.add_inputs_to_inference_session(tracker.session, 0, 1, **CLICK, original_size=(45, 60))
    assert (tracker.session.video_height, tracker.session.video_width) == (45, 60)
    video = Tracker(*parts, clip).session
    video.reset_inference_session()
    assert (video.video_height, video.video_width) == (90, 120)


def test_frame_that_has_not_arrived_is_rejected(parts, clip):
    tracker = Tracker(*parts)
    tracker.add(0, 1, **CLICK)
    tracker.stream(clip[:2])
    with pytest.raises(ValueError, match="frame 7 of the stream has not arrived"):
        tracker.show(7)
    with pytest.raises(ValueError, match="frame 0 of the stream is gone"):
        tracker.show(0)
