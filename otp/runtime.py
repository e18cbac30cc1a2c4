"""The runtime: one run queue of processes inside an asyncio loop, with timers, names and reports.

Each turn of the run queue handles at most `SLICE` messages of one process before the next one's, and after
`turn_s` seconds gives the asyncio loop its turn. A process that awaits a call whose server is the next to run lends it
its turn, `LOANS` times at most. So a message waits for at most `SLICE` messages of each process that is ready before
it, and for `LOANS` calls. Nothing here is safe to call from another thread (`loop.call_soon_threadsafe` is).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, Protocol

from otp.address import Address, Name
from otp.bounded_text import bounded_text
from otp.envelope import INFO, Envelope
from otp.errors import AlreadyStartedError, NameTakenError
from otp.exit_reason import NOPROC
from otp.plain_process import Body, PlainPid
from otp.process import Pid
from otp.reports import ReportBus
from otp.start_limit import startable
from otp.timers import TimerQueue, TimerRef
from otp.waiting import ExitWait, From, here

__all__ = ["Pid", "Runtime", "RuntimeStats", "Startable"]

SLICE: Final = 64  # messages one process may handle before the next one's turn
CHECK_EVERY: Final = 64  # messages between two looks at the clock
LOANS: Final = (
    64  # calls that may be served on the stack of the caller between two looks at the clock
)


class Startable(Protocol):
    """What `Runtime.start` can start: a gen_server."""

    def start_in(self, runtime: Runtime, *, parent: Pid | None, name: Name | None) -> Pid:
        """Make the process, run its init, and link it to `parent` if there is one."""


class Delivery:
    """A `send_after` that has not come yet; a name is looked up when it does."""

    __slots__ = ("dest", "message", "runtime")

    def __init__(self, runtime: Runtime, dest: Pid | Name, message: object) -> None:
        self.runtime = runtime
        self.dest = dest
        self.message = message

    def expired(self) -> None:
        """Deliver."""
        pid = self.dest if isinstance(self.dest, Pid) else self.runtime.whereis(self.dest)
        if pid is not None:
            pid.post(Envelope((INFO, self.message)))


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
        turn_messages: after how many messages it gets its turn at the latest.
        run_queue: an empty queue of ready processes, which alone decides who is next; `otp.testing` passes one that
            shuffles.
        node: what this runtime calls itself; see `otp.node_names`.

    Raises:
        RuntimeError: no loop was given and none is running.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        turn_s: float = 0.002,
        turn_messages: float = math.inf,
        run_queue: deque[Pid] | None = None,
        node: str = "nonode@nohost",
    ) -> None:
        self.loop = asyncio.get_running_loop() if loop is None else loop
        self.clock = self.loop.time if clock is None else clock
        self.node = node
        self.turn_s = turn_s
        self.turn_messages = turn_messages
        self.reports = ReportBus()
        self.names: dict[str, Pid] = {}
        self.tables: dict[
            object, Any
        ] = {}  # shared by processes, each table kept by one: OTP's ets
        self.ready: deque[Pid] = deque() if run_queue is None else run_queue
        self.awake = False
        self.in_turn = False
        self.loans = 0  # see LOANS; 0 outside a turn
        self.new_calls: list[From] = []
        self.signals: deque[tuple[Any, Pid, object]] = deque()
        self.timers = TimerQueue(self.clock, self._arm)
        self._loop_timer: asyncio.TimerHandle | None = None
        self._most_loans = LOANS if run_queue is None else 0
        self._delivering = False
        self._newest: Pid | None = None
        self._started = 0
        self._ended = 0
        self._messages = 0
        self._turns = 0

    # Starting and asking from plain asyncio code.

    def start(self, server: Startable, name: Name | None = None) -> Pid:
        """Start `server` with no parent and no link.

        Raises:
            StartError: init refused, raised, or the name is taken.
            TypeError: `server` is a class, or cannot be started.
        """
        return startable(server).start_in(self, parent=None, name=name)

    async def start_wait(self, server: Startable, name: Name | None = None) -> Pid:
        """Start `server` and wait for an `init` that is a coroutine; raises as `start`."""
        return await self.start(server, name)

    def spawn(self, body: Body, *args: object) -> Pid:
        """Start a plain process that runs `body(*args)`."""
        return PlainPid(self, None, body, args)

    def cast(self, dest: Pid | Name, request: object) -> None:
        """Cast to a pid or name; nobody there: it vanishes."""
        pid = dest if isinstance(dest, Pid) else self.whereis(dest)
        if pid is not None:
            pid.cast(request)

    def call(self, dest: Pid | Name, request: object, timeout_s: float | None = 5.0) -> From:
        """Call a pid or name, see `Pid.call`; await the result."""
        pid = dest if isinstance(dest, Pid) else self.whereis(dest)
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

    def send_after(self, dest: Pid | Name, delay_s: float, message: object) -> TimerRef:
        """Send `message` to `dest` after `delay_s` seconds."""
        return self.timers.start(delay_s, Delivery(self, dest, message))

    def start_timer(self, dest: Pid | Name, delay_s: float, message: object) -> TimerRef:
        """Send `("timeout", timer, message)` to `dest` after `delay_s` seconds."""
        delivery = Delivery(self, dest, None)
        timer = self.timers.start(delay_s, delivery)
        delivery.message = ("timeout", timer, message)
        return timer

    def cancel_timer(self, timer: TimerRef) -> float | None:
        """Stop `timer`: the seconds it had left, or None if it was too late."""
        return self.timers.cancel(timer)

    def read_timer(self, timer: TimerRef) -> float | None:
        """Tell the seconds `timer` has left, or None if it has fired or was cancelled."""
        return self.timers.read(timer)

    # Names.

    def register(self, name: Name, pid: Pid) -> None:
        """Give `pid` the name.

        Raises:
            NameTakenError: the name is taken, or the process is dead or has a name.
            TypeError: it is no name.
        """
        if isinstance(name, Address):
            name.register(self, pid)
            return
        if not isinstance(name, str):
            raise TypeError(f"a process is named by a str or an Address, not {bounded_text(name)}")
        if name in self.names or not pid.is_alive() or pid.name is not None:
            raise NameTakenError(f"cannot name {pid!r} {name!r}: taken, dead, or named already")
        self.names[name] = pid
        pid.rare.name = name

    def unregister(self, name: Name) -> None:
        """Free the name.

        Raises:
            NameTakenError: nobody has it.
        """
        if isinstance(name, Address):
            name.unregister(self)
            return
        if name not in self.names:
            raise NameTakenError(f"no process is named {name!r}")
        self.names.pop(name).rare.name = None

    def whereis(self, name: Name) -> Pid | None:
        """Find the process of that name; raises TypeError if it is no name."""
        if isinstance(name, str):
            return self.names.get(name)
        if not isinstance(name, Address):
            raise TypeError(
                f"a process goes by its pid, a str or an Address, not {bounded_text(name)}"
            )
        return name.whereis(self)

    def registered(self) -> list[str]:
        """List the names in use."""
        return list(self.names)

    def claim_name(self, name: Name | None) -> None:
        """Check that a process may start under `name`.

        Raises:
            AlreadyStartedError: somebody has it.
            TypeError: it is no name.
        """
        if name is not None and not isinstance(name, str | Address):
            raise TypeError(f"a process is named by a str or an Address, not {name!r:.200}")
        holder = None if name is None else self.whereis(name)
        if holder is not None:
            raise AlreadyStartedError(holder)

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
        most_loans = self.loans = self._most_loans
        few_loans = most_loans // 2
        self.in_turn = True
        try:
            while ready:
                handled += ready.popleft().run(SLICE)
                if handled >= check_at or self.loans < few_loans:
                    handled += most_loans - self.loans
                    self.loans = most_loans
                    if monotonic() >= stop_at or handled >= self.turn_messages:
                        break
                    check_at = handled + CHECK_EVERY
        finally:
            here.process = None
            self.in_turn = False
            handled += most_loans - self.loans
            self.loans = 0
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
