"""What files of rows hold: first a survey, which gives every picture and mask its number, then the rows one by one."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from edgetam_cli.endings import first_line

from ..formats.run_lengths import read_counts
from .items import CLIP
from .place import Place
from .rows import ROW_SCHEMA, MaskRow, Row

NO_CATEGORY = "object"  # of masks of which nothing is said
SURVEYED = ["name", "kind", "num_frames", "frame_names", "masks.list.element.category"]  # all but the masks themselves
SUFFIX = r"([^/])\.[^./]*$"  # of a name: what is after its last dot
ROWS_AT_ONCE = 16  # a row of a clip may have megabytes


@dataclass(frozen=True)
class Contents:
    """What all rows hold, and the numbers that they get; these do not depend on who wrote which row where.

    is_clip: bool (N,), of the N rows in the order of reading. number, first_image and first_mask: int64 (N,), from 1 on
    and in the order of names: of the picture or clip among those of its kind, of its first frame among the frames of
    all, and of its first mask among the masks of all. categories: names, sorted. checkpoint and settings: of the run.
    """

    files: list[Place]
    is_clip: np.ndarray
    number: np.ndarray
    first_image: np.ndarray
    first_mask: np.ndarray
    num_masks: int
    categories: list[str]
    checkpoint: str
    settings: str

    @property
    def num_rows(self) -> int:
        return len(self.number)


@dataclass(frozen=True)
class NumberedRow:
    """A row with its numbers, see `Contents`."""

    row: Row
    number: int
    first_image: int
    first_mask: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.row.height, self.row.width

    @property
    def stem(self) -> str:
        """The name without the suffix of a file; that of a folder of frames as it is."""
        name = self.row.item.name
        return name if self.row.frame_names else re.sub(SUFFIX, r"\1", name)

    @property
    def frame_names(self) -> list[str]:
        """Name of each frame's picture; of the frames of a video file their index."""
        return self.row.frame_names or [f"{idx:05d}.png" for idx in range(self.row.num_frames)]

    def run_lengths(self, mask: MaskRow) -> dict:
        """COCO's `{"size": [H, W], "counts": str}` of one of the masks."""
        return {"size": list(self.size), "counts": mask.counts}

    def masks_by_frame(self) -> dict[int, list[MaskRow]]:
        """Masks by index of their frame; of frames without objects there are none."""
        found: dict[int, list[MaskRow]] = {}
        for mask in self.row.masks:
            found.setdefault(mask.frame, []).append(mask)
        return found

    def masks_by_object(self) -> dict[int, dict[int, MaskRow]]:
        """Masks by index of their frame, by number of the object."""
        found: dict[int, dict[int, MaskRow]] = {}
        for mask in self.row.masks:
            found.setdefault(mask.object, {})[mask.frame] = mask
        return found


def category_of(mask: MaskRow) -> str:
    """Name of what the mask shows."""
    return mask.category or NO_CATEGORY


def survey(files: list[Place], has_file_each: bool) -> Contents:
    """The `Contents` of files of rows, of which only the names and the like are read.

    Args:
        files: at least one with a row in it.
        has_file_each: whether a file is written for each row, called by its name without suffix.

    Raises:
        ValueError: for damaged files, an item that has two rows, and two names that would be one file.
    """
    columns: dict[str, list[pa.Array]] = {"name": [], "is_clip": [], "is_folder": [], "num_frames": [], "num_masks": []}
    categories: set[str | None] = set()
    for file in files:
        for batch in read_batches(file, SURVEYED, 4096):
            masks = batch.column("masks")
            columns["name"].append(batch.column("name").cast(pa.large_string()))
            columns["is_clip"].append(pc.equal(batch.column("kind"), CLIP))
            columns["is_folder"].append(pc.is_valid(batch.column("frame_names")))
            columns["num_frames"].append(batch.column("num_frames").cast(pa.int64()))
            columns["num_masks"].append(pc.list_value_length(masks).cast(pa.int64()))
            categories.update(pc.unique(pc.struct_field(masks.flatten(), "category")).to_pylist())
    found = {name: pa.chunked_array(arrays) for name, arrays in columns.items()}
    names, is_folder = found.pop("name"), found.pop("is_folder")
    _check_apart(names, names)
    if has_file_each:
        _check_apart(names, pc.if_else(is_folder, names, pc.replace_substring_regex(names, SUFFIX, r"\1")))
    order = pc.sort_indices(names).to_numpy()
    is_clip, num_frames, num_masks = (array.to_numpy() for array in found.values())
    first = next(read_batches(files[0], ["checkpoint", "settings"], 1))
    return Contents(
        files,
        is_clip,
        number=np.where(is_clip, _firsts(is_clip, order), _firsts(~is_clip, order)),
        first_image=_firsts(num_frames, order),
        first_mask=_firsts(num_masks, order),
        num_masks=int(num_masks.sum()),
        categories=sorted({category or NO_CATEGORY for category in categories}),
        checkpoint=first.column("checkpoint")[0].as_py(),
        settings=first.column("settings")[0].as_py(),
    )


def read_rows(contents: Contents) -> Iterator[NumberedRow]:
    """The rows that were surveyed, a few at a time; masks without pixels are left out.

    Raises:
        ValueError: for a row that is damaged.
    """
    numbers = zip(*(array.tolist() for array in (contents.number, contents.first_image, contents.first_mask)))
    for file in contents.files:
        for batch in read_batches(file, ROW_SCHEMA.names, ROWS_AT_ONCE):
            for columns in batch.to_pylist():
                with _reading(file):
                    row = Row.from_row(columns)
                    _check(row)
                yield NumberedRow(replace(row, masks=[mask for mask in row.masks if mask.area]), *next(numbers))


def read_batches(file: Place, columns: list[str], num_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of so many rows of a file, with some columns of `ROW_SCHEMA`.

    Raises:
        ValueError: for a file that is damaged or has other columns.
    """
    with file.open() as opened, _reading(file):
        table = pq.ParquetFile(opened)
        if missing := set(ROW_SCHEMA.names) - set(table.schema_arrow.names):
            raise ValueError(f"it has no column {min(missing)!r}")
        batches = table.iter_batches(num_rows, columns=columns)
        while (batch := next(batches, None)) is not None:
            yield batch


@contextmanager
def _reading(file: Place) -> Iterator[None]:
    """Within it, whatever a damaged file leads to becomes one line that names the file."""
    try:
        yield
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"{file} is damaged, or no file of rows: {first_line(error)}") from error


def _check(row: Row) -> None:
    """Raises a ValueError if numbers of a row do not fit each other."""
    name = row.item.name
    if row.frame_names is not None and len(row.frame_names) != row.num_frames:
        raise ValueError(f"{name} has {row.num_frames} frames and {len(row.frame_names)} names of them")
    for mask in row.masks:
        if not 0 <= mask.frame < row.num_frames:
            raise ValueError(f"{name} has a mask on frame {mask.frame} of {row.num_frames}")
        size = row.height, row.width
        read_counts({"size": size, "counts": mask.counts}, size, f"object {mask.object} of {name}")


def _check_apart(names: pa.ChunkedArray, targets: pa.ChunkedArray) -> None:
    """Raises a ValueError if two rows would be written to the same target."""
    order = pc.sort_indices(targets)
    ordered = targets.take(order)
    is_same = pc.equal(ordered[1:], ordered[:-1])
    if (idx := pc.index(is_same, True).as_py()) < 0:
        return
    first, second = sorted(names[order[at].as_py()].as_py() for at in (idx, idx + 1))
    if first == second:
        raise ValueError(
            f"{first} was labelled twice, which `edgetam label` does not do: label again into a new folder"
        )
    raise ValueError(
        f"{first} and {second} differ only in their suffix, and would be written to one file: "
        "take --format coco or youtube-vis, which keep whole names"
    )


def _firsts(counts: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Number of the first of so many things of each row, int64 (N,), if all are counted from 1 in an order of rows."""
    counts = counts.astype(np.int64)
    firsts = np.empty_like(counts)
    firsts[order] = np.cumsum(counts[order]) - counts[order] + 1
    return firsts
