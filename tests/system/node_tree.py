"""A small tree for the system tests: root, two zones, two pods each, supervised as a product would do it.

Every node writes a file into the folder `notes` when it is up.
"""

import json
from itertools import count

from otp import ChildSpec, GenServer, Supervisor, SupervisorFlags
from otp.distribution import node_child
from otp.distribution.node import Node


class Idle(GenServer[None]):
    def init(self):
        return None


async def root(node: Node):
    _note(node)
    return await _supervise(node, "zone", ["eu/a", "eu/b"])


async def zone(node: Node):
    _note(node)
    return await _supervise(node, "pod", [f"{node.name}/rack-{n}" for n in (1, 2)])


async def pod(node: Node):
    _note(node)
    return node.runtime.start(Idle())


async def _supervise(node: Node, kind: str, names: list[str]):
    flags = SupervisorFlags(intensity=100, period_s=10.0)
    return await node.runtime.start_wait(
        Supervisor(flags, [_child(node, kind, name) for name in names])
    )


def _child(node: Node, kind: str, name: str) -> ChildSpec:
    numbers = count(1)
    issue = lambda: (*node.epoch, next(numbers))  # noqa: E731
    return ChildSpec(
        id=name,
        start=lambda: node_child.start_link(node, name, kind, f"node_tree:{kind}", b"", issue),
        shutdown_s=6.0,
    )


def _note(node: Node) -> None:
    notes = node.run_dir / "notes"
    notes.mkdir(exist_ok=True)
    text = json.dumps({"pid": node.pid, "epoch": node.epoch})
    written = notes / f".{node.pid}"
    written.write_text(text)
    written.rename(notes / f"{node.name.replace('/', '~')}.json")
