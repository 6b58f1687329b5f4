"""Labelling by the million: `label` writes a row for each item of a source, exactly once, and reports."""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ..files.writing import locked, writing
from .folder import FinishedRows, LabelFolder
from .items import Source
from .job import Engine, Job
from .labeller import Labeller
from .local_engine import LocalEngine
from .place import Place
from .settings import settings_of, start_or_go_on
from .steps import Steps

MAX_REASONS = 10  # of items that failed, in a report
SECONDS_LOCAL, SECONDS_REMOTE = 1.0, 5.0  # between looks at what is finished


def label(
    source: Source, out: str | Path, labeller: Labeller, engine: Engine | None = None, is_quiet: bool = True
) -> dict[str, Any]:
    """The report of a run, after which each item of a source has a row of masks or a file that says why not.

    A run that is stopped or killed, by whatever, is gone on with by calling this again: items that have a row are left
    out, and those that failed are tried again.

    Args:
        source: what is labelled; see `find_source`.
        out: folder or address of the results: `rows/` Parquet files of `ROW_SCHEMA`, `errors/ID.json` of items that
            failed, `done/` the ids of finished items, `label.json` the settings.
        labeller: what finds masks; see `make_labeller`.
        engine: `RayEngine`, or the `LocalEngine` of this process, which is the default.
        is_quiet: whether there is no progress bar.

    Returns:
        output: where the rows are. items: how many there are in all, or None. labelled: those of this run, and before:
        those of earlier runs. masks: of this run. seconds, items_per_second. num_failed: items without a row, and
        failed: the name and error of the first ten of them.

    Raises:
        ValueError: for a folder that was begun with other settings, in which another run writes, or that holds
            something else.
        OSError: of one line, if files cannot be written, as on a full disk; what was done stays.
        InterruptedError: if it is stopped by Ctrl-C; what was done stays.
    """
    folder = LabelFolder(Place.of(out))
    with held(folder.place):
        start_or_go_on(folder, settings_of(source, labeller))
        folder.clean()
        finished = folder.finished_ids()
        folder.errors.remove_finished(finished)
        folder.errors.remove_parts()
        counted = FinishedRows(folder, set(folder.finished_names()))
        remaining = None if source.num_items is None else max(source.num_items - len(finished), 0)
        start = time.perf_counter()
        try:
            with shown_progress(counted, remaining, is_quiet), writing(out):
                (engine or LocalEngine()).run(Job(source, Steps(labeller, folder.errors), folder, finished))
        except KeyboardInterrupt:
            counted.update()
            raise InterruptedError(
                f"stopped after {counted.num_items} items, {len(finished) + counted.num_items} with those of earlier "
                "runs: the same command goes on"
            ) from None
        seconds = time.perf_counter() - start
        counted.update()
        return {
            "output": str(folder.place),
            "items": source.num_items,
            "labelled": counted.num_items,
            "before": len(finished),
            "masks": counted.num_masks,
            "seconds": round(seconds, 1),
            "items_per_second": round(counted.num_items / seconds, 2),
            **failures(folder),
        }


def held(place: Place) -> AbstractContextManager:
    """Within the block no other run writes there, if it is on this machine; other places cannot be locked."""
    return locked(place.path) if place.is_local else nullcontext()


def failures(folder: LabelFolder) -> dict[str, Any]:
    """What a report says of the items that have no row."""
    if folder.errors.ids():  # a step that was repeated, after a process had died, may have failed once only
        folder.errors.remove_finished(folder.finished_ids())
    ids = folder.errors.ids()
    reasons = [folder.errors.read(item_id) for item_id in ids[:MAX_REASONS]]
    return {"num_failed": len(ids), "failed": [{"name": of["name"], "error": of["error"]} for of in reasons]}


@contextmanager
def shown_progress(counted: FinishedRows, total: int | None, is_quiet: bool) -> Iterator[None]:
    """Within the block a bar shows how many rows are finished, by a look at the folder now and then."""
    is_over = threading.Event()
    seconds = SECONDS_LOCAL if counted.folder.place.is_local else SECONDS_REMOTE

    def watch() -> None:
        with tqdm(total=total, unit="item", desc="label") as bar:
            while True:
                is_last = is_over.wait(seconds)
                with suppress(OSError, ValueError):  # the next look, or the report, will see it
                    bar.update(counted.update())
                if is_last:
                    break

    thread = None if is_quiet else threading.Thread(target=watch, daemon=True)
    if thread:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        if thread:
            thread.join()
