"""The engine of a gen_statem: its event queue, and the order in which things happen around a callback.

What comes next is: inserted events, then after a change of state the postponed ones in their old order, then what was
left of the queue, then zero time-outs, then the mailbox, which is not the engine's. Whoever drives it calls `start`
with an event (or `begin` once) and hands what comes back, awaited if need be, to `take` until that is `DONE`.

Source: gen_statem(3) of OTP 25 to 27, checked against a running OTP 25.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Protocol

from otp.errors import UndefinedCallbackError
from otp.gen_statem_results import (
    CALLBACK_MODES,
    ENTER,
    HANDLE_EVENT_FUNCTION,
    INTERNAL,
    STATE_ENTER,
    STATE_FUNCTIONS,
    STATE_TIMEOUT,
    TIMEOUT,
    Postpone,
)
from otp.gen_statem_timeouts import TimeoutAction, Timeouts
from otp.gen_statem_transition import Ending, Event, Transition, listed
from otp.process import Pid
from otp.reports import StatemReport, bounded_text
from otp.sys_debug import Debug
from otp.sys_process import formatted, texts
from otp.waiting import From

__all__ = ["DONE", "Engine", "Machine"]

DONE: Final[Any] = object()  # the event has been dealt with


class Machine(Protocol):
    """A callback module, as the engine sees it; see `otp.gen_statem.GenStatem`."""

    pid: Pid

    def init(self) -> Any: ...
    def callback_mode(self) -> Any: ...
    def handle_event(self, event_type: Any, content: Any, state: Any, data: Any) -> Any: ...
    def terminate(self, reason: Any, state: Any, data: Any) -> Any: ...


class Tracing(Protocol):
    """Who has the debug functions of the process, if there are any."""

    def traced(self) -> Debug | None: ...


class Engine:
    """One machine: its state, data and queue. It is the `Host` of its transitions."""

    __slots__ = (
        "data",
        "events",
        "hibernate",
        "modules",
        "pid",
        "postponed",
        "state",
        "state_enter",
        "state_functions",
        "timeouts",
        "tracing",
        "transition",
    )

    def __init__(self, pid: Pid, machine: Machine, tracing: Tracing) -> None:
        self.pid = pid
        self.tracing = tracing
        self.modules: list[Machine] = [machine]
        self.state: Any = None
        self.data: Any = None
        self.events: deque[Event] = deque()
        self.postponed: list[Event] = []
        self.timeouts = Timeouts(pid)
        self.transition: Transition | None = None  # while an event is dealt with
        self.state_functions = True
        self.state_enter = False
        self.hibernate = False

    @property
    def has_events(self) -> bool:
        """Tell whether there is something to do without a message."""
        return bool(self.events) or self.timeouts.has_zero

    def begin(self, actions: Any) -> Any:
        """Take the first callback mode and init's actions; returns as `take`, and raises as it does."""
        transition = self._transition((INTERNAL, "init_state"))
        try:
            self.use_modules(self.modules, self.state)
            self.trace("enter", self.modules[-1], self.state)
            transition.enters = True
            transition.act([*listed(actions), Postpone(on=False)])
        except Ending:
            self._settle_for_end(transition)
            raise
        return self._after_callback(transition)

    def next_event(self) -> Event | None:
        """Take the next event that does not come from the mailbox."""
        if self.events:
            return self.events.popleft()
        if self.timeouts.has_zero:
            event = self.timeouts.take_zero()
            self.trace("in", event, self.state)
            return event
        return None

    def start(self, event: Event) -> Any:
        """Hand an event to the state callback; returns what that returns, for `take`."""
        self._transition(event)
        return self._call(event, self.state, self.data)

    def receive(self, event: Event) -> Any:
        """Hand an event that came from outside to the state callback."""
        self.trace("in", event, self.state)
        return self.start(event)

    def take(self, result: Any) -> Any:
        """Take what a callback returned.

        Returns:
            What the state enter call returned, if one was due, for the next `take`; or `DONE`.

        Raises:
            Ending: the machine is to end, in the state and with the data that it has now.
        """
        transition = self.transition
        assert transition is not None
        try:
            transition.take(result)
        except Ending:
            self._settle_for_end(transition)
            raise
        return self._after_callback(transition)

    def terminate(self, reason: object) -> Any:
        """Stop the time-outs, which the report may still list, and call terminate; returns what that returns."""
        self.timeouts.stop()
        return self.modules[-1].terminate(reason, self.state, self.data)

    def clear(self) -> None:
        """Drop everything."""
        self.timeouts.clear()
        self.events.clear()
        self.postponed.clear()
        self.transition = self.state = self.data = None

    def _transition(self, event: Event) -> Transition:
        self.transition = Transition(self, event, self.state, self.data)
        return self.transition

    def _call(self, event: Event, state: Any, data: Any) -> Any:
        machine = self.modules[-1]
        if not self.state_functions:
            return machine.handle_event(event[0], event[1], state, data)
        function = getattr(machine, state, None) if isinstance(state, str) else None
        if function is None:
            raise UndefinedCallbackError(
                f"{type(machine).__name__} has no state {bounded_text(state)}"
            )
        return function(event[0], event[1], data)

    def _after_callback(self, transition: Transition) -> Any:
        if transition.enters and self.state_enter:
            transition.entering = True
            return self._call((ENTER, self.state), transition.state, transition.data)
        self._finish(transition)
        return DONE

    def _finish(self, transition: Transition) -> None:
        if transition.postpone:
            self.postponed.append(transition.event)
        if self.tracing.traced() is not None:
            what = "postpone" if transition.postpone else "consume"
            self.trace(what, transition.event, self.state, transition.state)
        if transition.state != self.state:
            self.events.extendleft(reversed(self.postponed))
            self.postponed.clear()
            self.timeouts.cancel(STATE_TIMEOUT)
        self.timeouts.cancel(TIMEOUT)
        self.state = transition.state
        self.data = transition.data
        self.hibernate = transition.hibernate
        if transition.timeouts:
            self.timeouts.set(transition.timeouts, self._note_timer)
        if transition.inserted:
            self.events.extendleft(reversed(transition.inserted))
        self.transition = None

    def _settle_for_end(self, transition: Transition) -> None:
        self.state = transition.state
        self.data = transition.data
        self.hibernate = transition.hibernate

    # What a transition asks for.

    def answer(self, from_: From, value: object) -> None:
        """Send a reply."""
        from_.reply(value)
        self.trace("out", value, from_)

    def use_modules(self, modules: list[Any], state: object) -> None:
        """Let the last of `modules` be the callback module.

        Raises:
            Ending: its callback_mode is none.
        """
        machine = modules[-1]
        mode = machine.callback_mode()
        words = set(listed(mode)) if isinstance(mode, str | list | tuple) else set()
        modes = words & CALLBACK_MODES
        if len(modes) != 1 or not words <= {STATE_ENTER, STATE_FUNCTIONS, HANDLE_EVENT_FUNCTION}:
            raise Ending(("bad_return_from_callback_mode", mode))
        machine.pid = self.pid
        if modules is not self.modules:
            self.trace("module", machine, state)
        self.modules = modules
        self.state_functions = STATE_FUNCTIONS in modes
        self.state_enter = STATE_ENTER in words

    def trace(self, *event: object) -> None:
        """Hand an event to sys, if it wants any."""
        debug = self.tracing.traced()
        if debug is not None:
            debug.handle(event, self.pid.name or self.pid)

    def _note_timer(self, action: TimeoutAction) -> None:
        self.trace("start_timer", action, self.state)

    # What sys and reports show.

    def status(self) -> tuple[str, str, object, dict[str, object]]:
        """Show state, data, postponed events, time-outs and the log, through `format_status`."""
        shown = formatted(self.modules[-1], self._shown(), "data")
        state = (shown.pop("state"), shown.pop("data"))
        return "gen_statem", type(self.modules[-1]).__qualname__, state, shown

    def report(self, reason: object) -> StatemReport:
        """Describe the bad end, through `format_status`."""
        failed_at = () if self.transition is None else (self.transition.event,)
        queue = (*failed_at, *self.events)
        machine = self.modules[-1]
        shown = formatted(machine, {**self._shown(), "queue": queue, "reason": reason}, "data")
        return StatemReport(
            process=repr(self.pid),
            behaviour=type(machine).__qualname__,
            last_message=bounded_text(queue[0]) if queue else "",
            state=bounded_text((shown["state"], shown["data"])),
            reason=shown["reason"],
            reason_text=bounded_text(shown["reason"]),
            log=texts(shown["log"]),
            label=self.pid.rare.label,
            queue=texts(shown["queue"]),
            postponed=texts(shown["postponed"]),
            timeouts=texts(shown["timeouts"]),
        )

    def _shown(self) -> dict[str, object]:
        debug = self.tracing.traced()
        return {
            "state": self.state,
            "data": self.data,
            "postponed": tuple(self.postponed),
            "timeouts": tuple(self.timeouts),
            "log": debug.events() if debug else (),
        }
