"""EdgeTAM in FiftyOne: real datasets, whose results equal those of the model called by hand."""

import functools
import http.server
import logging
import os
import shutil
import threading

import fiftyone_database
import numpy as np
import pytest
import torch
from conftest import make_folder
from fiftyone_database import fo
from PIL import Image

from edgetam_hf import (
    EdgeTamMaskGenerationPipeline,
    EdgeTamModel,
    EdgeTamProcessor,
    EdgeTamVideoModel,
    EdgeTamVideoProcessor,
    nano_checkpoint,
)

fiftyone_database.skip_without_database()

import fiftyone.zoo as foz  # noqa: E402

from edgetam_hf.integrations.fiftyone import EdgeTamFiftyOneImageModel, EdgeTamFiftyOneVideoModel  # noqa: E402

SAMPLES = nano_checkpoint().with_name("samples")
WIDTH, HEIGHT = 451, 300  # of the cat
LEFT_EYE, RIGHT_EYE = (136, 86, 209, 148), (296, 105, 352, 165)


@pytest.fixture(scope="module")
def model():
    return EdgeTamFiftyOneImageModel("nano", device="cpu", points_per_crop=4)


@pytest.fixture(scope="module")
def video_model():
    return EdgeTamFiftyOneVideoModel("nano", device="cpu")


@pytest.fixture
def dataset():
    dataset = fo.Dataset()
    yield dataset
    dataset.delete()


def boxed(box, size=(WIDTH, HEIGHT), **attributes):
    """A `Detection` of a box (x_min, y_min, x_max, y_max) in pixels."""
    left, top, right, bottom = (side / size[axis % 2] for axis, side in enumerate(box))
    return fo.Detection(bounding_box=[left, top, right - left, bottom - top], **attributes)


def clicked(points, **attributes):
    """A `Keypoint` with points (x, y) in pixels."""
    return fo.Keypoint(points=[(x / WIDTH, y / HEIGHT) for x, y in points], **attributes)


def eyes():
    return fo.Detections(detections=[boxed(LEFT_EYE, label="left", index=5), boxed(RIGHT_EYE, label="right")])


def sample_of(name, **fields):
    return fo.Sample(str(SAMPLES / name), **fields)


def results(dataset, field):
    """The values of a field as they are in the database."""
    dataset.reload()
    return dataset.values(field)


def assert_equal(detections, masks, scores, labels=None):
    """The detections have these masks (H, W) and scores, best first or in order, and labels."""
    expected = [fo.Detection.from_mask(np.asarray(mask)) for mask in masks]
    assert [detection.confidence for detection in detections.detections] == pytest.approx([float(s) for s in scores])
    assert labels is None or [detection.label for detection in detections.detections] == labels
    for detection, of_mask in zip(detections.detections, expected, strict=True):
        assert detection.bounding_box == pytest.approx(of_mask.bounding_box)
        np.testing.assert_array_equal(detection.mask, of_mask.mask)


@torch.inference_mode()
def by_hand(name, multimask_output, **prompts):
    """Best masks (O, H, W) and their scores (O,) of the model and the processor, called by hand."""
    model, processor = (kind.from_pretrained(nano_checkpoint()) for kind in (EdgeTamModel, EdgeTamProcessor))
    inputs = processor(images=Image.open(SAMPLES / name), **prompts, return_tensors="pt")
    outputs = model(**inputs, multimask_output=multimask_output)
    scores, best = outputs.iou_scores[0].max(-1)
    masks = processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])[0]
    return masks[torch.arange(len(best)), best].numpy(), scores


def test_image_model_finds_everything(dataset, model):
    dataset.add_sample(sample_of("coins.jpg"))
    dataset.apply_model(model, label_field="everything", num_workers=0, skip_failures=False)
    (found,) = results(dataset, "everything")
    parts = {"model": EdgeTamModel.from_pretrained(nano_checkpoint())}
    parts["image_processor"] = EdgeTamProcessor.from_pretrained(nano_checkpoint()).image_processor
    expected = EdgeTamMaskGenerationPipeline(**parts)(str(SAMPLES / "coins.jpg"), points_per_crop=4)
    assert len(found.detections) > 1
    assert_equal(found, [mask.numpy() for mask in expected["masks"]], expected["scores"])


def test_image_model_finds_what_boxes_and_clicks_of_a_field_say(dataset, model):
    clicks = fo.Keypoints(
        keypoints=[
            clicked([(175, 115), (float("nan"), float("nan")), (120, 60)], label="left", sam_labels=[1, 1, 0]),
            clicked([(325, 135)], label="right"),
            clicked([(float("nan"), float("nan"))], label="hidden"),
        ]
    )
    dataset.add_sample(sample_of("cat.jpg", boxes=eyes(), clicks=clicks))
    for field in ("boxes", "clicks"):
        dataset.apply_model(model, f"of_{field}", prompt_field=field, num_workers=1, skip_failures=False)
    (of_boxes,), (of_clicks,) = results(dataset, "of_boxes"), results(dataset, "of_clicks")
    assert_equal(of_boxes, *by_hand("cat.jpg", False, input_boxes=[[LEFT_EYE, RIGHT_EYE]]), labels=["left", "right"])
    assert [detection.index for detection in of_boxes.detections] == [5, None]
    points, labels = [[[[175, 115], [120, 60]]]], [[[1, 0]]]
    several = by_hand("cat.jpg", False, input_points=points, input_labels=labels)
    single = by_hand("cat.jpg", True, input_points=[[[[325, 135]]]])
    masks, scores = (np.concatenate(parts) for parts in zip(several, single))
    assert_equal(of_clicks, masks, scores, labels=["left", "right"])


def test_image_model_takes_batches_and_samples_without_prompts(dataset, model, caplog):
    coin = fo.Detections(detections=[boxed((309, 15, 366, 74), (384, 303))])
    fields = [{"boxes": eyes()}, {"boxes": None}, {"boxes": fo.Detections()}, {"boxes": coin}]
    dataset.add_samples([sample_of("coins.jpg" if of["boxes"] is coin else "cat.jpg", **of) for of in fields])
    with caplog.at_level(logging.WARNING, "edgetam_hf"):
        dataset.apply_model(
            model,
            "masks",
            prompt_field="boxes",
            batch_size=3,
            num_workers=0,
            skip_failures=False,
            confidence_thresh=0.1,
        )
    first, none, empty, last = results(dataset, "masks")
    assert none is None and empty.detections == []
    (warning,) = [record.getMessage() for record in caplog.records if record.name.startswith("edgetam_hf")]
    assert "has no prompts in 'boxes': nothing is segmented" in warning and dataset.values("id")[1] in warning
    masks, scores = by_hand("cat.jpg", False, input_boxes=[[LEFT_EYE, RIGHT_EYE]])
    areas = [detection.mask.sum() for detection in first.detections]
    assert areas == pytest.approx(masks.sum((1, 2)), abs=3)  # in a batch numbers are rounded otherwise
    assert [detection.confidence for detection in first.detections] == pytest.approx(scores.tolist(), abs=1e-4)
    assert_equal(last, *by_hand("coins.jpg", False, input_boxes=[[(309, 15, 366, 74)]]))


def test_image_model_leaves_out_objects_that_it_does_not_see(dataset, model, monkeypatch):
    forward = model.model.forward

    def forward_without_the_first(*arguments, **inputs):
        outputs = forward(*arguments, **inputs)
        outputs.object_score_logits[0, 0] = -1.0
        return outputs

    monkeypatch.setattr(model.model, "forward", forward_without_the_first)
    dataset.add_sample(sample_of("cat.jpg", boxes=eyes()))
    dataset.apply_model(model, "masks", prompt_field="boxes", num_workers=0, skip_failures=False)
    assert results(dataset, "masks.detections.label") == [["right"]]


def test_image_model_turns_pictures_upright(dataset, model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    lying = Image.open(SAMPLES / "cat.jpg").transpose(Image.Transpose.ROTATE_90)
    lying.save(tmp_path / "lying.png", exif=exif)
    dataset.add_sample(fo.Sample(str(tmp_path / "lying.png"), boxes=eyes()))
    dataset.apply_model(model, "masks", prompt_field="boxes", num_workers=0, skip_failures=False)
    (found,) = results(dataset, "masks")
    assert_equal(found, *by_hand("cat.jpg", False, input_boxes=[[LEFT_EYE, RIGHT_EYE]]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"prompt_field": "nothing"}, ValueError, "'nothing' does not exist"),
        ({"prompt_field": "filepath"}, TypeError, "prompt_field='filepath' must have Detections.*got str"),
        ({"prompt_field": 3}, TypeError, "prompt_field must be the name of a field, got 3"),
        ({"promptfield": "boxes"}, TypeError, "takes no promptfield, only prompt_field"),
        ({"prompt_field": "solids"}, ValueError, "has no bounding_box"),
        ({"prompt_field": "clicks"}, ValueError, "has 2 labels for 1 points"),
    ],
)
def test_image_model_rejects_fields_that_do_not_fit(dataset, model, call, error, message):
    solids = fo.Detections(detections=[fo.Detection(label="cube", location=[0, 0, 0])])
    clicks = fo.Keypoints(keypoints=[clicked([(3, 4)], sam_labels=[1, 0])])
    dataset.add_sample(sample_of("cat.jpg", boxes=eyes(), solids=solids, clicks=clicks))
    with pytest.raises(error, match=message):
        dataset.apply_model(model, "masks", num_workers=0, skip_failures=False, **call)


def test_image_model_rejects_unknown_options_and_models(model):
    with pytest.raises(TypeError, match="no option points_per_line"):
        EdgeTamFiftyOneImageModel("nano", points_per_line=4)
    with pytest.raises(OSError, match="no such folder"):
        EdgeTamFiftyOneImageModel("nowhere/at-all")
    with pytest.raises(ValueError, match="device 'tpu9'"):
        EdgeTamFiftyOneImageModel("nano", device="tpu9")
    asks = fo.core.utils.SetAttributes(model, needs_fields={"prompt_field": "boxes"})
    with asks, pytest.raises(ValueError, match="give these too"):
        model.predict(np.zeros((8, 8, 3), np.uint8))


@pytest.fixture(scope="module")
def clip():
    """Path of five frames in which a coin rolls, and its box on the first."""
    fiftyone_database.skip_without_ffmpeg()
    av = pytest.importorskip("av", reason="videos are read by PyAV: pip install av")
    from small_videos import write_video

    path = os.path.join(make_folder(), "clip.mp4")
    with av.open(str(nano_checkpoint().parents[1] / "examples" / "coins.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame, _ in zip(container.decode(video=0), range(5))]
    write_video(path, np.stack(frames))
    return path, (13, 58, 117, 162)


def add_video(dataset, path, prompts):
    """Adds a video of five frames with fields of frames, by number."""
    dataset.add_sample(fo.Sample(path))
    dataset.ensure_frames()
    sample = dataset.first()
    for number, fields in prompts.items():
        for name, value in fields.items():
            sample.frames[number][name] = value
    sample.save()


def track_by_hand(path, start, prompts):
    """{frame index: (masks (O, H, W), scores (O,))} of the model, called by hand: back from a frame, and on from it."""
    model, processor = (k.from_pretrained(nano_checkpoint()) for k in (EdgeTamVideoModel, EdgeTamVideoProcessor))
    session = processor.init_video_session(path, max_memory_frames=1)
    for frame_idx, obj_ids, boxes in prompts:
        processor.add_inputs_to_inference_session(session, frame_idx, obj_ids, input_boxes=[boxes])
    found = {}
    for reverse in (True, False) if start else (False,):
        for output in model.propagate_in_video_iterator(session, start, reverse=reverse):
            size = [[session.video_height, session.video_width]]
            masks = processor.post_process_masks([output.pred_masks], size)[0][:, 0]
            found[output.frame_idx] = masks.numpy(), output.iou_scores
    return found


def test_video_model_tracks_from_the_first_frame(dataset, video_model, clip):
    path, box = clip
    coin = fo.Detections(detections=[boxed(box, (480, 320), label="coin")])
    add_video(dataset, path, {1: {"boxes": coin}})
    dataset.apply_model(video_model, "masks", prompt_field="frames.boxes", skip_failures=False)
    (found,) = results(dataset, "frames.masks")
    expected = track_by_hand(path, 0, [(0, [0], [box])])
    assert len(found) == len(expected) == 5
    for frame_idx, detections in enumerate(found):
        assert_equal(detections, *expected[frame_idx], labels=["coin"])
        assert detections.detections[0].index == 1


def test_video_model_tracks_from_any_frames_and_knows_objects_by_index(dataset, video_model, clip):
    path, box = clip
    other = (40, 203, 124, 288)
    first = [boxed(box, (480, 320), label="coin", index=8), boxed(other, (480, 320), label="coin")]
    again = [boxed(box, (480, 320), label="coin", index=8)]
    fields = {2: {"boxes": fo.Detections(detections=first)}, 3: {"boxes": fo.Detections(detections=again)}}
    add_video(dataset, path, fields)
    dataset.apply_model(video_model, "masks", prompt_field="frames.boxes", skip_failures=False)
    (found,) = results(dataset, "frames.masks")
    expected = track_by_hand(path, 1, [(1, [0, 1], [box, other]), (2, [0], [box])])
    for frame_idx, detections in enumerate(found):
        assert_equal(detections, *expected[frame_idx])
        assert [detection.index for detection in detections.detections] == [8, 9]


def test_models_take_clips_and_frames(dataset, model, video_model, clip):
    path, box = clip
    coin = fo.Detections(detections=[boxed(box, (480, 320), label="coin")])
    add_video(dataset, path, {1: {"boxes": coin.copy()}, 3: {"boxes": coin}})
    sample = dataset.first()
    sample["events"] = fo.TemporalDetections(detections=[fo.TemporalDetection(label="rolls", support=[2, 4])])
    sample.save()
    clips = dataset.to_clips("events")
    clips.apply_model(video_model, "tracked", prompt_field="frames.boxes", skip_failures=False)
    clips.apply_model(model, "frames.pictures", prompt_field="frames.boxes", skip_failures=False)
    (tracked,), (pictures,) = results(dataset, "frames.tracked"), results(dataset, "frames.pictures")
    assert [found is not None for found in tracked] == [False, True, True, True, False]
    assert [found is not None for found in pictures] == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({}, ValueError, "a field of the frames of videos.*got None"),
        ({"prompt_field": "boxes"}, ValueError, "a field of the frames of videos.*got 'boxes'"),
        ({"prompt_field": "frames.nothing"}, ValueError, "'nothing' does not exist"),
        ({"prompt_field": "frames.empty"}, ValueError, "no frame of .*clip.mp4 has prompts in 'frames.empty'"),
        ({"prompt_field": "frames.twice"}, ValueError, "frame 1 has two prompts of label 'coin' and index 1"),
        ({"prompt_field": "frames.number"}, TypeError, "must have Detections.*got float"),
    ],
)
def test_video_model_rejects_fields_that_do_not_fit(dataset, video_model, clip, call, error, message):
    path, box = clip
    coins = [boxed(box, (480, 320), label="coin", index=1) for _ in range(2)]
    fields = {"empty": fo.Detections(), "twice": fo.Detections(detections=coins), "number": 1.5}
    add_video(dataset, path, {1: fields})
    with pytest.raises(error, match=message):
        dataset.apply_model(video_model, "masks", skip_failures=False, **call)


def test_zoo_source_is_registered_and_gives_its_models(dataset, tmp_path, monkeypatch):
    source = nano_checkpoint().with_name("integrations") / "fiftyone_zoo"
    shutil.make_archive(str(tmp_path / "edgetam"), "zip", source)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    monkeypatch.setattr(handler.func, "log_message", lambda *arguments: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/edgetam.zip"
        foz.register_zoo_model_source(address)
        server.shutdown()
    names = foz.list_zoo_models(source=address)
    assert names == sorted(f"edgetam{size}-{kind}-torch" for size in ("", "-nano") for kind in ("image", "video"))
    monkeypatch.setattr(
        "fiftyone.config.requirement_error_level", 2
    )  # of packages that a checkout may not have by name
    loaded = foz.load_zoo_model("edgetam-nano-image-torch", points_per_crop=4)
    assert type(loaded) is EdgeTamFiftyOneImageModel and loaded.generator.options.points_per_crop == 4
    assert type(foz.load_zoo_model("edgetam-nano-video-torch")) is EdgeTamFiftyOneVideoModel
    assert {"edgetam-nano-image-torch", "edgetam-nano-video-torch"} == set(foz.list_downloaded_zoo_models())
    of_zoo = foz.get_zoo_model("edgetam-nano-image-torch")
    assert set(of_zoo.resolve_input(None).type.properties) == {"device", "points_per_crop", "pred_iou_thresh"}
    params = {"device": None, "points_per_crop": 4}
    of_zoo.parse_parameters(None, params)
    assert params == {"points_per_crop": 4}


def test_zoo_source_downloads_the_published_checkpoint(tmp_path, monkeypatch):
    from edgetam_hf.integrations import fiftyone_zoo

    asked = []
    monkeypatch.setattr(fiftyone_zoo, "snapshot_download", lambda name, **settings: asked.append(name))
    fiftyone_zoo.download_model("edgetam-video-torch", str(tmp_path / "edgetam-video.txt"))
    assert asked == [(tmp_path / "edgetam-video.txt").read_text()] == ["yonigozlan/EdgeTAM-hf"]
