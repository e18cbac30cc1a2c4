"""What the callbacks of an event handler return, and what its supervising process is sent.

Source: gen_event(3) of OTP 25 to 27.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from otp.callback_results import Stop

# A handler swaps itself for another handler, and handlers return these: a cycle of types only.
if TYPE_CHECKING:
    from otp.gen_event_handler import HandlerName, NewHandler

__all__ = [
    "CallResult",
    "EventResult",
    "GenEventExit",
    "InitSpecial",
    "Ok",
    "RemoveHandler",
    "Reply",
    "SwapHandler",
]

StateT = TypeVar("StateT")


class Ok(Generic[StateT]):
    """Go on with `state`; `hibernate` lets the whole manager hibernate until its next message."""

    __slots__ = ("hibernate", "state")

    def __init__(self, state: StateT, *, hibernate: bool = False) -> None:
        self.state = state
        self.hibernate = hibernate


class Reply(Generic[StateT]):
    """From `handle_call`: answer with `value` and go on with `state`."""

    __slots__ = ("hibernate", "state", "value")

    def __init__(self, value: object, state: StateT, *, hibernate: bool = False) -> None:
        self.value = value
        self.state = state
        self.hibernate = hibernate


class RemoveHandler:
    """Remove this handler, through `terminate("remove_handler", state)`; a call is answered with `value`."""

    __slots__ = ("value",)

    def __init__(self, value: object = None) -> None:
        self.value = value


class SwapHandler:
    """Let `new` take this handler's place and supervision; a call is answered with `value`.

    First `terminate(args, state)` of this handler runs; `new.init_swapped` gets what that returns.
    """

    __slots__ = ("args", "new", "state", "value")

    def __init__(self, args: object, state: object, new: NewHandler, value: object = None) -> None:
        self.args = args
        self.state = state
        self.new = new
        self.value = value


@dataclass(frozen=True, slots=True)
class GenEventExit:
    """To the process that supervises a handler: the handler is gone (OTP's gen_event_EXIT).

    `reason` is "normal" (deleted, or it removed itself), "shutdown" (the manager stops, or took an exit signal in this
    process's name), `("swapped", new name, its supervising process)`, or what it failed with: the wrong value it
    returned, or `("EXIT", reason)`.
    """

    handler: HandlerName
    reason: object


InitSpecial = Ok[StateT] | Stop[Any]
EventResult = Ok[StateT] | RemoveHandler | SwapHandler
CallResult = Reply[StateT] | RemoveHandler | SwapHandler
