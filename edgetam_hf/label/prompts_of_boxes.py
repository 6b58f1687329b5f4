"""Boxes of detectors: COCO's JSON of results, the annotations of a COCO dataset, and YOLO's folder of text files."""

import posixpath
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

from edgetam_cli.endings import first_line

from .box_collector import BoxCollector
from .place import Place
from .prompt_table import PromptTable
from .source_coco import CocoNames, read_json_file

CLASS_NAMES = "classes.txt"  # beside YOLO's files: the name of a class a line
FILES_AT_ONCE, NUM_THREADS = 4096, 16


def read_coco_boxes(place: Place, names: CocoNames) -> PromptTable:
    """The boxes of a JSON of results, or of the annotations of a dataset without crowds and what has no area.

    Args:
        place: of the JSON: a list of {"image_id", "category_id", "bbox": [x, y, width, height], "score"}, or
            {"images", "annotations", "categories"}.
        names: of images and categories by their ids; a dataset has its own. Other ids are taken for names.

    Raises:
        ValueError: for JSON that is damaged or of another kind, and boxes that cannot be.
    """
    boxes = BoxCollector(str(place))

    def keep(entry: dict[str, Any]) -> dict[str, Any] | None:
        """Notes a box; gives back what is none, of which there should be no more than images and categories."""
        return None if "image_id" in entry and add_coco_box(boxes, entry) else entry

    content, digest = read_json_file(place, object, keep)
    if isinstance(content, dict):
        names, content = CocoNames.of(content, str(place)), content.get("annotations")
    others = [entry for entry in content if entry is not None] if isinstance(content, list) else [content]
    if others:
        raise ValueError(
            f'{place} must be a list of {{"image_id", "category_id", "bbox": [x, y, width, height], "score"}}, or a '
            f'dataset of COCO with "annotations" like these, got {str(others[0])[:100]}'
        )
    images, categories = names.images, names.categories
    return boxes.table(digest, lambda image: images.get(image, image), lambda each: categories.get(each, each))


def add_coco_box(boxes: BoxCollector, entry: dict[str, Any]) -> bool:
    """Notes the box of an annotation or a detection; False if it has none, or none that can be read."""
    box, score, category = entry.get("bbox"), entry.get("score"), entry.get("category_id")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(side, int | float) for side in box):
        return False
    if not isinstance(score, int | float | None) or not isinstance(category, int | str | None):
        return False
    if not isinstance(entry["image_id"], int | str):
        return False
    try:
        x, y, width, height, score = map(float, (*box, float("nan") if score is None else score))
    except OverflowError:  # of a whole number of hundreds of digits
        return False
    is_left_out = "id" in entry and (entry.get("iscrowd") or width == 0 or height == 0)  # of a dataset
    if not is_left_out:
        label = str(entry["image_id"])
        boxes.add(label, (x, y, x + width, y + height), score, None if category is None else str(category))
    return True


def read_yolo_boxes(folder: Place) -> PromptTable:
    """The boxes of YOLO's text files, which are called as the pictures are, with .txt, and lie in folders as they do.

    A line is `class x y width height` or `class x y width height confidence`: the centre and the size as shares of the
    picture. A file classes.txt may have the names of the classes.

    Raises:
        ValueError: for a folder without such files, and lines that are none.
    """
    files = [name for name in folder.file_names() if name.endswith(".txt")]
    class_names = []
    if CLASS_NAMES in files:
        files.remove(CLASS_NAMES)
        class_names = read_lines((folder / CLASS_NAMES).read(), folder / CLASS_NAMES)
    if not files:
        raise ValueError(f"{folder} has no boxes of YOLO: expected a file NAME.txt for each picture")
    boxes, digest = BoxCollector(str(folder)), sha256()
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        for start in range(0, len(files), FILES_AT_ONCE):
            some = files[start : start + FILES_AT_ONCE]
            for file, data in zip(some, threads.map(lambda file: (folder / file).read(), some)):
                digest.update(f"{file}\0".encode() + data)
                for number, line in enumerate(read_lines(data, folder / file), 1):
                    add_yolo_box(boxes, posixpath.splitext(file)[0], line, f"{folder / file}, line {number}")
    names = {str(number): name for number, name in enumerate(class_names)}
    hexadecimal = digest.hexdigest()[:16]
    return boxes.table(hexadecimal, category_of=lambda each: names.get(each, each), prompt_size=(1, 1))


def read_lines(data: bytes, place: Place) -> list[str]:
    """The lines of a text file, without empty ones at its end."""
    try:
        return data.decode("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is no text in UTF-8: {first_line(error)}") from error


def add_yolo_box(boxes: BoxCollector, label: str, line: str, name: str) -> None:
    """Notes the box of a line; errors call it by `name`."""
    words = line.split()
    try:
        x, y, width, height, *score = map(float, words[1:])
    except ValueError:
        score = [0.0, 0.0]
    if len(score) > 1:
        raise ValueError(f"{name} must be `class x y width height` or with a confidence behind, got {line[:100]!r}")
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    boxes.add(label, box, score[0] if score else float("nan"), words[0])
