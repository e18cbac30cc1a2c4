"""enter_loop: a plain process that has become a gen_statem.

It keeps its mailbox, links and name; what was done before `enter_loop` is done. Drives the same engine as
`otp.gen_statem_process`, but inside the coroutine of the plain process.

Source: gen_statem(3) of OTP 25.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from otp.address import Name
from otp.entering import ToldToEnd, answer_sys, entering_process
from otp.errors import ExitError
from otp.exit_reason import is_clean, reason_of
from otp.gen_statem_engine import DONE, Engine, Machine
from otp.gen_statem_timeouts import RunningTimeout
from otp.gen_statem_transition import Ending
from otp.plain_process import PlainPid, receive
from otp.process import Exit
from otp.sys_debug import Debug
from otp.waiting import From

__all__ = ["enter_loop"]


async def enter_loop(
    machine: Machine, state: object, data: object, actions: Any = (), *, name: Name | None = None
) -> NoReturn:
    """Make the calling process, which proc_lib started, a gen_statem in `state`, with `data`; `init` is not called, and this never returns.

    Args:
        machine: the callbacks.
        state: the first state.
        data: the first data.
        actions: as init's.
        name: what the process is registered as, if it is.

    Raises:
        ExitError: the machine ended; let it end the process. Or proc_lib did not start the process
            ("process_was_not_started_by_proc_lib"), or it does not have that name
            ("process_not_registered", "process_not_registered_globally", or with "_via" and the type of the name).
    """
    await _Entered(entering_process(name), machine, state, data).run(actions)


class _Entered:
    """Drives the engine from within the plain process; has the system callbacks of a special process."""

    def __init__(self, pid: PlainPid, machine: Machine, state: object, data: object) -> None:
        self.pid = pid
        self.debug = Debug()
        self.engine = Engine(pid, machine, self)
        self.engine.state = state
        self.engine.data = data

    async def run(self, actions: Any) -> NoReturn:
        """Handle events until the machine ends."""
        try:
            await self._follow(self.engine.begin(actions))
            while True:
                event = self.engine.next_event()
                if event is not None:
                    await self._follow(self.engine.start(event))
                else:
                    await self._receive(await receive())
        except Ending as ending:
            await self._end(ending.reason)
        except ToldToEnd as told:
            raise ExitError(told.reason) from None
        except Exception as error:  # noqa: BLE001 - the process loop
            await self._end(reason_of(error))

    async def _follow(self, result: Any) -> None:
        while result is not DONE:
            if isinstance(result, Awaitable):
                result = await result
            result = self.engine.take(result)

    async def _receive(self, message: Any) -> None:
        event: Any = ("info", message)
        match message:
            case ("$gen_call", From() as from_, request):
                event = (("call", from_), request)
            case ("$gen_cast", request):
                event = ("cast", request)
            case ("system", From() as from_, request):
                await answer_sys(request, from_, self, self.debug)
                return
            case Exit(pid=pid) if pid is self.pid.parent:
                raise Ending(message.reason)
            case RunningTimeout():
                event = self.engine.timeouts.take(message)
        if event is not None:
            await self._follow(self.engine.receive(event))

    async def _end(self, reason: object) -> NoReturn:
        try:
            outcome = self.engine.terminate(reason)
            if isinstance(outcome, Awaitable):
                await outcome
        except Exception as error:  # noqa: BLE001 - terminate's own failure replaces the reason
            reason = reason_of(error)
        if not is_clean(reason):
            self.pid.runtime.reports.send(self.engine.report(reason))
        raise ExitError(reason)

    def traced(self) -> Debug | None:
        """Give the debug functions, if there are any."""
        return None if self.debug.idle else self.debug

    # What sys asks for.

    def system_get_state(self, misc: None) -> object:
        """Give state and data."""
        return (self.engine.state, self.engine.data)

    def system_replace_state(self, change: Callable[[Any], Any], misc: None) -> tuple[object, None]:
        """Replace state and data."""
        state, data = change((self.engine.state, self.engine.data))
        self.engine.state, self.engine.data = state, data
        return (state, data), None

    def system_status(self, misc: None) -> tuple[str, str, object, dict[str, object]]:
        """Show what a gen_statem shows."""
        return self.engine.status()

    async def system_terminate(self, reason: object, misc: None) -> None:
        """End the machine."""
        await self._end(reason)
