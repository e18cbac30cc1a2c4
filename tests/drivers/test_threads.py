from __future__ import annotations

import asyncio
import threading

import pytest

from drivers.contract import BusyError, OutcomeUnknownError
from drivers.threads import DeviceThreads


class Connections:
    """Counts connections; one is a number."""

    def __init__(self):
        self.made = 0
        self.closed = []
        self.gone = threading.Event()

    def connect(self, old):
        if old is None:
            self.made += 1
            return self.made
        return old

    def disconnect(self, connection):
        self.closed.append(connection)
        self.gone.set()


@pytest.fixture
def connections():
    return Connections()


@pytest.fixture
def threads(connections):
    pool = DeviceThreads(connections.connect, connections.disconnect, limit=2)
    yield pool
    pool.close()


@pytest.fixture
def gate():
    opened = threading.Event()
    yield opened
    opened.set()


async def test_call_runs_in_a_thread_and_answers(threads):
    where = await threads.run("a", lambda _: threading.current_thread().name, 5.0)

    assert where == "driver"


async def test_connection_is_used_again_by_the_next_call(threads, connections):
    for _ in range(5):
        await threads.run("a", lambda connection: connection, 5.0)

    assert connections.made == 1


async def test_error_of_a_call_reaches_its_caller(threads):
    with pytest.raises(ZeroDivisionError):
        await threads.run("a", lambda _: 1 / 0, 5.0)

    assert not threads.taken("a")


async def test_overrun_call_keeps_its_slot_until_it_returns(threads, connections, gate):
    with pytest.raises(OutcomeUnknownError):
        await threads.run("a", lambda _: gate.wait(), 0.02)
    assert threads.taken("a")
    assert threads.abandoned == 1
    with pytest.raises(BusyError, match="has not returned yet"):
        await threads.run("a", lambda _: None, 5.0)

    gate.set()

    await until(lambda: not threads.taken("a"))
    assert connections.gone.wait(5.0)
    assert connections.closed == [1]
    assert threads.abandoned == 0


async def test_overrun_call_gives_its_place_to_the_others(threads, gate):
    for slot in ("a", "b", "c"):
        with pytest.raises(OutcomeUnknownError):
            await threads.run(slot, lambda _: gate.wait(), 0.02)

    assert await threads.run("d", lambda _: "through", 5.0) == "through"


async def test_killed_caller_leaves_the_slot_taken(threads, gate):
    waiting = asyncio.ensure_future(threads.run("a", lambda _: gate.wait(), 60.0))
    await until(lambda: threads.taken("a"))

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert threads.taken("a")
    assert threads.abandoned == 1


async def test_call_without_a_free_thread_in_time_never_begins(threads, gate):
    held = [asyncio.ensure_future(threads.run(s, lambda _: gate.wait(), 60.0)) for s in "ab"]
    await until(lambda: threads.taken("a") and threads.taken("b"))
    began = []

    with pytest.raises(BusyError, match="no thread free"):
        await threads.run("c", began.append, 0.02)

    gate.set()
    await asyncio.gather(*held)
    await threads.run("d", lambda _: None, 5.0)
    assert began == []


async def test_many_calls_share_few_threads(threads, connections):
    answers = await asyncio.gather(
        *(threads.run(f"slot-{n}", lambda _, n=n: n, 10.0) for n in range(500))
    )

    assert answers == list(range(500))
    assert connections.made <= 2


async def test_one_slot_never_runs_two_calls(threads):
    both = await asyncio.gather(
        *(threads.run("a", lambda _: "ran", 5.0) for _ in range(2)), return_exceptions=True
    )

    assert sorted(map(str, both))[1] == "ran"
    assert sum(isinstance(answer, BusyError) for answer in both) == 1


async def until(reached):
    while True:
        if reached():
            return
        await asyncio.sleep(0)
