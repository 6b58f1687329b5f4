"""The page, driven with mouse and keys in Chromium, on an engine that finds discs around clicks."""

import io
import json
import re
import shutil
from contextlib import contextmanager

import javascript
import numpy as np
import pytest
from browser import FLAGS, WITHOUT_GPU, playing
from PIL import Image

ADDRESS = "http://localhost:9/"  # nothing listens there: every request is answered here
TYPES = {".js": "text/javascript", ".html": "text/html", ".css": "text/css", ".svg": "image/svg+xml"}
# As strict as that of the server, but for what Playwright needs to wait for something in the page
POLICY = "default-src 'self'; script-src 'self' 'unsafe-eval'; img-src 'self' blob:; media-src 'self' blob:"
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
SIZE = (320, 240)
MOCK = javascript.WEB / "page" / "mock_engine.js"
VIDEO = {"name": "clip.mp4", "mimeType": "video/mp4", "buffer": b"not read"}


def png_of(pixels):
    """Bytes of a PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PICTURE = {
    "name": "grey.png",
    "mimeType": "image/png",
    "buffer": png_of(np.full((*SIZE[::-1], 3), 90, np.uint8)),
}


@pytest.fixture(scope="module")
def chromium():
    """Chromium, with a camera that shows a test picture."""
    playwright = pytest.importorskip("playwright.sync_api", reason="driving a browser needs Playwright")
    if shutil.which("chromium") is None:
        pytest.skip("Chromium is not installed")
    with playing(playwright) as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=[*FLAGS, *WITHOUT_GPU, *CAMERA])
        yield browser
        browser.close()


class Page:
    """The page, and what a test says to it."""

    def __init__(self, page):
        self.page = page

    def place(self, x, y):
        """Where the middle of a pixel of the picture is on the screen, if all of the picture is shown."""
        box = self.page.locator("#canvas").bounding_box()
        scale = min((box["width"] - 32) / SIZE[0], (box["height"] - 32) / SIZE[1], 8)
        left = box["x"] + (box["width"] - scale * SIZE[0]) / 2
        top = box["y"] + (box["height"] - scale * SIZE[1]) / 2
        return left + scale * (x + 0.5), top + scale * (y + 0.5)

    def click(self, x, y, **settings):
        self.page.mouse.click(*self.place(x, y), **settings)
        self.settle()

    def drag(self, start, end, button="left"):
        self.page.mouse.move(*start)
        self.page.mouse.down(button=button)
        self.page.mouse.move(*end, steps=3)
        self.page.mouse.up(button=button)
        self.settle()

    def key(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)
            self.settle()

    def open(self, file):
        self.page.set_input_files("#file", file)
        self.page.wait_for_function("name => document.title.startsWith(name)", arg=file["name"])
        self.settle()

    def settle(self):
        """Waits until nothing is at work and all is drawn."""
        self.page.wait_for_function(
            "() => !document.body.hasAttribute('data-busy') && document.getElementById('task').hidden"
        )
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        self.page.wait_for_function("() => !document.body.hasAttribute('data-busy')")

    def calls(self, *names):
        """Calls of the engine so far."""
        return [call for call in self.page.evaluate("mock.calls") if call[0] in names]

    def colour(self, x, y):
        """RGB on the canvas at a pixel of the picture."""
        left, top, *_ = self.page.locator("#canvas").bounding_box().values()
        place = self.place(x, y)
        script = "([x, y]) => [...document.getElementById('canvas').getContext('2d').getImageData(x, y, 1, 1).data]"
        return self.page.evaluate(script, [round(place[0] - left), round(place[1] - top)])[:3]

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def names(self):
        """Names of the objects in the panel."""
        return self.page.eval_on_selector_all("#objects .name", "(inputs) => inputs.map((input) => input.value)")

    def drop(self, selector, name, data):
        """Drops a PNG on a part of the page."""
        script = """([selector, name, bytes]) => {
            const files = new DataTransfer();
            files.items.add(new File([Uint8Array.from(bytes)], name, { type: "image/png" }));
            for (const type of ["dragover", "drop"]) {
                const event = new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: files });
                document.querySelector(selector).dispatchEvent(event);
            }
        }"""
        self.page.evaluate(script, [selector, name, list(data)])
        self.page.wait_for_timeout(0)
        self.settle()


@pytest.fixture
def open_page(chromium):
    """A function that opens the page in a browser of its own; errors of scripts fail the test."""
    contexts, errors = [], []

    def open_in(context=None, media=None, **settings):
        if context is None:
            context = chromium.new_context(viewport={"width": 1280, "height": 720}, permissions=["camera"], **settings)
            contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: errors.append(error.message))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.route(f"{ADDRESS}**", lambda route: answer(route, media))
        page.goto(ADDRESS)
        page.wait_for_selector("body[data-ready]")
        opened = Page(page)
        opened.settle()
        return opened

    yield open_in
    for context in contexts:
        context.close()
    assert not errors


def answer(route, media):
    """Answers a request of the page from its sources, with the mock in place of the engine."""
    path = route.request.url.removeprefix(ADDRESS).split("?")[0]
    if path == "settings.json":
        return route.fulfill(json={"engine": "server", "model": "mock", "media": media})
    file = MOCK if path == "page/server_engine.js" else javascript.SOURCES / (path or "index.html")
    kind = TYPES[file.suffix]
    return route.fulfill(body=file.read_bytes(), content_type=kind, headers={"Content-Security-Policy": POLICY})


@pytest.fixture
def picture(open_page):
    """The page with a grey picture."""
    page = open_page()
    page.open(PICTURE)
    return page


@pytest.fixture
def video(open_page):
    """The page with a video of 40 frames."""
    page = open_page()
    page.open(VIDEO)
    return page


def points_of(call):
    """Clicks of a call of the engine, (x, y, label)."""
    prompt = next(detail for detail in call if isinstance(detail, dict))
    return [(*point, label) for point, label in zip(prompt["points"], prompt["labels"])]


def test_document_of_the_page_in_node():
    javascript.node(javascript.WEB / "page" / "document.js", javascript.SOURCES, package="typescript")


def test_page_clicks_on_and_off_objects(picture):
    grey = picture.colour(100, 100)
    picture.click(100, 100)
    assert picture.colour(100, 100) != grey
    assert picture.colour(200, 100) == grey
    picture.click(118, 100, button="right")
    picture.page.keyboard.down("Shift")
    picture.click(100, 118)
    picture.page.keyboard.up("Shift")
    assert points_of(picture.calls("segment")[-1]) == [(100, 100, 1), (118, 100, 0), (100, 118, 0)]
    assert picture.colour(112, 100) == grey
    picture.key("s")
    picture.click(80, 100)
    assert points_of(picture.calls("segment")[-1])[-1] == (80, 100, 0)
    assert picture.page.locator("#said li").count() == 4
    picture.page.locator("#said button").nth(1).click()
    picture.settle()
    assert points_of(picture.calls("segment")[-1]) == [(100, 100, 1), (100, 118, 0), (80, 100, 0)]


def test_page_draws_boxes(picture):
    picture.drag(picture.place(49.5, 39.5), picture.place(119.5, 99.5))
    assert picture.calls("segment")[-1][1]["box"] == [50, 40, 120, 100]
    picture.drag(picture.place(149.5, 139.5), picture.place(-30, 600))  # beyond the corner of the picture
    assert picture.calls("segment")[-1][1]["box"] == [0, 140, 150, 240]


def test_page_finds_the_pixel_when_zoomed_and_moved(picture):
    page = picture.page
    x, y = picture.place(200, 60)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -700)
    picture.settle()
    page.mouse.click(x, y)
    picture.settle()
    assert points_of(picture.calls("segment")[-1]) == [(200, 60, 1)]
    picture.drag((x, y), (x - 90, y + 50), button="middle")
    page.keyboard.down("Space")
    picture.drag((x, y), (x + 30, y - 10))
    page.keyboard.up("Space")
    page.mouse.click(x - 60, y + 40)
    picture.settle()
    assert points_of(picture.calls("segment")[-1]) == [(200, 60, 1), (200, 60, 1)]
    picture.key("0")
    picture.click(31, 17)
    assert points_of(picture.calls("segment")[-1])[-1] == (31, 17, 1)


def test_page_shows_what_a_click_would_give(picture):
    grey = picture.colour(100, 100)
    picture.page.mouse.move(*picture.place(100, 100))
    picture.page.mouse.move(*picture.place(101, 100))
    picture.page.wait_for_function("mock.calls.filter(([name]) => name === 'segment').length >= 2")
    picture.settle()
    assert picture.colour(110, 110) != grey
    picture.page.mouse.move(5, 5)
    picture.settle()
    assert picture.colour(110, 110) == grey
    assert picture.page.locator("#said li").count() == 0
    picture.click(101, 100)
    num_calls = len(picture.calls("segment"))
    picture.page.mouse.move(*picture.place(105, 100))
    picture.settle()
    assert len(picture.calls("segment")) == num_calls  # the mask is there already


def test_page_takes_steps_back_and_again(picture):
    grey = picture.colour(60, 60)
    picture.click(60, 60)
    picture.key("n")
    picture.click(200, 100)
    picture.key("Delete")
    assert picture.names() == ["Object 1"]
    num_calls = len(picture.calls("segment"))
    picture.key("Control+z")
    assert picture.names() == ["Object 1", "Object 2"]
    assert picture.colour(200, 100) != grey
    picture.key("Control+z", "Control+z", "Control+z")
    assert picture.names() == ["Object 1"]
    assert picture.colour(60, 60) == grey
    assert picture.page.locator('[data-command="undo"]').is_disabled()
    picture.key("Control+y", "Control+Shift+z", "Control+y")
    assert picture.colour(200, 100) != grey
    assert len(picture.calls("segment")) == num_calls  # results come with the steps


def test_page_keeps_objects_apart(picture):
    picture.click(60, 60)
    picture.key("n")
    picture.click(200, 60)
    picture.key("1")
    picture.click(70, 60)
    assert points_of(picture.calls("segment")[-1]) == [(60, 60, 1), (70, 60, 1)]
    picture.key("2", "F2")
    picture.page.keyboard.type("Cup 2")
    picture.page.keyboard.press("Enter")
    picture.settle()
    assert picture.names() == ["Object 1", "Cup 2"]
    before = picture.colour(200, 60)
    picture.key("v")
    assert picture.colour(200, 60) != before
    assert picture.page.get_by_role("button", name="Show Cup 2").count() == 1
    picture.page.get_by_role("button", name="Remove Object 1").click()
    picture.settle()
    assert picture.names() == ["Cup 2"]


def test_page_offers_three_candidates(picture):
    grey = picture.colour(60, 60)
    picture.click(60, 60)
    candidates = picture.page.locator("#candidates button")
    assert candidates.count() == 3
    assert picture.colour(60, 95) == grey
    candidates.nth(1).click()
    picture.settle()
    assert picture.colour(60, 95) != grey
    picture.key("c")
    assert candidates.nth(2).get_attribute("aria-pressed") == "true"
    picture.key("Control+z")
    assert picture.colour(60, 95) != grey
    picture.drag(picture.place(50, 50), picture.place(90, 90))
    assert not picture.page.locator("#candidates-section").is_visible()


def test_page_picks_from_everything(picture):
    picture.key("e")
    assert picture.text("#num-masks") == "3 masks left"
    picture.click(90, 120)  # on two masks: the smaller one is meant
    assert picture.text("#num-masks") == "2 masks left"
    assert picture.names() == ["Object 1"]
    assert "Mask of" in picture.text("#said")
    assert not picture.calls("segment")  # the mask is taken as it is
    picture.key("Shift+E")
    assert len(picture.names()) == 3
    assert not picture.page.locator("#picking").is_visible()


def test_page_takes_masks_from_files(picture):
    ids = np.zeros(SIZE[::-1], np.uint8)
    ids[20:60, 30:90], ids[100:130, 30:90] = 255, 60
    mask = np.stack([ids, np.zeros_like(ids), np.zeros_like(ids)], -1)
    picture.drop("#panel", "mask.png", png_of(mask))
    picture.page.wait_for_function("document.querySelectorAll('#objects li').length === 2")
    picture.settle()
    given = [np.array(call[1]["mask"]) for call in picture.calls("segment")]
    assert [int(runs[1::2].sum()) for runs in given] == [40 * 60, 30 * 60]
    assert given[0][:3].tolist() == [30 * 240 + 20, 40, 200]
    picture.drop("#panel", "small.png", png_of(mask[:100]))
    assert "small.png is 320 x 100" in picture.text(".notice")
    assert len(picture.names()) == 2
    picture.drop("#canvas", "other.png", png_of(mask))
    picture.page.wait_for_function("document.title.startsWith('other.png')")


def test_page_opens_what_is_pasted(picture):
    script = """(bytes) => {
        const files = new DataTransfer();
        files.items.add(new File([Uint8Array.from(bytes)], "pasted.png", { type: "image/png" }));
        document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: files }));
    }"""
    picture.page.evaluate(script, list(PICTURE["buffer"]))
    picture.page.wait_for_function("document.title.startsWith('pasted.png')")


def test_page_steps_and_scrubs(video):
    video.key("ArrowRight", "ArrowRight", "ArrowLeft", "Shift+ArrowRight", ".")
    assert video.page.input_value("#frame-number") == "13"
    video.click(60, 60)
    video.key("End")
    assert video.page.input_value("#frame-number") == "40"
    video.key("[")
    assert video.page.input_value("#frame-number") == "13"
    box = video.page.locator("#rows").bounding_box()
    video.page.mouse.click(box["x"] + box["width"] * 20.5 / 40, box["y"] + 10)
    video.settle()
    assert video.page.input_value("#frame-number") == "21"
    video.page.fill("#frame-number", "5")
    video.page.press("#frame-number", "Enter")
    video.settle()
    assert video.text("#clock").startswith("0:00.16")


def test_page_follows_stops_and_corrects(video):
    page = video.page
    grey = video.colour(20, 20)
    video.key("End", "Home")
    page.evaluate("mock.wait = { 'frame 12': new Promise((go) => { mock.go = go; }) }")
    video.click(30, 30)
    page.keyboard.press("f")
    page.wait_for_function("document.getElementById('progress').value === 12")
    assert video.text("#task-name") == "Following: 12 of 39"
    page.locator("#stop").click()
    page.evaluate("mock.go()")
    video.settle()
    assert "Stopped after 12 of 39" in video.text("#status")
    assert page.input_value("#frame-number") == "13"
    assert video.colour(42, 30) != grey
    video.click(60, 30, button="right")
    assert video.calls("addPrompt")[-1][1:3] == [12, 1]
    video.key("g")
    assert [call[1] for call in video.calls("propagate")] == [
        {"start": 0, "count": None, "isReverse": False},
        {"start": 12, "count": None, "isReverse": False},
        {"start": 12, "count": None, "isReverse": True},
    ]
    assert "Followed over 39 frames" in video.text("#status")
    assert page.locator("#rows").get_attribute("aria-label").endswith("Object 1: said on frame 1, 13")


def test_page_shows_the_frame_that_was_clicked_while_it_followed(video):
    page = video.page
    video.click(30, 30)
    page.evaluate("mock.wait = { 'frame 12': new Promise((go) => { mock.go = go; }) }")
    page.keyboard.press("f")
    page.wait_for_function("document.getElementById('frame-number').value === '13'")
    page.evaluate("mock.numFramesAfterStop = 1")
    page.mouse.click(*video.place(60, 30), button="right")
    page.evaluate("mock.go()")
    video.settle()
    assert video.calls("addPrompt")[-1][1] == 12
    assert page.input_value("#frame-number") == "13"


def test_page_undoes_what_was_changed_while_it_followed(video):
    page = video.page
    video.click(30, 30)
    page.evaluate("mock.wait = { 'frame 12': new Promise((go) => { mock.go = go; }) }")
    page.keyboard.press("f")
    page.wait_for_function("document.getElementById('progress').value === 12")
    page.keyboard.press("v")  # hides the object
    page.evaluate("mock.go()")
    video.settle()
    video.key("Control+z")
    assert "Undone: change of an object" in video.text("#status")
    assert video.text("#objects .score") != "–"  # on the last frame
    video.key("Control+z")
    assert "Undone: tracking" in video.text("#status")
    assert video.text("#objects .score") == "–"
    video.key("Control+Shift+z", "Control+Shift+z")
    assert video.text("#objects .score") != "–"
    assert video.calls("clearPrompts", "removeObject") == []


def test_page_tells_all_anew_after_a_connection_was_lost(video):
    video.click(30, 30)
    video.page.evaluate("mock.fail.addPrompt = 'The connection was lost.'; mock.isUncertain = true")
    video.click(60, 30)
    assert video.text(".notice") == "The connection was lost."
    video.page.evaluate("mock.calls.length = 0")
    video.click(60, 40)
    told = [(call[0], points_of(call)) for call in video.calls("addPrompt")]
    assert video.calls("reset")
    assert told == [("addPrompt", [(30, 30, 1)]), ("addPrompt", [(60, 40, 1)])]


def test_page_undoes_on_a_video_as_the_engine_needs_it(video):
    video.click(60, 60)
    video.click(80, 60)
    video.key("n")
    video.click(200, 100)
    video.page.evaluate("mock.calls.length = 0")
    video.key("Control+z", "Control+z", "Control+z", "Control+z")
    told = [call[:3] for call in video.calls("removeObject", "clearPrompts", "addPrompt")]
    assert told == [["removeObject", 2], ["clearPrompts", 0, 1], ["addPrompt", 0, 1], ["removeObject", 1]]


def test_page_adds_an_object_in_the_middle_and_removes_it(video):
    video.click(60, 60)
    video.key("f", "Home", *["ArrowRight"] * 3, "n")
    video.click(200, 100)
    assert video.calls("addPrompt")[-1][1:3] == [3, 2]
    video.key("Delete")
    assert video.text("#status") == "Object 2 is removed."
    assert video.calls("removeObject")[-1] == ["removeObject", 2]
    video.key("Control+z")
    assert video.names() == ["Object 1", "Object 2"]
    assert video.calls("addPrompt")[-1][1:3] == [3, 2]


def test_page_plays(video):
    video.key("Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight")
    video.page.keyboard.press("Space")
    video.page.wait_for_function("document.getElementById('frame-number').value === '40'")
    assert video.page.locator('[data-command="play"]').get_attribute("aria-pressed") in ("true", "false")
    video.page.wait_for_selector('[data-command="play"][aria-pressed="false"]')


def test_page_says_why_and_loses_nothing(video):
    video.click(60, 60)
    video.page.evaluate("mock.fail.addPrompt = 'There is no room left on the GPU.'")
    video.click(90, 60)
    assert video.text(".notice") == "There is no room left on the GPU."
    assert video.text("#status") == "There is no room left on the GPU."
    assert video.page.locator("#said li").count() == 1
    video.page.get_by_role("button", name="Dismiss").click()
    video.settle()
    assert video.page.locator(".notice").count() == 0
    video.click(90, 60)
    assert video.page.locator("#said li").count() == 2
    video.page.set_input_files("#file", {"name": "notes.mp4", "mimeType": "text/plain", "buffer": b"words"})
    video.page.wait_for_selector(".notice")
    assert video.text(".notice") == "notes.mp4 is no picture and no video."
    assert video.page.title() == "clip.mp4 · EdgeTAM"
    assert video.page.locator("#said li").count() == 2


def test_page_restores_work_after_a_reload(open_page):
    page = open_page()
    page.open(VIDEO)
    page.click(60, 60)
    page.key("n", "f")
    page.page.wait_for_function("""async () => {
        const opened = indexedDB.open("edgetam");
        await new Promise((done) => { opened.onsuccess = done; });
        const kept = opened.result.objectStoreNames.length > 0
            ? opened.result.transaction("work").objectStore("work").getAll() : null;
        if (kept) await new Promise((done) => { kept.onsuccess = done; });
        opened.result.close();
        return kept?.result[0]?.data.frames.length === 40;
    }""")
    again = open_page(context=page.page.context)
    assert "Your last work, on clip.mp4, was kept." in again.text(".notice")
    again.open(VIDEO)
    again.page.get_by_role("button", name="Restore it").click()
    again.settle()
    assert again.names() == ["Object 1", "Object 2"]
    assert again.text("#objects .score >> nth=0") != "–"
    assert [call[0] for call in again.calls("reset", "addPrompt")] == ["reset", "addPrompt"]
    again.click(80, 80)
    assert again.calls("addPrompt")[-1][2] == 1


def test_page_keeps_the_work_on_each_file(open_page):
    page = open_page()
    for name, x in {"one.png": 60, "other.png": 80}.items():  # as many changes on each
        page.open({**PICTURE, "name": name})
        page.click(x, 60)
    page.open({**PICTURE, "name": "third.png"})  # at once: what was changed before is not forgotten
    page.page.wait_for_timeout(0)
    for name in ("one.png", "other.png"):
        page.open({**PICTURE, "name": name})
        page.page.wait_for_selector(f".notice:has-text('Your last work on {name} was kept')")


def test_page_opens_what_the_server_was_started_with(open_page):
    page = open_page(media="begun.mp4")
    page.page.wait_for_function("document.title.startsWith('begun.mp4')")
    assert page.calls("open") == [["open", None]]


def test_page_saves_a_project_and_opens_it_again(video, tmp_path):
    video.click(60, 60)
    video.key("f")
    with video.page.expect_download() as download:
        video.key("Control+s")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == "clip.edgetam.json"
    assert len(json.loads(path.read_text())["frames"]) == 40
    video.key("Delete")
    video.page.set_input_files("#file", path)
    video.page.wait_for_function("document.querySelectorAll('#objects li').length === 1")
    video.settle()
    assert video.names() == ["Object 1"]


def test_page_exports(video):
    video.click(60, 60)
    video.key("x")
    shown = video.page.locator("#export-list button:not([hidden])")
    kinds = shown.evaluate_all("(buttons) => buttons.map((button) => button.dataset.kind)")
    assert "overlay-video" in kinds
    assert "overlay-picture" not in kinds
    with video.page.expect_download() as download:
        video.page.click('[data-kind="coco"]')
    assert download.value.suggested_filename == "clip_coco.json"
    video.settle()
    assert "clip_coco.json is saved" in video.text("#status")


def test_page_follows_a_camera(open_page):
    page = open_page()
    page.page.click('header [data-command="live"]')
    page.page.wait_for_function("mock.calls.filter(([name]) => name === 'receive').length > 2")
    box = page.page.locator("#canvas").bounding_box()
    page.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.page.wait_for_function("document.querySelector('#objects .score')?.textContent.startsWith('0.')")
    assert page.page.locator('[data-command="export"]').is_disabled()
    page.page.click('header [data-command="live"]')
    page.page.wait_for_function("document.getElementById('status').textContent === 'The camera is off.'")
    assert len(page.calls("startLive")) == 1
    assert len(page.calls("addPrompt")) == 1


def test_page_opens_and_leaves_the_camera_in_quick_turns(open_page):
    page = open_page()
    page.page.evaluate("""() => {
        const button = document.querySelector('header [data-command="live"]');
        for (let i = 0; i < 3; i++) button.click();
    }""")
    page.page.wait_for_function("mock.calls.filter(([name]) => name === 'receive').length > 2")
    assert len(page.calls("startLive")) == 1
    page.page.click('header [data-command="live"]')
    page.page.wait_for_function("document.getElementById('status').textContent === 'The camera is off.'")


def test_page_is_used_without_a_mouse(picture):
    page = picture.page
    page.locator("#canvas").focus()
    picture.key("ArrowLeft", "ArrowUp", "Enter")
    [(x, y, label)] = points_of(picture.calls("segment")[-1])
    assert label == 1
    assert abs(x - 160) < 15 and abs(y - 120) < 15
    picture.key("Shift+ArrowRight", "Shift+Enter")
    assert points_of(picture.calls("segment")[-1])[-1][2] == 0
    page.keyboard.press("Tab")
    picture.key("?")
    help_dialog = page.get_by_role("dialog", name="Keys and gestures")
    assert help_dialog.is_visible()
    assert re.search(r"Ctrl Z\s+Undo", help_dialog.inner_text())
    picture.key("Escape")
    assert not help_dialog.is_visible()


def test_page_is_touched(open_page):
    page = open_page(has_touch=True)
    page.open(PICTURE)
    page.page.touchscreen.tap(*page.place(70, 80))
    page.settle()
    assert points_of(page.calls("segment")[-1]) == [(70, 80, 1)]
    page.page.get_by_role("button", name="Click off the object").tap()
    page.page.touchscreen.tap(*page.place(90, 80))
    page.settle()
    assert points_of(page.calls("segment")[-1]) == [(70, 80, 1), (90, 80, 0)]


def test_page_is_light_and_dark(open_page):
    page = open_page(color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.page.evaluate(background)
    page.key("d")
    light = page.page.evaluate(background)
    assert sum(map(int, re.findall(r"\d+", dark))) < 150 < 600 < sum(map(int, re.findall(r"\d+", light)))
    again = open_page(context=page.page.context)
    assert again.page.evaluate(background) == light  # what was chosen is kept


@contextmanager
def dialogs_open(page):
    """All dialogs of the page, for what is asked of them."""
    page.evaluate("() => { for (const dialog of document.querySelectorAll('dialog')) dialog.show(); }")
    yield
    page.evaluate("() => { for (const dialog of document.querySelectorAll('dialog')) dialog.close(); }")


def test_page_names_all_that_can_be_used(video):
    video.click(60, 60)
    with dialogs_open(video.page):
        nameless = video.page.evaluate("""() => {
            const nameOf = (element) => element.getAttribute("aria-label") || element.textContent.trim()
                || element.labels?.[0]?.textContent.trim()
                || document.getElementById(element.getAttribute("aria-labelledby"))?.textContent.trim();
            const parts = "button, input, select, canvas, dialog, nav, aside, section, progress, [role=group]";
            return [...document.querySelectorAll(parts)]
                .filter((element) => !element.closest("[hidden], [aria-hidden=true], #help-content")
                    && !element.closest(".candidate canvas") && !nameOf(element))
                .map((element) => element.outerHTML.slice(0, 120));
        }""")
        ids = video.page.evaluate("[...document.querySelectorAll('[id]')].map(({ id }) => id)")
    assert nameless == []
    assert len(ids) == len(set(ids))
    keys = video.page.eval_on_selector_all("[data-command]", "(all) => all.map((one) => one.title)")
    assert all(keys)


def test_page_says_why_the_model_does_not_start(chromium):
    page = chromium.new_page()
    page.route(f"{ADDRESS}**", lambda route: answer(route, None))
    page.route(f"{ADDRESS}settings.json", lambda route: route.fulfill(status=404))
    page.goto(ADDRESS)
    page.wait_for_selector("#welcome h1:has-text('could not be started')")
    assert "start `edgetam demo` again" in page.inner_text("#welcome")
    page.close()


def test_page_is_pinched(open_page):
    page = open_page(has_touch=True)
    page.open(PICTURE)
    x, y = page.place(160, 120)
    devtools = page.page.context.new_cdp_session(page.page)

    def touch(kind, *distances):
        points = [{"x": x + distance, "y": y, "id": idx} for idx, distance in enumerate(distances)]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", -20, 20)
    touch("touchMove", -40, 40)
    touch("touchMove", -80, 80)
    touch("touchEnd")
    page.settle()
    assert not page.calls("segment")  # no finger has clicked
    scale = page.place(1, 0)[0] - page.place(0, 0)[0]
    page.page.touchscreen.tap(x + 100, y)
    page.settle()
    [(found_x, found_y, _)] = points_of(page.calls("segment")[-1])
    assert abs(found_x - (160 + 100 / (4 * scale))) <= 1
    assert abs(found_y - 120) <= 1


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1024, 768), (820, 1180)])
def test_page_fits_screens(open_page, width, height):
    page = open_page(has_touch=width < 1280)
    page.page.set_viewport_size({"width": width, "height": height})
    page.open({**VIDEO, "name": "a-clip-with-a-name-that-is-longer-than-there-is-room-for-it-in-the-header.mp4"})
    page.click(60, 60)
    cut = page.page.evaluate("""() => {
        const parts = "header, header *, nav *, .transport, .transport *, #panel *, footer";
        return [...document.querySelectorAll(parts)].filter((part) => {
            const { left, right, top, bottom, width } = part.getBoundingClientRect();
            const isOutside = left < 0 || right > innerWidth + 1 || top < 0 || bottom > innerHeight + 1;
            return width > 0 && isOutside && !part.closest("svg");
        }).map((part) => part.outerHTML.slice(0, 100));
    }""")
    assert cut == []
    canvas = page.page.locator("#canvas").bounding_box()
    assert canvas["width"] > width / 2
    assert canvas["height"] > height / 2
