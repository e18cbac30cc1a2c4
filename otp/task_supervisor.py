"""task_supervisor: a dynamic supervisor for tasks, see `otp.task`.

    task = await task_supervisor.async_nolink("tasks", fetch, "page")
    page = await task.await_()

A task is temporary unless `start_child` says otherwise. Over `max_children`, and whenever the supervisor refuses,
the caller gets the error. For many items there is `otp.task_stream`.

Source: task/supervisor.ex of Elixir 1.18.
"""

from __future__ import annotations

from typing import cast

from otp import dynamic_supervisor, task
from otp.address import Name
from otp.callback_results import Ignore
from otp.child_spec import INFINITY, ChildSpec, Restart, Shutdown
from otp.dynamic_supervisor import DynamicSupervisor
from otp.process import Pid
from otp.task import Task, Work
from otp.waiting import self_process

__all__ = [
    "TaskSupervisor",
    "async_",
    "async_nolink",
    "children",
    "start_child",
    "start_link",
    "terminate_child",
]


class TaskSupervisor(DynamicSupervisor):
    """A task supervisor to be started; the options are those of a dynamic supervisor."""


def start_link(
    *,
    name: Name | None = None,
    max_children: float = INFINITY,
    intensity: int = 3,
    period_s: float = 5.0,
) -> Pid:
    """Start a task supervisor linked to the calling process.

    Raises:
        SupervisorFlagsError: an option is not valid.
    """
    flags = TaskSupervisor(max_children=max_children, intensity=intensity, period_s=period_s)
    return dynamic_supervisor.start_link(flags, name=name)


async def async_(
    supervisor: Pid | Name, function: Work, *args: object, shutdown_s: Shutdown = 5.0
) -> Task:
    """Run `function(*args)` under `supervisor`, linked to the caller as well: if one fails, both do.

    Raises:
        MaxChildrenError: the supervisor has enough tasks.
        NoProcessError: there is no such supervisor.
    """
    return await _begin(supervisor, function, args, linked=True, shutdown_s=shutdown_s)


async def async_nolink(
    supervisor: Pid | Name, function: Work, *args: object, shutdown_s: Shutdown = 5.0
) -> Task:
    """Run `function(*args)` under `supervisor`; a failure is told, and the caller lives on. Raises as `async_`."""
    return await _begin(supervisor, function, args, linked=False, shutdown_s=shutdown_s)


async def start_child(
    supervisor: Pid | Name,
    function: Work,
    *args: object,
    restart: Restart = Restart.TEMPORARY,
    shutdown_s: Shutdown = 5.0,
) -> Pid:
    """Run `function(*args)` under `supervisor`; nobody hears of its result. Raises as `async_`."""
    asked_by = _asked_by()

    def start() -> Pid:
        me = self_process()
        pid = task.spawn_task(me.runtime, me, None, asked_by, function, args)
        me.link(pid)
        return pid

    spec = ChildSpec("task", start, restart=restart, shutdown_s=shutdown_s)
    return cast("Pid", await dynamic_supervisor.start_child(supervisor, spec))


async def children(supervisor: Pid | Name) -> list[Pid]:
    """List the tasks that run."""
    infos = await dynamic_supervisor.which_children(supervisor)
    return [info.pid for info in infos if info.pid is not None]


async def terminate_child(supervisor: Pid | Name, pid: Pid) -> None:
    """Stop a task; raises NotFoundError."""
    await dynamic_supervisor.terminate_child(supervisor, pid)


async def _begin(
    supervisor: Pid | Name,
    function: Work,
    args: tuple[object, ...],
    *,
    linked: bool,
    shutdown_s: Shutdown,
) -> Task:
    owner, asked_by = self_process(), _asked_by()
    begun = Task(owner)

    def start() -> Pid | Ignore:
        if not owner.is_alive():
            return Ignore()
        me = self_process()
        pid = task.spawn_task(me.runtime, me, begun, asked_by, function, args)
        me.link(pid)
        if linked:
            owner.link(pid)
        return pid

    spec = ChildSpec("task", start, restart=Restart.TEMPORARY, shutdown_s=shutdown_s)
    await dynamic_supervisor.start_child(supervisor, spec)
    return begun


def _asked_by() -> tuple[Pid, ...]:
    return (self_process(), *task.callers())
