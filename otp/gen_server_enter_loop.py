"""enter_loop: a plain process that has become a gen_server.

It keeps its mailbox, links and name; what was done before `enter_loop` is done. The rules are those of
`otp.server_process`, here inside the coroutine of the plain process.

Source: gen_server(3) of OTP 25 to 27.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from otp.address import Name
from otp.callback_results import (
    PLAIN,
    TIMEOUT,
    Action,
    Continue,
    NoReply,
    Reply,
    Stop,
    StopReply,
    Timeout,
)
from otp.child_spec import INFINITY
from otp.entering import ToldToEnd, answer_sys, entering_process
from otp.errors import ExitError, ReceiveTimeoutError
from otp.exit_reason import is_clean, reason_of
from otp.plain_process import PlainPid, receive
from otp.process import Exit
from otp.reports import ServerReport, bounded_text
from otp.server_process import Server
from otp.sys_debug import Debug
from otp.sys_process import formatted, texts
from otp.waiting import From

__all__ = ["enter_loop"]


async def enter_loop(
    server: Server, state: object, action: Action | None = None, *, name: Name | None = None
) -> NoReturn:
    """Make the calling plain process a gen_server with `state`; `init` is not called, and this never returns.

    Args:
        server: the callbacks.
        state: the first state.
        action: as after init.
        name: what the process is registered as, if it is.

    Raises:
        ExitError: the server ended; let it end the process. Or the process does not have that name
            ("process_not_registered").
        OtpError: the caller is no plain process.
    """
    await _Entered(entering_process(name), server, state).run(action)


class _Ending(Exception):  # noqa: N818 - not an error: how a callback's result says that the server ends
    def __init__(self, reason: object, from_: From | None = None, value: object = None) -> None:
        self.reason = reason
        self.from_ = from_
        self.value = value


class _Entered:
    """The receive loop; has the system callbacks of a special process."""

    def __init__(self, pid: PlainPid, server: Server, state: object) -> None:
        self.pid = pid
        self.server = server
        self.state: Any = state
        self.debug = Debug()
        self.message: object = ""
        server.pid = pid

    async def run(self, action: Any) -> NoReturn:
        """Handle messages until the server ends."""
        try:
            while True:
                action = await self._turn(action)
        except _Ending as ending:
            await self._end(ending)
        except ToldToEnd as told:
            raise ExitError(told.reason) from None
        except Exception as error:  # noqa: BLE001 - the process loop
            await self._end(_Ending(reason_of(error)))

    async def _turn(self, action: Any) -> Any:
        """Handle what comes next; gives the action that its callback asked for."""
        if isinstance(action, Continue):
            return await self._follow(self.server.handle_continue(action.term, self.state))
        if not isinstance(action, Timeout | None):
            raise _Ending(("bad_return_value", action))
        message = self.message = await self._next_message(action)
        match message:
            case ("$gen_call", From() as from_, request):
                self.debug.handle(("in", message), self.pid)
                return await self._follow(
                    self.server.handle_call(request, from_, self.state), from_
                )
            case ("$gen_cast", request):
                self.debug.handle(("in", message), self.pid)
                return await self._follow(self.server.handle_cast(request, self.state))
            case Exit(pid=pid) if pid is self.pid.parent:
                raise _Ending(message.reason)
        self.debug.handle(("in", message), self.pid)
        return await self._follow(self.server.handle_info(message, self.state))

    async def _next_message(self, action: Any) -> Any:
        clock = self.pid.runtime.clock
        until = INFINITY
        if isinstance(action, Timeout):
            until = action.after_s + (0.0 if action.absolute else clock())
            if action.message is not PLAIN and until <= clock():
                return action.message
        while True:
            try:
                left_s = None if until == INFINITY else max(0.0, until - clock())
                message = await receive(timeout_s=left_s)
            except ReceiveTimeoutError:
                return TIMEOUT if action.message is PLAIN else action.message
            match message:
                case ("system", From() as from_, request):
                    await answer_sys(request, from_, self, self.debug)
                case _:
                    return message

    async def _follow(self, result: Any, from_: From | None = None) -> Any:
        if isinstance(result, Awaitable):
            result = await result
        match result:
            case StopReply() if from_ is not None:
                self.state = result.state
                raise _Ending(result.reason, from_, result.value)
            case Stop():
                self.state = result.state
                raise _Ending(result.reason)
            case Reply() if from_ is not None:
                from_.reply(result.value)
                self.debug.handle(("out", result.value, from_, result.state), self.pid)
            case NoReply():
                self.debug.handle(("noreply", result.state), self.pid)
            case _:
                raise _Ending(("bad_return_value", result))
        self.state = result.state
        return result.action

    async def _end(self, ending: _Ending) -> NoReturn:
        reason = ending.reason
        try:
            outcome = self.server.terminate(reason, self.state)
            if isinstance(outcome, Awaitable):
                await outcome
        except Exception as error:  # noqa: BLE001 - terminate's own failure replaces the reason
            reason = reason_of(error)
        if not is_clean(reason):
            self._report(reason)
        if ending.from_ is not None:
            ending.from_.reply(ending.value)
        raise ExitError(reason)

    def _report(self, reason: object) -> None:
        status = {
            "state": self.state,
            "message": self.message,
            "reason": reason,
            "log": self.debug.events(),
        }
        shown = formatted(self.server, status)
        self.pid.runtime.reports.send(
            ServerReport(
                process=repr(self.pid),
                behaviour=type(self.server).__qualname__,
                last_message=bounded_text(shown["message"]),
                state=bounded_text(shown["state"]),
                reason=shown["reason"],
                reason_text=bounded_text(shown["reason"]),
                log=texts(shown["log"]),
                label=self.pid.rare.label,
            )
        )

    # What sys asks for.

    def system_get_state(self, misc: None) -> object:
        """Give the state."""
        return self.state

    def system_replace_state(self, change: Callable[[Any], Any], misc: None) -> tuple[object, None]:
        """Replace the state."""
        self.state = change(self.state)
        return self.state, None

    def system_status(self, misc: None) -> tuple[str, str, object, dict[str, object]]:
        """Show what a gen_server shows."""
        shown = formatted(self.server, {"state": self.state, "log": self.debug.events()})
        return "gen_server", type(self.server).__qualname__, shown.pop("state"), shown

    async def system_terminate(self, reason: object, misc: None) -> None:
        """End the server."""
        await self._end(_Ending(reason))
