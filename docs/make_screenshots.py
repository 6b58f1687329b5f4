"""Puts pictures of the page of `edgetam demo` into this folder, as it looks after clicks on the sample files.

Run from the root of a checkout, with Chromium: pip install -e ".[demo,test]" && python docs/make_screenshots.py
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
CLIP, COINS = ROOT / "examples" / "coins.mp4", ROOT / "edgetam_hf" / "samples" / "coins.jpg"
WINDOW = {"width": 1280, "height": 720}
# where a pixel of the picture is in the window
PLACE = """async ([x, y]) => {
  const { fit } = await import(new URL("page/zoom.js", location.href));
  const [, width, height] = document.getElementById("media-name").textContent.match(/(\\d+) × (\\d+)/).map(Number);
  const canvas = document.getElementById("canvas").getBoundingClientRect();
  const { left, top, scale } = fit({ width, height }, canvas);
  return [canvas.left + left + scale * (x + 0.5), canvas.top + top + scale * (y + 0.5)];
}"""
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def rest(page: Page) -> None:
    """Waits until the page has nothing to do."""
    page.evaluate(DRAWN)
    page.wait_for_selector("body[data-ready]:not([data-busy])", timeout=300_000)
    page.evaluate(DRAWN)


def click(page: Page, x: float, y: float) -> None:
    """Clicks on a pixel of what is open."""
    page.mouse.click(*page.evaluate(PLACE, [x, y]))
    rest(page)


def drag(page: Page, left: float, top: float, right: float, bottom: float) -> None:
    """Draws a box, given in pixels of what is open."""
    page.mouse.move(*page.evaluate(PLACE, [left, top]))
    page.mouse.down()
    page.mouse.move(*page.evaluate(PLACE, [right, bottom]), steps=3)
    page.mouse.up()
    rest(page)


def press(page: Page, *keys: str) -> None:
    """Presses keys, one after the other."""
    for key in keys:
        page.keyboard.press(key)
        rest(page)


def show_video(page: Page) -> None:
    """Two coins followed through the clip, one of them corrected on the way."""
    page.set_input_files("#file", CLIP)
    rest(page)
    click(page, 65, 110)
    press(page, "n")
    drag(page, 160, 111, 252, 203)
    press(page, "f")
    page.fill("#frame-number", "15")
    page.press("#frame-number", "Enter")
    page.locator("#canvas").focus()
    rest(page)
    click(page, 240, 66)
    page.mouse.move(640, 540)
    rest(page)


def show_picture(page: Page) -> None:
    """Three coins of the photograph, in the dark."""
    page.emulate_media(color_scheme="dark")
    page.set_input_files("#file", COINS)
    rest(page)
    click(page, 211, 192)
    press(page, "n")
    click(page, 45, 55)
    press(page, "n")
    click(page, 270, 118)
    page.mouse.move(640, 700)
    rest(page)


def main() -> None:
    """Starts the server, and takes the pictures."""
    command = [sys.executable, "-u", "-m", "edgetam_hf", "demo", "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = re.search(r"http://\S+", process.stdout.readline())
    assert address is not None
    try:
        with sync_playwright() as playing:
            browser = playing.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for name, show in {"demo": show_video, "demo_picture": show_picture}.items():
                page = browser.new_page(viewport=WINDOW)
                page.goto(address[0])
                rest(page)
                show(page)
                page.screenshot(path=Path(__file__).with_name(f"{name}.png"))
                page.close()
            browser.close()
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
