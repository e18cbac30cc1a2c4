"""Awaiting without a task: what an asynchronous callback, or plain asyncio code, can wait for.

A process that awaits one of these leaves the run queue; `finish` puts it back. Asyncio futures can be awaited
as well, see `otp.process`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

from otp.envelope import CALL, CAST, DEAD, READY, RUNNING, Envelope
from otp.errors import CallError, CallTimeoutError, NoProcessError, OtpError, StartError
from otp.exit_reason import KILLED, NOPROC
from otp.timers import TimerRef

# Processes wait for waiters and waiters know processes: a cycle of types only.
if TYPE_CHECKING:
    from otp.address import Name
    from otp.process import Pid
    from otp.runtime import Runtime

__all__ = [
    "Doomed",
    "ExitWait",
    "From",
    "Starting",
    "Waiter",
    "here",
    "opened",
    "self_process",
]


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

    timeout_s: float  # for the timer, if it comes to one
    value: Any  # once it is done

    def __init__(self, runtime: Runtime, server: Pid | Name, request: object) -> None:
        self.runtime = runtime
        self.done = False
        self.owner = None
        self.future = None
        self.server = server
        self.request = request
        self.failure: object = None
        self.timer: TimerRef | None = None
        self.waiting_at: Pid | None = None  # the server that took the call and has not answered yet

    def __repr__(self) -> str:
        return f"<call to {self.server!r}>"

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self.done:
            process = here.process
            if process is None:
                yield from self.wait()
            else:
                runtime = process.runtime
                loans, ready = runtime.loans, runtime.ready
                if loans and ready and ready[0] is self.server:
                    # The server is next: run it here instead of parking. Nothing it calls is run on this stack.
                    runtime.loans = 0
                    ready.popleft().run(1)
                    runtime.loans = loans - 1
                    here.process = process
                if not self.done or process.status != RUNNING:
                    self.owner = process
                    yield self
        if self.failure is not None:
            raise self._error()
        return self.value

    def reply(self, value: object) -> None:
        """Answer the call."""
        if self.done:
            return
        self.value = value
        owner = self.owner
        if owner is None:
            self.finish()
        else:  # what finish does, without a call: this is the hot path
            self.done = True
            if owner.waiting is self:
                owner.waiting = None
                owner.status = READY
                runtime = owner.runtime
                runtime.ready.append(owner)
                if not runtime.awake:
                    runtime.wake()
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


def opened(item: object) -> Envelope:
    """Make an envelope of what lay in a mailbox."""
    if type(item) is Envelope:
        return item
    if type(item) is From:
        return Envelope((CALL, item.request, item))
    return Envelope((CAST, item))


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
        if pid.status == DEAD:
            self.reason = pid.exit_reason
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


def self_process() -> Pid:
    """Give the calling process.

    Raises:
        OtpError: no process calls: this is plain asyncio code.
    """
    if here.process is None:
        raise OtpError("this is called outside any process; use the runtime's own methods there")
    return here.process
