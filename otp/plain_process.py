"""Plain processes: a coroutine function with a mailbox and selective receive, for what is no server.

    async def echo():
        while True:
            sender, text = await receive(lambda message: isinstance(message, tuple))
            send(sender, text)

A call or cast to a plain process arrives as `("$gen_call", from_, request)` or `("$gen_cast", request)`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from otp.bounded_text import bounded_text
from otp.envelope import CALL, CAST, DOOMED, IDLE, READY, RUNNING, SYSTEM, WAITING, Envelope
from otp.errors import OtpError, ReceiveTimeoutError
from otp.exit_reason import NORMAL, is_clean, reason_of
from otp.process import Pid
from otp.waiting import From, Waiter, here, opened, self_process

if TYPE_CHECKING:  # a cycle of types only
    from otp.runtime import Runtime

__all__ = ["Body", "Leave", "PlainPid", "receive", "spawn", "spawn_link"]

Body = Callable[..., Coroutine[Any, Any, object]]


class Leave(BaseException):
    """Leaves the coroutine of a plain process, which goes on as `then` makes it; never reaches a user."""

    def __init__(self, then: Callable[[PlainPid], None]) -> None:
        super().__init__()
        self.then = then


class PlainPid(Pid):
    """The process of one coroutine; it ends when the coroutine does."""

    # The slots are those of `ServerPid`, so that `gen_server.enter_loop` can make it one. Here `server` is the name
    # of the first function, and `envelope` is the receive that waits.
    __slots__ = ("envelope", "server", "state", "timeout")

    def __init__(
        self, runtime: Runtime, parent: Pid | None, body: Body, args: tuple[object, ...]
    ) -> None:
        name = getattr(body, "__qualname__", None) or bounded_text(body)
        coro = body(*args)
        if type(coro) is not CoroutineType:
            raise TypeError(f"a process runs an async function; {name} gave {bounded_text(coro)}")
        super().__init__(runtime, parent)
        self.server: str = name
        self.envelope: _Receive | None = None
        self.coro = coro
        self.status = READY
        runtime.enqueue(self)

    @property
    def initial_call(self) -> str:
        """Name the first function."""
        return self.server

    @initial_call.setter
    def initial_call(self, name: str) -> None:
        self.server = name

    @property
    def hibernated(self) -> bool:
        """Tell whether it waits for a message in `proc_lib.hibernate`."""
        return self.status == IDLE

    def run(self, limit: int) -> int:
        """Step the coroutine once."""
        coro = self.coro
        if self.status != READY or coro is None:
            return 1
        here.process = self
        self.status = RUNNING
        self.reductions += 1
        try:
            awaited = coro.send(None)
            if type(awaited) is From and self.status == RUNNING:  # the hot path of `_park`
                self.waiting = awaited
                self.status = WAITING
                return 1
            self._park(awaited)
        except BaseException as left:  # noqa: BLE001 - the process loop
            self._left(left)
        if self.status == DOOMED:
            self.finish(self.rare.doom)
        return 1

    def post(self, item: object) -> None:
        """Put `item` into the mailbox, and wake a receive that wants it."""
        super().post(item)
        if self.envelope is not None and self.envelope.wants(opened(item)):
            self.envelope.finish()

    def take(self, wanted: Callable[[Any], bool]) -> tuple[Any] | None:
        """Take the oldest wanted message out of the mailbox, in a 1-tuple."""
        for position, envelope in enumerate(self.queued()):
            message = _message(envelope)
            if wanted(message):
                self.remove_at(position)
                if envelope[0] == CALL:
                    self.owe(envelope[2])
                return (message,)
        return None

    def _left(self, left: BaseException) -> None:
        """The coroutine has ended, as `left` says."""
        if isinstance(left, StopIteration | Leave):
            self.coro = None
        if self.status == RUNNING:
            if isinstance(left, Leave):
                left.then(self)
            else:
                self._end(NORMAL if isinstance(left, StopIteration) else reason_of(left))
        if isinstance(left, KeyboardInterrupt | SystemExit):
            self.runtime.interrupted(left)

    def _end(self, reason: object) -> None:
        if not is_clean(reason):
            self.report_crash(self.initial_call, reason)
        self.finish(reason)


class _Receive(Waiter):
    """One receive that found nothing yet."""

    __slots__ = ("timed_out", "wanted")

    def __init__(self, runtime: Runtime, wanted: Callable[[Any], bool]) -> None:
        super().__init__(runtime)
        self.wanted = wanted
        self.timed_out = False

    def __await__(self) -> Generator[Any, Any, None]:
        yield from self.wait()

    def wants(self, envelope: Envelope) -> bool:
        """Tell whether this message is waited for; called by its sender, whom a filter that raises must not hit."""
        try:
            return not self.done and self.wanted(_message(envelope))
        except Exception:  # noqa: BLE001 - it raises again in the process that waits
            return True

    def expired(self) -> None:
        """The time is up."""
        self.timed_out = True
        self.finish()


def spawn(body: Body, *args: object) -> Pid:
    """Start a process that runs `body(*args)`; it first runs in a later turn."""
    parent = self_process()
    return PlainPid(parent.runtime, parent, body, args)


def spawn_link(body: Body, *args: object) -> Pid:
    """Start a process as `spawn` does, linked to the caller from the first moment."""
    pid = spawn(body, *args)
    self_process().link(pid)
    return pid


async def receive(
    wanted: Callable[[Any], bool] | None = None, timeout_s: float | None = None
) -> Any:
    """Take the oldest message that `wanted` accepts, and wait for one if there is none.

    Others keep their places. The time runs from the call and is not restarted by other messages.

    Raises:
        ReceiveTimeoutError: none came within `timeout_s`; 0 looks once.
        OtpError: the caller is no plain process.
    """
    me = self_process()
    if not isinstance(me, PlainPid):
        raise OtpError(f"{me!r} is no plain process: a behaviour gets its messages in callbacks")
    wanted = wanted or _anything
    taken = me.take(wanted)
    if taken is None and (timeout_s is None or timeout_s > 0):
        await _wait(me, _Receive(me.runtime, wanted), timeout_s)
        taken = me.take(wanted)
    if taken is None:
        raise ReceiveTimeoutError(f"no wanted message within {timeout_s} s")
    return taken[0]


async def _wait(me: PlainPid, waiting: _Receive, timeout_s: float | None) -> None:
    timer = None if timeout_s is None else me.runtime.timers.start(timeout_s, waiting)
    me.envelope = waiting
    try:
        await waiting
    finally:
        me.envelope = None
        if timer is not None:
            me.runtime.timers.cancel(timer)


def _anything(_message: object) -> bool:
    return True


def _message(envelope: Envelope) -> object:
    kind = envelope[0]
    if kind == CALL:
        return ("$gen_call", envelope[2], envelope[1])
    if kind == CAST:
        return ("$gen_cast", envelope[1])
    return ("system", envelope[2], envelope[1]) if kind == SYSTEM else envelope[1]
