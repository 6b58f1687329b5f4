"""What is labelled: pictures and clips, with what is said of the objects in them, and the sources that list them.

An item travels between processes as a row of an Arrow table; `ITEM_SCHEMA` has its columns.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

try:
    import pyarrow as pa
except ImportError as error:
    raise ImportError("labelling needs pyarrow: pip install 'edgetam-hf[label]'") from error

PICTURE, CLIP = "picture", "clip"  # kinds of items
POINT_TYPE = pa.list_(pa.float32())  # x, y, label
MASK_TYPE = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
PROMPT_TYPE = pa.struct(
    [
        ("object", pa.int64()),
        ("frame", pa.int32()),
        ("box", pa.list_(pa.float32())),
        ("points", pa.list_(POINT_TYPE)),
        ("mask", MASK_TYPE),
        ("category", pa.string()),
        ("score", pa.float32()),
    ]
)
ITEM_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("name", pa.string()),
        ("kind", pa.string()),
        ("address", pa.string()),
        ("data", pa.large_binary()),
        ("prompts", pa.list_(PROMPT_TYPE)),
        ("prompt_size", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True)
class Prompt:
    """What is said of one object on one frame: a box, points or a mask.

    object: number of the object in its item, from 1 on. frame: index from 0 on, 0 in pictures. box: (x_min, y_min,
    x_max, y_max), and points: (x, y, label) each with label 1 on the object and 0 off it, all in pixels of the picture
    or frame as it is shown (turned as its EXIF data say). mask: COCO's compressed run lengths {"size": [H, W],
    "counts": str}. category: name of the object's class, and score: confidence of a detector; both are only passed on.
    """

    object: int
    frame: int = 0
    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float, int], ...] | None = None
    mask: dict[str, Any] | None = None
    category: str | None = None
    score: float | None = None

    def scaled(self, scale_x: float, scale_y: float) -> "Prompt":
        """The prompt on a picture of another size; a mask keeps its own."""
        box, points = self.box, self.points
        if box is not None:
            box = (box[0] * scale_x, box[1] * scale_y, box[2] * scale_x, box[3] * scale_y)
        if points is not None:
            points = tuple((x * scale_x, y * scale_y, label) for x, y, label in points)
        return replace(self, box=box, points=points)


@dataclass(frozen=True)
class Item:
    """A picture or clip to label.

    name: what it is called in its source and, with other suffixes, in files that are written of it: a relative path
    with `/`, unique in the source. kind: `PICTURE` or `CLIP`. address: path or address of the file, or of the folder of
    frames of a clip; None if `data` has the bytes of the file. prompts: what is said of its objects, by frame.
    prompt_size: (height, width) of the picture in whose pixels boxes and points are, (1, 1) if they are shares of a
    picture of any size; None if they are in pixels of this one.
    """

    name: str
    kind: str = PICTURE
    address: str | None = None
    data: bytes | None = None
    prompts: tuple[Prompt, ...] = field(default_factory=tuple)
    prompt_size: tuple[int, int] | None = None

    def in_pixels(self, height: int, width: int) -> "Item":
        """The item, which turned out to be of this size, with its prompts in its own pixels."""
        if self.prompt_size is None:
            return self
        scale_x, scale_y = width / self.prompt_size[1], height / self.prompt_size[0]
        prompts = tuple(prompt.scaled(scale_x, scale_y) for prompt in self.prompts)
        return replace(self, prompts=prompts, prompt_size=None)

    @property
    def id(self) -> str:
        """32 hexadecimal digits: the hash of the name."""
        return item_id(self.name)

    def to_row(self) -> dict[str, Any]:
        """The item as a row of a table with `ITEM_SCHEMA`."""
        columns = {"name": self.name, "kind": self.kind, "address": self.address, "data": self.data}
        prompts = [asdict(prompt) for prompt in self.prompts]
        return {"id": self.id, **columns, "prompts": prompts, "prompt_size": self.prompt_size}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Item":
        """The item of a row of such a table."""
        prompts = tuple(read_prompt(prompt) for prompt in row["prompts"])
        prompt_size = None if row["prompt_size"] is None else tuple(row["prompt_size"])
        return cls(row["name"], row["kind"], row["address"], row["data"], prompts, prompt_size)


def item_id(name: str) -> str:
    """32 hexadecimal digits that stand for an item of this name."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def read_prompt(row: dict[str, Any]) -> Prompt:
    """The prompt of a value of `PROMPT_TYPE`."""
    box = None if row["box"] is None else tuple(row["box"])
    points = None if row["points"] is None else tuple((x, y, int(label)) for x, y, label in row["points"])
    return Prompt(**{**row, "box": box, "points": points})


def table_of(items: list[Item]) -> pa.Table:
    """Items as an Arrow table with `ITEM_SCHEMA`."""
    return pa.Table.from_pylist([item.to_row() for item in items], schema=ITEM_SCHEMA)


class Part(Protocol):
    """Some of the items of a source, which can be pickled and read in another process."""

    @property
    def name(self) -> str:
        """What it is called in errors: the address of its file, or which items it has."""
        ...

    def __iter__(self) -> Iterator[Item]:
        """Reads the items, one by one.

        Raises:
            ValueError, OSError: of one line that names the file, for one that is damaged or cannot be read; the items
                before the damage have been given.
        """
        ...


class Source(Protocol):
    """Where items come from."""

    @property
    def name(self) -> str:
        """What the user calls it."""
        ...

    @property
    def kind(self) -> str:
        """That of all its items, `PICTURE` or `CLIP`."""
        ...

    @property
    def num_items(self) -> int | None:
        """How many items there are; None if only reading them tells."""
        ...

    @property
    def description(self) -> str:
        """What says that it is the same source, for the settings of a run."""
        ...

    def names(self) -> Iterator[str] | None:
        """The names of all items, in order; None if only reading them tells."""
        ...

    def parts(self, num_parts: int) -> Sequence[Part]:
        """About so many parts, or more, which together have each item once; the order is always the same."""
        ...
