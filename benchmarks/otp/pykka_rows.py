"""The benchmark's rows with Pykka: python -m benchmarks.otp.pykka_rows ROW NUMBER REPEATS.

An actor is a thread, so the rows with many servers have fewer here. There are no supervisors, so no such rows.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable

import pykka

from benchmarks.otp.ours import resident_bytes

MOST_ACTORS = 2000


class Counter(pykka.ThreadingActor):
    """Counts tells, answers with the count."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_receive(self, message: str) -> int | None:
        if message == "get":
            return self.count
        self.count += 1
        return None


class Hop(pykka.ThreadingActor):
    """One actor of the ring."""

    def __init__(self, arrived: threading.Event) -> None:
        super().__init__()
        self.arrived = arrived
        self.next: pykka.ActorRef[Hop] | None = None

    def on_receive(self, message: pykka.ActorRef[Hop] | int) -> None:
        if isinstance(message, pykka.ActorRef):
            self.next = message
        elif message == 0:
            self.arrived.set()
        elif self.next is not None:
            self.next.tell(message - 1)


def start(number: int) -> float:
    number = min(number, MOST_ACTORS)
    begun = time.perf_counter()
    for _ in range(number):
        Counter.start()
    return number / (time.perf_counter() - begun)


def cast(number: int) -> float:
    server = Counter.start()
    begun = time.perf_counter()
    for _ in range(number):
        server.tell("add")
    assert server.ask("get") == number
    return number / (time.perf_counter() - begun)


def call(number: int) -> float:
    server = Counter.start()
    begun = time.perf_counter()
    for _ in range(number):
        server.ask("get")
    return number / (time.perf_counter() - begun)


def fan_out(number: int) -> float:
    number = min(number, MOST_ACTORS)
    servers = [Counter.start() for _ in range(number)]
    begun = time.perf_counter()
    for server in servers:
        server.tell("add")
    for server in servers:
        assert server.ask("get") == 1
    return number / (time.perf_counter() - begun)


def ring(number: int) -> float:
    arrived = threading.Event()
    hops = [Hop.start(arrived) for _ in range(1000)]
    for index, hop in enumerate(hops):
        hop.ask(hops[index - 1])
    begun = time.perf_counter()
    hops[0].tell(number)
    arrived.wait()
    return number / (time.perf_counter() - begun)


def memory(number: int) -> float:
    number = min(number, MOST_ACTORS)
    before = resident_bytes()
    for _ in range(number):
        Counter.start()
    return (resident_bytes() - before) / number


ROWS: dict[str, Callable[[int], float]] = {
    "start": start,
    "cast": cast,
    "call": call,
    "fan_out": fan_out,
    "ring": ring,
    "memory": memory,
}


def run_row(name: str, number: int) -> float:
    try:
        return ROWS[name](number)
    finally:
        pykka.ActorRegistry.stop_all()


def main() -> None:
    name, number, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    # A tenth of the work: these rows are ten to thirty times slower.
    number = max(1000, number // 10)
    print(json.dumps([run_row(name, number) for _ in range(repeats)]))


if __name__ == "__main__":
    main()
