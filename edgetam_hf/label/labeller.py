"""What a labeller does, whatever it looks for; an engine calls its three steps, in one process or in several."""

from typing import Any, NamedTuple, Protocol

from .items import Item
from .rows import Row


class PoisonError(Exception):
    """An item that cannot be labelled; the message is the reason, one line for the user."""


class Provenance(NamedTuple):
    """Where masks come from.

    checkpoint: hash of the weights. settings: JSON of how they were used.
    """

    checkpoint: str
    settings: str


class Labeller(Protocol):
    """Three steps, so that the model never waits for files. All can be pickled; the model is loaded by `label`.

    What `prepare` returns and what `label` returns goes from process to process: plain arrays and numbers.
    """

    batch_size: int
    provenance: Provenance

    def prepare(self, item: Item) -> Any:
        """What the model needs of an item, decoded and brought to its input size; without a model, on a CPU.

        Raises:
            PoisonError: for an item that cannot be read, or whose prompts do not fit it.
        """
        ...

    def label(self, prepared: list[Any]) -> list[Any]:
        """What the model finds in a batch of items: for each what `finish` takes, or the `PoisonError` of that item.

        Out of memory, the batch is halved; an item that does not fit alone is `PoisonError`.
        """
        ...

    def finish(self, found: Any) -> Row:
        """The row of what was found in an item: masks as run lengths; without a model."""
        ...
