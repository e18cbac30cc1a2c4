"""What a resource process finds around it in its pod, and what the pod remembers of finished units."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from automation.counters import Counters
from automation.driver_pool import DriverPool
from automation.resource_memory import ResourceMemory
from automation.throttle import Ask
from rpc.messages import Epoch, Finished, ReportBody

__all__ = ["Finishes", "Reporter", "Surroundings"]

# More than the reports a gateway keeps (gateway.HIGH) plus a unit in each of 10,000 hands: what has not
# been acknowledged is always still here.
_MOST_FINISHES = 16_384


class Reporter(Protocol):
    """Where reports go; a `Gateway`."""

    @property
    def is_open(self) -> bool:
        """Whether a unit may be begun."""

    def report(self, body: ReportBody) -> None:
        """Tell orchestration."""

    def tell_figures(self) -> None:
        """Send the node's figures now, not at the next second."""


class Finishes:
    """How the latest units ended, so that one dispatched twice is told again and not run again."""

    __slots__ = ("_by_unit",)

    def __init__(self) -> None:
        self._by_unit: dict[str, Finished] = {}

    def add(self, finished: Finished) -> None:
        """Remember `finished`, and forget the oldest where there are too many."""
        self._by_unit.pop(finished.unit, None)
        self._by_unit[finished.unit] = finished
        if len(self._by_unit) > _MOST_FINISHES:
            del self._by_unit[next(iter(self._by_unit))]

    def find(self, path: str, unit: str, attempt: int) -> Finished | None:
        """How `unit` ended on `path` in this attempt or a later one; None if it has not."""
        finished = self._by_unit.get(unit)
        if finished is None or finished.path != path or finished.attempt < attempt:
            return None
        return finished


@dataclass(slots=True, kw_only=True)
class Surroundings:
    """The pod as its resource processes see it; one per pod."""

    epoch: Epoch
    reporter: Reporter
    drivers: DriverPool
    ask: Callable[[Ask], None]  # to be claimed, when the throttle lets it
    gone: Callable[[ResourceMemory], None]  # a retired resource has nothing more to do
    set_aside_after: int = 3
    counters: Counters = field(default_factory=Counters)
    finishes: Finishes = field(default_factory=Finishes)
    random: random.Random = field(default_factory=random.Random)
    # Resources that wait for the reporter to open, in the order they began to.
    blocked: dict[ResourceMemory, None] = field(default_factory=dict)
