"""timer: functions, messages and exits later, once or again and again; sleep and tc.

The n-th run of an interval is due at start + n * period, so delays do not add up; after a long stall the missed
runs follow at once. A function runs in a process of its own, so its crash hurts nobody else. Times are seconds of
the runtime's clock. For messages alone `otp.send_after` is the lighter one: its answer tells the time left.

Source: timer(3) of OTP 25 and, for apply_repeatedly, OTP 26.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from otp.address import Name
from otp.exit_reason import KILL
from otp.plain_process import PlainPid
from otp.process import Pid
from otp.runtime import Runtime
from otp.timers import TimerRef
from otp.waiting import Waiter, self_process

__all__ = [
    "Timer",
    "apply_after",
    "apply_interval",
    "apply_repeatedly",
    "cancel",
    "exit_after",
    "kill_after",
    "send_after",
    "send_interval",
    "sleep",
    "tc",
]

Function = Callable[..., object]  # an `async def` or not
Act = Callable[[], Pid | None]  # gives the process it has started, if that has to be waited for


class Timer:
    """Something that is to be done once; `cancel` takes one."""

    __slots__ = ("_act", "_running", "_runtime")

    def __init__(self, runtime: Runtime, act: Act, due: float) -> None:
        self._runtime = runtime
        self._act = act
        self._running: TimerRef | None = runtime.timers.start_at(due, self)

    def expired(self) -> None:
        """Do it."""
        self._running = None
        self._act()

    def stop(self) -> None:
        """Do it no more."""
        if self._running is not None:
            self._runtime.timers.cancel(self._running)
            self._running = None


class _Interval(Timer):
    """Done again and again as long as `keeper` lives."""

    __slots__ = ("_begun", "_keeper", "_period_s", "_runs", "_wait_for")

    def __init__(self, runtime: Runtime, act: Act, period_s: float, keeper: Pid | None) -> None:
        if not 0 < period_s < math.inf:
            raise ValueError(f"an interval of {period_s!r} s")
        self._begun = runtime.clock()
        self._period_s = period_s
        self._runs = 1  # the next one
        self._keeper = keeper
        self._wait_for: Pid | None = None
        super().__init__(runtime, act, self._begun + period_s)
        if keeper is None or not keeper.is_alive():
            self.stop()
        else:
            keeper.watch(self)

    def expired(self) -> None:
        """Do it once more, and set the time of the next run."""
        self._running = None
        self._runs += 1
        try:
            self._wait_for = self._act()
        finally:
            if self._wait_for is None:
                self._go_on()
            else:
                self._wait_for.watch(self)

    def ended(self, pid: Pid, reason: object) -> None:
        """Stop with the keeper; after a run that had to be waited for, go on."""
        if pid is self._keeper:
            self._keeper = None
            self.stop()
        elif pid is self._wait_for:
            self._wait_for = None
            self._go_on()

    def stop(self) -> None:
        """Do it no more; a run that is under way goes on."""
        super().stop()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.unwatch(self)
        waited, self._wait_for = self._wait_for, None
        if waited is not None:
            waited.unwatch(self)

    def _go_on(self) -> None:
        if self._keeper is not None:  # its action may have ended the keeper
            due = self._begun + self._runs * self._period_s
            self._running = self._runtime.timers.start_at(due, self)


def apply_after(delay_s: float, function: Function, *args: object) -> Timer:
    """Run `function(*args)` in a new process after `delay_s` seconds, also if the caller has ended by then."""
    return _once(delay_s, lambda runtime: _run(runtime, function, args))


def send_after(delay_s: float, dest: Pid | Name, message: object) -> Timer:
    """Send `message` after `delay_s` seconds; a name is looked up then."""
    return _once(delay_s, lambda runtime: _send(runtime, dest, message))


def exit_after(delay_s: float, dest: Pid | Name, reason: object) -> Timer:
    """Send the exit signal `reason` after `delay_s` seconds; a name is looked up then."""
    return _once(delay_s, lambda runtime: _exit(runtime, dest, reason))


def kill_after(delay_s: float, dest: Pid | Name | None = None) -> Timer:
    """Kill `dest`, or the caller, after `delay_s` seconds."""
    return exit_after(delay_s, self_process() if dest is None else dest, KILL)


def apply_interval(period_s: float, function: Function, *args: object) -> Timer:
    """Run `function(*args)` in a new process every `period_s` seconds, until the caller ends.

    A run that takes longer than that overlaps the next one: see `apply_repeatedly`.

    Raises:
        ValueError: `period_s` is not positive.
    """
    me = self_process()
    runtime = me.runtime

    def run() -> None:
        _run(runtime, function, args)

    return _Interval(runtime, run, period_s, me)


def apply_repeatedly(period_s: float, function: Function, *args: object) -> Timer:
    """Run `function(*args)` as `apply_interval` does, each run only when the last has ended.

    Runs that are late by then follow at once, until they have caught up.
    """
    me = self_process()
    runtime = me.runtime
    return _Interval(runtime, lambda: _run(runtime, function, args), period_s, me)


def send_interval(period_s: float, dest: Pid | Name, message: object) -> Timer:
    """Send `message` every `period_s` seconds, until the process that is `dest` now ends.

    Raises:
        ValueError: `period_s` is not positive.
    """
    runtime = self_process().runtime
    keeper = dest if isinstance(dest, Pid) else runtime.whereis(dest)
    return _Interval(runtime, lambda: _send(runtime, dest, message), period_s, keeper)


def cancel(timer: Timer) -> None:
    """Stop a timer; one that is over already is fine.

    Raises:
        TypeError: it is none of this module.
    """
    if not isinstance(timer, Timer):
        raise TypeError(f"timer.cancel takes what this module gave, not {timer!r:.200}")
    timer.stop()


async def sleep(duration_s: float) -> None:
    """Let the calling process wait; its messages wait too. `INFINITY` is for ever."""
    runtime = self_process().runtime
    waiting = _Sleep(runtime)
    running = None if duration_s == math.inf else runtime.timers.start(duration_s, waiting)
    try:
        await waiting
    finally:
        if running is not None:
            runtime.timers.cancel(running)


async def tc(function: Function, *args: object) -> tuple[float, Any]:
    """Run `function(*args)` in the calling process; the seconds it took, and its result."""
    clock = self_process().runtime.clock
    begun = clock()
    result = function(*args)
    if isinstance(result, Awaitable):
        result = await result
    return clock() - begun, result


class _Sleep(Waiter):
    __slots__ = ()

    def __await__(self) -> Any:
        yield from self.wait()

    def expired(self) -> None:
        """Wake up."""
        self.finish()


def _once(delay_s: float, act: Callable[[Runtime], object]) -> Timer:
    runtime = self_process().runtime

    def once() -> None:
        act(runtime)

    return Timer(runtime, once, runtime.clock() + max(0.0, delay_s))


def _run(runtime: Runtime, function: Function, args: tuple[object, ...]) -> Pid:
    pid = PlainPid(runtime, None, _applied, (function, args))
    pid.initial_call = getattr(function, "__qualname__", repr(function))
    return pid


async def _applied(function: Function, args: tuple[object, ...]) -> None:
    result = function(*args)
    if isinstance(result, Awaitable):
        await result


def _find(runtime: Runtime, dest: Pid | Name) -> Pid | None:
    return dest if isinstance(dest, Pid) else runtime.whereis(dest)


def _send(runtime: Runtime, dest: Pid | Name, message: object) -> None:
    pid = _find(runtime, dest)
    if pid is not None:
        pid.send(message)


def _exit(runtime: Runtime, dest: Pid | Name, reason: object) -> None:
    pid = _find(runtime, dest)
    if pid is not None:
        pid.exit_signal(None, reason)
