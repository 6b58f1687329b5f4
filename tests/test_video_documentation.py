"""What the page of EdgeTAM on video in the documentation of Transformers shows, with a small model and drawn frames."""

import pytest
import torch

from edgetam_hf import EdgeTamVideoModel, EdgeTamVideoProcessor


@pytest.fixture(scope="module")
def model(video_folder):
    return EdgeTamVideoModel.from_pretrained(video_folder).to("cpu")


@pytest.fixture(scope="module")
def processor(video_folder):
    return EdgeTamVideoProcessor.from_pretrained(video_folder)


def to_video_size(processor, session, outputs):
    sizes = [[session.video_height, session.video_width]]
    return processor.post_process_masks([outputs.pred_masks], original_sizes=sizes, binarize=False)[0]


def test_basic_video_tracking(model, processor, clip):
    session = processor.init_video_session(video=list(clip), inference_device="cpu")
    processor.add_inputs_to_inference_session(
        inference_session=session, frame_idx=0, obj_ids=1, input_points=[[[[25, 45]]]], input_labels=[[[1]]]
    )
    outputs = model(inference_session=session, frame_idx=0)
    assert to_video_size(processor, session, outputs).shape == (1, 1, 90, 120)
    segments = {
        output.frame_idx: to_video_size(processor, session, output)
        for output in model.propagate_in_video_iterator(session)
    }
    assert sorted(segments) == list(range(12))
    torch.testing.assert_close(segments[0], to_video_size(processor, session, outputs))


def test_several_objects_and_refinement(model, processor, clip):
    session = processor.init_video_session(video=list(clip))
    processor.add_inputs_to_inference_session(session, 0, 1, input_points=[[[[25, 45]]]], input_labels=[[[1]]])
    session.reset_inference_session()
    processor.add_inputs_to_inference_session(
        inference_session=session,
        frame_idx=0,
        obj_ids=[2, 3],
        input_points=[[[[25, 45], [30, 50], [90, 70]], [[70, 20]]]],
        input_labels=[[[1, 1, 0], [1]]],
    )
    outputs = model(inference_session=session, frame_idx=0)
    assert to_video_size(processor, session, outputs).shape[0] == 2
    first = list(model.propagate_in_video_iterator(session))
    assert session.obj_ids == [2, 3] and all(output.object_ids == [2, 3] for output in first)

    processor.add_inputs_to_inference_session(
        inference_session=session, frame_idx=5, obj_ids=2, input_points=[[[[80, 60]]]], input_labels=[[[0]]]
    )
    refined = list(model.propagate_in_video_iterator(session))
    assert len(refined) == 12
    assert not torch.equal(refined[8].pred_masks[0], first[8].pred_masks[0])
    torch.testing.assert_close(refined[8].pred_masks[1], first[8].pred_masks[1], rtol=0, atol=1e-4)


def test_streaming(model, processor, clip):
    session = processor.init_video_session(inference_device="cpu")
    for frame_idx, frame in enumerate(clip[:10]):
        inputs = processor(images=frame, device="cpu", return_tensors="pt")
        if frame_idx == 0:
            processor.add_inputs_to_inference_session(
                inference_session=session,
                frame_idx=0,
                obj_ids=1,
                input_points=[[[[25, 45], [35, 50]]]],
                input_labels=[[[1, 1]]],
                original_size=inputs.original_sizes[0],
            )
        output = model(inference_session=session, frame=inputs.pixel_values[0])
        masks = processor.post_process_masks([output.pred_masks], original_sizes=inputs.original_sizes, binarize=False)[
            0
        ]
        assert output.frame_idx == frame_idx and masks.shape == (1, 1, 90, 120)
