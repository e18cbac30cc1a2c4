"""The time-outs of one gen_statem: at most one of each type, those of zero in the order they were set.

A type is "timeout", "state_timeout" or ("timeout", name). Zero time-outs become events as soon as no other event waits
inside the machine; the others come as messages. One that was replaced or cancelled never shows up.

Source: gen_statem(3) of OTP 25 to 27, checked against a running OTP 25.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import isnan
from typing import Any, Final

from otp.child_spec import INFINITY
from otp.envelope import TIMER, Envelope
from otp.gen_statem_results import (
    CANCEL,
    STATE_TIMEOUT,
    TIMEOUT,
    UPDATE,
    EventTimeout,
    NamedTimeout,
    StateTimeout,
)
from otp.process import Pid
from otp.timers import TimerRef

__all__ = ["TimeoutAction", "Timeouts", "is_valid", "timeout_type"]

TimeoutAction = EventTimeout | StateTimeout | NamedTimeout


class RunningTimeout:
    """One time-out that is under way. `timer` is None for zero, and `fired` once its message is in the mailbox."""

    __slots__ = ("content", "pid", "timer", "type")

    def __init__(self, pid: Pid, kind: Any, content: object) -> None:
        self.pid = pid
        self.type = kind
        self.content = content
        self.timer: TimerRef | None = None

    def expired(self) -> None:
        """Its time is up."""
        self.pid.post(Envelope((TIMER, self)))


class Timeouts:
    """All time-outs of one machine."""

    __slots__ = ("_pid", "_running", "_zero")

    def __init__(self, pid: Pid) -> None:
        self._pid = pid
        self._running: dict[Any, RunningTimeout] = {}
        self._zero: list[RunningTimeout] = []

    def __iter__(self) -> Iterator[tuple[Any, object]]:
        """Go through the types with their contents."""
        return ((each.type, each.content) for each in self._running.values())

    @property
    def has_zero(self) -> bool:
        """Tell whether a zero time-out waits to become an event."""
        return bool(self._zero)

    def take_zero(self) -> tuple[Any, object]:
        """Take the oldest zero time-out as an event."""
        first = self._zero.pop(0)
        del self._running[first.type]
        return first.type, first.content

    def take(self, expired: RunningTimeout) -> tuple[Any, object] | None:
        """Take a time-out whose message has come, as an event; None if it was cancelled or replaced."""
        if self._running.get(expired.type) is not expired:
            return None
        del self._running[expired.type]
        return expired.type, expired.content

    def cancel(self, kind: Any) -> None:
        """Stop the time-out of that type, if there is one."""
        if not self._running:
            return
        running = self._running.pop(kind, None)
        if running is None:
            return
        if running.timer is None:
            self._zero.remove(running)
        else:
            self._pid.runtime.timers.cancel(running.timer)

    def stop(self) -> None:
        """Let none of them fire any more; they can still be listed."""
        for running in self._running.values():
            if running.timer is not None:
                self._pid.runtime.timers.cancel(running.timer)

    def clear(self) -> None:
        """Stop and forget them all."""
        for kind in list(self._running):
            self.cancel(kind)

    def set(
        self, actions: Iterable[TimeoutAction], note: Callable[[TimeoutAction], None] | None
    ) -> None:
        """Take time-out actions in the order listed; of each type the last one counts.

        Args:
            actions: valid ones.
            note: is told of each that starts.
        """
        last: dict[Any, TimeoutAction] = {}
        for action in actions:
            kind = timeout_type(action)
            last.pop(kind, None)
            last[kind] = action
        # OTP starts the last listed first, which shows when several run out together; zero ones keep their order.
        zero: list[RunningTimeout] = []
        for kind, action in reversed(last.items()):
            self._set_one(kind, action, zero, note)
        self._zero.extend(reversed(zero))

    def _set_one(
        self,
        kind: Any,
        action: TimeoutAction,
        zero: list[RunningTimeout],
        note: Callable[[TimeoutAction], None] | None,
    ) -> None:
        time = action.time
        if time == UPDATE:
            if kind in self._running:
                self._running[kind].content = action.content
                return
            time = 0.0
        self.cancel(kind)
        if time in (CANCEL, INFINITY):
            return
        assert not isinstance(time, str)
        running = self._running[kind] = RunningTimeout(self._pid, kind, action.content)
        if note is not None:
            note(action)
        if time == 0:
            zero.append(running)
            return
        runtime = self._pid.runtime
        after_s = time - runtime.clock() if action.absolute else time
        running.timer = runtime.timers.start(after_s, running)


def timeout_type(action: TimeoutAction) -> Any:
    """Name the type of event that a time-out brings."""
    if isinstance(action, NamedTimeout):
        return (TIMEOUT, action.name)
    return TIMEOUT if isinstance(action, EventTimeout) else STATE_TIMEOUT


def is_valid(action: TimeoutAction) -> bool:
    """Tell whether the time is one, and the name, if there is one, can be told from others."""
    if isinstance(action, NamedTimeout) and not _has_hash(action.name):
        return False
    time = action.time
    if isinstance(time, str):
        return time in (CANCEL, UPDATE)
    if isinstance(time, bool) or not isinstance(time, _NUMBERS):
        return False
    try:
        return not isnan(time) and (time >= 0 or action.absolute)
    except OverflowError:  # a whole number beyond any clock
        return False


def _has_hash(name: object) -> bool:
    try:
        hash(name)
    except TypeError:
        return False
    return True


_NUMBERS: Final = (int, float)
