"""What can be asked about a process from outside it: OTP's process_info, the items that exist here."""

from __future__ import annotations

from dataclasses import dataclass

from otp.address import Name
from otp.envelope import READY, RUNNING, WAITING
from otp.process import Pid

__all__ = ["ProcessInfo", "process_info"]

_STATUS = {READY: "runnable", RUNNING: "running", WAITING: "waiting"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """One look at a living process."""

    pid: Pid
    registered_name: str | None
    initial_call: str
    status: str  # runnable, running, or waiting: for a message or within a callback
    message_queue_len: int
    links: tuple[Pid, ...]
    monitors: tuple[Pid | Name, ...]  # whom it monitors
    monitored_by: tuple[Pid, ...]
    trap_exit: bool
    parent: Pid | None
    reductions: int  # messages handled


def process_info(pid: Pid) -> ProcessInfo | None:
    """Look at `pid`; None when it has ended."""
    if not pid.is_alive():
        return None
    return ProcessInfo(
        pid=pid,
        registered_name=pid.name,
        initial_call=pid.initial_call,
        status=_STATUS.get(pid.status, "waiting"),
        message_queue_len=pid.queue_length(),
        links=pid.linked(),
        monitors=pid.monitoring(),
        monitored_by=pid.monitored_by(),
        trap_exit=pid.trapping,
        parent=pid.parent,
        reductions=pid.reductions,
    )
