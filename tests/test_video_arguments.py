"""What sessions, the video model and its processors take, and what they refuse: a result, ValueError or TypeError."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from small_models import make_video_model, make_video_processor
from tracking import CLICK, OTHER_CLICK, Tracker, assert_equal

MODEL, PROCESSOR = make_video_model(64), make_video_processor(64)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
SIZE = (90, 120)
INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
PROMPT_ARGUMENTS = ["frame_idx", "obj_ids", "input_points", "input_labels", "input_boxes", "input_masks"]
PROMPT_ARGUMENTS += ["original_size", "clear_old_inputs"]
SESSION_ARGUMENTS = ["inference_device", "inference_state_device", "processing_device", "video_storage_device", "video"]
SESSION_ARGUMENTS += ["dtype", "max_memory_frames", "max_vision_features_cache_size", "max_objects_per_batch"]
SESSION_ARGUMENTS += ["memory_selection"]
DTYPES = ["bool", *INTEGERS, "float16", "float32", "float64"]


@pytest.fixture(scope="module")
def expected(clip):
    """Outputs of a session to which nothing bad happened: of a video, and of a stream."""
    whole, streamed = Tracker(MODEL, PROCESSOR, clip[:3]), Tracker(MODEL, PROCESSOR)
    for tracker in (whole, streamed):
        tracker.add(0, 1, **CLICK)
    return whole.track(), streamed.stream(clip[:3])


def prompt_mask(mask, obj_ids=1):
    session = PROCESSOR.init_video_session(original_video())
    PROCESSOR.add_inputs_to_inference_session(session, 0, obj_ids, input_masks=mask)
    return session.objects[1].prompts[0][-1].mask


def original_video():
    return np.zeros((1, *SIZE, 3), np.uint8)


# Masks


@pytest.fixture(scope="module")
def blob():
    mask = np.zeros(SIZE, bool)
    mask[20:61, 30:71] = True
    return mask


@pytest.mark.parametrize(
    "dtype",
    ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"],
)
@pytest.mark.parametrize("value", [1, 100])
def test_masks_of_all_dtypes_are_the_same(blob, dtype, value):
    expected = prompt_mask(blob)
    mask = blob.astype(dtype) * np.array(value).astype(dtype)
    assert torch.equal(prompt_mask(mask), expected)
    assert torch.equal(prompt_mask(torch.from_numpy(mask)), expected)


def test_masks_in_every_layout_of_memory_are_the_same(blob):
    expected = prompt_mask(blob)
    read_only = blob.copy()
    read_only.setflags(write=False)
    forms = {
        "flipped": blob[:, ::-1].copy()[:, ::-1],
        "upside down": np.flipud(blob)[::-1],
        "transposed": np.asfortranarray(blob),
        "read only": read_only,
        "big endian": blob.astype(">i4"),
        "big endian floats": blob.astype(">f4"),
        "long double": blob.astype(np.longdouble),
        "bfloat16": torch.from_numpy(blob).bfloat16(),
        "of a graph": torch.from_numpy(blob).float().requires_grad_(),
        "expanded": torch.from_numpy(blob)[None].expand(1, -1, -1),
        "picture": Image.fromarray(blob),
        "grey picture": Image.fromarray(blob.astype(np.uint8) * 255),
        "palette": Image.fromarray(blob.astype(np.uint8)).convert("P"),
        "16 bits": Image.fromarray(blob.astype(np.uint16) * 1000),
        "list of pictures": [Image.fromarray(blob)],
    }
    for name, mask in forms.items():
        assert torch.equal(prompt_mask(mask), expected), name
    with torch.inference_mode():
        assert torch.equal(prompt_mask(torch.from_numpy(blob) * 1), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_soft_masks_are_cut_at_a_half_as_in_native(dtype):
    logits = torch.linspace(-8, 8, SIZE[1]).expand(SIZE).to(dtype)
    resized = torch.nn.functional.interpolate(
        logits.sigmoid()[None, None].float(), (64, 64), mode="bilinear", align_corners=False, antialias=True
    )
    mask = prompt_mask(logits.sigmoid())
    assert torch.equal(mask, resized[0, 0] >= 0.5) and 0.45 < mask.float().mean() < 0.55
    assert torch.equal(prompt_mask(logits.sigmoid().float().numpy()), mask)
    # of logits, and whatever else lies outside of 0..1, the same half counts
    assert torch.equal(prompt_mask(logits), prompt_mask(logits.float().clamp(0, 1)))


def odd_masks():
    plain = torch.ones(SIZE)
    with_nan = plain.clone()
    with_nan[0, 0] = float("nan")
    return [
        (plain.to(torch.complex64), TypeError, "real numbers"),
        (np.ones(SIZE, np.complex64), TypeError, "real numbers"),
        (plain.to("meta"), TypeError, "plain tensor.*meta"),
        (plain.to_sparse(), TypeError, "plain tensor.*sparse"),
        (plain[None].to_sparse(), TypeError, "plain tensor.*sparse"),
        ([plain.to_sparse_csr()], TypeError, "plain tensor.*sparse"),
        (torch.quantize_per_tensor(plain, 0.1, 0, torch.quint8), TypeError, "plain tensor"),
        (with_nan, ValueError, "NaN or infinite"),
        (with_nan.numpy(), ValueError, "NaN or infinite"),
        (plain * float("inf"), ValueError, "NaN or infinite"),
        (np.full(SIZE, "cat"), TypeError, "real numbers"),
        (np.full(SIZE, None), TypeError, "real numbers"),
        (np.zeros(SIZE, "datetime64[s]"), TypeError, "real numbers"),
        (np.ones(SIZE).tolist(), TypeError, "an array, a tensor or a PIL picture, got list"),
        ({"mask": plain}, TypeError, "got dict"),
        (Image.new("RGB", SIZE[::-1]), ValueError, "mode RGB has 3: convert"),
        ([Image.new("LA", SIZE[::-1])], ValueError, "mode LA has 2"),
        (torch.tensor(1.0), ValueError, r"must have shape \(height, width\)"),
        (np.ones(5), ValueError, r"must have shape \(height, width\)"),
        (np.ones((0, 0, 5)), ValueError, "at least one pixel"),
        (torch.ones(1, 0, 5), ValueError, "at least one pixel"),
        ([np.ones((2, *SIZE))], ValueError, r"must have shape \(height, width\)"),
        ([], ValueError, "one mask per object"),
    ]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support", "ignore:torch.quantize_per_tensor")
def test_odd_masks_are_rejected(clip):
    session = PROCESSOR.init_video_session(clip[:2])
    before = pickle.dumps(session)
    for mask, error, message in odd_masks():
        with pytest.raises(error, match=message):
            PROCESSOR.add_inputs_to_inference_session(session, 0, 1, input_masks=mask)
        assert pickle.dumps(session) == before


# Integers, flags, devices


@pytest.mark.parametrize("obj_id", [np.int32(7), np.uint8(7), torch.tensor(7), torch.tensor(7, dtype=torch.uint8)])
def test_integers_of_every_kind_are_ids(clip, obj_id):
    session = PROCESSOR.init_video_session(clip[:2])
    PROCESSOR.add_inputs_to_inference_session(session, 0, obj_id, **CLICK)
    PROCESSOR.add_inputs_to_inference_session(session, 0, [obj_id], **CLICK)
    assert session.obj_ids == [7] and type(session.obj_ids[0]) is int
    assert session.obj_id_to_idx(obj_id) == 0 and session.obj_idx_to_id(obj_id - obj_id) == 7
    session.clear_prompts(obj_id - obj_id, obj_id)
    session.remove_object(obj_id)
    both = {"input_points": [[[[25, 45]], [[70, 20]]]]}
    for obj_ids in (torch.tensor([4, 2]), np.array([4, 2]), (4, 2)):
        PROCESSOR.add_inputs_to_inference_session(session, 0, obj_ids, **both)
        assert session.obj_ids == [4, 2]


@pytest.mark.parametrize(
    "obj_ids", [True, 1.0, None, "1", [True], [1.5], torch.tensor(1.0), torch.tensor(True), {1, 2}]
)
def test_other_things_are_no_ids(clip, obj_ids):
    session = PROCESSOR.init_video_session(clip[:2])
    PROCESSOR.add_inputs_to_inference_session(session, 0, 1, **CLICK)
    before = pickle.dumps(session)
    with pytest.raises(TypeError, match="obj_ids must be integers, got"):
        PROCESSOR.add_inputs_to_inference_session(session, 0, obj_ids, **CLICK)
    for call in (session.remove_object, session.obj_id_to_idx, session.check_object, session.obj_idx_to_id):
        with pytest.raises(TypeError, match="must be an integer, got"):
            call(obj_ids)
    with pytest.raises(TypeError, match="frame_idx must be an integer, got"):
        session.clear_prompts(obj_ids, 1)
    assert pickle.dumps(session) == before


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"inference_device": "cuda:7"}, ValueError, "inference_device 'cuda:7' is not there"),
        ({"inference_device": "gpu"}, ValueError, "inference_device 'gpu' is not there"),
        ({"processing_device": "meta"}, ValueError, "processing_device must be a device that holds numbers"),
        ({"inference_state_device": 1.5}, TypeError, "inference_state_device must be a device such as"),
        ({"video_storage_device": True}, TypeError, "video_storage_device must be a device"),
        ({"dtype": torch.int32}, TypeError, "dtype must be torch.float32, .* got torch.int32"),
        ({"dtype": "uint8"}, TypeError, "dtype must be torch.float32"),
        ({"dtype": None}, TypeError, "dtype must be torch.float32"),
        ({"max_memory_frames": 2.5}, TypeError, "max_memory_frames must be an integer, got 2.5"),
        ({"max_objects_per_batch": True}, TypeError, "max_objects_per_batch must be an integer"),
        ({"max_vision_features_cache_size": "2"}, TypeError, "must be an integer, got '2'"),
        ({"max_memory_frames": -1}, ValueError, "max_memory_frames must be at least 1, got -1"),
    ],
)
def test_session_rejects(clip, arguments, error, message):
    with pytest.raises(error, match=message):
        PROCESSOR.init_video_session(clip[:2], **arguments)


def test_session_takes_what_native_takes(clip):
    session = PROCESSOR.init_video_session(
        clip[:2], torch.device("cpu"), dtype="bfloat16", max_memory_frames=np.int64(2)
    )
    assert session.dtype == torch.bfloat16 and session.max_memory_frames == 2
    assert session.video_storage_device == torch.device("cpu")
    assert session.obj_with_new_inputs == []
    PROCESSOR.add_inputs_to_inference_session(session, 0, [4, 5], input_points=[[[[25, 45]], [[70, 20]]]])
    assert session.obj_with_new_inputs == [4, 5]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"start_frame_idx": 1.5}, TypeError, "frame_idx must be an integer, got 1.5"),
        ({"start_frame_idx": -1}, ValueError, "frame_idx must be one of 0..1"),
        ({"max_frame_num_to_track": -1}, ValueError, "max_frame_num_to_track must be at least 0, got -1"),
        ({"max_frame_num_to_track": "all"}, TypeError, "max_frame_num_to_track must be an integer, got 'all'"),
        ({"reverse": "yes"}, TypeError, "reverse must be True or False, got 'yes'"),
        ({"show_progress_bar": 1}, TypeError, "show_progress_bar must be True or False, got 1"),
    ],
)
def test_propagation_rejects(clip, arguments, error, message):
    tracker = Tracker(MODEL, PROCESSOR, clip[:2])
    tracker.add(0, 1, **CLICK)
    with pytest.raises(error, match=message):
        tracker.model.propagate_in_video_iterator(tracker.session, **arguments)  # at once


@pytest.mark.parametrize("call", ["model", "propagation", "processor"])
@pytest.mark.parametrize("session", [None, "session", 3, {}])
def test_what_is_no_session_is_rejected(call, session):
    calls = {
        "model": lambda: MODEL(session, frame_idx=0),
        "propagation": lambda: MODEL.propagate_in_video_iterator(session),
        "processor": lambda: PROCESSOR.add_inputs_to_inference_session(session, 0, 1, **CLICK),
    }
    with pytest.raises(TypeError, match=r"must come from EdgeTamVideoProcessor\.init_video_session, got"):
        calls[call]()


def test_names_of_native_for_prompts_do_the_same(clip):
    mask, box = np.ones(SIZE, bool), [[[5, 5, 20, 30]]]
    ours, native = (PROCESSOR.init_video_session(clip[:2]) for _ in range(2))
    PROCESSOR.add_inputs_to_inference_session(ours, 0, [1], **CLICK, input_boxes=box)
    PROCESSOR.add_inputs_to_inference_session(ours, 1, [2], input_masks=mask)
    PROCESSOR.process_new_points_or_boxes_for_video_frame(native, 0, [1], **CLICK, input_boxes=box)
    PROCESSOR.process_new_mask_for_video_frame(native, 1, [2], mask)
    for obj_id, frame_idx in ((1, 0), (2, 1)):
        (one,), (other,) = (session.objects[obj_id].prompts[frame_idx] for session in (ours, native))
        torch.testing.assert_close(one.clicks, other.clicks, rtol=0, atol=0)
        torch.testing.assert_close(one.packed_mask, other.packed_mask, rtol=0, atol=0)


# Anything at all


def anything():
    """Values of every kind, tensors and arrays of every rank and dtype."""
    dtypes = [torch.float32, torch.float16, torch.uint8, torch.int64, torch.bool, torch.complex64, torch.bfloat16]
    sizes = [(), (0,), (1,), (3,), (2, 2), (3, 64), SIZE, (3, 64, 64), (1, 3, 64, 64), (2, 3, 64, 64), (3, 64, 65)]
    sizes += [(4, 64, 64), (1, 1, *SIZE), (1, 2, 3, 64, 64), (1, 2, 1, 64, 64), (0, 3, 64, 64), (1, 2, 0, 64, 64)]
    tensors = st.builds(lambda size, dtype: torch.ones(size).to(dtype), st.sampled_from(sizes), st.sampled_from(dtypes))
    odd = tensors.map(lambda tensor: tensor.to("meta"))
    odd |= tensors.filter(lambda tensor: tensor.ndim > 1).map(torch.Tensor.to_sparse)
    arrays = tensors.filter(lambda tensor: tensor.dtype != torch.bfloat16).map(torch.Tensor.numpy)
    numbers = st.sampled_from([None, True, 0, 1, 2, -1, 10**30, 2.5, float("nan"), float("inf"), 1j, "1", "cuda", b"1"])
    numbers |= st.sampled_from([np.int64(1), np.float32(1), np.array(None), torch.tensor(1), object, ..., slice(3)])
    plain = numbers | tensors | odd | arrays
    return plain | st.lists(plain | st.lists(numbers, max_size=2), max_size=3) | st.sampled_from([{}, {1: 2}, {1}])


def is_refused(call):
    """Whether a call raises a ValueError or a TypeError; other errors are not caught."""
    try:
        call()
    except (ValueError, TypeError) as error:
        assert str(error)
        return True
    return False


@QUICK
@given(value=anything(), name=st.sampled_from(["frame", "frame_idx", "reverse", "return_dict"]))
def test_stream_goes_on_whatever_the_model_was_given(clip, expected, value, name):
    tracker = Tracker(MODEL, PROCESSOR)
    tracker.add(0, 1, **CLICK)
    frames = PROCESSOR(images=list(clip[:3]), return_tensors="pt")["pixel_values"]
    first = MODEL(tracker.session, frame=frames[0])
    before = pickle.dumps(tracker.session)
    if is_refused(lambda: MODEL(tracker.session, **{"frame": frames[1], name: value})):
        assert pickle.dumps(tracker.session) == before
        assert_equal([first, *(MODEL(tracker.session, frame=frame) for frame in frames[1:])], expected[1])


@QUICK
@given(
    value=anything(),
    name=st.sampled_from(PROMPT_ARGUMENTS),
    is_stream=st.booleans(),
)
def test_session_goes_on_whatever_the_processor_was_given(clip, value, name, is_stream):
    tracker = Tracker(MODEL, PROCESSOR, None if is_stream else clip[:3])
    tracker.add(0, 1, **CLICK)
    before = pickle.dumps(tracker.session)
    arguments = {"frame_idx": 1, "obj_ids": 1, **({} if name == "input_masks" else OTHER_CLICK), name: value}
    if is_refused(lambda: PROCESSOR.add_inputs_to_inference_session(tracker.session, **arguments)):
        assert pickle.dumps(tracker.session) == before
    elif is_stream:
        tracker.stream(clip[:2])
    else:
        tracker.track(max_frame_num_to_track=1)


@QUICK
@given(
    value=anything(),
    name=st.sampled_from(SESSION_ARGUMENTS),
)
def test_session_is_made_or_refused(clip, value, name):
    is_refused(lambda: PROCESSOR.init_video_session(**{"video": clip[:1], name: value}))


@QUICK
@given(value=anything(), name=st.sampled_from(["pixel_values_videos", "mask_labels", "prompt_seeds"]))
def test_model_learns_or_refuses(value, name):
    labels = torch.zeros(1, 2, 1, 64, 64)
    labels[..., 20:40, 20:40] = 1
    inputs = {"pixel_values_videos": torch.zeros(1, 2, 3, 64, 64), "mask_labels": labels, "prompt_seeds": None}
    if not is_refused(lambda: MODEL(**{**inputs, name: value})):
        assert MODEL(**{**inputs, name: value}).loss.isfinite()


@QUICK
@given(value=anything())
def test_video_processor_takes_or_refuses_a_frame(value):
    is_refused(lambda: PROCESSOR.video_processor.preprocess_frame(value))
    is_refused(lambda: PROCESSOR.video_processor.frame_processor(value))
    session = PROCESSOR.init_video_session(original_video())
    for call in (session.get_frame, session.obj_idx_to_id, session.obj_id_to_idx, session.remove_object):
        is_refused(lambda call=call: call(value))
