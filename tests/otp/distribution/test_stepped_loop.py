import asyncio
import select
import socket
import time

import pytest

from otp.distribution.stepped_loop import SteppedLoop


@pytest.fixture
def loop():
    loop = SteppedLoop()
    yield loop
    loop.close()


def drive(loop, *, until, limit_s=5.0):
    """The owner: sleeps on the loop's file alone, steps when it is readable. Returns the steps taken."""
    owner = select.poll()
    owner.register(loop.fileno(), select.POLLIN)
    deadline = time.monotonic() + limit_s
    steps = 1
    loop.step()
    while not until():
        left_s = deadline - time.monotonic()
        assert left_s > 0, "the owner was never woken"
        if owner.poll(left_s * 1000):
            loop.step()
            steps += 1
    return steps


def is_awake(loop):
    owner = select.poll()
    owner.register(loop.fileno(), select.POLLIN)
    return bool(owner.poll(0))


def test_idle_loop_does_not_wake_its_owner(loop):
    loop.step()

    assert not is_awake(loop)


def test_timer_wakes_the_owner_when_it_is_due(loop):
    fired = []
    loop.call_later(0.05, lambda: fired.append(loop.time()))
    began = loop.time()

    steps = drive(loop, until=lambda: fired)

    assert 0.05 <= fired[0] - began < 0.15
    assert steps <= 3


def test_earlier_timer_set_later_still_fires_first(loop):
    fired = []
    loop.call_later(0.2, fired.append, "late")
    loop.step()
    loop.call_later(0.03, fired.append, "early")

    drive(loop, until=lambda: len(fired) == 2)

    assert fired == ["early", "late"]


def test_timer_after_a_cancelled_one_is_not_lost(loop):
    fired = []
    loop.call_later(0.02, fired.append, "cancelled").cancel()
    loop.call_later(0.06, fired.append, "kept")

    drive(loop, until=lambda: fired)

    assert fired == ["kept"]


def test_socket_wakes_the_owner(loop):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    received = []
    loop.add_reader(ours.fileno(), lambda: received.append(ours.recv(10)))
    loop.step()
    theirs.send(b"hello")

    drive(loop, until=lambda: received)

    assert received == [b"hello"]
    loop.remove_reader(ours.fileno())
    ours.close()
    theirs.close()


def test_call_from_another_thread_wakes_the_owner(loop):
    done = []

    async def work():
        done.append(await asyncio.to_thread(lambda: time.sleep(0.02) or "done"))

    task = loop.create_task(work())
    drive(loop, until=lambda: done)

    assert done == ["done"]
    assert task.done()


def test_step_ends_after_its_budget_and_wakes_the_owner_at_once(loop):
    turns = 0

    def again():
        nonlocal turns
        turns += 1
        loop.call_soon(again)

    loop.call_soon(again)
    began = time.monotonic()
    loop.step(budget_s=0.02)

    assert 0.02 <= time.monotonic() - began < 0.2
    assert turns > 100
    assert is_awake(loop)


def test_work_left_over_by_a_step_is_done_in_order(loop):
    order = []

    def note(number):
        order.append(number)
        if number < 2000:
            loop.call_soon(note, number + 1)

    loop.call_soon(note, 0)
    owner_steps = 0
    while len(order) < 2001:
        loop.step(budget_s=0.0005)
        owner_steps += 1

    assert order == list(range(2001))
    assert owner_steps > 1


def test_streams_and_timeouts_work_across_steps(loop):
    async def conversation():
        async def echo(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"ping\n")
        answer = await reader.readline()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await asyncio.sleep(10)
        writer.close()
        server.close()
        return answer

    task = loop.create_task(conversation())
    drive(loop, until=task.done)

    assert task.result() == b"ping\n"
