"""The master of one running application: starts its tree, stops it in OTP's order, leads its processes.

Every process that comes from the application, at any remove, has the master as `group_leader`. So it is known which
application a process belongs to, and none outlives it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from otp.application_spec import Application, ApplicationSpec, StartKind
from otp.callback_results import Continue, NoReply, Ok, Result, Stop
from otp.errors import StartError
from otp.exit_reason import KILL, NORMAL, SHUTDOWN, reason_of
from otp.gen_server import GenServer
from otp.process import Exit, Pid
from otp.waiting import ExitWait

__all__ = ["MASTERS", "ApplicationMaster", "Begun", "NotBegun"]

MASTERS = "application masters"  # the names of the running applications, by group leader
_log = logging.getLogger("otp")


@dataclass(frozen=True, slots=True)
class Begun:
    """To the controller: the application runs."""

    name: str


@dataclass(frozen=True, slots=True)
class NotBegun:
    """To the controller: the application did not start; the master ends."""

    name: str
    reason: object


class _Top:
    """The top supervisor, and the application's own state."""

    __slots__ = ("pid", "state")

    def __init__(self) -> None:
        self.pid: Pid | None = None
        self.state: Any = _NEVER


class ApplicationMaster(GenServer[_Top]):
    """The process of a running application, a child of the controller."""

    __slots__ = ("_callbacks", "_controller", "_spec")

    def __init__(self, spec: ApplicationSpec, controller: Pid) -> None:
        assert spec.mod is not None
        self._spec = spec
        self._callbacks: Application = spec.mod[0]
        self._controller = controller

    def init(self) -> Ok[_Top]:
        self.trap_exit()
        self.pid.group_leader = self.pid
        self.runtime.tables[MASTERS][self.pid] = self._spec.name
        return Ok(_Top(), Continue("start"))

    async def handle_continue(self, term: object, state: _Top) -> Result[_Top]:
        reason = await self._start(state)
        if reason is None:
            self._controller.cast(Begun(self._spec.name))
            return NoReply(state)
        await self._stop_tree(state)
        state.state = _NEVER
        self._controller.cast(NotBegun(self._spec.name, reason))
        return Stop(NORMAL, state)

    def handle_cast(self, request: object, state: _Top) -> Stop[_Top]:
        """Stop, because the controller says so."""
        assert request == "stop"
        return Stop(NORMAL, state)

    def handle_info(self, message: object, state: _Top) -> Result[_Top]:
        if isinstance(message, Exit) and message.pid is not None and message.pid is state.pid:
            state.pid = None
            return Stop(message.reason, state)
        return NoReply(state)

    async def terminate(self, reason: object, state: _Top) -> None:
        callbacks = self._callbacks
        if state.pid is not None:
            prepared = await self._guarded(callbacks.prep_stop, state.state)
            state.state = state.state if prepared is _FAILED else prepared
            await self._stop_tree(state)
        if state.state is not _NEVER:
            await self._guarded(callbacks.stop, state.state)
        self._kill_rest()

    async def _guarded(self, callback: Callable[[Any], Any], own: object) -> object:
        # As on the BEAM: an application cannot keep its tree from being stopped.
        try:
            return await _awaited(callback(own))
        except Exception:  # noqa: BLE001 - the log is all that is left to tell
            _log.exception("application %s: %s failed", self._spec.name, callback.__name__)
            return _FAILED

    async def _start(self, state: _Top) -> object:
        """Run the start callbacks; returns why that failed."""
        kind, args = StartKind.NORMAL, self._spec.mod[1] if self._spec.mod else None
        where = (type(self._callbacks).__qualname__, "start", [kind.value, args])
        try:
            result: Any = await _awaited(self._callbacks.start(kind, args))
            pid, own = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
            if isinstance(pid, Pid) and pid.initialising:
                await pid
        except StartError as error:
            return (error.reason, where)
        except Exception as error:  # noqa: BLE001 - a callback may raise anything; it becomes the reason
            return ("bad_return", (where, ("EXIT", reason_of(error))))
        if not isinstance(pid, Pid):
            return ("bad_return", (where, result))
        state.pid, state.state = pid, own
        return await self._go_through_phases(kind)

    async def _go_through_phases(self, kind: StartKind) -> object:
        for phase, args in self._spec.start_phases:
            try:
                await _awaited(self._callbacks.start_phase(phase, kind, args))
            except Exception as error:  # noqa: BLE001 - as in _start
                return (
                    reason_of(error),
                    (type(self._callbacks).__qualname__, "start_phase", [phase]),
                )
        return None

    async def _stop_tree(self, state: _Top) -> None:
        pid, state.pid = state.pid, None
        if pid is not None:
            wait = ExitWait(pid, linked=self.pid)
            pid.exit_signal(self.pid, SHUTDOWN)
            await wait

    def _kill_rest(self) -> None:
        for pid in list(self.runtime.processes()):
            if pid.group_leader is self.pid and pid is not self.pid:
                pid.exit_signal(self.pid, KILL)


async def _awaited(value: Any) -> Any:
    return await value if isinstance(value, Awaitable) and not isinstance(value, Pid) else value


_FAILED = object()
_NEVER = object()  # the state of an application whose start never came to an end
