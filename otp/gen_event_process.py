"""The process of an event manager: a server's, with a mark for hibernation.

What it does with events and handlers is in `otp.gen_event_manager`.

Source: gen_event(3) of OTP 25 to 27.
"""

from __future__ import annotations

from otp.envelope import IDLE, READY
from otp.process import Pid
from otp.runtime import Runtime
from otp.server_process import Server, ServerPid
from otp.timers import TimerRef

__all__ = ["EventPid"]


class _Sleep:
    """Lets a manager hibernate that has had nothing to do for a while."""

    __slots__ = ("pid",)

    def __init__(self, pid: EventPid) -> None:
        self.pid = pid

    def expired(self) -> None:
        """The while is over."""
        self.pid.sleep = None
        self.pid.hibernate = True


class EventPid(ServerPid):
    """The process of an event manager. Hibernation costs and saves nothing here: it can only be seen."""

    __slots__ = ("hibernate", "hibernate_after_s", "sleep")

    def __init__(
        self,
        runtime: Runtime,
        parent: Pid | None,
        manager: Server,
        hibernate_after_s: float | None,
    ) -> None:
        super().__init__(runtime, parent, manager)
        self.hibernate = False  # as soon as nothing is left to do
        self.hibernate_after_s = hibernate_after_s
        self.sleep: TimerRef | None = None

    @property
    def hibernated(self) -> bool:
        """Tell whether it waits for a message in hibernation."""
        return self.status == IDLE and self.hibernate

    def run(self, limit: int) -> int:
        """Handle up to `limit` messages; system messages leave the hibernation as it is."""
        if self.status == READY:
            self._stop_sleep()
        handled = super().run(limit)
        self._start_sleep()
        return handled

    def release(self) -> None:
        """Drop everything."""
        self._stop_sleep()
        super().release()

    def _rest(self) -> None:
        super()._rest()
        self._start_sleep()

    def _start_sleep(self) -> None:
        idle = self.status == IDLE and not self.hibernate
        if self.hibernate_after_s is not None and idle and self.sleep is None:
            self.sleep = self.runtime.timers.start(self.hibernate_after_s, _Sleep(self))

    def _stop_sleep(self) -> None:
        if self.sleep is not None:
            self.runtime.timers.cancel(self.sleep)
            self.sleep = None
