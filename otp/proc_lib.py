"""proc_lib: start plain processes in OTP's way, with acknowledged starts, labels, crash reports and orderly stops.

    async def body(port):
        proc_lib.init_ack(self_pid())      # the starter waits for this
        ...

    pid = await proc_lib.start_link(body, 8080)

The names of those who started it and its first function are in every crash report. A process started here may become
a server with `gen_server.enter_loop`.

Source: proc_lib(3) of OTP 25 to 27.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NoReturn

from otp.address import Name
from otp.envelope import IDLE, READY, SYSTEM, Envelope
from otp.erlang import monitor
from otp.errors import (
    CallError,
    CallingSelfError,
    CallTimeoutError,
    ExitError,
    NoProcessError,
    OtpError,
    StartError,
)
from otp.exit_reason import KILL, NOPROC, NORMAL
from otp.plain_process import Body, Leave, PlainPid
from otp.process import Pid, Ref
from otp.report_text import format_report as format  # noqa: A004 - OTP's name
from otp.waiting import ExitWait, From, here, self_process

__all__ = [
    "ProcPid",
    "format",
    "get_label",
    "hibernate",
    "init_ack",
    "init_fail",
    "initial_call",
    "set_label",
    "spawn",
    "spawn_link",
    "spawn_monitor",
    "spawn_opt",
    "start",
    "start_link",
    "start_monitor",
    "stop",
]

LINK: Final = "link"
MONITOR: Final = "monitor"


class ProcPid(PlainPid):
    """A plain process that was started by proc_lib."""

    __slots__ = ()


class Acknowledgement(ExitWait):
    """What a start waits for: `init_ack` of the new process, or its end."""

    __slots__ = ("acknowledged", "failure", "value")

    def __init__(self, pid: Pid, *, linked: Pid | None) -> None:
        super().__init__(pid, linked=linked)
        self.acknowledged = False
        self.value: object = None
        self.failure: object = None  # what init_fail says; told when the process has ended

    def acknowledge(self, value: object) -> None:
        """The process is ready."""
        self.pid.unwatch(self)
        self.acknowledged = True
        self.value = value
        self.finish()


def spawn(body: Body, *args: object) -> Pid:
    """Start a process that runs `body(*args)`; it first runs in a later turn."""
    return _spawn(body, args)


def spawn_link(body: Body, *args: object) -> Pid:
    """Start a process linked to the caller."""
    return _spawn(body, args, link=True)


def spawn_monitor(body: Body, *args: object) -> tuple[Pid, Ref]:
    """Start a process and monitor it."""
    pid = _spawn(body, args)
    return pid, monitor(pid)


def spawn_opt(body: Body, *args: object, options: Collection[str] = ()) -> Pid | tuple[Pid, Ref]:
    """Start a process with the options "link" and "monitor"; with the latter a pair comes back.

    Raises:
        ValueError: there is no such option (OTP's badarg).
    """
    _check(options, LINK, MONITOR)
    pid = _spawn(body, args, link=LINK in options)
    return (pid, monitor(pid)) if MONITOR in options else pid


async def start(
    body: Body,
    *args: object,
    timeout_s: float | None = None,
    spawn_opt: Collection[str] = (),
) -> Any:
    """Start a process and wait until it calls `init_ack(value)`; returns that value.

    A failed start leaves nothing behind: the process has ended, and a linked caller gets no exit.

    Args:
        body: what it runs.
        args: with these arguments.
        timeout_s: how long to wait; then the process is killed.
        spawn_opt: only "link".

    Raises:
        StartError: with the reason the process ended with, or gave to `init_fail`, or "timeout".
        ValueError: an option is none, or "monitor" (OTP's badarg).
    """
    _check(spawn_opt, LINK)
    return await _acknowledged(_begin(body, args, link=LINK in spawn_opt), timeout_s)


async def start_link(
    body: Body,
    *args: object,
    timeout_s: float | None = None,
    spawn_opt: Collection[str] = (),
) -> Any:
    """Start as `start` does, linked to the caller."""
    _check(spawn_opt, LINK)
    return await _acknowledged(_begin(body, args, link=True), timeout_s)


async def start_monitor(
    body: Body,
    *args: object,
    timeout_s: float | None = None,
    spawn_opt: Collection[str] = (),
) -> tuple[Any, Ref]:
    """Start as `start` does, and monitor; returns the acknowledged value and the monitor."""
    _check(spawn_opt, LINK)
    wait = _begin(body, args, link=LINK in spawn_opt)
    value = await _acknowledged(wait, timeout_s)
    return value, monitor(wait.pid)


def init_ack(value: object) -> None:
    """Tell the starter that this process is ready; `start` returns `value`. Nobody waits: nothing happens."""
    wait = self_process().rare.acknowledgement
    if wait is not None:
        self_process().rare.acknowledgement = None
        wait.acknowledge(value)


def init_fail(reason: object, exit_reason: object = None) -> NoReturn:
    """End this process; when it is gone, `start` raises `StartError(reason)`.

    Args:
        reason: what the starter is told.
        exit_reason: what the process ends with; `reason` by default.
    """
    wait = self_process().rare.acknowledgement
    if wait is not None:
        wait.failure = StartError(reason)
    raise ExitError(reason if exit_reason is None else exit_reason)


def hibernate(body: Body, *args: object) -> NoReturn:
    """Drop what this process is doing, and run `body(*args)` when there is a message; see `Pid.hibernated`.

    Raises:
        OtpError: the caller is no plain process.
    """
    if not isinstance(self_process(), PlainPid):
        raise OtpError(f"{self_process()!r} is no plain process: a server returns Hibernate()")

    def sleep(pid: PlainPid) -> None:
        pid.coro = body(*args)
        if pid.mailbox is None:
            pid.status = IDLE
        else:
            pid.status = READY
            pid.runtime.enqueue(pid)

    raise Leave(sleep)


def initial_call(pid: Pid) -> str:
    """Name the function or class that `pid` began with."""
    return pid.initial_call


def set_label(label: str | None) -> None:
    """Describe this process in its reports."""
    self_process().rare.label = label


def get_label(pid: Pid) -> str | None:
    """Give the label of a process."""
    return pid.label


async def stop(dest: Pid | Name, reason: object = NORMAL, timeout_s: float | None = None) -> None:
    """Make a process end with `reason`, through its `terminate`, and wait until it has.

    Raises:
        ValueError: `timeout_s` is negative.
        NoProcessError: there is no such process.
        CallingSelfError: a process stops itself so, which would wait for ever.
        CallTimeoutError: it has not ended in time; it still will.
        ExitError: it ended with another reason.
    """
    if timeout_s is not None and timeout_s < 0:
        raise ValueError(f"timeout_s is {timeout_s}, below zero")
    pid = dest if isinstance(dest, Pid) else self_process().runtime.whereis(dest)
    asked = ("stop", reason)
    if pid is None or not pid.is_alive():
        raise _plain(NoProcessError(dest, asked), NOPROC)
    if pid is here.process:
        where = ("sys", "terminate", (pid, reason, timeout_s))
        raise _plain(CallingSelfError(dest, asked), ("calling_self", where))
    wait = ExitWait(pid)
    pid.post(Envelope((SYSTEM, ("terminate", reason), From(pid.runtime, pid, reason))))
    actual = await wait.within(timeout_s)
    if wait.timed_out:
        raise _plain(CallTimeoutError(dest, asked), "timeout")
    if actual != reason:
        raise ExitError(actual)


def _plain(error: CallError, reason: object) -> CallError:
    """Give the error of a `stop` the reason that OTP's has, which names no call."""
    error.reason = reason
    return error


def _spawn(body: Body, args: tuple[object, ...], *, link: bool = False) -> ProcPid:
    parent = self_process()
    pid = ProcPid(parent.runtime, parent, body, args)
    if link:
        parent.link(pid)
    return pid


def _begin(body: Body, args: tuple[object, ...], *, link: bool) -> Acknowledgement:
    pid = _spawn(body, args, link=link)
    wait = Acknowledgement(pid, linked=pid.parent if link else None)
    pid.rare.acknowledgement = wait
    return wait


async def _acknowledged(wait: Acknowledgement, timeout_s: float | None) -> Any:
    reason = await wait.within(timeout_s)
    if wait.acknowledged:
        return wait.value
    if wait.timed_out:
        wait.pid.exit_signal(wait.linked, KILL)
        await wait
        raise StartError("timeout")
    raise wait.failure if isinstance(wait.failure, StartError) else StartError(reason)


def _check(options: Collection[str], *allowed: str) -> None:
    for option in options:
        if option not in allowed:
            raise ValueError(f"{option!r} is none of the options {', '.join(allowed)}")
