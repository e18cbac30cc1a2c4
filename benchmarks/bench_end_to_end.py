"""Durable accepts, latency and throughput of a whole server, and how fast a killed pod is ready again.

Everything runs on this machine at once: the server, four pods, the simulated devices and the clients.
Each figure is the median of `--rounds` and ends as a line `bench: <name>=<value> <unit>`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from benchmarks.local_server import LocalServer, kill
from benchmarks.raw_http import RawConnection

POD = """
[region.eu.zone.{zone}.pod.{pod}]
driver = "simulated"
intensity = 1000
period = "60s"
[region.eu.zone.{zone}.pod.{pod}.resource."d-{{0001..{count:04}}}"]
class = "host"
"""


def infrastructure(counts: dict[str, int]) -> str:
    """An operator's file with these pods ("a/p1") and so many devices in each."""
    parts = ['[infrastructure]\nname = "bench"\n']
    for path, count in counts.items():
        zone, pod = path.split("/")
        parts.append(POD.format(zone=zone, pod=pod, count=count))
    return "".join(parts)


def noop(pod: str, device: int) -> dict[str, object]:
    """A unit of one command that changes nothing."""
    return {"resource": f"eu/{pod}/d-{device:04}", "commands": [{"verb": "noop"}]}


async def all_ready(api: RawConnection, wanted: int, timeout_s: float = 120.0) -> float:
    """Wait until `wanted` resources are ready; answers the seconds it took."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < timeout_s:
        status = await api.json("GET", "/v1/status")
        assert isinstance(status, dict)
        if status["resources"].get("ready", 0) >= wanted:
            return time.perf_counter() - begin
        await asyncio.sleep(0.02)
    raise AssertionError(f"only {status['resources']} after {timeout_s} s")


async def all_done(api: RawConnection, timeout_s: float = 300.0) -> None:
    """Wait until no unit is under way."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < timeout_s:
        status = await api.json("GET", "/v1/status")
        assert isinstance(status, dict)
        units = status["units"]
        if not sum(units.get(s, 0) for s in ("pending", "dispatched", "executing", "in_doubt")):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"still {units} after {timeout_s} s")


async def bulk_accepts(api: RawConnection, pods: list[str], count: int) -> float:
    """One client, batches of 5,000: accepted units a second."""
    encoder = msgspec.json.Encoder()
    batches = [
        encoder.encode([noop(pods[i % len(pods)], i // 4 % 50 + 1) for i in range(at, at + 5000)])
        for at in range(0, count, 5000)
    ]
    begin = time.perf_counter()
    for batch in batches:
        status, answer = await api.request("POST", "/v1/work", batch)
        assert status == 202, answer[:300]
    return count / (time.perf_counter() - begin)


async def single_accepts(socket: Path, pods: list[str], clients: int, each: int) -> float:
    """So many clients, one unit a request: accepted units a second in all."""
    connections = [await RawConnection.open(socket) for _ in range(clients)]

    async def client(number: int, api: RawConnection) -> None:
        body = msgspec.json.encode([noop(pods[number % len(pods)], number % 50 + 1)])
        for _ in range(each):
            status, answer = await api.request("POST", "/v1/work", body)
            assert status == 202, answer[:300]

    begin = time.perf_counter()
    await asyncio.gather(*(client(n, c) for n, c in enumerate(connections)))
    spent = time.perf_counter() - begin
    for connection in connections:
        connection.close()
    return clients * each / spent


async def latency(api: RawConnection, pods: list[str], count: int) -> list[float]:
    """Submit one unit on an idle system and wait for its end: sorted milliseconds."""
    spent = []
    for i in range(count):
        begin = time.perf_counter()
        answer = await api.json("POST", "/v1/work", [noop(pods[i % len(pods)], i % 50 + 1)])
        assert isinstance(answer, list)
        done = await api.json("GET", f"/v1/work/{answer[0]['id']}?wait=10")
        assert isinstance(done, dict)
        assert done["state"] == "succeeded", done
        spent.append((time.perf_counter() - begin) * 1e3)
    return sorted(spent)


async def throughput(api: RawConnection, pods: list[str], count: int) -> float:
    """Units a second from the first submit to the last end."""
    begin = time.perf_counter()
    await bulk_accepts(api, pods, count)
    await all_done(api)
    return count / (time.perf_counter() - begin)


async def heal(api: RawConnection, server: LocalServer, pod: str, wanted: int) -> float:
    """SIGKILL the pod's process; seconds until every resource is ready again."""
    node = server.node("pod", f"eu/{pod}")
    assert node.pid is not None
    begin = time.perf_counter()
    kill(node.pid, signal.SIGKILL)
    while True:  # until the death is seen
        status = await api.json("GET", "/v1/status")
        assert isinstance(status, dict)
        if status["resources"].get("ready", 0) < wanted:
            break
        if time.perf_counter() - begin > 10:
            raise AssertionError("nobody noticed the death of the pod in 10 s")
        await asyncio.sleep(0.005)
    await all_ready(api, wanted)
    return time.perf_counter() - begin


async def median(rounds: int, measure: Callable[[], Awaitable[float]]) -> float:
    """The median of several runs."""
    return statistics.median([await measure() for _ in range(rounds)])


async def run(options: argparse.Namespace) -> None:
    """Measure everything once, print as it goes."""
    small = {"a/p1": 50, "a/p2": 50, "b/p3": 50, "b/p4": 50}
    pods = list(small)
    print(f"load {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores")
    with LocalServer() as server:
        apply(server, small)
        socket = server.folder / "run" / "api.sock"
        api = await RawConnection.open(socket)
        await all_ready(api, 200)
        times = await latency(api, pods, options.samples)
        report("latency_p50_ms", times[len(times) // 2])
        report("latency_p99_ms", times[int(len(times) * 0.99)])

        async def bulk() -> float:
            rate = await bulk_accepts(api, pods, options.units)
            await all_done(api)
            return rate

        async def single() -> float:
            rate = await single_accepts(socket, pods, 50, options.units // 250)
            await all_done(api)
            return rate

        report("bulk_accepts_per_s", await median(options.rounds, bulk))
        report("single_accepts_per_s", await median(options.rounds, single))
        report(
            "units_per_s",
            await median(options.rounds, lambda: throughput(api, pods, options.units)),
        )
        api.close()
    with LocalServer() as server:
        apply(server, {"a/p1": options.devices, "b/p2": 10})
        api = await RawConnection.open(server.folder / "run" / "api.sock")
        report("first_ready_s", await all_ready(api, options.devices + 10))
        report(
            "heal_s",
            await median(options.rounds, lambda: heal(api, server, "a/p1", options.devices + 10)),
        )
        api.close()


def apply(server: LocalServer, counts: dict[str, int]) -> None:
    """Apply a generated file."""
    path = server.folder / "bench.toml"
    path.write_text(infrastructure(counts))
    server.cli("apply", str(path), "--auto-approve")


def report(name: str, value: float) -> None:
    """Print one figure."""
    print(f"bench: {name}={value:.4g}", flush=True)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--devices", type=int, default=10_000)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
