"""Chromium for tests, and a server on this machine for what it is to load."""

import shutil
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import javascript
import pytest

FLAGS = ["--no-sandbox", "--disable-background-networking"]
at_work = []
WITHOUT_GPU = ["--disable-gpu"]
WITH_SIMULATED_GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]


class Handler(SimpleHTTPRequestHandler):
    """Serves folders under names, with the headers that a page needs to share memory among threads."""

    extensions_map = {  # noqa: RUF012
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def __init__(self, *arguments, folders, **settings):
        self.folders = folders
        super().__init__(*arguments, **settings)

    def translate_path(self, path):
        name, _, rest = path.split("?")[0].lstrip("/").partition("/")
        return str(self.folders.get(name, Path("/nothing is here")) / rest)

    def end_headers(self):
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *message):
        pass


@contextmanager
def serve():
    """The address of a server of edgetam.js, ONNX Runtime, the scripts of tests, and of all files as /files/…"""
    folders = {
        "web": javascript.SOURCES,
        "tests": javascript.WEB,
        "ort": javascript.MODULES / "onnxruntime-web" / "dist",
        "files": Path("/"),
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, folders=folders)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def playing(playwright):
    """Playwright at work; where it is already, the same, since it cannot work twice in one thread."""
    if at_work:
        yield at_work[0]
        return
    with playwright.sync_playwright() as driver:
        at_work.append(driver)
        try:
            yield driver
        finally:
            at_work.clear()


@contextmanager
def open_page(*flags):
    """A page of the server in Chromium; skips the test where a part is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="driving a browser needs Playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    javascript.needs_package("onnxruntime-web")
    with serve() as address, playing(playwright) as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=[*FLAGS, *flags])
        page = browser.new_page(base_url=address, viewport={"width": 900, "height": 760})
        page.set_default_timeout(300_000)
        page.goto("/tests/blank.html")
        yield page
        browser.close()


def run_in_browser(page, tasks, device):
    """What `web/steps.js` finds for tasks in a page."""
    script = 'async ([tasks, device]) => (await import("/tests/browser.js")).runTasks(tasks, device)'
    found = page.evaluate(script, [tasks, device])
    return [javascript.read_found(of_task, task["size"]) for of_task, task in zip(found, tasks)]
