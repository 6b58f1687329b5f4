"""The pictures that a command line names, and the files to write for each; all is checked before any work."""

import argparse
import glob
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..formats.picture_output import OutputPlace
from ..pictures_edgetam import PICTURE_SUFFIXES
from .support import in_one_line

SAMPLES = Path(__file__).parents[1] / "samples"
SAMPLE_PICTURE = SAMPLES / "cat.jpg"
FILE_SUFFIXES = {"index": (".png",), "coco": (".json",), "yolo": (".txt",)}


def find_pictures(arguments: Sequence[str], sample: Path) -> tuple[list[Path], bool]:
    """Paths of the pictures, without repetitions, and whether there may be more than one: of a folder, pattern or list.

    Args:
        arguments: files, folders and patterns; without any it is `sample`.

    Raises:
        ValueError: for a folder or pattern without pictures, and if no picture is there at all.
    """
    if not arguments:
        return [sample], False
    by_file: dict[Path, Path] = {}
    for argument in arguments:
        for path in _paths_of(argument):
            by_file.setdefault(path.resolve(), path)
    paths = list(by_file.values())
    if not any(path.exists() for path in paths):
        others = f", nor the {len(paths) - 1} others" if paths[1:] else ""
        raise ValueError(f"there is no picture {in_one_line(paths[0])}{others}")
    return paths, len(arguments) > 1 or paths != [Path(arguments[0])]


def _paths_of(argument: str) -> list[Path]:
    """Sorted paths that an argument stands for."""
    if os.path.isdir(argument):
        entries = (Path(argument, name) for name in os.listdir(argument))
    elif not os.path.exists(argument) and glob.has_magic(argument):
        entries = (Path(name) for name in glob.glob(argument, recursive=True))
    else:
        return [Path(argument)]
    pictures = sorted(path for path in entries if path.suffix.lower() in PICTURE_SUFFIXES and path.name[0] != ".")
    if not pictures:
        raise ValueError(f"there are no pictures in {argument}: expected files such as .jpg, .png, .webp or .tif")
    return pictures


def plan_outputs(
    paths: list[Path], is_several: bool, formats: list[str], options: argparse.Namespace
) -> tuple[list[OutputPlace], Path]:
    """An `OutputPlace` for each picture, and the path of the COCO file.

    Raises:
        ValueError: for an --output that cannot be, or that pictures share with each other or with what is read.
    """
    output, only = options.output, formats[0] if len(formats) == 1 else None
    is_file = output is not None and not output.endswith(("/", os.sep)) and not os.path.isdir(output)
    is_file = is_file and bool(Path(output).suffix)
    coco_path = None
    if is_several:
        folder = Path(output or f"edgetam_{options.command}")
        if is_file and only == "coco":
            coco_path, folder = Path(output), Path(output).parent
        elif (is_file and _is_writable(output, "overlay")) or folder.is_file():
            raise ValueError(f"--output {output} must be a folder, for there are several pictures")
        places = [OutputPlace(path, folder / f"{path.stem}_{options.command}.png") for path in paths]
        coco_path = coco_path or folder / "coco.json"
    else:
        if is_file:
            _check_suffix(output, only or "overlay")
        overlay = Path(output) if is_file else Path(output or "", f"{paths[0].stem}_{options.command}.png")
        places = [OutputPlace(paths[0], overlay, only if is_file else None)]
        coco_path = places[0].path("coco")
    _check_writable(places[0].overlay.parent)
    _check_apart(places, coco_path, formats, options)
    return places, coco_path


def _is_writable(output: str, kind: str) -> bool:
    """Whether a file name ends as one of this format may; that of folders does not."""
    suffix = Path(output).suffix.lower()
    if kind in FILE_SUFFIXES:
        return suffix in FILE_SUFFIXES[kind]
    return Image.registered_extensions().get(suffix) in Image.SAVE and kind == "overlay"


def _check_suffix(output: str, kind: str) -> None:
    if not _is_writable(output, kind):
        known = {"overlay": (".png", ".jpg", ".webp")}.get(kind, FILE_SUFFIXES.get(kind))
        expected = f"end in {' or '.join(known)}, or be a folder" if known else "be a folder"
        raise ValueError(f"--output {output} must {expected}, as it is for {kind} (folders end in /)")


def _check_writable(folder: Path) -> None:
    """Raises a ValueError if a folder is not there and cannot be made, or nothing can be written to it."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"--output cannot be in {folder}, for {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"nothing can be written to {there}: choose another --output")


def _check_apart(places: list[OutputPlace], coco_path: Path, formats: list[str], options: argparse.Namespace) -> None:
    """Raises a ValueError if a file would be written twice, or over a picture or mask that is read."""
    read = {place.picture.resolve() for place in places}
    read |= {Path(value).resolve() for kind, value in getattr(options, "prompts", None) or [] if kind == "mask"}
    written: dict[Path, OutputPlace] = {}
    for place in places:
        paths = [coco_path if kind == "coco" else place.path(kind) for kind in formats]
        for path in paths:
            if path.resolve() in read:
                raise ValueError(f"{path} would be written over a picture that is read: choose another --output")
            if path != coco_path and (other := written.setdefault(path, place)) is not place:
                raise ValueError(
                    f"{other.picture} and {place.picture} would both be written to {path}: give one of them another "
                    "name, or segment them apart"
                )
