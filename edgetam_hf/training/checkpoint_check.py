"""Whether a checkpoint is whole, before a training goes on from it: Trainer ignores files that are missing."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..files.names import inside
from ..files.reading import read_json

STATES = ("optimizer.pt", "scheduler.pt")  # files of torch.save, which are ZIP files with check sums
TRAINER_STATE = "trainer_state.json"
INDEX = "model.safetensors.index.json"
WEIGHTS = ("model.safetensors", "adapter_model.safetensors", "pytorch_model.bin", INDEX)


def check_checkpoint(checkpoint: str | Path, process_idx: int = 0, num_processes: int = 1) -> None:
    """Checks that all files of a checkpoint from which a training goes on are whole.

    Args:
        checkpoint: folder checkpoint-STEP.
        process_idx, num_processes: of the processes that go on, each of which has random numbers of its own.

    Raises:
        ValueError: naming the first file that is missing or damaged, and what to do.
    """
    checkpoint = Path(checkpoint)
    with reading(checkpoint):
        step = int(checkpoint.name.removeprefix("checkpoint-"))
        state = read_json(checkpoint / TRAINER_STATE)
        if state.get("global_step") != step or not isinstance(state.get("log_history"), list):
            raise ValueError(f"{checkpoint / TRAINER_STATE} is not of step {step}")
        for path in checkpoint.glob("*.json"):
            read_json(path)
        random_state = f"rng_state_{process_idx}.pth" if num_processes > 1 else "rng_state.pth"
        names = [*STATES, random_state]
        if not (checkpoint / random_state).exists() and any(checkpoint.glob("rng_state*.pth")):
            names.remove(random_state)  # it was written by another number of processes
        for name in names:
            _check_archive(checkpoint / name)
        for path in _weight_files(checkpoint):
            _check_weights(path)


@contextmanager
def reading(checkpoint: str | Path | None) -> Iterator[None]:
    """Within it a checkpoint is read; whatever goes wrong is a ValueError of one line that says what to do."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"cannot go on from {checkpoint}: {reason}; remove that folder, and --resume goes on from the checkpoint "
            "before it, or begins anew"
        ) from error


def _weight_files(checkpoint: Path) -> list[Path]:
    found = [checkpoint / name for name in WEIGHTS if (checkpoint / name).exists()]
    if not found:
        raise ValueError(f"{checkpoint / WEIGHTS[0]} is missing")
    if found[0].name != INDEX:
        return found[:1]
    return [inside(checkpoint, name) for name in sorted(set(read_json(found[0])["weight_map"].values()))]


def _check_archive(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if damaged:
        raise ValueError(f"{path} is damaged: {damaged}")


def _check_weights(path: Path) -> None:
    if path.suffix != ".safetensors":
        _check_archive(path)
        return
    try:
        with safe_open(path, "pt"):  # compares what the header says with the length of the file
            pass
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is missing or damaged: {error}") from error
