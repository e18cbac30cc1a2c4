"""What stands in a server's process for a timeout or hibernation that is under way."""

from __future__ import annotations

from typing import Protocol

from otp.timers import TimerRef

__all__ = ["Hibernation", "TimeoutMessage"]


class Timed(Protocol):
    """A process, as this module sees it."""

    def time_is_up(self, message: object) -> None: ...


class TimeoutMessage:
    """Brings the message of a `Timeout` that has one."""

    __slots__ = ("message", "server")

    def __init__(self, server: Timed, message: object) -> None:
        self.server = server
        self.message = message

    def expired(self) -> None:
        """The time of a `Timeout` with a message is up."""
        self.server.time_is_up(self.message)


class Hibernation(TimerRef):
    """Stands where a timeout does while the process hibernates; `timer` ends that with a message."""

    __slots__ = ("timer",)

    def __init__(self, timer: TimerRef | None = None) -> None:
        self.timer = timer
