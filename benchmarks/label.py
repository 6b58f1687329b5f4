"""Pictures a second of `edgetam label` beside the bare loop over the same pictures, by workers; memory of its driver.

    python benchmarks/label.py
    python benchmarks/label.py --pictures 32 --height 300 --width 450 --repeats 1 --items 1000     # a first look

Prints a table, and after it one line of JSON with everything that is needed to compare runs.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measure import check_image_size, in_turns, make_parser, parse_arguments, print_record
from PIL import Image

EPILOG = """\
Photographs are made of random shapes, as JPEG files, for the embedded checkpoint. Each has a box that is prompted, or
everything in it is searched, with --points-per-side.
  model loop   the model alone, over pictures that are prepared already, with all threads: nothing can be quicker than
               this where the model decides
  whole loop   files are read, the model runs and masks become run lengths, one after the other
  no ray       edgetam label --no-ray: the same in threads beside the model
  ray, N       edgetam label --concurrency N: each copy of the model has one thread, files have processes of their own
Rates of Ray are counted from the first file of rows to the last: its start takes the same for any number of pictures.
On a machine that is busy with other things, threads that wait for each other make the loops slower than they are.
All take turns, and medians are shown, with their ratios to both loops.
Memory is what the driver has resident at most after a tenth of its items, and after all of them: of synthetic items, of
which the model is given 200 kB each and that have one mask each.
"""
SIDES = ("model loop", "whole loop", "no ray", "ray, 1", "ray, 2")
ENGINES = ("no ray", "ray, 1")  # whose memory is measured


def read_settings():
    """The command line's settings."""
    parser = make_parser(__doc__.splitlines()[0], EPILOG)
    parser.set_defaults(image_size=256)
    parser.add_argument("--pictures", type=int, default=400, metavar="N", help="(%(default)s)")
    parser.add_argument("--height", type=int, default=600, metavar="N", help="of the pictures (%(default)s)")
    parser.add_argument("--width", type=int, default=900, metavar="N", help="of the pictures (%(default)s)")
    parser.add_argument("--points-per-side", type=int, metavar="N", help="search everything with N x N points")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="pictures at once (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="timed rounds (%(default)s)")
    parser.add_argument("--items", type=int, default=10_000, metavar="N", help="for the memory (%(default)s)")
    parser.add_argument("--only", choices=("rate", "memory"), help="one of the two parts")
    parser.add_argument("--memory-of", choices=ENGINES, help="(used by the program itself)")
    arguments = parse_arguments(parser)
    check_image_size(parser, "--image-size", arguments.image_size, 32)
    for name in ("height", "width", "batch_size", "repeats"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 or more, got {getattr(arguments, name)}")
    if arguments.pictures < 4 * arguments.batch_size:
        parser.error(f"--pictures must be four batches or more, {4 * arguments.batch_size}, to count a rate from")
    return arguments


def make_pictures(folder, arguments):
    """Items of pictures of random shapes, with a box in each."""
    from edgetam_hf.label.items import Item, Prompt

    rng = np.random.default_rng(0)
    height, width = arguments.height, arguments.width
    y, x = np.mgrid[:height, :width]
    items = []
    for idx in range(arguments.pictures):
        pixels = rng.integers(0, 60, (height, width, 3))
        for _ in range(8):
            center_x, center_y, radius = rng.integers(0, width), rng.integers(0, height), rng.integers(9, 99)
            pixels[(x - center_x) ** 2 + (y - center_y) ** 2 < radius**2] = rng.integers(0, 255, 3)
        path = Path(folder) / f"{idx:06}.jpg"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        box = (width / 4, height / 4, width / 2, height / 2)
        items.append(Item(path.name, address=str(path), prompts=(Prompt(1, box=box),)))
    return items


def make_labeller(arguments):
    """What labels boxes, or everything, with the embedded checkpoint."""
    from edgetam_hf.label.label_settings import EVERYTHING, LabelSettings
    from edgetam_hf.label.make_labeller import make_labeller
    from edgetam_hf.loading import ModelChoice

    choice = ModelChoice("nano", arguments.device, arguments.dtype, arguments.image_size)
    settings = LabelSettings()
    if arguments.points_per_side:
        settings = LabelSettings(EVERYTHING, mask_generation={"points_per_crop": arguments.points_per_side})
    return make_labeller(settings, choice, arguments.batch_size)


def make_engine(name):
    """The engine of a side."""
    from edgetam_hf.label.local_engine import LocalEngine
    from edgetam_hf.label.ray_engine import RayEngine

    return LocalEngine() if name == "no ray" else RayEngine(concurrency=int(name.partition(", ")[2]))


def rate_of_loop(items, labeller, is_whole):
    """Pictures a second of a loop over batches; with files and run lengths if it is the whole one."""
    prepared = None if is_whole else [labeller.prepare(item) for item in items]
    start = time.perf_counter()
    for first in range(0, len(items), labeller.batch_size):
        batch = slice(first, first + labeller.batch_size)
        of_batch = prepared[batch] if prepared else [labeller.prepare(item) for item in items[batch]]
        found = labeller.label(of_batch)
        if is_whole:
            rows = [labeller.finish(one).to_row() for one in found]
            assert len(rows) == len(found)
    return len(items) / (time.perf_counter() - start)


def rate_of_engine(items, labeller, name):
    """Pictures a second; those of Ray from the first file of rows to the last."""
    import pyarrow.parquet as pq

    from edgetam_hf.label.run import label
    from edgetam_hf.label.sources import find_source

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        report = label(find_source(items), f"{folder}/labels", labeller, make_engine(name))
        assert report["labelled"] == len(items)
        if name == "no ray":
            return len(items) / (time.perf_counter() - start)
        files = sorted(Path(folder, "labels", "rows").iterdir(), key=lambda file: file.stat().st_mtime)
        seconds = files[-1].stat().st_mtime - files[0].stat().st_mtime
        return (len(items) - pq.read_metadata(files[0]).num_rows) / seconds


def measure_rates(arguments):
    """Medians of pictures a second by side."""
    with tempfile.TemporaryDirectory() as folder:
        items, labeller = make_pictures(folder, arguments), make_labeller(arguments)
        rate_of_loop(items[: labeller.batch_size], labeller, is_whole=True)  # loads the model
        rates = {name: [] for name in SIDES}
        for round_idx in range(arguments.repeats):
            for name in in_turns(SIDES, round_idx):
                if name.endswith("loop"):
                    rates[name].append(rate_of_loop(items, labeller, name.startswith("whole")))
                else:
                    rates[name].append(rate_of_engine(items, labeller, name))
    return {name: statistics.median(of_side) for name, of_side in rates.items()}


@dataclass(frozen=True)
class NamesPart:
    """Items without files."""

    name: str
    numbers: range

    def __iter__(self):
        from edgetam_hf.label.items import Item

        for number in self.numbers:
            yield Item(f"{number:08}.jpg", address="nowhere")


@dataclass(frozen=True)
class NamesSource:
    """A source of so many such items."""

    num_items: int
    name: str = "synthetic"
    kind: str = "picture"
    description: str = "synthetic"

    def parts(self, num_parts):
        """See `Source`."""
        size = -(-self.num_items // num_parts)
        starts = range(0, self.num_items, size)
        return [NamesPart(f"{start}", range(start, min(start + size, self.num_items))) for start in starts]


class NothingLabeller:
    """A labeller that looks for nothing in items of some size, and finds a mask in each."""

    batch_size = 8
    provenance = ("0", "{}")

    def prepare(self, item):
        """An empty picture."""
        return item, np.zeros((3, 256, 256), np.uint8)

    def label(self, prepared):
        """The items alone."""
        return [item for item, _ in prepared]

    def finish(self, item):
        """A row with a mask."""
        from edgetam_hf.label.rows import MaskRow, Row

        return Row(item, 256, 256, [MaskRow(1, 0, "P" * 400, 0.5, [0.0, 0.0, 9.0, 9.0], 81)], *self.provenance)


def resident_megabytes():
    """What this process has in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def print_memory(arguments):
    """Prints as JSON the megabytes of this process after a tenth of the items, and after all."""
    from edgetam_hf.label.folder import LabelFolder
    from edgetam_hf.label.place import Place
    from edgetam_hf.label.run import label

    most, is_over = {"tenth": 0.0, "all": 0.0}, threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        out = LabelFolder(Place.of(f"{folder}/labels"))

        def watch():
            num_files = max(arguments.items / 10 / 8, 1)
            while not is_over.wait(0.2):
                part = "tenth" if len(out.finished_names()) <= num_files else "all"
                most[part] = max(most[part], resident_megabytes())

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            label(NamesSource(arguments.items), f"{folder}/labels", NothingLabeller(), make_engine(arguments.memory_of))
        finally:
            is_over.set()
            thread.join()
    print(json.dumps(most))


def measure_memory(arguments):
    """Megabytes of the driver by engine, after a tenth of the items and after all."""
    memory = {}
    for name in ENGINES:
        command = [sys.executable, __file__, "--memory-of", name, "--items", str(arguments.items)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(f"{name} failed:\n{run.stderr}")
        memory[name] = json.loads(run.stdout.splitlines()[-1])
    return memory


def main():
    """Runs everything and prints the tables and the JSON line."""
    arguments = read_settings()
    if arguments.memory_of:
        print_memory(arguments)
        return
    results = {}
    if arguments.only != "memory":
        rates = measure_rates(arguments)
        loops = [name for name in SIDES if name.endswith("loop")]
        print(f"{'':<14}{'pictures/s':>12}{'of model loop':>16}{'of whole loop':>16}")
        for name, rate in rates.items():
            ratios = [rate / rates[loop] for loop in loops]
            results[name] = {"per_second": round(rate, 2)}
            results[name] |= {f"of_{loop.replace(' ', '_')}": round(ratio, 3) for loop, ratio in zip(loops, ratios)}
            print(f"{name:<14}{rate:>12.2f}{ratios[0]:>16.2f}{ratios[1]:>16.2f}")
    if arguments.only != "rate":
        results["memory_mb"] = measure_memory(arguments)
        print(f"{'':<14}{'a tenth MB':>12}{'all MB':>8}   of {arguments.items} items")
        for name, of_engine in results["memory_mb"].items():
            print(f"{name:<14}{of_engine['tenth']:>12.0f}{of_engine['all']:>8.0f}")
    print_record("label", arguments, results)


if __name__ == "__main__":
    main()
