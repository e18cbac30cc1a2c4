"""The mailbox: the bounded queue of units in front of a resource process, and the unit in hand.

The pod's gateway offers units, the resource process takes them, one at a time and in order. It belongs
to the pod and outlives the process, so that a crash can name every unit that was in it. Pure: no I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum

from rpc.messages import Unit

__all__ = ["Hand", "Mailbox", "Offer"]


class Offer(Enum):
    """What became of an offered unit."""

    TAKEN = "taken"
    HELD = "held"  # it is here already: waiting or in hand
    FULL = "full"


class Hand:
    """The unit that is being executed: how far it is, and whether it shall stop at the next border."""

    __slots__ = ("cancelled", "completed", "started_at", "unit")

    def __init__(self, unit: Unit, started_at: float) -> None:
        self.unit = unit
        self.completed = unit.first
        self.started_at = started_at
        self.cancelled = False

    @property
    def is_done(self) -> bool:
        """Whether every command is applied."""
        return self.completed >= len(self.unit.commands)


class Mailbox:
    """At most `capacity` units wait, in the order they were offered; at most one is in hand."""

    __slots__ = ("_waiting", "capacity", "hand")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.hand: Hand | None = None
        # An idle mailbox holds no queue: 10,000 resources would pay 600 B each for empty ones.
        self._waiting: deque[tuple[Unit, float]] | None = None

    def __len__(self) -> int:
        return 0 if self._waiting is None else len(self._waiting)

    def ids(self) -> tuple[str, ...]:
        """Every unit here, the one in hand first."""
        hand = () if self.hand is None else (self.hand.unit.id,)
        return (*hand, *(unit.id for unit in self._units()))

    def offer(self, unit: Unit, now: float) -> Offer:
        """Put `unit` at the end of the queue, unless it is here already or there is no room."""
        if self.holds(unit.id):
            return Offer.HELD
        if len(self) >= self.capacity:
            return Offer.FULL
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append((unit, now))
        return Offer.TAKEN

    def holds(self, unit: str) -> bool:
        """Whether `unit` waits here or is in hand."""
        if self.hand is not None and self.hand.unit.id == unit:
            return True
        return any(waiting.id == unit for waiting in self._units())

    def take(self, now: float) -> tuple[Hand, float]:
        """Take the first unit in hand; the answer's second part is the seconds it waited."""
        assert self.hand is None, "a unit is in hand"
        assert self._waiting, "no unit waits"
        unit, offered_at = self._waiting.popleft()
        if not self._waiting:
            self._waiting = None
        self.hand = Hand(unit, now)
        return self.hand, now - offered_at

    def remove(self, unit: str) -> Unit | None:
        """Take a waiting unit out; None when it does not wait here."""
        for index, (waiting, _) in enumerate(self._waiting or ()):
            if waiting.id == unit:
                assert self._waiting is not None
                del self._waiting[index]
                return waiting
        return None

    def flush(self) -> tuple[Unit, ...]:
        """Empty the queue; answers what was in it, in order. The unit in hand stays."""
        units = tuple(self._units())
        self._waiting = None
        return units

    def _units(self) -> Iterator[Unit]:
        return (unit for unit, _ in self._waiting or ())
