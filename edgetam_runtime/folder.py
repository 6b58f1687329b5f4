"""The folder of an exported model: what its config.json says, and where its graphs are."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT_VERSION = 1  # of the graphs and their names; what is not known is refused
# How the names of files end, by the type of the numbers in them. Inputs and outputs are float32 in all of them.
SUFFIXES = {"float32": "", "float16": "_fp16", "int8": "_quantized", "bfloat16": ""}
DTYPES = tuple(SUFFIXES)
EXPORT_AGAIN = "export it again with `edgetam export`"


@dataclass(frozen=True)
class ExportedFolder:
    """An exported model.

    image_size: (H, W) of the model input in pixels; mask_size: (4h, 4w) of low-res masks; num_channels: C of the model;
    tracking: what tracking has to know of the configuration, None where there are graphs for pictures only.
    """

    path: Path
    image_size: tuple[int, int]
    mask_size: tuple[int, int]
    num_channels: int
    tracking: dict[str, Any] | None

    def graph_path(self, name: str, ending: str, dtype: str) -> Path:
        """Path of a graph: ending is "onnx" or "xml"; raises an OSError if there is no such file."""
        parent = self.path / ("openvino" if ending == "xml" else "onnx")
        path = parent / f"{name}{SUFFIXES[dtype]}.{ending}"
        if path.exists():
            return path
        have = [
            d for d, suffix in SUFFIXES.items() if d != "bfloat16" and (parent / f"{name}{suffix}.{ending}").exists()
        ]
        known = f"this folder has {', '.join(have)} of it" if have else f"the folder is not complete: {EXPORT_AGAIN}"
        raise FileNotFoundError(f"{path} is missing, which is for {dtype}: {known}")

    def read_json(self, name: str) -> dict[str, Any]:
        """The content of a file of JSON; raises an OSError or a ValueError if it is not there or damaged."""
        return _read_json(self.path / name)


def is_exported(folder: str | Path) -> bool:
    """Whether a folder says that it is an exported model, of any version."""
    try:
        return "edgetam_export" in _read_json(Path(folder) / "config.json")
    except (OSError, ValueError):
        return False


def read_folder(folder: str | Path) -> ExportedFolder:
    """What is known of an exported model; see `load` for errors."""
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}: give one that `edgetam export` has written")
    facts = _read_json(path / "config.json").get("edgetam_export")
    if not isinstance(facts, dict):
        raise ValueError(
            f"{path} is no exported model, its config.json has no edgetam_export: give a folder that `edgetam export` "
            "has written"
        )
    if facts.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has graphs of version {facts.get('version')}, this release reads version {FORMAT_VERSION}: "
            f"{EXPORT_AGAIN}"
        )
    try:
        height, width = map(int, facts["image_size"])
        mask_height, mask_width = map(int, facts["mask_size"])
        tracking = None if facts.get("tracking") is None else dict(facts["tracking"])
        return ExportedFolder(path, (height, width), (mask_height, mask_width), int(facts["num_channels"]), tracking)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path / 'config.json'} is damaged, edgetam_export lacks something: {EXPORT_AGAIN}"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged, it is no JSON: {EXPORT_AGAIN}") from error
    except OSError as error:
        raise type(error)(f"{path} cannot be read: {error.strerror or error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged, it must be an object {{…}} of JSON: {EXPORT_AGAIN}")
    return content
