"""The output folder of a training: how files get there whole, and what an earlier run left in it."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..files.reading import read_json
from ..files.writing import LOCK, UNFINISHED, remove, write_json_whole

WRITING = f"{UNFINISHED}by_all_processes"
RECORD = "run.json"  # the settings of the run
FINISHED = "config.json"  # of the trained model: the last file that gets to the output folder
# what may differ when a run goes on, since weights do not depend on it
FREE_SETTINGS = {"modules", "picture_steps", "num_validation_items", "validation"}
FREE_ARGUMENTS = re.compile(
    r"output_dir|(save|logging|eval|report|dataloader|log|hub|push)_.*|gradient_accumulation_steps|disable_tqdm|"
    r"per_device_(train|eval)_batch_size|run_name"  # the number of items per step is compared
)


@contextmanager
def whole_entries(folder: str | Path, wait_for_everyone: Callable[[], None], is_mover: bool) -> Iterator[Path]:
    """Path of a temporary folder whose entries move to `folder` when the block ends; if it raises, they vanish.

    The file `FINISHED` moves last: where it is, all others are.

    Args:
        folder: where they go.
        wait_for_everyone: keeps the processes that write into it together.
        is_mover: whether this process moves what all have written.
    """
    temporary = Path(folder) / WRITING
    temporary.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        wait_for_everyone()
        if is_mover:
            for entry in sorted(temporary.iterdir(), key=lambda entry: entry.name == FINISHED):
                target = Path(folder) / entry.name
                if target.is_dir():  # of a process that was killed here
                    remove(target)
                os.replace(entry, target)
            temporary.rmdir()
        wait_for_everyone()
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def list_checkpoints(folder: str | Path) -> list[Path]:
    """Folders of checkpoints, the latest one last."""
    found = (path for path in Path(folder).glob("checkpoint-*") if re.fullmatch(r"checkpoint-[0-9]+", path.name))
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def remove_old_checkpoints(folder: str | Path, num_kept: int, best: str | None = None) -> None:
    """Leaves the latest `num_kept` checkpoints, and the best one."""
    for path in list_checkpoints(folder)[:-num_kept]:
        if best is None or path != Path(best):
            remove(path)


def name_last_checkpoint(folder: str | Path) -> str:
    """The end of an error message: which checkpoint is left."""
    checkpoints = list_checkpoints(folder)
    return f"the last good checkpoint is {checkpoints[-1]}" if checkpoints else "there is no checkpoint yet"


def is_finished(folder: str | Path) -> bool:
    """Whether the trained model is in the folder."""
    return (Path(folder) / FINISHED).exists()


def check_folder(folder: str | Path, record: dict[str, Any], is_resumed: bool) -> None:
    """Raises a ValueError unless the folder is free for a run, or holds an unfinished one that may go on.

    A run without a checkpoint has nothing to go on from: another one may take its place.

    Args:
        folder: where the run goes.
        record: its settings as a dictionary, see `write_record`.
        is_resumed: whether it goes on.
    """
    folder = Path(folder)
    if not [path for path in folder.iterdir() if path.name != LOCK]:
        return
    try:
        known = read_json(folder / RECORD)
        if "trainer" not in known:
            raise ValueError(f"{folder / RECORD} is not of a training")
    except ValueError as error:
        raise ValueError(f"folder {folder} has files of something else, choose another --output: {error}") from error
    if not is_finished(folder) and not list_checkpoints(folder):
        return
    if not is_resumed:
        state = "a finished run" if is_finished(folder) else "an unfinished run: go on with --resume, or"
        raise ValueError(f"{folder} has {state}{': ' if is_finished(folder) else ' '}choose another --output")
    if other := sorted(_differences(known, json.loads(json.dumps(record)))):
        raise ValueError(f"{folder} has a run with another {', '.join(other)}: leave that as it was to resume")


def _differences(known: dict[str, Any], wanted: dict[str, Any], path: str = "") -> Iterator[str]:
    """Keys at which two nested dictionaries differ, with dots, but for those that may."""
    for key in known.keys() | wanted.keys():
        name, one, other = f"{path}{key}", known.get(key), wanted.get(key)
        if name in FREE_SETTINGS or (path == "trainer." and FREE_ARGUMENTS.fullmatch(key)) or one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{name}.")
        else:
            yield name


def write_record(folder: str | Path, record: dict[str, Any]) -> None:
    """Writes the settings of a run into its folder."""
    write_json_whole(record, Path(folder) / RECORD)
