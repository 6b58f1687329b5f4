"""What tells the weights of one checkpoint from those of another."""

import hashlib
from pathlib import Path

from transformers.utils import cached_file

from edgetam_runtime import is_exported

from ..files.reading import read_json
from ..loading import checkpoint_of, loading, read_config

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in the order in which Transformers looks for them
NO_WEIGHTS = {".json", ".md", ".txt", ".js", ".py"}  # in the folder of an exported model


def checkpoint_hash(name: str) -> str:
    """64 hexadecimal digits: the SHA-256 of the weights of a checkpoint.

    Of one file it is what `sha256sum` and the Hub say; of several, the hash of a line for each with hash and name.

    Args:
        name: folder of a checkpoint or of an exported model, Hub id, or `nano`.

    Raises:
        OSError, ValueError: see `loading`; also for a checkpoint without weights.
    """
    files = _exported_files(Path(name)) if is_exported(name) else _files_of(checkpoint_of(name))
    hashes = {file_name: _file_hash(path) for file_name, path in files.items()}
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = "".join(f"{digest}  {file_name}\n" for file_name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _exported_files(folder: Path) -> dict[str, Path]:
    """Paths of all files of an exported model that are not text, by name."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in files.items() if path.suffix.lower() not in NO_WEIGHTS}


def _files_of(name: str) -> dict[str, Path]:
    """Paths of the files with the weights of a checkpoint, by name."""
    read_config(name)
    for whole in WEIGHTS:
        if path := _found(name, whole):
            return {whole: path}
        if index := _found(name, f"{whole}.index.json"):
            parts = {str(part) for part in read_json(index)["weight_map"].values()}
            paths = {part: _found(name, part) for part in parts}
            if missing := sorted(part for part, path in paths.items() if path is None):
                raise OSError(f"{name} lacks {', '.join(missing)}, of which its {index.name} tells: download it again")
            return {part: path for part, path in paths.items() if path is not None}
    raise OSError(f"{name} has no weights: expected {' or '.join(WEIGHTS)} beside its config.json")


def _found(name: str, file_name: str) -> Path | None:
    with loading(name):
        path = cached_file(name, file_name, _raise_exceptions_for_missing_entries=False)
    return None if path is None else Path(path)


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
