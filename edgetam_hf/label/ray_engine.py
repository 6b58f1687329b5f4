"""Labelling by Ray Data, on this machine or on a cluster: files are read, and rows made, by tasks beside the model."""

import builtins
import logging
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from edgetam_cli.endings import SIGNALS, USER_ERRORS, first_line

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to the makers of Ray
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it prints that this will become so

try:
    import ray
    import ray.data
    import ray.data.exceptions
    from ray.data.block import BlockMetadata
    from ray.data.checkpoint import CheckpointConfig
    from ray.data.checkpoint.checkpoint_filter import CheckpointManager
except ImportError as error:
    raise ImportError(
        "labelling in several processes needs Ray: pip install 'edgetam-hf[label]', or --no-ray for this process alone"
    ) from error

from .items import ITEM_SCHEMA, Item, Part, table_of
from .job import Job, in_batches, read_part
from .prompts import PromptedSource
from .ray_attempts import Attempts
from .rows import ROW_SCHEMA, table_of_rows
from .steps import Passed, Steps

ITEMS_PER_TABLE = 64  # that are read from a source at a time
# Shares of a processor that Ray sets aside. Tasks always find room beside the models, also after a machine is lost; and
# as the shares differ, Ray does not prepare files in the process of the model, which would wait for it.
TASK, MODEL = {"num_cpus": 0.5}, {"num_cpus": 0.1}
FEWEST_CPUS = 2  # of a machine, at least: some tasks of Ray's own take a whole one, beside a model
PASSED_SCHEMA = pa.schema([("id", pa.string()), ("name", pa.string()), ("value", pa.large_binary())])


@dataclass(frozen=True)
class RayEngine:
    """An engine of Ray Data.

    address: of the cluster; None for one of this machine's own, or the one that this process is connected to. On each
    machine of a cluster this package has to be installed, and reach the files. num_gpus_per_worker: share of a GPU that
    each copy of the model gets; None for 1 where there are GPUs, 0 for none. concurrency: how many copies of the model
    there are; None for as many as the GPUs allow, or one for each processor.
    """

    address: str | None = None
    num_gpus_per_worker: float | None = None
    concurrency: int | None = None

    @property
    def device(self) -> str:
        """See `Engine`."""
        return "cuda" if self.shares()[0] else "cpu"

    def opened(self) -> AbstractContextManager[None]:
        """See `Engine`."""
        return connected(self.address)

    def run(self, job: Job) -> None:
        """See `Engine`."""
        # Finished items are left out when parts are read, by every engine alike; Ray only notes them
        checkpoints = CheckpointConfig(
            "id",
            job.folder.done.path,
            override_filesystem=job.folder.place.filesystem,
            delete_checkpoint_on_success=False,
            checkpoint_manager_cls=NothingFinished,
        )
        silent = {"enable_progress_bars": False, "print_on_execution_start": False}
        # What Ray says of processes that died does not belong between the lines of a report
        with redirect_stdout(sys.stderr), self.opened(), data_context(checkpoint_config=checkpoints, **silent):
            num_gpus, num_workers = self.shares()
            try:
                self.write(job, num_gpus, num_workers)
            except (ray.exceptions.RayError, ray.data.exceptions.SystemException) as error:
                raise cause_of(error) from error

    def write(self, job: Job, num_gpus: float, num_workers: int) -> None:
        """Reads, prepares, labels, finishes and writes all items, in a stream."""
        steps = (job.steps, Attempts.of(job.steps.errors))
        tables = {"batch_format": "pyarrow", "batch_size": job.batch_size}
        items = ray.data.read_datasource(Items(job), override_num_blocks=job.num_parts, **TASK)
        batches = items.repartition(target_num_rows_per_block=job.batch_size, strict=True)
        prepared = batches.map_batches(prepare, fn_args=steps, **tables, **TASK)
        workers = ray.data.ActorPoolStrategy(min_size=1, max_size=num_workers, initial_size=num_workers)
        model = {"fn_constructor_args": steps, "compute": workers, "num_gpus": num_gpus, **MODEL}
        found = prepared.map_batches(Worker, **model, **tables)
        rows = found.map_batches(finish, fn_args=steps, **tables, **TASK)
        rows.write_parquet(
            job.folder.rows.path,
            filesystem=job.folder.place.filesystem,
            min_rows_per_file=job.rows_per_file,
            ray_remote_args=TASK,
            schema=ROW_SCHEMA,
        )

    def shares(self) -> tuple[float, int]:
        """(share of a GPU for each worker, number of workers)."""
        resources = ray.cluster_resources()
        if max(node["Resources"].get("CPU", 0) for node in ray.nodes()) < FEWEST_CPUS:
            raise ValueError(f"no machine of the cluster gives Ray {FEWEST_CPUS} CPUs, which one has to: start it so")
        gpus = resources.get("GPU", 0)
        share = self.num_gpus_per_worker
        if share is None:
            share = 1 if gpus else 0
        if share > gpus:
            raise ValueError(f"--num-gpus-per-worker {share:g}: Ray knows of {gpus:g} GPUs; give less, or 0")
        most = gpus / share if share else resources.get("CPU", 1)
        return share, self.concurrency or max(int(most), 1)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Within the block, Ray runs: that of the address, or that of this process, or a new one on this machine.

    Raises:
        OSError: of one line, if there is no cluster at the address, or Ray does not start.
    """
    if ray.is_initialized():
        yield
        return
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        settings |= {"include_dashboard": False, "num_cpus": max(os.cpu_count() or 1, FEWEST_CPUS)}
    try:
        with own_signals(), without_stderr():  # on which this level announces itself
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # or it warns of what Ray Data always does
            ray.init(address or "local", **settings)
    except Exception as error:  # of many kinds
        where = f"of --address {address} cannot be reached" if address else "does not start on this machine"
        raise OSError(f"Ray {where}: {first_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def own_signals() -> Iterator[None]:
    """After the block a signal to stop does what it did before: Ray takes it for a crash, and ends the process."""
    is_main = threading.current_thread() is threading.main_thread()  # no other thread may say
    before = {number: signal.getsignal(number) for number in SIGNALS} if is_main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # or it is none of Python's
                signal.signal(number, handler)


@contextmanager
def without_stderr() -> Iterator[None]:
    """Within the block nothing comes to stderr, not from other languages either."""
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


@contextmanager
def data_context(**settings: Any) -> Iterator[None]:
    """Within the block Ray Data has these settings, and is silent: the package has a bar of its own."""
    context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before, level = {name: getattr(context, name) for name in settings}, logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        for name, value in settings.items():
            setattr(context, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        logger.setLevel(level)


class NothingFinished(CheckpointManager):
    """What tells Ray Data that no item needs to be left out."""

    def load_checkpoint(self, *arguments: Any, **settings: Any) -> tuple[None, int]:
        """No ids, of no size."""
        return None, 0


class Items(ray.data.Datasource):
    """The items of a job that have no row yet, as tables with `ITEM_SCHEMA`."""

    def __init__(self, job: Job):
        super().__init__()
        self.job = job

    def estimate_inmemory_data_size(self) -> None:
        """Nobody knows."""

    def get_read_tasks(self, parallelism: int, *arguments: Any, **settings: Any) -> list[ray.data.ReadTask]:
        """A task for each part; what all of them need is sent to each machine once."""
        source, prompts = self.job.source, None
        if isinstance(source, PromptedSource):
            prompts, source = ray.put(source.prompts), source.source
        finished = ray.put(self.job.finished)
        parts = source.parts(parallelism)
        unknown = BlockMetadata(None, None, None, None)
        return [
            ray.data.ReadTask(partial(read, part, finished, prompts, self.job.steps), unknown, schema=ITEM_SCHEMA)
            for part in parts
        ]


def read(part: Part, finished: ray.ObjectRef, prompts: ray.ObjectRef | None, steps: Steps) -> Iterator[pa.Table]:
    """Tables of the items of a part that have no row yet."""
    items: Iterator[Item] = read_part(part, ray.get(finished), steps.errors)
    if prompts is not None:
        items = map(ray.get(prompts).attach, items)
    yield from map(table_of, in_batches(items, ITEMS_PER_TABLE))


def prepare(table: pa.Table, steps: Steps, attempts: Attempts) -> pa.Table:
    """What the model needs of some items."""
    items = [Item.from_row(row) for row in table.to_pylist()]
    return to_table(attempts.make("prepare", items, lambda some: without_none(map(steps.prepare, some))))


class Worker:
    """A process with a copy of the model."""

    def __init__(self, steps: Steps, attempts: Attempts):
        self.steps, self.attempts = steps, attempts

    def __call__(self, table: pa.Table) -> pa.Table:
        """What the model finds in a batch."""
        return to_table(self.attempts.make("label", of_table(table), self.steps.label))


def finish(table: pa.Table, steps: Steps, attempts: Attempts) -> pa.Table:
    """The rows of what was found."""
    return table_of_rows(attempts.make("finish", of_table(table), lambda some: without_none(map(steps.finish, some))))


def without_none(values: Iterable[Any]) -> list[Any]:
    """The values that are not None, which stands for an item that was set aside."""
    return [value for value in values if value is not None]


def to_table(batch: list[Passed]) -> pa.Table:
    """What goes from step to step, as a table with `PASSED_SCHEMA`."""
    values = [pickle.dumps(passed.value, protocol=pickle.HIGHEST_PROTOCOL) for passed in batch]
    columns = [[passed.id for passed in batch], [passed.name for passed in batch], values]
    return pa.table(dict(zip(PASSED_SCHEMA.names, columns)), schema=PASSED_SCHEMA)


def of_table(table: pa.Table) -> list[Passed]:
    """What such a table holds."""
    values = (pickle.loads(value.as_buffer()) for value in table["value"])
    return [Passed(*passed) for passed in zip(table["id"].to_pylist(), table["name"].to_pylist(), values)]


def cause_of(error: BaseException) -> BaseException:
    """What went wrong in a process, without what Ray puts around it."""
    inner: BaseException | None = error
    while isinstance(inner, ray.exceptions.RayError | ray.data.exceptions.SystemException):
        error, inner = inner, getattr(inner, "cause", None) or inner.__cause__
        if isinstance(inner, ray.exceptions.UserCodeException):
            return _in_traceback(str(error))
    return inner or OSError(f"Ray stopped: {first_line(error)}; the same command goes on")


def _in_traceback(text: str) -> Exception:
    """The error of a step of ours, of which Ray passes on the traceback only."""
    traceback = text.partition("\n\nThe above exception was the direct cause")[0]
    name, _, message = traceback.strip().splitlines()[-1].partition(": ")
    kind = getattr(builtins, name, None)
    for user_error in USER_ERRORS:
        if isinstance(kind, type) and issubclass(kind, user_error):
            return user_error(message)
    return RuntimeError(text)
