"""COCO's JSON of a dataset as a source: its pictures, with their ids, which detections of them are known by."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileType

from ..files.reading import parse_json
from .items import PICTURE
from .place import Place
from .source_lists import ListedSource
from .source_names import clean_name

NUM_TRIED = 3  # pictures that are looked for at once; that all of them are missing is a wrong folder


@dataclass(frozen=True)
class CocoNames:
    """What numbers stand for in a COCO dataset: file names of images, and names of categories, by their ids as text."""

    images: dict[str, str]
    categories: dict[str, str]

    @classmethod
    def of(cls, content: dict[str, Any], name: str) -> "CocoNames":
        """The names in a dataset.

        Raises:
            ValueError: which calls it by `name`, for images without id or file name, and ids that repeat.
        """
        images = content.get("images")
        if not isinstance(images, list):
            raise ValueError(f'{name} is no dataset of COCO: expected {{"images": […], …}}')
        names: dict[str, str] = {}
        for image in images:
            is_usable = isinstance(image, dict) and isinstance(image.get("file_name"), str)
            if not is_usable or not isinstance(image.get("id"), int | str):
                raise ValueError(f'{name} has an image without a usable "id" and "file_name": {str(image)[:100]}')
            if str(image["id"]) in names:
                raise ValueError(f"{name} has several images of the id {image['id']}: boxes could be of either")
            path = image["file_name"].partition("://")[2] or image["file_name"]
            names[str(image["id"])] = clean_name(path, name)
        categories = content.get("categories")
        of_categories = [each for each in categories if isinstance(each, dict)] if isinstance(categories, list) else []
        return cls(names, {str(each.get("id")): str(each.get("name")) for each in of_categories})


class CocoSource(ListedSource):
    """The pictures of a COCO JSON.

    Args:
        place: of the JSON.
        pictures: folder from which on their `file_name`s are; None for that of the JSON.

    Raises:
        ValueError: for JSON that is damaged or of another kind, and for ids or names that repeat.
        FileNotFoundError: if its first pictures are not there.
    """

    def __init__(self, place: Place, pictures: str | Path | None = None) -> None:
        content, _ = read_json_file(place, dict, lambda entry: None if "image_id" in entry else entry)
        names = CocoNames.of(content, str(place))
        folder = place.folder if pictures is None else Place.of(pictures)
        addresses = [address_of(image["file_name"], folder) for image in content["images"]]
        files = zip(names.images.values(), addresses)
        super().__init__(str(place), PICTURE, f"{place.identity}, pictures in {folder.identity}", files)
        if all(Place.of(address).info().type == FileType.NotFound for address in addresses[:NUM_TRIED]):
            raise FileNotFoundError(f"{place} names {addresses[0]}, which is not there: say --pictures FOLDER")
        self.image_ids, self.categories = pa.array(names.images, pa.large_string()), names.categories

    def coco_names(self) -> CocoNames:
        """What numbers stand for in the dataset."""
        return CocoNames(dict(zip(self.image_ids.to_pylist(), self.names())), self.categories)


def address_of(file_name: str, folder: Place) -> str:
    """Where a picture is: its file name may be a whole path or address, or begin at a folder."""
    is_whole = "://" in file_name or (folder.is_local and os.path.isabs(file_name))
    return file_name if is_whole else str(folder / file_name)


def read_json_file(place: Place, kind: type, object_hook: Callable[[dict], Any] | None = None) -> tuple[Any, str]:
    """(content, digest) of a JSON file; see `parse_json`."""
    data = place.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is no text in UTF-8: save it as that ({error})") from error
    return parse_json(text, str(place), kind, object_hook), sha256(data).hexdigest()[:16]
