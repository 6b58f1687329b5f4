"""Items that cannot be labelled: a file of JSON for each, which says why."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from .place import Place

SUFFIX = ".json"


@dataclass(frozen=True)
class ErrorFiles:
    """The folder of these files, `ID.json` with {"id", "name", "error"}; written again they are the same."""

    place: Place

    def add(self, item_id: str, name: str, reason: str) -> None:
        """Writes the file of an item; raises an OSError of one line if it cannot be written."""
        text = json.dumps({"id": item_id, "name": name, "error": reason}, ensure_ascii=False)
        (self.place / f"{item_id}{SUFFIX}").write_whole(text.encode("utf-8", "surrogatepass"))

    def ids(self) -> list[str]:
        """Ids of the items that have a file, sorted."""
        names = self.place.file_names(is_recursive=False)
        return [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX) and not name.startswith(".")]

    def read(self, item_id: str) -> dict[str, Any]:
        """What the file of an item says."""
        return json.loads((self.place / f"{item_id}{SUFFIX}").read())

    def remove(self, item_id: str) -> None:
        """Removes the file of an item, if there is one."""
        (self.place / f"{item_id}{SUFFIX}").delete()

    def remove_finished(self, finished: np.ndarray) -> None:
        """Removes the files of items that have been labelled since.

        Args:
            finished: sorted ids, bytes (num_items,).
        """
        for item_id in self.ids():
            if is_among([item_id], finished)[0]:
                self.remove(item_id)


def is_among(item_ids: list[str], finished: np.ndarray) -> np.ndarray:
    """Which of some ids are in a sorted array of bytes, as bool (num_ids,)."""
    asked = np.asarray(item_ids, finished.dtype)
    if len(finished) == 0:
        return np.zeros(len(asked), bool)
    idx = np.searchsorted(finished, asked)
    return finished[np.minimum(idx, len(finished) - 1)] == asked
