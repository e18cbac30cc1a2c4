"""One transition of a gen_statem: from an event to the state, data, events and time-outs after it.

A `Transition` collects what the state callback, and then the state enter calls, return. What acts on the world at once
(replies, callback modules) goes to its `Host`, the process. Nothing here knows about mailboxes or time.

Source: gen_statem(3) of OTP 25 to 27, checked against a running OTP 25.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from otp.callback_results import KEPT, Stop
from otp.gen_statem_results import (
    CAST,
    INFO,
    INTERNAL,
    KEEP,
    STATE_TIMEOUT,
    TIMEOUT,
    ChangeCallbackModule,
    EventTimeout,
    Hibernate,
    KeepState,
    KeepStateAndData,
    NamedTimeout,
    NextEvent,
    NextState,
    PopCallbackModule,
    Postpone,
    PushCallbackModule,
    RepeatState,
    RepeatStateAndData,
    Reply,
    StateTimeout,
    StopAndReply,
)
from otp.gen_statem_timeouts import TimeoutAction, is_valid
from otp.waiting import From

__all__ = ["Ending", "Event", "Host", "Transition", "listed"]

Event = tuple[Any, Any]  # type, content


class Host(Protocol):
    """The process, as a transition sees it."""

    modules: list[Any]  # the present callback module last

    def answer(self, from_: From, value: object) -> None: ...
    def use_modules(self, modules: list[Any], state: object) -> None: ...
    def trace(self, *event: object) -> None: ...


class Ending(Exception):  # noqa: N818 - not an error: how a transition says that the machine ends
    """The machine ends with `reason`."""

    def __init__(self, reason: object) -> None:
        self.reason = reason


class Transition:
    """What has been decided so far about one event."""

    __slots__ = (
        "data",
        "entering",
        "enters",
        "event",
        "hibernate",
        "host",
        "inserted",
        "postpone",
        "state",
        "timeouts",
    )

    def __init__(self, host: Host, event: Event, state: Any, data: Any) -> None:
        self.host = host
        self.event = event
        self.state = state
        self.data = data
        self.enters = False  # the state changed or is repeated: a state enter call is due
        self.entering = False  # what comes now is the result of a state enter call
        self.postpone = False
        self.hibernate = False
        self.inserted: list[Event] = []
        self.timeouts: list[TimeoutAction] = []

    def take(self, result: Any) -> None:
        """Take what a callback returned.

        Raises:
            Ending: the machine ends; `state` and `data` are those it ends with.
        """
        self.enters = False
        match result:
            case NextState(state=state, data=data):
                self._go_to(state, data, result)
            case KeepState(data=data) | RepeatState(data=data):
                self.data = data
                self.enters = isinstance(result, RepeatState)
            case KeepStateAndData() | RepeatStateAndData():
                self.enters = isinstance(result, RepeatStateAndData)
            case Stop():
                self.data = self.data if result.state is KEPT else result.state
                raise Ending(result.reason)
            case StopAndReply():
                self._stop_and_reply(result)
            case _:
                raise Ending(("bad_return_from_state_function", result))
        if result.actions != ():
            self.act(listed(result.actions))

    def act(self, actions: Iterable[Any]) -> None:
        """Take actions in order; raises as `take`."""
        for action in actions:
            match action:
                case Reply(from_=from_, value=value):
                    if not isinstance(from_, From):
                        raise Ending(("bad_action_from_state_function", action))
                    self.host.answer(from_, value)
                case EventTimeout() | StateTimeout() | NamedTimeout():
                    if not is_valid(action):
                        raise Ending(("bad_action_from_state_function", action))
                    self.timeouts.append(action)
                case Hibernate(on=bool(on)):
                    self.hibernate = on
                case _:
                    self._act_on_event(action)

    def _act_on_event(self, action: Any) -> None:
        """Take an action that a state enter call may not ask for."""
        match action:
            case Postpone(on=False):
                self.postpone = False
            case Postpone(on=True):
                self._refuse_in_enter_call(action)
                self.postpone = True
            case NextEvent(type=kind, content=content):
                self._refuse_in_enter_call(action)
                if not _is_event_type(kind):
                    raise Ending(("bad_action_from_state_function", action))
                self.host.trace("in", (kind, content), self.state)
                self.inserted.append((kind, content))
            case ChangeCallbackModule() | PushCallbackModule() | PopCallbackModule():
                self._change_module(action)
            case _:
                raise Ending(("bad_action_from_state_function", action))

    def _change_module(self, action: Any) -> None:
        modules = self.host.modules
        if isinstance(action, PopCallbackModule) and len(modules) == 1:
            raise Ending(("bad_action_from_state_function", action))
        self._refuse_in_enter_call(action)
        match action:
            case ChangeCallbackModule(module=module) | PushCallbackModule(module=module) if (
                not callable(getattr(module, "callback_mode", None))
            ):
                raise Ending(("bad_action_from_state_function", action))
            case ChangeCallbackModule(module=module):
                modules = [*modules[:-1], module]
            case PushCallbackModule(module=module):
                modules = [*modules, module]
            case _:
                modules = modules[:-1]
        self.host.use_modules(modules, self.state)

    def _refuse_in_enter_call(self, action: Any) -> None:
        if self.entering:
            raise Ending(("bad_state_enter_action_from_state_function", action))

    def _go_to(self, state: Any, data: Any, result: Any) -> None:
        if state != self.state:
            if self.entering:
                raise Ending(("bad_state_enter_return_from_state_function", result))
            self.enters = True
        self.state = state
        self.data = data

    def _stop_and_reply(self, result: StopAndReply[Any]) -> None:
        if result.data is not KEEP:
            self.data = result.data
        for action in listed(result.replies):
            if not isinstance(action, Reply) or not isinstance(action.from_, From):
                raise Ending(("bad_reply_action_from_state_function", action))
            self.host.answer(action.from_, action.value)
        raise Ending(result.reason)


def listed(actions: Any) -> Any:
    """Make a list of a single action."""
    return actions if isinstance(actions, list | tuple) else (actions,)


def _is_event_type(kind: Any) -> bool:
    match kind:
        case ("call", from_):
            return isinstance(from_, From)
        case ("timeout", _):
            return True
        case _:
            return isinstance(kind, str) and kind in _PLAIN_TYPES


_PLAIN_TYPES = frozenset({CAST, INFO, INTERNAL, TIMEOUT, STATE_TIMEOUT})
