"""The page in Chromium on an engine that is made up, and what a test says to it.

The fixtures are there in test files that say `pytest_plugins = ["made_up_pages"]`. Those import this file before pytest
does, which would warn but for the word PYTEST_DONT_REWRITE.
"""

import io
import shutil

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
def chromium_with_camera():
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
def open_page(chromium_with_camera):
    """A function that opens the page in a browser of its own; errors of scripts fail the test."""
    contexts, errors = [], []

    def open_in(context=None, media=None, **settings):
        if context is None:
            context = chromium_with_camera.new_context(
                viewport={"width": 1280, "height": 720}, permissions=["camera"], **settings
            )
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
def picture_page(open_page):
    """The page with a grey picture."""
    page = open_page()
    page.open(PICTURE)
    return page


@pytest.fixture
def video_page(open_page):
    """The page with a video of 40 frames."""
    page = open_page()
    page.open(VIDEO)
    return page


def points_of(call):
    """Clicks of a call of the engine, (x, y, label)."""
    prompt = next(detail for detail in call if isinstance(detail, dict))
    return [(*point, label) for point, label in zip(prompt["points"], prompt["labels"])]
