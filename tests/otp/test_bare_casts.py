"""A cast lies in the mailbox bare: whatever it is, it arrives as that cast, and in its place."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from otp import GenServer, GenStatem, NoReply, Reply, gen_server, receive, sys
from otp.gen_statem import HANDLE_EVENT_FUNCTION, KeepStateAndData, Ok
from otp.process import DeadLetters, Down
from otp.waiting import From

ODD = {
    "nothing": None,
    "queue": deque([1, 2]),
    "empty queue": deque(),
    "pair that looks like an envelope": (1, "call"),
    "triple that looks like a call": (1, "get", None),
    "dead letters": DeadLetters("normal"),
    "down": Down(None, None, "normal"),  # type: ignore[arg-type]
    "result": NoReply("x"),
    "class": From,
    "call": "of the test: the `From` of an unanswered call",
}


class Keeper(GenServer[list[Any]]):
    """Keeps all it is told, in order; "later" is not answered."""

    def init(self):
        return []

    def handle_call(self, request, from_, state):
        if request == "later":
            return NoReply([*state, from_])
        return Reply(state, state)

    def handle_cast(self, request, state):
        return NoReply([*state, ("cast", request)])

    def handle_info(self, message, state):
        return NoReply([*state, ("info", message)])


class KeeperMachine(GenStatem[str, list[Any]]):
    def callback_mode(self):
        return HANDLE_EVENT_FUNCTION

    def init(self):
        return Ok("only", [])

    def handle_event(self, kind, content, state, data):
        data.append((kind, content))
        return KeepStateAndData()


@pytest.fixture(params=ODD)
def odd(request, runtime):
    if request.param != "call":
        return ODD[request.param]
    other = runtime.start(Keeper())
    other.pid.call("later", None)
    runtime.run_until_idle()
    return other.call("all")[0]


CASTS = [
    pytest.param(gen_server.cast, id="gen_server.cast"),
    pytest.param(lambda pid, request: pid.cast(request), id="Pid.cast"),
    pytest.param(lambda pid, request: pid.runtime.cast(pid, request), id="Runtime.cast"),
]


@pytest.mark.parametrize("cast", CASTS)
@pytest.mark.parametrize("before", [0, 1, 2])
def test_server_takes_any_object_as_cast(runtime, odd, cast, before):
    keeper = runtime.start(Keeper())
    for number in range(before):
        cast(keeper.pid, number)
    cast(keeper.pid, odd)
    keeper.pid.send("last")

    assert keeper.pid.queue_length() == before + 2
    runtime.run_until_idle()

    got = keeper.call("all")
    assert got[:before] == [("cast", number) for number in range(before)]
    assert got[before][0] == "cast"
    assert got[before][1] is odd
    assert got[before + 1 :] == [("info", "last")]


@pytest.mark.parametrize("before", [0, 2])
def test_machine_takes_any_object_as_cast(runtime, odd, before):
    machine = runtime.start(KeeperMachine())
    for number in range(before):
        machine.pid.cast(number)
    machine.pid.cast(odd)
    runtime.run_until_idle()

    data = sys_state(runtime, machine.pid)[1]
    assert [kind for kind, _ in data] == ["cast"] * (before + 1)
    assert data[before][1] is odd


def sys_state(runtime, pid):
    answers = []

    async def ask():
        answers.append(await sys.get_state(pid))

    runtime.runtime.spawn(ask)
    runtime.run_until_idle()
    return answers[0]


@pytest.mark.parametrize("waits_first", [True, False])
def test_plain_process_receives_any_object_as_cast(runtime, odd, waits_first):
    got = []

    async def body():
        got.append(await receive())

    pid = runtime.runtime.spawn(body)
    if waits_first:
        runtime.run_until_idle()
    gen_server.cast(pid, odd)
    runtime.run_until_idle()

    assert got[0][0] == "$gen_cast"
    assert got[0][1] is odd


def test_waiting_receive_is_woken_by_a_cast_behind_messages_it_does_not_want(runtime):
    got = []

    async def body():
        got.append(await receive(lambda message: message == ("$gen_cast", "wanted")))

    pid = runtime.runtime.spawn(body)
    runtime.run_until_idle()
    for text in ("a", "b", "c"):
        gen_server.cast(pid, text)
    runtime.run_until_idle()
    assert got == []

    gen_server.cast(pid, "wanted")
    runtime.run_until_idle()
    assert got == [("$gen_cast", "wanted")]
    assert pid.exit_reason == "normal"


def test_receive_takes_the_cast_it_chose_among_equal_ones(runtime):
    left = []

    async def body():
        seen = []

        def second_of_the_same(message):
            seen.append(message)
            return seen.count(message) == 2

        for text in ("same", "other", "same"):
            gen_server.cast(pid, text)
        await receive(second_of_the_same)
        left.extend([await receive(), await receive()])

    pid = runtime.runtime.spawn(body)
    runtime.run_until_idle()
    assert left == [("$gen_cast", "same"), ("$gen_cast", "other")]


def test_suspended_server_keeps_casts_of_any_kind_for_later(runtime, odd):
    keeper = runtime.start(Keeper())

    async def script():
        await sys.suspend(keeper.pid)
        gen_server.cast(keeper.pid, odd)
        gen_server.cast(keeper.pid, "next")
        assert await sys.get_state(keeper.pid) == []
        await sys.resume(keeper.pid)

    runtime.runtime.spawn(script)
    runtime.run_until_idle()

    got = keeper.call("all")
    assert got[0][1] is odd
    assert got[1] == ("cast", "next")


def test_dead_process_drops_a_cast_of_any_kind(runtime, odd):
    keeper = runtime.start(Keeper())
    keeper.pid.die("shutdown")

    gen_server.cast(keeper.pid, odd)

    assert keeper.pid.queue_length() == 0
    if isinstance(odd, From):
        assert not odd.done  # it was a message, not a call
