"""What keeps an item whose processes die from being tried without end: Ray repeats the work of a process that died."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .errors import ErrorFiles

MOST_DEATHS = 2  # of processes in the middle of an item that is tried alone, as after a first death in its batch


class Unfinished:
    """How often work has begun that has not ended, by its key."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()

    def begin(self, key: tuple[str, ...]) -> int:
        """How often this work has begun before."""
        self.counts[key] += 1
        return self.counts[key] - 1

    def end(self, key: tuple[str, ...]) -> None:
        """Forgets work that is done."""
        self.counts.pop(key, None)


@dataclass(frozen=True)
class Attempts:
    """Steps of a job that note, in a process of Ray beside them, when they begin and end.

    unfinished: an actor of `Unfinished`. errors: where items are noted that are set aside.
    """

    unfinished: Any
    errors: ErrorFiles

    @classmethod
    def of(cls, errors: ErrorFiles) -> "Attempts":
        """Those of a new job; what they note lies on the machine of this process, and goes with it."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        settings = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
        return cls(ray.remote(Unfinished).options(**settings).remote(), errors)

    def make(self, step: str, batch: list[Any], function: Callable[[list[Any]], list[Any]]) -> list[Any]:
        """What a function makes of a batch, without the items that end every process in the middle of the step.

        Args:
            step: what the step is called.
            batch: what has the `id` and the `name` of an item.
            function: from some of the batch to what the step makes of them.
        """
        if self._begin(step, batch) == 0:
            made = function(batch)
        else:
            made = [value for one in batch for value in self._make_alone(step, one, function)]
        self._end(step, batch)
        return made

    def _make_alone(self, step: str, one: Any, function: Callable[[list[Any]], list[Any]]) -> list[Any]:
        step_alone = f"{step} alone"  # a batch may be one item only
        num_deaths = self._begin(step_alone, [one])
        if num_deaths >= MOST_DEATHS:  # it stays noted, for the batch may have to be repeated
            reason = "each process that tried it has died: its file may crash a library, or need too much memory"
            self.errors.add(one.id, one.name, reason)
            return []
        made = function([one])
        self._end(step_alone, [one])
        return made

    def _begin(self, step: str, batch: list[Any]) -> int:
        return ray.get(self.unfinished.begin.remote((step, *(one.id for one in batch))))

    def _end(self, step: str, batch: list[Any]) -> None:
        self.unfinished.end.remote((step, *(one.id for one in batch)))
