import asyncio
from typing import Any

import pytest

from otp import (
    BRUTAL_KILL,
    ChildSpec,
    ExitError,
    MaxChildrenError,
    NoProcessError,
    NotFoundError,
    Restart,
    Supervisor,
    SupervisorFlags,
    receive,
    self_pid,
    send,
    spawn,
    supervisor,
    task,
    task_supervisor,
)
from otp.registry import Registry, Via
from otp.task import TaskError, TaskOk
from otp.task_supervisor import TaskSupervisor


@pytest.fixture
def tasks(runtime):
    return runtime.start(TaskSupervisor(max_children=3), "tasks")


async def wait_and_send(told: Any) -> str:
    send(told, "ready")
    await receive(lambda message: message == "go")
    send(told, "gone")
    return "done"


async def forever() -> None:
    await asyncio.sleep(1e6)


async def ended(pid: Any) -> object:
    return await pid.runtime.exited(pid)


def test_task_is_under_the_supervisor_and_linked_to_the_caller(inside, tasks):
    async def body() -> None:
        begun = await task_supervisor.async_("tasks", wait_and_send, self_pid())
        assert await task_supervisor.children("tasks") == [begun.pid]
        assert set(begun.pid.linked()) == {tasks.pid, self_pid()}
        assert await receive() == "ready"
        send(begun.pid, "go")
        assert await begun.await_() == "done"
        assert await task_supervisor.children("tasks") == []

    inside(body)


def test_nolink_task_fails_alone(inside, tasks):
    async def fails() -> None:
        raise ExitError("boom")

    async def body() -> None:
        begun = await task_supervisor.async_nolink("tasks", fails)
        assert self_pid() not in begun.pid.linked()
        with pytest.raises(TaskError) as failed:
            await begun.await_()
        assert failed.value.cause == "boom"

    inside(body)
    assert tasks.is_alive()


def test_linked_task_that_fails_ends_its_caller(inside, tasks):
    async def fails() -> None:
        raise ExitError("boom")

    async def caller() -> None:
        begun = await task_supervisor.async_("tasks", fails)
        await begun.await_()

    async def body() -> object:
        return await ended(spawn(caller))

    assert inside(body) == "boom"
    assert tasks.is_alive()


def test_nolink_task_survives_its_caller(inside, tasks):
    async def caller(told: Any) -> None:
        begun = await task_supervisor.async_nolink("tasks", forever)
        send(told, begun.pid)
        raise ExitError("boom")

    async def body() -> None:
        pid = spawn(caller, self_pid())
        worker = await receive()
        await ended(pid)
        assert worker.is_alive()

    inside(body)


def test_task_of_a_caller_that_died_first_is_not_begun(inside, tasks):
    ran: list[str] = []

    async def caller() -> None:
        await task_supervisor.async_("tasks", lambda: ran.append("ran"))

    async def body() -> None:
        pid = spawn(caller)
        pid.exit_signal(None, "kill")
        await asyncio.sleep(1.0)
        assert await task_supervisor.children("tasks") == []

    inside(body)
    assert ran == []


@pytest.mark.usefixtures("tasks")
@pytest.mark.parametrize("begin", [task_supervisor.async_, task_supervisor.async_nolink])
def test_caller_gets_the_error_above_max_children(inside, begin):
    async def body() -> None:
        running = [await begin("tasks", forever) for _ in range(3)]
        with pytest.raises(MaxChildrenError):
            await begin("tasks", forever)
        with pytest.raises(MaxChildrenError):
            await task_supervisor.start_child("tasks", forever)
        for each in running:
            assert await each.shutdown() is None
        assert await (await begin("tasks", len, "four")).await_() == 4

    inside(body)


def test_started_child_is_neither_linked_nor_monitored(inside, tasks):
    async def body() -> None:
        pid = await task_supervisor.start_child("tasks", wait_and_send, self_pid())
        assert pid.linked() == (tasks.pid,)
        assert self_pid().monitoring() == ()
        send(pid, "go")
        assert [await receive(), await receive()] == ["ready", "gone"]
        assert await ended(pid) == "normal"

    inside(body)


@pytest.mark.usefixtures("tasks")
def test_permanent_task_is_started_again(inside):
    async def body() -> None:
        pid = await task_supervisor.start_child(
            "tasks", wait_and_send, self_pid(), restart=Restart.PERMANENT
        )
        assert await receive() == "ready"
        pid.exit_signal(None, "shutdown")
        assert await receive() == "ready"
        assert len(await task_supervisor.children("tasks")) == 1

    inside(body)


@pytest.mark.parametrize(("shutdown_s", "reason"), [(BRUTAL_KILL, "killed"), (5.0, "shutdown")])
def test_task_is_stopped_as_its_shutdown_says(inside, tasks, shutdown_s, reason):
    async def body() -> list[object]:
        begun = await task_supervisor.async_nolink("tasks", forever, shutdown_s=shutdown_s)
        child = await task_supervisor.start_child("tasks", forever, shutdown_s=shutdown_s)
        tasks.exit("shutdown")
        return [await ended(begun.pid), await ended(child)]

    assert inside(body) == [reason, reason]


@pytest.mark.usefixtures("tasks")
def test_terminated_child_is_not_found_again(inside):
    async def body() -> None:
        pid = await task_supervisor.start_child("tasks", forever)
        await task_supervisor.terminate_child("tasks", pid)
        assert await task_supervisor.children("tasks") == []
        with pytest.raises(NotFoundError):
            await task_supervisor.terminate_child("tasks", pid)
        with pytest.raises(NoProcessError):
            await task_supervisor.async_("nobody", forever)

    inside(body)


@pytest.mark.usefixtures("tasks")
def test_callers_are_kept_beside_the_ancestors(inside):
    async def inner() -> tuple[Any, ...]:
        return task.callers()

    async def outer() -> tuple[Any, Any]:
        begun = await task_supervisor.async_("tasks", inner)
        return self_pid(), await begun.await_()

    async def body() -> None:
        begun = await task_supervisor.async_("tasks", outer)
        middle, chain = await begun.await_()
        assert chain == (middle, self_pid())

    inside(body)


def test_task_supervisors_live_in_trees_under_any_name(runtime, inside):
    runtime.start(Registry("names"))
    names = ["plain", Via("names", "tasks")]
    specs = [
        ChildSpec(str(name), lambda name=name: task_supervisor.start_link(name=name))
        for name in names
    ]
    tree = runtime.start(Supervisor(SupervisorFlags(), specs))

    async def body() -> None:
        for name in names:
            begun = await task_supervisor.async_(name, len, "four")
            assert await begun.yield_() == TaskOk(4)
        assert len(await supervisor.which_children(tree.pid)) == 2

    inside(body)
