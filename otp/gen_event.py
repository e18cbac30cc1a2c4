"""gen_event: a manager process that hands each event to all its handlers, which come and go while it runs.

A manager is started like a server and has no code of its own. Handlers are `EventHandler` objects, added and removed
at any time; one that fails is removed and reported, and the manager and the others go on. A handler is named by its
class, or by (class, id): `add_handler(manager, (Logger(), "errors"))` and then `call(manager, (Logger, "errors"), ...)`.
The newest handler is first, in `which_handlers` and when events are delivered.

`manager` is a pid, or a name when a process calls. After a restart of the manager its handlers are gone: a process
that adds its handler with `add_sup_handler` is told, and can add it again.

Of OTP not here: code change.

Source: gen_event(3) of OTP 25 to 27, checked against a running OTP 25.
"""

from __future__ import annotations

from typing import Any, cast

from otp import gen_server
from otp.address import Name
from otp.callback_results import Stop
from otp.erlang import monitor
from otp.gen_event_handler import EventHandler, HandlerName, NewHandler, is_handler
from otp.gen_event_manager import Ask, EventManager
from otp.gen_event_results import (
    CallResult,
    EventResult,
    GenEventExit,
    InitSpecial,
    Ok,
    RemoveHandler,
    Reply,
    SwapHandler,
)
from otp.process import Pid, Ref
from otp.supervision_answers import Refused
from otp.waiting import self_process

__all__ = [
    "CallResult",
    "EventHandler",
    "EventManager",
    "EventResult",
    "GenEventExit",
    "HandlerName",
    "InitSpecial",
    "NewHandler",
    "Ok",
    "RemoveHandler",
    "Reply",
    "Stop",
    "SwapHandler",
    "add_handler",
    "add_sup_handler",
    "call",
    "delete_handler",
    "notify",
    "start",
    "start_link",
    "start_monitor",
    "stop",
    "swap_handler",
    "swap_sup_handler",
    "sync_notify",
    "which_handlers",
]

stop = gen_server.stop


def start_link(*, name: Name | None = None, hibernate_after_s: float | None = None) -> Pid:
    """Start an event manager linked to the calling process, its parent.

    From plain asyncio code: `runtime.start(EventManager(), name)`.

    Args:
        name: to register it under.
        hibernate_after_s: idle so long, it hibernates.

    Raises:
        AlreadyStartedError: somebody has the name.
        OtpError: no process calls.
    """
    parent = self_process()
    manager = EventManager(hibernate_after_s=hibernate_after_s)
    return manager.start_in(parent.runtime, parent=parent, name=name)


def start(*, name: Name | None = None, hibernate_after_s: float | None = None) -> Pid:
    """Start an event manager without a link; otherwise as `start_link`."""
    manager = EventManager(hibernate_after_s=hibernate_after_s)
    return manager.start_in(self_process().runtime, parent=None, name=name)


def start_monitor(
    *, name: Name | None = None, hibernate_after_s: float | None = None
) -> tuple[Pid, Ref]:
    """Start an event manager without a link and monitor it; otherwise as `start_link`."""
    pid = start(name=name, hibernate_after_s=hibernate_after_s)
    return pid, monitor(pid)


def notify(manager: Pid | Name, event: object) -> None:
    """Send `event` to the handlers and go on; nobody there: it vanishes."""
    gen_server.cast(manager, event)


async def sync_notify(manager: Pid | Name, event: object) -> None:
    """Send `event` to the handlers and wait until all have handled it; raises CallError when the manager is gone."""
    await _ask(manager, Ask("sync_notify", event))


async def add_handler(manager: Pid | Name, handler: NewHandler) -> None:
    """Add a handler, before all others, and wait for its `init`.

    Args:
        manager: to whom.
        handler: an `EventHandler`, or one with an id: `(handler, id)`. A second one of the same name is accepted;
            calls and deletes reach the newest.

    Raises:
        HandlerError: `init` refused or raised; `reason` says why.
        TypeError: it is no EventHandler.
        CallError: the manager is gone.
    """
    await _ask(manager, Ask("add_handler", _checked(handler), None))


async def add_sup_handler(manager: Pid | Name, handler: NewHandler) -> None:
    """Add a handler that is supervised by the calling process; otherwise as `add_handler`.

    Caller and manager are linked. When the caller ends, the handler is removed; when the handler goes first, for
    whatever reason, the caller is sent a `GenEventExit`.
    """
    await _ask(manager, Ask("add_handler", _checked(handler), self_process()))


async def call(
    manager: Pid | Name, handler: HandlerName, request: object, timeout_s: float | None = 5.0
) -> Any:
    """Ask one handler.

    Raises:
        HandlerNotFoundError: there is none of that name (OTP's bad_module).
        HandlerError: it failed, and has been removed.
        CallError: the manager is gone, or too late.
    """
    return await _ask(manager, Ask("call", handler, request), timeout_s)


async def delete_handler(manager: Pid | Name, handler: HandlerName, args: object = None) -> Any:
    """Remove a handler, and give what its `terminate(args, state)` returned.

    Raises:
        HandlerNotFoundError: there is none of that name (OTP's module_not_found).
        HandlerError: `terminate` raised; the handler is gone all the same.
        CallError: the manager is gone.
    """
    return await _ask(manager, Ask("delete_handler", handler, args))


async def swap_handler(
    manager: Pid | Name, old: HandlerName, new: NewHandler, args: object = "swap"
) -> None:
    """Replace a handler; the new one takes over its supervising process, and stands before all others.

    The old one's `terminate(args, state)` runs first and what it returns goes to `new.init_swapped`; without an old
    one that gets "error".

    Raises:
        HandlerError: the new one refused or raised; the old one is gone all the same.
        TypeError: it is no EventHandler.
        CallError: the manager is gone.
    """
    await _ask(manager, Ask("swap_handler", old, args, _checked(new), None))


async def swap_sup_handler(
    manager: Pid | Name, old: HandlerName, new: NewHandler, args: object = "swap"
) -> None:
    """Replace a handler by one that is supervised by the calling process; otherwise as `swap_handler`."""
    await _ask(manager, Ask("swap_handler", old, args, _checked(new), self_process()))


async def which_handlers(manager: Pid | Name) -> list[HandlerName]:
    """List the handlers' names, newest first."""
    return cast("list[HandlerName]", await _ask(manager, Ask("which_handlers")))


def _checked(handler: NewHandler) -> NewHandler:
    if not is_handler(handler):
        raise TypeError(
            f"an event handler is an EventHandler or (handler, id), not {handler!r:.200}"
        )
    return handler


async def _ask(manager: Pid | Name, ask: Ask, timeout_s: float | None = None) -> Any:
    answer = await gen_server.call(manager, ask, timeout_s)
    if isinstance(answer, Refused):
        raise answer.error
    return answer
