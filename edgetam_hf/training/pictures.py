"""Sources of pictures with masks: COCO's JSON of instances, SA-1B, and folders of pictures and index pictures.

A picture is a clip of one frame, see `clips`.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.clicks import read_masked_pictures
from ..evaluation.video_datasets import read_mask_files
from ..files.names import inside
from ..files.reading import read_json
from ..pictures_edgetam import read_picture
from .clips import Clip
from .coco_masks import area, check_pycocotools, check_segmentation, decode_segmentation, get_value
from .sources import register_source

IMAGE_FIELDS: dict[str, Any] = {"id": (int, str), "file_name": str, "height": int, "width": int}  # of COCO's JSON
LARGEST_SHARE = 0.9  # of a picture: larger masks of SA-1B are left out, as SAM 2 does (arXiv 2408.00714)


class PictureSource:
    """Source of clips of one frame; its kinds differ in what `open` reads."""

    has_videos = False

    def __len__(self) -> int:
        raise NotImplementedError

    def open(self, index: int) -> tuple[np.ndarray, list]:
        """uint8 array (height, width, 3) of a picture, and its objects, each a segmentation of COCO or a mask."""
        raise NotImplementedError

    def draw(self, index: int, num_frames: int, max_objects: int, rng: np.random.Generator) -> Clip:
        """A `Clip` of one picture with up to `max_objects` of its objects, drawn by `rng`; empty masks are dropped.

        Raises:
            ValueError: for more than one frame, and a picture or masks that cannot be read or have different sizes.
        """
        if num_frames != 1:
            raise ValueError(f"a picture is a clip of one frame, got num_frames={num_frames}")
        picture, objects = self.open(index)
        chosen = sorted(rng.permutation(len(objects))[:max_objects])
        masks = np.zeros((1, len(chosen), *picture.shape[:2]), bool)
        for mask, object_idx in zip(masks[0], chosen):
            found = objects[object_idx]
            if not isinstance(found, np.ndarray):
                found = decode_segmentation(found, mask.shape, f"{type(self).__name__} {index}")
            mask[:] = found
        return Clip([picture], masks[:, masks.any((0, 2, 3))])


@register_source("index-pictures")
class IndexPictures(PictureSource):
    """Pictures of a folder images/ with their index pictures in masks/, see `read_masked_pictures`."""

    def __init__(self, root: str | Path) -> None:
        self.pictures = read_masked_pictures(root)

    def __len__(self) -> int:
        return len(self.pictures)

    def open(self, index: int) -> tuple[np.ndarray, list]:
        files = self.pictures[index]
        picture = read_picture(files.picture)
        return picture, list(read_mask_files({None: files.masks}, picture.shape[:2]).values())


@register_source("coco")
class CocoPictures(PictureSource):
    """Pictures that have objects in a JSON of instances as that of COCO; crowds are left out.

    Args:
        annotations: the JSON file, `{"images": […], "annotations": […]}`.
        images: the folder below which `file_name` of each picture is looked for.

    Raises:
        ImportError: without pycocotools.
        ValueError: for JSON that is damaged or not of this kind, pictures that are missing, and no objects at all.
    """

    def __init__(self, annotations: str | Path, images: str | Path) -> None:
        check_pycocotools()
        self.path, self.images = Path(annotations), Path(images)
        data = read_json(self.path)
        if missing := [key for key in ("images", "annotations") if not isinstance(data.get(key), list)]:
            raise ValueError(
                f'{self.path} must have lists "images" and "annotations", as instances of COCO, found no "{missing[0]}"'
            )
        sizes = self._read_sizes(data["images"])
        objects: dict[int | str, list] = {image_id: [] for image_id in sizes}
        for annotation in data["annotations"]:
            image_id, name = get_value(annotation, "image_id"), f"{self.path}: annotation {get_value(annotation, 'id')}"
            if not isinstance(image_id, IMAGE_FIELDS["id"]) or image_id not in sizes:
                raise ValueError(f'{name} is of image {str(image_id)[:100]}, which "images" lacks')
            if not annotation.get("iscrowd"):
                check_segmentation(annotation.get("segmentation"), sizes[image_id], name)
                objects[image_id].append(annotation["segmentation"])
        # as text, since worker processes would copy millions of Python numbers when they look at them
        self.pictures = [
            (image["file_name"], sizes[image["id"]], json.dumps(objects[image["id"]]).encode())
            for image in data["images"]
            if objects[image["id"]]
        ]
        if not self.pictures:
            raise ValueError(f"{self.path} has no object, crowds left out: there is nothing to learn")

    def _read_sizes(self, images: list[dict]) -> dict[int | str, tuple[int, int]]:
        """(height, width) of the pictures by id."""
        for image in images:
            if missing := [key for key, kind in IMAGE_FIELDS.items() if not isinstance(get_value(image, key), kind)]:
                raise ValueError(f'{self.path}: an image has no usable "{missing[0]}": {str(image)[:100]}')
            if min(image["height"], image["width"]) < 1:
                raise ValueError(f"{self.path}: image {image['id']} has no pixels: {str(image)[:100]}")
            if not (path := inside(self.images, image["file_name"])).is_file():
                raise ValueError(f"{self.path} names a picture that is missing: looked for {path}")
        sizes = {image["id"]: (image["height"], image["width"]) for image in images}
        if len(sizes) < len(images):
            twice = next(number for number, count in Counter(image["id"] for image in images).items() if count > 1)
            raise ValueError(f"{self.path} has several images of the id {twice}: masks could be of either")
        return sizes

    def __len__(self) -> int:
        return len(self.pictures)

    def open(self, index: int) -> tuple[np.ndarray, list]:
        name, size, objects = self.pictures[index]
        return load_picture_of_size(self.images / name, size, self.path), json.loads(objects)


@register_source("sa-1b")
class Sa1bPictures(PictureSource):
    """Pictures of SA-1B: a folder with sa_NUMBER.jpg and sa_NUMBER.json of each; masks of nearly all are left out.

    Raises:
        ImportError: without pycocotools.
        ValueError: for a folder without these files, and a picture without JSON or the other way round.
    """

    def __init__(self, root: str | Path) -> None:
        check_pycocotools()
        self.root = Path(root)
        stems = {suffix: {path.stem for path in self.root.glob(f"sa_*{suffix}")} for suffix in (".jpg", ".json")}
        if not any(stems.values()):
            raise ValueError(f"{root} has not the layout of SA-1B: looked for sa_*.jpg and sa_*.json, found neither")
        if unpaired := stems[".jpg"] ^ stems[".json"]:
            stem = min(unpaired)
            lacking = ".json" if stem in stems[".jpg"] else ".jpg"
            raise ValueError(f"{root} has no {stem}{lacking}: every picture needs one with its masks")
        self.stems = sorted(stems[".jpg"])

    def __len__(self) -> int:
        return len(self.stems)

    def open(self, index: int) -> tuple[np.ndarray, list]:
        path = self.root / f"{self.stems[index]}.json"
        data = read_json(path)
        image, annotations = data.get("image"), data.get("annotations")
        size = get_value(image, "height"), get_value(image, "width")
        if not all(isinstance(side, int) for side in size) or not isinstance(annotations, list):
            raise ValueError(f'{path} must have "image" with "height" and "width", and a list "annotations"')
        picture = load_picture_of_size(path.with_suffix(".jpg"), size, path)
        objects, largest_area = [], LARGEST_SHARE * size[0] * size[1]
        for number, annotation in enumerate(annotations):
            segmentation, name = get_value(annotation, "segmentation"), f"{path}: annotation {number}"
            check_segmentation(segmentation, size, name)
            if area(segmentation, size, name) <= largest_area:
                objects.append(segmentation)
        return picture, objects


def load_picture_of_size(path: Path, size: tuple[int, int], origin: Path) -> np.ndarray:
    """uint8 array (height, width, 3) of a picture file, whose size must be the one that the file `origin` says."""
    picture = read_picture(path)
    if picture.shape[:2] != tuple(size):
        raise ValueError(
            f"{path} has {picture.shape[1]}x{picture.shape[0]} pixels, its masks in {origin} have {size[1]}x{size[0]}"
        )
    return picture
