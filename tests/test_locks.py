"""Output folders: one run at a time, and nothing left of those that were killed."""

import multiprocessing
import os
import signal

import pytest

from edgetam_hf.files.writing import locked, reserved, unfinished_prefix, whole_file, whole_folder


def hold(folder, is_held):
    """Holds a lock for ever, in the middle of writing."""
    with locked(folder):
        (folder / "masks").mkdir()
        (folder / "masks" / ".writing_a.png_1").touch()
        (folder / ".writing_b_2" / "inner").mkdir(parents=True)
        is_held.set()
        signal.pause()


def test_locked_folder_is_refused_to_a_second_run_and_free_after_the_first(tmp_path):
    with locked(tmp_path / "a" / "b") as folder:
        (folder / "result").touch()
        with pytest.raises(ValueError, match=r"another run is writing to .*b: wait until it is done"), locked(folder):
            pass
    with locked(folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["result"]


def test_lock_of_a_killed_process_is_free_and_its_litter_goes(tmp_path):
    folder = tmp_path / "out"
    context = multiprocessing.get_context("fork")  # which is fast, for a process that does next to nothing
    is_held = context.Event()
    holder = context.Process(target=hold, args=(folder, is_held))
    holder.start()
    is_held.wait()
    with pytest.raises(ValueError, match="another run is writing"), locked(folder):
        pass
    holder.kill()
    holder.join()
    (folder / "masks" / "a.png").touch()
    (tmp_path / ".writing_other").touch()  # of something else, beside the folder
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "precious").touch()
    (folder / ".writing_link").symlink_to(tmp_path / "linked")
    with locked(folder):
        found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert found == [".writing_other", "linked", "linked/precious", "out", "out/.lock", "out/masks", "out/masks/a.png"]


def test_locked_folder_that_stays_empty_goes_again(tmp_path):
    with pytest.raises(KeyboardInterrupt), locked(tmp_path / "a" / "b"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_locked_rejects_a_file_and_leaves_other_processes_of_a_run_alone(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="is a file, or lies below one"), locked(path):
            pass
    with locked(tmp_path / "shared"), locked(tmp_path / "shared", is_needed=False) as folder:
        assert folder.is_dir()


def test_reserved_path_loses_what_killed_runs_left_of_it_alone(tmp_path):
    (tmp_path / ".writing_model.pt_1.pt").touch()
    (tmp_path / ".writing_model_2").mkdir()
    (tmp_path / "model.pt").touch()
    with reserved(tmp_path / "model.pt"):
        assert {".writing_model_2", "model.pt"} < {path.name for path in tmp_path.iterdir()}
        assert not (tmp_path / ".writing_model.pt_1.pt").exists()
        with pytest.raises(ValueError, match=r"another run is writing to .*model\.pt"), reserved(tmp_path / "model.pt"):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".writing_model_2", "model.pt"]
    with pytest.raises(FileNotFoundError, match="there is no folder"), reserved(tmp_path / "missing" / "model.pt"):
        pass


@pytest.mark.parametrize("name", ["a.png", "ü" * 120 + ".png", "x" * 250])
def test_unfinished_files_are_named_after_their_target(tmp_path, name):
    with whole_file(tmp_path / name) as temporary:
        assert os.path.basename(temporary).startswith(unfinished_prefix(name))
    with whole_folder(tmp_path / "folder"):
        pass
    with pytest.raises(ValueError, match="is a file, expected a new or empty"), whole_folder(tmp_path / name):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["folder", name])
