"""Videos and prompts in: every accepted form, native's pixels, and errors that leave the session as it was."""

import copy
import pickle

import numpy as np
import pytest
import torch
import transformers
from edgetam_hf.processing_edgetam_video import EdgeTamVideoProcessor
from edgetam_hf.video_processing_edgetam import EdgeTamVideoVideoProcessor
from PIL import Image
from small_models import make_video_model, make_video_processor

CLICK = {"input_points": [[[[25, 45]]]], "input_labels": [[[1]]]}


@pytest.fixture
def session(video_processor, clip):
    return video_processor.init_video_session(video=clip)


def add(processor, session, frame_idx=0, obj_ids=1, **prompts):
    processor.add_inputs_to_inference_session(session, frame_idx, obj_ids, **prompts)


def prompt_of(session, obj_id=1, frame_idx=0):
    return session.objects[obj_id].prompts[frame_idx][-1]


# Frames


@pytest.mark.parametrize("size", [(128, 128), (64, 192)])
def test_frames_equal_native(clip, size):
    processor = make_video_processor(*size)
    session = processor.init_video_session(video=clip)
    native = transformers.Sam2VideoVideoProcessor(size={"height": size[0], "width": size[1]})
    expected = native(videos=[torch.from_numpy(clip).permute(0, 3, 1, 2)], return_tensors="pt")["pixel_values_videos"]
    frames = torch.stack([session.get_frame(i) for i in range(len(clip))])
    assert torch.equal(frames, expected[0])


def test_frames_equal_pictures(clip, video_processor, session):
    pixel_values = video_processor(images=list(clip), return_tensors="pt")["pixel_values"]
    assert torch.equal(torch.stack([session.get_frame(i) for i in range(len(clip))]), pixel_values)


def test_frames_can_be_resized_as_the_original_does(clip):
    processor = make_video_processor(128, resize_with_pil=True)
    frame = processor.init_video_session(video=clip).get_frame(3)
    resized = np.array(Image.fromarray(clip[3]).resize((128, 128), Image.Resampling.BICUBIC))
    mean, std = (np.array(getattr(processor.video_processor, name)) for name in ("image_mean", "image_std"))
    expected = torch.from_numpy((resized / 255 - mean) / std).permute(2, 0, 1).float()
    torch.testing.assert_close(frame, expected, rtol=0, atol=1e-6)


def test_every_form_of_video_gives_the_same_frames(clip, video_processor, tmp_path):
    for i, frame in enumerate(clip):
        Image.fromarray(frame).save(tmp_path / f"{i}.png")
    forms = [
        clip,
        list(clip),
        [Image.fromarray(frame) for frame in clip],
        torch.from_numpy(clip).permute(0, 3, 1, 2),
        tmp_path,
        str(tmp_path),
    ]
    expected = video_processor.init_video_session(video=clip)
    for video in forms:
        session = video_processor.init_video_session(video=video)
        assert (session.num_frames, session.video_height, session.video_width) == (12, 90, 120)
        for i in range(12):
            assert torch.equal(session.get_frame(i), expected.get_frame(i))


def test_frames_are_stored_as_bytes_and_not_changed(clip, video_processor):
    before = clip.copy()
    session = video_processor.init_video_session(video=clip, dtype=torch.bfloat16)
    assert session.frames[0].dtype == torch.uint8
    assert session.get_frame(0).dtype == torch.bfloat16
    assert (clip == before).all()


def test_video_without_frames_is_rejected(video_processor):
    with pytest.raises(ValueError, match=r"at least one frame|no frames|empty"):
        video_processor.init_video_session(video=[])


def test_session_rejects_sizes_that_differ(clip):
    processor = make_video_processor(128)
    processor.video_processor = EdgeTamVideoVideoProcessor(size={"height": 64, "width": 64})
    with pytest.raises(ValueError, match=r"frames of \(64, 64\).*scaled to \(128, 128\)"):
        processor.init_video_session(video=clip)


@pytest.mark.parametrize("name", ["max_memory_frames", "max_objects_per_batch", "max_vision_features_cache_size"])
def test_session_rejects_limits_below_one(video_processor, name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        video_processor.init_video_session(**{name: 0})


def test_corrupt_frame_is_named_and_earlier_ones_are_kept(clip, video_processor, video_model, tmp_path):
    for i, frame in enumerate(clip):
        Image.fromarray(frame).save(tmp_path / f"{i:02}.png")
    (tmp_path / "05.png").write_bytes((tmp_path / "05.png").read_bytes()[:200])
    session = video_processor.init_video_session(video=tmp_path)
    add(video_processor, session, **CLICK)
    outputs = []
    with pytest.raises(ValueError, match="frame 5"):
        outputs.extend(video_model.propagate_in_video_iterator(session))
    assert sorted(session.objects[1].tracked) == [1, 2, 3, 4]


# Prompts


def test_prompts_are_scaled_to_the_model_input(video_processor, session):
    add(video_processor, session, input_points=[[[[30, 45]]]], input_labels=[[[1]]], input_boxes=[[[15, 9, 60, 90]]])
    prompt = prompt_of(session)
    expected = torch.tensor([[16.0, 12.8], [64.0, 128.0], [32.0, 64.0]])
    torch.testing.assert_close(prompt.clicks.points[0, 0], expected)
    assert prompt.clicks.labels.tolist() == [[[2, 3, 1]]]


def test_prompts_of_several_kinds_in_one_call(video_processor, session):
    mask = np.zeros((90, 120), bool)
    mask[:45] = True
    add(
        video_processor,
        session,
        obj_ids=[4, 2, 9],
        input_points=[[[[30, 45], [60, 45]], None, None]],
        input_labels=[[[1, 0], None, None]],
        input_boxes=[[None, [15, 9, 60, 90], None]],
        input_masks=[None, None, mask],
    )
    assert session.obj_ids == [4, 2, 9]
    assert prompt_of(session, 4).clicks.labels.tolist() == [[[1, 0]]]
    assert prompt_of(session, 2).clicks.labels.tolist() == [[[2, 3]]]
    assert prompt_of(session, 9).mask.float().mean() == 0.5 and prompt_of(session, 9).clicks.is_empty


def test_ragged_clicks_of_several_objects_are_not_padded(video_processor, session):
    add(
        video_processor, session, obj_ids=[1, 2], input_points=[[[[1, 1], [2, 2], [3, 3]], [[4, 4]]]],
        input_labels=[[[1, 1, 0], [1]]],
    )  # fmt: skip
    assert [prompt_of(session, obj_id).num_points for obj_id in (1, 2)] == [3, 1]


def test_clicks_join_or_replace_earlier_ones(video_processor, session):
    add(video_processor, session, input_boxes=[[[15, 9, 60, 90]]])
    add(video_processor, session, **CLICK, clear_old_inputs=False)
    assert prompt_of(session).clicks.labels.tolist() == [[[2, 3, 1]]]
    add(video_processor, session, input_points=[[[[9, 9]]]], input_labels=[[[0]]])
    assert prompt_of(session).clicks.labels.tolist() == [[[0]]]
    add(video_processor, session, input_masks=np.ones((90, 120)))
    assert prompt_of(session).clicks.is_empty
    add(video_processor, session, **CLICK, clear_old_inputs=False)
    assert prompt_of(session).mask is None and prompt_of(session).clicks.labels.tolist() == [[[1]]]


@pytest.mark.parametrize("form", ["array", "tensor", "list", "batched"])
def test_masks_are_read_in_every_form(video_processor, session, form):
    masks = np.zeros((2, 90, 120), np.uint8)
    masks[0, :45], masks[1, 45:] = 1, 1
    given = {
        "array": masks,
        "tensor": torch.from_numpy(masks),
        "list": [masks[0], torch.from_numpy(masks[1]).bool()],
        "batched": masks[None],
    }[form]
    add(video_processor, session, obj_ids=[1, 2], input_masks=given)
    assert prompt_of(session, 1).mask[:64].all() and not prompt_of(session, 1).mask[64:].any()
    assert torch.equal(prompt_of(session, 2).mask, ~prompt_of(session, 1).mask)


def test_arguments_stay_as_they_are(video_processor, session):
    arguments = {"obj_ids": [1, 2], "input_points": [[[[1, 1]], [[4, 4]]]], "input_labels": [[[1], [0]]]}
    before = copy.deepcopy(arguments)
    add(video_processor, session, **arguments)
    add(video_processor, session, **arguments, clear_old_inputs=False)
    assert arguments == before


def test_numpy_integers_are_ids_and_frames(video_processor, session):
    add(video_processor, session, np.int64(2), np.int64(7), **CLICK)
    assert session.obj_ids == [7] and list(session.objects[7].prompts) == [2]
    assert session.obj_id_to_idx(7) == 0 and session.obj_idx_to_id(0) == 7 and session.get_obj_num() == 1


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"frame_idx": 12, **CLICK}, ValueError, r"frame_idx must be one of 0..11 of this video, got 12"),
        ({"frame_idx": -1, **CLICK}, ValueError, "frame_idx must be one of 0..11"),
        ({"frame_idx": 1.5, **CLICK}, TypeError, "frame_idx must be an integer, got 1.5"),
        ({"obj_ids": [1, 1], **CLICK}, ValueError, r"obj_ids must name every object once, got \[1, 1\]"),
        ({"obj_ids": [], **CLICK}, ValueError, "obj_ids is empty"),
        ({"obj_ids": ["cat"], **CLICK}, TypeError, "obj_ids must be integers, got 'cat'"),
        ({"obj_ids": [1, 2], **CLICK}, ValueError, "input_points must have one entry per object of obj_ids, got 1"),
        ({}, ValueError, "object 1 has no prompt in this call"),
        ({"input_labels": [[[1]]]}, ValueError, "input_labels were given without input_points"),
        ({"input_points": [[[25, 45]]]}, ValueError, r"input_points\[0\]\[0\]\[0\] must be nested as \[x, y\]"),
        ({"input_points": [[[[25, 45]]]], "input_labels": [[[1, 1]]]}, ValueError, "one label per point"),
        ({"input_points": [[[[25, 45]]]], "input_labels": [[[7]]]}, ValueError, "input_labels may hold"),
        ({"input_points": [[[[25, float("nan")]]]], "input_labels": [[[1]]]}, ValueError, "must be finite"),
        ({"input_boxes": [[[60, 9, 15, 90]]]}, ValueError, "box.*of object 1 is turned inside out|x_min <= x_max"),
        ({"input_boxes": [[[15, 90, 60, 9]]]}, ValueError, "turned inside out"),
        ({"input_boxes": [[[15, 90, 60]]]}, ValueError, "must have 4 coordinates"),
        ({"input_masks": np.ones((90, 121))}, ValueError, r"the size of the video, \(90, 120\), got \(90, 121\)"),
        ({"input_masks": np.ones((0, 120))}, ValueError, r"at least one pixel, got \(0, 120\)"),
        ({"input_masks": np.full((90, 120), np.nan)}, ValueError, "NaN or infinite"),
        ({"input_masks": [np.ones((90, 120))] * 2}, ValueError, "one mask per object of obj_ids, got 2"),
        ({"input_masks": "mask.png"}, TypeError, "input_masks must be an array, a tensor or a list"),
        ({"input_masks": np.ones((90, 120)), **CLICK}, ValueError, "object 1 has both a mask and clicks"),
        ({"original_size": (91, 120), **CLICK}, ValueError, r"must be that of the video, \(90, 120\), got \(91, 120\)"),
    ],
)
def test_prompts_reject_and_leave_the_session_as_it_was(video_processor, session, arguments, error, message):
    add(video_processor, session, **CLICK)
    before = pickle.dumps(session)
    with pytest.raises(error, match=message):
        add(video_processor, session, **arguments)
    assert pickle.dumps(session) == before


def test_box_after_clicks_is_rejected_unless_they_are_cleared(video_processor, session):
    add(video_processor, session, **CLICK)
    with pytest.raises(ValueError, match="a box must come before clicks, but object 1 has some on frame 0"):
        add(video_processor, session, input_boxes=[[[15, 9, 60, 90]]], clear_old_inputs=False)
    add(video_processor, session, input_boxes=[[[15, 9, 60, 90]]])


def test_first_prompt_of_a_stream_needs_the_size(video_processor):
    session = video_processor.init_video_session()
    with pytest.raises(ValueError, match=r"original_size=\(height, width\) of the frames must be given"):
        add(video_processor, session, **CLICK)
    assert session.obj_ids == []
    add(video_processor, session, **CLICK, original_size=torch.tensor([90, 120]))
    add(video_processor, session, obj_ids=2, **CLICK)
    assert (session.video_height, session.video_width) == (90, 120)


@pytest.mark.parametrize("call", ["remove_object", "clear_prompts"])
def test_session_rejects_unknown_objects(video_processor, session, call):
    add(video_processor, session, **CLICK)
    before = pickle.dumps(session)
    with pytest.raises(ValueError, match=r"object 5 is unknown; the objects of this session are \[1\]"):
        session.remove_object(5) if call == "remove_object" else session.clear_prompts(0, 5)
    with pytest.raises(ValueError, match=r"object 1 has no prompt on frame 3, only on \[0\]"):
        session.clear_prompts(3, 1)
    assert pickle.dumps(session) == before


# What the model refuses


def test_propagation_rejects_a_session_without_prompts(video_model, session):
    with pytest.raises(ValueError, match="no object has a prompt yet"):
        next(video_model.propagate_in_video_iterator(session))


def test_propagation_rejects_a_start_outside_the_video(video_model, video_processor, session):
    add(video_processor, session, **CLICK)
    with pytest.raises(ValueError, match=r"must be one of 0..11 of this video, got 40"):
        next(video_model.propagate_in_video_iterator(session, 40))


def test_propagation_rejects_a_stream(video_model, video_processor):
    with pytest.raises(ValueError, match="a stream keeps no frames to propagate through"):
        next(video_model.propagate_in_video_iterator(video_processor.init_video_session()))


def test_model_rejects_a_frame_outside_the_video(video_model, session):
    with pytest.raises(ValueError, match=r"must be one of 0..11 of this video, got 12"):
        video_model(session, frame_idx=12)
    with pytest.raises(ValueError, match="give frame_idx, or in a stream the next frame"):
        video_model(session)
    with pytest.raises(ValueError, match="has a whole video: give frame_idx"):
        video_model(session, frame=torch.zeros(3, 128, 128))


def test_model_rejects_a_session_of_another_size(session):
    with pytest.raises(ValueError, match=r"image size of \(128, 128\), the model has \(192, 192\)"):
        make_video_model(192)(session, frame_idx=0)


def test_model_rejects_a_session_of_native(video_model, clip):
    native = transformers.Sam2VideoProcessor(
        image_processor=make_video_processor(128).image_processor,
        video_processor=transformers.Sam2VideoVideoProcessor(size={"height": 128, "width": 128}),
    ).init_video_session(video=list(clip))
    with pytest.raises(TypeError, match=r"must come from EdgeTamVideoProcessor\.init_video_session, got Sam2Video"):
        video_model(native, frame_idx=0)


@pytest.mark.parametrize(
    "frame, message",
    [
        (torch.zeros(3, 128, 160), r"configured size 128x128 .*got \(1, 3, 128, 160\)"),
        (torch.zeros(128, 128), r"frame must be a tensor of shape \(3, height, width\), got \(128, 128\)"),
        (torch.zeros(2, 3, 128, 128), r"frame must be a tensor of shape"),
        ("frame.png", "got str; use the processor"),
    ],
)
def test_stream_rejects_a_frame_and_goes_on(video_model, video_processor, frame, message):
    session = video_processor.init_video_session()
    add(video_processor, session, **CLICK, original_size=(90, 120))
    video_model(session, frame=torch.zeros(3, 128, 128))
    before = pickle.dumps(session)
    with pytest.raises(ValueError, match=message):
        video_model(session, frame=frame)
    assert pickle.dumps(session) == before
    assert video_model(session, frame=torch.ones(3, 128, 128)).frame_idx == 1


def test_stream_rejects_prompts_for_frames_that_are_gone(video_model, video_processor):
    session = video_processor.init_video_session(max_vision_features_cache_size=2)
    for _ in range(4):
        video_model(session, frame=torch.zeros(3, 128, 128))
    with pytest.raises(ValueError, match=r"frame 1 of the stream is gone, only \[2, 3\] and later ones"):
        add(video_processor, session, 1, **CLICK, original_size=(90, 120))
    add(video_processor, session, 2, **CLICK, original_size=(90, 120))
    add(video_processor, session, 9, obj_ids=2, **CLICK)
    assert video_model(session, frame_idx=2).frame_idx == 2
    with pytest.raises(ValueError, match="a stream keeps no frames"):
        session.get_frame(2)


def test_failure_in_the_model_loses_no_prompt(video_model, video_processor, session, monkeypatch):
    add(video_processor, session, **CLICK)
    before = pickle.dumps(session)

    def fail(*arguments):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(video_model, "encode_memory", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            video_model(session, frame_idx=0)
    assert pickle.dumps(session) == before
    assert video_model(session, frame_idx=0).object_ids == [1]


# Saving


def test_processor_survives_saving(video_folder, tmp_path):
    processor = EdgeTamVideoProcessor.from_pretrained(video_folder)
    assert type(processor.video_processor).__name__ == "EdgeTamVideoVideoProcessor"
    assert processor.target_size == 128 and dict(processor.video_processor.size)["height"] == 128
    processor.save_pretrained(tmp_path)
    again = EdgeTamVideoProcessor.from_pretrained(tmp_path)
    assert again.to_dict() == processor.to_dict()


def test_processor_size_can_be_set_while_loading(video_folder, clip):
    processor = EdgeTamVideoProcessor.from_pretrained(video_folder, size={"height": 256, "width": 256})
    session = processor.init_video_session(video=clip)
    assert session.get_frame(0).shape == (3, 256, 256) and session.image_size == (256, 256)


def test_saved_processor_is_read_by_native(video_folder):
    processor = transformers.Sam2VideoProcessor.from_pretrained(video_folder)
    assert type(processor).__module__.startswith("transformers.")
    assert dict(processor.video_processor.size)["height"] == 128
