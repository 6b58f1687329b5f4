"""The ML backend of Label Studio, asked as Label Studio asks: by its package's own server, on loopback."""

import base64
import functools
import http.server
import importlib
import json
import logging.config
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgetam_hf import EdgeTamModel, EdgeTamProcessor, nano_checkpoint
from edgetam_hf.commands.picture_files import SAMPLES
from edgetam_hf.integrations.brush import encode_brush
from edgetam_hf.loading import load_quietly

MODULE = "edgetam_hf.integrations.label_studio"
pytestmark = pytest.mark.filterwarnings("ignore:Importing 'itsdangerous.json'")  # of Flask, which the package pins
PICTURE = SAMPLES / "coins.jpg"
CONFIG = """
<View>
  <Image name="image" value="$image" zoom="true"/>
  <BrushLabels name="brush" toName="image"><Label value="Coin"/><Label value="Other"/></BrushLabels>
  <KeyPointLabels name="point" toName="image" smart="true"><Label value="Coin"/><Label value="Other"/></KeyPointLabels>
  <RectangleLabels name="box" toName="image" smart="true"><Label value="Coin"/><Label value="Other"/></RectangleLabels>
</View>
"""
BRUSH = '<View><Image name="image" value="$picture"/><Brush name="tag" toName="image"/></View>'
with Image.open(PICTURE) as opened:
    WIDTH, HEIGHT = opened.size
BOX, INSIDE, BESIDE = (183, 165, 238, 222), (211, 192), (150, 30)


@pytest.fixture
def module():
    """The backend, with the embedded model and nothing that an earlier test has encoded."""
    pytest.importorskip(
        "label_studio_ml.api", reason="needs Label Studio's backend: pip install label-studio-ml rq redis"
    )
    module = importlib.import_module(MODULE)
    module.encoded.cache_clear()
    return module


@pytest.fixture
def client(module, tmp_path):
    """A client of the server, for which a project is set up."""
    client = module.make_app(tmp_path / "notes").test_client()
    set_up(client)
    return client


@pytest.fixture(scope="module")
def model():
    return load_quietly(EdgeTamModel, nano_checkpoint()), load_quietly(EdgeTamProcessor, nano_checkpoint())


def set_up(client, schema=CONFIG):
    asked = {"project": "7.1700000000", "schema": schema, "hostname": "", "access_token": "", "extra_params": None}
    answer = client.post("/setup", json=asked)
    assert answer.status_code == 200 and "model_version" in answer.get_json()


def region(kind, value, **more):
    """A region as Label Studio sends it, with coordinates in per cent."""
    sent = {"id": "fBWv1t0S2L", "from_name": "point", "to_name": "image", "origin": "manual", "image_rotation": 0}
    return {**sent, "original_width": WIDTH, "original_height": HEIGHT, "type": kind, "value": value, **more}


def keypoint(x, y, label="Coin", **more):
    value = {"x": 100 * x / WIDTH, "y": 100 * y / HEIGHT, "width": 0.3, "labels": [label], "keypointlabels": [label]}
    return region("keypointlabels", value, **more)


def rectangle(box, label="Coin", **value):
    x_min, y_min, x_max, y_max = box
    value = {"width": 100 * (x_max - x_min) / WIDTH, "height": 100 * (y_max - y_min) / HEIGHT, **value}
    value = {"x": 100 * x_min / WIDTH, "y": 100 * y_min / HEIGHT, "rectanglelabels": [label], "rotation": 0, **value}
    return region("rectanglelabels", value)


def data_uri(content=None):
    content = PICTURE.read_bytes() if content is None else content
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()


def request(regions, picture=None, name="image"):
    return {
        "tasks": [{"id": 3, "data": {name: data_uri() if picture is None else picture}}],
        "project": "7.1700000000",
        "label_config": CONFIG,
        "params": {"login": None, "password": None, "context": regions and {"result": regions}},
    }


def ask(client, *arguments, **more):
    """The only prediction of an answer."""
    answer = client.post("/predict", json=request(*arguments, **more))
    assert answer.status_code == 200, answer.get_json()["detail"]
    (prediction,) = answer.get_json()["results"]
    return prediction


def decode_brush(numbers):
    """Values of run lengths, read bit by bit as their description says."""
    bits = "".join(f"{number:08b}" for number in numbers)
    place = 0

    def read(size):
        nonlocal place
        place += size
        return int(bits[place - size : place], 2)

    num_values, value_size = read(32), read(5) + 1
    sizes, values = [read(4) + 1 for _ in range(4)], []
    while len(values) < num_values:
        is_run, length = read(1), read(sizes[read(2)]) + 1
        values += [read(value_size)] * length if is_run else [read(value_size) for _ in range(length)]
    return np.array(values, np.uint8)


def mask_of(found):
    """The mask of a region: where alpha is not 0."""
    values = decode_brush(found["value"]["rle"])
    return values.reshape(found["original_height"], found["original_width"], 4)[..., 3] > 0


def find_by_hand(model, points, labels, is_multimask=False):
    network, processor = model
    with Image.open(PICTURE) as image:
        inputs = processor(images=image, input_points=[[points]], input_labels=[[labels]], return_tensors="pt")
    with torch.no_grad():
        outputs = network(**inputs, multimask_output=is_multimask)
    best = outputs.iou_scores[0, 0].argmax()
    mask = processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])[0][0, best]
    return mask.numpy(), outputs.iou_scores[0, 0, best].item()


@contextmanager
def serving(server):
    """The address of a server while it runs."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_health_is_up(client):
    assert client.get("/health").get_json()["status"] == "UP"


CORNERS, LABELS = [BOX[:2], BOX[2:]], [2, 3]


@pytest.mark.parametrize(
    "regions, points, labels",
    [
        ([keypoint(*INSIDE, is_positive=True)], [INSIDE], [1]),
        ([keypoint(*INSIDE), keypoint(*BESIDE, is_positive=0)], [INSIDE, BESIDE], [1, 0]),
        ([rectangle(BOX)], CORNERS, LABELS),
        ([rectangle(BOX), keypoint(*BESIDE, is_positive=False)], [*CORNERS, BESIDE], [*LABELS, 0]),
        ([rectangle((0, 0, 50, 50)), rectangle(BOX)], CORNERS, LABELS),
    ],
)
def test_regions_become_the_mask_that_the_model_finds(client, model, regions, points, labels):
    prediction = ask(client, regions)
    mask, score = find_by_hand(model, points, labels, len(points) == 1)
    (found,) = prediction["result"]
    assert np.array_equal(mask_of(found), mask) and mask.any()
    assert found["value"]["brushlabels"] == ["Coin"] and found["value"]["format"] == "rle"
    assert (found["type"], found["from_name"], found["to_name"]) == ("brushlabels", "brush", "image")
    assert prediction["score"] == found["score"] == pytest.approx(score, abs=1e-5)
    assert prediction["model_version"].startswith("edgetam-hf ")


def test_brush_without_labels_gets_a_region_without_one(module, tmp_path, model):
    client = module.make_app(tmp_path).test_client()
    set_up(client, BRUSH)
    plain = {name: number for name, number in rectangle(BOX)["value"].items() if name != "rectanglelabels"}
    (found,) = ask(client, [region("rectangle", plain)], name="picture")["result"]
    assert found["type"] == "brush" and set(found["value"]) == {"format", "rle"}
    assert np.array_equal(mask_of(found), find_by_hand(model, CORNERS, LABELS)[0])


def test_tasks_in_which_nothing_is_marked_get_an_empty_prediction_each(client):
    asked = {**request(None), "tasks": [{"id": 1, "data": {"image": "/nowhere"}}] * 3}
    results = client.post("/predict", json=asked).get_json()["results"]
    assert [prediction["result"] for prediction in results] == [[], [], []]


def test_picture_is_encoded_once_for_all_clicks(client, module, monkeypatch):
    first = ask(client, [keypoint(*INSIDE)])
    monkeypatch.setattr(module, "ClickedPicture", None)
    again = ask(client, [keypoint(*INSIDE)])
    assert again["result"][0]["value"] == first["result"][0]["value"]


def test_server_on_loopback_fetches_the_picture_of_an_address(module, model, tmp_path, monkeypatch):
    serving_module = pytest.importorskip("werkzeug.serving", reason="needs Flask: pip install label-studio-ml")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(SAMPLES))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    files = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    backend = serving_module.make_server("127.0.0.1", 0, module.make_app(tmp_path), threaded=True)
    open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def post(address, asked):
        headers = {"Content-Type": "application/json"}
        with open_url(urllib.request.Request(address, json.dumps(asked).encode(), headers)) as answer:
            return json.load(answer)

    with serving(files) as pictures, serving(backend) as address:
        post(f"{address}/setup", {"project": "7.1", "schema": CONFIG})
        answer = post(f"{address}/predict", request([rectangle(BOX)], f"{pictures}/{PICTURE.name}"))
        with pytest.raises(urllib.error.HTTPError, match="400"):
            post(f"{address}/predict", request([rectangle(BOX)], f"{pictures}/missing.jpg"))
    found = answer["results"][0]["result"][0]
    assert np.array_equal(mask_of(found), find_by_hand(model, CORNERS, LABELS)[0])


def test_files_of_label_studio_are_read_inside_their_folder_alone(client, module, model, tmp_path, monkeypatch):
    inner = tmp_path / "files"
    inner.mkdir()
    for folder in (inner, tmp_path):
        (folder / "coins.jpg").write_bytes(PICTURE.read_bytes())
    local = [rectangle(BOX)], "/data/local-files/?d=coins.jpg"
    for name in module.LOCAL_ROOTS:
        monkeypatch.delenv(name, raising=False)
    assert "LOCAL_FILES_DOCUMENT_ROOT is not set" in reject(client, *local)
    monkeypatch.setenv("LOCAL_FILES_DOCUMENT_ROOT", str(inner))
    package = sys.modules[module.backend.get_local_path.__module__]
    monkeypatch.setattr(package, "LOCAL_FILES_DOCUMENT_ROOT", str(inner))
    (found,) = ask(client, *local)["result"]
    assert np.array_equal(mask_of(found), find_by_hand(model, CORNERS, LABELS)[0])
    for place in ("../coins.jpg", str(tmp_path / "coins.jpg")):
        for start in ("/data/local-files/", "/data/upload/1/x", "upload/1/x"):
            assert "lies outside of the folder" in reject(client, [rectangle(BOX)], f"{start}?d={place}")


def reject(client, *arguments, **more):
    """The reason that an answer of status 400 gives."""
    answer = client.post("/predict", json=request(*arguments, **more))
    body = answer.get_json()
    assert answer.status_code == body["status"] == 400 and not body["result"]["traceback"]
    return body["detail"]


@pytest.mark.parametrize(
    "picture, message",
    [
        (str(PICTURE), "must be one of Label Studio, of the web or a data: URI"),
        (f"file://{PICTURE}", "must be one of Label Studio"),
        ("/data/upload/../../x.jpg", "must be one of Label Studio"),
        ("", "must have the address of a picture in data.image"),
        (["a"], "must have the address of a picture"),
        ("data:image/png;base64,####", "base64 text is not valid"),
        (data_uri(b"no picture"), "not a picture in a format"),
        ("http://127.0.0.1:9/x.jpg", "cannot be fetched"),
        ("/data/upload/1/x.jpg", "cannot be fetched"),
        ("s3://bucket/x.jpg", "cannot be fetched"),
    ],
)
def test_backend_rejects_pictures_that_it_may_not_or_cannot_read(client, picture, message, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert message in reject(client, [rectangle(BOX)], picture)


def test_backend_rejects_a_decompression_bomb(client, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "may be a decompression bomb" in reject(client, [rectangle(BOX)])


@pytest.mark.parametrize(
    "regions, message",
    [
        ([keypoint(WIDTH + 9, 5)], "lies outside of the picture"),
        ([rectangle((WIDTH + 5, 5, WIDTH + 9, 9))], "lies outside of the picture"),
        ([rectangle((50, 50, 40, 60))], "with x_min < x_max"),
        ([keypoint(*INSIDE, is_positive=False)], "there must be a point on the object, or a box"),
        ([keypoint(*INSIDE, label="Dog")], "the label must be one of the brush, Coin, Other, got 'Dog'"),
        ([region("keypointlabels", {"x": 50, "y": 50})], "the label must be one of the brush"),
        ([region("keypointlabels", {"x": None, "y": 50})], "must have the numbers x, y"),
        ([region("keypointlabels", None)], "must have the numbers x, y"),
        ([region("polygonlabels", {"points": []})], "got a region of type polygonlabels"),
        ([{**rectangle(BOX), "original_width": 9}], "Label Studio shows it 9 wide"),
        ([{**rectangle(BOX), "image_rotation": 90}], "turn them back"),
        ([rectangle(BOX, rotation=12.0)], "turn them back"),
    ],
)
def test_backend_rejects_regions_that_say_nothing(client, regions, message):
    assert message in reject(client, regions)


def test_backend_rejects_regions_for_several_tasks_and_a_configuration_without_brush(client, module, tmp_path):
    asked = request([rectangle(BOX)])
    asked["tasks"] *= 2
    assert "got 2 tasks" in client.post("/predict", json=asked).get_json()["detail"]
    client = module.make_app(tmp_path).test_client()
    set_up(client, '<View><Image name="image" value="$image"/></View>')
    assert "must have <BrushLabels> or <Brush>" in reject(client, [rectangle(BOX)])


def test_predict_outside_of_a_request_raises_the_error_itself(module):
    backend = module.EdgeTamBackend(label_config=CONFIG)
    with pytest.raises(ValueError, match="got 0 tasks"):
        backend.predict([], {"result": [rectangle(BOX)]})


def test_package_starts_the_backend_from_a_copy_of_its_file(module, tmp_path, monkeypatch):
    server = pytest.importorskip("label_studio_ml.server", reason="needs: pip install label-studio-ml rq redis")
    script = f"{module.__file__}:EdgeTamBackend"
    monkeypatch.setattr(sys, "path", [str(tmp_path / "made"), *sys.path])
    monkeypatch.delitem(sys.modules, "label_studio", raising=False)
    server.create_dir(SimpleNamespace(root_dir=str(tmp_path), project_name="made", script=script, force=False))
    # it would end the log handlers of all others, of which some close what pytest captures
    monkeypatch.setattr(logging.config, "dictConfig", lambda settings: None)
    specification = importlib.util.spec_from_file_location("made_wsgi", tmp_path / "made" / "_wsgi.py")
    started = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(started)
    client = started.app.test_client()
    set_up(client)
    assert ask(client, [rectangle(BOX)])["result"]
    monkeypatch.delitem(sys.modules, "label_studio")


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=9))
def test_brush_is_read_back(rows):
    mask = np.array(rows)
    assert np.array_equal(
        decode_brush(encode_brush(mask)).reshape(*mask.shape, 4), np.repeat(255 * mask[..., None], 4, 2)
    )


def test_brush_is_what_label_studio_reads_and_writes():
    brush = pytest.importorskip("label_studio_converter.brush", reason="needs: pip install label-studio-converter")
    y, x = np.mgrid[:300, :400]
    for mask in ((x - 200) ** 2 + (y - 90) ** 2 < 80**2, np.zeros((300, 400), bool), np.ones((300, 400), bool)):
        encoded = encode_brush(mask)
        assert np.array_equal(brush.decode_rle(encoded).reshape(300, 400, 4)[..., 3] > 0, mask)
        assert brush.mask2rle(mask.astype(np.uint8) * 255)[: len(encoded)] == encoded


def test_import_without_label_studio_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "label_studio_ml", None)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    with pytest.raises(ImportError, match=r"^edgetam_hf\.integrations\.label_studio needs .*: pip install label-stud"):
        importlib.import_module(MODULE)


def test_command_rejects_a_model_that_is_not_there(module, capsys, monkeypatch):
    monkeypatch.setattr(module.EdgeTamBackend, "choice", module.EdgeTamBackend.choice)
    assert module.main(["--model", "/nowhere"]) == 1
    printed = capsys.readouterr().err
    assert "label_studio: error: /nowhere cannot be loaded" in printed and printed.count("\n") == 1
