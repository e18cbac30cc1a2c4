"""The proof: replays the event log through a checker that shares no code with dispatcher and recovery.

It believes nothing but the events, in their order, and derives from them what every promise says; then it
compares how that leaves every unit with the table of units, which were read at the same moment. What only
the present can tell (the view against the desired states, refused epochs) is handed in as `Present`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from msgspec import Struct

from orchestration.journal.contract import UnitNow
from orchestration.records import EventRecord, InvariantRecord, VerifyAnswer

__all__ = ["Difference", "Present", "verify"]

LISTED = 20
_ENDS = {"unit.succeeded", "unit.failed", "unit.cancelled", "unit.superseded", "unit.quarantined"}
_AT_DEVICE = {"unit.executing", "unit.in_doubt"}
# What a unit was just before. In doubt is also one that was only sent; looking at its device may end it.
_BEFORE = {
    "unit.dispatched": {"unit.pending"},
    "unit.executing": {"unit.dispatched"},
    "unit.in_doubt": {"unit.dispatched", "unit.executing"},
    "unit.succeeded": {"unit.executing", "unit.in_doubt"},
    "unit.quarantined": {"unit.in_doubt"},
    "unit.superseded": {"unit.pending"},
}


class Difference(Struct, frozen=True):
    """A resource whose device is not as it should be, and how old that knowledge is."""

    path: str
    age_s: float | None
    is_listed: bool  # the view admits it


class Present(Struct, frozen=True):
    """What the log cannot say: the view of now, and refusals counted by the pods."""

    compared: int = 0
    differences: Sequence[Difference] = ()
    refused_epochs: int = 0


class _Promise:
    """How often one promise was tested, and what broke it."""

    __slots__ = ("checked", "violations")

    def __init__(self) -> None:
        self.checked = 0
        self.violations: list[str] = []

    def test(self, holds: bool, text: str) -> None:  # noqa: FBT001 - reads as an assertion
        self.checked += 1
        if not holds:
            self.broken(text)

    def broken(self, text: str) -> None:
        if len(self.violations) < LISTED:
            self.violations.append(text)

    def record(self, name: str, detail: str = "") -> InvariantRecord:
        return InvariantRecord(
            name=name,
            holds=not self.violations,
            checked=self.checked,
            violations=tuple(self.violations),
            detail=detail,
        )


class _Unit:
    """A unit as the log tells it."""

    __slots__ = ("is_cancelling", "number", "resource", "state")

    def __init__(self, number: int, resource: str) -> None:
        self.is_cancelling = False
        self.number = number  # in order of acceptance
        self.resource = resource
        self.state = "unit.pending"


class _Resource:
    """A resource as the log tells it: its unfinished units by number, and who is at the device."""

    __slots__ = ("at_device", "epoch", "open_numbers")

    def __init__(self) -> None:
        self.epoch: tuple[int, ...] = ()
        self.at_device: set[str] = set()
        self.open_numbers: dict[int, None] = {}  # in order of acceptance


class _Checker:
    """Takes the events one by one."""

    def __init__(self) -> None:
        self.one_end = _Promise()
        self.one_at_device = _Promise()
        self.epochs = _Promise()
        self.order = _Promise()
        self.isolation = _Promise()
        self.numbering = _Promise()
        self.cancelling = _Promise()
        self.steps = _Promise()
        self.events = 0
        self.accepted = 0
        self.ended = 0
        self.lost_nodes = 0
        self._last_seq = 0
        self._units: dict[str, _Unit] = {}
        self._over: dict[str, str] = {}  # by unit: how it ended
        self._resources: dict[str, _Resource] = {}

    def take(self, event: EventRecord) -> None:
        """Take the next event of the log."""
        self.events += 1
        text = f"event {event.seq} after {self._last_seq}"
        self.numbering.test(event.seq == self._last_seq + 1, text)
        self._last_seq = event.seq
        if event.kind.startswith("unit."):
            self._unit_event(event)
        elif event.kind.startswith("resource."):
            self._resource_event(event)
        elif event.kind == "node.lost":
            self.lost_nodes += 1

    def compare(self, table: Iterable[UnitNow]) -> None:
        """Compare what the log, taken to its end, leaves of every unit with what is kept of them."""
        open_units = {name: unit.state for name, unit in self._units.items()}
        promise = self.one_end
        for unit in table:
            told = open_units.pop(unit.id, None) or self._over.pop(unit.id, None)
            promise.checked += 1
            if told is None:
                promise.broken(f"{unit.id} is {unit.state}, the log does not know it")
            elif told != f"unit.{unit.state}":
                promise.broken(f"{unit.id} is {unit.state}, the log ends with {told}")
        for name in chain(open_units, self._over):
            promise.broken(f"{name} is in the log, and not among the units kept")

    @property
    def unfinished(self) -> int:
        """Accepted units that have not come to an end yet."""
        return len(self._units)

    def _resource_event(self, event: EventRecord) -> None:
        resource = self._resource(event.resource)
        text = f"{event.resource}: {event.kind} with epoch {event.epoch} after {resource.epoch}"
        self.epochs.test(event.epoch >= resource.epoch, text)
        resource.epoch = max(resource.epoch, event.epoch)
        if event.kind == "resource.retired":
            resource.epoch = ()  # should the name come back, it is another resource

    def _unit_event(self, event: EventRecord) -> None:
        unit = self._units.get(event.subject)
        if unit is None:
            self._begin(event)
            return
        resource = self._resource(unit.resource)
        text = f"{event.subject} is an event of {event.resource}, was accepted for {unit.resource}"
        self.one_end.test(event.resource == unit.resource, text)
        if event.kind == "unit.cancel_requested":
            unit.is_cancelling = True
            return
        self._cancelled(event, unit)
        resource.at_device.discard(event.subject)
        if event.kind == "unit.dispatched":
            self._dispatched(event, resource)
        elif event.kind in _AT_DEVICE:
            self._at_device(event, unit, resource)
        self._isolated(event)
        if event.kind != "unit.progress":
            self._step(event, unit)
            unit.state = event.kind
        elif unit.state in _AT_DEVICE:
            resource.at_device.add(event.subject)
        if event.kind in _ENDS:
            self._end(event, unit, resource)

    def _step(self, event: EventRecord, unit: _Unit) -> None:
        """Nothing is skipped between acceptance and end."""
        before = _BEFORE.get(event.kind)
        if before is not None:
            self.steps.checked += 1
            if unit.state not in before:
                self.steps.broken(f"{event.subject}: {event.kind} after {unit.state}")

    def _begin(self, event: EventRecord) -> None:
        """A name that is not open: it is accepted now, or something is wrong."""
        is_new = (
            event.kind == "unit.pending" and not event.detail and event.subject not in self._over
        )
        text = f"{event.subject}: {event.kind} without acceptance, or after its end"
        self.one_end.test(is_new, text)
        if is_new:
            self.accepted += 1
            self._units[event.subject] = _Unit(self.accepted, event.resource)
            self._resource(event.resource).open_numbers[self.accepted] = None

    def _end(self, event: EventRecord, unit: _Unit, resource: _Resource) -> None:
        self.ended += 1
        self.one_end.checked += 1
        del self._units[event.subject]
        self._over[event.subject] = event.kind
        resource.open_numbers.pop(unit.number, None)

    def _dispatched(self, event: EventRecord, resource: _Resource) -> None:
        text = f"{event.subject} sent to epoch {event.epoch}, the newest is {resource.epoch}"
        self.epochs.test(event.epoch == resource.epoch, text)

    def _at_device(self, event: EventRecord, unit: _Unit, resource: _Resource) -> None:
        others = resource.at_device
        if event.kind == "unit.executing":
            text = f"{unit.resource}: {event.subject} begins while {sorted(others)[:3]} may run"
            self.one_at_device.test(not others, text)
            first = next(iter(resource.open_numbers))
            text = f"{unit.resource}: {event.subject} begins before an earlier one has ended"
            self.order.test(first == unit.number, text)
            text = f"{event.subject} runs under {event.epoch}, the newest is {resource.epoch}"
            self.epochs.test(event.epoch == resource.epoch, text)
            others.add(event.subject)
        elif unit.state == "unit.executing":
            others.add(event.subject)

    def _cancelled(self, event: EventRecord, unit: _Unit) -> None:
        """A cancellation that was answered holds: the unit is not begun, nor put back to wait."""
        if unit.is_cancelling:
            is_again = event.kind in ("unit.dispatched", "unit.pending")
            self.cancelling.test(
                not is_again, f"{event.subject}: {event.kind} after its cancellation"
            )

    def _isolated(self, event: EventRecord) -> None:
        """What a loss puts in doubt lies within what was lost."""
        cause = event.detail.get("cause")
        if isinstance(cause, str):
            within = event.resource == cause or event.resource.startswith(f"{cause}/")
            text = f"{event.subject} on {event.resource} suffers from the loss of {cause}"
            self.isolation.test(within, text)

    def _resource(self, path: str) -> _Resource:
        if path not in self._resources:
            self._resources[path] = _Resource()
        return self._resources[path]


def verify(
    batches: Iterable[Sequence[EventRecord]],
    present: Present,
    table: Iterable[UnitNow] | None = None,
) -> VerifyAnswer:
    """Replay `batches`, the whole log in order, and judge every promise.

    Args:
        batches: the events.
        present: what the log cannot say.
        table: every unit as it is kept, of the same moment; read after the events. None: not compared.
    """
    checker = _Checker()
    for batch in batches:
        for event in batch:
            checker.take(event)
    if table is not None:
        checker.compare(table)
    promises = (
        checker.one_end.record(
            "I1", f"{checker.accepted} accepted, {checker.ended} ended, each exactly once"
        ),
        checker.one_at_device.record("I2", "units begun while no other was at the device"),
        checker.epochs.record(
            "I3", f"{present.refused_epochs} commands of old epochs were refused"
        ),
        InvariantRecord(
            name="I4",
            holds=True,
            checked=0,
            detail="nothing is allocated by this version: claims are declared, not placed",
        ),
        _view_promise(present),
        checker.order.record("order", "units begun as the first unfinished of their resource"),
        checker.isolation.record(
            "isolation", f"{checker.lost_nodes} nodes lost; units put in doubt only below them"
        ),
        checker.cancelling.record(
            "cancel", "steps after an accepted cancellation; none begins anew"
        ),
        checker.steps.record("steps", "steps of units; none skips the one that must be before it"),
        checker.numbering.record("log", "events numbered upwards from 1 without a gap"),
    )
    return VerifyAnswer(
        holds=all(promise.holds for promise in promises),
        events=checker.events,
        units=checker.accepted,
        unfinished=checker.unfinished,
        invariants=promises,
    )


def _view_promise(present: Present) -> InvariantRecord:
    promise = _Promise()
    promise.checked = present.compared - len(present.differences)
    for each in present.differences:
        promise.test(each.is_listed, f"{each.path} differs, and the view does not say so")
    ages = [each.age_s for each in present.differences if each.age_s is not None]
    oldest = f", the oldest known for {max(ages):.1f} s" if ages else ""
    return promise.record("I5", f"{len(present.differences)} differences listed{oldest}")
