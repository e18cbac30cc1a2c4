"""Runs a blocking library's calls in threads, one dedicated thread for each device that is busy.

A thread owns one connection and serves one device at a time. A call that overruns its deadline cannot be
stopped: its thread is abandoned with its connection, and the device's slot stays taken until the call has
returned, so that no second command can meet the first one at the device.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

from drivers.contract import BusyError, OutcomeUnknownError

__all__ = ["DeviceThreads"]

C = TypeVar("C")
T = TypeVar("T")


class _Job(Generic[C]):
    """A call, where its result goes, and the slot it holds."""

    __slots__ = ("call", "dispatched", "loop", "result", "slot")

    def __init__(
        self, slot: str, call: Callable[[C], object], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.slot = slot
        self.call = call
        self.loop = loop
        self.dispatched = False
        self.result: asyncio.Future[object] = loop.create_future()


class DeviceThreads(Generic[C]):
    """At most `limit` threads that have not been abandoned.

    Args:
        connect: makes a thread's connection; called in the thread before each call.
        disconnect: lets go of a connection, in the thread that owned it.
        limit: how many calls run at a time; more wait in order of arrival.
    """

    def __init__(
        self, connect: Callable[[C | None], C], disconnect: Callable[[C], None], limit: int
    ) -> None:
        self._connect = connect
        self._disconnect = disconnect
        self._limit = limit
        self._idle: list[_Worker[C]] = []
        self._working: dict[str, _Worker[C]] = {}  # by slot; abandoned ones too
        self._abandoned = 0
        self._waiting: deque[_Job[C]] = deque()

    @property
    def abandoned(self) -> int:
        """How many overrun calls have not returned yet."""
        return self._abandoned

    def taken(self, slot: str) -> bool:
        """Say whether a call runs in `slot`."""
        return slot in self._working

    async def run(self, slot: str, call: Callable[[C], T], deadline_s: float) -> T:
        """Run `call(connection)` in the thread of `slot`.

        Raises:
            BusyError: the slot is taken, or no thread became free in time: the call has not begun.
            OutcomeUnknownError: it overran; the slot stays taken until it returns.
        """
        if slot in self._working:
            raise BusyError(f"{slot}: an earlier call has not returned yet")
        loop = asyncio.get_running_loop()
        job: _Job[C] = _Job(slot, call, loop)
        timer = loop.call_later(deadline_s, self._overrun, job, deadline_s)
        self._waiting.append(job)
        self._dispatch()
        try:
            return await job.result  # type: ignore[return-value]
        finally:
            timer.cancel()
            # Where the waiter was killed, what it left behind is treated as an overrun.
            self._overrun(job, deadline_s)

    def close(self) -> None:
        """End the idle threads; the others end when their call returns."""
        for worker in self._idle:
            worker.end()
        for worker in self._working.values():
            self._abandon(worker)
        self._idle.clear()

    def _dispatch(self) -> None:
        while self._waiting and len(self._working) - self._abandoned < self._limit:
            job = self._waiting.popleft()
            if job.dispatched or job.result.done():
                continue
            job.dispatched = True
            if job.slot in self._working:
                job.result.set_exception(BusyError(f"{job.slot}: another call was first"))
                continue
            worker = self._idle.pop() if self._idle else _Worker(self._connect, self._disconnect)
            self._working[job.slot] = worker
            worker.begin(job, self._returned)

    def _returned(self, job: _Job[C], worker: _Worker[C], outcome: object) -> None:
        """In the loop: take a call's outcome."""
        del self._working[job.slot]
        if worker.abandoned:
            self._abandoned -= 1
        else:
            self._idle.append(worker)
        if not job.result.done():
            if isinstance(outcome, BaseException):
                job.result.set_exception(outcome)
            else:
                job.result.set_result(outcome)
        self._dispatch()

    def _overrun(self, job: _Job[C], deadline_s: float) -> None:
        worker = self._working.get(job.slot)
        if not job.dispatched:
            # It stays queued, and is skipped there because it has its answer.
            job.dispatched = True
            _fail(job, BusyError(f"{job.slot}: no thread free in {deadline_s:g} s"))
        elif worker is not None and worker.job is job and not worker.abandoned:
            self._abandon(worker)
            _fail(job, OutcomeUnknownError(f"{job.slot}: no answer in {deadline_s:g} s"))
            self._dispatch()

    def _abandon(self, worker: _Worker[C]) -> None:
        if not worker.abandoned:
            worker.abandoned = True
            self._abandoned += 1
            worker.end()


class _Worker(Generic[C]):
    """One thread with one connection."""

    def __init__(self, connect: Callable[[C | None], C], disconnect: Callable[[C], None]) -> None:
        self.abandoned = False
        self.job: _Job[C] | None = None
        self._connect = connect
        self._disconnect = disconnect
        self._queue: SimpleQueue[
            tuple[_Job[C], Callable[[_Job[C], _Worker[C], object], None]] | None
        ] = SimpleQueue()
        # A daemon: a call that never returns must not keep the process alive.
        threading.Thread(target=self._work, name="driver", daemon=True).start()

    def begin(self, job: _Job[C], returned: Callable[[_Job[C], _Worker[C], object], None]) -> None:
        self.job = job
        self._queue.put((job, returned))

    def end(self) -> None:
        """Let go of the connection and end after the call in hand."""
        self._queue.put(None)

    def _work(self) -> None:
        connection: C | None = None
        while (work := self._queue.get()) is not None:
            job, returned = work
            outcome: object
            try:
                connection = self._connect(connection)
                outcome = job.call(connection)
            except Exception as error:  # noqa: BLE001 - carried to the caller, whatever it is
                outcome = error
            if not job.loop.is_closed():
                job.loop.call_soon_threadsafe(returned, job, self, outcome)
        if connection is not None:
            self._disconnect(connection)


def _fail(job: _Job[C], error: Exception) -> None:
    if not job.result.done():
        job.result.set_exception(error)
