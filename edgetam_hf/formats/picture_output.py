"""What is written of the objects found in pictures: files for people, for labelling and for training."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..drawing.legend import explained_picture, topmost
from ..files.writing import save_whole, whole_file, write_json_whole
from ..found_objects import CutMask, FoundObject
from . import polygons, run_lengths
from .index_pictures import picture_of_indices


@dataclass
class PictureResult:
    """What was found in a picture: its path, its pixels uint8 (H, W, 3), and its objects."""

    path: Path
    pixels: np.ndarray
    objects: list[FoundObject]
    has_prompts: bool = True


@dataclass(frozen=True)
class OutputPlace:
    """Where the files of a picture go: `overlay` is the overlay's path, from which the others' follow.

    If `only` names a format, nothing else is written, and to this very path.
    """

    picture: Path
    overlay: Path
    only: str | None = None

    def path(self, kind: str) -> Path:
        """The file or folder of a format; `coco` is that of a single picture."""
        if kind == self.only:
            return self.overlay
        stem = self.overlay.stem
        names = {
            "overlay": self.overlay.name,
            "index": f"{stem}_mask.png",
            "coco": f"{stem}_coco.json",
            "masks": f"{stem}_objects",
            "cutouts": f"{stem}_cutouts",
            "yolo": f"labels/{self.picture.stem}.txt",
        }
        return self.overlay.parent / names[kind]


def check_libraries(formats: Iterable[str]) -> None:
    """Raises an ImportError with what to install if a format needs a library that is not there."""
    if "coco" in formats and run_lengths.coco_mask is None:
        raise ImportError("--format coco needs pycocotools: pip install pycocotools")
    if "yolo" in formats:
        polygons.check_library()


def write_result(result: PictureResult, place: OutputPlace, formats: Iterable[str]) -> dict[str, Any]:
    """Writes the files of a picture, each whole or not at all; returns their paths by format, and what is hidden.

    `hidden` lists the numbers of objects that others cover completely in the index picture.
    """
    written: dict[str, Any] = {}
    place.overlay.parent.mkdir(parents=True, exist_ok=True)
    for kind in formats:
        if kind in WRITERS:
            WRITERS[kind](result, place.path(kind))
            written["mask" if kind == "index" else kind] = str(place.path(kind))
    if "index" in formats:
        seen = set(np.unique(topmost(result.objects, result.pixels.shape[:2])).tolist())
        written["hidden"] = [o.number for o in result.objects if o.mask.area and o.number not in seen]
    return written


def write_overlay(result: PictureResult, path: Path) -> None:
    """The picture with its masks, numbers and a legend."""
    save_whole(explained_picture(result.pixels, result.objects, result.has_prompts), path)


def write_index(result: PictureResult, path: Path) -> None:
    """The number of the object at each pixel, smaller ones on top."""
    save_whole(picture_of_indices(topmost(result.objects, result.pixels.shape[:2])), path)


def write_masks(result: PictureResult, path: Path) -> None:
    """A folder with a black and white picture of each object."""
    write_numbered(path, ((o.number, Image.fromarray(o.mask.full())) for o in result.objects))


def write_cutouts(result: PictureResult, path: Path) -> None:
    """A folder with each object cut out of the picture, transparent around it; none of an empty mask."""

    def cutout(mask: CutMask) -> Image.Image:
        return Image.fromarray(np.dstack([result.pixels[mask.window], mask.part.astype(np.uint8) * 255]))

    write_numbered(path, ((o.number, cutout(o.mask)) for o in result.objects if o.mask.area))


def write_numbered(folder: Path, images: Iterable[tuple[int, Image.Image]]) -> None:
    """Writes (number, picture) pairs as NUMBER.png into a folder; those of other numbers, of an earlier call, go."""
    folder.mkdir(exist_ok=True)
    written = set()
    for number, image in images:
        save_whole(image, folder / f"{number}.png")
        written.add(str(number))
    for path in folder.glob("*.png"):
        if path.stem.isdecimal() and path.stem not in written:
            path.unlink()


def write_yolo(result: PictureResult, path: Path) -> None:
    """The text file with the polygons of a picture, empty if nothing was found."""
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as temporary:
        Path(temporary).write_text(polygons.yolo_text([o.mask for o in result.objects]), encoding="utf-8")


WRITERS = {
    "overlay": write_overlay,
    "index": write_index,
    "masks": write_masks,
    "cutouts": write_cutouts,
    "yolo": write_yolo,
}


class CocoDataset:
    """COCO dataset that grows picture by picture; ids count from 1.

    An annotation has `segmentation` (compressed run lengths), `bbox` [x, y, width, height] in pixels, `area` in pixels,
    `score` and `predicted_iou` (both the model's own estimate of the IoU), `object` (the number in other files),
    `point_coords` and `point_labels` (clicks), and what else is known. Empty masks are left out.
    """

    def __init__(self) -> None:
        self.images: list[dict] = []
        self.annotations: list[dict] = []

    def add(self, result: PictureResult) -> None:
        """Adds a picture with its objects."""
        height, width = result.pixels.shape[:2]
        image_id = len(self.images) + 1
        self.images.append({"id": image_id, "file_name": result.path.name, "height": height, "width": width})
        for found in result.objects:
            if found.mask.area:
                box_height, box_width = found.mask.part.shape
                self.annotations.append(
                    {
                        "id": len(self.annotations) + 1,
                        "image_id": image_id,
                        "category_id": 1,
                        "segmentation": run_lengths.compress(found.mask),
                        "bbox": [found.mask.left, found.mask.top, box_width, box_height],
                        "area": found.mask.area,
                        "iscrowd": 0,
                        "object": found.number,
                        "score": round(found.score, 4),
                        "predicted_iou": round(found.score, 4),
                        **found.facts,
                        "point_coords": [[x, y] for x, y, _ in found.points],
                        "point_labels": [label for _, _, label in found.points],
                    }
                )

    def write(self, path: Path) -> None:
        """Writes the file, whole or not at all, also if there is nothing in it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        categories = [{"id": 1, "name": "object"}]
        write_json_whole({"images": self.images, "annotations": self.annotations, "categories": categories}, path)
