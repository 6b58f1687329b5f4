"""Pictures and clips of one source, each labelled as what it is."""

from typing import Any

from .items import Item
from .labeller import Labeller, PoisonError, Provenance
from .rows import Row


class MixedLabeller:
    """A `Labeller` of pictures and clips.

    Args:
        labellers: of each kind of items.
        provenance: what rows say of it.
        batch_size: items for a call of `label`.
    """

    def __init__(self, labellers: dict[str, Labeller], provenance: Provenance, batch_size: int):
        self.labellers, self.provenance, self.batch_size = labellers, provenance, batch_size

    def prepare(self, item: Item) -> tuple[str, Any]:
        """The kind of the item, and what its labeller prepares; see `Labeller.prepare`."""
        if item.kind not in self.labellers:
            raise PoisonError(f"{item.name} must be one of {', '.join(self.labellers)}, got {item.kind}")
        return item.kind, self.labellers[item.kind].prepare(item)

    def label(self, prepared: list[tuple[str, Any]]) -> list[Any]:
        """(kind, what was found) of each item, or its `PoisonError`; see `Labeller.label`."""
        found: dict[int, Any] = {}
        for kind, labeller in self.labellers.items():
            indices = [idx for idx, (own_kind, _) in enumerate(prepared) if own_kind == kind]
            if indices:
                found.update(zip(indices, labeller.label([prepared[idx][1] for idx in indices]), strict=True))
        return [
            found[idx] if isinstance(found[idx], PoisonError) else (kind, found[idx])
            for idx, (kind, _) in enumerate(prepared)
        ]

    def finish(self, found: tuple[str, Any]) -> Row:
        """The row of an item; see `Labeller.finish`."""
        kind, of_kind = found
        return self.labellers[kind].finish(of_kind)
