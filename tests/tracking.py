"""What the tests of tracking share: sessions for short calls, prompts, and equality of outputs."""

import copy

import torch

CLICK = {"input_points": [[[[25, 45]]]], "input_labels": [[[1]]]}
OTHER_CLICK = {"input_points": [[[[70, 20]]]], "input_labels": [[[1]]]}
CORRECTION = {"input_points": [[[[90, 70]]]], "input_labels": [[[0]]]}
BOX = {"input_boxes": [[[10, 30, 40, 60]]]}
NAMES = ("pred_masks", "object_score_logits", "iou_scores")


class Tracker:
    """A session with its model and processor, for short calls."""

    def __init__(self, model, processor, video=None, **settings):
        self.model, self.processor = model, processor
        self.session = processor.init_video_session(video=video, **settings)

    def add(self, frame_idx, obj_ids, **prompts):
        if self.session.is_stream:
            prompts["original_size"] = (90, 120)
        self.processor.add_inputs_to_inference_session(self.session, frame_idx, obj_ids, **prompts)

    def show(self, frame_idx):
        return self.model(self.session, frame_idx=frame_idx)

    def track(self, start=None, **settings):
        return list(self.model.propagate_in_video_iterator(self.session, start, **settings))

    def stream(self, frames):
        pixel_values = self.processor(images=list(frames), return_tensors="pt")["pixel_values"]
        return [self.model(self.session, frame=frame) for frame in pixel_values]


def square(clip, frame_idx=0):
    """Mask (90, 120) of the moving square."""
    return (clip[frame_idx] > 100).any(-1)


def assert_equal(actual, expected, atol=1e-4):
    """Two lists of outputs are equal, frame by frame, up to rounding."""
    assert [output.frame_idx for output in actual] == [output.frame_idx for output in expected]
    for one, other in zip(actual, expected):
        assert one.object_ids == other.object_ids
        for name in NAMES:
            torch.testing.assert_close(one[name], other[name], atol=atol, rtol=0.0)


def of_object(outputs, obj_id):
    """Outputs with the row of one object only."""
    rows = []
    for output in outputs:
        output, row = copy.copy(output), output.object_ids.index(obj_id)
        for name in NAMES:
            output[name] = output[name][row : row + 1]
        output["object_ids"] = [obj_id]
        rows.append(output)
    return rows


def differ(actual, expected):
    return max((one.pred_masks - other.pred_masks).abs().max() for one, other in zip(actual, expected)) > 1e-2
