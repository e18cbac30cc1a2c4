"""How a process takes system messages: suspended and watched processes, and the answers to `otp.sys`.

A process that is neither suspended nor watched runs its own class and pays nothing. When sys switches something on,
the process gets a class made of `Observed` and its own, with the same layout, whose `run` handles one message at a
time; when nothing is left on, it gets its own class back. So debugging needs no test on the hot path.

A behaviour gives `system_get_state`, `system_replace_state` and `system_status`; everything else is here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from otp.envelope import CALL, CAST, EXIT, IDLE, READY, SYSTEM, Envelope
from otp.exit_reason import reason_of
from otp.reports import bounded_text
from otp.sys_debug import Debug, Event

__all__ = [
    "FailedCallback",
    "Status",
    "System",
    "Target",
    "answer",
    "formatted",
    "reply_to",
    "texts",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What get_status shows of a process. `state` went through the callback `format_status`."""

    pid: object
    behaviour: str  # gen_server, gen_statem, ...
    module: str  # the callback class
    name: str | None
    parent: object
    suspended: bool
    debug: tuple[object, ...]
    state: object
    details: dict[str, object]  # what else the behaviour shows, also through format_status


@dataclass(frozen=True, slots=True)
class FailedCallback:
    """The answer when a callback raised while it handled a system message."""

    callback: str
    reason: object


class System:
    """What sys has switched on in one process."""

    __slots__ = ("debug", "handling", "original", "suspended")

    def __init__(self, original: type) -> None:
        self.original = original
        self.suspended = False
        self.debug = Debug()
        self.handling: Envelope | None = None  # watched: the message whose end is still to come


class Target(Protocol):
    """A process, as this module sees it."""

    parent: Any
    reductions: int
    traces_itself: bool  # reports its events to `Debug` by itself

    @property
    def name(self) -> str | None: ...
    def system_get_state(self) -> object: ...
    def system_replace_state(self, change: Callable[[Any], Any]) -> object: ...
    def system_status(self, debug: Debug | None) -> tuple[str, str, object, dict[str, object]]: ...


def formatted(
    server: object, status: dict[str, object], failed_key: str = "state"
) -> dict[str, object]:
    """Pass `status` through the callback `format_status`, which may rewrite the values; never raises."""
    function = getattr(server, "format_status", None)
    if function is None:
        return status
    where = f"{type(server).__qualname__}.format_status"
    try:
        shown = function(dict(status))
    except Exception:  # noqa: BLE001 - looking at a process must not harm it
        return {**status, failed_key: f"{where} crashed"}
    if not isinstance(shown, dict):
        return {**status, failed_key: f"{where} did not return a dict"}
    if not shown.keys() <= status.keys():
        return {**status, failed_key: f"{where} returned unknown keys"}
    return {**status, **shown}


def texts(terms: object) -> tuple[str, ...]:
    """Render what a report lists; `format_status` may have made anything of it."""
    each = terms if isinstance(terms, list | tuple) else (terms,)
    return tuple(bounded_text(term) for term in each)


def answer(process: Any, request: Any, from_: Any) -> None:
    """Handle any system message but ("terminate", reason) in `process`, which is between two messages."""
    system = process.rare.system
    if system is None:
        system = System(type(process))
    reply_to(process, system, request, from_)
    _dress(process, system)


def reply_to(process: Target, system: System, request: Any, from_: Any) -> None:
    """Carry out one request and answer it; `system` is changed accordingly."""
    value = _take_request(process, system, request)
    if value is _UNKNOWN:
        from_.fail(("unknown_system_msg", request))
    else:
        from_.reply(value)


def _take_request(process: Target, system: System, request: Any) -> object:
    debug = system.debug
    match request:
        case ("get_state", _):
            return _guarded("system_get_state", process.system_get_state)
        case ("replace_state", change):
            return _guarded("system_replace_state", process.system_replace_state, change)
        case ("get_status", _):
            return _guarded("format_status", _status, process, system)
        case ("suspend" | "resume" as order, _):
            system.suspended = order == "suspend"
            return None
        case ("debug", order, *arguments):
            return _guarded(order, _debug, process, debug, order, arguments)
        case _:
            return _UNKNOWN


def _debug(process: Target, debug: Debug, order: str, arguments: list[Any]) -> object:
    match order, arguments:
        case "statistics", [flag]:
            arguments = [flag, process.reductions]
        case "log", [flag]:
            arguments = [flag, process.name or process]
        case "log_to_file" | "trace" | "install" | "remove" | "no_debug", _:
            pass
        case _:
            raise ValueError(f"there is no debug order {order!r}")
    answer: object = getattr(debug, order)(*arguments)
    return answer


def _guarded(callback: str, function: Callable[..., object], *arguments: Any) -> object:
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001 - told to whoever asked; the process is unharmed
        return FailedCallback(callback, reason_of(error))


def _status(process: Target, system: System) -> Status:
    debug = None if system.debug.idle else system.debug
    behaviour, module, state, details = process.system_status(debug)
    return Status(
        pid=process,
        behaviour=behaviour,
        module=module,
        name=process.name,
        parent=process.parent,
        suspended=system.suspended,
        debug=system.debug.shown(),
        state=state,
        details=details,
    )


class Observed:
    """In front of a process class: what changes while the process is suspended or watched."""

    __slots__ = ()

    def post(self: Any, item: object) -> None:
        """Put `item` into the mailbox; a suspended process sleeps on unless it concerns sys."""
        self.rare.system.original.post(self, item)
        if self.status == IDLE and type(item) is Envelope and _urgent(self, item):
            self.status = READY
            self.runtime.enqueue(self)

    def run(self: Any, limit: int) -> int:
        """Handle one message; more would go on in the class the process may just have lost."""
        system = self.rare.system
        if self.status != READY:
            return 1
        if self.coro is None and system.suspended and _take_urgent(self) is None:
            self.status = IDLE
            return 1
        if self.coro is None and not self.traces_itself:
            system.handling = next(self.queued(), None)
            if system.handling is not None:
                _note_begin(self, system.debug, system.handling)
        handled: int = system.original.run(self, 1)
        if self.coro is None and system.handling is not None:
            envelope, system.handling = system.handling, None
            _note_end(self, system.debug, envelope)
        return handled


@cache
def _observed_class(original: type) -> type:
    return type(f"Observed{original.__name__}", (Observed, original), {"__slots__": ()})


def _dress(process: Any, system: System) -> None:
    """Give `process` the class it needs now, and leave the loop of the class it had."""
    needed = system.suspended or not system.debug.idle
    wanted = _observed_class(system.original) if needed else system.original
    process.rare.system = system if needed else None
    if process.__class__ is not wanted:
        process.__class__ = wanted
        if process.is_alive():
            process.status = READY
            process.runtime.enqueue(process)


def _urgent(process: Any, envelope: Envelope) -> bool:
    if envelope[0] == EXIT and envelope[1].pid is process.parent:
        return True
    return bool(envelope[0] == SYSTEM)


def _take_urgent(process: Any) -> Envelope | None:
    """Bring the oldest message that a suspended process handles to the front of its mailbox."""
    found = next((each for each in process.queued() if _urgent(process, each)), None)
    if found is not None and isinstance(process.mailbox, deque):
        process.mailbox = deque(each for each in process.mailbox if each is not found)
        process.mailbox.appendleft(found)
    return found


def _note_begin(process: Any, debug: Debug, envelope: Envelope) -> None:
    if envelope[0] == SYSTEM:
        return
    message = envelope[1]
    if envelope[0] == CALL:
        message = ("$gen_call", envelope[2], message)
    elif envelope[0] == CAST:
        message = ("$gen_cast", message)
    debug.handle(("in", message), process.name or process)


def _note_end(process: Any, debug: Debug, envelope: Envelope) -> None:
    if envelope[0] == SYSTEM:
        return
    event: Event | None = ("noreply", process.state) if process.is_alive() else None
    if envelope[0] == CALL and envelope[2].done and envelope[2].failure is None:
        event = ("out", envelope[2].value, envelope[2], process.state)
    if event is not None:
        debug.handle(event, process.name or process)


_UNKNOWN = object()
