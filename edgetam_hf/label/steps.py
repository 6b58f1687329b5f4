"""The steps of a labeller for one item after the other, which set aside an item that cannot be labelled."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from edgetam_cli.endings import first_line

from .errors import ErrorFiles
from .items import Item
from .labeller import Labeller, PoisonError


class Passed(NamedTuple):
    """What goes from step to step: the id and name of an item, and what the last step made of it."""

    id: str
    name: str
    value: Any


@dataclass(frozen=True)
class Steps:
    """Each step gives None for an item that cannot be labelled, and writes into `errors` why."""

    labeller: Labeller
    errors: ErrorFiles

    def prepare(self, item: Item) -> Passed | None:
        """What the model needs of an item."""
        return self._attempt(Passed(item.id, item.name, item), self.labeller.prepare)

    def label(self, prepared: list[Passed]) -> list[Passed]:
        """What the model finds in a batch, without the items that it cannot label."""
        if not prepared:
            return []
        answers = self.labeller.label([passed.value for passed in prepared])
        found = []
        for passed, answer in zip(prepared, answers, strict=True):
            if isinstance(answer, PoisonError):
                self.errors.add(passed.id, passed.name, first_line(answer))
            else:
                found.append(passed._replace(value=answer))
        return found

    def finish(self, found: Passed) -> dict[str, Any] | None:
        """The row of what was found."""
        finished = self._attempt(found, lambda value: self.labeller.finish(value).to_row())
        return finished and finished.value

    def _attempt(self, passed: Passed, step: Callable[[Any], Any]) -> Passed | None:
        """A missing package concerns every item, and so ends the run; any other error is that of the item."""
        try:
            return passed._replace(value=step(passed.value))
        except ImportError:
            raise
        except PoisonError as error:
            reason = first_line(error)
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
        self.errors.add(passed.id, passed.name, reason)
        return None
