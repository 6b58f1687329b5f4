"""Functions of CVAT, loaded and driven by its own command line, driver and agents; its server is made up."""

import importlib
import itertools
import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from simulated_gpu import on_gpu

from edgetam_hf import (
    EdgeTamMaskGenerationPipeline,
    EdgeTamModel,
    EdgeTamProcessor,
    EdgeTamVideoModel,
    EdgeTamVideoProcessor,
    nano_checkpoint,
)
from edgetam_hf.commands.picture_files import SAMPLES
from edgetam_hf.integrations.clicked_picture import ClickedPicture
from edgetam_hf.loading import load_quietly

MODULE = "edgetam_hf.integrations.cvat"
FEW = {"points_per_crop": 5, "pred_iou_thresh": 0.6, "stability_score_thresh": 0.6}
TASK_ID = 12


@pytest.fixture
def sdk():
    """CVAT's auto-annotation functions."""
    return pytest.importorskip("cvat_sdk.auto_annotation", reason="needs CVAT's SDK: pip install cvat-sdk")


@pytest.fixture
def module(sdk):
    return importlib.import_module(MODULE)


@pytest.fixture(scope="module")
def image():
    with Image.open(SAMPLES / "coins.jpg") as image:
        return image.convert("RGB")


@pytest.fixture(scope="module")
def frames(image):
    """Four frames on which everything moves to the left."""
    return [image.crop((x, 0, x + 300, image.height)) for x in range(0, 32, 8)]


@pytest.fixture(scope="module")
def picture_model():
    return load_quietly(EdgeTamModel, nano_checkpoint()), load_quietly(EdgeTamProcessor, nano_checkpoint())


@pytest.fixture(scope="module")
def video_model():
    return load_quietly(EdgeTamVideoModel, nano_checkpoint()), load_quietly(EdgeTamVideoProcessor, nano_checkpoint())


@pytest.fixture(scope="module")
def everything(picture_model, image):
    """What the pipeline finds."""
    model, processor = picture_model
    generator = EdgeTamMaskGenerationPipeline(model=model, image_processor=processor.image_processor)
    return generator(image, **FEW)


class Task:
    """A task of CVAT in place of `TaskDataset`: its labels and its frames."""

    label_type = "any"

    def __init__(self, images, labels=("object",)):
        self.labels = [
            SimpleNamespace(id=71 + i, name=name, type=self.label_type, attributes=[], sublabels=[])
            for i, name in enumerate(labels)
        ]
        self.samples = [
            SimpleNamespace(
                frame_index=t, frame_name=f"{t}.jpg", media=SimpleNamespace(load_image=lambda image=image: image)
            )
            for t, image in enumerate(images)
        ]


@pytest.fixture
def client():
    """A client of CVAT that keeps what is uploaded."""
    uploads = []
    api = SimpleNamespace(
        partial_update_annotations=lambda *_, patched_labeled_data_request: uploads.append(patched_labeled_data_request)
    )
    return SimpleNamespace(logger=logging.getLogger("cvat"), tasks=SimpleNamespace(api=api), uploads=uploads)


@pytest.fixture
def annotate(sdk, module, client, monkeypatch):
    """Annotates a task as `cvat-cli task auto-annotate` does; returns the shapes that are uploaded."""

    def annotate(task, settings, **options):
        monkeypatch.setattr(sdk.driver, "TaskDataset", lambda *_, **__: task)
        sdk.annotate_task(client, TASK_ID, module.create(**settings), **options)
        return client.uploads.pop().shapes

    return annotate


@pytest.fixture
def agent(sdk, monkeypatch):
    """An agent of CVAT for a function: answers requests about a task, in this process."""
    cli = pytest.importorskip("cvat_cli._internal.agent", reason="needs CVAT's command line: pip install cvat-cli")
    datasets = importlib.import_module("cvat_sdk.datasets")
    parsers = importlib.import_module("cvat_cli._internal.parsers")
    executor = SimpleNamespace(submit=lambda function, *args: function(*args), result=lambda answer: answer)

    def start(task, *parameters, file=None):
        given = dict(map(parsers.parse_function_parameter, parameters))
        loader = cli.FunctionLoader(None if file else MODULE, file, given)
        cli._worker_init(loader, map(str, itertools.count()).__next__)
        spec = cli._worker_job_get_function_spec()
        driver = cli.get_function_driver_class(spec)(SimpleNamespace(logger=logging.getLogger("cvat")), executor, spec)
        monkeypatch.setattr(datasets, "TaskDataset", lambda *_, **__: task)
        ask = lambda **asked: driver.calculate_result_for_ar({"task": TASK_ID, **asked}, lambda **_: None)  # noqa: E731
        return SimpleNamespace(ask=ask, driver=driver, spec=spec)

    return start


def decode(points, size):
    masks = importlib.import_module("cvat_sdk.masks")
    return masks.decode_mask(points, image_width=size[0], image_height=size[1])


def track_by_hand(video_model, frames, **prompt):
    """Masks of one object on all frames of a stream."""
    model, processor = video_model
    session, size = processor.init_video_session(), frames[0].size[::-1]
    processor.add_inputs_to_inference_session(session, 0, 1, **prompt, original_size=size)
    inputs = [processor(images=frame, return_tensors="pt")["pixel_values"] for frame in frames]
    outputs = [model(session, frame=pixel_values) for pixel_values in inputs]
    return [processor.post_process_masks([output.pred_masks], [size])[0][0, 0].numpy() for output in outputs]


def test_detection_uploads_the_masks_that_the_pipeline_finds(annotate, everything, image):
    shapes = annotate(Task([image, image]), FEW)
    assert len(everything["masks"]) > 2 and len(shapes) == 2 * len(everything["masks"])
    for number, shape in enumerate(shapes):
        frame, idx = divmod(number, len(everything["masks"]))
        assert (shape.type.value, shape.label_id, shape.frame) == ("mask", 71, frame)
        assert np.array_equal(decode(shape.points, image.size), everything["masks"][idx].numpy())
        assert shape.score == pytest.approx(everything["scores"][idx].item())


def test_detection_takes_a_label_and_the_threshold_of_confidence(annotate, everything, image):
    threshold = everything["scores"][2].item() + 1e-6
    shapes = annotate(Task([image], ["x", "coin"]), {**FEW, "label": "coin"}, conf_threshold=threshold)
    assert len(shapes) == 2 and {shape.label_id for shape in shapes} == {72}


def test_detection_draws_polygons_where_they_are_asked_for(annotate, everything, image):
    pytest.importorskip("skimage", reason="polygons need scikit-image: pip install scikit-image")
    shapes = annotate(Task([image]), FEW, conv_mask_to_poly=True)
    assert len(shapes) == len(everything["masks"]) and {shape.type.value for shape in shapes} == {"polygon"}
    xs, ys = np.reshape(shapes[0].points, (-1, 2)).T
    rows, columns = np.nonzero(everything["masks"][0].numpy())
    assert columns.min() <= xs.min() and xs.max() <= columns.max() + 1
    assert rows.min() <= ys.min() and ys.max() <= rows.max() + 1


def test_detection_rejects_a_task_without_its_label(annotate, sdk, image):
    with pytest.raises(sdk.BadFunctionError, match="label 'object' is not in dataset"):
        annotate(Task([image], ["coin"]), FEW)


def test_agent_annotates_a_frame(agent, everything, image):
    parameters = [f"{name}={'int' if isinstance(value, int) else 'float'}:{value}" for name, value in FEW.items()]
    started = agent(Task([image]), "model=str:nano", *parameters)
    assert started.driver.get_remote_function_fields(started.spec)["labels_v2"][0]["name"] == "object"
    mapping = {"object": {"name": "object", "attributes": {}, "sublabels": {}}}
    asked = {"type": "annotate_frame", "frame": 0, "mapping": mapping, "threshold": None, "conv_mask_to_poly": False}
    shapes = started.ask(**asked)["annotations"].shapes
    assert np.array_equal(decode(shapes[0].points, image.size), everything["masks"][0].numpy())


def test_agent_finds_what_is_clicked_and_encodes_a_picture_once(agent, module, picture_model, image, monkeypatch):
    started = agent(Task([image]), "kind=str:interact", file=module.__file__)
    asked = {"type": "interact", "frame": 0, "pos_points": [[211, 192]], "neg_points": [], "obj_bbox": []}
    first = started.ask(**asked)["shapes"]
    monkeypatch.setattr(ClickedPicture, "__init__", None)  # the second time the picture is there
    boxed = {**asked, "neg_points": [[150, 30]], "obj_bbox": [[180, 160], [240, 225]]}
    second = started.ask(**boxed)["shapes"]

    model, processor = picture_model
    for shapes, points, labels, is_multimask in (
        (first, [[211, 192]], [1], True),
        (second, [[180, 160], [240, 225], [211, 192], [150, 30]], [2, 3, 1, 0], False),
    ):
        inputs = processor(images=image, input_points=[[points]], input_labels=[[labels]], return_tensors="pt")
        with torch.no_grad():
            outputs = model(**inputs, multimask_output=is_multimask)
        best = outputs.iou_scores[0, 0].argmax()
        expected = processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])[0][0, best].numpy()
        (shape,) = shapes
        assert shape["type"] == "mask" and np.array_equal(decode(shape["points"], image.size), expected)
        assert float(shape["attributes"][0]["value"]) == pytest.approx(outputs.iou_scores[0, 0, best].item(), abs=1e-5)


@pytest.mark.parametrize("points, message", [([[900, 20]], "outside of the picture"), ([[5, -1]], "outside")])
def test_clicks_reject_points_outside(agent, module, image, points, message):
    started = agent(Task([image]), "kind=str:interact", file=module.__file__)
    with pytest.raises(ValueError, match=message):
        started.ask(type="interact", frame=0, pos_points=points, neg_points=[], obj_bbox=[])


def test_agent_tracks_masks_and_rectangles_as_a_session_does(agent, video_model, frames):
    masks = importlib.import_module("cvat_sdk.masks")
    mask = np.zeros(frames[0].size[::-1], bool)
    mask[165:222, 183:238] = True
    box = [183.0, 165.0, 238.0, 222.0]
    started = agent(Task(frames), "kind=str:track")
    fields = started.driver.get_remote_function_fields(started.spec)
    assert {"mask", "rectangle"} <= set(fields["supported_shape_types"])
    shapes = [{"type": "mask", "points": masks.encode_mask(mask)}, {"type": "rectangle", "points": box}]
    states = started.ask(type="init_tracking", frame=0, shapes=shapes)["states"]
    answers = [started.ask(type="track", frame=t, states=states)["shapes"] for t in (1, 2, 3)]

    by_mask = track_by_hand(video_model, frames, input_masks=mask)
    by_box = track_by_hand(video_model, frames, input_boxes=[[box]])
    for (of_mask, of_box), expected, boxed in zip(answers, by_mask[1:], by_box[1:], strict=True):
        assert of_mask["type"] == "mask" and of_box["type"] == "rectangle" and expected.any()
        assert np.array_equal(decode(of_mask["points"], frames[0].size), expected)
        rows, columns = np.nonzero(boxed)
        assert of_box["points"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_tracking_encodes_a_frame_once_for_all_shapes(module, video_model, frames, monkeypatch):
    function, num_encoded = module.create(kind="track"), []
    encode = function._model.get_frame_embeddings
    monkeypatch.setattr(function._model, "get_frame_embeddings", lambda pixels: num_encoded.append(1) or encode(pixels))
    context = SimpleNamespace(original_shape_type="rectangle")
    frame = function.preprocess_image(context, frames[0])
    shape = SimpleNamespace(type="rectangle", points=[183, 165, 238, 222])
    states = [function.init_tracking_state(context, frame, shape) for _ in range(3)]
    frame = function.preprocess_image(context, frames[1])
    found = [function.track(context, frame, state) for state in states]
    assert len(num_encoded) == 2 and found[0] == found[1] == found[2] is not None


def test_tracking_on_a_gpu_is_the_same(module, frames, gpu):
    context = SimpleNamespace(original_shape_type="mask")
    masks = importlib.import_module("cvat_sdk.masks")
    mask = np.zeros(frames[0].size[::-1], bool)
    mask[165:222, 183:238] = True
    shape = SimpleNamespace(type="mask", points=masks.encode_mask(mask))

    def track(function):
        state = function.init_tracking_state(context, function.preprocess_image(context, frames[0]), shape)
        found = [function.track(context, function.preprocess_image(context, frame), state) for frame in frames[1:3]]
        return np.stack([decode(of_frame.points, frames[0].size) for of_frame in found])

    function = module.create(kind="track")
    expected = track(function)
    with gpu:
        function._model = on_gpu(function._model)
        assert (track(function) != expected).mean() < 1e-3


def test_tracking_follows_polygons(module, video_model, frames):
    pytest.importorskip("skimage", reason="polygons need scikit-image: pip install scikit-image")
    context = SimpleNamespace(original_shape_type="polygon")
    function = module.create(kind="track")
    corners = [183, 165, 238, 165, 238, 222, 183, 222]
    mask = module.read_polygon(corners, frames[0].size[::-1])["input_masks"]
    assert mask[165:222, 183:238].all() and mask.sum() <= 56 * 58
    frame = function.preprocess_image(context, frames[0])
    state = function.init_tracking_state(context, frame, SimpleNamespace(type="polygon", points=corners))
    found = function.track(context, function.preprocess_image(context, frames[1]), state)
    expected = track_by_hand(video_model, frames, input_masks=mask)[1]
    assert found.type == "polygon" and found.points == module.polygon_of(expected)


def test_tracking_says_nothing_of_an_object_that_is_not_seen(module, frames, sdk):
    context = SimpleNamespace(original_shape_type="mask")
    function = module.create(kind="track")
    function._find = lambda *_: np.zeros((4, 4), bool)
    assert function.track(context, None, None) is None


@pytest.mark.parametrize(
    "shape_type, points, message",
    [
        ("mask", [1, 2, 3], "too few elements"),
        ("mask", [0, 4, 0, 0, 9999, 0], "invalid encoded bounding box"),
        ("rectangle", [50, 5, 10, 20], "turned inside out"),
    ],
)
def test_tracking_rejects_shapes_that_do_not_fit(module, frames, shape_type, points, message):
    function = module.create(kind="track")
    context = SimpleNamespace(original_shape_type=shape_type)
    frame = function.preprocess_image(context, frames[0])
    with pytest.raises(ValueError, match=message):
        function.init_tracking_state(context, frame, SimpleNamespace(type=shape_type, points=points))


@pytest.mark.parametrize(
    "settings, kind, message",
    [
        ({"kind": "guess"}, ValueError, "kind must be one of detect, interact, track, got 'guess'"),
        ({"kind": "track", "label": "x"}, TypeError, "kind=track takes only model and device, got label"),
        ({"points_per_crop": 0}, ValueError, "points_per_crop"),
        ({"threshold": 0.5}, TypeError, "no option threshold"),
        ({"model": "/nowhere"}, OSError, "/nowhere"),
    ],
)
def test_create_rejects_wrong_settings(module, settings, kind, message):
    with pytest.raises(kind, match=message):
        module.create(**settings)


def test_import_without_cvat_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cvat_sdk", None)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    with pytest.raises(ImportError, match=r"^edgetam_hf\.integrations\.cvat needs .*: pip install cvat-sdk$"):
        importlib.import_module(MODULE)
