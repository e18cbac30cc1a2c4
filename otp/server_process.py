"""The process of a gen_server: the receive loop around the callbacks, and OTP's rules about them.

`run` is the hot path: plain `NoReply` and `Reply` results never leave it. Everything else (a callback that waits,
actions, stopping, crashing) goes through `_settle`, which follows one result to the next callback until the process
may take its next message. `envelope` is what the slow path is at work on; it is None on the hot path.

Longer than most: hot and slow path are two halves of one loop.

Source: gen_server(3) of OTP 25 to 27, and the order rules observed on OTP 25.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container
from math import inf as INFINITY  # noqa: N812 - it is a constant
from types import CoroutineType
from typing import Any, Final, Protocol

from otp import sys_process
from otp.callback_results import (
    KEPT,
    PLAIN,
    TIMEOUT,
    Action,
    Continue,
    Hibernate,
    Ignore,
    Ok,
    Stop,
    StopReply,
    Timeout,
    is_action,
    is_no_state,
    parts,
)
from otp.envelope import (
    CALL,
    CAST,
    CONTINUE,
    DEAD,
    DOOMED,
    EXIT,
    IDLE,
    INFO,
    INIT,
    READY,
    RUNNING,
    SYSTEM,
    TERMINATE,
    WAITING,
    Envelope,
)
from otp.errors import IgnoredError, StartError
from otp.exit_reason import NORMAL, is_clean, reason_of
from otp.process import PARKED, Pid
from otp.reports import ServerReport, bounded_text
from otp.runtime import Runtime
from otp.server_timeouts import Hibernation, TimeoutMessage
from otp.sys_debug import Debug
from otp.timers import TimerRef
from otp.waiting import From, Starting, here, opened

__all__ = ["Server", "ServerPid"]


class Server(Protocol):
    """The callbacks, as the process sees them; see `otp.gen_server.GenServer`."""

    pid: Pid

    def init(self) -> Any: ...
    def handle_call(self, request: Any, from_: From, state: Any) -> Any: ...
    def handle_cast(self, request: Any, state: Any) -> Any: ...
    def handle_info(self, message: Any, state: Any) -> Any: ...
    def handle_continue(self, term: Any, state: Any) -> Any: ...
    def terminate(self, reason: Any, state: Any) -> Any: ...


class ServerPid(Pid):
    """The process of a `GenServer`: the receive loop around its callbacks."""

    __slots__ = ("envelope", "server", "state", "timeout")
    init_special: Container[type] = frozenset(  # not the state, or not surely
        {Ok, Ignore, Stop, StopReply, CoroutineType, tuple}
    )

    def __init__(self, runtime: Runtime, parent: Pid | None, server: Server) -> None:
        super().__init__(runtime, parent)
        self.server = server
        self.state: Any = None
        self.envelope: Envelope | None = None  # what the slow path is at work on
        self.timeout: TimerRef | None = None
        server.pid = self

    @property
    def hibernated(self) -> bool:
        """Tell whether it waits for a message in hibernation; a system message does not end that."""
        return type(self.timeout) is Hibernation and self.status == IDLE

    @property
    def initial_call(self) -> str:  # type: ignore[override]  # computed, to keep idle servers small
        """Name the class with the callbacks."""
        return type(getattr(self.server, "callback_module", self.server)).__qualname__

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
            if type(result) in self.init_special:
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

    def enter_loop(self, server: Server, state: Any, action: Any) -> None:
        """Begin the receive loop in a process that was no server until now; its class has just been changed."""
        self.server = server
        self.state = state
        self.envelope = None
        self.timeout = None
        server.pid = self
        try:
            if is_action(action):
                self._settle(self._act(action))
            else:
                self._settle(self._terminate(("bad_return_value", action), state))
        except BaseException as error:  # noqa: BLE001 - the process loop
            self._crashed(error)
        if self.status == RUNNING:
            self._rest()
        elif self.status == DOOMED:
            self.finish(self.rare.doom)

    def become(self, server: Server) -> None:
        """Leave the process to another server; only within a callback that waits or in init."""
        self.server = server
        server.pid = self

    def run(self, limit: int) -> int:  # noqa: C901, PLR0912, PLR0915 - the hot path: a call per message would cost 10 %
        """Handle up to `limit` messages."""
        if self.status != READY:
            return 1
        here.process = self
        self.status = RUNNING
        handled = 0
        item: Any = _INIT
        try:
            coro = self.coro
            if coro is not None:
                handled = 1
                try:
                    awaited = coro.send(None)
                except StopIteration as stop:
                    self.coro = None
                    self._settle(stop.value)
                except BaseException:
                    self.coro = None
                    raise
                else:
                    if type(awaited) is From and self.status == RUNNING:
                        self.waiting = awaited
                        self.status = WAITING
                        self.reductions += 1
                        return 1
                    self._park(awaited)
            result: Any
            server = self.server
            while self.status == RUNNING and handled < limit:
                mailbox = self.mailbox
                if mailbox is None:
                    break
                if type(mailbox) is not deque:
                    item = mailbox
                    self.mailbox = None
                elif self.timeout is None:
                    handled += self._drain(mailbox, limit - handled)
                    continue
                else:
                    item = mailbox.popleft()
                    self.mailbox = mailbox or None
                handled += 1
                if self.timeout is not None:
                    self._stop_timeout(item)
                kind = type(item)
                if kind is From:
                    result = server.handle_call(item.request, item, self.state)
                    try:
                        word, value, state = result
                    except (TypeError, ValueError):
                        word = None
                    if word == "reply":
                        self.state = state
                        item.reply(value)
                        continue
                elif kind is Envelope:
                    self.envelope = item
                    self._open(item)
                    continue
                else:
                    result = server.handle_cast(item, self.state)
                    try:
                        word, state = result
                    except (TypeError, ValueError):
                        word = None
                    if word == "noreply":
                        self.state = state
                        continue
                self.envelope = opened(item)
                self._settle(result)
        except BaseException as error:  # noqa: BLE001 - the process loop
            if self.envelope is None:
                self.envelope = opened(item)
            self._crashed(error)
        self.reductions += handled
        if self.status == RUNNING:
            if self.mailbox is None:
                self.status = IDLE
            else:
                self.status = READY
                self.runtime.enqueue(self)
        elif self.status == DOOMED:
            self.finish(self.rare.doom)
        return handled or 1

    def _drain(self, mailbox: deque[Any], most: int) -> int:
        """Handle up to `most` of the messages that wait, and return how many; for casts this is the hot path.

        No timeout runs while a cast is taken: it only begins when nothing waits, and ends with the first message.
        """
        server = self.server
        for done in range(1, most + 1):
            item = mailbox.popleft()
            if not mailbox:
                self.mailbox = None
            kind = type(item)
            if kind is From or kind is Envelope:
                self._handle(item)
            else:
                try:
                    result = server.handle_cast(item, self.state)
                except BaseException:
                    self.envelope = opened(item)
                    raise
                try:
                    word, state = result
                except (TypeError, ValueError):
                    word = None
                if word == "noreply":
                    self.state = state
                else:
                    self.envelope = opened(item)
                    self._settle(result)
            if self.mailbox is not mailbox or self.status != RUNNING:
                return done
        return most

    def _handle(self, item: Any) -> None:
        self.envelope = opened(item)
        self._open(self.envelope)

    def release(self) -> None:
        """Drop server and state; a call that was being handled learns the reason."""
        envelope, self.envelope = self.envelope, None
        reason = self.exit_reason
        if envelope is not None and envelope[0] in _CARRY_CALL and envelope[2] is not None:
            envelope[2].fail(reason)
        self._cancel_timeout()
        starting = None if self._rare is None else self._rare.starting
        if starting is not None and not starting.done:
            if starting.awaited() and self.parent is not None:
                self.unlink(self.parent)
            starting.settle(self.rare.start_error or StartError(reason))
        self.server = _GONE
        self.state = None

    def expired(self) -> None:
        """The time of a `Timeout` action is up."""
        self.time_is_up(TIMEOUT)

    def time_is_up(self, message: object) -> None:
        """Deliver the message of a timeout, unless another one waits: that came first."""
        timer, self.timeout = self.timeout, None
        if timer is not None and all(envelope[0] == SYSTEM for envelope in self.queued()):
            self.post(Envelope((INFO, message)))

    # What sys asks for; a server with these methods answers in its own way.

    traces_itself = False

    def system_get_state(self) -> object:
        """Give the state."""
        own = getattr(self.server, "system_get_state", None)
        return self.state if own is None else own(self.state)

    def system_replace_state(self, change: Callable[[Any], Any]) -> object:
        """Replace the state by `change(state)`, and give the new one."""
        own = getattr(self.server, "system_replace_state", None)
        if own is not None:
            answer, self.state = own(change, self.state)
            return answer
        self.state = change(self.state)
        return self.state

    def system_status(self, debug: Debug | None) -> tuple[str, str, object, dict[str, object]]:
        """Show behaviour, module, state and more."""
        server = self.server
        status = {"state": self.system_get_state(), "log": debug.events() if debug else ()}
        shown = sys_process.formatted(server, status)
        behaviour = getattr(server, "behaviour", "gen_server")
        return behaviour, self.initial_call, shown.pop("state"), shown

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
        known = parts(result)
        if known is not None and (known[0] == "noreply" or kind == CALL):
            word, value, self.state, action = known
            if word == "reply":
                envelope[2].reply(value)
            elif kind == CALL:
                self.owe(envelope[2])
            return self._act(action)
        if type(result) is Stop:
            state = self.state if result.state is KEPT else result.state
            return self._terminate(result.reason, state)
        if type(result) is StopReply and kind == CALL:
            return self._terminate(result.reason, result.state, envelope[2], result.value)
        return self._terminate(("bad_return_value", result), self.state)

    def _after_init(self, result: Any) -> Any:
        if type(result) is Stop:
            self._end_init(result.reason)
            return PARKED
        if type(result) is Ignore:
            self.rare.start_error = IgnoredError()
            self._end_init(NORMAL)
            return PARKED
        if is_no_state(result):
            self._end_init(("bad_return_value", result))
            return PARKED
        if type(result) is not Ok:
            result = Ok(result)
        starting = None if self._rare is None else self._rare.starting
        if starting is not None:
            starting.settle(None)
            self.rare.starting = None
        self.state = result.state
        return self._act(result.action)

    def _act(self, action: Action | None) -> Any:
        self.envelope = None
        if action is None:
            return PARKED
        if isinstance(action, Continue):
            self.envelope = Envelope((CONTINUE, action.term))
            return self.server.handle_continue(action.term, self.state)
        result = self._start_timeout(action)
        if isinstance(action, Hibernate) and result is PARKED and self.mailbox is None:
            self.timeout = Hibernation(self.timeout)
        return result

    def _start_timeout(self, action: Timeout) -> Any:
        after_s = action.after_s - (self.runtime.clock() if action.absolute else 0.0)
        if action.message is not PLAIN and after_s <= 0:
            self.envelope = Envelope((INFO, action.message))
            return self.server.handle_info(action.message, self.state)
        if self.mailbox is not None or after_s == INFINITY:
            return PARKED  # a waiting message cancels the timeout before it begins
        plain = action.message is PLAIN
        target = self if plain else TimeoutMessage(self, action.message)
        self.timeout = self.runtime.timers.start(after_s, target)
        return PARKED

    def _stop_timeout(self, item: object) -> None:
        # A system message leaves the timeout and its deadline alone (newest OTP).
        if type(item) is not Envelope or item[0] != SYSTEM:
            self._cancel_timeout()

    def _cancel_timeout(self) -> None:
        timer, self.timeout = self.timeout, None
        if type(timer) is Hibernation:
            timer = timer.timer
        if timer is not None:
            self.runtime.timers.cancel(timer)

    def _open(self, envelope: Envelope) -> None:
        """Take an item that is neither a plain call nor a bare cast."""
        kind, content = envelope[0], envelope[1]
        if kind == INFO or (kind == EXIT and content.pid is not self.parent):
            self._settle(self.server.handle_info(content, self.state))
        elif kind == CAST:
            self._settle(self.server.handle_cast(content, self.state))
        elif kind == CALL:
            self._settle(self.server.handle_call(content, envelope[2], self.state))
        else:
            self._take_signal(envelope)

    def _take_signal(self, envelope: Envelope) -> None:
        if envelope[0] == EXIT:  # of the parent; both None: the outside world is its parent
            self._settle(self._terminate(envelope[1].reason, self.state))
        else:
            self._settle(self._system(envelope[1], envelope[2]))

    def _system(self, request: Any, from_: From) -> Any:
        if request[0] == "terminate":
            from_.reply(None)
            return self._terminate(request[1], self.state)
        self.envelope = None
        sys_process.answer(self, request, from_)
        return PARKED

    def _terminate(
        self, reason: object, state: Any, from_: From | None = None, value: object = None
    ) -> Any:
        self.state = state
        self._cancel_timeout()
        last = self.envelope
        if last is not None and last[0] == CALL and last[2] is not from_:
            self.owe(last[2])
        self.envelope = Envelope((TERMINATE, reason, from_, value, last))
        return self.server.terminate(reason, state)

    def _ended(self, reason: object, envelope: Envelope) -> None:
        from_, value, last = envelope[2:]
        if not is_clean(reason):
            callback = None if last is None else _CALLBACKS.get(last[0])
            # Another reason than terminate was called with: it is terminate's own failure.
            self._report(reason, last, callback if reason is envelope[1] else "terminate")
        if from_ is not None:
            from_.reply(value)
        self.finish(reason)

    def _crashed(self, error: BaseException) -> None:
        """An exception left a callback."""
        if isinstance(error, KeyboardInterrupt | SystemExit):
            self.runtime.interrupted(error)
        if self.status >= DOOMED:  # the signal's reason counts, not what the callback made of it
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
                self.report_crash(self.initial_call, reason)
        if rare.starting is None and self.parent is not None:
            self.unlink(self.parent)
        self.finish(reason)

    def _report(self, reason: object, envelope: Any, callback: str | None) -> None:
        system = self.rare.system
        status = {
            "state": self.state,
            "message": envelope[1] if envelope else "",
            "reason": reason,
            "log": system.debug.events() if system else (),
        }
        shown = sys_process.formatted(self.server, status)
        self.runtime.reports.send(
            ServerReport(
                process=repr(self),
                behaviour=self.initial_call,
                last_message=bounded_text(shown["message"]) if envelope else "",
                state=bounded_text(shown["state"]),
                reason=shown["reason"],
                reason_text=bounded_text(shown["reason"]),
                log=sys_process.texts(shown["log"]),
                callback=callback,
                label=self.rare.label,
            )
        )
        self.report_crash(self.initial_call, reason)


_INIT: Final = Envelope((INIT, None, None))
_CARRY_CALL: Final = frozenset({CALL, SYSTEM, TERMINATE})
_CALLBACKS: Final = {
    CALL: "handle_call",
    CAST: "handle_cast",
    INFO: "handle_info",
    EXIT: "handle_info",
    CONTINUE: "handle_continue",
}
_GONE: Final[Any] = None  # the server of a process that has ended
