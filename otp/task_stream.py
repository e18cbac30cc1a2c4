"""task_stream: one task for each item, a bounded number at once, outcomes in order.

    async for outcome in async_stream("tasks", urls, fetch, max_concurrency=10):
        ...  # TaskOk(value), or TaskExit(reason)

Nothing is left in the consumer's mailbox. When the consumer drops the stream or ends, the tasks under way are stopped.

Source: Task.Supervisor.async_stream of Elixir 1.18.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypedDict, Unpack

from otp import task_supervisor
from otp.address import Name
from otp.child_spec import BRUTAL_KILL, Shutdown
from otp.envelope import EXIT
from otp.errors import OtpError
from otp.exit_reason import KILL, SHUTDOWN
from otp.process import Pid
from otp.task import Outcome, Task, TaskExit, TaskOk, TaskTimeoutError, Work
from otp.timers import TimerRef
from otp.waiting import Waiter, self_process

__all__ = ["OnTimeout", "StreamOptions", "TaskStream", "async_stream", "async_stream_nolink"]


class OnTimeout(Enum):
    """What becomes of a task that takes longer than `timeout_s`."""

    EXIT = "exit"  # it is killed, and the consumer gets a TaskTimeoutError
    KILL_TASK = "kill_task"  # it is killed, and its outcome is TaskExit("timeout")


class StreamOptions(TypedDict, total=False):
    """How a stream runs its tasks."""

    max_concurrency: int  # how many tasks at once; as many as there are CPUs by default
    ordered: bool  # outcomes in the order of the items, the default, or as they come
    timeout_s: float | None  # how long each task may take, 5 s by default; None is for ever
    on_timeout: OnTimeout  # EXIT by default
    zip_input_on_exit: bool  # give TaskExit((item, reason)); off by default
    shutdown_s: Shutdown  # as in a child spec


def async_stream(
    supervisor: Pid | Name, items: Iterable[Any], function: Work, **options: Unpack[StreamOptions]
) -> TaskStream:
    """Give the outcome of `function(item)` for each item, which is read only when its task is begun.

    The tasks are linked to the consumer: one that fails ends it too, unless it traps exits.

    Raises:
        ValueError: an option is not valid.
        TaskTimeoutError: (when consumed) a task was too slow, unless those are only killed.
        MaxChildrenError: (when consumed) the supervisor has enough tasks; those of this stream are stopped.
    """
    return TaskStream(_Flow(supervisor, iter(items), function, _Options(**options), linked=True))


def async_stream_nolink(
    supervisor: Pid | Name, items: Iterable[Any], function: Work, **options: Unpack[StreamOptions]
) -> TaskStream:
    """Do as `async_stream` does, but a failing task leaves the consumer alone."""
    return TaskStream(_Flow(supervisor, iter(items), function, _Options(**options), linked=False))


class TaskStream(AsyncIterator[Outcome]):
    """The outcomes to come, for one process; `async with` stops it early, and so does letting go of it."""

    __slots__ = ("_flow",)

    def __init__(self, flow: _Flow) -> None:
        self._flow = flow

    def __del__(self) -> None:
        self._flow.stop()

    async def __aenter__(self) -> TaskStream:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.stop()

    def __aiter__(self) -> TaskStream:
        return self

    async def __anext__(self) -> Outcome:
        return await self._flow.next()

    def stop(self) -> None:
        """Stop the tasks under way and begin no more."""
        self._flow.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    max_concurrency: int = field(default_factory=lambda: os.cpu_count() or 1)
    ordered: bool = True
    timeout_s: float | None = 5.0
    on_timeout: OnTimeout = OnTimeout.EXIT
    zip_input_on_exit: bool = False
    shutdown_s: Shutdown = 5.0

    def __post_init__(self) -> None:
        if not isinstance(self.max_concurrency, int) or self.max_concurrency < 1:
            raise ValueError(f"max_concurrency is {self.max_concurrency!r}, not a number >= 1")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise ValueError(f"timeout_s is {self.timeout_s!r}, not above zero")
        if not isinstance(self.on_timeout, OnTimeout):
            raise ValueError(f"on_timeout is {self.on_timeout!r}, no OnTimeout")  # noqa: TRY004 - as the others


class _Item:
    """One task of a stream."""

    __slots__ = ("outcome", "task", "timed_out", "timer", "value")

    def __init__(self, task: Task, value: object) -> None:
        self.task = task
        self.value = value
        self.outcome: Outcome | None = None
        self.timed_out = False
        self.timer: TimerRef | None = None


class _Deadline:
    __slots__ = ("_flow", "_item")

    def __init__(self, flow: _Flow, item: _Item) -> None:
        self._flow = flow
        self._item = item

    def expired(self) -> None:
        """The task has had its time."""
        self._flow.timed_out(self._item)


class _Wait(Waiter):
    __slots__ = ()

    def __await__(self) -> Any:
        yield from self.wait()


class _Flow:
    """What happens behind a `TaskStream`; apart from it, so that nothing but its user holds the stream."""

    def __init__(
        self,
        supervisor: Pid | Name,
        items: Iterator[Any],
        function: Work,
        options: _Options,
        *,
        linked: bool,
    ) -> None:
        self._supervisor = supervisor
        self._items = items
        self._function = function
        self._options = options
        self._begin = task_supervisor.async_ if linked else task_supervisor.async_nolink
        self._owner: Pid | None = None
        self._running: dict[Task, _Item] = {}
        self._order: deque[_Item] = deque()  # to be handed out next: as begun, or as ended
        # A task that has ended keeps its slot until its outcome is taken, or the consumer waits for another one:
        # a slow consumer is not flooded, and one slow task does not hold up the others.
        self._slots: set[_Item] = set()
        self._exhausted = False
        self._wait: _Wait | None = None

    async def next(self) -> Outcome:
        """Give the next outcome; see `TaskStream`."""
        owner = self_process()
        if self._owner is None:
            self._owner = owner
            owner.watch(self)
        if self._owner is not owner:
            raise OtpError("a task stream belongs to the process that first took from it")
        try:
            return await self._next(owner)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the tasks under way and begin no more."""
        self._exhausted = True
        self._order.clear()
        if self._owner is not None:
            self._owner.unwatch(self)
        for item in list(self._running.values()):
            self._let_go(item, KILL if self._options.shutdown_s is BRUTAL_KILL else SHUTDOWN)

    # What timers and processes tell.

    def timed_out(self, item: _Item) -> None:
        """The item's task has had its time."""
        self._let_go(item, KILL)
        item.timed_out = True
        self._note(item, TaskExit("timeout"))

    def completed(self, task: Task) -> None:
        """The task has an outcome."""
        item = self._running.pop(task)
        _stop_timer(item)
        _unlink(task)
        assert task.outcome is not None
        self._note(item, task.outcome)

    def ended(self, pid: Pid, reason: object) -> None:
        """The consumer has ended."""
        self.stop()

    async def _next(self, owner: Pid) -> Outcome:
        while True:
            await self._fill(owner)
            if self._order and self._order[0].outcome is not None:
                item = self._order.popleft()
                self._slots.discard(item)
                return self._hand_out(item, self._options)
            if not self._running:
                raise StopAsyncIteration
            ended = {item for item in self._slots if item.outcome is not None}
            if ended:
                self._slots -= ended
                continue
            self._wait = _Wait(owner.runtime)
            await self._wait
            self._wait = None

    async def _fill(self, owner: Pid) -> None:
        while not self._exhausted and len(self._slots) < self._options.max_concurrency:
            try:
                value = next(self._items)
            except StopIteration:
                self._exhausted = True
                return
            shutdown_s = self._options.shutdown_s
            task = await self._begin(self._supervisor, self._function, value, shutdown_s=shutdown_s)
            self._track(owner, _Item(task, value))

    def _track(self, owner: Pid, item: _Item) -> None:
        self._running[item.task] = item
        self._slots.add(item)
        if self._options.ordered:
            self._order.append(item)
        if item.task.outcome is not None:  # it was over before the supervisor had answered
            item.task.ignore()
            self.completed(item.task)
            return
        item.task.notify = self.completed
        if self._options.timeout_s is not None:
            timers = owner.runtime.timers
            item.timer = timers.start(self._options.timeout_s, _Deadline(self, item))

    def _note(self, item: _Item, outcome: Outcome) -> None:
        item.outcome = outcome
        if not self._options.ordered:
            self._order.append(item)
        if self._wait is not None:
            self._wait.finish()

    def _hand_out(self, item: _Item, options: _Options) -> Outcome:
        outcome = item.outcome
        assert outcome is not None
        if isinstance(outcome, TaskOk):
            return outcome
        if item.timed_out and options.on_timeout is OnTimeout.EXIT:
            raise TaskTimeoutError(item.task, options.timeout_s)
        return TaskExit((item.value, outcome.reason)) if options.zip_input_on_exit else outcome

    def _let_go(self, item: _Item, reason: str) -> None:
        del self._running[item.task]
        _stop_timer(item)
        item.task.notify = None
        item.task.ignore()
        _unlink(item.task)
        item.task.pid.exit_signal(item.task.owner, reason)


def _stop_timer(item: _Item) -> None:
    timer, item.timer = item.timer, None
    if timer is not None:
        item.task.owner.runtime.timers.cancel(timer)


def _unlink(task: Task) -> None:
    """Take the link away, and the Exit that a consumer which traps exits has got by it."""
    owner = task.owner
    owner.unlink(task.pid)
    if owner.trapping:
        for envelope in list(owner.queued()):
            if envelope[0] == EXIT and envelope[1].pid is task.pid:
                owner.remove(envelope)
