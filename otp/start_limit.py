"""What goes with an `init` that waits: a limit of time, and a monitor that starts with it."""

from __future__ import annotations

from typing import TypeVar

from otp.bounded_text import bounded_text
from otp.errors import StartError
from otp.exit_reason import KILLED
from otp.process import Pid, Ref
from otp.waiting import self_process

__all__ = ["limit_init", "monitor_start", "startable"]

AnyT = TypeVar("AnyT")


def startable(instance: AnyT) -> AnyT:
    """Give `instance` back if it can be started.

    Raises:
        TypeError: it is a class, or nothing of the kind.
    """
    if isinstance(instance, type):
        raise TypeError(f"an instance is started, not a class: {instance.__qualname__}(…)")
    if not hasattr(instance, "start_in"):
        raise TypeError(
            f"{bounded_text(instance)} is no behaviour's instance and cannot be started"
        )
    return instance


class _StartLimit:
    """Kills a process whose init takes too long."""

    __slots__ = ("pid",)

    def __init__(self, pid: Pid) -> None:
        self.pid = pid

    def expired(self) -> None:
        """The time is up."""
        if self.pid.initialising and self.pid.is_alive():
            self.pid.rare.start_error = StartError("timeout")
            self.pid.die(KILLED)


def limit_init(pid: Pid, timeout_s: float | None) -> Pid:
    """Kill `pid` unless its init is over after `timeout_s`; who awaits it gets `StartError("timeout")`."""
    if timeout_s is not None and pid.initialising:
        pid.runtime.timers.start(timeout_s, _StartLimit(pid))
    return pid


class _StartMonitor(Ref):
    """Says nothing when the start fails: who awaits the pid hears that from there."""

    __slots__ = ()

    def ended(self, pid: Pid, reason: object) -> None:
        """Deliver the `Down`, or forget the monitor."""
        starting = pid.rare.starting
        if starting is not None and starting.awaited():
            self.target = None
            self.owner.rare.monitors.pop(self, None)
        else:
            super().ended(pid, reason)


def monitor_start(pid: Pid) -> Ref:
    """Monitor for the calling process `pid`, which it has just started and whose init may still wait."""
    me = self_process()
    ref = _StartMonitor(me, pid, pid)
    if not pid.is_alive():  # what init asked for has ended it already
        Ref.ended(ref, pid, pid.exit_reason)
        return ref
    me.rare.monitors[ref] = None
    pid.watch(ref)
    return ref
