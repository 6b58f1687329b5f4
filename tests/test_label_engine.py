"""Labelling in this process: each item once, whatever ends a run, and only with the settings that it was begun with."""

import errno
import json
import multiprocessing
import types

import pytest
from fake_labels import FakeLabeller, FakeSource, Kill, make_source, read_errors, read_rows

from edgetam_hf.files.writing import locked
from edgetam_hf.label import job, local_engine
from edgetam_hf.label.folder import LabelFolder
from edgetam_hf.label.job import Job
from edgetam_hf.label.labeller import Provenance
from edgetam_hf.label.local_engine import LocalEngine
from edgetam_hf.label.place import Place
from edgetam_hf.label.run import label
from edgetam_hf.label.settings import read_settings
from edgetam_hf.label.steps import Steps

SOURCE = make_source(40, poison=(3, 11, 12, 39))
REASONS = {"prepare": "cannot prepare it", "label": "cannot label it", "finish": "cannot finish it"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Rows of a run that nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "out"
    label(SOURCE, out, FakeLabeller())
    return read_rows(out)


def test_label_writes_a_row_for_each_item_and_says_why_there_is_none(tmp_path, whole):
    report = label(SOURCE, tmp_path / "out", FakeLabeller())
    assert report["items"] == 40 and report["labelled"] == report["masks"] == 36 and report["before"] == 0
    assert {row["name"] for row in whole} == {name for name in SOURCE.all_names if name.endswith(".jpg")}
    errors = read_errors(tmp_path / "out")
    assert errors.pop("poison at bug 39") == "KeyError: 'a fault'"
    assert errors == {f"poison at {step} {idx}": REASONS[step] for step, idx in zip(REASONS, (3, 11, 12))}
    assert report["num_failed"] == 4 and {"name": "poison at label 11", "error": "cannot label it"} in report["failed"]


def test_label_goes_on_with_what_is_left(tmp_path, whole):
    label(SOURCE, tmp_path / "out", FakeLabeller())
    report = label(SOURCE, tmp_path / "out", FakeLabeller(batch_size=3))
    assert report["labelled"] == 0 and report["before"] == 36 and report["num_failed"] == 4
    assert read_rows(tmp_path / "out") == whole


def test_label_removes_the_errors_of_items_that_succeed_later(tmp_path, whole):
    (tmp_path / "out" / "errors").mkdir(parents=True)
    label(SOURCE, tmp_path / "out", FakeLabeller(before_step=fail_at_first))
    assert len(read_errors(tmp_path / "out")) == 6
    label(SOURCE, tmp_path / "out", FakeLabeller())
    assert len(read_errors(tmp_path / "out")) == 4 and read_rows(tmp_path / "out") == whole


def fail_at_first(step, name):
    if (step, name) in (("prepare", "00001.jpg"), ("finish", "00030.jpg")):
        raise OSError("the network is down")


def test_label_stops_at_a_missing_package(tmp_path):
    def miss(step, name):
        raise ImportError("pip install av")

    with pytest.raises(ImportError, match="pip install av"):
        label(SOURCE, tmp_path / "out", FakeLabeller(before_step=miss))
    assert read_errors(tmp_path / "out") == {}


def test_label_reads_a_part_up_to_its_damage(tmp_path):
    source = FakeSource(["a", "b", "damage", "c"])
    report = label(source, tmp_path / "out", FakeLabeller())
    assert report["labelled"] == 2 and read_errors(tmp_path / "out") == {"part 0": "part 0 is damaged"}
    report = label(FakeSource(["a", "b", "mended", "c"]), tmp_path / "out", FakeLabeller())
    assert report["labelled"] == 2 and report["num_failed"] == 0


@pytest.mark.parametrize("step", ["prepare", "label", "finish"])
def test_label_goes_on_after_its_process_was_killed(tmp_path, whole, step):
    run_killed(tmp_path / "out", FakeLabeller(before_step=Kill(step, "00029.jpg")))
    done = len(LabelFolder(Place.of(tmp_path / "out")).finished_ids())
    assert 4 <= done < 36  # files of a batch at least, and two batches before and behind the model
    report = label(SOURCE, tmp_path / "out", FakeLabeller())
    assert report["before"] == done and read_rows(tmp_path / "out") == whole


@pytest.mark.parametrize("call", range(9))
def test_label_goes_on_after_a_kill_between_any_two_changes_of_files(tmp_path, whole, call, monkeypatch):
    label(FakeSource([]), tmp_path / "out", FakeLabeller())
    num_calls = 0

    def killed(function):
        def change(*arguments):
            nonlocal num_calls
            num_calls += 1
            if num_calls > call:
                raise KeyboardInterrupt
            return function(*arguments)

        return change

    monkeypatch.setattr(Place, "write_whole", killed(Place.write_whole))
    monkeypatch.setattr(Place, "move_to", killed(Place.move_to))
    with pytest.raises(KeyboardInterrupt):
        run_engine(tmp_path / "out", FakeLabeller())
    monkeypatch.undo()
    label(SOURCE, tmp_path / "out", FakeLabeller())
    assert read_rows(tmp_path / "out") == whole and len(read_errors(tmp_path / "out")) == 4


def run_engine(out, labeller):
    """A run of the engine alone, with one thread."""
    folder = LabelFolder(Place.of(out))
    LocalEngine(num_threads=1).run(Job(SOURCE, Steps(labeller, folder.errors), folder, folder.finished_ids()))


def run_killed(out, labeller):
    """A run in a process of its own, which kills itself."""
    process = multiprocessing.get_context("fork").Process(target=label, args=(SOURCE, out, labeller))
    process.start()
    process.join()
    assert process.exitcode == -9


def test_folder_removes_rows_that_are_written_again_when_it_is_cleaned(tmp_path, whole):
    label(SOURCE, tmp_path / "out", FakeLabeller())
    folder = LabelFolder(Place.of(tmp_path / "out"))
    name = folder.finished_names()[0]
    (folder.done / f"{name}.pending.parquet").write_whole((folder.done / f"{name}.parquet").read())
    folder.row_file(name).write_whole(b"torn")
    folder.clean()
    assert name not in folder.finished_names() and 0 < len(read_rows(tmp_path / "out")) < 36
    label(SOURCE, tmp_path / "out", FakeLabeller())
    assert read_rows(tmp_path / "out") == whole


def test_label_writes_few_files_of_many_items_and_soon_where_items_are_slow(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "FILES", 10)
    label(make_source(800), tmp_path / "many", FakeLabeller())
    assert len(LabelFolder(Place.of(tmp_path / "many")).finished_names()) <= 10
    monkeypatch.setattr(local_engine, "SECONDS_PER_FILE", 0)
    label(make_source(800), tmp_path / "slow", FakeLabeller())
    assert len(LabelFolder(Place.of(tmp_path / "slow")).finished_names()) > 20


@pytest.mark.parametrize(
    ("num_items", "batch_size", "rows", "parts"),
    [(20, 8, 8, 1), (20, 1, 1, 2), (400, 8, 8, 4), (100_000, 8, 100, 782), (10**7, 8, 256, 4096), (None, 8, 64, 256)],
)
def test_job_has_few_files_and_parts_of_many_items(num_items, batch_size, rows, parts):
    source = types.SimpleNamespace(num_items=num_items)
    of_size = Job(source, Steps(FakeLabeller(batch_size=batch_size), None), None, None)
    assert (of_size.rows_per_file, of_size.num_parts) == (rows, parts)


def test_label_notes_its_settings(tmp_path):
    label(SOURCE, tmp_path / "out", FakeLabeller())
    expected = {"source": "fake", "kind": "picture", "checkpoint": "00ff", "what": "fakes", "image_size": 8}
    assert read_settings(LabelFolder(Place.of(tmp_path / "out"))) == expected
    assert set(json.loads((tmp_path / "out" / "label.json").read_text())["versions"]) >= {"torch", "edgetam_hf"}


def test_label_rejects_other_settings(tmp_path):
    label(SOURCE, tmp_path / "out", FakeLabeller())
    other = Provenance("00fe", json.dumps({"what": "fakes", "image_size": 16, "more": {"of": None, "it": 1}}))
    with pytest.raises(
        ValueError, match=r'checkpoint was "00ff" and is "00fe", image_size was 8 and is 16, more.it was'
    ):
        label(SOURCE, tmp_path / "out", FakeLabeller(provenance=other))
    with pytest.raises(ValueError, match='source was "fake" and is "others"'):
        label(FakeSource([], description="others"), tmp_path / "out", FakeLabeller())


@pytest.mark.parametrize("content", ["", "[]", '{"settings": 3}'])
def test_label_rejects_damaged_settings(tmp_path, content):
    label(SOURCE, tmp_path / "out", FakeLabeller())
    (tmp_path / "out" / "label.json").write_text(content)
    with pytest.raises(ValueError, match=r"label.json is damaged"):
        label(SOURCE, tmp_path / "out", FakeLabeller())


def test_label_rejects_a_folder_of_something_else(tmp_path):
    (tmp_path / "diary.txt").touch()
    with pytest.raises(ValueError, match=r"holds other files, such as diary.txt"):
        label(SOURCE, tmp_path, FakeLabeller())


def test_label_rejects_labels_without_their_settings(tmp_path):
    label(SOURCE, tmp_path / "out", FakeLabeller())
    (tmp_path / "out" / "label.json").unlink()
    with pytest.raises(ValueError, match=r"has labels, but no .*label.json"):
        label(SOURCE, tmp_path / "out", FakeLabeller())


def test_label_rejects_a_second_run(tmp_path):
    with locked(tmp_path / "out"), pytest.raises(ValueError, match="another run is writing"):
        label(SOURCE, tmp_path / "out", FakeLabeller())


@pytest.mark.parametrize("folder", ["rows", "done", "errors"])
def test_label_says_that_the_disk_is_full_and_keeps_what_is_done(tmp_path, whole, monkeypatch, folder):
    written, space = Place.write_whole, {"rows": 2, "done": 2, "errors": 2}

    def write(place, data):
        space[folder] -= f"/{folder}/" in place.path
        if space[folder] < 0:
            monkeypatch.setattr(type(place), "write_whole", written)
            fail = OSError(errno.ENOSPC, "No space left on device")
            raise OSError(f"could not write {place}: {fail}")
        written(place, data)

    monkeypatch.setattr(Place, "write_whole", write)
    with pytest.raises(OSError, match=r"could not write .*out/.*No space left"):
        label(SOURCE, tmp_path / "out", FakeLabeller())
    assert len(LabelFolder(Place.of(tmp_path / "out")).finished_ids()) >= (0 if folder == "errors" else 8)
    label(SOURCE, tmp_path / "out", FakeLabeller())
    assert read_rows(tmp_path / "out") == whole


def test_label_keeps_what_is_done_when_it_is_interrupted(tmp_path, whole):
    def interrupt(step, name):
        if (step, name) == ("label", "00030.jpg"):
            raise KeyboardInterrupt

    with pytest.raises(InterruptedError, match=r"stopped after 2\d items, 2\d with those of earlier runs"):
        label(SOURCE, tmp_path / "out", FakeLabeller(before_step=interrupt))
    assert len(read_rows(tmp_path / "out")) >= 24  # all batches before
    label(SOURCE, tmp_path / "out", FakeLabeller())
    assert read_rows(tmp_path / "out") == whole


def test_label_writes_where_fsspec_reaches(whole):
    import fsspec

    label(SOURCE, "memory://labels/out", FakeLabeller())
    label(SOURCE, "memory://labels/out", FakeLabeller())
    assert read_rows("memory://labels/out") == whole
    fsspec.filesystem("memory").rm("/labels", recursive=True)


def test_label_shows_how_many_items_remain(tmp_path, capsys):
    label(SOURCE, tmp_path / "out", FakeLabeller(), is_quiet=False)
    assert "36/40" in capsys.readouterr().err
