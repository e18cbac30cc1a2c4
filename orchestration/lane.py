"""A lane: the unfinished units of one resource, in order of acceptance, as the dispatcher holds them.

Its rules say which units may be sent now. Nothing here knows a process, a journal or a clock.
"""

from __future__ import annotations

from collections import deque

from orchestration.journal.contract import OpenUnit
from orchestration.records import UnitSpec, UnitState
from rpc.messages import Command, Unit

__all__ = ["Lane", "QueuedUnit"]

_PENDING = UnitState.PENDING
_AT_THE_POD = frozenset({UnitState.DISPATCHED, UnitState.EXECUTING})


class QueuedUnit:
    """One unfinished unit. `epoch` is that of the incarnation it was last sent to."""

    __slots__ = (
        "accepted_utc",
        "attempt",
        "cancelling",
        "code",
        "completed",
        "crashes",
        "dispatched_at",
        "epoch",
        "id",
        "lane",
        "next_attempt_utc",
        "pod_losses",
        "reason",
        "seq",
        "spec",
        "state",
        "waits",
    )

    def __init__(self, unit_id: str, seq: int, spec: UnitSpec, accepted_utc: float) -> None:
        self.id = unit_id
        self.seq = seq
        self.spec = spec
        self.accepted_utc = accepted_utc
        self.state = _PENDING
        self.completed = 0
        self.attempt = 0
        self.crashes = 0
        self.pod_losses = 0  # deaths of its pod under it, since its last command was completed
        self.epoch: tuple[int, ...] = ()
        self.reason = ""
        self.code = ""
        self.next_attempt_utc: float | None = None
        self.dispatched_at = 0.0
        self.cancelling = False  # somebody asked; done as soon as it is not at the device
        self.lane: Lane | None = None
        # It may be tried again after a failure, so what follows must not be sent before its end.
        self.waits = spec.on_failure.strategy == "wait"

    @classmethod
    def restored(cls, unit_id: str, known: OpenUnit) -> QueuedUnit:
        """Rebuild one from the journal."""
        unit = cls(unit_id, known.seq, known.spec, known.accepted_utc)
        unit.state = known.state
        unit.completed = known.completed
        unit.attempt = known.attempt
        unit.crashes = known.crashes
        unit.epoch = known.epoch
        unit.reason = known.reason
        unit.code = known.code
        unit.next_attempt_utc = known.next_attempt_utc
        unit.cancelling = known.cancel_requested
        unit.pod_losses = known.pod_losses
        return unit

    @property
    def at_the_pod(self) -> bool:
        """Sent, and not known to have ended."""
        return self.state in _AT_THE_POD

    def message(self) -> Unit:
        """What the pod gets."""
        commands = tuple([Command(each.verb, each.params) for each in self.spec.commands])
        return Unit(
            self.id,
            self.seq,
            self.attempt,
            self.completed,
            commands,
            self.spec.command_deadline_s,
        )


class Lane:
    """The queue of one resource; `finished_at` is the clock at the last end of a unit."""

    __slots__ = ("finished_at", "path", "queue")

    def __init__(self, path: str) -> None:
        self.path = path
        self.queue: deque[QueuedUnit] = deque()
        self.finished_at = 0.0

    def append(self, unit: QueuedUnit) -> None:
        """Put a unit behind all others; it was accepted after them."""
        unit.lane = self
        self.queue.append(unit)

    def remove(self, unit: QueuedUnit) -> None:
        """Take out a unit that has come to its end."""
        if self.queue[0] is unit:
            self.queue.popleft()
        else:
            self.queue.remove(unit)
        unit.lane = None

    def before(self, seq: int) -> int:
        """How many units are in front of number `seq`, which is among the last ones."""
        behind = 0
        for unit in reversed(self.queue):
            if unit.seq < seq:
                break
            behind += 1
        return len(self.queue) - behind

    def due(self, now_utc: float, window: int, epoch: tuple[int, ...]) -> list[QueuedUnit]:
        """Which units may be sent now to the incarnation `epoch`, in order.

        At most `window` are there at a time. A unit in doubt, one that waits for its next attempt, and
        one sent to an earlier incarnation whose fate is not told yet hold up everything behind them.
        """
        due: list[QueuedUnit] = []
        for there, unit in enumerate(self.queue, start=1):
            if unit.state is _PENDING:
                if unit.next_attempt_utc is not None and unit.next_attempt_utc > now_utc:
                    break
                due.append(unit)
            elif unit.state not in _AT_THE_POD or unit.epoch != epoch:
                break
            if there >= window or unit.waits:
                break
        return due

    def at_the_pod(self) -> list[QueuedUnit]:
        """The units sent and not known to have ended, in order."""
        return [unit for unit in self.queue if unit.state in _AT_THE_POD]

    def in_doubt(self) -> list[QueuedUnit]:
        """The units that must be settled by observation, in order."""
        return [unit for unit in self.queue if unit.state is UnitState.IN_DOUBT]
