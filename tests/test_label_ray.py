"""Labelling by Ray Data: the same folder as in one process, after whatever has died in between."""

import os
import shutil
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fake_labels import FakeLabeller, FakeSource, Kill, make_source, read_errors, read_rows

from edgetam_hf.label.folder import LabelFolder
from edgetam_hf.label.place import Place
from edgetam_hf.label.run import label

SOURCE = make_source(60, poison=(3, 21, 22, 59))


@pytest.fixture(scope="module")
def engine():
    """An engine with one copy of a model, on a Ray that all tests here share."""
    pytest.importorskip("ray.data", reason="labelling in several processes needs Ray: pip install 'edgetam-hf[label]'")
    from edgetam_hf.label import ray_engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # Ray's processes need what is in tests/
        with ray_engine.connected(None):
            yield ray_engine.RayEngine(concurrency=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder of a run in this process."""
    out = tmp_path_factory.mktemp("whole") / "out"
    label(SOURCE, out, FakeLabeller())
    return out


def test_ray_writes_what_one_process_writes_and_that_goes_on_after_it(tmp_path, engine, whole):
    report = label(FakeSource(SOURCE.all_names[:40]), tmp_path / "out", FakeLabeller(), engine)
    assert report["labelled"] == report["masks"] == 37 and report["num_failed"] == 3
    report = label(SOURCE, tmp_path / "out", FakeLabeller())
    assert report["before"] == 37 and report["labelled"] == 19
    assert read_rows(tmp_path / "out") == read_rows(whole) and read_errors(tmp_path / "out") == read_errors(whole)


@dataclass(frozen=True)
class Kills:
    """Ends a process once at each step, at another item."""

    folder: Path

    def __call__(self, step, name):
        for number, other in enumerate(("prepare", "label", "finish")):
            Kill(other, f"000{35 + 5 * number}.jpg", self.folder / other)(step, name)


def test_ray_goes_on_after_one_process_and_outlives_processes_of_its_own(tmp_path, engine, whole):
    label(FakeSource(SOURCE.all_names[:30]), tmp_path / "out", FakeLabeller())
    folder = LabelFolder(Place.of(tmp_path / "out"))
    name = folder.finished_names()[0]  # as if the first process had been killed when it wrote this
    (folder.done / f"{name}.parquet").move_to(folder.done / f"{name}.pending.parquet")
    folder.row_file(name).write_whole(b"torn")
    report = label(SOURCE, tmp_path / "out", FakeLabeller(before_step=Kills(tmp_path)), engine)
    assert {path.name for path in tmp_path.iterdir()} == {"out", "prepare", "label", "finish"}
    assert report["before"] < 27 and report["before"] + report["labelled"] == 56
    assert read_rows(tmp_path / "out") == read_rows(whole) and read_errors(tmp_path / "out") == read_errors(whole)


@dataclass(frozen=True)
class KillsAlways:
    """Ends each process that comes to these items, one at each kind of process."""

    def __call__(self, step, name):
        Kill("prepare", "00001.jpg")(step, name)
        Kill("label", "00005.jpg")(step, name)


def test_ray_sets_aside_items_that_end_each_of_their_processes(tmp_path, engine, whole):
    source = FakeSource(SOURCE.all_names[:8])
    report = label(source, tmp_path / "out", FakeLabeller(before_step=KillsAlways()), engine)
    assert report["labelled"] == 5 and report["num_failed"] == 3
    for name in ("00001.jpg", "00005.jpg"):
        assert read_errors(tmp_path / "out")[name].startswith("each process that tried it has died")
    label(source, tmp_path / "out", FakeLabeller())
    assert read_rows(tmp_path / "out") == [row for row in read_rows(whole) if row["name"] in source.all_names]


def test_own_signals_do_what_they_did_before(engine):
    from edgetam_hf.label.ray_engine import own_signals

    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    received = []
    try:
        with own_signals():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]


def miss(step, name):
    raise ImportError("pip install av")


def test_ray_stops_at_a_missing_package(tmp_path, engine):
    with pytest.raises(ImportError, match=r"^pip install av$"):
        label(FakeSource(SOURCE.all_names[:4]), tmp_path / "out", FakeLabeller(before_step=miss), engine)


def test_ray_says_that_it_cannot_write_and_keeps_what_is_done(tmp_path, engine):
    label(FakeSource(SOURCE.all_names[:4]), tmp_path / "out", FakeLabeller())
    shutil.move(tmp_path / "out" / "rows", tmp_path / "rows")
    (tmp_path / "out" / "rows").touch()  # a file, in which no folder can be
    with pytest.raises(OSError, match=r"rows"):
        label(FakeSource(SOURCE.all_names[:8]), tmp_path / "out", FakeLabeller(), engine)
    assert len(LabelFolder(Place.of(tmp_path / "out")).finished_ids()) == 3


def test_ray_engine_rejects_more_gpus_than_there_are(tmp_path, engine):
    with pytest.raises(ValueError, match="--num-gpus-per-worker 1000: Ray knows of"):
        label(SOURCE, tmp_path / "out", FakeLabeller(), replace(engine, num_gpus_per_worker=1000))
