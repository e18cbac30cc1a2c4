"""How long an `init` that waits may take."""

from __future__ import annotations

from otp.errors import StartError
from otp.exit_reason import KILLED
from otp.process import Pid

__all__ = ["limit_init"]


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
