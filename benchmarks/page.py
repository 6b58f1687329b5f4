"""Milliseconds from a click to its mask in the page of `edgetam demo`, with the embedded checkpoint, in Chromium.

    python benchmarks/page.py --ort node_modules/onnxruntime-web/dist
    python benchmarks/page.py --ort node_modules/onnxruntime-web/dist --exported nano_onnx --clicks 40

Prints a table, and after it one line of JSON with everything that is needed to compare runs.
"""

import argparse
import base64
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch
from measure import print_record
from playwright.sync_api import sync_playwright

import edgetam_hf
from edgetam_hf import EdgeTamVideoModel, EdgeTamVideoProcessor, nano_checkpoint
from edgetam_hf.export.exporter import ExportPlan, export

EPILOG = """\
The clock is performance.now of the page: it starts where a click is given to the engine, and stops when the mask is
there as pixels of the picture. Engines: the server, and WebAssembly in the browser, on the threads that it has.
  picture, first click   right after a picture of 384x303 is opened, which is encoded meanwhile
  picture, click         further clicks there; the others are on a clip of 480x320
  video, another frame   the first click on a frame, which is decoded and encoded for it
  video, same frame      a further click on it
Without --exported the checkpoint is exported first, which takes minutes.
"""
ROOT = Path(__file__).parents[1]
PICTURE, CLIP = Path(edgetam_hf.__file__).parent / "samples" / "coins.jpg", ROOT / "examples" / "coins.mp4"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SCRIPT = """async ([picture, clip, numClicks]) => {
  const { startEngine } = await import("/page/engine.js");
  const { decodeRuns } = await import("/page/runs.js");
  const engine = await startEngine(await (await fetch("/settings.json")).json());
  const file = (base64, name, type) => {
    return new File([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], name, { type });
  };
  const timed = async (media, find) => {
    const started = performance.now();
    for (const { runs } of await find()) decodeRuns(runs, media);
    return performance.now() - started;
  };
  const click = (i) => ({ points: [[205 + (i % 12), 186 + (i % 9)]], labels: [1], box: null, mask: null });
  const kinds = ["picture, first click", "picture, click", "video, another frame", "video, same frame"];
  const times = Object.fromEntries(kinds.map((kind) => [kind, []]));
  for (let i = 0; i < 5; i++) {
    const media = await engine.open(file(picture, "coins.jpg", "image/jpeg"));
    const find = () => engine.segment(click(i), true);
    if (i === 0) await find(); // what is slow once
    else times["picture, first click"].push(await timed(media, find));
  }
  const media = { width: 384, height: 303 };
  for (let i = 0; i < numClicks; i++) {
    times["picture, click"].push(await timed(media, () => engine.segment(click(i), true)));
  }
  const video = await engine.open(file(clip, "coins.mp4", "video/mp4"));
  const add = async (frameIdx, i) => (await engine.addPrompt(frameIdx, frameIdx + 1, click(i))).objects;
  await add(0, 0);
  for (let i = 0; i < numClicks; i++) {
    const frameIdx = 1 + (i % (video.numFrames - 1));
    times["video, another frame"].push(await timed(video, () => add(frameIdx, i)));
    times["video, same frame"].push(await timed(video, () => add(frameIdx, i + 1)));
    await engine.removeObject(frameIdx + 1);
  }
  await engine.close();
  return { description: engine.description, times };
}"""


def read_settings():
    """The command line's settings."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ort", type=Path, required=True, metavar="FOLDER", help="ONNX Runtime Web: its folder dist")
    parser.add_argument("--exported", type=Path, metavar="FOLDER", help="the embedded checkpoint, exported")
    parser.add_argument("--clicks", type=int, default=20, metavar="N", help="of each kind, at least 5 (%(default)s)")
    arguments = parser.parse_args()
    if arguments.clicks < 5:
        parser.error(f"--clicks must be 5 or more, got {arguments.clicks}: the median of fewer says little")
    if shutil.which("chromium") is None:
        parser.error("Chromium is needed, and there is no program chromium")
    arguments.device = "cpu"
    return arguments


def export_nano(folder):
    """Writes the embedded checkpoint for browsers."""
    model = EdgeTamVideoModel.from_pretrained(nano_checkpoint(), dtype=torch.float32).eval().requires_grad_(False)
    processor = EdgeTamVideoProcessor.from_pretrained(nano_checkpoint())
    export(model, processor, folder, ExportPlan(dtypes=("float32",), num_check_frames=0))


@contextmanager
def serving(*options):
    """The address of a server of the page."""
    command = [sys.executable, "-m", "edgetam_hf", "demo", "--no-browser", "--port", "0", *map(str, options)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            line = next(line for line in process.stdout if "http://" in line)
            yield re.search(r"http://[^\s/]+", line)[0]
        finally:
            process.terminate()


def measure(playwright, address, num_clicks):
    """Milliseconds of each kind of click, and what computes."""
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
    page = browser.new_page()
    page.goto(f"{address}/settings.json")
    files = [base64.b64encode(path.read_bytes()).decode() for path in (PICTURE, CLIP)]
    found = page.evaluate(SCRIPT, [*files, num_clicks])
    browser.close()
    return found


def main():
    """Measures both engines and prints the table and the JSON line."""
    arguments = read_settings()
    results = {}
    head = f"{'engine':<10}{'':<24}{'median ms':>10}{'slowest ms':>12}"
    with tempfile.TemporaryDirectory(prefix="edgetam_page_") as temporary, sync_playwright() as playwright:
        exported = arguments.exported or Path(temporary, "nano")
        if arguments.exported is None:
            export_nano(exported)
        options = {"server": (), "browser": ("--engine", "browser", "--model", exported, "--ort", arguments.ort)}
        print(f"{head}\n{'-' * len(head)}")
        for engine, given in options.items():
            with serving(*given) as address:
                found = measure(playwright, address, arguments.clicks)
            rows = {name: (statistics.median(times), max(times)) for name, times in found["times"].items()}
            for name, (median, slowest) in rows.items():
                print(f"{engine:<10}{name:<24}{median:>10.0f}{slowest:>12.0f}", flush=True)
            medians = {name: round(median, 1) for name, (median, _) in rows.items()}
            results[engine] = {"description": found["description"], "median_ms": medians}
    arguments.ort, arguments.exported = str(arguments.ort), str(arguments.exported)
    arguments.cores = os.cpu_count()
    print_record("page", arguments, results)


if __name__ == "__main__":
    main()
