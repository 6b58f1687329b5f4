"""The server of `edgetam demo`: its masks are those of Python, its sessions stay apart, and it has limits."""

import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import torch
from edgetam_hf.video_frames_edgetam import open_video
from PIL import Image
from small_models import make_clip
from small_videos import av, beep, read_beep, read_times, write_video

pytest.importorskip("starlette", reason='the server needs Starlette: pip install "edgetam-hf[demo]"')
pytest.importorskip("httpx", reason="the test client of Starlette needs httpx: pip install httpx")

from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from edgetam_cli import main, parse
from edgetam_hf import demo
from edgetam_hf.commands import demo as command
from edgetam_hf.demo import media, pictures, tracking
from edgetam_hf.demo.access import HEADERS, Access, is_loopback
from edgetam_hf.demo.app import make_app
from edgetam_hf.demo.files import files_in, page_files
from edgetam_hf.demo.messages import pack, unpack
from edgetam_hf.demo.models import Models
from edgetam_hf.demo.sessions import CROWDED_SECONDS, FAULT, IDLE_SECONDS, LOST_SECONDS, Limits, Sessions
from edgetam_hf.demo.worker import Worker
from edgetam_hf.found_objects import CutMask
from edgetam_hf.loading import ModelChoice

HOST = "localhost:8770"


class Clock:
    """Seconds that pass when a test says so."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


class Page:
    """A page at work: a session and its socket."""

    def __init__(self, client, session=None):
        self.client = client
        self.session = session or client.post("/sessions").json()["session"]
        self.socket = client.websocket_connect(f"ws://{HOST}/sessions/{self.session}/socket")
        self.socket.__enter__()
        self.num_calls = 0

    def close(self):
        self.socket.__exit__(None, None, None)

    def open(self, path, name=None):
        """The answer to a file that is sent."""
        params = {"name": name or path.name}
        return self.client.put(f"/sessions/{self.session}/media", params=params, content=path.read_bytes())

    def start(self, method, params=None, payload=None):
        """Begins a call and returns its id."""
        self.num_calls += 1
        header = {"id": self.num_calls, "method": method, "params": params or {}}
        if payload is None:
            self.socket.send_text(json.dumps(header))
        else:
            self.socket.send_bytes(pack(header, payload))
        return self.num_calls

    def receive(self):
        """The next message: JSON, or (header, masks by object) of a frame."""
        message = self.socket.receive()
        if message.get("text") is not None:
            return json.loads(message["text"])
        header, payload = unpack(message["bytes"])
        runs, start = np.frombuffer(payload, "<u4"), 0
        for found in header["objects"]:
            found["runs"] = runs[start : start + found["numRuns"]]
            start += found["numRuns"]
        assert start == len(runs)
        return header

    def end(self, call):
        """(last answer to a call, answers before it)."""
        before = []
        while True:
            answer = self.receive()
            if answer["id"] == call and ("result" in answer or "error" in answer or answer.get("isResult")):
                return answer, before
            before.append(answer)

    def ask(self, method, payload=None, **params):
        """The last answer to a call."""
        return self.end(self.start(method, params, payload))[0]

    def ask_in_vain(self, method, payload=None, **params):
        """The sentence that a call is refused with."""
        return self.ask(method, payload, **params)["error"]


def prompt(points=(), labels=(), box=None, mask=False):
    return {"points": [list(p) for p in points], "labels": list(labels), "box": box, "mask": mask}


def runs_of(mask):
    return np.array(CutMask.of(np.asarray(mask)).run_lengths()["counts"], "<u4")


def masks_in(answer, size):
    """Boolean masks by object of an answer about pictures of a size (height, width)."""
    return {
        found["objectId"]: np.repeat(np.arange(len(found["runs"])) % 2 == 1, found["runs"]).reshape(size[::-1]).T
        for found in answer["objects"]
    }


@pytest.fixture(scope="module")
def models(video_folder):
    return Models.load(ModelChoice(str(video_folder)))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A file with twelve frames of 120x90 and two seconds of sound."""
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    write_video(path, make_clip(), sound=("aac", beep(0.3, 0.8, 1.2)))
    return path


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A file with a picture of 120x90."""
    path = tmp_path_factory.mktemp("media") / "square.png"
    Image.fromarray(make_clip(1)[0]).save(path)
    return path


@pytest.fixture
def make_client(models, tmp_path):
    """Clients of new servers; `is_running=False` leaves the worker to the test."""
    clients = []

    def make(limits=None, file=None, access=None, is_running=True, clock=None):
        folder = tmp_path / f"uploads{len(clients)}"
        folder.mkdir()
        sessions = Sessions(models, Worker(), limits or Limits(), folder, file, clock or Clock())
        settings = {"engine": "server", "model": models.description, "media": file and file.name}
        app = make_app(page_files(), lambda: settings, access or Access(None), sessions)
        client = TestClient(app, base_url=f"http://{HOST}", raise_server_exceptions=False)
        client.sessions, client.folder = sessions, folder
        if is_running:
            client.__enter__()
            clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_client):
    return make_client()


@pytest.fixture
def page(client):
    page = Page(client)
    yield page
    page.close()


class Reference:
    """The same through the Python API."""

    def __init__(self, models, path):
        self.model, self.processor = models.video, models.processor
        self.session = self.processor.init_video_session(path, max_memory_frames=tracking.MEMORY_FRAMES)
        self.size = (self.session.video_height, self.session.video_width)

    def say(self, frame_idx, object_id, points=(), labels=(), box=None, mask=None):
        self.processor.add_inputs_to_inference_session(
            self.session,
            frame_idx,
            object_id,
            input_points=[[[list(point) for point in points]]] if points else None,
            input_labels=[[list(labels)]] if points else None,
            input_boxes=[[box]] if box else None,
            input_masks=mask,
            clear_old_inputs=False,
        )
        return self.on(self.model(self.session, frame_idx=frame_idx))

    def propagate(self, **settings):
        return {
            output.frame_idx: self.on(output)
            for output in self.model.propagate_in_video_iterator(self.session, **settings)
        }

    def on(self, output):
        """(mask, score, whether it is present) of the objects that were looked for, by object."""
        masks = self.processor.post_process_masks([output.pred_masks], [self.size])[0][:, 0].numpy()
        columns = zip(output.object_ids, masks, output.iou_scores.tolist(), output.object_score_logits.tolist())
        return {object_id: (mask, score, logit > 0) for object_id, mask, score, logit in columns}


def assert_same(answer, expected, size):
    """An answer has what Python finds; of objects that were not looked for it says nothing."""
    masks = masks_in(answer, size)
    assert masks and masks.keys() <= expected.keys()
    for found in answer["objects"]:
        mask, score, is_present = expected[found["objectId"]]
        assert np.array_equal(masks[found["objectId"]], mask)
        assert (found["iouScore"], found["isPresent"]) == (score, is_present)
    assert all(not expected[object_id][0].any() for object_id in expected.keys() - masks.keys())


# Pictures.


def assert_picture(answer, outputs, processor, size):
    masks = processor.post_process_masks(outputs.pred_masks, [size])[0][0]
    scores = outputs.iou_scores[0, 0]
    order = scores.argsort(descending=True).tolist()
    assert [found["iouScore"] for found in answer["objects"]] == scores[order].tolist()
    for found, idx in zip(answer["objects"], order, strict=True):
        assert np.array_equal(found["runs"], runs_of(masks[idx]))
        assert found["isPresent"] == bool(outputs.object_score_logits[0, 0, 0] > 0)


@pytest.mark.parametrize(
    "said",
    [
        {"points": [[30, 40]], "labels": [1]},
        {"points": [[30, 40], [80, 20]], "labels": [1, 0]},
        {"points": [], "labels": [], "box": [8.0, 25.5, 45.0, 65.0]},
        {"points": [[20, 30]], "labels": [0], "box": [8.0, 25.5, 45.0, 65.0]},
    ],
)
def test_segment_finds_the_masks_of_python(page, models, picture, said):
    assert page.open(picture).json() == {
        "kind": "picture", "name": "square.png", "width": 120, "height": 90, "numFrames": 1, "frameRate": 0.0,
        "hasSound": False,
    }  # fmt: skip
    coordinates = {"input_boxes": [[said["box"]]]} if said.get("box") else {}
    if said["points"]:
        coordinates |= {"input_points": [[said["points"]]], "input_labels": [[said["labels"]]]}
    inputs = models.processor(images=Image.open(picture), return_tensors="pt", **coordinates)
    for is_multimask in (True, False):
        with torch.inference_mode():
            outputs = models.picture(**inputs, multimask_output=is_multimask)
        answer = page.ask("segment", prompt=prompt(**said), isMultimask=is_multimask)
        assert len(answer["objects"]) == (3 if is_multimask else 1)
        assert_picture(answer, outputs, models.processor, (90, 120))


def test_segment_refines_a_mask(page, picture):
    page.open(picture)
    square = np.zeros((90, 120), bool)
    square[30:60, 10:40] = True
    alone = page.ask("segment", runs_of(square).tobytes(), prompt=prompt(mask=True), isMultimask=False)
    boxed = page.ask("segment", prompt=prompt(box=[10, 30, 39, 59]), isMultimask=False)
    both = page.ask(
        "segment", runs_of(square).tobytes(), prompt=prompt(box=[10, 30, 39, 59], mask=True), isMultimask=False
    )
    assert np.array_equal(alone["objects"][0]["runs"], both["objects"][0]["runs"])
    assert not np.array_equal(alone["objects"][0]["runs"], boxed["objects"][0]["runs"])
    nothing = runs_of(np.zeros((90, 120), bool)).tobytes()
    assert "the mask is empty" in page.ask_in_vain("segment", nothing, prompt=prompt(mask=True), isMultimask=False)


def test_everything_finds_the_masks_of_the_pipeline(page, models, picture, monkeypatch):
    lenient = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "max_hole_area": 4, "crops_n_layers": 1}
    lenient["crops_nms_thresh"] = 0.95
    monkeypatch.setitem(models.generator._postprocess_params, "options", models.generator.options.updated(lenient))
    monkeypatch.setattr(pictures, "POINTS_PER_BATCH", 4)
    page.open(picture)
    answer, before = page.end(page.start("everything", {"pointsPerSide": 4}))
    expected = models.generator(Image.open(picture).convert("RGB"), points_per_crop=4)
    assert [message["progress"] for message in before] == [[done, 80] for done in range(4, 81, 4)]
    assert len(expected["masks"]) == len(answer["objects"]) > 2
    for found, mask, score in zip(answer["objects"], expected["masks"], expected["scores"].tolist(), strict=True):
        assert np.array_equal(found["runs"], runs_of(mask)) and found["iouScore"] == pytest.approx(score, abs=1e-5)
    assert [found["objectId"] for found in answer["objects"]] == list(range(1, len(expected["masks"]) + 1))


def test_everything_that_is_cancelled_has_what_was_found(make_client, picture, monkeypatch):
    monkeypatch.setattr(pictures, "POINTS_PER_BATCH", 4)
    sessions, channel = make_client(is_running=False).sessions, Kept()
    session = sessions.create()
    session.open(picture, "square.png")
    session.call(1, "everything", ({"pointsPerSide": 4}, b""), channel)
    for _ in range(3):  # the picture is encoded first
        sessions.worker.run_step()
    session.cancel(1)
    while sessions.worker.run_step():
        pass
    assert [message.get("progress") for message in channel.messages] == [[4, 16], [8, 16], None]
    assert channel.messages[-1]["isResult"]


def test_picture_is_shown_upright(page, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(make_clip(1)[0]).save(tmp_path / "turned.jpg", exif=exif)
    assert [page.open(tmp_path / "turned.jpg").json()[side] for side in ("width", "height")] == [90, 120]
    shown = page.client.get(f"/sessions/{page.session}/frames/0.jpg")
    assert shown.headers["content-type"] == "image/jpeg" and Image.open(io.BytesIO(shown.content)).size == (90, 120)
    assert page.client.get(f"/sessions/{page.session}/frames/1.jpg").status_code == 404


# Videos.


def test_tracking_finds_the_masks_of_python(page, models, video):
    assert page.open(video).json() == {
        "kind": "video", "name": "clip.mp4", "width": 120, "height": 90, "numFrames": 12, "frameRate": 10.0,
        "hasSound": True,
    }  # fmt: skip
    python = Reference(models, video)

    def say(frame_idx, object_id, **said):
        answer = page.ask("add_prompt", frameIdx=frame_idx, objectId=object_id, prompt=prompt(**said))
        assert answer["frameIdx"] == frame_idx
        assert_same(answer, python.say(frame_idx, object_id, **said), python.size)

    def propagate(start, count, is_reverse):
        call = page.start("propagate", {"start": start, "count": count, "isReverse": is_reverse})
        last, answers = page.end(call)
        count_of_python = {} if count is None else {"max_frame_num_to_track": count}
        expected = python.propagate(start_frame_idx=start, reverse=is_reverse, **count_of_python)
        assert last == {"id": call, "result": None}
        assert [answer["frameIdx"] for answer in answers] == list(expected)
        for answer in answers:
            assert not answer["isResult"]
            assert_same(answer, expected[answer["frameIdx"]], python.size)

    say(0, 1, points=[[25, 45]], labels=[1])
    say(0, 1, points=[[90, 20]], labels=[0])  # joins the first one
    propagate(0, 3, False)
    say(6, 2, box=[5, 5, 60, 40])  # in the middle
    propagate(6, None, True)
    propagate(0, None, False)
    say(8, 1, points=[[70, 45]], labels=[1])  # a correction
    say(8, 1, points=[[10, 10]], labels=[0])
    propagate(8, 2, False)

    cleared = page.ask("clear_prompts", frameIdx=8, objectId=1)
    python.session.clear_prompts(8, 1)
    assert_same(cleared, python.on(python.model(python.session, frame_idx=8)), python.size)
    assert page.ask("remove_object", objectId=2)["result"] is None
    python.session.remove_object(2)
    propagate(0, None, False)
    assert page.ask("reset")["result"] is None
    assert "click on an object first" in page.ask_in_vain("propagate", start=0, count=None, isReverse=False)


def test_tracking_takes_a_mask(page, models, video):
    page.open(video)
    python = Reference(models, video)
    mask = np.zeros(python.size, bool)
    mask[30:60, 10:40] = True
    answer = page.ask("add_prompt", runs_of(mask).tobytes(), frameIdx=0, objectId=1, prompt=prompt(mask=True))
    assert_same(answer, python.say(0, 1, mask=mask), python.size)
    _, answers = page.end(page.start("propagate", {"start": 0, "count": 3, "isReverse": False}))
    for answer, expected in zip(answers, python.propagate(max_frame_num_to_track=3).values(), strict=True):
        assert_same(answer, expected, python.size)


def test_prompts_that_are_taken_back_leave_no_trace(page, models, video):
    page.open(video)
    click = {"frameIdx": 3, "objectId": 1, "prompt": prompt([[40, 45]], [1])}
    first = page.ask("add_prompt", **click)
    page.ask("add_prompt", frameIdx=3, objectId=1, prompt=prompt([[5, 5]], [0]))
    assert page.ask("clear_prompts", frameIdx=3, objectId=1)["objects"] == []
    again = page.ask("add_prompt", **click)
    assert np.array_equal(first["objects"][0]["runs"], again["objects"][0]["runs"])


def test_frames_are_shown_while_objects_are_tracked(page, video):
    page.open(video)
    page.ask("add_prompt", frameIdx=0, objectId=1, prompt=prompt([[25, 45]], [1]))
    call = page.start("propagate", {"start": 0, "count": None, "isReverse": False})
    shown = page.client.get(f"/sessions/{page.session}/frames/11.jpg")
    assert len(page.end(call)[1]) == 12
    assert shown.content == media.as_jpeg(open_video(video)[11].permute(1, 2, 0).numpy())


def test_two_sessions_find_what_each_finds_alone(client, video):
    clicks = [([[25, 45]], [1]), ([[90, 70]], [1])]

    def begin(page, click):
        page.open(video)
        page.ask("add_prompt", frameIdx=0, objectId=1, prompt=prompt(*click))
        return page.start("propagate", {"start": 0, "count": None, "isReverse": False})

    def found(page, call):
        return [(answer["frameIdx"], answer["objects"][0]["runs"].tolist()) for answer in page.end(call)[1]]

    pages = [Page(client) for _ in clicks]
    calls = [begin(page, click) for page, click in zip(pages, clicks)]
    together = [found(page, call) for page, call in zip(pages, calls)]
    alone = [found(page, begin(page, click)) for page, click in zip(pages, clicks)]
    assert together == alone and together[0] != together[1]
    for page in pages:
        page.close()


def test_results_of_a_long_video_are_bounded(page, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "MEMORY_FRAMES", 8)
    frames = np.repeat(make_clip(1, 64, 96), 200, axis=0)
    write_video(tmp_path / "three_hours.mp4", frames, seconds=np.arange(200) * 54.0)
    assert page.open(tmp_path / "three_hours.mp4").json()["numFrames"] == 200
    page.ask("add_prompt", frameIdx=0, objectId=1, prompt=prompt([[20, 16]], [1]))
    inference = page.client.sessions.get(page.session).work.session
    _, answers = page.end(page.start("propagate", {"start": 0, "count": None, "isReverse": False}))
    known = inference.objects[1].frames
    with_mask = [t for t, record in known.items() if record.newest is not None and record.newest.mask is not None]
    assert len(answers) == 200
    assert len(known) < 32 and len(with_mask) <= 10 and len(inference.image_embeddings) <= tracking.CACHED_FRAMES


# Cameras.


def test_camera_is_tracked_as_a_stream_of_python(page, models, clip):
    answer = page.ask("start_live", width=120, height=90)["result"]
    assert (answer["kind"], answer["numFrames"]) == ("live", 0)
    stream = models.processor.init_video_session(max_vision_features_cache_size=tracking.CACHED_FRAMES)
    python = Reference(models, list(clip))  # for its size
    python.session = stream
    for frame_idx, frame in enumerate(clip[:5]):
        jpeg = media.as_jpeg(frame)
        answer = page.ask("receive", jpeg)
        pixels = models.processor(images=Image.open(io.BytesIO(jpeg)), return_tensors="pt")["pixel_values"]
        output = models.video(stream, frame=pixels[0])
        assert answer["frameIdx"] == frame_idx and len(answer["objects"]) == len(stream.obj_ids)
        if stream.obj_ids:
            assert_same(answer, python.on(output), (90, 120))
        if frame_idx == 1:
            answer = page.ask("add_prompt", frameIdx=1, objectId=1, prompt=prompt([[30, 45]], [1]))
            models.processor.add_inputs_to_inference_session(
                stream, 1, 1, input_points=[[[[30, 45]]]], input_labels=[[[1]]], original_size=(90, 120)
            )
            assert_same(answer, python.on(models.video(stream, frame_idx=1)), (90, 120))


def test_camera_takes_prompts_of_the_next_frame(page, clip):
    page.ask("start_live", width=120, height=90)
    assert page.ask("add_prompt", frameIdx=0, objectId=1, prompt=prompt([[30, 45]], [1]))["objects"] == []
    assert [found["objectId"] for found in page.ask("receive", media.as_jpeg(clip[0]))["objects"]] == [1]


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [(b"no picture", "must be a JPEG"), (media.as_jpeg(np.zeros((9, 9, 3), np.uint8)), "got 9x9")],
)
def test_camera_rejects_other_frames(page, payload, sentence):
    page.ask("start_live", width=120, height=90)
    assert sentence in page.ask_in_vain("receive", payload)


# Calls.


class Steps:
    """A job of so many steps that notes when it takes them."""

    def __init__(self, name, num_steps, log):
        self.name, self.num_steps, self.log, self.is_ready = name, num_steps, log, True

    def step(self):
        self.log.append(self.name)
        self.num_steps -= 1
        return self.num_steps == 0


def test_worker_takes_steps_of_owners_in_turns_and_their_jobs_in_order():
    worker, log = Worker(), []
    for owner, name, num_steps in (("a", "a1", 3), ("a", "a2", 1), ("b", "b1", 2), ("c", "c1", 1)):
        worker.add(owner, Steps(name, num_steps, log))
    while worker.run_step():
        pass
    assert log == ["a1", "b1", "c1", "a1", "b1", "a1", "a2"]


def test_worker_passes_over_a_page_that_is_slow_to_take_answers():
    worker, log = Worker(), []
    slow, quick = Steps("slow", 2, log), Steps("quick", 2, log)
    worker.add("a", slow)
    worker.add("b", quick)
    slow.is_ready = False
    while worker.run_step():
        pass
    slow.is_ready = True
    while worker.run_step():
        pass
    assert log == ["quick", "quick", "slow", "slow"]


def test_worker_takes_back_only_what_has_not_begun():
    worker, log = Worker(), []
    jobs = [Steps("begun", 2, log), Steps("waiting", 1, log)]
    for job in jobs:
        worker.add("a", job)
    worker.run_step()
    assert [worker.take_back("a", job) for job in jobs] == [False, True]
    assert worker.jobs("a") == jobs[:1]


class Kept:
    """A channel that keeps what it is sent; it has room for so many messages."""

    def __init__(self, room=1000):
        self.messages, self.room = [], room

    @property
    def has_room(self):
        return len(self.messages) < self.room

    def send(self, message):
        self.messages.append(json.loads(message) if isinstance(message, str) else unpack(message)[0])


@pytest.fixture
def session(make_client, video):
    """A session with a video, whose calls a test computes step by step: `session.run()`."""
    sessions = make_client(is_running=False).sessions
    session = sessions.create()
    session.open(video, "clip.mp4")
    session.step = sessions.worker.run_step
    return session


def call_propagate(session, channel):
    click = {"frameIdx": 0, "objectId": 1, "prompt": prompt([[25, 45]], [1])}
    session.call(1, "add_prompt", (click, b""), channel)
    session.call(2, "propagate", ({"start": 0, "count": None, "isReverse": False}, b""), channel)
    session.call(3, "reset", ({}, b""), channel)


def test_cancel_ends_a_call_at_work_and_drops_one_that_waits(session):
    channel = Kept()
    call_propagate(session, channel)
    for _ in range(4):
        session.step()
    session.cancel(3)
    session.cancel(2)
    session.cancel(77)  # is not there
    while session.step():
        pass
    answers = [(message["id"], message.get("frameIdx"), "result" in message) for message in channel.messages]
    assert answers == [(1, 0, False), (2, 0, False), (2, 1, False), (2, 2, False), (3, None, True), (2, None, True)]
    assert session.work.session.obj_ids == [1]


def test_call_waits_until_its_page_has_taken_what_it_was_sent(session):
    channel = Kept(room=3)
    call_propagate(session, channel)
    while session.step():
        pass
    assert len(channel.messages) == 3
    channel.room = 1000
    while session.step():
        pass
    assert len(channel.messages) == 1 + 12 + 1 + 1


def test_calls_end_with_their_socket_and_the_session_stays(session):
    gone, back = Kept(), Kept()
    session.attach(gone)
    call_propagate(session, gone)
    for _ in range(3):
        session.step()
    session.detach(gone)
    while session.step():
        pass
    assert len(gone.messages) < 8 and session.work.session.obj_ids == [1]
    session.attach(back)
    session.call(4, "propagate", ({"start": 3, "count": 1, "isReverse": False}, b""), back)
    while session.step():
        pass
    assert [message.get("frameIdx") for message in back.messages] == [3, 4, None]


def test_opening_another_file_ends_the_calls_on_the_one_before(session, picture):
    channel = Kept()
    call_propagate(session, channel)
    for _ in range(3):
        session.step()
    session.open(picture, "square.png")
    while session.step():
        pass
    assert {message["id"] for message in channel.messages if "result" in message} == {2, 3}
    with pytest.raises(ValueError, match="'propagate' cannot be asked of a picture"):
        session.call(5, "propagate", ({}, b""), channel)


def test_fault_in_one_session_leaves_the_others(client, picture, caplog):
    pages = [Page(client) for _ in range(2)]
    for page in pages:
        page.open(picture)
    work, click = client.sessions.get(pages[0].session).work, {"prompt": prompt([[9, 9]], [1]), "isMultimask": False}
    work.answers["segment"] = lambda asked: {}["no such key"]
    assert pages[0].ask_in_vain("segment", **click) == FAULT and "no such key" in caplog.text
    assert len(pages[1].ask("segment", **click)["objects"]) == 1
    del work.answers["segment"]
    for page in pages:
        page.close()


def test_error_leaves_a_session_as_it_was(session, monkeypatch):
    channel, (inference, model) = Kept(), (session.work.session, session.work.model)

    def fail(*arguments, **settings):
        raise ValueError(f"frame 0 of {inference.frames.path} cannot be decoded")

    monkeypatch.setattr(session.work, "model", fail)
    session.call(1, "add_prompt", ({"frameIdx": 0, "objectId": 1, "prompt": prompt([[9, 9]], [1])}, b""), channel)
    session.step()
    assert channel.messages == [{"id": 1, "error": "frame 0 of clip.mp4 cannot be decoded"}]
    assert inference.obj_ids == [] and model is not fail


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"points": [[1, 2]], "labels": [2]}, "labels must have 1 (on the object) or 0"),
        ({"points": [[1, 2]], "labels": []}, "labels must have"),
        ({"points": [[1, 2, 3]], "labels": [1]}, "a point must be"),
        ({"points": [[1, "2"]], "labels": [1]}, "a point must be"),
        ({"points": [[1, 1e9]], "labels": [1]}, "a point must be"),
        ({"points": [[True, 2]], "labels": [1]}, "a point must be"),
        ({"points": 3}, "points must be a list"),
        ({"points": [[1, 2]] * 1001, "labels": [1] * 1001}, "a list of at most 1000"),
        ({"box": [1, 2, 3]}, "a box must be"),
        ({"box": [9, 2, 3, 4]}, "turned inside out"),
        ({}, "a prompt must have a point, a box or a mask"),
        (7, "prompt must be an object"),
        ({"mask": True}, "damaged: they do not add up"),
    ],
)
def test_prompt_rejects(page, picture, said, sentence):
    page.open(picture)
    assert sentence in page.ask_in_vain("segment", prompt=said, isMultimask=True)


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (b"abc", "numbers of 4 bytes"),
        (np.array([5, 6], "<u4").tobytes(), "do not add up"),
        (np.array([2**32 - 1, 10801], "<u4").tobytes(), "do not add up"),
        (np.zeros(10802, "<u4").tobytes(), "more run lengths than"),
    ],
)
def test_mask_rejects(page, picture, payload, sentence):
    page.open(picture)
    assert sentence in page.ask_in_vain("segment", payload, prompt=prompt(mask=True), isMultimask=True)


@pytest.mark.parametrize(
    ("method", "params", "sentence"),
    [
        ("add_prompt", {"frameIdx": 12, "objectId": 8, "prompt": prompt([[9, 9]], [1])}, "must be one of 0..11"),
        ("add_prompt", {"frameIdx": -1, "objectId": 1, "prompt": prompt([[9, 9]], [1])}, "frameIdx must be an integer"),
        ("add_prompt", {"frameIdx": 0, "objectId": "1", "prompt": prompt([[9, 9]], [1])}, "objectId must be"),
        ("add_prompt", {"frameIdx": 0, "objectId": 8, "prompt": prompt(box=[1, 1, 9, 9])}, "a box must come before"),
        ("add_prompt", {"frameIdx": 0, "objectId": 9, "prompt": prompt([[9, 9]], [1])}, "there are 1 objects already"),
        ("clear_prompts", {"frameIdx": 0, "objectId": 5}, "object 5 is unknown"),
        ("clear_prompts", {"frameIdx": 4, "objectId": 8}, "has no prompt on frame 4"),
        ("remove_object", {"objectId": 5}, "object 5 is unknown"),
        ("propagate", {"start": 99, "count": None, "isReverse": False}, "must be one of 0..11"),
        ("propagate", {"start": 0, "count": -1, "isReverse": False}, "count must be an integer"),
        ("propagate", {"start": 0, "count": 1}, "isReverse must be true or false"),
        ("segment", {}, "'segment' cannot be asked of a video"),
        ("__class__", {}, "cannot be asked of a video"),
        ("start_live", {"width": 10**6, "height": 1}, "width must be an integer in 1..4096"),
    ],
)
def test_calls_on_a_video_reject(page, video, monkeypatch, method, params, sentence):
    monkeypatch.setattr(tracking, "MOST_OBJECTS", 1)
    page.open(video)
    page.ask("add_prompt", frameIdx=0, objectId=8, prompt=prompt([[25, 45]], [1]))
    assert sentence in page.ask_in_vain(method, **params)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("{", "must have JSON"),
        ("[]", "must be an object"),
        ("{}", "id must be an integer"),
        ('{"id": 1}', "must have a method"),
        ('{"id": 1, "method": "segment", "params": [1]}', "must have a method and params"),
        ('{"id": 1, "method": "segment"}', "nothing is open"),
        (b"\1", "length of its header"),
        (struct.pack("<I", 400) + b"{}", "cannot have a header of 400"),
    ],
)
def test_socket_answers_messages_that_are_no_calls(page, message, sentence):
    page.socket.send_text(message) if isinstance(message, str) else page.socket.send_bytes(message)
    assert sentence in page.receive()["error"]
    assert "nothing is open" in page.ask_in_vain("reset")


# Files and limits.


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("clip.mp4", b"These are words.\n" * 99, "clip.mp4 is neither a picture nor a video"),
        ("a.jpg", b"These are words.\n" * 99, "a.jpg cannot be read: it is damaged, or no picture"),
        ("a.png", b"", "a.png cannot be read"),
        ("", b"", "unnamed is neither"),
        ("list.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{video}\n#EXT-X-ENDLIST\n", "neither a picture"),
        ("list.mp4", b"ffconcat version 1.0\nfile {video}\n", "neither a picture"),
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "neither a picture"),
    ],
)
def test_upload_rejects_what_is_no_media(page, tmp_path, video, name, content, sentence):
    path = tmp_path / "sent"
    path.write_bytes(content.replace(b"{video}", os.fsencode(video)))
    answer = page.client.put(f"/sessions/{page.session}/media", params={"name": name}, content=path.read_bytes())
    assert answer.status_code == 400 and sentence in answer.json()["error"]
    assert str(page.client.folder) not in answer.json()["error"]
    assert [file for file in page.client.folder.rglob("*") if file.is_file()] == []


def test_upload_rejects_damaged_files_and_keeps_what_was_open(page, picture, video, tmp_path):
    page.open(picture)
    (tmp_path / "cut.png").write_bytes(picture.read_bytes()[:200])
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:200])
    answers = [page.open(tmp_path / name) for name in ("cut.png", "cut.mp4")]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert "cut.png cannot be decoded, its file is truncated" in answers[0].json()["error"]
    assert "cut.mp4 is neither a picture nor a video that can be opened, or it is damaged" in answers[1].json()["error"]
    assert len(page.ask("segment", prompt=prompt([[9, 9]], [1]), isMultimask=False)["objects"]) == 1


def test_upload_rejects_pictures_that_are_too_large(page, tmp_path, monkeypatch):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "large.png")
    Image.new("1", (70_000, 2)).save(tmp_path / "wide.png")
    for name in ("large.png", "wide.png"):
        answer = page.open(tmp_path / name)
        assert answer.status_code == 400 and f"{name} is too large: make it smaller" in answer.json()["error"]
    Image.new("1", (20_000, 40)).save(tmp_path / "long.png")
    assert page.open(tmp_path / "long.png").json()["width"] == 20_000
    assert page.ask("segment", prompt=prompt([[9, 9]], [1]), isMultimask=False)["isResult"]


@pytest.mark.parametrize("is_announced", [True, False])
def test_upload_rejects_more_bytes_than_the_limit(make_client, is_announced):
    client = make_client(limits=Limits(upload=1000))
    session = client.post("/sessions").json()["session"]
    content = b"x" * 1500
    sent = content if is_announced else iter([content[:700], content[700:]])
    answer = client.put(f"/sessions/{session}/media?name=a.mp4", content=sent)
    assert answer.status_code == 413 and "--max-upload" in answer.json()["error"]
    assert client.put(f"/sessions/{session}/media?name=a.mp4", content=b"x" * 2500).status_code == 413
    assert [file for file in client.folder.rglob("*") if file.is_file()] == []


def test_upload_rejects_more_frames_than_the_limit(make_client, video):
    page = Page(make_client(limits=Limits(frames=11)))
    assert "clip.mp4 has 12 frames, more than the 11" in page.open(video).json()["error"]
    page.close()


def test_upload_is_kept_only_while_it_is_open(page, picture, video):
    page.open(picture)
    page.open(video)
    files = [file for file in page.client.folder.rglob("*") if file.is_file()]
    assert [file.suffix for file in files] == [".mp4"] and "clip" not in files[0].name
    page.client.post(f"/sessions/{page.session}/close")
    assert list(page.client.folder.iterdir()) == []
    assert page.client.get(f"/sessions/{page.session}/frames/0.jpg").status_code == 404


def test_file_of_the_command_line_is_opened(make_client, video, client):
    page = Page(make_client(file=video))
    assert page.client.get("/settings.json").json()["media"] == "clip.mp4"
    assert page.client.post(f"/sessions/{page.session}/media").json()["numFrames"] == 12
    page.close()
    other = client.post("/sessions").json()["session"]
    answer = client.post(f"/sessions/{other}/media")
    assert answer.status_code == 404 and "started without a file" in answer.json()["error"]
    assert video.exists()


def test_sessions_are_limited_and_idle_ones_are_freed(make_client):
    clock = Clock()
    client = make_client(limits=Limits(sessions=2), clock=clock)
    connected, lost = Page(client), client.post("/sessions").json()["session"]
    refused = client.post("/sessions")
    assert refused.status_code == 503 and "all 2 places of this server are taken" in refused.json()["error"]

    clock.seconds += CROWDED_SECONDS + 1  # whoever is connected stays
    assert client.post("/sessions").status_code == 200
    assert client.sessions.get(lost) is None and client.post("/sessions").status_code == 503
    clock.seconds += LOST_SECONDS + 1
    client.sessions.free_idle()
    assert len(client.sessions) == 1
    clock.seconds += IDLE_SECONDS
    client.sessions.free_idle()
    assert len(client.sessions) == 0 and list(client.folder.iterdir()) == []
    connected.close()
    with pytest.raises(WebSocketDisconnect):
        Page(client, connected.session)


# Films.


def film_of(colours, frames):
    """The body that asks for a film: colours by object, and answers of the socket."""
    header = json.dumps({"objects": [{"objectId": key, "colour": value} for key, value in colours.items()]}).encode()
    parts = [header]
    for frame in frames:
        objects = [{key: value for key, value in found.items() if key != "runs"} for found in frame["objects"]]
        runs = b"".join(found["runs"].astype("<u4").tobytes() for found in frame["objects"])
        parts.append(pack({"frameIdx": frame["frameIdx"], "objects": objects}, runs))
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def frame_with_square(frame_idx):
    mask = np.zeros((90, 120), bool)
    mask[10:60, 20:90] = True
    runs = runs_of(mask)
    return {"frameIdx": frame_idx, "objects": [{"objectId": 4, "runs": runs, "numRuns": len(runs)}]}


def test_film_has_the_frames_the_masks_and_the_sound(page, video, tmp_path):
    page.open(video)
    body = film_of({4: [0, 0, 255]}, [frame_with_square(2), frame_with_square(9)])
    answer = page.client.post(f"/sessions/{page.session}/overlay", content=body)
    assert answer.status_code == 200 and answer.headers["content-type"] == "video/mp4"
    (tmp_path / "film.mp4").write_bytes(answer.content)
    assert read_times(tmp_path / "film.mp4") == pytest.approx(np.arange(8) / 10, abs=0.002)
    start, end, _ = read_beep(tmp_path / "film.mp4")
    assert (start, end) == (pytest.approx(0.1, abs=0.05), pytest.approx(0.6, abs=0.05))
    with av.open(str(tmp_path / "film.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    blueness = [frame[15:25, 40:80, 2].mean() - frame[15:25, 40:80, 0].mean() for frame in frames]
    assert min(blueness[0], blueness[-1]) > 50 > max(blueness[1:-1])
    assert [file.name for file in page.client.folder.rglob("*.mp4")] == [
        file.name for file in page.client.folder.rglob("*.*")
    ]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "must have JSON"),
        (b"\1\2", "cut off or damaged"),
        (film_of({4: [0, 0, 256]}, [frame_with_square(0)]), "a colour must be"),
        (film_of({4: [0, 0, 255]}, []), "no frame with masks"),
        (film_of({5: [0, 0, 255]}, [frame_with_square(0)]), "an objectId with a colour"),
        (film_of({4: [0, 0, 255]}, [frame_with_square(3), frame_with_square(3)]), "frames must ascend"),
        (film_of({4: [0, 0, 255]}, [frame_with_square(12)]), "within 0..11"),
        (film_of({4: [0, 0, 255]}, [frame_with_square(0)])[:-4], "cut off or damaged"),
    ],
)
def test_film_rejects(page, video, body, sentence):
    page.open(video)
    answer = page.client.post(f"/sessions/{page.session}/overlay", content=body)
    assert answer.status_code == 400 and sentence in answer.json()["error"]
    assert len([file for file in page.client.folder.rglob("*") if file.is_file()]) == 1


def test_film_rejects_a_picture(page, picture):
    page.open(picture)
    assert "of a video only" in page.client.post(f"/sessions/{page.session}/overlay").json()["error"]


# Access.


def test_page_is_given_out_isolated(client):
    answer = client.get("/")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    script = client.get("/edgetam.js")
    assert (
        script.headers["content-type"].startswith("text/javascript") and script.headers["cache-control"] == "no-cache"
    )
    again = client.get("/edgetam.js", headers={"If-None-Match": script.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    settings = client.get("/settings.json")
    assert settings.headers["cache-control"] == "no-store" and settings.json()["engine"] == "server"
    missing = client.get("/nothing.js")
    assert missing.status_code == 404 and {name: missing.headers[name] for name in HEADERS} == HEADERS


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml", "/..%2f..%2fpyproject.toml", "/page/../../demo/app.py", "/%2e%2e/demo/app.py",
        "//etc/passwd", "/page/%2e%2e/%2e%2e/commands/demo.py", "/README.md", "/page", "/.hidden.js",
    ],
)  # fmt: skip
def test_no_other_file_is_given_out(client, path):
    assert client.get(path).status_code == 404


def test_files_outside_of_a_folder_are_left_out(tmp_path):
    (tmp_path / "secret.js").write_text("1")
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "link.js").symlink_to(tmp_path / "secret.js")
    for name in (".hidden.js", "deep/a.js", "b.md"):
        (tmp_path / "folder" / name).write_text("1")
    assert files_in(tmp_path / "folder", "/x/", (".js",)).keys() == {"/x/deep/a.js"}
    with pytest.raises(ValueError, match="there are no files in"):
        files_in(tmp_path / "nothing", "/x/")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost"}, 200),
        ({"Host": "127.0.0.1:99"}, 200),
        ({"Host": "[::1]:8770"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example:8770"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "[::1"}, 403),
        ({"Origin": f"http://{HOST}"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:99"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_server_of_this_machine_rejects_other_names_and_origins(client, headers, status):
    answer = client.post("/sessions", headers=headers)
    assert answer.status_code == status and ("error" in answer.json()) == (status == 403)


def test_socket_rejects_other_origins(client):
    session = client.post("/sessions").json()["session"]
    address = f"ws://{HOST}/sessions/{session}/socket"
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect(address, headers={"Origin": "http://evil.example"}),
    ):
        pass
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("ws://evil.example/sessions/1/socket"):
        pass
    with client.websocket_connect(address, headers={"Origin": f"http://{HOST}"}):
        pass


def test_server_for_others_asks_for_the_token(make_client):
    access = Access.of("0.0.0.0", 8770)
    client = make_client(access=access)
    assert client.get("/").status_code == 403 and client.post("/sessions").status_code == 403
    assert (
        client.get("/?token=wrong").status_code == 403
        and client.get(f"/page.css?token={access.token}").status_code == 403
    )
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(f"ws://{HOST}/sessions/1/socket"):
        pass
    first = client.get(f"/?token={access.token}", follow_redirects=False)
    assert (first.status_code, first.headers["location"]) == (303, "/")
    assert "HttpOnly; SameSite=Strict" in first.headers["set-cookie"]
    assert client.get("/").status_code == 200  # with the cookie
    page = Page(client)
    assert "nothing is open" in page.ask_in_vain("reset")
    page.close()
    assert client.post("/sessions", headers={"Origin": "http://evil.example"}).status_code == 403


def test_access_is_free_on_loopback_only():
    assert [is_loopback(host) for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.0.7", "example.org", "")] == [False] * 5
    tokens = {Access.of("0.0.0.0", 1).token for _ in range(3)}
    assert len(tokens) == 3 and min(map(len, tokens)) >= 32 and Access.of("127.0.0.1", 1).token is None


# The command.


def test_browser_engine_gives_out_the_exported_folder(tmp_path):
    exported, ort = tmp_path / "exported", tmp_path / "ort"
    for path, text in (
        (exported / "config.json", '{"edgetam_export": {}}'),
        (exported / "onnx" / "vision_encoder.onnx", "graph"),
        (ort / "ort.min.mjs", "export default 1;"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    options = parse(["demo", "--engine", "browser", "--model", str(exported), "--ort", str(ort)])
    settings = command.browser_settings(options)
    assert settings == {"engine": "browser", "model": "model", "ort": "ort", "dtype": "fp32"}
    files = page_files() | files_in(exported, "/model/") | files_in(ort, "/ort/")
    client = TestClient(make_app(files, lambda: settings, Access(None), None), base_url=f"http://{HOST}")
    assert client.get("/settings.json").json() == settings
    assert client.get("/model/config.json").json() == {"edgetam_export": {}}
    assert client.get("/model/onnx/vision_encoder.onnx").text == "graph"
    assert client.get("/ort/ort.min.mjs").headers["content-type"].startswith("text/javascript")
    assert client.post("/sessions").status_code in (404, 405)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing.mp4"], "there is no missing.mp4 to open"),
        (["--model", "no/such/folder"], "no/such/folder cannot be loaded"),
        (["--engine", "browser"], "--engine browser needs a folder that `edgetam export` has written"),
        (["--host", "no such host"], "--host no such host is no address"),
    ],
)
def test_demo_rejects(capsys, arguments, sentence):
    assert main(["demo", "--no-browser", "--port", "0", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and sentence in err and len(err.splitlines()) == 1


def test_demo_rejects_a_port_that_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["demo", "--no-browser", "--port", str(port)]) == 1
    assert f"--port {port} is not free on 127.0.0.1" in capsys.readouterr().err


def test_demo_takes_the_next_port_that_is_free(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(command, "FIRST_PORT", taken.getsockname()[1])
        with command.listen("127.0.0.1", None) as listening:
            assert listening.getsockname()[1] > taken.getsockname()[1]


def test_demo_names_an_address_that_can_be_opened():
    assert command.address_of("127.0.0.1", 5) == "http://127.0.0.1:5/"
    assert command.address_of("::1", 5) == "http://[::1]:5/"
    assert command.address_of("0.0.0.0", 5) == f"http://{socket.gethostname()}:5/"


def test_demo_names_the_package_that_is_missing(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "edgetam_hf.demo.server", raising=False)
    monkeypatch.delattr(demo, "server", raising=False)
    assert main(["demo", "--no-browser", "--port", "0"]) == 1
    assert 'pip install "edgetam-hf[demo]"' in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_answers_until_a_signal_and_leaves_nothing(number, picture, video_folder, tmp_path):
    arguments = ["demo", str(picture), "--no-browser", "--port", "0", "--model", str(video_folder)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "edgetam_hf", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    line = process.stdout.readline()
    address = line.split()[4]
    with urllib.request.urlopen(f"{address}settings.json") as answer:
        assert json.load(answer)["media"] == "square.png"
    with urllib.request.urlopen(urllib.request.Request(f"{address}sessions", method="POST")) as answer:
        assert json.load(answer)["session"]
    assert [path.name[:13] for path in tmp_path.iterdir()] == ["edgetam_demo_"]
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
