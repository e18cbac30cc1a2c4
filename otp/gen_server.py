"""gen_server: a process that answers calls, takes casts and messages, and is started and stopped in OTP's way.

One instance of a `GenServer` subclass is one server; its state is passed to each callback and returned by it.
Callbacks are `def`, or `async def` where they really wait; while one waits, the server handles nothing else.
Requests that are answered while the sender goes on: `otp.requests`. Of OTP not here: code change.

Source: gen_server(3) of OTP 25 to 27, and the order rules observed on OTP 25.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Iterable
from typing import Any, ClassVar, Generic, NoReturn, TypeVar, overload

from otp.address import Name
from otp.callback_results import (
    TIMEOUT,
    Action,
    CallResult,
    Continue,
    Hibernate,
    Ignore,
    InitSpecial,
    NoReply,
    Ok,
    Reply,
    Result,
    Stop,
    StopReply,
    Timeout,
)
from otp.child_spec_forms import ChildModule
from otp.envelope import READY, AnswerT_co, Call
from otp.errors import (
    CallError,
    ExitError,
    UndefinedCallbackError,
)
from otp.node_names import Global, OnNode
from otp.plain_process import Leave, PlainPid
from otp.proc_lib import ProcPid, stop
from otp.process import Pid, Ref
from otp.reports import bounded_text
from otp.requests import (
    NO_REPLY,
    NO_REQUEST,
    TIMED_OUT,
    Answer,
    Failure,
    RequestId,
    RequestIds,
    check_response,
    receive_response,
    reqids_add,
    reqids_new,
    reqids_size,
    reqids_to_list,
    send_request,
    wait_response,
)
from otp.runtime import Runtime
from otp.server_process import ServerPid
from otp.sleepy_process import SleepyPid
from otp.start_limit import limit_init, monitor_start, startable
from otp.waiting import From, self_process

__all__ = [
    "NO_REPLY",
    "NO_REQUEST",
    "TIMED_OUT",
    "TIMEOUT",
    "Answer",
    "CallResult",
    "Continue",
    "Failure",
    "GenServer",
    "Hibernate",
    "Ignore",
    "NoReply",
    "Ok",
    "Reply",
    "RequestId",
    "RequestIds",
    "Result",
    "Stop",
    "StopReply",
    "Timeout",
    "abcast",
    "call",
    "cast",
    "check_response",
    "enter_loop",
    "multi_call",
    "receive_response",
    "reply",
    "reqids_add",
    "reqids_new",
    "reqids_size",
    "reqids_to_list",
    "send_request",
    "start",
    "start_link",
    "start_monitor",
    "stop",
    "wait_response",
]

_log = logging.getLogger("otp")
StateT = TypeVar("StateT")


class GenServer(ChildModule, Generic[StateT]):
    """Subclass it, give it `init` and the callbacks it needs; each may be `async def`."""

    __slots__ = ("pid",)

    pid: Pid  # set before init runs
    hibernate_after_s: ClassVar[float | None] = None  # idle so long, it hibernates

    @property
    def runtime(self) -> Runtime:
        """The runtime this server lives in."""
        return self.pid.runtime

    def trap_exit(self, on: bool = True) -> None:  # noqa: FBT001, FBT002 - process_flag(trap_exit, true)
        """From now on take exit signals as `Exit` messages, or no longer."""
        self.pid.trapping = on

    def init(self) -> StateT | InitSpecial[StateT] | Awaitable[StateT | InitSpecial[StateT]]:
        """Return the first state; the starter waits for it."""
        raise UndefinedCallbackError(f"{type(self).__name__} has no init")

    def handle_call(
        self, request: Any, from_: From, state: StateT
    ) -> CallResult[StateT] | Awaitable[CallResult[StateT]]:
        """Answer a call."""
        raise self._undefined("handle_call", request)

    def handle_cast(
        self, request: Any, state: StateT
    ) -> Result[StateT] | Awaitable[Result[StateT]]:
        """Take a cast."""
        raise self._undefined("handle_cast", request)

    def handle_info(
        self, message: Any, state: StateT
    ) -> Result[StateT] | Awaitable[Result[StateT]]:
        """Take any other message: raw sends, `Exit` when trapping, `Down`, timers."""
        _log.warning("%r has no handle_info for %s", self.pid, bounded_text(message))
        return NoReply(state)

    def handle_continue(
        self, term: Any, state: StateT
    ) -> Result[StateT] | Awaitable[Result[StateT]]:
        """Go on after a `Continue`."""
        raise self._undefined("handle_continue", term)

    def terminate(self, reason: Any, state: StateT) -> Awaitable[None] | None:
        """Clean up before the end; not run on a kill, nor on an exit signal without trap_exit."""

    def format_status(self, status: dict[str, object]) -> dict[str, object]:
        """Say what `sys.get_status` and the report of a bad end may show.

        Args:
            status: "state" and "log"; in a report also "message" and "reason". Rewrite what should not be seen.
        """
        return status

    def start_in(self, runtime: Runtime, *, parent: Pid | None, name: Name | None) -> Pid:
        """Start this server in `runtime`, linked to `parent` if there is one; see `start_link`."""
        runtime.claim_name(name)
        process = ServerPid if self.hibernate_after_s is None else SleepyPid
        pid = process(runtime, parent, self)
        if parent is not None:
            pid.links = parent
            parent.add_link(pid)
        if name is not None:
            runtime.register(name, pid)
        pid.begin()
        return pid

    def _undefined(self, callback: str, term: object) -> UndefinedCallbackError:
        return UndefinedCallbackError(
            f"{type(self).__name__} has no {callback} for {bounded_text(term)}"
        )


def start_link(
    server: GenServer[Any], *, name: Name | None = None, timeout_s: float | None = None
) -> Pid:
    """Start `server` linked to the calling process, its parent.

    When `init` is a coroutine, await the pid to wait for it.

    Args:
        server: what to start.
        name: to register it under.
        timeout_s: how long an `init` that waits may take.

    Raises:
        StartError: init refused (`IgnoredError` for `Ignore()`) or raised, or the name is taken; when the pid is
            awaited also that init took too long ("timeout").
        OtpError: no process calls.
    """
    parent = self_process()
    return limit_init(
        startable(server).start_in(parent.runtime, parent=parent, name=name), timeout_s
    )


def start(
    server: GenServer[Any], *, name: Name | None = None, timeout_s: float | None = None
) -> Pid:
    """Start `server` without a link; otherwise as `start_link`."""
    return limit_init(
        startable(server).start_in(self_process().runtime, parent=None, name=name), timeout_s
    )


def start_monitor(
    server: GenServer[Any], *, name: Name | None = None, timeout_s: float | None = None
) -> tuple[Pid, Ref]:
    """Start `server` without a link and monitor it; otherwise as `start_link`. A failed start sends no `Down`."""
    pid = start(server, name=name, timeout_s=timeout_s)
    return pid, monitor_start(pid)


def enter_loop(
    server: GenServer[StateT],
    state: StateT,
    action: Action | None = None,
    *,
    name: Name | None = None,
) -> NoReturn:
    """Make the calling process, which proc_lib started, a server; what called this does not go on.

    Its parent is the process that started it. `init` is not called.

    Args:
        server: the callbacks.
        state: the first state.
        action: as from `init`.
        name: what the process is registered as, if it is.

    Raises:
        ExitError: proc_lib did not start this process, or `name` is not its name.
    """
    me = self_process()
    if not isinstance(me, ProcPid):
        raise ExitError("process_was_not_started_by_proc_lib")
    if name is not None and me.runtime.whereis(name) is not me:
        raise ExitError(_not_registered(name))
    cls = ServerPid if server.hibernate_after_s is None else SleepyPid

    def enter(pid: PlainPid) -> None:
        changed: Any = pid
        changed.__class__ = cls
        changed.enter_loop(server, state, action)

    raise Leave(enter)


def cast(dest: Pid | Name, request: object) -> None:
    """Send `request` to `handle_cast`; nobody there: it vanishes."""
    try:
        mailbox = dest.mailbox  # type: ignore[union-attr]  # cheaper than to ask for the type
    except AttributeError:  # a name
        self_process().runtime.cast(dest, request)
        return
    # The hot path of `Pid.cast`, without a call.
    if type(mailbox) is deque and dest.status >= READY and type(request) is not From:  # type: ignore[union-attr]
        mailbox.append(request)
    else:
        dest.cast(request)  # type: ignore[union-attr]


@overload
def call(
    dest: Pid | Name, request: Call[AnswerT_co], timeout_s: float | None = 5.0
) -> Awaitable[AnswerT_co]: ...


@overload
def call(dest: Pid | Name, request: object, timeout_s: float | None = 5.0) -> Awaitable[Any]: ...


def call(dest: Pid | Name, request: object, timeout_s: float | None = 5.0) -> Awaitable[Any]:
    """Ask a server by pid or name, from inside a process; see `Pid.call`."""
    if isinstance(dest, Pid):
        return dest.call(request, timeout_s)
    return self_process().runtime.call(dest, request, timeout_s)


async def multi_call(
    nodes: Iterable[str], name: str, request: object, timeout_s: float | None = None
) -> tuple[list[tuple[str, Any]], list[str]]:
    """Call the server `name` on several nodes at once.

    Returns:
        (node, answer) of those that answered in time, and the nodes of which no answer came; both in the order given.
    """
    runtime = self_process().runtime
    calls = [(node, runtime.call(OnNode(name, node), request, timeout_s)) for node in nodes]
    replies: list[tuple[str, Any]] = []
    bad_nodes: list[str] = []
    for node, sent in calls:
        try:
            replies.append((node, await sent))
        except CallError:
            bad_nodes.append(node)
    return replies, bad_nodes


def abcast(nodes: Iterable[str], name: str, request: object) -> None:
    """Cast to the server `name` on several nodes; where there is none it vanishes."""
    for node in nodes:
        cast(OnNode(name, node), request)


def reply(from_: From, value: object) -> None:
    """Answer a call from anywhere; only the first answer counts."""
    from_.reply(value)


def _not_registered(name: Name) -> object:
    if isinstance(name, Global):
        return "process_not_registered_globally"
    if isinstance(name, str):
        return "process_not_registered"
    return ("process_not_registered_via", type(name).__qualname__)
