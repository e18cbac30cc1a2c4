"""A process: mailbox, links, monitors, exit signals, and the stepping of a callback that waits.

A process is one slotted object, its `Pid`. While it is idle it has no task, no queue object and no coroutine: its
mailbox is None, one item (see `Envelope`), or a deque when there are more. The behaviours (`otp.gen_server`, `otp.plain_process`)
subclass `Pid` and say how a message is handled. The fields of a `Pid` belong to this package; users call its methods.
Of Erlang's processes not ported: pre-emption and priorities; hibernation is only marked.

Longer than most: a process is one object, and its death touches everything it has.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from otp.address import Name
from otp.crash_report import crash_report
from otp.envelope import (
    CALL,
    CAST,
    DEAD,
    DOOMED,
    EXIT,
    IDLE,
    INFO,
    READY,
    RUNNING,
    SYSTEM,
    WAITING,
    Envelope,
)
from otp.errors import CallingSelfError, StartError
from otp.exit_reason import KILL, KILLED, NOPROC, NORMAL
from otp.sys_process import System
from otp.waiting import ExitWait, From, Starting, Waiter, here, opened

# A process lives in a runtime and the runtime steps it: a cycle of types only.
if TYPE_CHECKING:
    from otp.runtime import Runtime

__all__ = ["PARKED", "DeadLetters", "Down", "Exit", "Pid", "Ref", "Watcher"]


@dataclass(frozen=True, slots=True)
class Exit:
    """A linked process ended, or sent an exit signal; only processes that trap exits receive it."""

    pid: Pid | None  # None: sent from outside any process
    reason: object


@dataclass(frozen=True, slots=True)
class Down:
    """The monitored process ended; `target` is what was monitored, a pid or a name."""

    ref: Ref
    target: Pid | Name
    reason: object


class Watcher(Protocol):
    """Whoever wants to know when a process ends."""

    def ended(self, pid: Pid, reason: object) -> None:
        """`pid` has ended with `reason`; called once."""


class Ref:
    """A monitor: `owner` gets one `Down` when `target` ends."""

    __slots__ = ("label", "owner", "target")

    def __init__(self, owner: Pid, target: Pid | None, label: Pid | Name) -> None:
        self.owner = owner
        self.target = target
        self.label = label

    def ended(self, pid: Pid, reason: object) -> None:
        """Deliver the `Down`."""
        self.target = None
        self.owner.rare.monitors.pop(self, None)
        self.owner.post(Envelope((INFO, Down(self, self.label, reason))))


class DeadLetters:
    """The mailbox of a dead process: it drops messages, fails calls, and keeps the exit reason."""

    __slots__ = ("reason",)

    def __init__(self, reason: object) -> None:
        self.reason = reason

    def append(self, item: object) -> None:
        """Drop a message; a call is told that there is no such process."""
        _fail_call(item, NOPROC)


class Rare:
    """What most processes never have: made on first use."""

    __slots__ = (
        "acknowledgement",
        "doom",
        "label",
        "monitors",
        "name",
        "start_error",
        "starting",
        "system",
        "unanswered",
    )

    def __init__(self) -> None:
        self.name: str | None = None
        self.label: str | None = None
        self.acknowledgement: Any = None  # of proc_lib, while the starter waits for it
        self.monitors: dict[Ref, None] = {}
        self.unanswered: dict[From, None] = {}
        self.doom: object = None
        self.starting: Starting | None = None  # an init that is a coroutine
        self.start_error: StartError | None = None
        self.system: System | None = None  # suspended, or watched through sys


class Pid:
    """A process, and its address.

    Await it to wait until its `init` is over, when that is a coroutine: `pid = await start_link(server)`.
    """

    __slots__ = (
        "_rare",
        "coro",
        "group_leader",
        "links",
        "mailbox",
        "newer",
        "older",
        "parent",
        "reductions",
        "runtime",
        "serial",
        "status",
        "trapping",
        "waiting",
        "watchers",
    )

    serial: int
    newer: Pid | None
    older: Pid | None

    def __init__(self, runtime: Runtime, parent: Pid | None) -> None:
        self.runtime = runtime
        self.parent = parent
        creator = here.process
        self.group_leader: Pid | None = None if creator is None else creator.group_leader
        self.mailbox: Any = None  # an item, a deque of them, or DeadLetters
        self.status: int = IDLE
        self.trapping = False
        self.links: Pid | dict[Pid, None] | None = None
        self.watchers: dict[Watcher, None] | None = None
        self._rare: Rare | None = None
        self.reductions = 0
        self.coro: Coroutine[Any, Any, Any] | None = None
        self.waiting: Waiter | asyncio.Future[Any] | None = None
        runtime.admit(self)

    def __repr__(self) -> str:
        name = self.name
        return f"<{self.serial}>" if name is None else f"<{self.serial} {name}>"

    def __await__(self) -> Generator[Any, Any, Pid]:
        if self._rare is not None and self._rare.starting is not None:
            yield from self._rare.starting.outcome()
        return self

    # What users call.

    def cast(self, request: object) -> None:
        """Send `request` to `handle_cast`; to a dead process it vanishes."""
        mailbox = self.mailbox
        if type(mailbox) is deque and self.status >= READY and type(request) is not From:
            mailbox.append(request)  # the hot path: `post` would find nobody to wake
        elif type(request) in _MISTAKABLE:
            self.post(Envelope((CAST, request)))
        else:
            self.post(request)

    def send(self, message: object) -> None:
        """Send `message` to `handle_info`; to a dead process it vanishes."""
        self.post(Envelope((INFO, message)))

    def call(self, request: object, timeout_s: float | None = 5.0) -> From:  # noqa: C901 - hot: a method more is 3 %
        """Send `request` to `handle_call`; await the result for the answer.

        Args:
            request: what to ask.
            timeout_s: how long to wait; None waits for ever. The server handles the request all the same.

        Raises:
            CallingSelfError: this process is the caller.
            ValueError: `timeout_s` is negative, or no number at all.
            CallError: (when awaited) the server is not there, ends first, or is too late.
        """
        if here.process is self:
            raise CallingSelfError(self, request)
        try:
            if timeout_s is not None and not timeout_s >= 0.0:  # also nan
                raise ValueError(f"timeout_s is {timeout_s}, not a time from 0")
        except TypeError:
            raise TypeError(f"timeout_s is {timeout_s!r:.200}, not a number of seconds") from None
        runtime = self.runtime
        call = _blank(From)
        From.__init__(call, runtime, self, request)
        if self.status == IDLE and self.mailbox is None:
            self.mailbox = call
            self.status = READY
            runtime.ready.append(self)
            if not runtime.awake:
                runtime.wake()
        else:
            self.post(call)
        if timeout_s is not None:
            if runtime.in_turn:
                call.timeout_s = timeout_s
                new_calls = runtime.new_calls
                if new_calls and new_calls[-1].done:
                    new_calls[-1] = call
                else:
                    new_calls.append(call)
            elif not call.done:
                call.timer = runtime.timers.start(timeout_s, call)
        return call

    def is_alive(self) -> bool:
        """Tell whether the process has not ended."""
        return self.status < DOOMED

    @property
    def name(self) -> str | None:
        """The registered name."""
        return None if self._rare is None else self._rare.name

    @property
    def label(self) -> str | None:
        """What `proc_lib.set_label` said."""
        return None if self._rare is None else self._rare.label

    @property
    def initialising(self) -> bool:
        """Tell whether an `init` that is a coroutine is still under way, or has failed: await the pid."""
        return self._rare is not None and self._rare.starting is not None

    @property
    def exit_reason(self) -> object:
        """Why it ended; None while it lives."""
        return self.mailbox.reason if isinstance(self.mailbox, DeadLetters) else None

    @property
    def hibernated(self) -> bool:
        """Tell whether it waits for a message in hibernation, which is a mark here and nothing else."""
        return False

    # What the behaviours implement.

    initial_call: str  # what it runs, for reports

    def run(self, limit: int) -> int:
        """Handle up to `limit` messages and return how many, at least 1; leave `status` right."""
        raise NotImplementedError

    def release(self) -> None:
        """Let go of what only a living process needs."""

    # Messages and scheduling.

    def post(self, item: object) -> None:
        """Put an item into the mailbox: an `Envelope`, a `From`, or the bare request of a cast."""
        mailbox = self.mailbox
        if mailbox is None:
            self.mailbox = item
            if self.status == IDLE:
                self.status = READY
                runtime = self.runtime
                runtime.ready.append(self)
                if not runtime.awake:
                    runtime.wake()
        elif type(mailbox) is deque or type(mailbox) is DeadLetters:
            mailbox.append(item)
        else:
            self.mailbox = deque((mailbox, item))

    def queue_length(self) -> int:
        """Count the messages that wait."""
        mailbox = self.mailbox
        if mailbox is None or type(mailbox) is DeadLetters:
            return 0
        return len(mailbox) if type(mailbox) is deque else 1

    def queued(self) -> Iterator[Envelope]:
        """Go through the waiting envelopes, oldest first."""
        mailbox = self.mailbox
        if type(mailbox) is deque:
            yield from map(opened, mailbox)
        elif mailbox is not None and type(mailbox) is not DeadLetters:
            yield opened(mailbox)

    def remove(self, envelope: Envelope) -> None:
        """Take exactly this envelope out of the mailbox; no call or cast, of which `queued` gives copies."""
        mailbox = self.mailbox
        found = mailbox.index(envelope) if type(mailbox) is deque else 0
        self.remove_at(found)

    def remove_at(self, position: int) -> None:
        """Take the item at `position` out of the mailbox, 0 being the oldest."""
        mailbox = self.mailbox
        if type(mailbox) is deque:
            del mailbox[position]
        if type(mailbox) is not deque or not mailbox:
            self.mailbox = None

    def enter(self) -> None:
        """Become the process on the Python stack."""
        here.process = self
        self.status = RUNNING

    def owe(self, call: From) -> None:
        """Note a call that was taken and is to be answered later; if this process ends first, it fails."""
        if not call.done:
            call.waiting_at = self
            self.rare.unanswered[call] = None

    def drive(self, coro: Coroutine[Any, Any, Any]) -> Any:
        """Step `coro` until it ends (its result) or has to wait (`PARKED`)."""
        self.coro = coro
        try:
            awaited = coro.send(None)
        except StopIteration as stop:
            self.coro = None
            return stop.value
        except BaseException:
            self.coro = None
            raise
        if type(awaited) is From and self.status == RUNNING:  # the hot path of `_park`
            self.waiting = awaited
            self.status = WAITING
        else:
            self._park(awaited)
        return PARKED

    def _park(self, awaited: object) -> None:
        if self.status == DOOMED:
            return
        if isinstance(awaited, Waiter):
            self.waiting = awaited
            self.status = WAITING
        elif awaited is None:  # asyncio.sleep(0): to the end of the run queue
            self.status = READY
            self.runtime.enqueue(self)
        elif getattr(awaited, "_asyncio_future_blocking", None):
            future: Any = awaited
            future._asyncio_future_blocking = False  # noqa: SLF001 - the protocol of asyncio futures
            self.waiting = future
            self.status = WAITING
            future.add_done_callback(self._future_done)
        else:
            raise TypeError(f"a callback awaited {awaited!r}, which is no asyncio future")

    def _future_done(self, future: asyncio.Future[Any]) -> None:
        if self.waiting is future:
            self.waiting = None
            self.status = READY
            self.runtime.enqueue(self)

    # Links, monitors, exits.

    @property
    def rare(self) -> Rare:
        """The fields that few processes need."""
        if self._rare is None:
            self._rare = Rare()
        return self._rare

    @property
    def unanswered(self) -> dict[From, None]:
        """The calls taken and not answered yet."""
        return self.rare.unanswered

    def link(self, other: Pid) -> None:
        """Link both ways; a second time changes nothing."""
        self.add_link(other)
        other.add_link(self)

    def unlink(self, other: Pid) -> None:
        """Take the link away; an Exit that is already in the mailbox stays there."""
        self.drop_link(other)
        other.drop_link(self)

    def add_link(self, other: Pid) -> None:
        """Note the link on this side."""
        links = self.links
        if links is None:
            self.links = other
        elif type(links) is dict:
            links[other] = None
        elif links is not other:
            self.links = {links: None, other: None}  # type: ignore[dict-item]  # not a dict, so a Pid

    def drop_link(self, other: Pid) -> None:
        """Forget the link on this side."""
        if self.links is other:
            self.links = None
        elif isinstance(self.links, dict):
            self.links.pop(other, None)

    def linked(self) -> tuple[Pid, ...]:
        """Name the linked processes, oldest link first."""
        if self.links is None:
            return ()
        return tuple(self.links) if isinstance(self.links, dict) else (self.links,)

    def watch(self, watcher: Watcher) -> None:
        """Tell `watcher` when this process ends."""
        if self.watchers is None:
            self.watchers = {}
        self.watchers[watcher] = None

    def unwatch(self, watcher: Watcher) -> None:
        """Forget `watcher`."""
        if self.watchers is not None:
            self.watchers.pop(watcher, None)

    def monitoring(self) -> tuple[Pid | Name, ...]:
        """Name what this process monitors."""
        return () if self._rare is None else tuple(ref.label for ref in self._rare.monitors)

    def monitored_by(self) -> tuple[Pid, ...]:
        """Name the processes that monitor this one."""
        return tuple(ref.owner for ref in self.watchers or () if isinstance(ref, Ref))

    def exit_signal(self, sender: Pid | None, reason: object) -> None:
        """Take the signal of `exit(pid, reason)`: `kill` cannot be trapped and arrives as `killed`."""
        if type(reason) is str and reason == KILL:
            self.die(KILLED)
        elif self.trapping:
            self.post(Envelope((EXIT, Exit(sender, reason))))
        elif not _is_normal(reason) or sender is self:
            self.die(reason)

    def link_signal(self, sender: Pid, reason: object) -> None:
        """Take the signal of a link partner's end; here `kill` is a reason like any other."""
        if self.trapping:
            self.post(Envelope((EXIT, Exit(sender, reason))))
        elif not _is_normal(reason):
            self.die(reason)

    def die(self, reason: object) -> None:
        """End without asking the process; one that is on the Python stack ends when its callback returns."""
        if self.status == RUNNING:
            self.status = DOOMED
            self.rare.doom = reason
        elif self.status < DOOMED:
            self.finish(reason)

    def finish(self, reason: object) -> None:
        """End now: close the waiting callback, free the name, fire links and monitors."""
        if self.status == DEAD:
            return
        self.status = DEAD
        mailbox, self.mailbox = self.mailbox, DeadLetters(reason)
        self._close_callback()
        runtime = self.runtime
        runtime.dismiss(self)
        if self._rare is not None:
            self._finish_rare(self._rare, reason)
        self.release()
        self.group_leader = None
        self.parent = None  # or a line of processes that start each other would never be freed
        _fail_calls(mailbox, reason)
        self._tell(reason)
        runtime.deliver_signals()

    def report_crash(self, initial_call: str, reason: object) -> None:
        """Tell operators that the process ends badly by itself."""
        self.runtime.reports.send(crash_report(self, initial_call, reason))

    def _close_callback(self) -> None:
        coro, self.coro = self.coro, None
        waiting, self.waiting = self.waiting, None
        if coro is not None:
            try:
                coro.close()
            except BaseException as error:  # noqa: BLE001 - a dead process's clean-up has nobody to answer to
                self.runtime.note_late_error(self, error)
        if isinstance(waiting, asyncio.Future):
            waiting.cancel()
        elif waiting is not None:
            waiting.abandon()

    def _finish_rare(self, rare: Rare, reason: object) -> None:
        if rare.name is not None:
            self.runtime.names.pop(rare.name, None)
        if rare.system is not None:
            rare.system.debug.no_debug()
        for ref in rare.monitors:
            if ref.target is not None:
                ref.target.unwatch(ref)
        rare.monitors.clear()
        unanswered, rare.unanswered = rare.unanswered, {}
        for call in unanswered:
            call.fail(reason)

    def _tell(self, reason: object) -> None:
        watchers, self.watchers = self.watchers, None
        if watchers is not None:
            for watcher in watchers:
                if isinstance(watcher, ExitWait) and watcher.linked is not None:
                    self.unlink(watcher.linked)
        links = self.linked()
        self.links = None
        for partner in links:
            partner.drop_link(self)
            self.runtime.signals.append((partner, self, reason))
        if watchers is not None:
            for watcher in watchers:
                self.runtime.signals.append((watcher, self, reason))


_blank: Final = (
    object.__new__
)  # with `__init__` half the time that CPython 3.11 needs to call the class


class _Parked:
    __slots__ = ()


PARKED: Final = _Parked()


def _is_normal(reason: object) -> bool:
    return type(reason) is str and reason == NORMAL


def _fail_calls(mailbox: object, reason: object) -> None:
    if mailbox is not None:
        for item in mailbox if type(mailbox) is deque else (mailbox,):
            _fail_call(item, reason)


def _fail_call(item: object, reason: object) -> None:
    if type(item) is From:
        item.fail(reason)
    elif type(item) is Envelope and (item[0] == CALL or item[0] == SYSTEM):
        item[2].fail(reason)


# Bare, these could be mistaken for a call, or for a mailbox: empty, of several items, or of a dead process.
_MISTAKABLE: Final = frozenset({From, type(None), deque, DeadLetters})
