"""An asyncio loop that is run in steps by another loop, in the same thread.

`SteppedLoop.fileno()` is readable whenever the loop has something to do: a socket, a timer, or work
that the last step left over. Its owner watches that file and calls `step` when it is readable.

The loop itself is asyncio's; only its selector differs. Where the loop would sleep, the selector arms
a timerfd that sits in the same epoll set, and leaves the loop by an exception: at that point asyncio has
nothing in hand, so a step can be ended there and the next one begun as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import selectors
import sys
import time

__all__ = ["SteppedLoop"]

BUDGET_S = 0.02  # of one step; then the owner's own messages get their turn
LINGER_S = 0.002  # waited for more work before a step ends: cheaper than a turn of the owner's loop
MIN_DELAY_S = 1e-9  # a timerfd set to zero is disarmed


class _WouldSleep(BaseException):
    """The loop has nothing to do now; raised where asyncio holds nothing that could get lost."""


class SteppedLoop(asyncio.SelectorEventLoop):
    """An asyncio loop for an owner that cannot give up its own loop, nor use a thread."""

    def __init__(self) -> None:
        self._stepper = _StepSelector()
        super().__init__(self._stepper)

    def fileno(self) -> int:
        """Return the file that is readable when `step` should be called."""
        return self._stepper.fileno()

    def step(self, budget_s: float = BUDGET_S, linger_s: float = LINGER_S) -> None:
        """Run until there is nothing to do, for `budget_s` at most; what is left wakes the owner at once."""
        self._stepper.begin(budget_s, linger_s)
        with contextlib.suppress(_WouldSleep):
            self.run_forever()


class _StepSelector(selectors.EpollSelector):
    def __init__(self) -> None:
        super().__init__()
        self._timer_fd = _timerfd_create()
        self._armed_until = 0.0  # monotonic; in the past: not armed
        self._until = self._linger_s = 0.0
        self.register(self._timer_fd, selectors.EVENT_READ)

    def begin(self, budget_s: float, linger_s: float) -> None:
        """Start a step that ends after `budget_s` at the latest."""
        self._until = time.monotonic() + budget_s
        self._linger_s = linger_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        now = time.monotonic()
        due = None if timeout is None else now + max(timeout, 0.0)
        if now >= self._until:
            self._arm(now, due)
            raise _WouldSleep
        if due is None or due > now + self._linger_s:
            wait_s, is_last = self._linger_s, True
        else:
            wait_s, is_last = due - now, False
        events = [ready for ready in super().select(wait_s) if not self._is_timer(ready[0])]
        if is_last and not events:
            self._arm(time.monotonic(), due)
            raise _WouldSleep
        return events

    def close(self) -> None:
        os.close(self._timer_fd)
        super().close()

    def _is_timer(self, key: selectors.SelectorKey) -> bool:
        if key.fd != self._timer_fd:
            return False
        with contextlib.suppress(BlockingIOError):
            os.read(self._timer_fd, 8)
        self._armed_until = 0.0
        return True

    def _arm(self, now: float, due: float | None) -> None:
        """Wake the owner at `due`, unless it is woken earlier anyway."""
        if due is None or now < self._armed_until <= due:
            return
        self._armed_until = due
        _timerfd_set(self._timer_fd, max(due - now, MIN_DELAY_S))


if sys.version_info >= (3, 13):

    def _timerfd_create() -> int:
        return os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)

    def _timerfd_set(fd: int, delay_s: float) -> None:
        os.timerfd_settime(fd, initial=delay_s)

else:
    _libc = ctypes.CDLL(None, use_errno=True)

    class _TimerSpec(ctypes.Structure):
        _fields_ = (  # struct itimerspec: interval, then first expiry
            ("interval_s", ctypes.c_long),
            ("interval_ns", ctypes.c_long),
            ("value_s", ctypes.c_long),
            ("value_ns", ctypes.c_long),
        )

    def _timerfd_create() -> int:
        # TFD_NONBLOCK and TFD_CLOEXEC are O_NONBLOCK and O_CLOEXEC. Source: timerfd_create(2).
        return _checked(_libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))

    def _timerfd_set(fd: int, delay_s: float) -> None:
        seconds = int(delay_s)
        spec = _TimerSpec(0, 0, seconds, max(int((delay_s - seconds) * 1e9), 1))
        _checked(_libc.timerfd_settime(fd, 0, ctypes.byref(spec), None))

    def _checked(result: int) -> int:
        if result < 0:
            error = ctypes.get_errno()
            raise OSError(error, f"timerfd: {os.strerror(error)}")
        return result
