"""Hibernation of a gen_server: a mark and nothing else, since an idle process is small anyway.

A hibernating server has `ASLEEP` where its timeout would be. Any message but one of sys takes that away, as it would
stop a timeout, so a server that does not hibernate pays nothing.
"""

from __future__ import annotations

from otp.envelope import IDLE
from otp.server_process import ASLEEP, ServerPid
from otp.timers import TimerRef

__all__ = ["AutoHibernatingPid"]


class _Doze:
    """Puts a server to sleep that has had nothing to do for a while."""

    __slots__ = ("pid", "timer")

    def __init__(self, pid: AutoHibernatingPid) -> None:
        self.pid = pid
        self.timer: TimerRef | None = None

    def expired(self) -> None:
        """The while is over."""
        if self.pid.timeout is self.timer:
            self.pid.timeout = ASLEEP


class AutoHibernatingPid(ServerPid):
    """The process of a server with `hibernate_after_s`; while another timeout runs, it stays awake."""

    __slots__ = ()

    def _rest(self) -> None:
        super()._rest()
        after_s = getattr(self.server, "hibernate_after_s", None)
        if self.status == IDLE and self.timeout is None and after_s is not None:
            doze = _Doze(self)
            self.timeout = doze.timer = self.runtime.timers.start(after_s, doze)
