"""`to_detections`: results of each kind become supervision's, equal to what the processor makes of them."""

import numpy as np
import pytest
import torch
from PIL import Image

from edgetam_hf import (
    EdgeTamMaskGenerationPipeline,
    EdgeTamModel,
    EdgeTamProcessor,
    EdgeTamVideoModel,
    EdgeTamVideoProcessor,
    nano_checkpoint,
)

sv = pytest.importorskip("supervision", reason="the results go into supervision: pip install supervision")

from edgetam_hf.integrations.supervision import to_detections  # noqa: E402

SAMPLES = nano_checkpoint().with_name("samples")
EYES = [[[136, 86, 209, 148], [296, 105, 352, 165]]]
TRACKED = sv.ColorLookup.TRACK


@pytest.fixture(scope="module")
def model():
    return EdgeTamModel.from_pretrained(nano_checkpoint()).eval()


@pytest.fixture(scope="module")
def processor():
    return EdgeTamProcessor.from_pretrained(nano_checkpoint())


@pytest.fixture(scope="module")
def eyes(model, processor):
    """Outputs of the model for two eyes of a cat, three masks each, and the inputs."""
    inputs = processor(images=Image.open(SAMPLES / "cat.jpg"), input_boxes=EYES, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs), inputs


@pytest.fixture(scope="module")
def tracked():
    """Outputs on the last frame of a session whose third object is not in the picture, the session, and the masks."""
    model = EdgeTamVideoModel.from_pretrained(nano_checkpoint()).eval()
    processor = EdgeTamVideoProcessor.from_pretrained(nano_checkpoint())
    coins = Image.open(SAMPLES / "coins.jpg").convert("RGB")
    session = processor.init_video_session([coins, coins])
    boxes = [[[309, 15, 366, 74], [22, 33, 70, 76], None]]
    masks = [None, None, np.zeros((coins.height, coins.width), bool)]
    processor.add_inputs_to_inference_session(session, 0, [7, 3, 5], input_boxes=boxes, input_masks=masks)
    *_, output = model.propagate_in_video_iterator(session)
    masks = processor.post_process_masks([output.pred_masks], [[coins.height, coins.width]])[0][:, 0]
    return output, session, masks.numpy()


def assert_fits(detections, masks, scores):
    """The detections are those of these masks (N, H, W), none of which is empty, with these scores."""
    np.testing.assert_array_equal(np.asarray(detections.mask), masks)
    np.testing.assert_array_equal(detections.xyxy, sv.mask_to_xyxy(np.asarray(masks)))
    np.testing.assert_array_equal(detections.confidence, scores)


def test_to_detections_takes_outputs_of_a_picture(eyes, processor):
    outputs, inputs = eyes
    best = outputs.iou_scores[0].argmax(-1)
    masks = processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])[0][torch.arange(2), best]
    detections = to_detections(outputs, original_sizes=inputs["original_sizes"], class_id=[4, 2])
    assert_fits(detections, masks.numpy(), outputs.iou_scores[0].amax(-1))
    assert detections.class_id.tolist() == [4, 2] and detections.tracker_id is None


def test_to_detections_takes_masks_that_were_post_processed(eyes, processor):
    outputs, inputs = eyes
    masks = processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])[0]
    expected = to_detections(outputs, original_sizes=inputs["original_sizes"])
    assert to_detections({"masks": masks, "scores": outputs.iou_scores[0]}) == expected
    first = {"masks": masks[:, 0].numpy(), "scores": outputs.iou_scores[0, :, 0].numpy(), "object_ids": [9, 8]}
    assert to_detections(first).tracker_id.tolist() == [9, 8]


def test_to_detections_leaves_out_absent_objects_of_a_picture(eyes):
    outputs, inputs = eyes
    absent = type(outputs)(**{**outputs, "object_score_logits": torch.tensor([[[-1.0], [1.0]]])})
    kept = to_detections(absent, original_sizes=inputs["original_sizes"])
    assert kept == to_detections(outputs, original_sizes=inputs["original_sizes"])[1:]


@pytest.mark.parametrize("compact_masks", [False, True])
def test_to_detections_takes_everything_in_a_picture(model, processor, compact_masks):
    generator = EdgeTamMaskGenerationPipeline(model=model, image_processor=processor.image_processor)
    outputs = generator(Image.open(SAMPLES / "coins.jpg"), points_per_crop=8)
    detections = to_detections(outputs, compact_masks=compact_masks)
    assert len(detections) > 3 and isinstance(detections.mask, sv.CompactMask if compact_masks else np.ndarray)
    assert_fits(detections, np.stack([mask.numpy() for mask in outputs["masks"]]), outputs["scores"])
    nothing = generator(Image.new("RGB", (64, 48)), points_per_crop=1, pred_iou_thresh=1.0)
    assert to_detections(nothing, compact_masks=compact_masks).is_empty()


def test_to_detections_takes_tracked_objects_and_leaves_out_absent_ones(tracked):
    output, session, masks = tracked
    detections = to_detections(output, session, class_id={7: 1, 3: 0, 5: 2})
    assert output.object_ids == [7, 3, 5] and not masks[2].any()
    assert detections.tracker_id.tolist() == [7, 3] and detections.class_id.tolist() == [1, 0]
    assert_fits(detections, masks[:2], output.iou_scores[:2])


def test_to_detections_of_absent_objects_alone_are_empty(tracked):
    output, session, _ = tracked
    fields = ("pred_masks", "iou_scores", "object_score_logits")
    absent = type(output)(object_ids=[5], frame_idx=1, **{name: output[name][2:] for name in fields})
    for compact_masks in (False, True):
        nothing = to_detections(absent, session, compact_masks=compact_masks)
        assert nothing.is_empty() and nothing.mask.shape == (0, session.video_height, session.video_width)


def test_to_detections_go_through_filters_merges_and_annotators(tracked):
    output, session, masks = tracked
    dense, compact = (to_detections(output, session, compact_masks=is_compact) for is_compact in (False, True))
    assert dense == compact and sv.Detections.merge([dense[:1], dense[1:]]) == dense
    assert dense.area.tolist() == masks[:2].sum((1, 2)).tolist()
    assert dense[dense.tracker_id == 3].xyxy.tolist() == dense.xyxy[1:].tolist()
    pictures = []
    for detections in (dense, compact):
        picture = np.zeros((session.video_height, session.video_width, 3), np.uint8)
        picture = sv.MaskAnnotator(color_lookup=TRACKED, opacity=1.0).annotate(picture, detections)
        assert (picture.any(2) == masks.any(0)).all()
        picture = sv.BoxAnnotator(color_lookup=TRACKED).annotate(picture, detections)
        labels = [f"#{number}" for number in detections.tracker_id]
        pictures.append(sv.LabelAnnotator(color_lookup=TRACKED).annotate(picture, detections, labels))
    np.testing.assert_array_equal(*pictures)
    left, top = dense.xyxy[0, :2].astype(int)
    assert pictures[0][top, left].any()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"outputs": [{"masks": [], "scores": []}]}, TypeError, "for one picture.*got list"),
        ({"outputs": {"boxes": [], "scores": []}}, TypeError, r"got a dict of \['boxes', 'scores'\]"),
        ({"outputs": (1, 2)}, TypeError, "got tuple"),
        ({"outputs": "frame"}, ValueError, "need their session.*got session=NoneType"),
        ({"outputs": "frame", "session": {}}, ValueError, "got session=dict"),
        ({"outputs": "frame", "original_sizes": [[4, 4]]}, ValueError, "original_sizes is for .* leave it out"),
        ({"outputs": "picture"}, ValueError, "need the size of the picture"),
        ({"outputs": "picture", "original_sizes": [[4, 4], [4, 4]]}, ValueError, "one picture at a time, got 1 with 2"),
        ({"outputs": "picture", "session": object()}, ValueError, "session is for .* leave it out"),
        ({"outputs": "picture", "original_sizes": [[4, 4]], "class_id": [1]}, ValueError, "got 1 for 2 objects"),
        ({"outputs": "picture", "original_sizes": [[4, 4]], "class_id": {1: 1}}, ValueError, "have no ids"),
        ({"outputs": {"masks": np.zeros((2, 4, 4), bool), "scores": [0.5]}}, ValueError, "as many .* got 2 and 1"),
        ({"outputs": {"masks": np.zeros((1, 4, 4)), "scores": [0.5]}}, ValueError, r"masks\[0\] is float64 \(4, 4\)"),
        ({"outputs": {"masks": np.zeros((1, 2, 4, 4), bool), "scores": [0.5]}}, ValueError, r"\(2, 4, 4\) with scores"),
        (
            {"outputs": {"masks": np.zeros((1, 4, 4), bool), "scores": [0.5], "object_ids": [1, 2]}},
            ValueError,
            "one id per mask, got 2 for 1",
        ),
        (
            {"outputs": {"masks": [np.ones((4, 4), bool), np.ones((4, 5), bool)], "scores": [0.5, 0.5]}},
            ValueError,
            "the size of the picture",
        ),
    ],
)
def test_to_detections_rejects_what_does_not_fit(eyes, tracked, arguments, error, message):
    named = {"frame": tracked[0], "picture": eyes[0]}
    outputs = arguments["outputs"]
    arguments = {**arguments, "outputs": named[outputs] if isinstance(outputs, str) else outputs}
    with pytest.raises(error, match=message):
        to_detections(**arguments)


def test_to_detections_rejects_a_missing_class_and_an_old_supervision(tracked, monkeypatch):
    output, session, _ = tracked
    with pytest.raises(ValueError, match=r"no class for objects \[3\]"):
        to_detections(output, session, class_id={7: 1, 5: 2})
    monkeypatch.delattr(sv, "CompactMask")
    with pytest.raises(ValueError, match="pip install -U supervision"):
        to_detections(output, session, compact_masks=True)
