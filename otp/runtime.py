"""The runtime and its processes: a run queue inside an asyncio loop, mailboxes, links, monitors, exits.

A process is one slotted object, its `Pid`, on one run queue; while it is idle it has no task, no queue object
and no coroutine. The behaviours (`otp.gen_server`, `otp.plain_process`) subclass `Pid` and say how a message
is handled. The fields of a `Pid` belong to this package; users call its methods.

Each turn of the run queue handles at most `SLICE` messages of one process before the next one's, and after
`turn_s` seconds gives the asyncio loop its turn. Nothing here is safe to call from another thread
(`loop.call_soon_threadsafe` is). Of Erlang's processes not ported: pre-emption, priorities, hibernation.

The module is longer than most: runtime and process are one mechanism, and the hot path wants no layers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, Generic, Protocol, TypeVar

from otp.errors import (
    AlreadyStartedError,
    CallError,
    CallingSelfError,
    CallTimeoutError,
    NameTakenError,
    NoProcessError,
    OtpError,
    StartError,
)
from otp.exit_reason import KILL, KILLED, NOPROC, NORMAL
from otp.reports import ReportBus
from otp.timers import TimerQueue, TimerRef

__all__ = [
    "Call",
    "Cast",
    "Down",
    "Exit",
    "From",
    "Pid",
    "Ref",
    "Runtime",
    "RuntimeStats",
    "Startable",
    "Waiter",
    "self_process",
]

AnswerT_co = TypeVar("AnswerT_co", covariant=True)

SLICE: Final = 64  # messages one process may handle before the next one's turn
CHECK_EVERY: Final = 64  # messages between two looks at the clock

# Status of a process.
IDLE: Final = 0  # nothing to do
READY: Final = 1  # on the run queue
RUNNING: Final = 2  # on the Python stack
WAITING: Final = 3  # a callback awaits something
DOOMED: Final = 4  # got a fatal signal while on the stack; dies when the callback returns
DEAD: Final = 5

# Kinds of envelope. An envelope is always an exact tuple: a mailbox holding one is told from a deque by type.
CAST: Final = 0
CALL: Final = 1
INFO: Final = 2
EXIT: Final = 3
SYSTEM: Final = 4
CONTINUE: Final = 5
TERMINATE: Final = 6
INIT: Final = 7

Envelope = tuple[Any, ...]


class Call(Generic[AnswerT_co]):
    """A request that names the type of its answer: `class ListQuiet(Call[tuple[str, ...]])`."""

    __slots__ = ()


class Cast:
    """A message that tells what happened and wants no answer; deriving from it is optional."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Exit:
    """A linked process ended, or sent an exit signal; only processes that trap exits receive it."""

    pid: Pid | None  # None: sent from outside any process
    reason: object


@dataclass(frozen=True, slots=True)
class Down:
    """The monitored process ended; `target` is what was monitored, a pid or a name."""

    ref: Ref
    target: Pid | str
    reason: object


class Startable(Protocol):
    """What `Runtime.start` can start: a gen_server."""

    def start_in(self, runtime: Runtime, *, parent: Pid | None, name: str | None) -> Pid:
        """Make the process, run its init, and link it to `parent` if there is one."""


class Doomed(BaseException):
    """Leaves a callback whose process has just ended itself with an exit signal; never reaches a user."""


class _Here:
    """Which process is on the Python stack now; None in plain asyncio code."""

    __slots__ = ("process",)

    def __init__(self) -> None:
        self.process: Pid | None = None


here = _Here()


class Waiter:
    """Something one process (or one piece of plain asyncio code) awaits, without a task.

    Who waits is known when it is awaited, so a waiter made inside a process may be awaited by a task.
    """

    __slots__ = ("done", "future", "owner", "runtime")

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.done = False
        self.owner: Pid | None = None
        self.future: asyncio.Future[None] | None = None

    def wait(self) -> Generator[Any, Any, None]:
        """Suspend the caller until `finish`."""
        if self.done:
            return
        if here.process is not None:
            self.owner = here.process
            yield self
        else:
            self.future = self.runtime.loop.create_future()
            yield from self.future

    def abandon(self) -> None:
        """The waiting process has ended."""

    def finish(self) -> None:
        """Let whoever waits go on; a second time does nothing."""
        self.done = True
        owner = self.owner
        if owner is not None:
            if owner.waiting is self:
                owner.waiting = None
                owner.status = READY
                owner.runtime.enqueue(owner)
        elif self.future is not None and not self.future.done():
            self.future.set_result(None)


class From(Waiter):
    """One call: the address of its answer for the server, the awaitable for the caller.

    Only the first answer counts, and only while the caller still wants it: a late one is dropped.
    """

    __slots__ = ("failure", "request", "server", "timeout_s", "timer", "value", "waiting_at")

    def __init__(self, runtime: Runtime, server: Pid | str, request: object) -> None:
        self.runtime = runtime
        self.done = False
        self.owner = None
        self.future = None
        self.server = server
        self.request = request
        self.timeout_s = 0.0  # for the timer, if it comes to one
        self.failure: object = None
        self.value: Any = None
        self.timer: TimerRef | None = None
        self.waiting_at: Pid | None = None  # the server that took the call and has not answered yet

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self.done:
            if here.process is not None:
                self.owner = here.process
                yield self
            else:
                yield from self.wait()
        if self.failure is not None:
            raise self._error()
        return self.value

    def reply(self, value: object) -> None:
        """Answer the call."""
        if self.done:
            return
        self.value = value
        self.finish()
        if self.timer is not None:
            self.runtime.timers.cancel(self.timer)
        if self.waiting_at is not None:
            self.waiting_at.unanswered.pop(self, None)

    def fail(self, reason: object) -> None:
        """Tell the caller that no answer will come."""
        if self.done:
            return
        self.failure = reason
        self.reply(None)

    def abandon(self) -> None:
        """The caller has ended: drop the answer."""
        self.fail(KILLED)

    def expired(self) -> None:
        """The caller's time is up."""
        self.fail(_TIMEOUT)

    def _error(self) -> CallError:
        if self.failure is _TIMEOUT:
            return CallTimeoutError(self.server, self.request)
        if type(self.failure) is str and self.failure == NOPROC:
            return NoProcessError(self.server, self.request)
        return CallError(self.failure, self.server, self.request)


_TIMEOUT: Final = object()


class Watcher(Protocol):
    """Whoever wants to know when a process ends."""

    def ended(self, pid: Pid, reason: object) -> None:
        """`pid` has ended with `reason`; called once."""


class Ref:
    """A monitor: `owner` gets one `Down` when `target` ends."""

    __slots__ = ("label", "owner", "target")

    def __init__(self, owner: Pid, target: Pid | None, label: Pid | str) -> None:
        self.owner = owner
        self.target = target
        self.label = label

    def ended(self, pid: Pid, reason: object) -> None:
        """Deliver the `Down`."""
        self.target = None
        self.owner.rare.monitors.pop(self, None)
        self.owner.post((INFO, Down(self, self.label, reason)))


class ExitWait(Waiter):
    """The end of one process, awaited; `stop_link` takes the owner's link away at that moment.

    That is how a supervisor stops a child: no EXIT of a stopped child is ever mistaken for a crash.
    """

    __slots__ = ("linked", "pid", "reason", "timed_out")

    def __init__(self, pid: Pid, *, linked: Pid | None = None) -> None:
        super().__init__(pid.runtime)
        self.pid = pid
        self.linked = linked
        self.timed_out = False
        self.reason: object = None
        if isinstance(pid.mailbox, DeadLetters):
            self.reason = pid.mailbox.reason
            self.done = True
        else:
            pid.watch(self)

    def __await__(self) -> Generator[Any, Any, object]:
        yield from self.wait()
        return self.reason

    async def within(self, timeout_s: float | None) -> object:
        """Wait at most `timeout_s` seconds; `timed_out` says which it was."""
        timer = None if timeout_s is None else self.runtime.timers.start(timeout_s, self)
        reason = await self
        if timer is not None:
            self.runtime.timers.cancel(timer)
        return reason

    def abandon(self) -> None:
        """Nobody waits any more."""
        self.pid.unwatch(self)

    def ended(self, pid: Pid, reason: object) -> None:
        """Note the reason and wake the waiting process."""
        self.reason = reason
        self.timed_out = False
        self.finish()

    def expired(self) -> None:
        """Wake the waiting process though `pid` lives on; it may wait again."""
        if not self.done:
            self.timed_out = True
            self.finish()
            self.done = False


class DeadLetters:
    """The mailbox of a dead process: it drops messages, fails calls, and keeps the exit reason."""

    __slots__ = ("reason",)

    def __init__(self, reason: object) -> None:
        self.reason = reason

    def append(self, envelope: Envelope) -> None:
        """Drop a message; a call is told that there is no such process."""
        if envelope[0] == CALL or envelope[0] == SYSTEM:
            envelope[2].fail(NOPROC)


class Rare:
    """What most processes never have: made on first use."""

    __slots__ = ("doom", "label", "monitors", "name", "start_error", "starting", "unanswered")

    def __init__(self) -> None:
        self.name: str | None = None
        self.label: str | None = None
        self.monitors: dict[Ref, None] = {}
        self.unanswered: dict[From, None] = {}
        self.doom: object = None
        self.starting: Starting | None = None  # an init that is a coroutine
        self.start_error: StartError | None = None


class Starting(Waiter):
    """An asynchronous init that is under way; several may wait for it."""

    __slots__ = ("error", "followers")

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.error: StartError | None = None
        self.followers: list[Starting] = []

    def outcome(self) -> Generator[Any, Any, None]:
        """Wait for the end of init; raise the `StartError` it ended with."""
        mine = self if self.done else Starting(self.runtime)
        if mine is not self:
            self.followers.append(mine)
        yield from mine.wait()
        if self.error is not None:
            raise self.error

    def awaited(self) -> bool:
        """Tell whether somebody waits, and so will hear of a failure."""
        return bool(self.followers)

    def settle(self, error: StartError | None) -> None:
        """Init is over."""
        self.error = error
        self.finish()
        for follower in self.followers:
            follower.finish()


class Delivery:
    """A `send_after` that has not come yet; a name is looked up when it does."""

    __slots__ = ("dest", "message", "runtime")

    def __init__(self, runtime: Runtime, dest: Pid | str, message: object) -> None:
        self.runtime = runtime
        self.dest = dest
        self.message = message

    def expired(self) -> None:
        """Deliver."""
        pid = self.runtime.whereis(self.dest) if isinstance(self.dest, str) else self.dest
        if pid is not None:
            pid.post((INFO, self.message))


class Pid:
    """A process, and its address.

    Await it to wait until its `init` is over, when that is a coroutine: `pid = await start_link(server)`.
    """

    __slots__ = (
        "_rare",
        "coro",
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
        self.mailbox: Envelope | deque[Envelope] | DeadLetters | None = None
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
        self.post((CAST, request))

    def send(self, message: object) -> None:
        """Send `message` to `handle_info`; to a dead process it vanishes."""
        self.post((INFO, message))

    def call(self, request: object, timeout_s: float | None = 5.0) -> From:
        """Send `request` to `handle_call`; await the result for the answer.

        Args:
            request: what to ask.
            timeout_s: how long to wait; None waits for ever. The server handles the request all the same.

        Raises:
            CallingSelfError: this process is the caller.
            CallError: (when awaited) the server is not there, ends first, or is too late.
        """
        if here.process is self:
            raise CallingSelfError(self, request)
        runtime = self.runtime
        call = From(runtime, self, request)
        self.post((CALL, request, call))
        if timeout_s is not None and not call.done:
            if runtime.in_turn:
                call.timeout_s = timeout_s
                runtime.new_calls.append(call)
            else:
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
    def initialising(self) -> bool:
        """Tell whether an `init` that is a coroutine is still under way, or has failed: await the pid."""
        return self._rare is not None and self._rare.starting is not None

    @property
    def exit_reason(self) -> object:
        """Why it ended; None while it lives."""
        return self.mailbox.reason if isinstance(self.mailbox, DeadLetters) else None

    # What the behaviours implement.

    def run(self, limit: int) -> int:
        """Handle up to `limit` messages and return how many, at least 1; leave `status` right."""
        raise NotImplementedError

    def release(self) -> None:
        """Let go of what only a living process needs."""

    # Messages and scheduling.

    def post(self, envelope: Envelope) -> None:
        """Put `envelope` into the mailbox."""
        mailbox = self.mailbox
        if mailbox is None:
            self.mailbox = envelope
            if self.status == IDLE:
                self.status = READY
                runtime = self.runtime
                runtime.ready.append(self)
                if not runtime.awake:
                    runtime.wake()
        elif type(mailbox) is tuple:
            self.mailbox = deque((mailbox, envelope))
        else:
            mailbox.append(envelope)  # type: ignore[union-attr]  # a deque or DeadLetters

    def queue_length(self) -> int:
        """Count the messages that wait."""
        mailbox = self.mailbox
        if mailbox is None or isinstance(mailbox, DeadLetters):
            return 0
        return len(mailbox) if isinstance(mailbox, deque) else 1

    def queued(self) -> Iterator[Envelope]:
        """Go through the waiting envelopes, oldest first."""
        mailbox = self.mailbox
        if isinstance(mailbox, deque):
            yield from mailbox
        elif isinstance(mailbox, tuple):
            yield mailbox

    def remove_first(self, wanted: Callable[[object], bool]) -> None:
        """Take the oldest message that `wanted` accepts out of the mailbox."""
        kept = list(self.queued())
        for position, envelope in enumerate(kept):
            if envelope[0] == INFO and wanted(envelope[1]):
                del kept[position]
                self.mailbox = deque(kept) if kept else None
                return

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
            self.runtime.ready.append(self)
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

    def exit_signal(self, sender: Pid | None, reason: object) -> None:
        """Take the signal of `exit(pid, reason)`: `kill` cannot be trapped and arrives as `killed`."""
        if type(reason) is str and reason == KILL:
            self.die(KILLED)
        elif self.trapping:
            self.post((EXIT, Exit(sender, reason)))
        elif not _is_normal(reason) or sender is self:
            self.die(reason)

    def link_signal(self, sender: Pid, reason: object) -> None:
        """Take the signal of a link partner's end; here `kill` is a reason like any other."""
        if self.trapping:
            self.post((EXIT, Exit(sender, reason)))
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
        _fail_calls(mailbox, reason)
        self._tell(reason)
        runtime.deliver_signals()

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
                if type(watcher) is ExitWait and watcher.linked is not None:
                    self.unlink(watcher.linked)
        links = self.linked()
        self.links = None
        for partner in links:
            partner.drop_link(self)
            self.runtime.signals.append((partner, self, reason))
        if watchers is not None:
            for watcher in watchers:
                self.runtime.signals.append((watcher, self, reason))


class _Parked:
    __slots__ = ()


PARKED: Final = _Parked()


def _is_normal(reason: object) -> bool:
    return type(reason) is str and reason == NORMAL


def _fail_calls(mailbox: object, reason: object) -> None:
    waiting: Any = (mailbox,) if type(mailbox) is tuple else mailbox or ()
    for envelope in waiting:
        if envelope[0] == CALL or envelope[0] == SYSTEM:
            envelope[2].fail(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeStats:
    """Counters of one runtime; totals since it began, except `processes`, `ready`, `queued` and `longest_queue`."""

    processes: int
    started: int
    ended: int
    messages: int  # handled; also the reductions
    turns: int
    ready: int  # on the run queue now
    queued: int  # messages waiting in mailboxes
    longest_queue: int
    timers: int


class Runtime:
    """One scheduler; one per OS process outside tests.

    Args:
        clock: monotonic seconds; the loop's own time by default.
        loop: where it runs; the running loop by default.
        turn_s: after how many seconds of messages the asyncio loop gets its turn.
        run_queue: an empty queue of ready processes; `otp.testing` passes one that shuffles.

    Raises:
        RuntimeError: no loop was given and none is running.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        turn_s: float = 0.002,
        run_queue: deque[Pid] | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop() if loop is None else loop
        self.clock = self.loop.time if clock is None else clock
        self.turn_s = turn_s
        self.reports = ReportBus()
        self.names: dict[str, Pid] = {}
        self.ready: deque[Pid] = deque() if run_queue is None else run_queue
        self.awake = False
        self.in_turn = False
        self.new_calls: list[From] = []
        self.signals: deque[tuple[Any, Pid, object]] = deque()
        self.timers = TimerQueue(self.clock, self._arm)
        self._loop_timer: asyncio.TimerHandle | None = None
        self._delivering = False
        self._newest: Pid | None = None
        self._started = 0
        self._ended = 0
        self._messages = 0
        self._turns = 0

    # Starting and asking from plain asyncio code.

    def start(self, server: Startable, name: str | None = None) -> Pid:
        """Start `server` with no parent and no link.

        Raises:
            StartError: init refused, raised, or the name is taken.
        """
        return server.start_in(self, parent=None, name=name)

    async def start_wait(self, server: Startable, name: str | None = None) -> Pid:
        """Start `server` and wait for an `init` that is a coroutine; raises as `start`."""
        return await self.start(server, name)

    def cast(self, dest: Pid | str, request: object) -> None:
        """Cast to a pid or name; nobody there: it vanishes."""
        pid = self.whereis(dest) if isinstance(dest, str) else dest
        if pid is not None:
            pid.post((CAST, request))

    def call(self, dest: Pid | str, request: object, timeout_s: float | None = 5.0) -> From:
        """Call a pid or name, see `Pid.call`; await the result."""
        pid = self.whereis(dest) if isinstance(dest, str) else dest
        if pid is None:
            missing = From(self, dest, request)
            missing.fail(NOPROC)
            return missing
        return pid.call(request, timeout_s)

    def exit(self, pid: Pid, reason: object) -> None:
        """Send an exit signal from outside any process."""
        pid.exit_signal(here.process, reason)

    def exited(self, pid: Pid) -> ExitWait:
        """Await the end of `pid`; the result is its exit reason."""
        return ExitWait(pid)

    def send_after(self, dest: Pid | str, delay_s: float, message: object) -> TimerRef:
        """Send `message` to `dest` after `delay_s` seconds."""
        return self.timers.start(delay_s, Delivery(self, dest, message))

    def cancel_timer(self, timer: TimerRef) -> float | None:
        """Stop `timer`: the seconds it had left, or None if it was too late."""
        return self.timers.cancel(timer)

    # Names.

    def register(self, name: str, pid: Pid) -> None:
        """Give `pid` the name.

        Raises:
            NameTakenError: the name is taken, or the process is dead or has a name.
        """
        if name in self.names or not pid.is_alive() or pid.name is not None:
            raise NameTakenError(f"cannot name {pid!r} {name!r}: taken, dead, or named already")
        self.names[name] = pid
        pid.rare.name = name

    def unregister(self, name: str) -> None:
        """Free the name.

        Raises:
            NameTakenError: nobody has it.
        """
        if name not in self.names:
            raise NameTakenError(f"no process is named {name!r}")
        self.names.pop(name).rare.name = None

    def whereis(self, name: str) -> Pid | None:
        """Find the process of that name."""
        return self.names.get(name)

    def registered(self) -> list[str]:
        """List the names in use."""
        return list(self.names)

    def claim_name(self, name: str | None) -> None:
        """Check that a process may start under `name`.

        Raises:
            AlreadyStartedError: somebody has it.
        """
        if name is not None and name in self.names:
            raise AlreadyStartedError(self.names[name])

    # Looking in from outside.

    def processes(self) -> Iterator[Pid]:
        """Go through the living processes, newest first."""
        pid = self._newest
        while pid is not None:
            yield pid
            pid = pid.older

    def stats(self) -> RuntimeStats:
        """Count; takes time in proportion to the processes."""
        queues = [pid.queue_length() for pid in self.processes()]
        return RuntimeStats(
            processes=self._started - self._ended,
            started=self._started,
            ended=self._ended,
            messages=self._messages,
            turns=self._turns,
            ready=len(self.ready),
            queued=sum(queues),
            longest_queue=max(queues, default=0),
            timers=len(self.timers),
        )

    # The run queue.

    def enqueue(self, pid: Pid) -> None:
        """Put a process whose status is READY on the run queue."""
        self.ready.append(pid)
        if not self.awake:
            self.wake()

    def wake(self) -> None:
        """See to it that a turn comes."""
        self.awake = True
        self.loop.call_soon(self.turn)

    def turn(self) -> None:
        """Run ready processes until none is left or the time is up."""
        ready = self.ready
        stop_at = monotonic() + self.turn_s
        handled = 0
        check_at = CHECK_EVERY
        self.in_turn = True
        try:
            while ready:
                handled += ready.popleft().run(SLICE)
                if handled >= check_at:
                    if monotonic() >= stop_at:
                        break
                    check_at = handled + CHECK_EVERY
        finally:
            here.process = None
            self.in_turn = False
            self._messages += handled
            self._turns += 1
            if self.new_calls:
                self._arm_calls()
            self.awake = False
            if ready:
                self.wake()

    def deliver_signals(self) -> None:
        """Hand out the signals of ended processes; a chain of links is followed without recursion."""
        if self._delivering:
            return
        self._delivering = True
        signals = self.signals
        try:
            while signals:
                receiver, sender, reason = signals.popleft()
                if isinstance(receiver, Pid):
                    receiver.link_signal(sender, reason)
                else:
                    receiver.ended(sender, reason)
        finally:
            self._delivering = False

    def admit(self, pid: Pid) -> None:
        """Count a new process and give it its number."""
        self._started += 1
        pid.serial = self._started
        pid.newer = None
        pid.older = self._newest
        if self._newest is not None:
            self._newest.newer = pid
        self._newest = pid

    def dismiss(self, pid: Pid) -> None:
        """Forget a process that has ended."""
        self._ended += 1
        newer, older = pid.newer, pid.older
        if newer is None:
            self._newest = older
        else:
            newer.older = older
        if older is not None:
            older.newer = newer
        pid.newer = pid.older = None

    def note_late_error(self, pid: Pid, error: BaseException) -> None:
        """Log what a callback raised while it was being closed."""
        self.loop.call_exception_handler(
            {"message": f"{pid!r} raised while it was being ended", "exception": error}
        )

    def interrupted(self, error: BaseException) -> None:
        """Hand a KeyboardInterrupt or SystemExit on to the loop; the process it hit ends as after any error."""
        self.loop.call_soon(_raise, error)

    def _arm_calls(self) -> None:
        # Only calls still open at the end of the turn get a timer: most are answered within it.
        for call in self.new_calls:
            if not call.done:
                call.timer = self.timers.start(call.timeout_s, call)
        self.new_calls.clear()

    def _arm(self, deadline: float) -> None:
        if self._loop_timer is not None:
            self._loop_timer.cancel()
        delay_s = max(0.0, deadline - self.clock())
        self._loop_timer = self.loop.call_later(delay_s, self._fire)

    def _fire(self) -> None:
        self._loop_timer = None
        self.timers.fire()


def _raise(error: BaseException) -> None:
    raise error


def self_process() -> Pid:
    """Give the calling process.

    Raises:
        OtpError: no process calls: this is plain asyncio code.
    """
    if here.process is None:
        raise OtpError("this is called outside any process; use the runtime's own methods there")
    return here.process
