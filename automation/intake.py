"""The intake: takes units and cancellations from orchestration and answers those it cannot take.

A unit goes straight into its mailbox, not to the process: should the process die just now, the mailbox is
flushed and the unit named. What came before is answered as before and never run twice.
"""

from __future__ import annotations

from automation.mailbox import Hand, Mailbox, Offer
from automation.resource import WAKE
from automation.resource_memory import ResourceMemory, State
from automation.roster import ResourceTable
from automation.surroundings import Surroundings
from rpc.messages import Cancel, Dispatch, Dropped, Finished, Progress, Started, Unit

__all__ = ["Intake"]

_TAKING = (State.READY, State.EXECUTING, State.SUSPECT)


class Intake:
    """Puts what orchestration sends into the mailboxes of `table`."""

    def __init__(self, table: ResourceTable, pod: Surroundings) -> None:
        self._table = table
        self._pod = pod

    def dispatch(self, dispatch: Dispatch, now: float) -> None:
        """Take the unit, or say why not; one that is known is told about again."""
        unit = dispatch.unit
        memory = self._table.find(dispatch.path)
        finished = self._pod.finishes.find(dispatch.path, unit.id, unit.attempt)
        if finished is not None:
            self._pod.reporter.report(finished)
        elif memory is None:
            self._drop(dispatch.path, unit, "unknown")
        elif memory.mailbox.holds(unit.id):
            self._tell_again(memory, unit)
        elif any(doubtful.id == unit.id for doubtful in memory.doubt):
            return  # a duplicate of what a crash report names; settling tells how it ended
        elif memory.retiring:
            self._drop(memory.path, unit, "retired")
        elif dispatch.epoch != memory.epoch or memory.redefinition is not None:
            self._drop(memory.path, unit, "epoch")
        elif memory.state not in _TAKING:
            self._drop(memory.path, unit, memory.state.value)
        else:
            self._offer(memory, unit, now)

    def cancel(self, cancel: Cancel) -> None:
        """Take the unit out of the mailbox, or have it stopped at the next border."""
        memory = self._table.find(cancel.path)
        mailbox = None if memory is None else memory.mailbox
        finished = self._pod.finishes.find(cancel.path, cancel.unit, 0)
        if memory is not None and (unit := memory.mailbox.remove(cancel.unit)) is not None:
            self._cancelled(memory, unit)
        elif memory is not None and (hand := _hand(mailbox, cancel.unit)) is not None:
            hand.cancelled = True
            if memory.job is None and memory.pid is not None:
                memory.pid.cast(WAKE)
        elif finished is not None:
            self._pod.reporter.report(finished)
        else:
            self._pod.reporter.report(Dropped(cancel.path, cancel.unit, 0, "unknown"))

    def _offer(self, memory: ResourceMemory, unit: Unit, now: float) -> None:
        if memory.mailbox.offer(unit, now) is Offer.FULL:
            self._drop(memory.path, unit, "full")
        elif memory.state is State.READY and len(memory.mailbox) == 1:
            # Otherwise the process is busy, or has been woken, or waits for the reporter to open.
            assert memory.pid is not None
            memory.pid.cast(WAKE)

    def _drop(self, path: str, unit: Unit, reason: str) -> None:
        self._pod.reporter.report(Dropped(path, unit.id, unit.attempt, reason))

    def _tell_again(self, memory: ResourceMemory, unit: Unit) -> None:
        hand = _hand(memory.mailbox, unit.id)
        if hand is None:
            return  # it waits, as orchestration believes
        report, epoch = self._pod.reporter.report, memory.epoch
        report(Started(memory.path, epoch, unit.id, unit.attempt, 0.0))
        if hand.completed > unit.first:
            report(Progress(memory.path, epoch, unit.id, unit.attempt, hand.completed))

    def _cancelled(self, memory: ResourceMemory, unit: Unit) -> None:
        finished = Finished(
            memory.path,
            memory.epoch,
            unit.id,
            unit.attempt,
            "cancelled",
            unit.first,
            memory.observed,
            memory.exists,
        )
        self._pod.finishes.add(finished)
        self._pod.counters.units["cancelled"] += 1
        self._pod.reporter.report(finished)


def _hand(mailbox: Mailbox | None, unit: str) -> Hand | None:
    if mailbox is None or mailbox.hand is None or mailbox.hand.unit.id != unit:
        return None
    return mailbox.hand
