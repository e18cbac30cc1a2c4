import asyncio
from typing import Any

import pytest

from otp import (
    BRUTAL_KILL,
    CallResult,
    Down,
    Exit,
    ExitError,
    GenServer,
    NoReply,
    OtpError,
    Reply,
    Result,
    receive,
    self_pid,
    send,
    spawn,
    task,
    trap_exit,
)
from otp.errors import ReceiveTimeoutError
from otp.task import Task, TaskDone, TaskError, TaskExit, TaskOk, TaskTimeoutError, async_


async def after(delay_s: float, value: object = "done") -> object:
    await asyncio.sleep(delay_s)
    return value


async def no_messages() -> bool:
    await asyncio.sleep(10.0)
    try:
        found = await receive(timeout_s=0)
    except ReceiveTimeoutError:
        return True
    raise AssertionError(found)


def test_result_of_an_async_function_is_awaited(inside):
    async def body() -> None:
        begun = async_(after, 1.0, "page")
        assert begun.pid in self_pid().linked()
        assert await begun.await_() == "page"
        assert await no_messages()
        assert self_pid().linked() == ()
        assert self_pid().monitoring() == ()

    inside(body)


def test_result_of_a_plain_function_may_come_before_the_await(inside):
    async def body() -> None:
        begun = async_(len, "four")
        await asyncio.sleep(1.0)
        assert await begun.await_() == 4
        assert await no_messages()

    inside(body)


def test_result_nobody_awaits_is_one_message(inside):
    async def body() -> None:
        begun = async_(after, 1.0)
        assert await receive() == TaskDone(begun, "done")
        assert await no_messages()

    inside(body)


def test_failure_nobody_awaits_is_a_down_of_the_task(inside):
    async def body() -> None:
        trap_exit()
        begun = async_(after, 1.0, "x")
        begun.pid.exit_signal(None, "boom")
        assert await receive() == Exit(begun.pid, "boom")
        assert await receive() == Down(begun, begun.pid, "boom")

    inside(body)


@pytest.mark.parametrize(
    ("error", "reason"), [(ExitError("gone"), "gone"), (ValueError("x"), None)]
)
def test_awaiting_a_failed_task_raises_its_reason(inside, error, reason):
    async def fails() -> None:
        await asyncio.sleep(1.0)
        raise error

    async def body() -> None:
        trap_exit()
        begun = async_(fails)
        with pytest.raises(TaskError) as failed:
            await begun.await_()
        if reason is None:
            assert failed.value.cause.error is error
        else:
            assert failed.value.cause == reason
        assert failed.value.reason == (failed.value.cause, ("task", "await", (begun, 5.0)))
        assert (await receive()).pid is begun.pid
        assert await no_messages()

    inside(body)


def test_failing_linked_task_ends_an_owner_that_does_not_trap(runtime, inside):
    async def fails() -> None:
        raise ExitError("boom")

    async def owner() -> None:
        await async_(fails).await_()

    async def body() -> object:
        return await runtime.runtime.exited(spawn(owner))

    assert inside(body) == "boom"


def test_task_ends_with_its_owner(runtime, inside):
    async def owner(told: Any) -> None:
        send(told, async_(after, 100.0).pid)
        await receive(lambda message: message == "end")
        raise ExitError("boom")

    async def body() -> object:
        pid = spawn(owner, self_pid())
        worker = await receive()
        send(pid, "end")
        return await runtime.runtime.exited(worker)

    assert inside(body) == "boom"


def test_await_that_times_out_leaves_nothing_behind(inside):
    async def body() -> None:
        begun = async_(after, 1.0)
        with pytest.raises(TaskTimeoutError) as late:
            await begun.await_(0.5)
        assert late.value.reason == ("timeout", ("task", "await", (begun, 0.5)))
        assert begun.pid.is_alive()
        assert await no_messages()
        assert not begun.pid.is_alive()
        assert self_pid().monitoring() == ()

    inside(body)


def test_await_without_time_looks_once(inside):
    async def body() -> None:
        begun = async_(after, 0.0)
        with pytest.raises(TaskTimeoutError):
            await begun.await_(0)
        ready = async_(after, 0.0)
        await asyncio.sleep(1.0)
        assert await ready.await_(0) == "done"

    inside(body)


def test_yield_may_ask_again_after_it_was_too_early(inside):
    async def body() -> None:
        begun = async_(after, 1.0)
        assert await begun.yield_(0.4) is None
        assert await begun.yield_(0.4) is None
        assert await begun.yield_(0.4) == TaskOk("done")
        assert await no_messages()

    inside(body)


def test_yield_gives_the_exit_of_a_failed_task(inside):
    async def fails() -> None:
        raise ExitError("boom")

    async def body() -> None:
        trap_exit()
        assert await async_(fails).yield_() == TaskExit("boom")

    inside(body)


def test_only_the_owner_may_await(inside):
    async def other(begun: Task, told: Any) -> None:
        try:
            await begun.await_()
        except OtpError as error:
            send(told, str(error))

    async def body() -> str:
        begun = async_(after, 1.0)
        spawn(other, begun, self_pid())
        return await receive(lambda message: isinstance(message, str))

    assert "can only be awaited by its owner" in inside(body)


def test_shutdown_stops_a_task_and_its_owner_lives_on(inside):
    async def body() -> None:
        begun = async_(after, 100.0)
        assert await begun.shutdown() is None
        assert begun.pid.exit_reason == "shutdown"
        assert await no_messages()

    inside(body)


@pytest.mark.parametrize(("timeout_s", "took_s"), [(2.0, 2.0), (BRUTAL_KILL, 0.0)])
def test_shutdown_kills_a_task_that_traps_exits(runtime, inside, timeout_s, took_s):
    async def stubborn() -> None:
        trap_exit()
        await asyncio.sleep(100.0)

    async def body() -> None:
        begun = async_(stubborn)
        await asyncio.sleep(1.0)
        before = runtime.clock()
        assert await begun.shutdown(timeout_s) is None
        assert runtime.clock() - before == pytest.approx(took_s)
        assert begun.pid.exit_reason == "killed"

    inside(body)


def test_shutdown_gives_the_outcome_there_is(inside):
    async def at_the_last_moment() -> str:
        trap_exit()
        await receive(lambda message: isinstance(message, Exit))
        return "just in time"

    async def body() -> None:
        done = async_(after, 1.0)
        late = async_(at_the_last_moment)
        await asyncio.sleep(2.0)
        assert await done.shutdown() == TaskOk("done")
        assert await late.shutdown() == TaskOk("just in time")
        assert await no_messages()

    inside(body)


def test_ignored_task_sends_no_message(inside):
    async def body() -> None:
        begun = async_(after, 1.0)
        begun.ignore()
        assert await no_messages()
        assert await begun.yield_() == TaskExit("noproc")

    inside(body)


def test_callers_are_named_nearest_first(inside):
    async def inner() -> tuple[Any, ...]:
        return task.callers()

    async def outer() -> tuple[Any, Any]:
        return self_pid(), await async_(inner).await_()

    async def body() -> None:
        me = self_pid()
        assert task.callers() == ()
        middle, chain = await async_(outer).await_()
        assert chain == (middle, me)

    inside(body)


class Fetcher(GenServer[list[object]]):
    """Begins tasks, and learns of their results in handle_info."""

    def init(self) -> list[object]:
        return []

    async def handle_call(
        self, request: Any, from_: Any, state: list[object]
    ) -> CallResult[list[object]]:
        if request == "wait":
            return Reply(await async_(after, 1.0, "awaited").await_(), state)
        if request == "begin":
            async_(after, 1.0, "told")
        return Reply(list(state), state)

    def handle_info(self, message: Any, state: list[object]) -> Result[list[object]]:
        return NoReply([*state, message.value])


def test_server_awaits_a_task_or_is_told(runtime):
    fetcher = runtime.start(Fetcher())

    assert fetcher.call("begin") == []
    assert fetcher.call("wait") == "awaited"
    runtime.advance(1.0)
    assert fetcher.call("told") == ["told"]
