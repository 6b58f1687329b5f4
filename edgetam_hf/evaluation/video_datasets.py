"""Datasets of video object segmentation, in the folders in which DAVIS 2017, MOSE, YouTube-VOS and SA-V come.

A dataset is a list of `VideoSequence`s. Object ids are the values of index pictures, or the names of the folders that
have one picture per object.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..files.names import check_name, inside
from ..files.reading import read_json, read_text
from ..pictures_edgetam import open_picture, read_index_picture
from ..video_frames_edgetam import PictureFolder

VOID = 255  # pixels without a label, in DAVIS; they count as background


@dataclass(frozen=True)
class Layout:
    """Where a dataset has its parts, below its root.

    frames, annotations: folders with a folder for each sequence. listing: text file with a name per line, or
    `meta.json` of YouTube-VOS; without one, every folder of annotations is a sequence. is_per_object: whether
    annotations are one picture per object and frame, OBJECT/FRAME.png, in place of index pictures FRAME.png.
    is_last_scored: whether the last annotated frame counts; in davis2017-evaluation it does not.
    """

    title: str
    frames: str
    annotations: str
    listing: str | None = None
    is_per_object: bool = False
    is_last_scored: bool = False


LAYOUTS = {
    "davis": Layout("DAVIS 2017", "JPEGImages/480p", "Annotations/480p", "ImageSets/2017/val.txt"),
    "mose": Layout("MOSE", "JPEGImages", "Annotations"),
    "youtube-vos": Layout("YouTube-VOS", "JPEGImages", "Annotations", "meta.json", is_last_scored=True),
    "sa-v": Layout("SA-V", "JPEGImages_24fps", "Annotations_6fps", is_per_object=True),
}


# Pictures of masks.


def read_indices(path: str | Path) -> np.ndarray:
    """uint8 array (H, W) of the object ids in a palette or grey picture; pixels without a label are 0.

    A grey picture without other values than 0 and 255 is the mask of object 1, as in DAVIS 2016.

    Raises:
        ValueError: for a file that is missing or damaged, colours, and ids above 255.
    """
    image = open_picture(path, str(path))
    mode, indices = image.mode, np.array(image)
    if indices.ndim != 2 or mode == "F":
        raise ValueError(f"{path} must be a palette or grey picture whose values are object ids, got mode {mode}")
    if indices.max() > 255 or indices.min() < 0:
        worst = indices.max() if indices.max() > 255 else indices.min()
        raise ValueError(f"{path} has object id {worst}: ids go up to 255, others cannot be written back")
    indices = indices.astype(np.uint8)
    is_void = indices == VOID
    indices[is_void] = 0
    return is_void.astype(np.uint8) if mode == "L" and not indices.any() else indices


def read_mask_files(files: dict[int | None, Path], size: tuple[int, int]) -> dict[int, np.ndarray]:
    """Boolean masks (H, W) by object id, of the objects that are visible on a frame.

    Args:
        files: path by object id, of pictures whose pixels above 0 are the object; or `{None: path}`
            of an index picture.
        size: (height, width) that the pictures must have.
    """
    masks = {}
    for object_id, path in files.items():
        if object_id is None:
            indices = read_indices(path)
            numbers = np.flatnonzero(np.bincount(indices.ravel()))  # much faster than np.unique
            masks.update({int(number): indices == number for number in numbers if number})
        else:
            indices = read_object_mask(path)
            masks.update({object_id: indices} if indices.any() else {})
        if indices.shape != tuple(size):
            raise ValueError(
                f"{path} must have the size of the video, {size[1]}x{size[0]}, got {indices.shape[1]}x"
                f"{indices.shape[0]}"
            )
    return masks


def read_object_mask(path: str | Path) -> np.ndarray:
    """Boolean array (H, W) of the pixels above 0 in a picture of one object; the values do not matter."""
    return read_index_picture(path, str(path)) > 0


# Sequences.


@dataclass
class VideoSequence:
    """Frames with the masks that are known.

    Args:
        name: of its folder.
        frames: the pictures.
        annotations: files for `read_mask_files`, by index of the annotated frame, ascending.
        appearances: index of the first frame with an object, by object id, where the dataset says so.
        categories: name by object id, where the dataset has them.
        is_last_scored: whether the last annotated frame counts.
    """

    name: str
    frames: PictureFolder
    annotations: dict[int, dict[int | None, Path]]
    appearances: dict[int, int] | None = None
    categories: dict[int, str] | None = None
    is_last_scored: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames."""
        return self.frames.height, self.frames.width

    @property
    def frame_names(self) -> list[str]:
        """Names of the frames without their suffixes."""
        return [path.stem for path in self.frames.files]

    def read_masks(self, frame_idx: int) -> dict[int, np.ndarray]:
        """True masks (H, W) by object id, of the objects in a frame."""
        return read_mask_files(self.annotations[frame_idx], self.size)

    @cached_property
    def first_frames(self) -> dict[int, int]:
        """Index of the frame on which an object first appears, by object id, ascending in both."""
        found = dict(self.appearances or {})
        if self.appearances is None:
            named = {number for files in self.annotations.values() for number in files if number is not None}
            for frame_idx in self.annotations:
                if not named or not named <= set(found):  # else all are found that there are
                    found = {**dict.fromkeys(self.read_masks(frame_idx), frame_idx), **found}
            if missing := named - set(found):
                raise ValueError(f"sequence {self.name}: all masks of object {min(missing)} are empty")
        return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))

    @cached_property
    def object_ids(self) -> list[int]:
        """Ids of all objects, ascending."""
        return sorted(self.first_frames)

    def first_masks(self, frame_idx: int) -> dict[int, np.ndarray]:
        """True masks (H, W), by object id, of the objects that first appear on a frame."""
        ids = [number for number, first in self.first_frames.items() if first == frame_idx]
        masks = self.read_masks(frame_idx) if ids else {}
        for number in ids:
            if number not in masks:
                raise ValueError(f"sequence {self.name}: object {number} has an empty first mask, on frame {frame_idx}")
        return {number: masks[number] for number in ids}

    def scored_frames(self, object_id: int) -> list[int]:
        """Indices of the frames that count for an object: annotated, after its first one, mostly without the last."""
        annotated = [t for t, files in self.annotations.items() if object_id in files or None in files]
        return [t for t in annotated[1 : None if self.is_last_scored else -1] if t > self.first_frames[object_id]]


def read_dataset(layout: str, root: str | Path, names: Collection[str] | None = None) -> list[VideoSequence]:
    """List of the `VideoSequence`s of a dataset to be tracked from their first annotations, see `read_sequences`.

    Raises:
        ValueError: also for a first annotation without an object.
    """
    sequences = read_sequences(layout, root, names)
    for sequence in sequences:
        first_idx = min(sequence.annotations)
        if not sequence.read_masks(first_idx):
            raise ValueError(
                f"sequence {sequence.name}: the first annotation, "
                f"{next(iter(sequence.annotations[first_idx].values()))}, has no object: there is nothing to track"
            )
    return sequences


def read_sequences(
    layout: str, root: str | Path, names: Collection[str] | None = None, listing: str | None = None
) -> list[VideoSequence]:
    """List of the `VideoSequence`s of a dataset, sorted by name.

    Args:
        layout: a key of `LAYOUTS`.
        root: the folder that has what the layout names.
        names: those of the sequences to read; all unless given.
        listing: the text file below root, with a name per line, that says which sequences there are, such as
            `ImageSets/2017/train.txt` of DAVIS; that of the layout unless given.

    Raises:
        ValueError: for a folder of another layout, and frames that are missing.
    """
    root, places = Path(root), LAYOUTS[layout]
    check_root(root)
    places = replace(places, listing=listing or places.listing)
    parts = [part for part in (places.frames, places.annotations, places.listing) if part]
    if missing := [part for part in parts if not (root / part).exists()]:
        raise ValueError(
            f"{root} has not the layout of {places.title}: looked for {', '.join(parts)}, found no {', '.join(missing)}"
        )
    objects = _read_meta(root / places.listing) if places.listing == "meta.json" else {}
    known = sorted(objects) or _sequence_names(root, places)
    if unknown := set(names or ()) - set(known):
        raise ValueError(f"{root} has no sequence {min(unknown)}, it has {', '.join(known[:5])}, …")
    return [_read_sequence(root, places, name, objects.get(name)) for name in dict.fromkeys(names or known)]


def read_categories(path: str | Path) -> set[str]:
    """Set of the categories in a file: meta.json of a split of YouTube-VOS, or a text file with one per line.

    Raises:
        ValueError: for a file that is damaged or has none.
    """
    path = Path(path)
    if path.suffix == ".json":
        objects = _read_meta(path).values()
        found = {category for of_video in objects for _, category in of_video.values() if category is not None}
    else:
        found = {line.strip() for line in read_text(path).splitlines()} - {""}
    if not found:
        raise ValueError(f"{path} has no categories: give meta.json of the training split, or a file with one per line")
    return found


def _sequence_names(root: Path, layout: Layout) -> list[str]:
    if layout.listing:
        names = sorted(set(read_text(root / layout.listing).split()))
    else:
        folders = (path for path in (root / layout.annotations).iterdir() if path.is_dir())
        names = sorted(path.name for path in folders if not path.name.startswith("."))
    if not names:
        raise ValueError(f"{root / (layout.listing or layout.annotations)} names no sequence")
    for name in names:
        check_name(name, f"a sequence of {root / (layout.listing or layout.annotations)}")
    return names


def check_root(root: str | Path) -> None:
    """Raises a ValueError unless the folder of a dataset is there."""
    if not Path(root).is_dir():
        raise ValueError(f"there is no folder {root}: name the one that holds the dataset")


def _read_meta(path: Path) -> dict[str, dict[int, tuple[str, str | None]]]:
    """(name of the first frame, category or None) by object id, by name of the sequence, of YouTube-VOS."""
    videos = read_json(path).get("videos")
    try:
        found = {
            name: {_read_id(number): _read_object(of_object) for number, of_object in video["objects"].items()}
            for name, video in videos.items()
        }
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
            f'{path} is not {{"videos": {{NAME: {{"objects": {{ID: {{"frames": […]}}}}}}}}}}'
            f", as in YouTube-VOS: {error!r}"
        ) from error
    for name in found:
        check_name(name, f"a sequence of {path}")
    return found


def _read_id(number: str) -> int:
    if not (number.isascii() and number.isdecimal() and 1 <= int(number) < VOID):
        raise ValueError(f"object ids are 1 to {VOID - 1}, got {number[:20]!r}")
    return int(number)


def _read_object(of_object: dict) -> tuple[str, str | None]:
    """(name of the first frame, category or None) of an object of meta.json."""
    frames, category = of_object["frames"], of_object.get("category")
    if not isinstance(frames, list) or not isinstance(frames[0], str) or not isinstance(category, (str, type(None))):
        raise ValueError(f"expected names of frames and a category, got {str(of_object)[:100]}")
    return frames[0], category


def _read_sequence(
    root: Path, layout: Layout, name: str, objects: dict[int, tuple[str, str | None]] | None
) -> VideoSequence:
    folders = {part: inside(root / part, name) for part in (layout.frames, layout.annotations)}
    for part, folder in folders.items():
        if not folder.is_dir():
            raise ValueError(f"sequence {name} has no folder {folder} in {part}")
    frames = PictureFolder(folders[layout.frames])
    index = {path.stem: idx for idx, path in enumerate(frames.files)}
    annotations: dict[int, dict[int | None, Path]] = {}
    pictures = folders[layout.annotations].glob("*/*.png" if layout.is_per_object else "*.png")
    for path in sorted(path for path in pictures if not path.name.startswith(".")):
        if path.stem not in index:
            raise ValueError(f"sequence {name} lacks the frame of annotation {path}: looked in {frames.path}")
        object_id = _object_of(path) if layout.is_per_object else None
        annotations.setdefault(index[path.stem], {})[object_id] = path
    if not annotations:
        raise ValueError(f"sequence {name} has no annotation: looked for PNG files in {folders[layout.annotations]}")
    sequence = VideoSequence(name, frames, dict(sorted(annotations.items())), is_last_scored=layout.is_last_scored)
    if objects is not None:
        sequence.appearances = {number: _frame_of(name, index, first) for number, (first, _) in objects.items()}
        sequence.categories = {number: category for number, (_, category) in objects.items() if category is not None}
    return sequence


def _object_of(path: Path) -> int:
    if not path.parent.name.isdecimal():
        raise ValueError(f"{path.parent} must be named by the number of its object, as 000")
    return int(path.parent.name)


def _frame_of(name: str, index: dict[str, int], frame_name: str) -> int:
    if frame_name not in index:
        raise ValueError(f"sequence {name} lacks frame {frame_name}, which meta.json names")
    return index[frame_name]
