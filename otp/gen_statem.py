"""gen_statem: a state machine whose events can be postponed, inserted and timed, in OTP's way.

Subclass `GenStatem`, say in `callback_mode` whether each state is a method (`STATE_FUNCTIONS`) or all events go to
`handle_event` (`HANDLE_EVENT_FUNCTION`), and return what to do. Event types are "cast", "info", "internal",
"timeout", "state_timeout", ("timeout", name) and ("call", from_), and "enter" in state enter calls.
A callback may be `async def`; while it waits, the machine handles nothing else.

Of OTP not here: code change, and throwing a result instead of returning it.

Source: gen_statem(3) of OTP 25 to 27, checked against a running OTP 25.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any, Generic, TypeVar

from otp import gen_server
from otp.address import Name
from otp.callback_results import Ignore, Stop
from otp.child_spec import INFINITY
from otp.child_spec_forms import ChildModule
from otp.errors import UndefinedCallbackError
from otp.gen_statem_enter_loop import enter_loop
from otp.gen_statem_process import StatemPid
from otp.gen_statem_results import (
    CANCEL,
    CAST,
    ENTER,
    HANDLE_EVENT_FUNCTION,
    INFO,
    INTERNAL,
    STATE_ENTER,
    STATE_FUNCTIONS,
    STATE_TIMEOUT,
    TIMEOUT,
    UPDATE,
    Action,
    CallbackMode,
    ChangeCallbackModule,
    EventTimeout,
    EventType,
    Hibernate,
    InitResult,
    KeepState,
    KeepStateAndData,
    NamedTimeout,
    NextEvent,
    NextState,
    Ok,
    PopCallbackModule,
    Postpone,
    PushCallbackModule,
    RepeatState,
    RepeatStateAndData,
    Reply,
    StateResult,
    StateTimeout,
    StopAndReply,
)
from otp.process import Pid, Ref
from otp.requests import (
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
from otp.start_limit import limit_init, monitor_start, startable
from otp.waiting import From, self_process

__all__ = [
    "CANCEL",
    "CAST",
    "ENTER",
    "HANDLE_EVENT_FUNCTION",
    "INFINITY",
    "INFO",
    "INTERNAL",
    "STATE_ENTER",
    "STATE_FUNCTIONS",
    "STATE_TIMEOUT",
    "TIMEOUT",
    "UPDATE",
    "Action",
    "CallbackMode",
    "ChangeCallbackModule",
    "EventTimeout",
    "EventType",
    "GenStatem",
    "Hibernate",
    "Ignore",
    "InitResult",
    "KeepState",
    "KeepStateAndData",
    "NamedTimeout",
    "NextEvent",
    "NextState",
    "Ok",
    "PopCallbackModule",
    "Postpone",
    "PushCallbackModule",
    "RepeatState",
    "RepeatStateAndData",
    "Reply",
    "StateResult",
    "StateTimeout",
    "Stop",
    "StopAndReply",
    "call",
    "cast",
    "check_response",
    "enter_loop",
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

StateT = TypeVar("StateT")
DataT = TypeVar("DataT")

cast = gen_server.cast
stop = gen_server.stop


class GenStatem(ChildModule, Generic[StateT, DataT]):
    """A state machine; its state and data are passed to each callback and returned by it."""

    __slots__ = ("pid",)

    pid: Pid  # set before init runs
    hibernate_after_s: float | None = None  # idle so long, it hibernates

    @property
    def runtime(self) -> Runtime:
        """The runtime this machine lives in."""
        return self.pid.runtime

    def trap_exit(self, on: bool = True) -> None:  # noqa: FBT001, FBT002 - process_flag(trap_exit, true)
        """From now on take exit signals as `Exit` messages, or no longer."""
        self.pid.trapping = on

    def init(self) -> InitResult[StateT, DataT] | Awaitable[InitResult[StateT, DataT]]:
        """Return `Ok(state, data)`; the starter waits for it."""
        raise UndefinedCallbackError(f"{type(self).__name__} has no init")

    def callback_mode(self) -> CallbackMode:
        """Return `STATE_FUNCTIONS` or `HANDLE_EVENT_FUNCTION`, or one of them with `STATE_ENTER` in a tuple."""
        raise UndefinedCallbackError(f"{type(self).__name__} has no callback_mode")

    def handle_event(
        self, event_type: Any, content: Any, state: StateT, data: DataT
    ) -> StateResult[StateT, DataT] | Awaitable[StateResult[StateT, DataT]]:
        """Take any event, in `HANDLE_EVENT_FUNCTION` mode; in the other one the method named after the state does."""
        raise UndefinedCallbackError(f"{type(self).__name__} has no handle_event")

    def terminate(self, reason: Any, state: StateT, data: DataT) -> Awaitable[None] | None:
        """Clean up before the end; not run on a kill, nor on an exit signal without trap_exit."""

    def format_status(self, status: dict[str, object]) -> dict[str, object]:
        """Say what `sys.get_status` and the report of a bad end may show.

        Args:
            status: "state", "data", "postponed", "timeouts", "log"; in a report also "queue" and "reason".
        """
        return status

    def start_in(self, runtime: Runtime, *, parent: Pid | None, name: Name | None) -> Pid:
        """Start this machine in `runtime`, linked to `parent` if there is one; see `start_link`."""
        runtime.claim_name(name)
        pid = StatemPid(runtime, parent, self, self.hibernate_after_s)
        if parent is not None:
            pid.links = parent
            parent.add_link(pid)
        if name is not None:
            runtime.register(name, pid)
        pid.begin()
        return pid


def start_link(
    machine: GenStatem[Any, Any], *, name: Name | None = None, timeout_s: float | None = None
) -> Pid:
    """Start `machine` linked to the calling process, its parent.

    When `init` is a coroutine, await the pid to wait for it. The first state enter call and init's actions come
    after that: if they fail, the machine has been started all the same.

    Args:
        machine: what to start.
        name: to register it under.
        timeout_s: how long an `init` that waits may take.

    Raises:
        StartError: init refused (`IgnoredError` for `Ignore()`) or raised (the reason is without its stack), it took
            too long ("timeout"), or the name is taken.
        OtpError: no process calls.
    """
    parent = self_process()
    return limit_init(
        startable(machine).start_in(parent.runtime, parent=parent, name=name), timeout_s
    )


def start(
    machine: GenStatem[Any, Any], *, name: Name | None = None, timeout_s: float | None = None
) -> Pid:
    """Start `machine` without a link; otherwise as `start_link`."""
    runtime = self_process().runtime
    return limit_init(startable(machine).start_in(runtime, parent=None, name=name), timeout_s)


def start_monitor(
    machine: GenStatem[Any, Any], *, name: Name | None = None, timeout_s: float | None = None
) -> tuple[Pid, Ref]:
    """Start `machine` without a link and monitor it; otherwise as `start_link`. A failed start sends no `Down`."""
    pid = start(machine, name=name, timeout_s=timeout_s)
    return pid, monitor_start(pid)


def call(dest: Pid | Name, request: object, timeout_s: float | None = None) -> Awaitable[Any]:
    """Send an event ("call", from_) and wait for the reply, for ever unless `timeout_s` says otherwise."""
    return gen_server.call(dest, request, timeout_s)


def reply(replies: From | Reply | Iterable[Reply], value: object = None) -> None:
    """Answer calls from anywhere: `reply(from_, value)`, or with the action `Reply`, or with several."""
    if isinstance(replies, From):
        replies.reply(value)
        return
    for each in (replies,) if isinstance(replies, Reply) else replies:
        each.from_.reply(each.value)
