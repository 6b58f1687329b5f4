"""What decides the labels of a folder: written when it is begun, and the same in every run that goes on."""

import json
import platform
from typing import Any

import pyarrow as pa
import torch
import transformers
from pyarrow.fs import FileType

from edgetam_cli import __version__

from .folder import LabelFolder
from .items import Source
from .labeller import Labeller


def settings_of(source: Source, labeller: Labeller) -> dict[str, Any]:
    """All that decides the labels of a source."""
    checkpoint, settings = labeller.provenance
    return {"source": source.description, "kind": source.kind, "checkpoint": checkpoint, **json.loads(settings)}


def start_or_go_on(folder: LabelFolder, settings: dict[str, Any]) -> None:
    """Writes settings into a new folder, or compares them with those that its rows were made with.

    Args:
        folder: which is locked.
        settings: of the source and the labeller, as JSON has them.

    Raises:
        ValueError: if a setting differs: the message names each; also for a folder that holds something else.
        OSError: if the folder cannot be read or written.
    """
    settings = json.loads(json.dumps(settings))
    if folder.settings.info().type != FileType.File:
        check_new(folder)
        text = json.dumps({"settings": settings, "versions": versions()}, indent=1, ensure_ascii=False)
        folder.settings.write_whole(text.encode("utf-8", "surrogatepass"))
        return
    changes = differences(read_settings(folder), settings)
    if changes:
        raise ValueError(
            f"the labels in {folder.place} were begun with other settings: {', '.join(changes)}; go on with those, or "
            "choose another folder"
        )


def read_settings(folder: LabelFolder) -> dict[str, Any]:
    """The settings that a folder was begun with; raises a ValueError if its file does not say."""
    try:
        settings = json.loads(folder.settings.read())["settings"]
    except (ValueError, KeyError, TypeError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise ValueError(f"{folder.settings} is damaged, or not written by `edgetam label`: choose another folder")
    return settings


def check_new(folder: LabelFolder) -> None:
    """Raises a ValueError if there are rows whose settings nobody knows, or anything but a run's own files."""
    others = [name for name in folder.place.file_names(is_recursive=False) if not name.startswith(".")]  # the lock
    if others:
        raise ValueError(f"{folder.place} holds other files, such as {others[0]}: choose a new or empty folder")
    if folder.finished_names():
        raise ValueError(f"{folder.place} has labels, but no {folder.settings}, which says what was asked: put it back")


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two settings, each as "name was … and is …"."""
    old, new = flat(old), flat(new)
    return [
        f"{name} was {json.dumps(old.get(name))} and is {json.dumps(new.get(name))}"
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    ]


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their dotted names."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        values.update(flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return values


def versions() -> dict[str, str]:
    """Versions of what computes: they are noted, but may change while a folder is filled."""
    return {
        "edgetam_hf": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "pyarrow": pa.__version__,
        "python": platform.python_version(),
    }
