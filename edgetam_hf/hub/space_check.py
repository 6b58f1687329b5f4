"""A Space in Chromium, without a network: what its page finds in a picture, against Python."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..commands.prompts import ObjectPrompt
from ..commands.segment import Segmenter
from .check import CheckError
from .source import Source
from .space import SAMPLE

CLICK = (211, 192)  # a coin in the sample picture
SMALLEST_IOU = 0.999
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
SCRIPT = """async ([sample, click]) => {
  const { startEngine } = await import("/page/engine.js");
  const engine = await startEngine(await (await fetch("/settings.json")).json());
  const file = new File([await (await fetch(`/${sample}`)).blob()], sample, { type: "image/jpeg" });
  const { width, height } = await engine.open(file);
  const prompt = { points: [click], labels: [1], box: null, mask: null };
  const [{ runs }] = await engine.segment(prompt, false);
  await engine.close();
  return { width, height, runs: [...runs] };
}"""


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder as a static Space is served."""

    extensions_map = {  # noqa: RUF012
        **SimpleHTTPRequestHandler.extensions_map,
        **{".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"},
    }

    def end_headers(self) -> None:
        """The headers that the card asks for."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *message: Any) -> None:
        """Says nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server of a folder, on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def check_space(folder: str | Path, source: Source) -> str:
    """A line about the page of a Space, once it has found in Chromium what Python finds.

    Raises:
        CheckError: if it does not, if it fails, or if it asks for anything from elsewhere.
    """
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        return "left out: the page in a browser, for which Chromium and Playwright (pip install playwright) are needed"
    asked_elsewhere: list[str] = []
    with serving(Path(folder)) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page()

        def answer(route: Any) -> None:
            if route.request.url.startswith((f"{address}/", "blob:", "data:")):
                route.continue_()
            else:
                asked_elsewhere.append(route.request.url)
                route.abort()

        page.route("**/*", answer)
        try:
            page.goto(f"{address}/index.html")
            found = page.evaluate(SCRIPT, [SAMPLE, list(CLICK)])
        except Error as error:
            raise CheckError(f"the page of the Space fails: {error.message.splitlines()[0]}") from error
        finally:
            browser.close()
    if asked_elsewhere:
        raise CheckError(f"the page of the Space asks for {asked_elsewhere[0]}, and may ask for nothing from elsewhere")
    iou = agreement(found, Path(folder, SAMPLE), source)
    if iou < SMALLEST_IOU:
        raise CheckError(f"the page of the Space finds another mask than Python: IoU {iou:.4f}")
    return f"the page finds in Chromium, without a network, what Python finds (IoU {iou:.4f})"


def agreement(found: dict[str, Any], picture: Path, source: Source) -> float:
    """IoU of a mask that was found in a picture, and of what Python finds."""
    with Image.open(picture) as image:
        pixels = np.array(image.convert("RGB"))
    segmenter = Segmenter(source.image_model(), source.processor, [ObjectPrompt(0, 1, [(*CLICK, 1)])], False)
    [wanted] = segmenter.find(pixels)
    pixels_of_columns = np.repeat(np.arange(len(found["runs"])) % 2 == 1, found["runs"])
    mask = pixels_of_columns.reshape(found["width"], found["height"]).T
    expected = wanted.mask.full()
    return float((mask & expected).sum() / max((mask | expected).sum(), 1))
