"""supervisor_bridge: puts something that is no OTP behaviour into a supervision tree.

A bridge stands between a supervisor and a plain process that does not know how to be supervised. It links to that
process and ends when it does, with the same reason; when the bridge is told to stop, its `terminate` stops the process.
A supervisor starts, stops and restarts the bridge like any other child.

Source: supervisor_bridge(3) of OTP 25.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from otp.address import Name
from otp.callback_results import CallResult, Ignore, NoReply, Reply, Result, Stop
from otp.child_spec import ChildType
from otp.child_spec_forms import ChildModule
from otp.erlang import link
from otp.errors import SupervisorError, UndefinedCallbackError
from otp.exit_reason import is_clean
from otp.gen_server import GenServer
from otp.process import Exit, Pid
from otp.reports import (
    Offender,
    ProgressReport,
    SupervisorLabel,
    SupervisorReport,
    bounded_text,
)
from otp.runtime import Runtime
from otp.supervision_answers import Refused
from otp.waiting import From, self_process

__all__ = ["SupervisorBridge", "start_link"]

StateT = TypeVar("StateT")


class SupervisorBridge(ChildModule, Generic[StateT]):
    """Subclass it: `init` starts the process, `terminate` stops it; both may be `async def`."""

    child_type: ClassVar[ChildType] = ChildType.SUPERVISOR
    pid: Pid  # of the bridge; set before init runs

    def init(
        self,
    ) -> (
        tuple[Pid, StateT] | Ignore | Stop[Any] | Awaitable[tuple[Pid, StateT] | Ignore | Stop[Any]]
    ):
        """Start the process; return its pid and the state for `terminate`."""
        raise UndefinedCallbackError(f"{type(self).__name__} has no init")

    def terminate(self, reason: Any, state: StateT) -> Awaitable[None] | None:
        """Stop the process; not run when that has ended by itself."""
        raise UndefinedCallbackError(f"{type(self).__name__} has no terminate")

    def start_in(self, runtime: Runtime, *, parent: Pid | None, name: Name | None) -> Pid:
        """Start the bridge in `runtime`, linked to `parent` if there is one."""
        return _BridgeServer(self).start_in(runtime, parent=parent, name=name)


def start_link(bridge: SupervisorBridge[Any], *, name: Name | None = None) -> Pid:
    """Start a bridge linked to the calling process, its parent.

    When its `init` is a coroutine, await the pid to wait for it.

    Raises:
        StartError: init refused (`IgnoredError` for `Ignore()`), raised, or returned something else; or the name is
            taken.
        TypeError: it is no name.
        OtpError: no process calls.
    """
    parent = self_process()
    return bridge.start_in(parent.runtime, parent=parent, name=name)


@dataclass(frozen=True, slots=True)
class _Bridged:
    """The process behind the bridge; None once it has ended by itself."""

    pid: Pid | None
    state: Any


class _BridgeServer(GenServer[_Bridged]):
    """The process of a bridge."""

    __slots__ = ("_bridge",)

    behaviour = "supervisor_bridge"

    def __init__(self, bridge: SupervisorBridge[Any]) -> None:
        self._bridge = bridge

    @property
    def callback_module(self) -> object:
        """What reports name."""
        return self._bridge

    async def init(self) -> _Bridged | Ignore | Stop[Any]:
        self.trap_exit()
        self._bridge.pid = self.pid
        result: Any = self._bridge.init()
        if isinstance(result, Awaitable):
            result = await result
        match result:
            case Ignore() | Stop():
                return result
            case (Pid() as pid, state):
                link(pid)
                self._report_progress(pid)
                return _Bridged(pid, state)
            case _:
                return Stop(("bad_return_value", result))

    def handle_call(self, request: Any, from_: From, state: _Bridged) -> CallResult[_Bridged]:
        match request:
            case ("which_children", _):
                return Reply([], state)
            case _:
                error = SupervisorError(f"badcall: a supervisor_bridge cannot {request!r:.200}")
                return Reply(Refused(error), state)

    def handle_cast(self, request: Any, state: _Bridged) -> Result[_Bridged]:
        return NoReply(state)

    def handle_info(self, message: Any, state: _Bridged) -> Result[_Bridged]:
        if isinstance(message, Exit) and message.pid is state.pid is not None:
            if not is_clean(message.reason):
                self._report(message.reason, state.pid)
            return Stop(message.reason, _Bridged(None, state.state))
        return NoReply(state)

    async def terminate(self, reason: Any, state: _Bridged) -> None:
        if state.pid is not None:
            outcome = self._bridge.terminate(reason, state.state)
            if isinstance(outcome, Awaitable):
                await outcome

    def _report_progress(self, pid: Pid) -> None:
        reports = self.runtime.reports
        if reports.wants_progress:
            started = self._offender(pid)
            reports.send(ProgressReport(supervisor=repr(self.pid), started=started, by_hand=False))

    def _report(self, reason: object, pid: Pid) -> None:
        report = SupervisorReport(
            label=SupervisorLabel.CHILD_TERMINATED,
            supervisor=repr(self.pid),
            offender=self._offender(pid),
            reason=reason,
            reason_text=bounded_text(reason),
        )
        self.runtime.reports.send(report)

    def _offender(self, pid: Pid) -> Offender:
        return Offender(
            pid=repr(pid),
            id=type(self._bridge).__qualname__,
            restart="temporary",
            shutdown="infinity",
            child_type="worker",
        )
