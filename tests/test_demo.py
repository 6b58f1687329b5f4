"""`edgetam demo` in Chromium, with real mouse events: what a person finds is what Python finds for the same prompts."""

import base64
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import browser
import javascript
import numpy as np
import pytest
import torch
from edgetam_hf.video_frames_edgetam import open_video
from PIL import Image
from small_videos import beep, read_beep, read_times, write_video

from edgetam_hf import (
    EdgeTamModel,
    nano_checkpoint,
)
from edgetam_hf.commands.picture_files import SAMPLES

ROOT = Path(__file__).parents[1]
CLIP, COINS = ROOT / "examples" / "coins.mp4", SAMPLES / "coins.jpg"
ENGINES = ("server", "browser")
SIZES = {".mp4": (480, 320), ".jpg": (384, 303)}  # (width, height) of what is clicked on
LEAST_IOU = 0.999
BOX = [50, 215, 120, 290]  # a coin of the clip
# where a pixel of the picture lies in the window, if all of it is shown
PLACE = """async ([x, y, width, height]) => {
  const { fit } = await import(new URL("page/zoom.js", location.href));
  const canvas = document.getElementById("canvas").getBoundingClientRect();
  const { left, top, scale } = fit({ width, height }, canvas);
  return [canvas.left + left + scale * (x + 0.5), canvas.top + top + scale * (y + 0.5)];
}"""
# the frames of a video as the browser decodes it, whose colours are a level or two from those of FFmpeg
FRAMES = """async (bytes) => {
  const { Film } = await import(new URL("page/film.js", location.href));
  const film = await Film.open(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], "clip.mp4"));
  const context = new OffscreenCanvas(film.width, film.height).getContext("2d");
  const frames = [];
  for (let frameIdx = 0; frameIdx < film.numFrames; frameIdx++) {
    context.drawImage(await film.frameAt(frameIdx), 0, 0);
    const { data } = context.getImageData(0, 0, film.width, film.height);
    let text = "";
    for (let i = 0; i < data.length; i += 4096) text += String.fromCharCode(...data.subarray(i, i + 4096));
    frames.push(btoa(text));
  }
  return frames;
}"""
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="driving a page needs Chromium")


@contextmanager
def demo(*arguments):
    """The address of `edgetam demo` and its process."""
    pytest.importorskip("starlette", reason="the server needs Starlette")
    pytest.importorskip("uvicorn", reason="the server needs uvicorn")
    command = [sys.executable, "-u", "-m", "edgetam_hf", "demo", *map(str, arguments), "--no-browser"]
    if "--port" not in arguments:
        command += ["--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"http://\S+", line):
                break
        assert lines and found, lines
        yield found[0], process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        process.stdout.close()


@pytest.fixture(scope="module")
def chromium():
    """A running Chromium; each test opens pages of its own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="driving a browser needs Playwright")
    with browser.playing(playwright) as driver:
        flags = [*browser.FLAGS, *browser.WITHOUT_GPU]
        running = driver.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        yield running
        running.close()


@pytest.fixture(scope="module")
def picture_model():
    """The embedded checkpoint for pictures."""
    return EdgeTamModel.from_pretrained(nano_checkpoint(), dtype=torch.float32).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def addresses(request):
    """A function that gives the address of a page for each engine; servers are started once."""
    with ExitStack() as stack:
        known = {}

        def address_of(engine):
            if engine not in known:
                arguments = []
                if engine == "browser":
                    folders = request.getfixturevalue("nano_folder"), javascript.MODULES / "onnxruntime-web" / "dist"
                    arguments = ["--engine", "browser", "--device", "wasm", "--model", folders[0], "--ort", folders[1]]
                known[engine] = stack.enter_context(demo(*arguments))[0]
            return known[engine]

        yield address_of


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The path of a video of 12 frames, with a tone."""
    frames = np.stack([frame.permute(1, 2, 0).numpy() for frame in (open_video(CLIP)[idx] for idx in range(0, 36, 3))])
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, frames, sound=("aac", beep(0.5, 0.8, 1.2)))
    return path


class Visitor:
    """Somebody at the page."""

    def __init__(self, page, address):
        self.page, self.errors, self.size = page, [], None
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.visit(address)

    def visit(self, address):
        """Goes to the page, and waits for the model."""
        self.page.goto(address)
        self.page.wait_for_selector("body[data-ready]")
        self.rest()

    def rest(self):
        """Waits until the page has nothing to do."""
        self.page.evaluate(DRAWN)
        self.page.wait_for_selector("body:not([data-busy])")
        self.page.evaluate(DRAWN)

    def open(self, path):
        """Opens a file."""
        self.page.set_input_files("#file", path)
        self.rest()
        self.size = SIZES.get(Path(path).suffix, self.size)

    def place(self, x, y):
        """Where a pixel of the picture is in the window."""
        return self.page.evaluate(PLACE, [x, y, *self.size])

    def click(self, x, y, button="left", key=None):
        """Clicks on a pixel of the picture, with a key held."""
        if key:
            self.page.keyboard.down(key)
        self.page.mouse.click(*self.place(x, y), button=button)
        if key:
            self.page.keyboard.up(key)
        self.rest()

    def drag(self, left, top, right, bottom):
        """Draws a box from corner to corner, in pixels of the picture."""
        # corners of a box lie between pixels
        self.page.mouse.move(*self.place(left - 0.5, top - 0.5))
        self.page.mouse.down()
        self.page.mouse.move(*self.place(right - 0.5, bottom - 0.5), steps=4)
        self.page.mouse.up()
        self.rest()

    def press(self, *keys):
        """Presses keys."""
        for key in keys:
            self.page.keyboard.press(key)
            self.rest()

    def go_to(self, frame_idx):
        """Shows a frame."""
        self.page.fill("#frame-number", str(frame_idx + 1))
        self.page.press("#frame-number", "Enter")
        self.page.locator("#canvas").focus()
        self.rest()

    def export(self, kind, folder):
        """The path of an exported file."""
        self.page.click('[data-command="export"] >> nth=0')
        with self.page.expect_download() as download:
            self.page.click(f'#export-list [data-kind="{kind}"]')
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        self.rest()
        return path

    def save(self, folder):
        """The path of the saved project."""
        with self.page.expect_download() as download:
            self.page.keyboard.press("Control+s")
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        return path

    @property
    def status(self):
        return self.page.text_content("#status")

    @property
    def notices(self):
        return self.page.text_content("#notices")


@pytest.fixture
def visit(chromium, addresses):
    """A function that gives a `Visitor` of the page with an engine."""
    contexts = []

    def begin(engine, address=None):
        contexts.append(chromium.new_context(viewport={"width": 1280, "height": 720}, accept_downloads=True))
        return Visitor(contexts[-1].new_page(), address or addresses(engine))

    yield begin
    for context in contexts:
        context.close()


def read_masks(path):
    """Masks by (frame, number of the object) of a COCO file."""
    coco = pytest.importorskip("pycocotools.coco", reason="reading COCO files needs pycocotools")
    data = coco.COCO(str(path))
    frames = {image_id: idx for idx, image_id in enumerate(sorted(data.getImgIds()))}
    return {
        (frames[row["image_id"]], row.get("track_id", row["id"])): data.annToMask(row).astype(bool)
        for row in data.dataset["annotations"]
    }


def iou(first, second):
    """IoU of two masks; 1 where both are empty."""
    union = (first | second).sum()
    return (first & second).sum() / union if union else 1.0


class PythonPicture:
    """What Python finds in a picture."""

    def __init__(self, model, processor, path):
        self.model, self.processor = model, processor
        with Image.open(path) as picture:
            self.picture = picture.convert("RGB")

    def find(self, points=None, labels=None, box=None):
        """The mask of an object: the best of three for a single click."""
        prompts = {"input_points": points and [[points]], "input_labels": labels and [[labels]]}
        prompts["input_boxes"] = box and [[box]]
        given = {name: value for name, value in prompts.items() if value}
        inputs = self.processor(images=self.picture, return_tensors="pt", **given)
        is_ambiguous = box is None and len(points) == 1
        output = self.model(**inputs, multimask_output=is_ambiguous)
        masks = self.processor.post_process_masks(output.pred_masks, inputs["original_sizes"])[0][0]
        return masks[output.iou_scores[0, 0].argmax()].numpy()


class PythonVideo:
    """What Python finds in a video, by (frame, object), as the page keeps it."""

    def __init__(self, nano, video):
        self.model, self.processor = nano
        self.session = self.processor.init_video_session(video, max_memory_frames=64)
        self.masks = {}

    def keep(self, output):
        size = [[self.session.video_height, self.session.video_width]]
        masks = self.processor.post_process_masks([output.pred_masks], size)[0][:, 0].numpy()
        self.masks.update({(output.frame_idx, obj_id): mask for obj_id, mask in zip(output.object_ids, masks)})

    def say(self, frame_idx, obj_id, points=None, labels=None, box=None):
        prompts = {"input_points": points and [[points]], "input_labels": labels and [[labels]]}
        prompts["input_boxes"] = box and [[box]]
        self.processor.add_inputs_to_inference_session(
            self.session, frame_idx, obj_id, clear_old_inputs=False, **{k: v for k, v in prompts.items() if v}
        )
        self.keep(self.model(self.session, frame_idx=frame_idx))

    def follow(self, start, count=None, reverse=False):
        for output in self.model.propagate_in_video_iterator(self.session, start, count, reverse):
            self.keep(output)


def frames_in_browser(visitor, path):
    """The frames of a video, uint8 (T, H, W, 3), as the visitor's browser decodes them."""
    frames = visitor.page.evaluate(FRAMES, base64.b64encode(path.read_bytes()).decode())
    width, height = SIZES[path.suffix]
    return np.stack([np.frombuffer(base64.b64decode(f), np.uint8).reshape(height, width, 4)[..., :3] for f in frames])


def assert_same_masks(found, expected, least=LEAST_IOU):
    """The same objects on the same frames, with the same masks."""
    expected = {place: mask for place, mask in expected.items() if mask.any()}
    found = {place: mask for place, mask in found.items() if mask.any()}
    assert found.keys() == expected.keys()
    lowest = min(expected, key=lambda place: iou(found[place], expected[place]))
    assert iou(found[lowest], expected[lowest]) >= least, (lowest, iou(found[lowest], expected[lowest]))


@pytest.mark.parametrize("engine", ENGINES)
def test_picture_has_the_masks_of_python(visit, nano, picture_model, tmp_path, engine):
    visitor, python = visit(engine), PythonPicture(picture_model, nano[1], COINS)
    visitor.open(COINS)
    visitor.click(211, 192)
    visitor.press("n")
    visitor.drag(246, 93, 296, 143)
    visitor.press("n")
    visitor.click(45, 55)
    visitor.click(70, 90, button="right")
    visitor.click(20, 90, key="Shift")
    visitor.press("Control+z")
    masks = read_masks(visitor.export("coco", tmp_path))
    expected = [
        python.find([[211, 192]]),
        python.find(box=[246, 93, 296, 143]),
        python.find([[45, 55], [70, 90]], [1, 0]),
    ]
    assert_same_masks(masks, {(0, idx): mask for idx, mask in enumerate(expected, start=1)})
    assert not visitor.errors


@pytest.mark.parametrize("engine", ENGINES)
def test_video_has_the_masks_of_python(visit, nano, clip, tmp_path, engine):
    visitor = visit(engine)
    python = PythonVideo(nano, clip if engine == "server" else frames_in_browser(visitor, clip))
    visitor.open(clip)
    visitor.go_to(4)
    visitor.click(65, 110)
    python.say(4, 1, [[65, 110]], [1])
    visitor.press("n")
    visitor.drag(*BOX)
    python.say(4, 2, box=BOX)
    visitor.press("g")  # both ways
    python.follow(4)
    python.follow(4, reverse=True)
    visitor.go_to(7)
    visitor.press("1")
    visitor.click(95, 120, button="right")  # a correction in the middle
    python.say(7, 1, [[95, 120]], [0])
    visitor.press("f")
    python.follow(7)
    assert_same_masks(read_masks(visitor.export("coco", tmp_path)), python.masks)
    visitor.press("Delete")  # the first object
    remaining = {place: mask for place, mask in python.masks.items() if place[1] == 2}
    masks = read_masks(visitor.export("coco", tmp_path))
    assert_same_masks({(frame_idx, 2): mask for (frame_idx, _), mask in masks.items()}, remaining)
    visitor.press("Control+z")
    assert_same_masks(read_masks(visitor.export("coco", tmp_path)), python.masks)
    assert not visitor.errors


@pytest.mark.parametrize("engine", ENGINES)
def test_video_is_followed_until_it_is_stopped(visit, clip, engine):
    visitor = visit(engine)
    visitor.open(clip)
    visitor.click(65, 110)
    visitor.page.keyboard.press("f")
    visitor.page.wait_for_selector('#progress[value]:not([value="0"])')
    visitor.page.click("#stop")
    visitor.rest()
    num_frames, total = map(int, re.search(r"Stopped after (\d+) of (\d+)", visitor.status).groups())
    assert 1 <= num_frames < total == 11
    visitor.press("f")  # from the frame on which it was stopped
    assert "Followed" in visitor.status
    assert not visitor.errors


@pytest.mark.parametrize("engine", ENGINES)
def test_everything_in_a_video_is_what_python_finds(visit, nano, clip, tmp_path, engine):
    short, video = tmp_path / "short.mp4", open_video(clip)
    write_video(short, np.stack([video[idx].permute(1, 2, 0).numpy() for idx in range(4)]))
    visitor = visit(engine)
    visitor.open(short)
    visitor.drag(*BOX)  # a user's object, with which the others are followed
    visitor.page.evaluate("document.getElementById('points-per-side').options[0].value = 8")
    visitor.press("Shift+F")
    assert "Followed everything over 4 frames" in visitor.status
    masks = read_masks(visitor.export("coco", tmp_path))
    python = PythonVideo(nano, frames_in_browser(visitor, short) if engine == "browser" else short)
    python.say(0, 1, box=BOX)
    for output in python.model.track_everything(python.session, points_per_crop=8):
        python.keep(output)
    assert len({obj_id for _, obj_id in masks}) > 2
    # where objects touch, the page covers what either has, and Python what is more than nothing of either
    assert_same_masks(masks, python.masks, 0.99)
    visitor.press("Control+z")
    assert {obj_id for _, obj_id in read_masks(visitor.export("coco", tmp_path))} == {1}
    assert not visitor.errors


def test_project_outlives_the_server(chromium, clip, tmp_path):
    context = chromium.new_context(viewport={"width": 1280, "height": 720}, accept_downloads=True)
    with demo(clip) as (address, process):
        port = address.rstrip("/").rsplit(":", 1)[1]
        visitor = Visitor(context.new_page(), address)
        visitor.size = SIZES[".mp4"]
        visitor.click(65, 110)
        visitor.press("f")
        masks, project = read_masks(visitor.export("coco", tmp_path)), visitor.save(tmp_path)
        process.kill()
        process.wait()
        visitor.click(90, 120)
        assert "edgetam demo" in visitor.notices or "server" in visitor.notices
    with demo(clip, "--port", port) as (address, _):
        visitor.visit(address)
        visitor.open(project)
        assert_same_masks(read_masks(visitor.export("coco", tmp_path)), masks)
        visitor.press("n")
        visitor.drag(*BOX)
        visitor.press("f")
        assert {obj_id for _, obj_id in read_masks(visitor.export("coco", tmp_path))} == {1, 2}
    context.close()


def test_two_visitors_do_not_disturb_each_other(visit, nano, picture_model, clip, tmp_path):
    one, other = visit("server"), visit("server")
    one.open(clip)
    other.open(COINS)
    one.click(65, 110)
    one.page.keyboard.press("f")  # while it is followed, the other one clicks
    other.click(211, 192)
    picture = read_masks(other.export("coco", tmp_path))
    one.rest()
    python = PythonVideo(nano, clip)
    python.say(0, 1, [[65, 110]], [1])
    python.follow(0)
    assert_same_masks(read_masks(one.export("coco", tmp_path)), python.masks)
    assert_same_masks(picture, {(0, 1): PythonPicture(picture_model, nano[1], COINS).find([[211, 192]])})


@pytest.mark.parametrize("engine", ENGINES)
def test_files_that_cannot_be_opened_leave_what_is_open(visit, nano, picture_model, tmp_path, engine):
    visitor = visit(engine)
    visitor.open(COINS)
    visitor.click(211, 192)
    broken, text = tmp_path / "broken.jpg", tmp_path / "text.mp4"
    broken.write_bytes(COINS.read_bytes()[:2000])
    text.write_text("this is no video")
    for path in (broken, text):
        visitor.page.set_input_files("#file", path)
        visitor.rest()
        assert path.name in visitor.notices, visitor.notices
        assert COINS.name in visitor.page.text_content("#media-name")
    masks = read_masks(visitor.export("coco", tmp_path))
    assert_same_masks(masks, {(0, 1): PythonPicture(picture_model, nano[1], COINS).find([[211, 192]])})
    assert not visitor.errors


def test_film_has_all_frames_and_the_sound(visit, clip, tmp_path):
    visitor = visit("server")
    visitor.open(clip)
    visitor.click(65, 110)
    visitor.press("f")
    film = visitor.export("overlay-video", tmp_path)
    assert np.allclose(read_times(film), read_times(clip), atol=0.002)
    assert np.allclose(read_beep(film), read_beep(clip), atol=0.06)
    colours = [
        np.asarray(frame).reshape(3, -1)[:, 110 * 480 + 65] for frame in (open_video(film)[0], open_video(clip)[0])
    ]
    assert np.abs(colours[0].astype(int) - colours[1]).max() > 20  # the object is painted


def test_everything_can_be_picked(visit, tmp_path):
    visitor = visit("server")
    visitor.open(COINS)
    visitor.press("e")
    assert int(re.search(r"\d+", visitor.page.text_content("#num-masks"))[0]) > 5
    visitor.page.mouse.move(*visitor.place(211, 192))
    visitor.click(211, 192)
    visitor.click(45, 55)
    visitor.press("e")
    masks = read_masks(visitor.export("coco", tmp_path))
    assert len(masks) == 2
    assert masks[0, 1][192, 211]
    assert masks[0, 2][55, 45]
