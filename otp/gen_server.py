"""gen_server: a process that answers calls, takes casts and messages, and is started and stopped in OTP's way.

One instance of a `GenServer` subclass is one server; its state is passed to each callback and returned by it.
Callbacks are `def`, or `async def` where they really wait; while one waits, the server handles nothing else.
Of OTP not here: hibernation (an idle process is small anyway) and code change.

Source: gen_server(3) of OTP 25 to 27, and the order rules observed on OTP 25.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterator
from types import CoroutineType
from typing import Any, ClassVar, Final, Generic, TypeVar, overload

from otp.errors import (
    CallTimeoutError,
    ExitError,
    IgnoredError,
    NoProcessError,
    StartError,
    UndefinedCallbackError,
)
from otp.exit_reason import NORMAL, is_clean, reason_of
from otp.reports import CrashReport, ServerReport, bounded_text
from otp.runtime import (
    CALL,
    CAST,
    CONTINUE,
    DEAD,
    DOOMED,
    EXIT,
    IDLE,
    INFO,
    INIT,
    PARKED,
    READY,
    RUNNING,
    SYSTEM,
    TERMINATE,
    WAITING,
    AnswerT_co,
    Call,
    Envelope,
    ExitWait,
    From,
    Pid,
    Runtime,
    Starting,
    here,
    self_process,
)
from otp.timers import TimerRef

__all__ = [
    "TIMEOUT",
    "Action",
    "Continue",
    "GenServer",
    "Ignore",
    "NoReply",
    "Ok",
    "Reply",
    "ServerPid",
    "Stop",
    "StopReply",
    "Timeout",
    "call",
    "cast",
    "reply",
    "start",
    "start_link",
    "stop",
]

TIMEOUT: Final = "timeout"  # what handle_info gets for a `Timeout` without a message
_PLAIN: Final = object()
_log = logging.getLogger("otp")

StateT = TypeVar("StateT")


class Continue:
    """Action: run `handle_continue(term, state)` at once, before any queued message."""

    __slots__ = ("term",)

    def __init__(self, term: object) -> None:
        self.term = term


class _TimeoutMessage:
    __slots__ = ("message", "server")

    def __init__(self, server: ServerPid, message: object) -> None:
        self.server = server
        self.message = message

    def expired(self) -> None:
        """The time of a `Timeout` with a message is up."""
        self.server.timeout = None
        self.server.post((INFO, self.message))


class Timeout:
    """Action: `handle_info(TIMEOUT, state)` after `after_s` seconds, unless any message comes first.

    With a `message`, that is what `handle_info` gets, and a zero timeout fires before queued messages (OTP 28).
    """

    __slots__ = ("after_s", "message")

    def __init__(self, after_s: float, message: object = _PLAIN) -> None:
        self.after_s = after_s
        self.message = message


Action = Continue | Timeout


class Ok(Generic[StateT]):
    """From `init`: go on with `state`; a plain state means the same."""

    __slots__ = ("action", "state")

    def __init__(self, state: StateT, action: Action | None = None) -> None:
        self.state = state
        self.action = action


class Ignore:
    """From `init`, or from a child's start: there is deliberately no process."""

    __slots__ = ()


class Reply(Generic[StateT]):
    """Answer the call with `value` and go on."""

    __slots__ = ("action", "state", "value")

    def __init__(self, value: object, state: StateT, action: Action | None = None) -> None:
        self.value = value
        self.state = state
        self.action = action


class NoReply(Generic[StateT]):
    """Go on; a call is answered later with `reply(from_, value)`."""

    __slots__ = ("action", "state")

    def __init__(self, state: StateT, action: Action | None = None) -> None:
        self.state = state
        self.action = action


class Stop(Generic[StateT]):
    """End with `reason`; `init` gives no state."""

    __slots__ = ("reason", "state")

    def __init__(self, reason: object, state: StateT | None = None) -> None:
        self.reason = reason
        self.state = state


class StopReply(Generic[StateT]):
    """End with `reason`; the answer goes out after `terminate` has run."""

    __slots__ = ("reason", "state", "value")

    def __init__(self, reason: object, value: object, state: StateT) -> None:
        self.reason = reason
        self.value = value
        self.state = state


CallResult = Reply[StateT] | NoReply[StateT] | Stop[StateT] | StopReply[StateT]
Result = NoReply[StateT] | Stop[StateT]
InitSpecial = Ok[StateT] | Ignore | Stop[Any]


class GenServer(Generic[StateT]):
    """Subclass it, give it `init` and the callbacks it needs; each may be `async def`."""

    __slots__ = ("pid",)

    pid: Pid  # set before init runs
    process_class: ClassVar[type[ServerPid]]

    @property
    def runtime(self) -> Runtime:
        """The runtime this server lives in."""
        return self.pid.runtime

    def trap_exit(self, on: bool = True) -> None:  # noqa: FBT001, FBT002 - process_flag(trap_exit, true)
        """From now on take exit signals as `Exit` messages, or no longer."""
        self.pid.trapping = on

    def init(self) -> StateT | InitSpecial[StateT] | Awaitable[StateT | InitSpecial[StateT]]:
        """Return the first state; the starter waits for it."""
        raise UndefinedCallbackError(f"{type(self).__name__} has no init")

    def handle_call(
        self, request: Any, from_: From, state: StateT
    ) -> CallResult[StateT] | Awaitable[CallResult[StateT]]:
        """Answer a call."""
        raise self._undefined("handle_call", request)

    def handle_cast(
        self, request: Any, state: StateT
    ) -> Result[StateT] | Awaitable[Result[StateT]]:
        """Take a cast."""
        raise self._undefined("handle_cast", request)

    def handle_info(
        self, message: Any, state: StateT
    ) -> Result[StateT] | Awaitable[Result[StateT]]:
        """Take any other message: raw sends, `Exit` when trapping, `Down`, timers."""
        _log.warning("%r has no handle_info for %s", self.pid, bounded_text(message))
        return NoReply(state)

    def handle_continue(
        self, term: Any, state: StateT
    ) -> Result[StateT] | Awaitable[Result[StateT]]:
        """Go on after a `Continue`."""
        raise self._undefined("handle_continue", term)

    def terminate(self, reason: Any, state: StateT) -> Awaitable[None] | None:
        """Clean up before the end; not run on a kill, nor on an exit signal without trap_exit."""

    def start_in(self, runtime: Runtime, *, parent: Pid | None, name: str | None) -> Pid:
        """Start this server in `runtime`, linked to `parent` if there is one; see `start_link`."""
        runtime.claim_name(name)
        pid = self.process_class(runtime, parent, self)
        if parent is not None:
            pid.links = parent
            parent.add_link(pid)
        if name is not None:
            runtime.register(name, pid)
        pid.begin()
        return pid

    def _undefined(self, callback: str, term: object) -> UndefinedCallbackError:
        return UndefinedCallbackError(
            f"{type(self).__name__} has no {callback} for {bounded_text(term)}"
        )


class ServerPid(Pid):
    """The process of a `GenServer`: the receive loop around its callbacks."""

    __slots__ = ("envelope", "server", "state", "timeout")

    def __init__(self, runtime: Runtime, parent: Pid | None, server: GenServer[Any]) -> None:
        super().__init__(runtime, parent)
        self.server = server
        self.state: Any = None
        self.envelope: Envelope | None = None  # what the slow path is at work on
        self.timeout: TimerRef | None = None
        server.pid = self

    def begin(self) -> None:
        """Run init in the starter's turn.

        Raises:
            StartError: init refused or raised; the process has ended and its name is free.
        """
        starter = here.process
        here.process = self
        self.status = RUNNING
        self.envelope = _INIT
        try:
            result = self.server.init()
            if type(result) in _INIT_SPECIAL:
                self._settle(result)
            else:
                self.state = result
                self.envelope = None
        except BaseException as error:  # noqa: BLE001 - the process loop
            self._crashed(error)
        finally:
            here.process = starter
        if self.status == RUNNING:
            self._rest()
        elif self.status == DOOMED:
            self._end_init(self.rare.doom)
        if self.coro is not None and self.envelope is _INIT:
            self.rare.starting = Starting(self.runtime)
        elif self.status == DEAD and self.rare.start_error is not None:
            raise self.rare.start_error

    def run(self, limit: int) -> int:  # noqa: C901, PLR0912, PLR0915 - the hot path: a call per message would cost 10 %
        """Handle up to `limit` messages."""
        if self.status != READY:
            return 1
        here.process = self
        self.status = RUNNING
        handled = 0
        envelope: Any = None
        try:
            if self.coro is not None:
                handled = 1
                self._settle(self.drive(self.coro))
            server = self.server
            while self.status == RUNNING and handled < limit:
                mailbox = self.mailbox
                if mailbox is None:
                    break
                if type(mailbox) is tuple:
                    self.mailbox = None
                    envelope = mailbox
                else:
                    envelope = mailbox.popleft()  # type: ignore[union-attr]  # a deque
                    if not mailbox:
                        self.mailbox = None
                handled += 1
                if self.timeout is not None:
                    self._stop_timeout(envelope)
                kind = envelope[0]
                if kind == CAST:
                    result: Any = server.handle_cast(envelope[1], self.state)
                elif kind == CALL:
                    result = server.handle_call(envelope[1], envelope[2], self.state)
                    if type(result) is Reply and result.action is None:
                        self.state = result.state
                        envelope[2].reply(result.value)
                        continue
                elif kind == INFO:
                    result = server.handle_info(envelope[1], self.state)
                else:
                    self.envelope = envelope
                    self._take_signal(envelope)
                    continue
                if type(result) is NoReply and result.action is None and kind != CALL:
                    self.state = result.state
                    continue
                self.envelope = envelope
                self._settle(result)
        except BaseException as error:  # noqa: BLE001 - the process loop
            if self.envelope is None:
                self.envelope = envelope
            self._crashed(error)
        self.reductions += handled
        if self.status == RUNNING:
            self._rest()
        elif self.status == DOOMED:
            self.finish(self.rare.doom)
        return handled or 1

    def release(self) -> None:
        """Drop server and state; a call that was being handled learns the reason."""
        envelope, self.envelope = self.envelope, None
        reason = self.exit_reason
        if envelope is not None and envelope[0] in _CARRY_CALL and envelope[2] is not None:
            envelope[2].fail(reason)
        if self.timeout is not None:
            self.runtime.timers.cancel(self.timeout)
            self.timeout = None
        starting = None if self._rare is None else self._rare.starting
        if starting is not None and not starting.done:
            if starting.awaited() and self.parent is not None:
                self.unlink(self.parent)
            starting.settle(self.rare.start_error or StartError(reason))
        self.server = _GONE
        self.state = None

    def expired(self) -> None:
        """The time of a `Timeout` action is up."""
        timer, self.timeout = self.timeout, None
        if timer is not None:
            self.post((INFO, TIMEOUT))

    # The slow path: everything but a plain NoReply or Reply.

    def _rest(self) -> None:
        if self.mailbox is None:
            self.status = IDLE
        else:
            self.status = READY
            self.runtime.enqueue(self)

    def _settle(self, result: Any) -> None:
        """Follow `result` until the process waits, may take the next message, or has ended."""
        while result is not PARKED and self.status == RUNNING:
            if type(result) is CoroutineType:
                result = self.drive(result)
                continue
            envelope: Any = self.envelope
            if envelope[0] == TERMINATE:
                self._ended(envelope[1], envelope)
                return
            result = self._next(envelope, result)

    def _next(self, envelope: Envelope, result: Any) -> Any:
        """Apply one result; returns that of the callback it leads to, or PARKED when there is none."""
        kind = envelope[0]
        if kind == INIT:
            return self._after_init(result)
        cls = type(result)
        if cls is Stop:
            return self._terminate(result.reason, result.state)
        if cls is StopReply and kind == CALL:
            return self._terminate(result.reason, result.state, envelope[2], result.value)
        if cls is Reply and kind == CALL:
            envelope[2].reply(result.value)
        elif cls is not NoReply:
            return self._terminate(("bad_return_value", result), self.state)
        elif kind == CALL and not envelope[2].done:
            envelope[2].waiting_at = self
            self.rare.unanswered[envelope[2]] = None
        self.state = result.state
        return self._act(result.action)

    def _after_init(self, result: Any) -> Any:
        if type(result) is Stop:
            self._end_init(result.reason)
            return PARKED
        if type(result) is Ignore:
            self.rare.start_error = IgnoredError()
            self._end_init(NORMAL)
            return PARKED
        if type(result) is not Ok:
            result = Ok(result)
        starting = None if self._rare is None else self._rare.starting
        if starting is not None:
            starting.settle(None)
            self.rare.starting = None
        self.state = result.state
        return self._act(result.action)

    def _act(self, action: Any) -> Any:
        self.envelope = None
        if action is None:
            return PARKED
        if type(action) is Continue:
            self.envelope = (CONTINUE, action.term)
            return self.server.handle_continue(action.term, self.state)
        if type(action) is Timeout:
            return self._start_timeout(action)
        return self._terminate(("bad_return_value", action), self.state)

    def _start_timeout(self, action: Timeout) -> Any:
        if action.message is not _PLAIN and action.after_s <= 0:
            self.envelope = (INFO, action.message)
            return self.server.handle_info(action.message, self.state)
        if self.mailbox is not None:
            return PARKED  # a waiting message cancels the timeout before it begins
        if action.message is _PLAIN:
            self.timeout = self.runtime.timers.start(action.after_s, self)
        else:
            self.timeout = self.runtime.timers.start(
                action.after_s, _TimeoutMessage(self, action.message)
            )
        return PARKED

    def _stop_timeout(self, envelope: Envelope) -> None:
        # A system message leaves the timeout and its deadline alone (newest OTP).
        if self.timeout is not None and envelope[0] != SYSTEM:
            self.runtime.timers.cancel(self.timeout)
            self.timeout = None

    def _take_signal(self, envelope: Envelope) -> None:
        if envelope[0] == EXIT:
            signal = envelope[1]
            if signal.pid is self.parent:  # both None: the outside world is its parent
                self._settle(self._terminate(signal.reason, self.state))
            else:
                self._settle(self.server.handle_info(signal, self.state))
        else:
            self._settle(self._system(envelope[1], envelope[2]))

    def _system(self, request: Any, from_: From) -> Any:
        match request:
            case ("terminate", reason):
                from_.reply(None)
                return self._terminate(reason, self.state)
            case ("get_state", _):
                from_.reply(self.state)
            case _:
                from_.fail(("unknown_system_msg", request))
        self.envelope = None
        return PARKED

    def _terminate(
        self, reason: object, state: Any, from_: From | None = None, value: object = None
    ) -> Any:
        self.state = state
        if self.timeout is not None:
            self.runtime.timers.cancel(self.timeout)
            self.timeout = None
        last = self.envelope
        if last is not None and last[0] == CALL and last[2] is not from_ and not last[2].done:
            last[2].waiting_at = self
            self.rare.unanswered[last[2]] = None
        self.envelope = (TERMINATE, reason, from_, value, last)
        return self.server.terminate(reason, state)

    def _ended(self, reason: object, envelope: Envelope) -> None:
        from_, value, last = envelope[2:]
        if not is_clean(reason):
            self._report(reason, last)
        if from_ is not None:
            from_.reply(value)
        self.finish(reason)

    def _crashed(self, error: BaseException) -> None:
        """An exception left a callback."""
        if isinstance(error, KeyboardInterrupt | SystemExit):
            self.runtime.interrupted(error)
        if (
            self.status > WAITING
        ):  # doomed: the signal's reason counts, not what the callback made of it
            return
        self.status = RUNNING
        reason = reason_of(error)
        envelope: Any = self.envelope
        if envelope[0] == INIT:
            self._end_init(reason)
        elif envelope[0] == TERMINATE:
            self._ended(reason, envelope)  # terminate's own failure replaces the reason
        else:
            try:
                self._settle(self._terminate(reason, self.state))
            except BaseException as second:  # noqa: BLE001 - terminate may raise anything
                self._crashed(second)

    def _end_init(self, reason: object) -> None:
        """End a process that never began: its starter hears that from the start function alone."""
        rare = self.rare
        if rare.start_error is None:
            rare.start_error = StartError(reason)
            if not is_clean(reason):
                self._report_crash(reason, bounded_text(reason))
        if rare.starting is None and self.parent is not None:
            self.unlink(self.parent)
        self.finish(reason)

    def _report(self, reason: object, envelope: Any) -> None:
        reports = self.runtime.reports
        text = bounded_text(reason)
        behaviour = type(self.server).__qualname__
        reports.send(
            ServerReport(
                process=repr(self),
                behaviour=behaviour,
                last_message=bounded_text(envelope[1]) if envelope else "",
                state=bounded_text(self.state),
                reason=reason,
                reason_text=text,
            )
        )
        self._report_crash(reason, text)

    def _report_crash(self, reason: object, text: str) -> None:
        self.runtime.reports.send(
            CrashReport(
                process=repr(self),
                initial_call=type(self.server).__qualname__,
                ancestors=tuple(repr(pid) for pid in _ancestors(self)),
                reason=reason,
                reason_text=text,
                message_queue_len=self.queue_length(),
                links=tuple(repr(pid) for pid in self.linked()[:15]),
                trap_exit=self.trapping,
                reductions=self.reductions,
            )
        )


GenServer.process_class = ServerPid


def start_link(server: GenServer[Any], *, name: str | None = None) -> Pid:
    """Start `server` linked to the calling process, its parent.

    When `init` is a coroutine, await the pid to wait for it.

    Raises:
        StartError: init refused (`IgnoredError` for `Ignore()`) or raised, or the name is taken.
        OtpError: no process calls.
    """
    parent = self_process()
    return server.start_in(parent.runtime, parent=parent, name=name)


def start(server: GenServer[Any], *, name: str | None = None) -> Pid:
    """Start `server` without a link; otherwise as `start_link`."""
    return server.start_in(self_process().runtime, parent=None, name=name)


def cast(dest: Pid | str, request: object) -> None:
    """Send `request` to `handle_cast`; nobody there: it vanishes."""
    pid = self_process().runtime.names.get(dest) if isinstance(dest, str) else dest
    if pid is not None:
        pid.post((CAST, request))


@overload
def call(
    dest: Pid | str, request: Call[AnswerT_co], timeout_s: float | None = 5.0
) -> Awaitable[AnswerT_co]: ...


@overload
def call(dest: Pid | str, request: object, timeout_s: float | None = 5.0) -> Awaitable[Any]: ...


def call(dest: Pid | str, request: object, timeout_s: float | None = 5.0) -> Awaitable[Any]:
    """Ask a server by pid or name, from inside a process; see `Pid.call`."""
    if isinstance(dest, str):
        return self_process().runtime.call(dest, request, timeout_s)
    return dest.call(request, timeout_s)


def reply(from_: From, value: object) -> None:
    """Answer a call from anywhere; only the first answer counts."""
    from_.reply(value)


async def stop(dest: Pid | str, reason: object = NORMAL, timeout_s: float | None = None) -> None:
    """Make a server end with `reason`, through its `terminate`, and wait until it has.

    Raises:
        ValueError: `timeout_s` is negative.
        NoProcessError: there is no such process.
        CallTimeoutError: it has not ended in time; it still will.
        ExitError: it ended with another reason.
    """
    if timeout_s is not None and timeout_s < 0:
        raise ValueError(f"timeout_s is {timeout_s}, below zero")
    pid = self_process().runtime.whereis(dest) if isinstance(dest, str) else dest
    if pid is None or not pid.is_alive():
        raise NoProcessError(dest, ("stop", reason))
    wait = ExitWait(pid)
    pid.post((SYSTEM, ("terminate", reason), From(pid.runtime, pid, reason)))
    actual = await wait.within(timeout_s)
    if wait.timed_out:
        raise CallTimeoutError(dest, ("stop", reason))
    if actual != reason:
        raise ExitError(actual)


def _ancestors(pid: Pid) -> Iterator[Pid]:
    parent = pid.parent
    while parent is not None:
        yield parent
        parent = parent.parent


_INIT: Final[Envelope] = (INIT, None, None)
_INIT_SPECIAL: Final = frozenset({Ok, Ignore, Stop, CoroutineType})
_CARRY_CALL: Final = frozenset({CALL, SYSTEM, TERMINATE})
_GONE: Final[GenServer[Any]] = GenServer()
