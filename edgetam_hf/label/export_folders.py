"""Labels as folders with a file for each picture or clip: SA-1B, SA-V, YOLO and index pictures."""

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from ..drawing.legend import topmost
from ..files.names import inside
from ..formats.index_pictures import picture_of_indices
from ..formats.polygons import yolo_text
from ..formats.run_lengths import compress, decode_run_lengths
from ..found_objects import CutMask, FoundObject
from ..training.masklet_videos import ANNOTATED_EVERY
from .export_coco import describe
from .export_contents import Contents, NumberedRow, category_of
from .items import CLIP
from .rows import MaskRow

YOLO_DATA = """\
# The pictures belong in images/, beside labels/ and with the same names; or name the folder that holds both:
# path: /folder/of/images/and/labels
train: images
val: images
names:
"""


def write_sa_1b(rows: Iterable[NumberedRow], contents: Contents, folder: Path) -> None:
    """Writes NAME.json for each picture, as SA-1B has it beside NAME.jpg."""
    for numbered in rows:
        row = numbered.row
        image = {
            "image_id": numbered.number,
            "width": row.width,
            "height": row.height,
            "file_name": PurePosixPath(row.item.name).name,
        }
        annotations = [
            {"id": annotation_id, **describe(numbered, mask), "crop_box": [0, 0, row.width, row.height]}
            for annotation_id, mask in enumerate(row.masks, start=numbered.first_mask)
        ]
        write_json(folder, f"{numbered.stem}.json", {"image": image, "annotations": annotations})


def write_sa_v(rows: Iterable[NumberedRow], contents: Contents, folder: Path) -> None:
    """Writes NAME_auto.json for each clip, as SA-V has it beside NAME.mp4: masks of every fourth frame.

    Objects that only other frames show are left out.
    """
    for numbered in rows:
        row = numbered.row
        annotated = range(0, row.num_frames, ANNOTATED_EVERY)
        tracks = {number: [masks.get(idx) for idx in annotated] for number, masks in numbered.masks_by_object().items()}
        tracks = {number: track for number, track in tracks.items() if any(track)}
        absent = compress(CutMask.of(np.zeros(numbered.size, bool)))
        masklet = [
            [numbered.run_lengths(mask) if mask else absent for mask in frame] for frame in zip(*tracks.values())
        ]
        sizes = [float(np.mean([mask.area for mask in track if mask])) for track in tracks.values()]
        data = {
            "video_id": PurePosixPath(numbered.stem).name,
            "video_duration": row.num_frames / row.frame_rate if row.frame_rate else None,
            "video_frame_count": row.num_frames,
            "video_height": row.height,
            "video_width": row.width,
            "video_resolution": row.height * row.width,
            "masklet": masklet or [[] for _ in annotated],
            "masklet_id": list(tracks),
            "masklet_size_abs": sizes,
            "masklet_size_rel": [size / (row.height * row.width) for size in sizes],
            "masklet_visibility_changes": [_visibility_changes(track) for track in tracks.values()],
            "masklet_first_appeared_frame": [_first_frame(track) for track in tracks.values()],
            "masklet_frame_count": [len(annotated)] * len(tracks),
            "masklet_edited_frame_count": [0] * len(tracks),
            "masklet_type": ["auto"] * len(tracks),
            "masklet_num": len(tracks),
        }
        write_json(folder, f"{numbered.stem}_auto.json", data)


def write_yolo_seg(rows: Iterable[NumberedRow], contents: Contents, folder: Path) -> None:
    """Writes labels/NAME.txt for each picture, and data.yaml with the names of the classes."""
    classes = {name: idx for idx, name in enumerate(contents.categories)}
    names = "".join(f"  {idx}: {json.dumps(name)}\n" for name, idx in classes.items())
    with new_file(folder, "data.yaml") as file:
        file.write((YOLO_DATA + names).encode())
    for numbered in rows:
        masks = [decode(numbered, mask) for mask in numbered.row.masks]
        numbers = [classes[category_of(mask)] for mask in numbered.row.masks]
        with new_file(folder, f"labels/{numbered.stem}.txt") as file:
            file.write(yolo_text(masks, numbers).encode())


def write_masks(rows: Iterable[NumberedRow], contents: Contents, folder: Path) -> None:
    """Writes an index picture NAME.png for each picture, and NAME/FRAME.png for each frame of a clip, as DAVIS has it.

    Its values are numbers of objects, 0 where there is none, with 16 bits above 255; smaller objects lie on top.
    """
    for numbered in rows:
        masks = numbered.masks_by_frame()
        if numbered.row.item.kind == CLIP:
            names = [f"{numbered.stem}/{PurePosixPath(name).stem}.png" for name in numbered.frame_names]
        else:
            names = [f"{numbered.stem}.png"]
        for idx, name in enumerate(names):
            objects = [FoundObject(m.object, decode(numbered, m), m.score) for m in masks.get(idx, [])]
            with new_file(folder, name) as file:
                picture_of_indices(topmost(objects, numbered.size)).save(file, "PNG")


def decode(numbered: NumberedRow, mask: MaskRow) -> CutMask:
    """One of the masks of a row, cut to its box."""
    name = f"object {mask.object} of {numbered.row.item.name}"
    return CutMask.of(decode_run_lengths(numbered.run_lengths(mask), numbered.size, name))


def write_json(folder: Path, name: str, data: dict[str, Any]) -> None:
    """Writes a new JSON file below a folder."""
    with new_file(folder, name) as file:
        file.write(json.dumps(data, allow_nan=False).encode())


def new_file(folder: Path, name: str) -> IO[bytes]:
    """A file below a folder, open for writing, with the folders above it; one that is there already is an OSError."""
    path = inside(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "xb")


def _visibility_changes(track: list[MaskRow | None]) -> int:
    """How often an object vanishes or comes back after it first appeared."""
    is_visible = [mask is not None for mask in track]
    return int(np.count_nonzero(np.diff(is_visible[is_visible.index(True) :])))


def _first_frame(track: list[MaskRow | None]) -> int:
    """Index of the annotated frame on which an object first appears, in the clip."""
    return ANNOTATED_EVERY * next(idx for idx, mask in enumerate(track) if mask)
