"""The dispatcher: one process per zone, which owns the zone's book and carries out what it decides.

Everything the book changes goes to the journal first; the messages that follow from it leave when the
commit is done, and only over the link they were meant for. Commits of all zones share one fsync.
It is not restarted alone: what it holds is rebuilt from the journal with the whole node, because records
of a dead dispatcher may still be on their way to the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestration.journal.contract import Journal
from orchestration.lane import QueuedUnit
from orchestration.view import PodView, ResourceView
from orchestration.zone_book import Moves, Outbox, ZoneBook
from otp import Call, Cast, From, GenServer, NoReply, Result, TimerRef, cancel_timer, send_after
from rpc.messages import Down, Epoch, Inventory, Report

__all__ = [
    "Accepted",
    "CancelUnit",
    "Define",
    "Dispatcher",
    "PodDead",
    "PodDown",
    "PodUp",
    "Remove",
    "Reported",
    "ResetResource",
    "Sender",
]


class Sender(Protocol):
    """One link to a pod."""

    def send_many(self, messages: Sequence[Down]) -> None:
        """Send in order; on a link that has ended they are dropped."""


@dataclass(frozen=True, slots=True)
class Accepted(Cast):
    """These units are in the journal, and these resources came into being with them."""

    units: Sequence[QueuedUnit]
    on_demand: Sequence[ResourceView] = ()


@dataclass(frozen=True, slots=True)
class PodUp(Cast):
    """A link to an incarnation of a pod is there."""

    pod: PodView
    link: Sender
    epoch: Epoch
    inventory: Inventory


@dataclass(frozen=True, slots=True)
class PodDown(Cast):
    """The link to a pod is gone."""

    pod: PodView
    link: Sender


@dataclass(frozen=True, slots=True)
class PodDead(Cast):
    """Every incarnation of a pod older than `before` is dead."""

    pod: PodView
    before: Epoch
    reason: str


@dataclass(frozen=True, slots=True)
class Reported(Cast):
    """Reports came over a pod's link."""

    pod: PodView
    link: Sender
    reports: Sequence[Report]


@dataclass(frozen=True, slots=True)
class Define(Cast):
    """Resources are new, or were changed, by an apply."""

    resources: Sequence[ResourceView]
    pods: Sequence[PodView] = ()  # to be told everything, even if nothing of theirs changed


@dataclass(frozen=True, slots=True)
class Remove(Cast):
    """Resources are to go, by an apply."""

    resources: Sequence[ResourceView]


@dataclass(frozen=True, slots=True)
class CancelUnit(Call[str]):
    """Cancel a unit; answers as `ZoneBook.cancel`, once that is durable."""

    unit: str


@dataclass(frozen=True, slots=True)
class ResetResource(Call[bool]):
    """Bring back a resource that was set aside; answers as `ZoneBook.reset`."""

    resource: ResourceView


@dataclass(frozen=True, slots=True)
class _Tick:
    """Something in the book has become due."""


class Dispatcher(GenServer[ZoneBook]):
    """The process around one `ZoneBook`."""

    __slots__ = ("_book", "_clock_utc", "_journal", "_links", "_tick_utc", "_timer")

    def __init__(self, book: ZoneBook, journal: Journal, clock_utc: Callable[[], float]) -> None:
        self._book = book
        self._journal = journal
        self._clock_utc = clock_utc
        self._links: dict[str, Sender] = {}
        self._timer: TimerRef | None = None
        self._tick_utc: float | None = None

    def init(self) -> ZoneBook:
        """Start with the book as it was rebuilt."""
        self._settle(self._book)
        return self._book

    def handle_cast(self, request: object, state: ZoneBook) -> Result[ZoneBook]:
        """Take what happened."""
        match request:
            case Reported(pod, link, reports):
                if self._links.get(pod.path) is link:
                    state.reports(pod, reports)
            case Accepted(units, on_demand):
                state.define(on_demand)
                state.accept(units)
            case PodUp(pod, link, epoch, inventory):
                self._links[pod.path] = link
                state.pod_up(pod, epoch, inventory)
            case PodDown(pod, link):
                if self._links.get(pod.path) is link:
                    del self._links[pod.path]
                    state.pod_unreachable(pod)
            case _:
                self._configure(request, state)
        self._settle(state)
        return NoReply(state)

    def handle_call(self, request: Call[object], from_: From, state: ZoneBook) -> Result[ZoneBook]:
        """Cancel a unit, or reset a resource."""
        answer: object
        match request:
            case CancelUnit(unit):
                answer = state.cancel(unit)
            case ResetResource(resource):
                answer = state.reset(resource)
            case _:
                raise TypeError(f"{request!r} is nothing a dispatcher knows")
        self._settle(state, lambda: from_.reply(answer))
        return NoReply(state)

    def handle_info(self, message: object, state: ZoneBook) -> Result[ZoneBook]:
        """Look at what has become due."""
        assert isinstance(message, _Tick)
        self._timer = self._tick_utc = None
        state.tick()
        self._settle(state)
        return NoReply(state)

    def _configure(self, request: object, state: ZoneBook) -> None:
        match request:
            case PodDead(pod, before, reason):
                state.pod_dead(pod, before, reason)
            case Define(resources, pods):
                state.redefine(resources, pods)
            case Remove(resources):
                state.remove(resources)
            case _:
                raise TypeError(f"{request!r} is nothing a dispatcher knows")

    def _settle(self, book: ZoneBook, then: Callable[[], None] | None = None) -> None:
        """Send what may go, journal what has changed, and arm the timer."""
        book.pump()
        changes, outbox, moves = book.take()
        if changes or outbox or then is not None:
            self._journal.record(changes, self._after(outbox, moves, then))
        due_utc = book.next_tick_utc()
        if due_utc is not None and (self._tick_utc is None or due_utc < self._tick_utc):
            if self._timer is not None:
                cancel_timer(self._timer)
            self._tick_utc = due_utc
            wait_s = max(0.0, due_utc - self._clock_utc()) + 0.001  # so that it is past, not at
            self._timer = send_after(self.pid, wait_s, _Tick())

    def _after(
        self, outbox: Outbox, moves: Moves, then: Callable[[], None] | None
    ) -> Callable[[], None]:
        """What to do once the commit is done: send over the links that were meant, if they still are."""
        batches: dict[str, tuple[Sender, list[Down]]] = {}
        for pod, message in outbox:
            link = self._links.get(pod.path)
            if link is not None:
                batches.setdefault(pod.path, (link, []))[1].append(message)

        def send() -> None:
            self._book.note_durable(moves)
            for path, (link, messages) in batches.items():
                if self._links.get(path) is link:
                    link.send_many(messages)
            if then is not None:
                then()

        return send
