"""A caller whose server is the next to run serves it on its own stack: nothing else may look different."""

from __future__ import annotations

import asyncio
import time

import pytest

from otp import (
    CallError,
    GenServer,
    NoReply,
    Reply,
    Runtime,
    Stop,
    exit,  # noqa: A004 - Erlang's name
    gen_server,
    receive,
    self_pid,
    send,
)
from otp.runtime import LOANS
from otp.testing import VirtualRuntime


class Server(GenServer[list]):
    """Notes who ran, in `order`; answers by what it is asked."""

    def __init__(self, order=None, name="server"):
        self.order = [] if order is None else order
        self.name = name

    def init(self):
        return []

    def handle_call(self, request, from_, state):
        self.order.append((self.name, request))
        match request:
            case ("kill", pid):
                exit(pid, "kill")
            case ("exit", pid):
                exit(pid, "odd")
            case "crash":
                raise ValueError("crash")
            case "stop":
                return Stop("stopped", state)
            case "later":
                return NoReply([*state, from_])
            case "answer":
                state[0].reply("late")
                return Reply("done", [])
        return Reply(request, state)

    def handle_cast(self, request, state):
        self.order.append((self.name, request))
        return NoReply(state)


class Slow(Server):
    """Answers after a time."""

    async def handle_call(self, request, from_, state):
        await asyncio.sleep(1.0)
        return Reply(request, state)


class AsyncCaller(GenServer[None]):
    """Runs what it is cast."""

    def init(self):
        return None

    async def handle_cast(self, body, state):
        await body()
        return NoReply(state)


def spawn_plain(runtime, body):
    return runtime.runtime.spawn(body)


def spawn_server(runtime, body):
    pid = runtime.start(AsyncCaller()).pid
    pid.cast(body)
    return pid


@pytest.fixture(params=[spawn_plain, spawn_server], ids=["plain process", "server"])
def spawn(request, runtime):
    return lambda body: request.param(runtime, body)


@pytest.mark.parametrize("how", ["kill", "exit"])
def test_caller_that_its_server_ends_does_not_go_on(runtime, spawn, how):
    server = runtime.start(Server()).pid
    went_on = []

    async def body():
        await gen_server.call(server, (how, self_pid()), None)
        went_on.append(True)

    pid = spawn(body)
    runtime.run_until_idle()

    assert pid.exit_reason == ("killed" if how == "kill" else "odd")
    assert went_on == []
    assert server.is_alive()


def test_crash_and_stop_of_the_server_fail_the_call(runtime, spawn):
    causes = []

    async def body():
        for request in ("crash", "stop"):
            server = gen_server.start(Server())
            with pytest.raises(CallError) as caught:
                await gen_server.call(server, request)
            causes.append((caught.value.cause, server.is_alive()))

    spawn(body)
    runtime.run_until_idle()

    assert str(causes[0][0]).startswith("ValueError('crash')")
    assert causes[1][0] == "stopped"
    assert [alive for _, alive in causes] == [False, False]


def test_server_that_answers_later_lets_the_caller_wait(runtime, spawn):
    server = runtime.start(Server()).pid
    slow = runtime.start(Slow()).pid
    got = []

    async def body():
        got.append(await gen_server.call(server, "later"))
        got.append(await gen_server.call(slow, "slow"))

    spawn(body)
    runtime.run_until_idle()
    assert got == []

    server.call("answer")
    runtime.advance(1.0)
    assert got == ["late", "slow"]


def test_processes_that_were_ready_before_run_before(runtime, spawn):
    order = []
    first, second, server = (
        runtime.start(Server(order, name)).pid for name in ("first", "second", "server")
    )

    async def body():
        first.cast("a")
        asked = server.call("b")
        second.cast("c")
        await asked
        order.append("caller")

    spawn(body)
    runtime.run_until_idle()

    assert order == [("first", "a"), ("server", "b"), ("second", "c"), "caller"]


def test_order_of_what_the_server_got_is_kept(runtime, spawn):
    order = []
    server = runtime.start(Server(order)).pid

    async def body():
        gen_server.cast(server, 1)
        assert await gen_server.call(server, 2) == 2
        order.append("caller")
        gen_server.cast(server, 3)

    spawn(body)
    runtime.run_until_idle()

    assert [what if what == "caller" else what[1] for what in order] == [1, 2, "caller", 3]


def test_long_chain_of_calls_needs_no_stack(runtime):
    class Link(GenServer[None]):
        def __init__(self, following):
            self.following = following

        def init(self):
            return None

        async def handle_call(self, request, from_, state):
            if self.following is None:
                return Reply(0, state)
            return Reply(1 + await gen_server.call(self.following, request), state)

    following = None
    for _ in range(5000):
        following = runtime.start(Link(following)).pid

    assert runtime.run(waited(following.call("how many"))) == 4999


async def waited(call):
    return await call


def test_messages_are_counted_wherever_they_are_handled(runtime):
    server = runtime.start(Server()).pid

    async def body():
        for number in range(1000):
            await gen_server.call(server, number)

    before = runtime.stats().messages
    runtime.runtime.spawn(body)
    runtime.run_until_idle()

    assert server.reductions == 1000
    assert runtime.stats().messages - before >= 1000


def test_the_caller_is_the_running_process_again_afterwards(runtime, spawn):
    server = runtime.start(Server()).pid
    seen = []

    async def body():
        me = self_pid()
        await gen_server.call(server, "x")
        seen.append(self_pid() is me)
        send(me, "hello")

    pid = spawn(body)
    runtime.run_until_idle()

    assert seen == [True]
    assert pid.is_alive() == (type(pid).__name__ != "PlainPid")


def test_two_that_call_without_end_do_not_keep_a_third_waiting(runtime):
    order = []
    server = runtime.start(Server(order)).pid
    third = runtime.start(Server(order, "third")).pid

    async def body():
        for number in range(10 * LOANS):
            if number == 5:
                third.cast("now")
            await gen_server.call(server, number)

    runtime.runtime.spawn(body)
    runtime.run_until_idle()

    assert order.index(("third", "now")) - order.index(("server", 4)) <= LOANS + 1


async def test_two_that_call_without_end_leave_the_loop_its_turns():
    runtime = Runtime()
    server = runtime.start(Server([]))
    stop = []

    async def body():
        while not stop:
            await gen_server.call(server, 0)

    runtime.spawn(body)
    turns_s = []
    before = time.thread_time()
    for _ in range(50):
        await asyncio.sleep(0)
        now = time.thread_time()
        turns_s.append(now - before)
        before = now
    stop.append(True)
    await asyncio.sleep(0.01)

    assert sorted(turns_s)[25] < 0.02


def test_shuffled_queue_alone_decides_who_runs():
    orders = set()
    for seed in range(10):
        runtime = VirtualRuntime(seed=seed)
        order = []
        servers = [runtime.start(Server(order, name)).pid for name in "abc"]

        async def body(servers=servers):
            for server in servers[1:]:
                server.cast("cast")
            await gen_server.call(servers[0], "call")

        runtime.runtime.spawn(body)
        runtime.run_until_idle()
        orders.add(tuple(name for name, _ in order))
        runtime.close()

    assert len(orders) > 2


def test_a_receive_inside_the_caller_still_finds_its_messages(runtime):
    server = runtime.start(Server()).pid
    got = []

    async def body():
        send(self_pid(), "mine")
        await gen_server.call(server, "x")
        got.append(await receive())

    runtime.runtime.spawn(body)
    runtime.run_until_idle()
    assert got == ["mine"]
