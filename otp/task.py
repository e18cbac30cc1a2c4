"""task: one function in a process of its own, whose result somebody wants.

    task = async_(fetch, "page")      # linked: if either fails, both do
    ...
    page = await task.await_(timeout_s=5.0)

The owner is the process that began the task. It awaits the result, or does nothing and gets one message: `TaskDone`,
or a `Down` whose `ref` is the task. A task awaited in time leaves no message behind.

Source: task.ex of Elixir 1.18. Unlike there no `Down` follows a result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otp.child_spec import BRUTAL_KILL, Shutdown
from otp.envelope import INFO, Envelope
from otp.errors import ExitError, OtpError
from otp.exit_reason import KILL, KILLED, NOPROC, SHUTDOWN
from otp.plain_process import PlainPid
from otp.process import Down, Pid, Ref
from otp.waiting import ExitWait, Waiter, here, self_process

if TYPE_CHECKING:  # a cycle of types only
    from otp.runtime import Runtime

__all__ = [
    "Outcome",
    "Task",
    "TaskDone",
    "TaskError",
    "TaskExit",
    "TaskOk",
    "TaskTimeoutError",
    "async_",
    "callers",
    "spawn_task",
]

Work = Callable[..., object]


class TaskError(ExitError):
    """The awaited task ended with `cause` and without a result. Uncaught, it ends the owner as in Elixir."""

    def __init__(self, cause: object, task: object, timeout_s: float | None) -> None:
        super().__init__((cause, ("task", "await", (task, timeout_s))))
        self.cause = cause


class TaskTimeoutError(TaskError):
    """The result did not come in time; it is dropped when it comes."""

    def __init__(self, task: object, timeout_s: float | None) -> None:
        super().__init__("timeout", task, timeout_s)


@dataclass(frozen=True, slots=True)
class TaskOk:
    """The task has returned `value`."""

    value: Any


@dataclass(frozen=True, slots=True)
class TaskExit:
    """The task has ended with `reason` and without a result."""

    reason: object


Outcome = TaskOk | TaskExit


@dataclass(frozen=True, slots=True)
class TaskDone:
    """Message to the owner of a task that nobody awaits: it has returned `value`."""

    task: Task
    value: Any


class TaskPid(PlainPid):
    """The process of a task."""

    __slots__ = ("callers",)

    callers: tuple[Pid, ...]


class Task(Ref):
    """A task under way; it is also its owner's monitor of the process, see `otp.erlang.demonitor`."""

    __slots__ = ("_envelope", "_waiting", "notify", "outcome", "pid")

    def __init__(self, owner: Pid) -> None:
        super().__init__(owner, None, owner)
        self.pid: Pid = owner  # until `begin`
        self.outcome: Outcome | None = None
        self.notify: Callable[[Task], None] | None = (
            None  # a stream takes outcomes in place of the mailbox
        )
        self._waiting: _TaskWait | None = None
        self._envelope: Envelope | None = None

    def __repr__(self) -> str:
        return f"<task {self.pid!r} of {self.owner!r}>"

    # What the owner calls.

    async def await_(self, timeout_s: float | None = 5.0) -> Any:
        """Wait for the result; None waits for ever.

        Raises:
            TaskTimeoutError: it is late; it will not come any more.
            TaskError: the task has ended without one.
            OtpError: the caller is not the owner.
        """
        outcome = await self.yield_(timeout_s)
        if isinstance(outcome, TaskOk):
            return outcome.value
        if outcome is None:
            self.ignore()
            raise TaskTimeoutError(self, timeout_s)
        raise TaskError(outcome.reason, self, timeout_s)

    async def yield_(self, timeout_s: float | None = 5.0) -> Outcome | None:
        """Wait for the outcome; None when it is late, and then one may ask again."""
        self._check_owner()
        if self.outcome is None:
            if self.target is None:
                return TaskExit(NOPROC)
            if timeout_s is None or timeout_s > 0:
                self._waiting = _TaskWait(self.owner.runtime)
                try:
                    await self._waiting.within(timeout_s)
                finally:
                    self._waiting = None
        self._take_message()
        return self.outcome

    async def shutdown(self, timeout_s: Shutdown = 5.0) -> Outcome | None:
        """Stop the task: ask it, and kill it after `timeout_s`; BRUTAL_KILL does not ask.

        Returns:
            The outcome if it had one by then, None if it was stopped.
        """
        self._check_owner()
        if self.outcome is None:
            wait = ExitWait(self.pid, linked=self.owner)
            self.owner.unlink(self.pid)
            self.pid.exit_signal(self.owner, KILL if timeout_s is BRUTAL_KILL else SHUTDOWN)
            if not wait.done:
                await wait.within(None if timeout_s is BRUTAL_KILL else float(timeout_s))  # type: ignore[arg-type]
            if not wait.done:
                self.pid.exit_signal(self.owner, KILL)
                await wait
        self._take_message()
        stopped = isinstance(self.outcome, TaskExit) and self.outcome.reason in (SHUTDOWN, KILLED)
        return None if stopped else self.outcome

    def ignore(self) -> None:
        """Want no result any more: neither message nor outcome comes. A linked task stays linked."""
        self._release()
        self._take_message()

    # What the task's process and its monitor tell.

    def begin(self, pid: Pid) -> None:
        """Watch `pid`, which does the work."""
        self.pid = self.target = pid
        self.label = pid
        self.owner.rare.monitors[self] = None
        pid.watch(self)

    def deliver(self, value: object) -> None:
        """The work is done."""
        if self.target is not None:
            self._release()
            self.outcome = TaskOk(value)
            self._tell(TaskDone(self, value))

    def ended(self, pid: Pid, reason: object) -> None:
        """The process has ended without a result."""
        self._release()
        self.outcome = TaskExit(reason)
        self._tell(Down(self, pid, reason))

    def _tell(self, message: TaskDone | Down) -> None:
        if self.notify is not None:
            self.notify(self)
        elif self._waiting is not None:
            self._waiting.finish()
        else:
            self._envelope = Envelope((INFO, message))
            self.owner.post(self._envelope)

    def _release(self) -> None:
        target, self.target = self.target, None
        if target is not None:
            target.unwatch(self)
        self.owner.rare.monitors.pop(self, None)

    def _take_message(self) -> None:
        envelope, self._envelope = self._envelope, None
        if envelope is not None and any(each is envelope for each in self.owner.queued()):
            self.owner.remove(envelope)

    def _check_owner(self) -> None:
        if here.process is not self.owner:
            raise OtpError(f"{self!r} can only be awaited by its owner, not by {here.process!r}")


class _TaskWait(Waiter):
    """The owner waits for an outcome."""

    __slots__ = ()

    def __await__(self) -> Any:
        yield from self.wait()

    async def within(self, timeout_s: float | None) -> None:
        """Wait at most that long."""
        timers = self.runtime.timers
        timer = None if timeout_s is None else timers.start(timeout_s, self)
        try:
            await self
        finally:
            if timer is not None:
                timers.cancel(timer)

    def expired(self) -> None:
        """The time is up."""
        self.finish()


def async_(function: Work, *args: object) -> Task:
    """Run `function(*args)`, which may be `async def`, in a new process linked to the caller, its owner."""
    owner = self_process()
    task = Task(owner)
    spawn_task(owner.runtime, owner, task, (owner, *callers()), function, args)
    owner.link(task.pid)
    return task


def callers() -> tuple[Pid, ...]:
    """Name those who asked for what this process does, nearest first; empty outside tasks."""
    me = here.process
    return me.callers if isinstance(me, TaskPid) else ()


def spawn_task(
    runtime: Runtime,
    parent: Pid,
    task: Task | None,
    asked_by: tuple[Pid, ...],
    function: Work,
    args: tuple[object, ...],
) -> Pid:
    """Start the process of a task; without a `task` nobody hears of the result."""
    pid = TaskPid(runtime, parent, _work, (task, function, args))
    pid.initial_call = getattr(function, "__qualname__", repr(function))
    pid.callers = asked_by
    if task is not None:
        task.begin(pid)
    return pid


async def _work(task: Task | None, function: Work, args: tuple[object, ...]) -> None:
    value = function(*args)
    if isinstance(value, Awaitable):
        value = await value
    if task is not None:
        task.deliver(value)
