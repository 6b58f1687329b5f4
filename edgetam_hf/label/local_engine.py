"""Labelling in this process: files are read and rows are made by threads, beside the model."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from .job import Job, in_batches, read_part
from .steps import Passed

SECONDS_PER_FILE = 10.0  # after so long, rows are written even if they are few
BATCHES_AHEAD = 2  # that are prepared, and that are finished, beside the model


@dataclass(frozen=True)
class LocalEngine:
    """An engine of threads; None for as many as there are processors."""

    num_threads: int | None = None
    device: None = None

    def opened(self) -> AbstractContextManager[None]:
        """See `Engine`."""
        return nullcontext()

    def run(self, job: Job) -> None:
        """See `Engine`."""
        pool = ThreadPoolExecutor(self.num_threads or os.cpu_count() or 1)
        try:
            items = (
                item
                for part in job.source.parts(job.num_parts)
                for item in read_part(part, job.finished, job.steps.errors)
            )
            rows = RowsOnTheWay(job, pool)
            try:
                prepared = ahead(pool, job.steps.prepare, items, BATCHES_AHEAD * job.batch_size)
                for batch in in_batches((passed for passed in prepared if passed is not None), job.batch_size):
                    rows.add(job.steps.label(batch))
            finally:  # also of a run that is stopped
                rows.write_all()
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass
class RowsOnTheWay:
    """Rows that are being made, and those that wait for the others of their file."""

    job: Job
    pool: ThreadPoolExecutor
    unfinished: deque[Future] = field(default_factory=deque)
    rows: list[dict[str, Any]] = field(default_factory=list)
    written: float = field(default_factory=time.monotonic)  # when that was done last

    def add(self, found: list[Passed]) -> None:
        """Begins rows of what was found in a batch, and writes those that are ready, if they are enough."""
        self.unfinished += [self.pool.submit(self.job.steps.finish, passed) for passed in found]
        most = BATCHES_AHEAD * self.job.batch_size
        while self.unfinished and (len(self.unfinished) > most or self.unfinished[0].done()):
            self._take()
        is_late = time.monotonic() > self.written + SECONDS_PER_FILE
        if len(self.rows) >= self.job.rows_per_file or is_late:
            self._write()

    def write_all(self) -> None:
        """Waits for all rows, and writes them."""
        while self.unfinished:
            self._take()
        self._write()

    def _take(self) -> None:
        row = self.unfinished.popleft().result()
        if row is not None:
            self.rows.append(row)

    def _write(self) -> None:
        rows, self.rows, self.written = self.rows, [], time.monotonic()
        if rows:
            self.job.folder.commit(rows)


def ahead(pool: ThreadPoolExecutor, function: Callable, arguments: Iterable, num_ahead: int) -> Iterator:
    """Results of a function in the order of its arguments; threads compute up to so many of them in advance."""
    futures: deque[Future] = deque()
    for argument in arguments:
        futures.append(pool.submit(function, argument))
        if len(futures) > num_ahead:
            yield futures.popleft().result()
    while futures:
        yield futures.popleft().result()
