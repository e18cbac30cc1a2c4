"""The process of a gen_statem: hands what its mailbox brings to the engine, an event at a time.

Starting, ending and callbacks that wait are those of a gen_server (`otp.server_process`); the order of events is the
engine's (`otp.gen_statem_engine`).

Longer than most: the queue and the order of what goes through it are one thing.

Source: gen_statem(3) of OTP 25 to 27, checked against a running OTP 25.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from otp.callback_results import Ignore, Stop
from otp.envelope import (
    CALL,
    CAST,
    DOOMED,
    EXIT,
    IDLE,
    INFO,
    INIT,
    READY,
    RUNNING,
    SYSTEM,
    TERMINATE,
    TIMER,
    Envelope,
)
from otp.errors import StartError
from otp.exit_reason import Raised
from otp.gen_statem_engine import DONE, Engine, Machine
from otp.gen_statem_results import Ok
from otp.gen_statem_transition import Ending
from otp.process import PARKED, Pid
from otp.runtime import Runtime
from otp.server_process import ServerPid
from otp.sys_debug import Debug
from otp.timers import TimerRef
from otp.waiting import From, opened

__all__ = ["StatemPid"]


class _Always:
    def __contains__(self, item: object) -> bool:
        return True


class _Sleep:
    """Marks a machine as hibernated when it has had nothing to do for a while."""

    __slots__ = ("pid",)

    def __init__(self, pid: StatemPid) -> None:
        self.pid = pid

    def expired(self) -> None:
        """The while is over."""
        self.pid.sleep = None
        self.pid.asleep = True


class StatemPid(ServerPid):
    """The process of a `GenStatem`."""

    __slots__ = ("asleep", "engine", "first_actions", "hibernate_after_s", "sleep")
    init_special = _Always()
    traces_itself = True

    def __init__(
        self,
        runtime: Runtime,
        parent: Pid | None,
        machine: Machine,
        hibernate_after_s: float | None = None,
    ) -> None:
        super().__init__(runtime, parent, machine)  # type: ignore[arg-type]  # no gen_server: every use is overridden
        self.engine = Engine(self, machine, self)
        self.first_actions: Any = None  # what init asked for, in a 1-tuple, until it is done
        self.hibernate_after_s = hibernate_after_s
        self.asleep = False
        self.sleep: TimerRef | None = None

    @property
    def initial_call(self) -> str:  # type: ignore[override]  # computed, as a gen_server's
        """Name the callback module's class."""
        return type(self.engine.modules[-1]).__qualname__

    @property
    def hibernated(self) -> bool:
        """Tell whether it waits for a message in hibernation."""
        return self.status == IDLE and (self.engine.hibernate or self.asleep)

    def run(self, limit: int) -> int:
        """Handle up to `limit` events."""
        if self.status != READY:
            return 1
        self.enter()
        handled = 0
        try:
            if self.coro is not None:
                handled = 1
                self._settle(self.drive(self.coro))
            while self.status == RUNNING and handled < limit and self._step():
                handled += 1
        except BaseException as error:  # noqa: BLE001 - the process loop
            self._crashed(error)
        self.reductions += handled
        if self.status == RUNNING:
            self._rest()
        elif self.status == DOOMED:
            self.finish(self.rare.doom)
        return handled or 1

    def release(self) -> None:
        """Drop everything."""
        self._wake()
        self.engine.clear()
        super().release()

    # What comes next.

    def _rest(self) -> None:
        if self.mailbox is not None or self.engine.has_events or self.first_actions:
            self.status = READY
            self.runtime.enqueue(self)
            return
        self.status = IDLE
        if self.hibernate_after_s is not None and not self.hibernated and self.sleep is None:
            self.sleep = self.runtime.timers.start(self.hibernate_after_s, _Sleep(self))

    def _wake(self) -> None:
        self.asleep = False
        if self.sleep is not None:
            self.runtime.timers.cancel(self.sleep)
            self.sleep = None

    def _step(self) -> bool:
        """Handle the next event or signal; False if there is none."""
        if self.first_actions is not None:
            (actions,), self.first_actions = self.first_actions, None
            self._begin(actions)
            return True
        event = self.engine.next_event()
        if event is not None:
            self.envelope = _EVENT
            self._settle(self.engine.start(event))
            return True
        mailbox = self.mailbox
        if mailbox is None:
            return False
        item = mailbox
        if type(mailbox) is deque:
            item = mailbox.popleft()
            self.mailbox = mailbox or None
        else:
            self.mailbox = None
        self._receive(opened(item))
        return True

    def _receive(self, envelope: Envelope) -> None:
        self._wake()
        kind = envelope[0]
        event: Any = ("info", envelope[1])
        if kind == CALL:
            self.owe(envelope[2])
            event = (("call", envelope[2]), envelope[1])
        elif kind == CAST:
            event = ("cast", envelope[1])
        elif kind == TIMER:
            event = self.engine.timeouts.take(envelope[1])
        elif kind == SYSTEM or (kind == EXIT and envelope[1].pid is self.parent):
            self.envelope = envelope
            self._take_signal(envelope)
            return
        if event is not None:
            self.envelope = _EVENT
            self._settle(self.engine.receive(event))

    def _begin(self, actions: Any) -> None:
        self.envelope = _EVENT
        try:
            result = self.engine.begin(actions)
        except Ending as ending:
            result = self._terminate(ending.reason, None)
        if result is DONE:
            self.envelope = None
        else:
            self._settle(result)

    def _next(self, envelope: Envelope, result: Any) -> Any:
        if envelope[0] == INIT:
            return self._after_init(result)
        try:
            after = self.engine.take(result)
        except Ending as ending:
            return self._terminate(ending.reason, None)
        if after is DONE:
            self.envelope = None
            return PARKED
        return after

    # Beginning and ending.

    def _after_init(self, result: Any) -> Any:
        if type(result) is Ignore or type(result) is Stop:
            return super()._after_init(result)
        if not isinstance(result, Ok):
            self._end_init(("bad_return_from_init", result))
            return PARKED
        starting = None if self._rare is None else self._rare.starting
        if starting is not None:
            starting.settle(None)
            self.rare.starting = None
        self.engine.state = result.state
        self.engine.data = result.data
        # The starter is told first: callback_mode, the first enter call and init's actions can only fail later.
        self.first_actions = (result.actions,)
        self.envelope = None
        return PARKED

    def _end_init(self, reason: object) -> None:
        # Unlike a gen_server's, its starter gets the error without the stack.
        if isinstance(reason, Raised) and self.rare.start_error is None:
            self.rare.start_error = StartError(Raised(reason.error, ()))
            self.report_crash(self.initial_call, reason)
        super()._end_init(reason)

    def _terminate(
        self, reason: object, state: Any, from_: From | None = None, value: object = None
    ) -> Any:
        self.envelope = Envelope((TERMINATE, reason, None, None, None))
        return self.engine.terminate(reason)

    def _ended(self, reason: object, envelope: Envelope) -> None:
        self.engine.trace("terminate", reason, self.engine.state)
        super()._ended(reason, envelope)

    def _report(self, reason: object, envelope: Any, callback: str | None) -> None:
        self.runtime.reports.send(self.engine.report(reason))
        self.report_crash(self.initial_call, reason)

    # What sys asks for.

    def traced(self) -> Debug | None:
        """Give the debug functions, if there are any."""
        rare = self._rare
        return None if rare is None or rare.system is None else rare.system.debug

    def system_get_state(self) -> object:
        """Give state and data."""
        return (self.engine.state, self.engine.data)

    def system_replace_state(self, change: Callable[[Any], Any]) -> object:
        """Replace state and data by those in `change((state, data))`."""
        state, data = change((self.engine.state, self.engine.data))
        self.engine.state, self.engine.data = state, data
        return (state, data)

    def system_status(self, debug: Debug | None) -> tuple[str, str, object, dict[str, object]]:
        """Show state, data, postponed events, time-outs and the log."""
        return self.engine.status()


_EVENT = Envelope((INFO, None))
