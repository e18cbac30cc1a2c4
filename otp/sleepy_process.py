"""The process of a server that hibernates when it has had nothing to do for a while."""

from __future__ import annotations

from otp.envelope import IDLE
from otp.server_process import ServerPid
from otp.server_timeouts import Hibernation

__all__ = ["SleepyPid"]


class SleepyPid(ServerPid):
    """The process of a server with `hibernate_after_s`: idle so long, it hibernates."""

    __slots__ = ()

    def doze(self) -> None:
        """The time is up."""
        self.timeout = Hibernation()

    def run(self, limit: int) -> int:
        """Handle up to `limit` messages."""
        handled = super().run(limit)
        self._await_doze()
        return handled

    def _rest(self) -> None:
        super()._rest()
        self._await_doze()

    def _await_doze(self) -> None:
        if self.status == IDLE and self.timeout is None:
            after_s: float = self.server.hibernate_after_s  # type: ignore[attr-defined]  # that is why it has this class
            self.timeout = self.runtime.timers.start(after_s, _Doze(self))


class _Doze:
    __slots__ = ("pid",)

    def __init__(self, pid: SleepyPid) -> None:
        self.pid = pid

    def expired(self) -> None:
        """Let the process hibernate."""
        self.pid.doze()
