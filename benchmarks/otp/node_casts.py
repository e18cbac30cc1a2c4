"""Casts to a process on another node, with `otp.distribution.remote`: a server in another OS process, over its pid.

python -m benchmarks.otp.node_casts SOCKET NUMBER REPEATS starts the other process itself and prints casts/s as JSON.
From other code: `await casts_per_s(path, number, repeats)`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from otp import GenServer, NoReply, Reply, Runtime
from otp.distribution.remote import NodeLinks
from otp.node_names import OnNode

COOKIE = b"bench" * 7
MOST_BACKLOG = 8192
LOOK_EVERY = 512


class Server(GenServer[int]):
    """Counts its casts; a call tells the count, or the pid."""

    def init(self):
        return 0

    def handle_call(self, request, from_, count):
        return Reply(self.pid if request == "pid" else count, count)

    def handle_cast(self, request, count):
        return NoReply(count + 1)


async def casts_per_s(path: Path, number: int, repeats: int) -> list[float]:
    """Measure `repeats` times `number` casts, until the last one has been handled."""
    links = NodeLinks(Runtime(node="client"), cookie=COOKIE)
    await links.listen(path)
    command = [sys.executable, "-m", "benchmarks.otp.node_casts", str(path), "serve"]
    server = await asyncio.create_subprocess_exec(*command)
    try:
        await links.connected("server")
        return await _measure(links, number, repeats)
    finally:
        links.close()
        server.kill()
        await server.wait()


async def _measure(links: NodeLinks, number: int, repeats: int) -> list[float]:
    pid = await links.runtime.call(OnNode("server", "server"), "pid")
    results = []
    for repeat in range(1, repeats + 1):
        begun = time.perf_counter()
        for sent in range(number):
            pid.cast("add")
            if not sent % LOOK_EVERY and links.backlog("server") >= MOST_BACKLOG:
                await links.drain("server", MOST_BACKLOG // 2)
        assert await pid.call("count", None) == number * repeat
        results.append(number / (time.perf_counter() - begun))
    return results


async def _serve(path: Path) -> None:
    runtime = Runtime(node="server")
    runtime.start(Server(), "server")
    NodeLinks(runtime, cookie=COOKIE).dial(path)
    await asyncio.Event().wait()


def main() -> None:
    path = Path(sys.argv[1])
    if sys.argv[2] == "serve":
        asyncio.run(_serve(path))
    else:
        print(json.dumps(asyncio.run(casts_per_s(path, int(sys.argv[2]), int(sys.argv[3])))))


if __name__ == "__main__":
    main()
