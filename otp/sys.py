"""sys: look into a running process, change its state, suspend it, watch what it does.

Every behaviour answers: gen_server, gen_statem, supervisors and dynamic supervisors. Requests lie in the mailbox with
all other messages and are handled in their order. They can be made from inside a process and from plain asyncio code
(there with a pid, not a name). A process that is not watched pays nothing for this.

Of OTP not here: code change.

Source: sys(3) of OTP 25.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

from otp.address import Name
from otp.envelope import SYSTEM, Envelope
from otp.errors import CallbackFailedError, CallingSelfError, ExitError, NoProcessError
from otp.plain_process import receive
from otp.process import Exit, Pid
from otp.sys_debug import DONE, NO_STATISTICS, Debug, DebugFunction, Event, Statistics
from otp.sys_process import FailedCallback, Status, System, formatted, reply_to
from otp.waiting import From, here, self_process

__all__ = [
    "DONE",
    "NO_STATISTICS",
    "Debug",
    "DebugFunction",
    "Event",
    "Statistics",
    "Status",
    "get_state",
    "get_status",
    "handle_system_msg",
    "install",
    "log",
    "log_to_file",
    "no_debug",
    "remove",
    "replace_state",
    "resume",
    "statistics",
    "suspend",
    "terminate",
    "trace",
]


async def get_state(dest: Pid | Name, timeout_s: float | None = 5.0) -> Any:
    """Give the state of a process, as it is: change nothing in it.

    Raises:
        CallError: there is no such process, it ends first, or it is too late.
        CallbackFailedError: `system_get_state` of a special process raised.
    """
    return await _ask(dest, ("get_state", None), timeout_s)


async def replace_state(
    dest: Pid | Name, change: Callable[[Any], Any], timeout_s: float | None = 5.0
) -> Any:
    """Replace the state by `change(state)`, in the process, and give the new one.

    Raises:
        CallbackFailedError: `change` raised; the state is the old one.
        CallError: as for `get_state`.
    """
    return await _ask(dest, ("replace_state", change), timeout_s)


async def get_status(dest: Pid | Name, timeout_s: float | None = 5.0) -> Status:
    """Describe a process; its state and log go through the callback `format_status`."""
    return cast("Status", await _ask(dest, ("get_status", None), timeout_s))


async def suspend(dest: Pid | Name, timeout_s: float | None = 5.0) -> None:
    """Let a process handle system messages and its parent's exit only; the rest waits. Twice is as once."""
    await _ask(dest, ("suspend", None), timeout_s)


async def resume(dest: Pid | Name, timeout_s: float | None = 5.0) -> None:
    """End a suspension; without one nothing happens."""
    await _ask(dest, ("resume", None), timeout_s)


async def terminate(dest: Pid | Name, reason: object, timeout_s: float | None = 5.0) -> None:
    """Make a process end with `reason`, through its `terminate`; it may take longer than this call."""
    await _ask(dest, ("terminate", reason), timeout_s)


async def statistics(
    dest: Pid | Name, flag: Literal["on", "off", "get"], timeout_s: float | None = 5.0
) -> Statistics | Literal["no_statistics"] | None:
    """Count messages and reductions from "on" to "off"; "get" gives the counts, or "no_statistics"."""
    _check("statistics", flag, "on", "off", "get")
    answer = await _ask(dest, ("debug", "statistics", flag), timeout_s)
    return cast("Statistics | None", answer)


async def log(
    dest: Pid | Name,
    flag: Literal["on", "off", "get", "print"] | int,
    timeout_s: float | None = 5.0,
) -> tuple[Event, ...] | None:
    """Keep the last 10 events ("on") or the last `flag`; "get" gives them, oldest first, "print" prints them."""
    if isinstance(flag, str):
        _check("log", flag, "on", "off", "get", "print")
    elif isinstance(flag, bool) or flag < 1:
        raise ValueError(f"log takes a number of events from 1, not {flag}")
    answer = await _ask(dest, ("debug", "log", flag), timeout_s)
    return cast("tuple[Event, ...] | None", answer)


async def log_to_file(
    dest: Pid | Name, path: str | Path | None, timeout_s: float | None = 5.0
) -> None:
    """Write events as text to the file at `path`, which is emptied first; None ends that.

    Raises:
        CallbackFailedError: the file cannot be opened.
    """
    text = None if path is None else str(path)
    await _ask(dest, ("debug", "log_to_file", text), timeout_s)


async def trace(
    dest: Pid | Name, flag: Literal["on", "off"], timeout_s: float | None = 5.0
) -> None:
    """Print every event to stdout, or no longer."""
    _check("trace", flag, "on", "off")
    await _ask(dest, ("debug", "trace", flag), timeout_s)


async def install(
    dest: Pid | Name,
    function: DebugFunction,
    state: object = None,
    *,
    key: object = None,
    timeout_s: float | None = 5.0,
) -> None:
    """Call `function(state, event, process)` for each event; what it returns is its next state.

    It is removed when it returns `DONE` or raises. The same function, or the same `key`, is installed only once.
    """
    request = ("debug", "install", function if key is None else key, function, state)
    await _ask(dest, request, timeout_s)


async def remove(dest: Pid | Name, key: object, timeout_s: float | None = 5.0) -> None:
    """Take out a debug function, by itself or by its key."""
    await _ask(dest, ("debug", "remove", key), timeout_s)


async def no_debug(dest: Pid | Name, timeout_s: float | None = 5.0) -> None:
    """Switch off everything that watches the process."""
    await _ask(dest, ("debug", "no_debug"), timeout_s)


async def handle_system_msg(
    request: tuple[Any, ...], from_: From, module: object, debug: Debug, misc: Any
) -> Any:
    """Handle `("system", from_, request)` in a plain process; while suspended, handle the next ones as well.

    Args:
        request: as received.
        from_: as received.
        module: may have `system_get_state(misc)`, `system_replace_state(change, misc)`, which returns the answer and
            the new misc, and `system_terminate(reason, misc)`. Without the first two, misc is the state.
        debug: what is switched on; hand it every event with `debug.handle(event, self_pid())`.
        misc: the state of the process.

    Returns:
        misc, maybe a new one.

    Raises:
        ExitError: the process has to end.
    """
    me = self_process()
    system = me.rare.system = System(type(me))  # so that the end of the process closes a log file
    system.debug = debug
    special = _Special(me, module, misc)
    while True:
        me.owe(from_)
        if request[0] == "terminate":
            from_.reply(None)
            await special.terminate(request[1])
        reply_to(special, system, request, from_)
        if not system.suspended:
            return special.misc
        message = await receive(lambda each: _wakes(each, me.parent))
        if isinstance(message, Exit):
            await special.terminate(message.reason)
        _, from_, request = message


class _Special:
    """A plain process with system callbacks, as `sys_process.Target`."""

    traces_itself = True

    def __init__(self, pid: Pid, module: object, misc: object) -> None:
        self.pid = pid
        self.module = module
        self.misc: Any = misc
        self.parent = pid.parent
        self.reductions = pid.reductions

    def __repr__(self) -> str:
        return repr(self.pid)

    @property
    def name(self) -> str | None:
        """The registered name."""
        return self.pid.name

    def system_get_state(self) -> object:
        """Ask the module, or show misc."""
        own = getattr(self.module, "system_get_state", None)
        return self.misc if own is None else own(self.misc)

    def system_replace_state(self, change: Callable[[Any], Any]) -> object:
        """Ask the module, or replace misc."""
        own = getattr(self.module, "system_replace_state", None)
        if own is None:
            self.misc = change(self.misc)
            return self.misc
        answer, self.misc = own(change, self.misc)
        return answer

    def system_status(self, debug: Debug | None) -> tuple[str, str, object, dict[str, object]]:
        """Ask the module, or show misc."""
        own = getattr(self.module, "system_status", None)
        if own is not None:
            status: tuple[str, str, object, dict[str, object]] = own(self.misc)
            return status
        shown = formatted(self.module, {"state": self.misc, "log": debug.events() if debug else ()})
        return "special", type(self.module).__qualname__, shown.pop("state"), shown

    async def terminate(self, reason: object) -> NoReturn:
        """Let the module clean up, then end the process."""
        own = getattr(self.module, "system_terminate", None)
        outcome = None if own is None else own(reason, self.misc)
        if isinstance(outcome, Awaitable):
            await outcome
        raise ExitError(reason)


def _wakes(message: object, parent: Pid | None) -> bool:
    if isinstance(message, Exit):
        return message.pid is parent
    return isinstance(message, tuple) and message[:1] == ("system",)


def _check(what: str, flag: object, *allowed: str) -> None:
    if flag not in allowed:
        raise ValueError(f"{what} takes {', '.join(allowed)}, not {flag!r}")


async def _ask(dest: Pid | Name, request: tuple[Any, ...], timeout_s: float | None) -> Any:
    pid = dest if isinstance(dest, Pid) else self_process().runtime.whereis(dest)
    if pid is None:
        raise NoProcessError(dest, request)
    if here.process is pid:
        raise CallingSelfError(pid, request)
    call = From(pid.runtime, pid, request)
    pid.post(Envelope((SYSTEM, request, call)))
    if timeout_s is not None and not call.done:
        call.timer = pid.runtime.timers.start(timeout_s, call)
    answer = await call
    if isinstance(answer, FailedCallback):
        raise CallbackFailedError(answer.callback, answer.reason)
    return answer
