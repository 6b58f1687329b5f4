"""Items that cannot be labelled: a file of JSON for each, which says why."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from .items import item_id
from .place import Place

SUFFIX, PART = ".json", "part-"


@dataclass(frozen=True)
class ErrorFiles:
    """The folder of these files, `ID.json` with {"id", "name", "error"}; written again they are the same."""

    place: Place

    def add(self, own_id: str, name: str, reason: str) -> None:
        """Writes the file of an item; raises an OSError of one line if it cannot be written."""
        text = json.dumps({"id": own_id, "name": name, "error": reason}, ensure_ascii=False)
        (self.place / f"{own_id}{SUFFIX}").write_whole(text.encode("utf-8", "surrogatepass"))

    def ids(self) -> list[str]:
        """Ids of the items that have a file, sorted."""
        names = self.place.file_names(is_recursive=False)
        return [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX) and not name.startswith(".")]

    def read(self, own_id: str) -> dict[str, Any]:
        """What the file of an item says."""
        return json.loads((self.place / f"{own_id}{SUFFIX}").read())

    def add_part(self, name: str, reason: str) -> None:
        """Writes the file of a part of a source that cannot be read to its end."""
        self.add(f"{PART}{item_id(name)}", name, reason)

    def remove_parts(self) -> None:
        """Removes the files of parts, which each run cuts and reads anew."""
        for name in self.ids():
            if name.startswith(PART):
                (self.place / f"{name}{SUFFIX}").delete()

    def remove_finished(self, finished: np.ndarray) -> None:
        """Removes the files of items that have been labelled since.

        Args:
            finished: sorted ids, bytes (num_items,).
        """
        for name in self.ids():
            if is_among([name], finished)[0]:
                (self.place / f"{name}{SUFFIX}").delete()


def is_among(item_ids: list[str], finished: np.ndarray) -> np.ndarray:
    """Which of some ids are in a sorted array of bytes, as bool (num_ids,)."""
    asked = np.asarray(item_ids, finished.dtype)
    if len(finished) == 0:
        return np.zeros(len(asked), bool)
    idx = np.searchsorted(finished, asked)
    return finished[np.minimum(idx, len(finished) - 1)] == asked
