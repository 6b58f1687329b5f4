"""What is written of an item: a row of Parquet with all its masks, and where they come from."""

from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from .items import PROMPT_TYPE, Item, read_prompt

MASK_ROW_TYPE = pa.struct(
    [
        ("object", pa.int64()),
        ("frame", pa.int32()),
        ("counts", pa.string()),
        ("score", pa.float32()),
        ("stability_score", pa.float32()),
        ("bbox", pa.list_(pa.float32())),
        ("area", pa.int64()),
        ("point", pa.list_(pa.float32())),
        ("category", pa.string()),
    ]
)
ROW_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("name", pa.string()),
        ("kind", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("num_frames", pa.int32()),
        ("frame_names", pa.list_(pa.string())),
        ("frame_rate", pa.float32()),
        ("masks", pa.list_(MASK_ROW_TYPE)),
        ("prompts", pa.list_(PROMPT_TYPE)),
        ("checkpoint", pa.string()),
        ("settings", pa.string()),
    ]
)


@dataclass(frozen=True)
class MaskRow:
    """A mask of an object on a frame.

    object: number in the item, from 1 on. frame: index from 0 on. counts: COCO's compressed run lengths, of the size of
    the item. score: predicted IoU. bbox: [x, y, width, height] in pixels, as COCO has it. area: pixels. With mask
    generation also stability_score and the point (x, y) that found it; with prompts the category that they said.
    Objects that a frame of a clip does not show have no mask there.
    """

    object: int
    frame: int
    counts: str
    score: float
    bbox: list[float]
    area: int
    stability_score: float | None = None
    point: list[float] | None = None
    category: str | None = None


@dataclass(frozen=True)
class Row:
    """All that is found in an item, by object and then by frame.

    height, width: of the picture or of the frames, as shown. num_frames: 1 for pictures. frame_names: file names of a
    folder of frames, None otherwise. frame_rate: of a video file, frames per second, None otherwise. checkpoint: hash
    of the weights. settings: JSON of how they were used, which is the same for all rows of a run.
    """

    item: Item
    height: int
    width: int
    masks: list[MaskRow]
    checkpoint: str
    settings: str
    num_frames: int = 1
    frame_names: list[str] | None = None
    frame_rate: float | None = None

    def to_row(self) -> dict[str, Any]:
        """As a row of a table with `ROW_SCHEMA`."""
        item = self.item.to_row()
        columns = {name: getattr(self, name) for name in ROW_SCHEMA.names if hasattr(self, name)}
        masks = [asdict(mask) for mask in self.masks]
        return {**columns, **{name: item[name] for name in ("id", "name", "kind", "prompts")}, "masks": masks}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Row":
        """The row of such a table; where its item comes from is not in it."""
        item = Item(row["name"], row["kind"], prompts=tuple(read_prompt(prompt) for prompt in row["prompts"]))
        masks = [MaskRow(**mask) for mask in row["masks"]]
        others = {name: row[name] for name in ROW_SCHEMA.names if name in cls.__dataclass_fields__ and name != "masks"}
        return cls(item=item, masks=masks, **others)


def table_of_rows(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as an Arrow table with `ROW_SCHEMA`."""
    return pa.Table.from_pylist(rows, schema=ROW_SCHEMA)
