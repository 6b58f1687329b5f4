"""A source and a labeller without pictures and models, for what runs them; both can be pickled."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from edgetam_hf.label.folder import LabelFolder
from edgetam_hf.label.items import Item
from edgetam_hf.label.labeller import PoisonError, Provenance
from edgetam_hf.label.place import Place
from edgetam_hf.label.rows import MaskRow, Row


@dataclass(frozen=True)
class FakePart:
    """Items of these names; a name that begins with "damage" is where the part cannot be read on."""

    name: str
    names: list[str]

    def __iter__(self):
        for name in self.names:
            if name.startswith("damage"):
                raise ValueError(f"{self.name} is damaged")
            yield Item(name, data=name.encode())


@dataclass(frozen=True)
class FakeSource:
    """A source of some names."""

    all_names: list[str]
    name: str = "fake"
    kind: str = "picture"
    description: str = "fake"

    @property
    def num_items(self):
        return len(self.all_names)

    def names(self):
        return iter(self.all_names)

    def parts(self, num_parts):
        size = -(-len(self.all_names) // num_parts) or 1
        starts = range(0, len(self.all_names), size)
        return [FakePart(f"part {start}", self.all_names[start : start + size]) for start in starts]


def make_source(num_items, poison=()):
    """A source of so many items, of which those of some indices cannot be labelled, each at another step."""
    steps = ("prepare", "label", "finish", "bug")
    names = [f"{idx:05}.jpg" for idx in range(num_items)]
    for number, idx in enumerate(poison):
        names[idx] = f"poison at {steps[number % len(steps)]} {idx}"
    return FakeSource(names)


PROVENANCE = Provenance("00ff", json.dumps({"what": "fakes", "image_size": 8}))


@dataclass(frozen=True)
class FakeLabeller:
    """Finds one mask in each item. `before_step(step, name)` is called before each step of an item."""

    batch_size: int = 4
    provenance: Provenance = PROVENANCE
    before_step: Callable[[str, str], None] | None = field(default=None, compare=False)

    def _begin(self, step, name):
        if self.before_step:
            self.before_step(step, name)
        if name.startswith(f"poison at {step}"):
            raise PoisonError(f"cannot {step} it")

    def prepare(self, item):
        self._begin("prepare", item.name)
        if item.name.startswith("poison at bug"):
            raise KeyError("a fault")
        return item, np.full((2, 3), len(item.name), np.uint8)

    def label(self, prepared):
        return [self._label(*one) for one in prepared]

    def _label(self, item, pixels):
        try:
            self._begin("label", item.name)
        except PoisonError as error:
            return error
        return item, int(pixels.sum())

    def finish(self, found):
        item, area = found
        self._begin("finish", item.name)
        masks = [MaskRow(object=1, frame=0, counts="06", score=0.5, bbox=[0, 0, 3, 2], area=area)]
        return Row(item, 2, 3, masks, *self.provenance)


@dataclass(frozen=True)
class Kill:
    """Ends the process by SIGKILL before a step of an item, once, if there is a marker file."""

    step: str
    name: str
    marker: Path | None = None

    def __call__(self, step, name):
        if (step, name) != (self.step, self.name) or (self.marker and self.marker.exists()):
            return
        if self.marker:
            self.marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def read_rows(out):
    """All rows in a folder of labels, sorted by id, as lists of Python."""
    folder = LabelFolder(Place.of(out))
    files = {file.path for file in folder.row_files()}
    assert files == {file.path for file in folder.rows.files()}
    filesystem = folder.place.filesystem
    rows = [row for file in files for row in pq.read_table(file, filesystem=filesystem).to_pylist()]
    finished = [item_id.decode() for item_id in folder.finished_ids()]
    rows = sorted(rows, key=lambda row: row["id"])
    assert finished == [row["id"] for row in rows]
    return rows


def read_errors(out):
    """Reasons by name of the items in a folder of labels that failed."""
    errors = LabelFolder(Place.of(out)).errors
    return {error["name"]: error["error"] for error in map(errors.read, errors.ids())}
