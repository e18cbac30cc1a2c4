"""The automation tier for real, and orchestration's side of its links played by the test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections import defaultdict
from pathlib import Path

from otp.distribution.link import Hello, listen
from rpc.messages import (
    PROTOCOL,
    Ack,
    Command,
    Define,
    Dispatch,
    Finished,
    Inventory,
    NodeUp,
    PodDefinition,
    Ready,
    Report,
    ResourceDefinition,
    SetTree,
    Stats,
    Supervision,
    Unit,
    Welcome,
    ZoneDefinition,
    decode_up,
    encode,
)


class Tier:
    """Listens where orchestration would; `reports[node]` is what came, once each, in order."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.cookie = secrets.token_hex(32).encode()
        self.links = {}
        self.tree: SetTree | None = None
        self.root_epoch = 0
        self.acknowledges = True
        self.reports = defaultdict(list)
        self.stats: dict[str, Stats] = {}
        self.definitions: dict[str, tuple[ResourceDefinition, ...]] = {}
        self._seen = {}
        self._incarnations = {}
        self._changed = asyncio.Event()
        self._processes = []
        self._listener = None

    async def __aenter__(self):
        (self.run_dir / "cookie").write_bytes(self.cookie)
        (self.run_dir / "cookie").chmod(0o600)
        await self.listen()
        return self

    async def __aexit__(self, *_):
        self.hang_up()
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()

    async def listen(self):
        me = Hello("orchestration", "orchestration", os.getpid(), (), PROTOCOL, "test")
        self._listener = await listen(
            self.run_dir / "orchestration.sock",
            me=lambda: me,
            cookie=self.cookie,
            encode=encode,
            decode=decode_up,
            accept=self._accept,
        )

    def hang_up(self):
        self._listener.close()
        for link in list(self.links.values()):
            link.close()

    async def start_devices(self, *arguments: str):
        await self._start(
            "drivers.device_service",
            "--socket",
            str(self.run_dir / "devices.sock"),
            "--folder",
            str(self.run_dir / "devices"),
            *arguments,
        )

    async def start_automation(self):
        await self._start(
            "otp.distribution.launcher",
            "--run-dir",
            str(self.run_dir),
            "--root",
            "automation.root:start",
        )

    async def _start(self, module: str, *arguments: str):
        environment = {**os.environ, "CLOUDCTL_DEVICES": str(self.run_dir / "devices.sock")}
        log = (self.run_dir / f"{module}.log").open("ab")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *arguments, env=environment, stdout=log, stderr=log
        )
        log.close()
        self._processes.append(process)

    async def until(self, condition, timeout_s=20.0):
        async with asyncio.timeout(timeout_s):
            while not (found := condition()):
                self._changed.clear()
                await self._changed.wait()
        return found

    def of(self, node: str, kind: type):
        return [body for body in self.reports[node] if isinstance(body, kind)]

    def node_up(self, node: str):
        """The latest NodeUp about `node`."""
        parent = node.rpartition("/")[0] if node.count("/") > 1 else "root"
        ups = [body for body in self.of(parent, NodeUp) if body.node == node]
        return ups[-1] if ups else None

    def epochs(self, node: str):
        return {body.path: body.epoch for body in self.of(node, Ready)}

    def finished(self, node: str):
        return {body.unit: body for body in self.of(node, Finished)}

    def define(self, node: str, *definitions: ResourceDefinition, complete: bool = False):
        self.definitions[node] = definitions
        self.links[node].send(Define(1, definitions, complete))

    def dispatch(self, node: str, path: str, *units: Unit):
        epoch = self.epochs(node)[path]
        self.links[node].send_many([Dispatch(path, epoch, unit) for unit in units])

    def _accept(self, link):
        self.links[link.peer.node] = link
        if link.peer.kind == "root":
            self.root_epoch += 1
            link.send(Welcome(link.peer.epoch[0] if link.peer.epoch else self.root_epoch))
            if self.tree is not None:
                link.send(self.tree)
        self._wake()
        return self

    def received(self, link, messages):
        node = link.peer.node
        for message in messages:
            match message:
                case Inventory() if self._incarnations.get(node) != link.peer.incarnation:
                    self._incarnations[node] = link.peer.incarnation
                    self._seen[node] = 0
                case Report(seq, _, body) if seq > self._seen[node]:
                    assert seq == self._seen[node] + 1, "a report is missing"
                    self._seen[node] = seq
                    self.reports[node].append(body)
                case Stats():
                    self.stats[node] = message
        if self.acknowledges and self._seen.get(node):
            link.send(Ack(self._seen[node]))
        self._wake()

    def lost(self, link, reason):
        if self.links.get(link.peer.node) is link:
            del self.links[link.peer.node]
        self._wake()

    def _wake(self):
        self._changed.set()


def tree(*pods: str, revision: int = 1, zone: Supervision | None = None, **pod) -> SetTree:
    """Zones and pods, in order, from pod paths."""
    zones: dict[str, list[PodDefinition]] = {}
    pod.setdefault("supervision", Supervision(intensity=100, period_s=10.0))
    for path in pods:
        zones.setdefault(path.rpartition("/")[0], []).append(PodDefinition(path, **pod))
    return SetTree(
        revision,
        tuple(
            ZoneDefinition(path, zone or Supervision(), tuple(own)) for path, own in zones.items()
        ),
    )


def device(path: str, **more) -> ResourceDefinition:
    return ResourceDefinition(path, "vm", "simulated", "", {}, **more)


def unit(name: str, *commands: tuple[str, dict], **more) -> Unit:
    return Unit(name, 1, 1, 0, tuple(Command(*one) for one in commands or [("noop", {})]), **more)
