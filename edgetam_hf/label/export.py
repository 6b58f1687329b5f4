"""Labels in the formats of the field: what `edgetam label` has written goes row by row into the files of a format."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging

from ..files.writing import check_free, check_parent, whole_folder
from ..formats import polygons
from . import export_folders
from .export_coco import write_coco
from .export_contents import Contents, NumberedRow, read_rows, survey
from .export_youtube_vis import write_youtube_vis
from .finished import ERRORS, finished_files, open_labels
from .items import CLIP, PICTURE


@dataclass(frozen=True)
class ExportFormat:
    """How labels are written.

    write: takes the rows, their `Contents`, and where to write: a file if `is_file`, otherwise a new folder, in which
    each row has a file or folder of its own. kinds: of items that it is for.
    """

    write: Callable[[Iterable[NumberedRow], Contents, Path], None]
    kinds: tuple[str, ...]
    is_file: bool = False


EXPORT_FORMATS = {
    "coco": ExportFormat(write_coco, (PICTURE, CLIP), is_file=True),
    "sa-1b": ExportFormat(export_folders.write_sa_1b, (PICTURE,)),
    "youtube-vis": ExportFormat(write_youtube_vis, (CLIP,), is_file=True),
    "sa-v": ExportFormat(export_folders.write_sa_v, (CLIP,)),
    "yolo-seg": ExportFormat(export_folders.write_yolo_seg, (PICTURE,)),
    "masks": ExportFormat(export_folders.write_masks, (PICTURE, CLIP)),
}


def export_labels(out: str | Path, format: str, output: str | Path, progress: bool = False) -> dict[str, Any]:
    """Writes the finished rows of a folder of labels in another format, and returns the report.

    Numbers of pictures and masks follow from the names of the items, not from how the work was shared out.

    Args:
        out: folder that `edgetam label` has written, or is writing, here or at an address; it is only read.
        format: a key of `EXPORT_FORMATS`.
        output: new file .json, or new folder, on this machine; it is written whole or not at all.
        progress: whether to show a bar.

    Raises:
        ValueError: for labels that are missing, damaged or not of the format's kinds, and an output that is there.
        OSError: of one line, for what cannot be read or written.
        ImportError: for yolo-seg without scikit-image.
    """
    if format not in EXPORT_FORMATS:
        raise ValueError(f"format must be one of {', '.join(EXPORT_FORMATS)}, got {format!r}")
    chosen, output = EXPORT_FORMATS[format], _check_output(output, format)
    if format == "yolo-seg":
        polygons.check_library()
    place = open_labels(out)
    files, num_unfinished = finished_files(place)
    contents = survey(files, keeps_suffix=chosen.is_file)
    if not contents.num_rows:
        raise ValueError(f"{place} has no finished rows yet: run `edgetam label` on, with the same command")
    num_clips = int(np.count_nonzero(contents.is_clip))
    counts = {PICTURE: contents.num_rows - num_clips, CLIP: num_clips}
    _check_kinds(counts, format, str(place))
    rows = logging.tqdm(read_rows(contents), total=contents.num_rows, unit="row", disable=not progress)
    if chosen.is_file:
        chosen.write(rows, contents, output)
    else:
        with whole_folder(output) as folder:
            chosen.write(rows, contents, folder)
    return {
        "labels": str(place),
        "format": format,
        "pictures": counts[PICTURE],
        "clips": counts[CLIP],
        "masks": contents.num_masks,
        "categories": contents.categories,
        "unfinished_files": num_unfinished,
        "errors": sum(1 for _ in (place / ERRORS).files()),
        "output": str(output),
    }


def _check_output(output: str | Path, format: str) -> Path:
    """The path to write to; a ValueError if it cannot be that."""
    if "://" in str(output):
        raise ValueError(f"--output {output} must be a path on this machine: copy it there when it is done")
    path, is_file = Path(output), EXPORT_FORMATS[format].is_file
    if is_file and (path.suffix.lower() != ".json" or path.is_dir()):
        raise ValueError(f"--output {path} must be a file .json, as it is for {format}")
    if is_file and os.path.lexists(path):
        raise ValueError(f"{path} is there already: choose another --output, or remove it")
    if not is_file:
        check_free(path)
    check_parent(path)
    return path


def _check_kinds(counts: dict[str, int], format: str, name: str) -> None:
    """Raises a ValueError if there are items of a kind that the format is not for."""
    for kind, count in counts.items():
        if count and kind not in EXPORT_FORMATS[format].kinds:
            others = ", ".join(other for other, of_other in EXPORT_FORMATS.items() if kind in of_other.kinds)
            raise ValueError(
                f"--format {format} is for {EXPORT_FORMATS[format].kinds[0]}s, and {name} has {kind}s: "
                f"take one of {others}"
            )
