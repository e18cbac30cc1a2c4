"""An event handler: what users subclass, and how a handler is named.

A handler lives in its manager's process, with all other handlers of that manager. One instance is installed at most
once; a class can be installed several times under different ids.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Any, Generic, NoReturn, TypeVar

from otp.errors import UndefinedCallbackError
from otp.gen_event_results import CallResult, EventResult, InitSpecial, Ok
from otp.process import Pid
from otp.reports import bounded_text
from otp.runtime import Runtime

__all__ = ["EventHandler", "HandlerName", "NewHandler", "is_handler", "named", "split_name"]

_log = logging.getLogger("otp")
StateT = TypeVar("StateT")


class EventHandler(Generic[StateT]):
    """Subclass it, give it `init` and the callbacks it needs; each may be `async def`.

    While one waits, the manager and its other handlers wait as well. A callback that raises, or returns anything else
    than it may, removes this handler; nobody else is harmed.
    """

    pid: Pid  # of the manager; set before init runs

    @property
    def runtime(self) -> Runtime:
        """The runtime the manager lives in."""
        return self.pid.runtime

    def init(self) -> StateT | InitSpecial[StateT] | Awaitable[StateT | InitSpecial[StateT]]:
        """Return the first state, or `Stop(reason)` to refuse."""
        self._undefined("init", None)

    def init_swapped(
        self, handed: Any
    ) -> StateT | InitSpecial[StateT] | Awaitable[StateT | InitSpecial[StateT]]:
        """Return the first state when this handler replaces another.

        Args:
            handed: what the other's `terminate` returned, `("EXIT", reason)` if that raised, and "error" if there
                was no such handler. The default starts afresh with `init`.
        """
        return self.init()

    def handle_event(
        self, event: Any, state: StateT
    ) -> EventResult[StateT] | Awaitable[EventResult[StateT]]:
        """Take an event."""
        self._undefined("handle_event", event)

    def handle_call(
        self, request: Any, state: StateT
    ) -> CallResult[StateT] | Awaitable[CallResult[StateT]]:
        """Answer a call to this handler."""
        self._undefined("handle_call", request)

    def handle_info(
        self, message: Any, state: StateT
    ) -> EventResult[StateT] | Awaitable[EventResult[StateT]]:
        """Take any other message the manager got: raw sends, `Exit` of a linked process, `Down`."""
        _log.warning("%s has no handle_info for %s", type(self).__name__, bounded_text(message))
        return Ok(state)

    def terminate(self, args: Any, state: StateT) -> object:
        """Clean up; what it returns (or an awaitable of it) goes to whoever deletes or replaces this handler.

        Args:
            args: those of the delete or swap, "remove_handler", "stop" (the manager stops), `("stop", reason)` (the
                supervising process ended) or `("error", value)` after a failure.
            state: the last one.
        """
        return None

    def format_status(self, status: dict[str, object]) -> dict[str, object]:
        """Say what `sys.get_status` and the report of a failure may show.

        Args:
            status: "state" and "log"; in a report "state", "message" and "reason". Rewrite what should not be seen.
        """
        return status

    def _undefined(self, callback: str, term: object) -> NoReturn:
        what = "" if term is None else f" for {bounded_text(term)}"
        raise UndefinedCallbackError(f"{type(self).__name__} has no {callback}{what}")


HandlerName = (
    type[EventHandler[Any]] | tuple[type[EventHandler[Any]], object]
)  # OTP's Mod or {Mod, Id}
NewHandler = (
    EventHandler[Any] | tuple[EventHandler[Any], object]
)  # the same, for one that is to be added


def named(module: type[EventHandler[Any]], handler_id: object) -> HandlerName:
    """Give the name of the handler of that class and id; an id of None is none."""
    return module if handler_id is None else (module, handler_id)


def split_name(handler: Any) -> tuple[Any, object]:
    """Take a name, or a handler to be added, apart into itself and its id."""
    match handler:
        case (module, handler_id):
            return module, handler_id
        case _:
            return handler, None


def is_handler(new: object) -> bool:
    """Tell whether `new` can be added."""
    return isinstance(split_name(new)[0], EventHandler)
