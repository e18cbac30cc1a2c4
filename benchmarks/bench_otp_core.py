"""Speed and memory of the OTP core: each row the median of a few rounds in fresh runtimes.

Usage: python benchmarks/bench_otp_core.py [--rounds N] [--processes N]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import platform
import resource
import statistics
import time
from collections.abc import Awaitable, Callable

from otp import (
    ChildSpec,
    DynamicSupervisor,
    GenServer,
    NoReply,
    Pid,
    Reply,
    Restart,
    Runtime,
    Strategy,
    Supervisor,
    SupervisorFlags,
    dynamic_supervisor,
    gen_server,
)


class Counter(GenServer[int]):
    __slots__ = ()

    def init(self) -> int:
        return 0

    def handle_call(self, request: object, from_: object, state: int) -> Reply[int]:
        return Reply(state, state)

    def handle_cast(self, request: object, state: int) -> NoReply[int]:
        return NoReply(state + 1)


class Client(GenServer[None]):
    """Runs a coroutine inside a process."""

    def init(self) -> None:
        return None

    async def handle_call(
        self, request: Callable[[], Awaitable[object]], from_: object, state: None
    ) -> Reply[None]:
        return Reply(await request(), state)


class Hop(GenServer["Pid | None"]):
    __slots__ = ("end",)

    def __init__(self, end: asyncio.Future[None]) -> None:
        self.end = end

    def init(self) -> Pid | None:
        return None

    def handle_cast(self, request: int | Pid, state: Pid | None) -> NoReply[Pid | None]:
        if isinstance(request, Pid):
            return NoReply(request)
        if request == 0:
            self.end.set_result(None)
        else:
            assert state is not None
            state.cast(request - 1)
        return NoReply(state)


def start_counter() -> Pid:
    return gen_server.start_link(Counter())


async def inside(runtime: Runtime, work: Callable[[], Awaitable[object]]) -> float:
    """Seconds that `work` takes inside a process."""
    client = runtime.start(Client())
    begun = time.perf_counter()
    await client.call(work, None)
    return time.perf_counter() - begun


async def casts(number: int) -> float:
    runtime = Runtime()
    server = runtime.start(Counter())

    async def work() -> None:
        for _ in range(number):
            gen_server.cast(server, 1)
        assert await gen_server.call(server, "get", None) == number

    return number / await inside(runtime, work)


async def calls(number: int) -> float:
    runtime = Runtime()
    server = runtime.start(Counter())

    async def work() -> None:
        for _ in range(number):
            await gen_server.call(server, "get")

    return number / await inside(runtime, work)


async def ring(number: int, size: int = 1000) -> float:
    runtime = Runtime()
    end = asyncio.get_running_loop().create_future()
    pids = [runtime.start(Hop(end)) for _ in range(size)]
    for index, pid in enumerate(pids):
        pid.cast(pids[index - 1])
    begun = time.perf_counter()
    pids[0].cast(number)
    await end
    return number / (time.perf_counter() - begun)


async def starts(number: int) -> float:
    runtime = Runtime()
    sup = runtime.start(DynamicSupervisor())
    spec = ChildSpec("counter", start_counter, restart=Restart.TEMPORARY)

    async def work() -> None:
        for _ in range(number):
            await dynamic_supervisor.start_child(sup, spec)

    return number / await inside(runtime, work)


async def fan_out(number: int) -> float:
    runtime = Runtime()
    pids = [runtime.start(Counter()) for _ in range(number)]

    async def work() -> None:
        for pid in pids:
            pid.cast(1)
        for pid in pids:
            assert await pid.call("get") == 1

    return number / await inside(runtime, work)


async def restarts(number: int) -> float:
    runtime = Runtime()
    spec = ChildSpec("counter", lambda: gen_server.start_link(Counter(), name="it"))
    sup = Supervisor(SupervisorFlags(intensity=10**9, period_s=1), [spec])
    runtime.start(sup)

    async def work() -> None:
        for _ in range(number):
            old = runtime.whereis("it")
            assert old is not None
            runtime.exit(old, "kill")
            while runtime.whereis("it") in (None, old):  # noqa: ASYNC110 - the loop itself is measured
                await asyncio.sleep(0)

    begun = time.perf_counter()
    await work()
    return number / (time.perf_counter() - begun)


async def group_restart_s(number: int) -> float:
    runtime = Runtime()
    specs = [ChildSpec(index, start_counter) for index in range(number)]
    flags = SupervisorFlags(strategy=Strategy.ONE_FOR_ALL)
    runtime.start(Supervisor(flags, specs))
    before = runtime.stats().started
    newest = next(runtime.processes())
    begun = time.perf_counter()
    runtime.exit(newest, "kill")
    while runtime.stats().started < before + number:  # noqa: ASYNC110 - the loop itself is measured
        await asyncio.sleep(0)
    return time.perf_counter() - begun


async def bytes_each(number: int) -> float:
    runtime = Runtime()
    sup = runtime.start(DynamicSupervisor())
    spec = ChildSpec("counter", start_counter)

    async def fill() -> None:
        for _ in range(number):
            await dynamic_supervisor.start_child(sup, spec)

    gc.collect()
    before = resident_bytes()
    await inside(runtime, fill)
    gc.collect()
    return (resident_bytes() - before) / number


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123 - procfs
        return int(file.read().split()[1]) * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=100_000)
    options = parser.parse_args()
    rows: list[tuple[str, Callable[[int], Awaitable[float]], int]] = [
        ("bytes per idle gen_server under a dynamic supervisor", bytes_each, options.processes),
        ("casts to one server /s", casts, 300_000),
        ("call round trips /s", calls, 100_000),
        ("ring of 1,000, hops /s", ring, 200_000),
        ("starts under a dynamic supervisor /s", starts, 50_000),
        ("fan-out, one cast and one call each, pairs /s", fan_out, 50_000),
        ("supervisor restarts /s", restarts, 5_000),
        ("one_for_all of 10,000, kill to all started, s", group_restart_s, 10_000),
    ]
    logging.getLogger("otp").setLevel(logging.CRITICAL)  # thousands of kills are meant
    load = os.getloadavg()[0]
    print(f"{platform.python_implementation()} {platform.python_version()}, load {load:.1f}")
    for name, bench, number in rows:
        rounds = 1 if bench is bytes_each else options.rounds
        results = []
        for _ in range(rounds):
            gc.collect()
            results.append(asyncio.run(_ran(bench, number)))
        print(f"{name:55} {statistics.median(results):>14,.3g}")


async def _ran(bench: Callable[[int], Awaitable[float]], number: int) -> float:
    return await bench(number)


if __name__ == "__main__":
    main()
