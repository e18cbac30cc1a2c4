import asyncio
from typing import Any

import pytest

from otp import (
    BRUTAL_KILL,
    ExitError,
    MaxChildrenError,
    OtpError,
    receive,
    self_pid,
    send,
    spawn,
    task_supervisor,
    trap_exit,
)
from otp.errors import ReceiveTimeoutError
from otp.task import TaskExit, TaskOk, TaskTimeoutError
from otp.task_stream import OnTimeout, async_stream, async_stream_nolink
from otp.task_supervisor import TaskSupervisor

STREAMS = pytest.mark.parametrize("stream", [async_stream, async_stream_nolink])


@pytest.fixture(autouse=True)
def tasks(runtime):
    return runtime.start(TaskSupervisor(), "tasks")


async def sleep(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


async def leave(reason: object) -> None:
    await asyncio.sleep(0.01)
    raise ExitError(reason)


async def nothing_left() -> bool:
    """No message, no link, no monitor, no task."""
    await asyncio.sleep(60.0)
    with pytest.raises(ReceiveTimeoutError):
        await receive(timeout_s=0)
    me = self_pid()
    return (me.linked(), me.monitoring(), await task_supervisor.children("tasks")) == ((), (), [])


@STREAMS
@pytest.mark.parametrize("items", [[1, 2, 3, 4], [4, 3, 2, 1], []])
def test_outcomes_come_in_the_order_of_the_items(inside, stream, items):
    async def body() -> None:
        trap_exit()
        found = [each async for each in stream("tasks", items, sleep, max_concurrency=4)]
        assert found == [TaskOk(item) for item in items]
        assert await nothing_left()

    inside(body)


@STREAMS
def test_unordered_outcomes_come_as_they_are_ready(inside, stream):
    async def body() -> list[Any]:
        items = stream("tasks", [3, 1, 2], sleep, max_concurrency=3, ordered=False)
        return [each.value async for each in items]

    assert inside(body) == [1, 2, 3]


@pytest.mark.parametrize(("limit", "took_s"), [(1, 6.0), (2, 3.0), (6, 1.0)])
def test_so_many_tasks_run_at_once_and_no_more(runtime, inside, limit, took_s):
    running, most = 0, 0

    async def work(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1.0)
        running -= 1

    async def body() -> int:
        found = async_stream("tasks", range(6), work, max_concurrency=limit)
        return len([each async for each in found])

    assert inside(body) == 6
    assert most == limit
    assert runtime.clock() == pytest.approx(took_s)


def test_items_are_read_only_as_tasks_are_begun(inside):
    read: list[int] = []

    def items() -> Any:
        for number in range(1000):
            read.append(number)
            yield number

    async def body() -> None:
        async with async_stream("tasks", items(), lambda item: item, max_concurrency=2) as stream:
            assert await anext(stream) == TaskOk(0)
        assert await nothing_left()

    inside(body)
    assert read == [0, 1]


def test_slow_task_does_not_hold_up_the_others(runtime, inside):
    async def body() -> list[Any]:
        items = [4.0, 1.0, 1.0, 1.0, 1.0]
        return [each.value async for each in async_stream("tasks", items, sleep, max_concurrency=2)]

    assert inside(body) == [4.0, 1.0, 1.0, 1.0, 1.0]
    assert runtime.clock() == pytest.approx(4.0)


@STREAMS
def test_exits_are_outcomes_to_a_consumer_that_traps(inside, stream):
    async def body() -> None:
        trap_exit()
        found = [each async for each in stream("tasks", "1234", leave, max_concurrency=2)]
        assert found == [TaskExit(reason) for reason in "1234"]
        assert await nothing_left()

    inside(body)


def test_linked_task_that_fails_ends_the_consumer(runtime, inside):
    async def consumer() -> None:
        async for _ in async_stream("tasks", ["boom"], leave):
            pass

    async def body() -> object:
        return await runtime.runtime.exited(spawn(consumer))

    assert inside(body) == "boom"


def test_nolink_task_that_fails_leaves_the_consumer_alone(inside):
    async def body() -> None:
        stream = async_stream_nolink("tasks", [1, 2], leave, zip_input_on_exit=True)
        assert [each async for each in stream] == [TaskExit((1, 1)), TaskExit((2, 2))]
        assert await nothing_left()

    inside(body)


@STREAMS
@pytest.mark.parametrize("how", ["break", "stop", "async with"])
def test_unused_tasks_are_stopped_when_the_consumer_stops(inside, stream, how):
    async def body() -> None:
        items = [0, 1e6, 1e6, 1e6]
        if how == "break":
            async for first in stream("tasks", items, sleep, max_concurrency=4):
                assert first == TaskOk(0)
                break
        elif how == "stop":
            kept = stream("tasks", items, sleep, max_concurrency=4)
            assert await anext(kept) == TaskOk(0)
            kept.stop()
            assert [each async for each in kept] == []
        else:
            async with stream("tasks", items, sleep, max_concurrency=4) as kept:
                assert await anext(kept) == TaskOk(0)
        assert await nothing_left()

    inside(body)


@STREAMS
@pytest.mark.parametrize("reason", ["kill", "shutdown"])
def test_tasks_end_with_a_consumer_that_is_ended(inside, stream, reason):
    async def consumer() -> None:
        async for _ in stream("tasks", [1e6, 1e6], sleep, timeout_s=None):
            pass

    async def body() -> None:
        pid = spawn(consumer)
        await asyncio.sleep(1.0)
        assert len(await task_supervisor.children("tasks")) == 2
        pid.exit_signal(None, reason)
        assert await nothing_left()

    inside(body)


@STREAMS
def test_slow_task_raises_in_the_consumer(inside, stream):
    async def body() -> None:
        with pytest.raises(TaskTimeoutError):
            [each async for each in stream("tasks", [1, 9, 1], sleep, timeout_s=2.0)]
        assert await nothing_left()

    inside(body)


@STREAMS
@pytest.mark.parametrize(
    ("zipped", "reason"), [(False, "timeout"), (True, (9, "timeout"))], ids=["plain", "zipped"]
)
def test_slow_task_is_killed_if_asked(inside, stream, zipped, reason):
    async def body() -> None:
        found = stream(
            "tasks",
            [9, 1, 1],
            sleep,
            timeout_s=2.0,
            on_timeout=OnTimeout.KILL_TASK,
            zip_input_on_exit=zipped,
            shutdown_s=BRUTAL_KILL,
        )
        assert [each async for each in found] == [TaskExit(reason), TaskOk(1), TaskOk(1)]
        assert await nothing_left()

    inside(body)


def test_supervisor_that_is_full_raises_and_stops_the_stream(runtime, inside):
    runtime.start(TaskSupervisor(max_children=1), "small")

    async def body() -> None:
        with pytest.raises(MaxChildrenError):
            [each async for each in async_stream("small", [1e6] * 3, sleep, max_concurrency=2)]
        assert await nothing_left()
        assert await task_supervisor.children("small") == []

    inside(body)


def test_stream_belongs_to_whoever_first_took_from_it(inside):
    async def other(stream: Any, told: Any) -> None:
        try:
            await anext(stream)
        except OtpError as error:
            send(told, str(error))

    async def body() -> str:
        stream = async_stream("tasks", [0, 1], sleep)
        await anext(stream)
        spawn(other, stream, self_pid())
        return await receive()

    assert "belongs to the process" in inside(body)


@pytest.mark.parametrize(
    "options",
    [{"max_concurrency": 0}, {"timeout_s": 0}, {"timeout_s": -1.0}, {"on_timeout": "sulk"}],
)
def test_bad_options_raise_in_the_caller(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        async_stream("tasks", [], sleep, **options)
