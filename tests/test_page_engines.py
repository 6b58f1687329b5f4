"""Both engines of the page find in Chromium what Python finds, frame by frame and pixel by pixel."""

import base64
import io
import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import av
import browser
import javascript
import numpy as np
import pytest
import small_videos
import torch
from javascript import FoundMask, intersection_over_union
from PIL import Image
from transformers import pipeline

from edgetam_hf import EdgeTamModel, EdgeTamVideoProcessor, nano_checkpoint
from edgetam_hf.commands.prompts import ObjectPrompt
from edgetam_hf.commands.segment import Segmenter
from edgetam_hf.demo import messages
from edgetam_hf.export import parity

COIN, BESIDE, BOX = [211, 192], [255, 192], [246, 93, 296, 143]
NUM_FRAMES, SIDE = 12, 2 * parity.VIEW
FIRST, MIDDLE = 0, 6
NOTE_SOCKETS = """
    globalThis.sockets = [];
    globalThis.WebSocket = class extends WebSocket {
      constructor(...given) {
        super(...given);
        sockets.push(this);
      }
    };
"""


class EnginePage:
    """An engine in a page of Chromium, without any other part of the page."""

    def __init__(self, page, settings, root):
        self.page = page
        script = 'async ([settings, root]) => (await import("/tests/engines.js")).start(settings, root)'
        self.description = page.evaluate(script, [settings, root])

    def run(self, *steps):
        """What each step gives; a step that fails gives its sentence as {"error": …}."""
        outputs = self.page.evaluate('async (steps) => (await import("/tests/engines.js")).run(steps)', list(steps))
        return [output.get("found") if "error" not in output else output for output in outputs]

    def open(self, path, kind=""):
        """The `Media` of a file."""
        return self.run(["open", base64.b64encode(Path(path).read_bytes()).decode(), Path(path).name, kind])[0]

    def frame(self, frame_idx):
        """A frame, uint8 (height, width, 3)."""
        found = self.run(["frame", frame_idx])[0]
        pixels = np.frombuffer(base64.b64decode(found["rgba"]), np.uint8)
        return pixels.reshape(found["height"], found["width"], 4)[..., :3]


@pytest.fixture(scope="module")
def of_browser(nano_folder):
    """The engine that computes in the browser."""
    with browser.open_page(*browser.WITHOUT_GPU) as page:
        settings = {"engine": "browser", "model": f"/files{nano_folder}", "ort": "/ort", "device": "wasm"}
        yield EnginePage(page, settings, "/web/")


@contextmanager
def serving(*options):
    """The process of a server, and its address."""
    pytest.importorskip("uvicorn", reason="the server needs edgetam-hf[demo]")
    command = [sys.executable, "-m", "edgetam_hf", "demo", "--no-browser", *(options or ("--port", "0"))]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as process:
        line = next(line for line in process.stdout if "http://" in line)
        yield process, re.search(r"http://[^\s/]+", line)[0]
        process.terminate()


@pytest.fixture(scope="module")
def of_server():
    """The engine that asks the server."""
    with serving() as (_, address), browser.open_page(*browser.WITHOUT_GPU) as page:
        yield open_at(page, address)


def open_at(page, address):
    """The engine of a server, in a page that has nothing else of it."""
    page.add_init_script(NOTE_SOCKETS)
    page.route("**/tests/*.js", lambda route: route.fulfill(path=javascript.WEB / Path(route.request.url).name))
    page.goto(f"{address}/settings.json")
    settings = page.evaluate('async () => (await fetch("/settings.json")).json()')
    return EnginePage(page, settings, "/")


@pytest.fixture(params=["browser", "server"])
def engine(request):
    """Each of the engines."""
    return request.getfixturevalue(f"of_{request.param}")


@pytest.fixture(scope="session")
def picture_file(tmp_path_factory):
    """The sample picture of coins, without what JPEG decoders may differ in."""
    path = tmp_path_factory.mktemp("pictures") / "coins.png"
    with Image.open(parity.SAMPLES / "coins.jpg") as picture:
        picture.convert("RGB").save(path)
    return path


@pytest.fixture(scope="session")
def video_file(tmp_path_factory):
    """A clip of a view that swings over coins, so large that a pixel is less than a thousandth of each."""
    path = tmp_path_factory.mktemp("clips") / "coins.mp4"
    frames = [np.array(frame.resize((SIDE, SIDE))) for frame in parity.draw_clip(NUM_FRAMES)]
    small_videos.write_video(path, np.stack(frames))
    return path


def place_of(coin, frame_idx):
    """(x, y) of the centre of a coin on a frame of the clip."""
    return [2 * value for value in parity.place_of(coin, frame_idx)]


def box_of(coin, frame_idx):
    return [2 * value for value in parity.box_of(coin, frame_idx)]


@pytest.fixture(scope="session")
def picture_model():
    return EdgeTamModel.from_pretrained(nano_checkpoint(), dtype=torch.float32).eval().requires_grad_(False)


def pixels_of(runs, size):
    """Mask bool (height, width) of run lengths; size is (width, height)."""
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(size).T


def masks_of(objects, size):
    """`FoundMask`s by object id; of presence the sign."""
    return {
        one["objectId"]: FoundMask(pixels_of(one["runs"], size), one["iouScore"], one["isPresent"]) for one in objects
    }


def assert_same(found, wanted, where, least=0.999):
    """Masks by object id that agree."""
    assert found.keys() == wanted.keys(), where
    for object_id, mask in wanted.items():
        iou = intersection_over_union(found[object_id].mask, mask.mask)
        assert iou >= least, f"{where}, object {object_id}: IoU {iou}"
        assert abs(found[object_id].iou_score - mask.iou_score) < 1e-2, where
        assert found[object_id].object_score_logit == (mask.object_score_logit > 0), where


def is_browser(engine):
    """Whether an engine decodes frames in the browser."""
    return "browser" in engine.description


def decoded(path):
    """The frames of a video file, uint8 (height, width, 3)."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def runs_of(mask):
    """Run lengths of a mask (height, width), as the page has them."""
    pixels = np.concatenate([[False], mask.T.ravel()])
    ends = np.flatnonzero(np.diff(pixels.astype(np.int8)))
    return np.diff([0, *ends.tolist(), mask.size]).tolist()


class PythonTracking:
    """An inference session that takes the calls of an engine, on the same frames."""

    def __init__(self, model, processor, frames):
        self.model, self.processor, self.size = model, processor, frames.shape[1:3]
        self.session = processor.init_video_session(frames)

    def add(self, frame_idx, object_id, **prompts):
        names = {"points": "input_points", "labels": "input_labels", "box": "input_boxes", "mask": "input_masks"}
        given = {names[name]: [[value]] if name != "mask" else [value] for name, value in prompts.items()}
        self.processor.add_inputs_to_inference_session(
            self.session, frame_idx, object_id, original_size=self.size, clear_old_inputs=False, **given
        )
        return self._found(self.model(self.session, frame_idx=frame_idx))

    def clear(self, frame_idx, object_id):
        self.session.clear_prompts(frame_idx, object_id)
        direction = self.session.objects[object_id].direction_at(frame_idx)
        return self._found(self.model(self.session, frame_idx=frame_idx, reverse=direction))

    def propagate(self, start, count=None, reverse=False):
        outputs = self.model.propagate_in_video_iterator(self.session, start, count, reverse)
        return [(output.frame_idx, self._found(output)) for output in outputs]

    def _found(self, output):
        masks = self.processor.post_process_masks([output.pred_masks], [self.size])[0][:, 0].numpy()
        scores = zip(output.iou_scores.tolist(), output.object_score_logits.tolist())
        found = {i: FoundMask(mask, *score) for i, mask, score in zip(output.object_ids, masks, scores)}
        return {i: mask for i, mask in found.items() if self.session.objects[i].result_at(output.frame_idx) is not None}


def test_engine_finds_in_pictures_what_python_finds(engine, picture_file, picture_model):
    media = engine.open(picture_file, "image/png")
    size = (media["width"], media["height"])
    assert {**media, "frameRate": 0} == {
        **{"kind": "picture", "name": "coins.png", "width": 384, "height": 303, "numFrames": 1},
        **{"frameRate": 0, "hasSound": False},
    }
    with Image.open(picture_file) as picture:
        pixels = np.array(picture)
    np.testing.assert_allclose(engine.frame(0).astype(int), pixels, atol=0 if is_browser(engine) else 40)  # of a JPEG
    mask = np.hypot(*np.mgrid[-192:111, -211:173]) < 20
    given = [
        {"points": [COIN]},
        {"points": [COIN, BESIDE], "labels": [1, 0]},
        {"box": BOX},
        {"box": BOX, "points": [[270, 100]]},
        {"mask": runs_of(mask)},
        {"mask": runs_of(mask), "points": [COIN]},
    ]
    processor = EdgeTamVideoProcessor.from_pretrained(nano_checkpoint())
    for prompts in given:
        points = [(*point, label) for point, label in zip(prompts.get("points", []), prompts.get("labels", [1, 0]))]
        asked = ObjectPrompt(0, 1, points, prompts.get("box"), GivenMask(mask) if "mask" in prompts else None)
        [single], candidates = engine.run(["segment", prompts, False], ["segment", prompts, True])
        assert len(candidates) == 3
        assert [one["iouScore"] for one in candidates] == sorted((one["iouScore"] for one in candidates), reverse=True)
        for is_multimask, one in ((False, single), (True, candidates[0])):
            [wanted] = Segmenter(picture_model, processor, [asked], is_multimask).find(pixels)
            expected = {0: FoundMask(wanted.mask.full(), wanted.score, wanted.facts["present"] - 0.5)}
            assert_same(masks_of([one], size), expected, str(prompts))


class GivenMask:
    """A mask in place of one in a file."""

    def __init__(self, mask):
        self.mask = mask

    def pixels(self):
        return self.mask


def test_engine_finds_everything_that_python_finds(engine, picture_file):
    engine.open(picture_file, "image/png")
    found, stopped = engine.run(["everything", 6], ["everything", 6, 20])
    outputs = pipeline("mask-generation", model=str(nano_checkpoint()))(str(picture_file), points_per_crop=6)
    assert found["progress"] == [5 * 36, 5 * 36]  # the picture and four crops
    masks = masks_of(found["objects"], (384, 303))
    assert list(masks) == list(range(1, len(outputs["masks"]) + 1))
    for number, (mask, score) in enumerate(zip(outputs["masks"], outputs["scores"].tolist()), start=1):
        assert_same({number: masks[number]}, {number: FoundMask(mask.numpy(), score, 1)}, "everything")
    assert 20 <= stopped["progress"][0] < 5 * 36
    assert stopped["objects"]


def test_engine_follows_what_python_follows(engine, video_file, nano):
    media = engine.open(video_file, "video/mp4")
    size = (media["width"], media["height"])
    assert (media["kind"], size, media["numFrames"], media["hasSound"]) == ("video", (SIDE, SIDE), NUM_FRAMES, False)
    assert media["frameRate"] == pytest.approx(10)
    frames = np.stack([engine.frame(i) for i in range(NUM_FRAMES)] if is_browser(engine) else decoded(video_file))
    python = PythonTracking(*nano, frames)
    steps, wanted = [], []

    def add(frame_idx, object_id, **prompts):
        steps.append(
            ["add", frame_idx, object_id, {**prompts, **({"mask": runs_of(disc)} if "mask" in prompts else {})}]
        )
        wanted.append([(frame_idx, python.add(frame_idx, object_id, **prompts))])

    def propagate(start, count=None, reverse=False):
        steps.append(["propagate", {"start": start, "count": count, "isReverse": reverse}])
        wanted.append(python.propagate(start, count, reverse))

    def clear(frame_idx, object_id):
        steps.append(["clear", frame_idx, object_id])
        wanted.append([(frame_idx, python.clear(frame_idx, object_id))])

    disc = parity.disc_of(parity.COMING, MIDDLE).repeat(2, 0).repeat(2, 1)
    x, y = place_of(parity.STAYING, FIRST)
    add(FIRST, 1, points=[[x, y]], labels=[1])
    add(FIRST, 1, points=[[x + 88, y]], labels=[0])
    add(FIRST, 2, box=box_of(parity.LEAVING, FIRST))
    propagate(FIRST, 4)
    add(MIDDLE, 3, mask=disc)
    propagate(FIRST)
    x, y = place_of(parity.STAYING, MIDDLE)
    add(MIDDLE, 1, points=[[x, y], [x + 88, y]], labels=[1, 0])
    propagate(MIDDLE, 3, True)
    clear(MIDDLE, 1)
    add(MIDDLE, 1, points=[[x, y]], labels=[1])
    propagate(MIDDLE)
    outputs = engine.run(*steps)
    for step, output, expected in zip(steps, outputs, wanted, strict=True):
        assert "error" not in output, (step, output)
        found = output if isinstance(output, list) else [output]
        assert [one["frameIdx"] for one in found] == [frame_idx for frame_idx, _ in expected]
        for one, (frame_idx, masks) in zip(found, expected):
            assert_same(masks_of(one["objects"], size), masks, f"{step}, frame {frame_idx}")


def test_engine_stops_removes_and_begins_anew(engine, video_file):
    engine.open(video_file, "video/mp4")
    x, y = place_of(parity.STAYING, FIRST)
    nothing, _, _, stopped, _, _, gone, wrong, _, again, none = engine.run(
        ["propagate", {"start": 0}],
        ["add", 0, 1, {"points": [[x, y]]}],
        ["add", 0, 7, {"box": box_of(parity.LEAVING, FIRST)}],
        ["propagate", {"start": 0}, 3],
        ["remove", 7],
        ["remove", 99],
        ["propagate", {"start": 1, "count": 1}],
        ["clear", 5, 1],
        ["reset"],
        ["add", 2, 1, {"points": [[x, y]]}],
        ["clear", 2, 1],
    )
    assert "error" in nothing
    assert [one["frameIdx"] for one in stopped[:3]] == [0, 1, 2]
    assert len(stopped) < NUM_FRAMES
    assert [[one["objectId"] for one in frame["objects"]] for frame in gone] == [[1], [1]]
    assert "error" in wrong
    assert [one["objectId"] for one in again["objects"]] == [1]
    assert none == {"frameIdx": 2, "objects": []}


def test_engine_follows_a_camera(engine, nano):
    frames = np.stack([np.array(frame) for frame in parity.draw_clip(5)])
    x, y = parity.place_of(parity.STAYING, 1)

    def receive(idx):
        rgba = np.concatenate([frames[idx], np.full((240, 240, 1), 255, np.uint8)], -1)
        return ["receive", base64.b64encode(rgba.tobytes()).decode(), 240]

    media, empty, _, answer, *rest = engine.run(
        ["live", 240, 240], receive(0), receive(1), ["add", 1, 1, {"points": [[x, y]]}], *map(receive, (2, 3, 4))
    )
    assert (media["kind"], media["width"], media["height"]) == ("live", 240, 240)
    assert empty == {"frameIdx": 0, "objects": []}
    python = javascript.PythonSession(*nano, frames, {"isStream": True})
    steps = [["receive", 0], ["receive", 1], ["add", 1, 1, {"points": [[[x, y]]]}], ["segment", 1]]
    with torch.no_grad():
        outputs = python.run([*steps, *(["receive", idx] for idx in (2, 3, 4))])[2:]
    for found, wanted in zip([answer, *rest], outputs, strict=True):
        assert found["frameIdx"] == wanted["frameIdx"]
        # a server gets frames as JPEG
        least = 0.999 if is_browser(engine) else 0.95
        for object_id, mask in wanted["masks"]:
            iou = intersection_over_union(masks_of(found["objects"], (240, 240))[object_id].mask, mask.mask)
            assert iou >= least, found["frameIdx"]


def test_engine_makes_a_film_with_masks_and_sound(engine, tmp_path):
    frames = np.full((20, 64, 96, 3), 200, np.uint8)
    small_videos.write_video(tmp_path / "grey.mp4", frames, sound=("aac", small_videos.beep(0.5, 1, 2)))
    assert engine.open(tmp_path / "grey.mp4", "video/mp4")["hasSound"]
    mask = np.zeros((64, 96), bool)
    mask[16:48, 24:72] = True
    one = {"objectId": 3, "runs": runs_of(mask), "iouScore": 1, "isPresent": True}
    engine.page.mouse.click(5, 5)  # browsers play sound after a click only
    found = [{"frameIdx": frame_idx, "objects": [one]} for frame_idx in range(2, 18)]
    [film] = engine.run(["overlay", [[3, [255, 0, 0]]], found])
    assert film.get("type") in ("video/mp4", "video/webm"), film
    data = base64.b64decode(film["film"])
    with av.open(io.BytesIO(data)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert pictures
    assert pictures[-1].shape == (64, 96, 3)
    red, green, _ = pictures[-1][32, 48].astype(int)
    assert red > green + 40
    assert np.ptp(pictures[-1][5, 5].astype(int)) < 12
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.audio
    [short] = engine.run(["overlay", [[3, [255, 0, 0]]], found[:2]])  # too short for a recorder that is not waited for
    with av.open(io.BytesIO(base64.b64decode(short["film"]))) as container:
        assert list(container.decode(video=0))


@pytest.mark.parametrize(
    ("name", "content"),
    [("notes.mp4", b"no film " * 99), ("picture.png", b"\x89PNG\r\n\x1a\n broken"), ("empty.mp4", b"")],
)
def test_engine_rejects_broken_files_and_keeps_what_was_open(engine, name, content, picture_file, tmp_path):
    engine.open(picture_file, "image/png")
    (tmp_path / name).write_bytes(content)
    refused = engine.open(tmp_path / name, "image/png" if name.endswith("png") else "video/mp4")
    assert len(refused["error"]) > 20
    [found] = engine.run(["segment", {"points": [COIN]}, False])
    assert len(found) == 1


def test_server_engine_says_that_the_server_was_started_again(picture_file):
    with serving() as (server, address), browser.open_page(*browser.WITHOUT_GPU) as page:
        engine = open_at(page, address)
        engine.open(picture_file)
        server.terminate()
        server.wait()
        port = address.rpartition(":")[2]
        with serving("--port", port):
            lost, again = engine.run(["segment", {"points": [COIN]}, False], ["segment", {"points": [COIN]}, False])
            assert "lost" in lost["error"] or "started again" in lost["error"]
            assert "started again" in again["error"]
            assert engine.open(picture_file)["name"] == "coins.png"
            assert len(engine.run(["segment", {"points": [COIN]}, False])[0]) == 1
        [gone] = engine.run(["segment", {"points": [COIN]}, False])
        assert "cannot be reached" in gone["error"] or "lost" in gone["error"]


def test_server_engine_connects_again(of_server, video_file):
    of_server.open(video_file)
    x, y = place_of(parity.STAYING, FIRST)
    of_server.run(["add", 0, 1, {"points": [[x, y]]}])
    of_server.page.evaluate("async () => { (await sockets.at(-1)).close(); }")
    of_server.page.wait_for_function("sockets.at(-1).readyState === WebSocket.CLOSED")
    [found] = of_server.run(["propagate", {"start": 0, "count": 1}])
    assert [len(frame["objects"]) for frame in found] == [1, 1]


@pytest.mark.parametrize("seconds", [None, [0, 0.1, 0.15, 0.4, 0.45, 0.5, 1.0, 1.02, 1.3, 1.33, 1.4, 2.0]])
def test_browser_shows_the_frame_that_is_asked_for(of_browser, seconds, tmp_path):
    levels = np.linspace(30, 220, NUM_FRAMES).astype(np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (NUM_FRAMES, 48, 64, 3)).copy()
    small_videos.write_video(tmp_path / "levels.mp4", frames, seconds)
    assert of_browser.open(tmp_path / "levels.mp4", "video/mp4")["numFrames"] == NUM_FRAMES
    for frame_idx in (0, 7, 6, 5, 11, 1, 10):
        shown = of_browser.frame(frame_idx).mean()
        assert np.abs(levels - shown).argmin() == frame_idx


def test_browser_decodes_as_ffmpeg_does(of_browser, video_file):
    of_browser.open(video_file, "video/mp4")
    frames = [frame.astype(int) for frame in decoded(video_file)]
    difference = np.mean([np.abs(of_browser.frame(i) - frames[i]).mean() for i in range(NUM_FRAMES)])
    assert difference < 3  # levels


def test_browser_measures_the_rate_of_files_without_a_table(of_browser, tmp_path):
    frames = np.stack([np.array(frame) for frame in parity.draw_clip(24)])
    fragmented = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    small_videos.write_video(tmp_path / "parts.mp4", frames, np.arange(24) / 10, container_options=fragmented)
    media = of_browser.open(tmp_path / "parts.mp4", "video/mp4")
    assert media["frameRate"] == pytest.approx(10, abs=0.5)
    assert abs(media["numFrames"] - 24) <= 1


def test_timetables_are_those_of_ffmpeg(video_file, tmp_path):
    reordered = tmp_path / "reordered.mp4"
    with av.open(str(reordered), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "2"})
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in parity.draw_clip(10):
            container.mux(stream.encode(av.VideoFrame.from_image(frame.resize((64, 64)))))
        container.mux(stream.encode(None))
    sounding, seconds = tmp_path / "sounding.mp4", [0, 0.3, 0.4, 1.1]
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    small_videos.write_video(sounding, frames, seconds, sound=("aac", small_videos.beep(0, 1, 1.5)))
    paths = [str(video_file), str(reordered), str(sounding)]
    (tmp_path / "job.json").write_text(json.dumps(paths))
    tables = json.loads(javascript.node(javascript.WEB / "timetables.js", tmp_path / "job.json", package=""))
    for path, table in zip(paths, tables, strict=True):
        times = small_videos.read_times(path)
        np.testing.assert_allclose(table["times"], np.array(times) - times[0], atol=1e-3)
    assert [table["hasSound"] for table in tables] == [False, False, True]
    assert tables[1]["duration"] == pytest.approx(0.4)


def test_messages_are_those_of_the_server(tmp_path):
    objects = [
        {"objectId": 3, "iouScore": 0.5, "isPresent": True, "runs": [4, 2, 70000]},
        {"objectId": 12, "iouScore": 0.25, "isPresent": False, "runs": [70006]},
    ]
    found = [
        messages.Found(one["objectId"], np.array(one["runs"]), one["iouScore"], one["isPresent"]) for one in objects
    ]
    packed = messages.pack_frame(messages.FoundFrame(7, found), 5, False)
    job = {"header": {"name": "Münze"}, "objects": objects, "message": base64.b64encode(packed).decode()}
    (tmp_path / "job.json").write_text(json.dumps(job))
    said = json.loads(javascript.node(javascript.WEB / "messages.js", tmp_path / "job.json", package=""))
    header, payload = messages.unpack(base64.b64decode(said["sent"]))
    assert header["name"] == "Münze"
    assert [one["numRuns"] for one in header["objects"]] == [3, 1]
    assert messages.read_runs(payload).tolist() == [4, 2, 70000, 70006]
    assert said["read"] == objects
    assert (said["header"]["id"], said["header"]["frameIdx"], said["header"]["isResult"]) == (5, 7, False)
    assert ["whole header" in text for text in said["broken"]] == [True, True]
