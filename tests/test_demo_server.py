"""The server of `edgetam demo`: files and films, limits, who may come in, and the command."""

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
from PIL import Image
from small_videos import av, read_beep, read_times

pytest.importorskip("starlette", reason='the server needs Starlette: pip install "edgetam-hf[demo]"')
pytest.importorskip("httpx2", reason="the test client of Starlette needs httpx2: pip install httpx2")

from demo_pages import HOST, Clock, Page, prompt, runs_of
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from edgetam_cli import main, parse
from edgetam_hf import demo
from edgetam_hf.commands import demo as command
from edgetam_hf.demo.access import HEADERS, Access, is_loopback
from edgetam_hf.demo.app import make_app
from edgetam_hf.demo.files import files_in, page_files
from edgetam_hf.demo.messages import pack
from edgetam_hf.demo.models import Models
from edgetam_hf.demo.sessions import CROWDED_SECONDS, IDLE_SECONDS, LOST_SECONDS, Limits, Sessions
from edgetam_hf.demo.worker import Worker
from edgetam_hf.loading import ModelChoice

pytest_plugins = ["demo_pages"]


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


def test_checkpoint_for_pictures_opens_no_video(folder, picture, video, tmp_path):
    sessions = Sessions(Models.load(ModelChoice(str(folder))), Worker(), Limits(), tmp_path)
    session = sessions.create()
    assert session.open(picture, "square.png")["kind"] == "picture"
    with pytest.raises(ValueError, match="it has no memory for video"):
        session.open(video, "clip.mp4")
    with pytest.raises(ValueError, match="it has no memory for video"):
        session.start_live({"width": 9, "height": 9})
    assert session.work.info.kind == "picture"


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
        (film_of({5: [0, 0, 255]}, [frame_with_square(0)]), "object 4 on frame 0 of the film has no colour"),
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
        ({"Host": "127.0.0.2:8770"}, 200),
        ({"Host": "192.168.0.7:8770"}, 403),
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
