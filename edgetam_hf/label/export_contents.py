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

from .items import CLIP, PICTURE
from .place import Place
from .rows import ROW_SCHEMA, MaskRow, Row

NO_CATEGORY = "object"  # of masks of which nothing is said
SURVEYED_COLUMNS = [
    *("name", "kind", "num_frames", "frame_names", "checkpoint", "settings"),
    *("masks.list.element.category", "masks.list.element.area"),  # as Parquet calls parts of a list
]
NEEDED = set(ROW_SCHEMA.names) - {"frame_names", "frame_rate"}  # columns that say something of each row
SURVEY = {
    "name": pa.large_string(),
    "is_clip": pa.bool_(),
    "is_folder": pa.bool_(),
    "num_frames": pa.int64(),
    "num_masks": pa.int64(),
}
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


def survey(files: list[Place], keeps_suffix: bool) -> Contents:
    """The `Contents` of files of rows, of which only the names and the like are read.

    Args:
        files: of finished rows.
        keeps_suffix: whether what is written of a picture keeps the suffix of its name; that of a clip does not.

    Raises:
        ValueError: for damaged files, and for two rows that would be written under the same name.
    """
    columns: dict[str, list[pa.Array]] = {name: [] for name in SURVEY}
    categories: set[str | None] = set()
    num_masks, run = 0, ("", "{}")
    for file in files:
        for batch in read_batches(file, SURVEYED_COLUMNS, 4096):
            masks = batch.column("masks")
            columns["name"].append(batch.column("name").cast(pa.large_string()))
            columns["is_clip"].append(pc.equal(batch.column("kind"), CLIP))
            columns["is_folder"].append(pc.is_valid(batch.column("frame_names")))
            columns["num_frames"].append(batch.column("num_frames").cast(pa.int64()))
            columns["num_masks"].append(pc.list_value_length(masks).cast(pa.int64()))
            num_masks += pc.sum(pc.greater(pc.struct_field(masks.flatten(), "area"), 0)).as_py() or 0
            categories.update(pc.unique(pc.struct_field(masks.flatten(), "category")).to_pylist())
            run = batch.column("checkpoint")[0].as_py(), batch.column("settings")[0].as_py()
    found = {name: pa.chunked_array(columns[name], kind) for name, kind in SURVEY.items()}
    names, is_folder, is_clip = found["name"], found["is_folder"], found["is_clip"]
    is_whole = pc.or_(is_folder, pc.invert(is_clip)) if keeps_suffix else is_folder
    _check_apart(names, pc.if_else(is_whole, names, pc.replace_substring_regex(names, SUFFIX, r"\1")))
    order = pc.sort_indices(names).to_numpy()
    is_clip, num_frames, num_each = (found[name].to_numpy() for name in ("is_clip", "num_frames", "num_masks"))
    return Contents(
        files,
        is_clip,
        number=np.where(is_clip, _firsts(is_clip, order), _firsts(~is_clip, order)),
        first_image=_firsts(num_frames, order),
        first_mask=_firsts(num_each, order),
        num_masks=num_masks,
        categories=sorted({category or NO_CATEGORY for category in categories}),
        checkpoint=run[0],
        settings=run[1],
    )


def read_rows(contents: Contents) -> Iterator[NumberedRow]:
    """The rows that were surveyed, a few at a time; masks without pixels are left out.

    Raises:
        ValueError: for a row that is damaged.
    """
    numbers = zip(*(map(int, array) for array in (contents.number, contents.first_image, contents.first_mask)))
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
        known = {field.name: field.type for field in table.schema_arrow}
        if others := [field for field in ROW_SCHEMA if known.get(field.name) != field.type]:
            raise ValueError(f"it has no column {others[0].name!r} of {others[0].type}")
        batches = table.iter_batches(num_rows, columns=columns)
        while (batch := next(batches, None)) is not None:
            if lacking := [name for name in batch.schema.names if name in NEEDED and batch.column(name).null_count]:
                raise ValueError(f"it has a row without {lacking[0]}")
            yield batch


@contextmanager
def _reading(file: Place) -> Iterator[None]:
    """Within it, whatever a damaged file leads to becomes one line that names the file."""
    try:
        yield
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"{file} is damaged, or no file of rows: {first_line(error)}") from error


def _check(row: Row) -> None:
    """Raises a ValueError if what a row says is missing or does not fit together.

    Run lengths are checked where they are decoded: formats that copy them would be three times as slow.
    """
    name = row.item.name
    if not name or row.item.kind not in (PICTURE, CLIP) or min(row.height, row.width, row.num_frames) < 1:
        raise ValueError(f"{name!r} is a {row.item.kind} of {row.num_frames} frames of {row.width}x{row.height} pixels")
    if row.frame_names is not None and len(row.frame_names) != row.num_frames:
        raise ValueError(f"{name} has {row.num_frames} frames and {len(row.frame_names)} names of them")
    for mask in row.masks:
        if not 0 <= mask.frame < row.num_frames:
            raise ValueError(f"{name} has a mask on frame {mask.frame} of {row.num_frames}")
        if mask.score is None or not mask.counts or len(mask.bbox) != 4:
            raise ValueError(f"{name} has a mask without run lengths, a score or a box")


def _check_apart(names: pa.ChunkedArray, targets: pa.ChunkedArray) -> None:
    """Raises a ValueError if two rows would be written to the same target."""
    order = pc.sort_indices(targets)
    ordered = targets.take(order)
    idx = pc.index(pc.equal(ordered[1:], ordered[:-1]), True).as_py()
    if idx < 0:
        return
    first, second = sorted(names[order[at].as_py()].as_py() for at in (idx, idx + 1))
    if first == second:
        raise ValueError(f"{first} was labelled twice, as `edgetam label` never does: label again into a new folder")
    raise ValueError(
        f"{first} and {second} would both be written as {targets[order[idx].as_py()]}: label them into two folders, or "
        "take --format coco, which keeps suffixes of pictures"
    )


def _firsts(counts: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Number of the first of so many things of each row, int64 (N,), if all are counted from 1 in an order of rows."""
    counts = counts.astype(np.int64)
    firsts = np.empty_like(counts)
    firsts[order] = np.cumsum(counts[order]) - counts[order] + 1
    return firsts
