"""Prompts that are pictures of masks, one for a picture or frame, in the layout of DAVIS."""

import posixpath
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..formats.run_lengths import compress
from ..found_objects import CutMask
from ..pictures_edgetam import PICTURE_SUFFIXES, VIDEO_SUFFIXES, read_index_picture
from ..video_frames_edgetam import natural_key
from .items import CLIP, PROMPT_TYPE, Item, Prompt, Source
from .place import Place
from .prompt_table import PromptTable, possible_labels, to_arrow
from .source_files import has_suffix
from .source_lists import ListedSource

NUM_THREADS = 16


def read_mask_folder(folder: Place, source: Source) -> PromptTable:
    """The masks of a folder with an index picture NAME.png for each picture, or CLIP/FRAME.png for each prompted frame.

    The pixels of an object have its number, and 0 is background. FRAME is the name of a picture of the clip without
    suffix, or in video files the index of the frame. Names are as in `PromptTable.rows_of`.

    Raises:
        ValueError: for a folder without such pictures, and for those that are damaged or of frames that are not there.
        OSError: of one line, for what cannot be read.
    """
    files = [name for name in folder.file_names() if name.lower().endswith(".png")]
    of_item: dict[str, list[str]] = {}
    for file in files:
        label = posixpath.dirname(file) if source.kind == CLIP else posixpath.splitext(file)[0]
        of_item.setdefault(label, []).append(file)
    if not of_item or "" in of_item:
        expected = "CLIP/FRAME.png" if source.kind == CLIP else "NAME.png"
        raise ValueError(f"{folder} must have masks as {expected}, found {of_item.get('', ['none'])[0]}")
    frames = number_frames(folder, of_item, source) if source.kind == CLIP else dict.fromkeys(files, 0)
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        read = dict(zip(files, threads.map(lambda file: read_masks(folder / file, frames[file]), files)))
    digest = sha256(repr([(file, read[file][1]) for file in files]).encode()).hexdigest()[:16]
    prompts = [[prompt for file in some for prompt in read[file][0]] for some in of_item.values()]
    table = to_arrow(prompts, pa.list_(PROMPT_TYPE), str(folder))
    return PromptTable.of((str(folder), digest), list(of_item), table)


def number_frames(folder: Place, of_clip: dict[str, list[str]], source: Source) -> dict[str, int]:
    """Index of the frame of each mask of a folder, whose files are given by clip."""
    names: dict[str, list[str]] = {}  # of the frames of clips that are folders, by what the masks call the clip
    for item in items_at_addresses(source):
        label = next((label for label in possible_labels(item.name) if label in of_clip), None)
        if label is not None and item.address and not has_suffix(item.address, VIDEO_SUFFIXES):
            files = Place.of(item.address).file_names(is_recursive=False)
            pictures = (Path(file) for file in files if has_suffix(file, PICTURE_SUFFIXES) and file[0] != ".")
            names[label] = [file.stem for file in sorted(pictures, key=natural_key)]
    frames = {}
    for label, files in of_clip.items():
        for file in files:
            stem = posixpath.splitext(posixpath.basename(file))[0]
            if label in names and stem in names[label]:
                frames[file] = names[label].index(stem)
            elif label not in names and stem.isascii() and stem.isdigit():
                frames[file] = int(stem)
            else:
                raise ValueError(f"{folder / file} is the mask of a frame that clip {label} does not have")
    return frames


def items_at_addresses(source: Source) -> Iterator[Item]:
    """The items of a source that are known without reading anything."""
    return (item for part in source.parts(1) for item in part) if isinstance(source, ListedSource) else iter(())


def read_masks(place: Place, frame: int) -> tuple[list[dict], str]:
    """(prompts, digest) of an index picture."""
    data = place.read()
    indices = read_index_picture(data, str(place))
    numbers = [int(number) for number in np.unique(indices) if number > 0]
    masks = [compress(CutMask.of(indices == number)) for number in numbers]
    prompts = [asdict(Prompt(number, frame, mask=mask)) for number, mask in zip(numbers, masks)]
    return prompts, sha256(data).hexdigest()
