"""Pictures and clips labelled on a cluster of Ray from which processes, a machine and the driver are taken."""

import multiprocessing
import os
import shutil
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from fake_labels import read_errors, read_rows
from PIL import Image

from edgetam_hf.label.folder import LabelFolder
from edgetam_hf.label.items import CLIP, PICTURE, Item, Prompt
from edgetam_hf.label.label_settings import LabelSettings
from edgetam_hf.label.make_labeller import make_labeller
from edgetam_hf.label.place import Place
from edgetam_hf.label.run import label
from edgetam_hf.label.sources import find_source
from edgetam_hf.loading import ModelChoice

NUM_PICTURES, NUM_CLIPS, NUM_FRAMES, SIDE = 200, 10, 3, 64
MOST_SECONDS = 300  # to wait for anything


class PicturesAndClips:
    """A source of both."""

    kind, name, description = "picture", "both", "both"

    def __init__(self, items):
        self.sources = [find_source([item for item in items if item.kind == kind]) for kind in (PICTURE, CLIP)]
        self.num_items = len(items)

    def parts(self, num_parts):
        return [part for source in self.sources for part in source.parts(num_parts)]


def make_source(folder):
    """Tiny pictures and clips of a square that is prompted by a box; three pictures and two clips are poison."""
    items = [make_picture(folder, idx) for idx in range(NUM_PICTURES)]
    items += [make_clip(folder, idx) for idx in range(NUM_CLIPS)]
    for broken in (items[7].address, items[150].address, f"{items[-3].address}/1.png"):
        with open(broken, "wb") as file:
            file.write(b"broken")
    shutil.rmtree(items[-9].address)
    outside = Prompt(1, box=(100, 100, 110, 110))
    items[190] = Item(items[190].name, PICTURE, items[190].address, prompts=(outside,))
    return PicturesAndClips(items)


def make_picture(folder, idx):
    x, y = 4 + idx % 20, 4 + idx // 20
    path = folder / "pictures" / f"{idx:03}.png"
    draw_square(path, x, y)
    return Item(f"pictures/{path.name}", PICTURE, str(path), prompts=(Prompt(1, box=(x, y, x + 30, y + 30)),))


def make_clip(folder, idx):
    path = folder / "clips" / f"{idx:02}"
    for frame in range(NUM_FRAMES):
        draw_square(path / f"{frame}.png", 4 + idx + frame, 10)
    return Item(f"clips/{path.name}", CLIP, str(path), prompts=(Prompt(1, box=(4 + idx, 10, 34 + idx, 40)),))


def draw_square(path, x, y):
    pixels = np.full((SIDE, SIDE, 3), 60, np.uint8)
    pixels[y : y + 30, x : x + 30] = (220, 120, 40)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def label_on_cluster(source, out, labeller, address):
    from edgetam_hf.label.ray_engine import RayEngine

    label(source, out, labeller, RayEngine(address, concurrency=2))


def start(*arguments):
    """A process of its own that labels."""
    process = multiprocessing.get_context("spawn").Process(target=label_on_cluster, args=arguments)
    process.start()
    return process


def wait_until(is_so, process):
    """Waits until something is so, while a process goes on."""
    latest = time.monotonic() + MOST_SECONDS
    while not is_so():
        assert process.is_alive() and time.monotonic() < latest
        process.join(0.05)


def test_cluster_labels_each_item_once_whatever_dies(tmp_path, monkeypatch):
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="a cluster needs Ray: pip install 'ray[data]'")
    for name, value in {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    source, out = make_source(tmp_path), tmp_path / "out"
    labeller = make_labeller(LabelSettings(), ModelChoice("nano", dtype="float32"), batch_size=2)
    folder = LabelFolder(Place.of(out))

    def num_finished():
        return len(folder.finished_names())

    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=2)
        driver = start(source, out, labeller, cluster.address)
        wait_until(lambda: num_finished() >= 4, driver)
        raylets = {of_node.all_processes["raylet"][0].process.pid for of_node in (cluster.head_node, second)}
        models = [process for process in psutil.process_iter() if is_model_of(process, raylets)]
        models[0].kill()
        wait_until(lambda: num_finished() >= 12, driver)
        cluster.remove_node(second, allow_graceful=False)
        wait_until(lambda: num_finished() >= 40, driver)
        driver.kill()
        driver.join()
        num_before = len(folder.finished_ids())
        assert 50 < num_before < 200
        driver = start(source, out, labeller, cluster.address)
        driver.join(MOST_SECONDS)
        assert driver.exitcode == 0
    finally:
        cluster.shutdown()

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    label(source, tmp_path / "whole", labeller)
    torch.set_num_threads(before)
    rows, whole = read_rows(out), read_rows(tmp_path / "whole")
    assert len(rows) == NUM_PICTURES + NUM_CLIPS - 5 and len({row["id"] for row in rows}) == len(rows)
    assert [without_scores(row) for row in rows] == [without_scores(row) for row in whole]
    assert scores(rows) == pytest.approx(scores(whole), abs=1e-4)
    errors = read_errors(out)
    assert errors == read_errors(tmp_path / "whole") and len(errors) == 5


def is_model_of(process, raylets):
    """Whether a process is a copy of the model that one of these has started."""
    try:
        return process.ppid() in raylets and process.cmdline()[0].startswith("ray::MapWorker")
    except (psutil.Error, IndexError):  # it is just ending
        return False


def without_scores(row):
    return {**row, "masks": [{**mask, "score": None} for mask in row["masks"]]}


def scores(rows):
    return [mask["score"] for row in rows for mask in row["masks"]]
