"""Root applications for the tests of single behaviours; each writes lines of JSON into `events`."""

import asyncio
import json
import logging
import os
import threading
import time
from pathlib import Path

from otp import ChildSpec, GenServer, Stop, Supervisor, SupervisorFlags
from otp.distribution import node_child
from otp.distribution.node import Node, NodeStartError


def say(node: Node, what: str, **more) -> None:
    line = json.dumps({"what": what, "node": node.name, "pid": node.pid, **more}) + "\n"
    file = os.open(node.run_dir / "events", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, line.encode())
    os.close(file)


class Leaf(GenServer[None]):
    """A pod's root process; says that it was stopped in an orderly way."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def init(self):
        self.trap_exit()

    def handle_cast(self, request, state):
        return Stop(request, state)

    def terminate(self, reason, state):
        say(self.node, "terminated", reason=str(reason))


async def leaf(node: Node):
    say(
        node,
        "started",
        payload=node.payload.decode(),
        epoch=node.epoch,
        threads=threading.active_count(),
        sockets=_sockets(),
    )
    logging.getLogger("leaf").warning("the leaf of %s logs", node.name)
    return node.runtime.start(Leaf(node))


async def refuses(node: Node):
    raise RuntimeError("no such rack")


async def escalates(node: Node):
    pid = node.runtime.start(Leaf(node))
    node.loop.call_later(0.2, pid.cast, ("too_many", "restarts"))
    return pid


async def hangs(node: Node):
    node.loop.call_later(0.5, time.sleep, 3600)


async def works_hard(node: Node):
    """Blocks its loop again and again, for less than the limit."""

    def work() -> None:
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            pass
        node.loop.call_later(0.05, work)

    node.loop.call_soon(work)


async def fails_later(node: Node):
    node.loop.call_later(0.2, lambda: 1 / 0)


async def root_of_one(node: Node) -> None:
    """Starts each application of the file `plan` once and says how it ended."""
    for number, application in enumerate((node.run_dir / "plan").read_text().split()):
        task = asyncio.ensure_future(_live(node, f"child-{number}", application))
        task.add_done_callback(asyncio.Task.result)


async def _live(node: Node, name: str, application: str) -> None:
    try:
        child = await node.start_child_node(
            name, "pod", f"node_behaviours:{application}", b"the payload", (7, 1)
        )
    except NodeStartError as error:
        say(node, "refused", child=name, reason=error.reason)
        return
    say(node, "up", child=name, child_pid=child.pid)
    text = await child.exited
    say(node, "exited", child=name, reason=child.exit_reason, text=text)


async def supervising_root(node: Node):
    """A supervisor over one `leaf`, through `node_child`."""
    spec = ChildSpec(
        id="leaf",
        start=lambda: node_child.start_link(
            node, "leaf", "pod", "node_behaviours:leaf", b"", lambda: (1, time.monotonic_ns())
        ),
        shutdown_s=6.0,
    )
    return await node.runtime.start_wait(Supervisor(SupervisorFlags(), [spec]))


def _sockets() -> list[str]:
    return [
        target
        for entry in Path("/proc/self/fd").iterdir()
        if (target := str(entry.readlink() if entry.is_symlink() else "")).startswith("socket")
    ]
