"""The part that `edgetam segment` and `edgetam masks` share: a loop over pictures, and their report."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers.utils import logging

from edgetam_cli.arguments import DEFAULT_FORMATS
from edgetam_cli.endings import first_line

from ..formats.picture_output import CocoDataset, OutputPlace, PictureResult, check_libraries, write_result
from ..formats.tables import as_columns
from ..found_objects import FoundObject
from ..loading import checkpoint_of, load_with_processor
from .picture_files import find_pictures, plan_outputs
from .support import in_one_line, load_picture, model_choice

MAX_ROWS = 30  # of a table
NOTHING_FOUND = "nothing found: try lower --pred-iou-thresh, lower --stability-score-thresh, more --points-per-side"
MAX_NUMBERS = 10  # of objects that are covered by others


class PictureRun:
    """The pictures of a command line: finds objects in each, writes them and collects the report.

    Args:
        options: of the command line.
        has_prompts: whether the overlay shows prompts and a legend.
        sample: the picture to take if none is given.

    Raises:
        ValueError, ImportError: for what cannot be done, before any work.
    """

    def __init__(self, options: argparse.Namespace, has_prompts: bool, sample: Path):
        self.options, self.has_prompts = options, has_prompts
        self.formats = list(dict.fromkeys(options.format or DEFAULT_FORMATS))
        check_libraries(self.formats)
        self.paths, self.is_several = find_pictures(options.pictures, sample)
        self.places, self.coco_path = plan_outputs(self.paths, self.is_several, self.formats, options)
        self.dataset = CocoDataset()
        self.reports: list[dict[str, Any]] = []
        self.failed: list[dict[str, str]] = []

    def go(self, find: Callable[[np.ndarray], list[FoundObject]]) -> dict[str, Any]:
        """The report of all pictures, after their files are written.

        Args:
            find: function from pixels uint8 (H, W, 3) to the `FoundObject`s in them.
        """
        try:
            is_quiet = self.options.json or not self.is_several
            for place in logging.tqdm(self.places, unit="picture", disable=is_quiet):
                result = self._search(place, find)
                if result is not None:
                    self._write(result, place)
        finally:  # also of a run that is stopped
            coco = self._write_coco()
        head = {"model": self.options.model}
        if not self.is_several:
            return {**self.reports[0], **head, **coco}
        return {**head, "pictures": self.reports, "failed": self.failed, **coco}

    def _search(self, place: OutputPlace, find: Callable[[np.ndarray], list[FoundObject]]) -> PictureResult | None:
        """The `PictureResult` of a picture; None if it failed and there are others, after a line that says why."""
        try:
            pixels = load_picture(place.picture)
            return PictureResult(place.picture, pixels, find(pixels), self.has_prompts)
        except torch.cuda.OutOfMemoryError:
            error: Exception = ValueError(
                "out of memory: try --dtype bfloat16, or a smaller --image-size or --points-per-batch"
            )
        except RuntimeError as failure:
            if not self.options.compile:
                raise
            raise ValueError(f"--compile does not work here, leave it out: {first_line(failure)}") from failure
        except (ValueError, TypeError, OSError, MemoryError) as failure:
            error = failure
        if not self.is_several:
            raise error
        reason, name = first_line(error), in_one_line(place.picture)
        reason = reason if name in reason else f"{name}: {reason}"
        tqdm.write(f"edgetam: error: {reason}", file=sys.stderr)
        self.failed.append({"image": str(place.picture), "error": reason})
        return None

    def _write(self, result: PictureResult, place: OutputPlace) -> None:
        height, width = result.pixels.shape[:2]
        head = {"image": str(result.path), "height": height, "width": width}
        rows = [describe_object(found) for found in result.objects]
        if "coco" in self.formats:
            self.dataset.add(result)
        self.reports.append({**head, "objects": rows, **write_result(result, place, self.formats)})

    def _write_coco(self) -> dict[str, str]:
        """Writes the COCO file if there is something to write, and returns its path by name."""
        if not self.dataset.images:
            return {}
        self.dataset.write(self.coco_path)
        return {"coco": str(self.coco_path)}


def load_model(options: argparse.Namespace, model_class: Any, processor_class: Any) -> tuple[Any, Any]:
    """The model and its processor that the options ask for.

    Raises:
        OSError: for a model that is neither in a folder nor on the Hub.
    """
    choice = model_choice(options)
    try:
        return load_with_processor(model_class, processor_class, choice)
    except OSError as error:
        reason = first_line(error).removeprefix(f"{checkpoint_of(options.model)} cannot be loaded: ")
        raise OSError(f"--model {options.model} cannot be loaded: {reason}") from error


def describe_object(found: FoundObject) -> dict[str, Any]:
    """What a report says of a `FoundObject`: area in pixels, and box, or None if the mask is empty."""
    prompt = {"prompt": found.prompt} if found.prompt else {}
    score = {"score": round(found.score, 3)}
    return {"object": found.number, **prompt, **score, **found.facts, "area": found.mask.area, "box": found.mask.box}


def as_text(report: dict[str, Any]) -> str:
    """The report as text: for one picture a line per object and where the files are, for more a line per picture."""
    if "pictures" in report:
        return _table_of_pictures(report)
    num_pixels = report["height"] * report["width"]
    rows = [_readable(row, num_pixels) for row in report["objects"]]
    lines = as_columns(rows[:MAX_ROWS]) if rows else []
    if len(rows) > MAX_ROWS:
        lines.append(f"… and {len(rows) - MAX_ROWS} more, which --json lists too")
    lines += _notes(report)
    return "\n".join([*lines, "", *_files(report)])


def _readable(row: dict[str, Any], num_pixels: int) -> dict[str, Any]:
    """A row for people: areas in percent, yes and no, and a dash for no box."""
    row = {**row, "area": f"{100 * row['area'] / num_pixels:.1f} %"}
    row["box"] = ",".join(map(str, row["box"])) if row["box"] else "-"
    return {
        name: {True: "yes", False: "no"}[value] if isinstance(value, bool) else value for name, value in row.items()
    }


def _notes(report: dict[str, Any]) -> list[str]:
    """Lines about what may surprise: nothing found, and objects that others cover."""
    lines = []
    if not report["objects"]:
        lines.append(NOTHING_FOUND)
    if report.get("hidden"):
        numbers = ", ".join(map(str, report["hidden"][:MAX_NUMBERS]))
        if len(report["hidden"]) > MAX_NUMBERS:
            numbers += f" and {len(report['hidden']) - MAX_NUMBERS} others"
        lines.append(f"covered by others in {report['mask']}: {numbers} (--format masks or coco writes all)")
    return lines


def _files(report: dict[str, Any]) -> list[str]:
    names = [name for name in ("overlay", "mask", "coco", "masks", "yolo", "cutouts") if name in report]
    width = max(map(len, names), default=0) + 1
    return [f"{name + ':':{width}} {report[name]}" for name in names]


def _table_of_pictures(report: dict[str, Any]) -> str:
    rows = []
    for of_picture in report["pictures"]:
        row = {"picture": in_one_line(of_picture["image"]), "objects": len(of_picture["objects"])}
        files = [of_picture[name] for name in ("overlay", "mask", "masks", "yolo", "cutouts") if name in of_picture]
        rows.append({**row, **({"written to": files[0]} if files else {})})
    lines = as_columns(rows) if rows else []
    if report["failed"]:
        lines.append(f"{len(report['failed'])} of {len(rows) + len(report['failed'])} pictures failed, see above")
    return "\n".join(lines + ([f"coco: {report['coco']}"] if "coco" in report else []))
