"""Pages of `edgetam demo` without a browser: servers with a small model, their sessions and sockets.

The fixtures are there in test files that say `pytest_plugins = ["demo_pages"]`. Those import this file before pytest
does, which would warn but for the word PYTEST_DONT_REWRITE.
"""

import json

import numpy as np
import pytest
from PIL import Image
from small_models import make_clip
from small_videos import beep, write_video
from starlette.testclient import TestClient

from edgetam_hf.demo.access import Access
from edgetam_hf.demo.app import make_app
from edgetam_hf.demo.files import page_files
from edgetam_hf.demo.messages import pack, unpack
from edgetam_hf.demo.models import Models
from edgetam_hf.demo.sessions import Limits, Sessions
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


class Kept:
    """A channel that keeps what it is sent; it has room for so many messages."""

    def __init__(self, room=1000):
        self.messages, self.sent, self.room = [], [], room

    @property
    def has_room(self):
        return len(self.messages) < self.room

    def send(self, message):
        self.sent.append(message)
        self.messages.append(json.loads(message) if isinstance(message, str) else unpack(message)[0])


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
