"""The benchmark's rows with asyncio tasks and queues: python -m benchmarks.otp.asyncio_rows ROW NUMBER REPEATS.

A server is a task that reads its queue; a call carries a future. There are no supervisors, so no such rows.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable

from benchmarks.otp.ours import resident_bytes

Queue = asyncio.Queue[asyncio.Future[int] | None]


class Server:
    """A task that counts, and its queue."""

    def __init__(self) -> None:
        self.queue: Queue = asyncio.Queue()
        self.task = asyncio.create_task(self.run())

    async def run(self) -> None:
        count = 0
        while True:
            call = await self.queue.get()
            if call is None:
                count += 1
            else:
                call.set_result(count)

    def cast(self) -> None:
        self.queue.put_nowait(None)

    async def call(self) -> int:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.queue.put_nowait(answer)
        return await answer


async def start(number: int) -> float:
    begun = time.perf_counter()
    servers = []
    for _ in range(number):
        servers.append(Server())
        await asyncio.sleep(0)  # until it waits for its first message, as a started gen_server does
    return number / (time.perf_counter() - begun)


async def cast(number: int) -> float:
    server = Server()
    begun = time.perf_counter()
    for _ in range(number):
        server.cast()
    assert await server.call() == number
    return number / (time.perf_counter() - begun)


async def call(number: int) -> float:
    server = Server()
    begun = time.perf_counter()
    for _ in range(number):
        await server.call()
    return number / (time.perf_counter() - begun)


async def fan_out(number: int) -> float:
    servers = [Server() for _ in range(number)]
    await asyncio.sleep(0)
    begun = time.perf_counter()
    for server in servers:
        server.cast()
    for server in servers:
        assert await server.call() == 1
    return number / (time.perf_counter() - begun)


async def ring(number: int) -> float:
    queues: list[asyncio.Queue[int]] = [asyncio.Queue() for _ in range(1000)]
    arrived = asyncio.get_running_loop().create_future()

    async def hop(index: int) -> None:
        while True:
            left = await queues[index].get()
            if left == 0:
                arrived.set_result(None)
            else:
                queues[index - 1].put_nowait(left - 1)

    tasks = [asyncio.create_task(hop(index)) for index in range(len(queues))]
    await asyncio.sleep(0)
    begun = time.perf_counter()
    queues[0].put_nowait(number)
    await arrived
    assert len(tasks) == len(queues)
    return number / (time.perf_counter() - begun)


async def memory(number: int) -> float:
    gc.collect()
    before = resident_bytes()
    servers = [Server() for _ in range(number)]
    await asyncio.sleep(0)
    gc.collect()
    assert len(servers) == number
    return (resident_bytes() - before) / number


ROWS: dict[str, Callable[[int], Awaitable[float]]] = {
    "start": start,
    "cast": cast,
    "call": call,
    "fan_out": fan_out,
    "ring": ring,
    "memory": memory,
}


async def run_row(name: str, number: int) -> float:
    return await ROWS[name](number)


def main() -> None:
    name, number, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    print(json.dumps([asyncio.run(run_row(name, number)) for _ in range(repeats)]))


if __name__ == "__main__":
    main()
