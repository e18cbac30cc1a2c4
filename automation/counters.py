"""The counters of a node: plain numbers, read once a second for `Stats`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from automation.resource_memory import ResourceMemory
from metrics import DEPTH_BOUNDS, HANDLE_BOUNDS_S, WAIT_BOUNDS_S, Distribution
from rpc.messages import PodStats

__all__ = ["Counters"]


class Counters:
    """What a node counted since it started. One node owns it, so it changes in place."""

    __slots__ = (
        "commands",
        "crashes",
        "escalations",
        "handle_s",
        "restarts",
        "stale_epochs",
        "units",
        "wait_s",
    )

    def __init__(self) -> None:
        self.units: Counter[str] = Counter()
        self.crashes: Counter[str] = Counter()
        self.commands = 0
        self.restarts = 0
        self.escalations = 0
        self.stale_epochs = 0
        self.wait_s = Distribution(WAIT_BOUNDS_S)
        self.handle_s = Distribution(HANDLE_BOUNDS_S)

    def sample(
        self, memories: Iterable[ResourceMemory], reports_pending: int, loop_lag_s: float
    ) -> PodStats:
        """Put the counters, and the gauges of `memories`, into a message."""
        states: Counter[str] = Counter()
        depth = Distribution(DEPTH_BOUNDS)
        deepest = 0
        for memory in memories:
            states[memory.state.value] += 1
            waiting = len(memory.mailbox)
            depth.note(waiting)
            deepest = max(deepest, waiting)
        depths, waits, handles = depth.sample(), self.wait_s.sample(), self.handle_s.sample()
        return PodStats(
            processes=dict(states),
            mailbox_sum=int(depths.total),
            mailbox_max=deepest,
            mailbox_depth=depths.counts,
            units=dict(self.units),
            commands=self.commands,
            crashes=dict(self.crashes),
            restarts=self.restarts,
            escalations=self.escalations,
            stale_epochs=self.stale_epochs,
            reports_pending=reports_pending,
            wait_s=waits.counts,
            wait_s_sum=waits.total,
            handle_s=handles.counts,
            handle_s_sum=handles.total,
            loop_lag_s=loop_lag_s,
        )
