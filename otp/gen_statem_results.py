"""What the callbacks of a gen_statem return, and the actions they may ask for.

Wherever a list of actions is taken, a single action will do. Values are checked when the machine takes them, so that
a bad one ends the machine with OTP's reason and names the action.

Results are not frozen: making a frozen one takes three times as long, and one is made per event.

Source: gen_statem(3) of OTP 25 to 27.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

from otp.callback_results import Ignore, Stop
from otp.waiting import From

__all__ = [
    "CALLBACK_MODES",
    "CANCEL",
    "CAST",
    "ENTER",
    "HANDLE_EVENT_FUNCTION",
    "INFO",
    "INTERNAL",
    "KEEP",
    "STATE_ENTER",
    "STATE_FUNCTIONS",
    "STATE_TIMEOUT",
    "TIMEOUT",
    "UPDATE",
    "Action",
    "Actions",
    "CallbackMode",
    "ChangeCallbackModule",
    "EventTimeout",
    "EventType",
    "Hibernate",
    "InitResult",
    "KeepState",
    "KeepStateAndData",
    "NamedTimeout",
    "NextEvent",
    "NextState",
    "Ok",
    "PopCallbackModule",
    "Postpone",
    "PushCallbackModule",
    "RepeatState",
    "RepeatStateAndData",
    "Reply",
    "StateResult",
    "StateTimeout",
    "StopAndReply",
]

StateT = TypeVar("StateT")
DataT = TypeVar("DataT")

# Callback modes.
STATE_FUNCTIONS: Final = "state_functions"
HANDLE_EVENT_FUNCTION: Final = "handle_event_function"
STATE_ENTER: Final = "state_enter"
CALLBACK_MODES: Final = frozenset({STATE_FUNCTIONS, HANDLE_EVENT_FUNCTION})
CallbackMode = str | Sequence[str]

# Event types; the others are ("call", from_) and ("timeout", name).
CAST: Final = "cast"
INFO: Final = "info"
INTERNAL: Final = "internal"
TIMEOUT: Final = "timeout"
STATE_TIMEOUT: Final = "state_timeout"
ENTER: Final = "enter"
EventType = str | tuple[str, Any]

CANCEL: Final = "cancel"  # as the time of a time-out: stop it
UPDATE: Final = "update"  # as the time of a time-out: change what it will bring
KEEP: Final[Any] = object()  # the data stay as they are


@dataclass(frozen=True, slots=True)
class Reply:
    """Action: answer a call; it goes out while the actions are taken."""

    from_: From
    value: object


@dataclass(frozen=True, slots=True)
class Postpone:
    """Action: bring this event again after the next change of state."""

    on: bool = True


@dataclass(frozen=True, slots=True)
class NextEvent:
    """Action: insert an event, to be handled before any that waits; several come in the order listed."""

    type: EventType
    content: object


@dataclass(frozen=True, slots=True)
class Hibernate:
    """Action: sleep deeply until the next message. Here that is a mark and nothing else: see `Pid.hibernated`."""

    on: bool = True


@dataclass(frozen=True, slots=True)
class EventTimeout:
    """Action: an event "timeout" after `time` seconds without any other event.

    `time` of this and the other time-outs: seconds, `INFINITY` or `CANCEL` for none, or `UPDATE` to change the content
    only. With `absolute` it is a time of the runtime's clock. 0 is an event at once, behind all inserted ones.
    """

    time: float | Literal["cancel", "update"]
    content: object = None
    absolute: bool = False


@dataclass(frozen=True, slots=True)
class StateTimeout:
    """Action: an event "state_timeout" after `time` seconds in this state; a change of state cancels it."""

    time: float | Literal["cancel", "update"]
    content: object = None
    absolute: bool = False


@dataclass(frozen=True, slots=True)
class NamedTimeout:
    """Action: an event ("timeout", name) after `time` seconds, whatever happens (OTP's generic time-out)."""

    name: Any
    time: float | Literal["cancel", "update"]
    content: object = None
    absolute: bool = False


@dataclass(frozen=True, slots=True)
class ChangeCallbackModule:
    """Action: from now on `module`, another `GenStatem`, gets the events."""

    module: Any


@dataclass(frozen=True, slots=True)
class PushCallbackModule:
    """Action: as `ChangeCallbackModule`, and remember the present one."""

    module: Any


@dataclass(frozen=True, slots=True)
class PopCallbackModule:
    """Action: go back to the callback module before the last push."""


Action = (
    Reply
    | Postpone
    | NextEvent
    | Hibernate
    | EventTimeout
    | StateTimeout
    | NamedTimeout
    | ChangeCallbackModule
    | PushCallbackModule
    | PopCallbackModule
)
Actions = Action | Sequence[Action]


@dataclass(slots=True)
class Ok(Generic[StateT, DataT]):
    """From `init`: begin in `state` with `data`."""

    state: StateT
    data: DataT
    actions: Actions = ()


@dataclass(slots=True)
class NextState(Generic[StateT, DataT]):
    """Go to `state`, which may be the present one: then it is as `KeepState`."""

    state: StateT
    data: DataT
    actions: Actions = ()


@dataclass(slots=True)
class KeepState(Generic[DataT]):
    """Stay in this state, with new data."""

    data: DataT
    actions: Actions = ()


@dataclass(slots=True)
class KeepStateAndData:
    """Stay as you are."""

    actions: Actions = ()


@dataclass(slots=True)
class RepeatState(Generic[DataT]):
    """As `KeepState`, and with state enter calls on, enter the state again."""

    data: DataT
    actions: Actions = ()


@dataclass(slots=True)
class RepeatStateAndData:
    """As `KeepStateAndData`, and with state enter calls on, enter the state again."""

    actions: Actions = ()


@dataclass(slots=True)
class StopAndReply(Generic[DataT]):
    """Send `replies`, then end with `reason`. To end without replies return `Stop(reason, data)`."""

    reason: object
    replies: Reply | Sequence[Reply]
    data: DataT = KEEP


InitResult = Ok[StateT, DataT] | Ignore | Stop[DataT]
StateResult = (
    NextState[StateT, DataT]
    | KeepState[DataT]
    | KeepStateAndData
    | RepeatState[DataT]
    | RepeatStateAndData
    | Stop[DataT]
    | StopAndReply[DataT]
)
