from __future__ import annotations

import asyncio
import statistics
import time

import pytest

from otp import GenServer, NoReply, Pid, Reply, Runtime
from otp.runtime import SLICE

FLOOD = 200_000


class Flooded(GenServer[None]):
    handled = 0

    def init(self) -> None:
        return None

    def handle_cast(self, request, state):
        self.handled += 1
        return NoReply(state)

    def handle_call(self, request, from_, state):
        return Reply(None, state)


class Noting(GenServer[None]):
    """Notes how far the flood is when its own message comes."""

    def __init__(self, flooded: list[Flooded]) -> None:
        self.flooded = flooded
        self.seen: list[int] = []

    def init(self) -> None:
        return None

    def handle_cast(self, request, state):
        self.seen.append(sum(server.handled for server in self.flooded))
        return NoReply(state)

    def handle_call(self, request, from_, state):
        return Reply(None, state)


def flood(runtime: Runtime, servers: list[Flooded]) -> list[Pid]:
    pids = [runtime.start(server) for server in servers]
    for pid in pids:
        for _ in range(FLOOD // len(servers)):
            pid.cast("more")
    return pids


@pytest.mark.parametrize("flooded_processes", [1, 5])
async def test_full_mailboxes_delay_another_message_by_one_slice_each(flooded_processes):
    runtime = Runtime()
    servers = [Flooded() for _ in range(flooded_processes)]
    flood(runtime, servers)
    noting = Noting(servers)
    other = runtime.start(noting)

    other.cast("once")
    await other.call("and answer")

    assert noting.seen == [SLICE * flooded_processes]


async def test_message_sent_inside_the_flood_waits_one_slice():
    runtime = Runtime()
    noting = Noting([])
    other = runtime.start(noting)

    class Sending(Flooded):
        sent: list[int]

        def handle_cast(self, request, state):
            self.handled += 1
            if self.handled % 1000 == 0:
                self.sent.append(self.handled)
                other.cast("now")
            return NoReply(state)

    sending = Sending()
    sending.sent = []
    noting.flooded = [sending]
    (pid,) = flood(runtime, [sending])
    await pid.call("answer when all is done", None)
    await other.call("and you", None)

    waits = [seen - sent for sent, seen in zip(sending.sent, noting.seen, strict=True)]
    assert len(waits) == FLOOD / 1000
    assert max(waits) < SLICE


async def test_loop_gets_its_turn_every_few_milliseconds_of_a_flood():
    runtime = Runtime()
    server = Flooded()
    flood(runtime, [server])

    turns_s = []
    before = time.thread_time()
    while server.handled < FLOOD:
        await asyncio.sleep(0)
        now = time.thread_time()
        turns_s.append(now - before)
        before = now

    assert len(turns_s) > 5
    assert statistics.median(turns_s) < 0.005
