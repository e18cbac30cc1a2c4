"""Test support: a runtime on a virtual clock, so that nothing sleeps and every run is the same.

    def test_counter_counts():
        runtime = VirtualRuntime()
        counter = runtime.start(Counter(0))
        counter.cast(1)
        runtime.advance(60.0)
        assert counter.call("get") == 1

`VirtualRuntime(seed=n)` also shuffles the order in which ready processes run; equal seeds give equal runs.
Threads (`run_in_executor`) and real sockets are not waited for.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections import deque
from collections.abc import Awaitable
from random import Random
from typing import Any, TypeVar

from otp.address import Name
from otp.errors import OtpError
from otp.runtime import Pid, Runtime, RuntimeStats, Startable

__all__ = ["Handle", "VirtualRuntime"]

ResultT = TypeVar("ResultT")


class Handle:
    """A process under a `VirtualRuntime`, for the test: calls answer synchronously."""

    __slots__ = ("pid", "virtual")

    def __init__(self, virtual: VirtualRuntime, pid: Pid) -> None:
        self.virtual = virtual
        self.pid = pid

    def __repr__(self) -> str:
        return repr(self.pid)

    def cast(self, request: object) -> None:
        """Cast; it is handled when the runtime next runs."""
        self.pid.cast(request)

    def send(self, message: object) -> None:
        """Send a raw message."""
        self.pid.send(message)

    def call(self, request: object, timeout_s: float | None = 5.0) -> Any:
        """Call and run until the answer is there; virtual time passes if the server waits."""
        return self.virtual.run(self.pid.call(request, timeout_s))

    def exit(self, reason: object) -> None:
        """Send an exit signal."""
        self.pid.exit_signal(None, reason)

    def is_alive(self) -> bool:
        """Tell whether the process has not ended."""
        return self.pid.is_alive()


class VirtualRuntime:
    """A runtime whose time passes only in `advance` and while `run` or a handle's `call` waits.

    Args:
        seed: shuffles the run queue by this seed; None runs processes in order.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._selector = _VirtualSelector()
        self._loop = _VirtualLoop(self._selector)
        queue: deque[Pid] | None = None if seed is None else _ShuffledQueue(seed)
        self.runtime = Runtime(
            loop=self._loop, turn_s=math.inf, turn_messages=1000, run_queue=queue
        )
        self.reports = self.runtime.reports

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The virtual loop."""
        return self._loop

    def clock(self) -> float:
        """Virtual seconds."""
        return self._selector.now

    def start(self, server: Startable, name: Name | None = None) -> Handle:
        """Start `server`, wait for its init, and run what it began."""
        pid = self.run(self.runtime.start_wait(server, name))
        self.run_until_idle()
        return Handle(self, pid)

    def handle(self, pid: Pid) -> Handle:
        """Wrap a pid."""
        return Handle(self, pid)

    def stats(self) -> RuntimeStats:
        """Count."""
        return self.runtime.stats()

    def run_until_idle(self) -> None:
        """Handle everything that can be handled without time passing."""
        self.advance(0.0)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, firing timers in order on the way."""
        self._selector.until = self._selector.now + seconds
        self._loop.run_forever()
        self._selector.now = self._selector.until

    def run(self, awaitable: Awaitable[ResultT]) -> ResultT:
        """Run plain asyncio code or a call to its end, letting time pass as it needs.

        Raises:
            OtpError: nothing is left that could ever wake it.
        """
        self._selector.until = math.inf
        task = self._loop.create_task(_awaited(awaitable))
        task.add_done_callback(lambda _: self._loop.stop())
        self._loop.run_forever()
        if not task.done():
            task.cancel()
            self.run_until_idle()
            raise OtpError("deadlock: nothing is left that could wake the awaited code")
        return task.result()

    def close(self) -> None:
        """Kill every process and close the loop."""
        for pid in list(self.runtime.processes()):
            pid.exit_signal(None, "kill")
        self.run_until_idle()
        self._loop.close()


async def _awaited(awaitable: Awaitable[ResultT]) -> ResultT:
    return await awaitable


class _VirtualSelector(selectors.SelectSelector):
    """Never waits: where a real one would sleep, it moves the clock on, or stops the loop at `until`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.until = 0.0
        self.loop: asyncio.AbstractEventLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Answer at once."""
        if timeout is None or self.now + timeout > self.until:
            assert self.loop is not None
            self.loop.stop()
        else:
            self.now += max(0.0, timeout)
        return super().select(0)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, selector: _VirtualSelector) -> None:
        self._virtual = selector
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        """Virtual seconds."""
        return self._virtual.now


class _ShuffledQueue(deque[Pid]):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = Random(seed)

    def popleft(self) -> Pid:
        """Take any one."""
        skipped = self._random.randrange(len(self))
        self.rotate(-skipped)
        pid = super().popleft()
        self.rotate(skipped)
        return pid
