"""The benchmark's rows on our runtime: python -m benchmarks.otp.ours ROW NUMBER REPEATS, prints a JSON list.

Standard library only. The row `remote_cast`, whose links need msgspec, is in `node_casts`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from otp import (
    CallResult,
    ChildSpec,
    From,
    GenServer,
    NoReply,
    Pid,
    Reply,
    Result,
    Runtime,
    Strategy,
    SupervisorFlags,
    dynamic_supervisor,
    gen_server,
    supervisor,
    whereis,
)
from otp import exit as exit_process

__all__ = ["ROWS", "run_row"]

Work = Callable[[], Awaitable[float]]


class Counter(GenServer[int]):
    """Counts casts, answers with the count."""

    __slots__ = ()
    starts = 0

    def init(self) -> int:
        return 0

    def handle_call(self, request: object, from_: From, state: int) -> CallResult[int]:
        return Reply(state, state)

    def handle_cast(self, request: object, state: int) -> Result[int]:
        return NoReply(state + 1)


class CountedCounter(Counter):
    """Counts its starts as well."""

    __slots__ = ()

    def init(self) -> int:
        Counter.starts += 1
        return 0


class Hop(GenServer["Pid | None"]):
    """One process of the ring: hands a falling number on to the next."""

    __slots__ = ("arrived",)

    def __init__(self, arrived: asyncio.Future[None]) -> None:
        self.arrived = arrived

    def init(self) -> Pid | None:
        return None

    def handle_cast(self, request: int | Pid, state: Pid | None) -> Result[Pid | None]:
        if isinstance(request, Pid):
            return NoReply(request)
        if request == 0:
            self.arrived.set_result(None)
        elif state is not None:
            gen_server.cast(state, request - 1)
        return NoReply(state)


class Client(GenServer[None]):
    """Runs a row inside a process, as the BEAM's client is one."""

    def init(self) -> None:
        return None

    async def handle_call(self, request: Work, from_: From, state: None) -> CallResult[None]:
        return Reply(await request(), state)


def start_counter() -> Pid:
    return gen_server.start_link(Counter())


async def start(number: int) -> float:
    sup = dynamic_supervisor.start_link()
    begun = time.perf_counter()
    await start_children(sup, number)
    return number / (time.perf_counter() - begun)


async def start_children(sup: Pid, number: int) -> None:
    spec = ChildSpec("counter", start_counter)
    for _ in range(number):
        await dynamic_supervisor.start_child(sup, spec)


async def cast(number: int) -> float:
    server = start_counter()
    begun = time.perf_counter()
    for _ in range(number):
        gen_server.cast(server, "add")
    assert await gen_server.call(server, "get", None) == number
    return number / (time.perf_counter() - begun)


async def call(number: int) -> float:
    server = start_counter()
    begun = time.perf_counter()
    for _ in range(number):
        await gen_server.call(server, "get")
    return number / (time.perf_counter() - begun)


async def fan_out(number: int) -> float:
    servers = [start_counter() for _ in range(number)]
    begun = time.perf_counter()
    for server in servers:
        gen_server.cast(server, "add")
    for server in servers:
        assert await gen_server.call(server, "get") == 1
    return number / (time.perf_counter() - begun)


async def ring(number: int) -> float:
    arrived = asyncio.get_running_loop().create_future()
    hops = [gen_server.start_link(Hop(arrived)) for _ in range(1000)]
    for index, hop in enumerate(hops):
        gen_server.cast(hop, hops[index - 1])
    begun = time.perf_counter()
    gen_server.cast(hops[0], number)
    await arrived
    return number / (time.perf_counter() - begun)


async def memory(number: int) -> float:
    sup = dynamic_supervisor.start_link()
    await start_children(sup, 100)
    gc.collect()
    before = resident_bytes()
    await start_children(sup, number)
    gc.collect()
    return (resident_bytes() - before) / number


async def restart(number: int) -> float:
    spec = ChildSpec("it", lambda: gen_server.start_link(Counter(), name="it"))
    await supervisor.start_link(SupervisorFlags(intensity=10**9, period_s=1), [spec])
    begun = time.perf_counter()
    for _ in range(number):
        old = whereis("it")
        assert old is not None
        exit_process(old, "kill")
        while whereis("it") in {None, old}:  # noqa: ASYNC110 - as the BEAM's client does
            await asyncio.sleep(0)
    return number / (time.perf_counter() - begun)


async def one_for_all(number: int) -> float:
    Counter.starts = 0
    specs = [
        ChildSpec(index, lambda: gen_server.start_link(CountedCounter())) for index in range(number)
    ]
    flags = SupervisorFlags(strategy=Strategy.ONE_FOR_ALL, intensity=10**9, period_s=1)
    sup = await supervisor.start_link(flags, specs)
    newest = (await supervisor.which_children(sup))[0].pid
    assert newest is not None
    begun = time.perf_counter()
    exit_process(newest, "kill")
    while Counter.starts < 2 * number:  # noqa: ASYNC110 - as the BEAM's client does
        await asyncio.sleep(0)
    return number / (time.perf_counter() - begun)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


ROWS: dict[str, Callable[[int], Awaitable[float]]] = {
    "start": start,
    "cast": cast,
    "call": call,
    "fan_out": fan_out,
    "ring": ring,
    "memory": memory,
    "restart": restart,
    "one_for_all": one_for_all,
}


def run_row(row: Callable[[int], Awaitable[float]], number: int) -> float:
    """Run a row once, in a fresh runtime, inside a process."""

    async def main() -> float:
        client = Runtime().start(Client())
        result = await client.call(lambda: row(number), None)
        assert isinstance(result, float)
        return result

    gc.collect()
    return asyncio.run(main())


def main() -> None:
    name, number, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    logging.disable(logging.CRITICAL)  # thousands of kills are meant
    print(json.dumps([run_row(ROWS[name], number) for _ in range(repeats)]))


if __name__ == "__main__":
    main()
