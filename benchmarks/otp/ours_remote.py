"""The row `remote_cast` on our runtime: casts over an otp.distribution link to a server in another OS process.

python -m benchmarks.otp.ours_remote SOCKET NUMBER REPEATS starts the other process itself.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.otp.ours import Counter
from otp import Pid, Runtime
from otp.distribution.link import Dialer, Handler, Hello, Link, listen

COOKIE = b"bench" * 7
MOST_BACKLOG = 8192


class Serving:
    """Hands what comes over the link to the local server."""

    def __init__(self, server: Pid) -> None:
        self.server = server
        self.answering: asyncio.Task[None] | None = None

    def received(self, link: Link, messages: Sequence[list[object]]) -> None:
        for kind, request in messages:
            if kind == "cast":
                self.server.cast(request)
            else:
                self.answering = asyncio.create_task(self.answer(link, request))

    async def answer(self, link: Link, request: object) -> None:
        link.send(["reply", await self.server.call(request, None)])

    def lost(self, link: Link, reason: str) -> None:
        asyncio.get_running_loop().stop()


class Asking:
    """Holds the link to the other node and waits for answers."""

    def __init__(self) -> None:
        self.linked: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        self.answers: asyncio.Queue[object] = asyncio.Queue()

    def __call__(self, link: Link) -> Handler:
        self.linked.set_result(link)
        return self

    def received(self, link: Link, messages: Sequence[list[object]]) -> None:
        for _, value in messages:
            self.answers.put_nowait(value)

    def lost(self, link: Link, reason: str) -> None:
        pass


def hello(node: str) -> Hello:
    return Hello(node, "bench", 1, (1,), 1, "i1")


async def serve(path: Path) -> None:
    server = Runtime().start(Counter())
    await listen(
        path,
        me=lambda: hello("server"),
        cookie=COOKIE,
        encode=msgspec.msgpack.encode,
        decode=msgspec.msgpack.decode,
        accept=lambda _: Serving(server),
    )
    await asyncio.Event().wait()


async def ask(path: Path, number: int, repeats: int) -> list[float]:
    asking = Asking()
    dialer = Dialer(
        path,
        me=lambda: hello("client"),
        cookie=COOKIE,
        encode=msgspec.msgpack.encode,
        decode=msgspec.msgpack.decode,
        connected=asking,
    )
    link = await asking.linked
    results = []
    for repeat in range(repeats):
        begun = time.perf_counter()
        await casts(link, number)
        link.send(["call", "get"])
        assert await asking.answers.get() == number * (repeat + 1)
        results.append(number / (time.perf_counter() - begun))
    dialer.close()
    return results


async def casts(link: Link, number: int) -> None:
    for _ in range(number):
        link.send(["cast", "add"])
        if link.backlog >= MOST_BACKLOG:
            await link.drain(MOST_BACKLOG // 2)


def main() -> None:
    path = Path(sys.argv[1])
    if sys.argv[2] == "serve":
        try:
            asyncio.run(serve(path))
        except RuntimeError:  # the loop was stopped: the client has gone
            return
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.otp.ours_remote", path, "serve"])
    try:
        print(json.dumps(asyncio.run(ask(path, int(sys.argv[2]), int(sys.argv[3])))))
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
