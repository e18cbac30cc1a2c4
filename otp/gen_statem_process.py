"""The process of a gen_statem: its event queue, and the order in which things happen around a callback.

What comes next is: inserted events, then after a change of state the postponed ones in their old order, then what was
left of the queue, then zero time-outs, then the mailbox. What one callback may do to all that is in
`gen_statem_transition`; starting, ending and waiting callbacks are those of a gen_server (`otp.server_process`).

Longer than most: the queue and the order of what goes through it are one thing.

Source: gen_statem(3) of OTP 25 to 27, checked against a running OTP 25.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from otp import sys_process
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
from otp.errors import StartError, UndefinedCallbackError
from otp.exit_reason import Raised
from otp.gen_statem_results import (
    CALLBACK_MODES,
    ENTER,
    HANDLE_EVENT_FUNCTION,
    INTERNAL,
    STATE_ENTER,
    STATE_FUNCTIONS,
    STATE_TIMEOUT,
    TIMEOUT,
    Ok,
    Postpone,
)
from otp.gen_statem_timeouts import TimeoutAction, Timeouts
from otp.gen_statem_transition import Ending, Event, Transition, listed
from otp.process import PARKED, Pid
from otp.reports import StatemReport, bounded_text
from otp.runtime import Runtime
from otp.server_process import ServerPid
from otp.sys_debug import Debug
from otp.timers import TimerRef
from otp.waiting import From

__all__ = ["Machine", "StatemPid"]


class Machine(Protocol):
    """A callback module, as the process sees it; see `otp.gen_statem.GenStatem`."""

    pid: Pid

    def init(self) -> Any: ...
    def callback_mode(self) -> Any: ...
    def handle_event(self, event_type: Any, content: Any, state: Any, data: Any) -> Any: ...
    def terminate(self, reason: Any, state: Any, data: Any) -> Any: ...


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
    """The process of a `GenStatem`. `state` is the state; what a gen_server calls its state is `data`."""

    __slots__ = (
        "asleep",
        "data",
        "events",
        "first_actions",
        "hibernate",
        "hibernate_after_s",
        "modules",
        "postponed",
        "sleep",
        "state_enter",
        "state_functions",
        "timeouts",
        "transition",
    )
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
        self.modules: list[Machine] = [machine]
        self.data: Any = None
        self.events: deque[Event] = deque()
        self.postponed: list[Event] = []
        self.timeouts = Timeouts(self)
        self.transition: Transition | None = None
        self.first_actions: Any = None  # what init asked for, until it is done
        self.state_functions = True
        self.state_enter = False
        self.hibernate = False
        self.hibernate_after_s = hibernate_after_s
        self.asleep = False
        self.sleep: TimerRef | None = None

    @property
    def hibernated(self) -> bool:
        """Tell whether it waits for a message in hibernation."""
        return self.status == IDLE and (self.hibernate or self.asleep)

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
        self.timeouts.clear()
        self._wake()
        self.events.clear()
        self.postponed.clear()
        self.transition = self.data = None
        super().release()

    # What comes next.

    def _rest(self) -> None:
        if self.mailbox is not None or self.events or self.timeouts.has_zero or self.first_actions:
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
            self._begin_machine()
        elif self.events:
            self._handle(self.events.popleft())
        elif self.timeouts.has_zero:
            self._handle_new(self.timeouts.take_zero())
        else:
            mailbox = self.mailbox
            if mailbox is None:
                return False
            envelope: Any = mailbox
            if isinstance(mailbox, deque):
                envelope = mailbox.popleft()
                self.mailbox = mailbox or None
            else:
                self.mailbox = None
            self._receive(envelope)
        return True

    def _receive(self, envelope: Envelope) -> None:
        self._wake()
        kind = envelope[0]
        if kind == CALL:
            self.owe(envelope[2])
            self._handle_new((("call", envelope[2]), envelope[1]))
        elif kind == CAST:
            self._handle_new(("cast", envelope[1]))
        elif kind == TIMER:
            event = self.timeouts.take(envelope[1])
            if event is not None:
                self._handle_new(event)
        elif kind == SYSTEM or (kind == EXIT and envelope[1].pid is self.parent):
            self.envelope = envelope
            self._take_signal(envelope)
        else:
            self._handle_new(("info", envelope[1]))

    def _handle_new(self, event: Event) -> None:
        self.trace("in", event, self.state)
        self._handle(event)

    def _handle(self, event: Event) -> None:
        self.envelope = (INFO, event)
        self.transition = Transition(self, event, self.state, self.data)
        self._settle(self._call(event, self.state, self.data))

    def _call(self, event: Event, state: Any, data: Any) -> Any:
        machine = self.modules[-1]
        if not self.state_functions:
            return machine.handle_event(event[0], event[1], state, data)
        function = getattr(machine, state, None) if isinstance(state, str) else None
        if function is None:
            raise UndefinedCallbackError(f"{type(machine).__name__} has no state {state!r:.200}")
        return function(event[0], event[1], data)

    # Beginning.

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
        self.state = result.state
        self.data = result.data
        self.first_actions = [*listed(result.actions), Postpone(on=False)]
        self.envelope = None
        return PARKED

    def _begin_machine(self) -> None:
        # The starter is told before: callback_mode, the first enter call and init's actions can fail afterwards only.
        actions, self.first_actions = self.first_actions, None
        event = (INTERNAL, "init_state")
        self.envelope = (INFO, event)
        self.transition = Transition(self, event, self.state, self.data)
        try:
            self.use_modules(self.modules, self.state)
            self.trace("enter", self.modules[-1], self.state)
            self.transition.enters = True
            self.transition.act(actions)
        except Ending as ending:
            self._settle(self._end(self.transition, ending.reason))
            return
        self._settle(self._after_callback(self.transition))

    def use_modules(self, modules: list[Any], state: object) -> None:
        """Let the last of `modules` be the callback module; the transition traces the change.

        Raises:
            Ending: its callback_mode is none.
        """
        machine = modules[-1]
        mode = machine.callback_mode()
        words = set(listed(mode)) if isinstance(mode, str | list | tuple) else set()
        modes = words & CALLBACK_MODES
        if len(modes) != 1 or not words <= {STATE_ENTER, STATE_FUNCTIONS, HANDLE_EVENT_FUNCTION}:
            raise Ending(("bad_return_from_callback_mode", mode))
        machine.pid = self
        if modules is not self.modules:
            self.trace("module", machine, state)
        self.modules = modules
        self.server = machine
        self.state_functions = STATE_FUNCTIONS in modes
        self.state_enter = STATE_ENTER in words

    # After a callback.

    def _next(self, envelope: Envelope, result: Any) -> Any:
        if envelope[0] == INIT:
            return self._after_init(result)
        transition = self.transition
        assert transition is not None
        try:
            transition.take(result)
        except Ending as ending:
            return self._end(transition, ending.reason)
        return self._after_callback(transition)

    def _after_callback(self, transition: Transition) -> Any:
        if transition.enters and self.state_enter:
            transition.entering = True
            enter = (ENTER, self.state)
            self.envelope = (INFO, enter)
            return self._call(enter, transition.state, transition.data)
        self._finish_transition(transition)
        return PARKED

    def _finish_transition(self, transition: Transition) -> None:
        changed = transition.state != self.state
        if transition.postpone:
            self.postponed.append(transition.event)
        what = "postpone" if transition.postpone else "consume"
        self.trace(what, transition.event, self.state, transition.state)
        if changed:
            self.events.extendleft(reversed(self.postponed))
            self.postponed.clear()
            self.timeouts.cancel(STATE_TIMEOUT)
        self.timeouts.cancel(TIMEOUT)
        self.state = transition.state
        self.data = transition.data
        if transition.timeouts:
            self.timeouts.set(transition.timeouts, self._note_timer)
        self.events.extendleft(reversed(transition.inserted))
        self.hibernate = transition.hibernate
        self.envelope = None
        self.transition = None

    def _end(self, transition: Transition, reason: object) -> Any:
        self.state = transition.state
        self.data = transition.data
        self.hibernate = transition.hibernate
        return self._terminate(reason, self.state)

    # What a transition asks for.

    def answer(self, from_: From, value: object) -> None:
        """Send a reply."""
        from_.reply(value)
        self.trace("out", value, from_)

    def trace(self, *event: object) -> None:
        """Hand an event to sys, if it wants any."""
        if self._rare is not None and self._rare.system is not None:
            self._rare.system.debug.handle(event, self.name or self)

    def _note_timer(self, action: TimeoutAction) -> None:
        self.trace("start_timer", action, self.state)

    # Ending.

    def _terminate(
        self, reason: object, state: Any, from_: From | None = None, value: object = None
    ) -> Any:
        self.timeouts.clear()
        last = self.envelope
        if last is not None and last[0] == SYSTEM:
            last = None
        self.envelope = (TERMINATE, reason, None, None, last)
        return self.modules[-1].terminate(reason, self.state, self.data)

    def _ended(self, reason: object, envelope: Envelope) -> None:
        self.trace("terminate", reason, self.state)
        super()._ended(reason, envelope)

    def _end_init(self, reason: object) -> None:
        # Unlike a gen_server's, its starter gets the error without the stack.
        if isinstance(reason, Raised) and self.rare.start_error is None:
            self.rare.start_error = StartError(Raised(reason.error, ()))
            self.report_crash(self.initial_call, reason)
        super()._end_init(reason)

    # What sys asks for.

    def system_get_state(self) -> object:
        """Give state and data."""
        return (self.state, self.data)

    def system_replace_state(self, change: Callable[[Any], Any]) -> object:
        """Replace state and data by those in `change((state, data))`."""
        state, data = change((self.state, self.data))
        self.state, self.data = state, data
        return (state, data)

    def system_status(self, debug: Debug | None) -> tuple[str, str, object, dict[str, object]]:
        """Show state, data, postponed events, time-outs and the log."""
        shown = sys_process.formatted(self.server, self._shown(debug), "data")
        state = (shown.pop("state"), shown.pop("data"))
        return "gen_statem", self.initial_call, state, shown

    def _shown(self, debug: Debug | None) -> dict[str, object]:
        return {
            "state": self.state,
            "data": self.data,
            "postponed": tuple(self.postponed),
            "timeouts": tuple(self.timeouts),
            "log": debug.events() if debug else (),
        }

    def _report(self, reason: object, envelope: Any) -> None:
        system = self.rare.system
        failed_at = () if self.transition is None else (self.transition.event,)
        queue = (*failed_at, *self.events)
        status = {
            **self._shown(None if system is None else system.debug),
            "queue": queue,
            "reason": reason,
        }
        shown = sys_process.formatted(self.server, status, "data")
        self.runtime.reports.send(
            StatemReport(
                process=repr(self),
                behaviour=self.initial_call,
                last_message=bounded_text(queue[0]) if queue else "",
                state=bounded_text((shown["state"], shown["data"])),
                reason=shown["reason"],
                reason_text=bounded_text(shown["reason"]),
                log=sys_process.texts(shown["log"]),
                label=self.rare.label,
                queue=sys_process.texts(shown["queue"]),
                postponed=sys_process.texts(shown["postponed"]),
                timeouts=sys_process.texts(shown["timeouts"]),
            )
        )
        self.report_crash(self.initial_call, reason)
