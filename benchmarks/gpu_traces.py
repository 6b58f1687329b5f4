"""What a call does on the device: which kernels run and how often, and where the program waits for it."""

import traceback
import warnings
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

BENCHMARKS = Path(__file__).resolve().parent
PROJECT = BENCHMARKS.parent
NUM_KERNELS = 15
COUNTED = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpyAsync", "Memcpy")
COUNTED += ("cudaGraphLaunch", "aten::item", "aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero")


def trace_call(function, device):
    """The profiler's averages by name over one call of a function.

    The profiler waits for the GPU once itself: one cudaDeviceSynchronize is its own.
    """
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    with profile(activities=activities) as profiler:
        function()
    return profiler.key_averages()


def kernels_of(averages, device):
    """(name, milliseconds, count) of what ran on the device, the longest first; on a CPU of PyTorch's operations."""
    if device == "cuda":
        rows = [(row.key, row.self_device_time_total, row.count) for row in averages if is_on_gpu(row)]
    else:
        rows = [(row.key, row.self_cpu_time_total, row.count) for row in averages]
    return sorted(((key, time / 1000, count) for key, time, count in rows), key=lambda row: -row[1])


def is_on_gpu(row):
    """Whether an average is of what the GPU did, not of the call that asked for it."""
    return row.device_type == DeviceType.CUDA and not getattr(row, "is_user_annotation", False)


def summarise_trace(averages, device):
    """Kernel launches, calls that wait or copy, milliseconds of all kernels, and the longest of these."""
    kernels = kernels_of(averages, device)
    counts = {row.key: row.count for row in averages if row.key.startswith(COUNTED)}
    launches = sum(row.count for row in averages if "LaunchKernel" in row.key)
    longest = {key[:120]: {"ms": ms, "count": count} for key, ms, count in kernels[:NUM_KERNELS]}
    total = sum(ms for _, ms, _ in kernels)
    return {"launches": launches, "kernel_ms": total, "calls": counts, "longest_kernels": longest}


@contextmanager
def watch_waits(device):
    """A dictionary in which calls are counted, inside the block, that wait for the GPU, by the line of this project."""
    waits = {}

    def note(message, category, filename, lineno, file=None, line=None):
        if "synchroniz" not in str(message):
            return
        frames = [frame for frame in traceback.extract_stack()[:-1] if is_ours(frame.filename)]
        lines = [f"{Path(frame.filename).resolve().relative_to(PROJECT)}:{frame.lineno}" for frame in frames[-1:]]
        place = lines[0] if lines else f"{Path(*Path(filename).parts[-3:])}:{lineno}"
        waits[place] = waits.get(place, 0) + 1

    if device != "cuda":
        yield waits
        return
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode("default")


def is_ours(filename):
    """Whether a file is one of the project's own, other than the benchmarks."""
    path = Path(filename).resolve()
    return path.is_relative_to(PROJECT) and path.parent != BENCHMARKS and "site-packages" not in path.parts
