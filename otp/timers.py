"""Timers of one runtime: a heap of deadlines on the injected clock, with one loop timer for the earliest.

Never early. A cancelled timer leaves its heap entry behind; the heap is swept when half of it is dead.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Protocol

__all__ = ["Expiring", "TimerQueue", "TimerRef"]

SWEEP_AT = 256  # below this size a sweep saves nothing


class Expiring(Protocol):
    """What a timer is for: told once when its time has come."""

    def expired(self) -> None:
        """React to the deadline."""


class TimerRef:
    """One running timer. `target` is None once it has fired or was cancelled."""

    __slots__ = ("deadline", "target")

    def __init__(self, deadline: float, target: Expiring | None) -> None:
        self.deadline = deadline
        self.target = target


class TimerQueue:
    """All timers of a runtime; `arm` is asked to call `fire` at the given clock time."""

    __slots__ = ("_arm", "_armed_at", "_cancelled", "_clock", "_heap", "_serials")

    def __init__(self, clock: Callable[[], float], arm: Callable[[float], None]) -> None:
        self._clock = clock
        self._arm = arm
        self._heap: list[tuple[float, int, TimerRef]] = []
        self._serials = count()
        self._armed_at: float | None = None
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def start(self, delay_s: float, target: Expiring) -> TimerRef:
        """Tell `target` after `delay_s` seconds."""
        return self.start_at(self._clock() + max(0.0, delay_s), target)

    def start_at(self, deadline: float, target: Expiring) -> TimerRef:
        """Tell `target` at this time of the clock; as soon as possible if that is over."""
        timer = TimerRef(deadline, target)
        heapq.heappush(self._heap, (deadline, next(self._serials), timer))
        if self._armed_at is None or deadline < self._armed_at:
            self._armed_at = deadline
            self._arm(deadline)
        return timer

    def cancel(self, timer: TimerRef) -> float | None:
        """Stop `timer` and return the seconds it had left; None if it had fired or was cancelled."""
        if timer.target is None:
            return None
        timer.target = None
        self._cancelled += 1
        if self._cancelled * 2 > len(self._heap) > SWEEP_AT:
            self._heap = [entry for entry in self._heap if entry[2].target is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0
        return max(0.0, timer.deadline - self._clock())

    def read(self, timer: TimerRef) -> float | None:
        """Tell the seconds `timer` has left; None if it has fired or was cancelled."""
        return None if timer.target is None else max(0.0, timer.deadline - self._clock())

    def fire(self) -> None:
        """Tell everybody whose time has come, in order of deadline, then of start."""
        now = self._clock()
        try:
            while self._heap and self._heap[0][0] <= now:
                timer = heapq.heappop(self._heap)[2]
                target, timer.target = timer.target, None
                if target is None:
                    self._cancelled -= 1
                else:
                    target.expired()
        finally:  # a message to another node may be refused when it is sent: the other timers go on
            self._drop_cancelled_head()
            self._armed_at = self._heap[0][0] if self._heap else None
            if self._armed_at is not None:
                self._arm(self._armed_at)

    def _drop_cancelled_head(self) -> None:
        while self._heap and self._heap[0][2].target is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
