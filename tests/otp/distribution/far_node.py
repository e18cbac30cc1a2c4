"""A node of its own OS process for test_remote_processes: python far_node.py FOLDER."""

import asyncio
import sys
from pathlib import Path

from otp import GenServer, NoReply, Reply, Runtime, erlang
from otp.distribution.remote import NodeLinks

COOKIE = b"c" * 32


class Far(GenServer[int]):
    def init(self):
        return 0

    def handle_call(self, request, from_, count):
        if request == "pid":
            return Reply(self.pid, count)
        if request == "count":
            return Reply(count, count)
        return NoReply(count)

    def handle_cast(self, request, count):
        if not isinstance(request, int):
            erlang.link(request)
        return NoReply(count + 1)


async def main():
    runtime = Runtime(node="far")
    runtime.start(Far(), "server")
    links = NodeLinks(runtime, cookie=COOKIE)
    links.dial(Path(sys.argv[1]) / "near")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
