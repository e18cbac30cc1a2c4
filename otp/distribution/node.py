"""A node: an OS process with one `otp.Runtime`, made by Thespian and parented by another node or the launcher.

`Node` is what its application holds of it. A node has no thread of its own, so it can fork further nodes
at any time; `node_actor` does, between two steps of the loop.

A node ends when its application's root process ends, when `stop` is called (by the parent's order or
SIGTERM, too), when its parent link is lost, or by any error nobody expected: fast, and with its reason on
stderr and in the parent's hands. Nothing of a node survives it.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import logging
import os
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from otp.distribution.children import ChildNode, Children
from otp.distribution.heartbeat import BEAT_S
from otp.distribution.link import Dialer, Handler, Hello, Link, LinkError
from otp.distribution.parent_link import (
    NODE_PROTOCOL,
    Beat,
    NewPayload,
    StopNode,
    Stopping,
    Up,
    decode,
    encode,
)
from otp.distribution.process_control import end_process
from otp.distribution.stepped_loop import SteppedLoop
from otp.errors import OtpError
from otp.process import Pid
from otp.runtime import Runtime

__all__ = ["Application", "Node", "NodeStartError", "StartNode", "resolve"]

STOP_LIMIT_S = 3.0
FAREWELL_S = 0.2
EXIT_FAILED = 70  # EX_SOFTWARE

_log = logging.getLogger(__name__)


class NodeStartError(OtpError):
    """A child node ended before its application was up. The supervisor that asked for it tries again.

    `reason` is the exit reason of its process.
    """

    def __init__(self, name: str, reason: object) -> None:
        super().__init__(f"node {name} did not start: {reason}")
        self.name = name
        self.reason = reason


@dataclass(frozen=True, kw_only=True, repr=False)
class StartNode:
    """The one Thespian message a node gets."""

    name: str
    kind: str
    application: str
    payload: bytes
    epoch: tuple[int, ...]
    run_dir: Path
    cookie: bytes
    parent_socket: Path

    def __str__(self) -> str:
        return "StartNode"  # Thespian formats every message several times a hop


class Node(Handler):
    """What an application holds of the node it runs in. `epoch` may be set by the root's application."""

    def __init__(self, order: StartNode, loop: SteppedLoop, forks: deque[Fork]) -> None:
        self.name = order.name
        self.kind = order.kind
        self.pid = os.getpid()
        self.epoch = order.epoch
        self.payload = order.payload
        self.told: Callable[[bytes], None] | None = None  # called with each new payload
        self.run_dir = order.run_dir
        self.cookie = order.cookie
        self.incarnation = secrets.token_hex(8)
        self.loop = loop
        self.runtime = Runtime(loop=loop)
        self._application = order.application
        self._parent_socket = order.parent_socket
        self._forks = forks
        self._socket = order.run_dir / _socket_name(order.name, order.kind)
        self._children: Children | None = None
        self._parent: Link | None = None
        self._root: Pid | None = None
        self._stop_reason: asyncio.Future[object] = loop.create_future()

    def hello(self, protocol: int) -> Hello:
        """Introduce this node, as it is now, to a peer that speaks `protocol`."""
        return Hello(self.name, self.kind, self.pid, self.epoch, protocol, self.incarnation)

    def stop(self, reason: object = "shutdown") -> None:
        """End this node: the application's root process first, then the children, then the process."""
        if not self._stop_reason.done():
            self._stop_reason.set_result(reason)

    async def start_child_node(
        self, name: str, kind: str, application: str, payload: bytes, epoch: tuple[int, ...]
    ) -> ChildNode:
        """Fork a node that runs `application` ("module:function"); return when that is up.

        A child of the same name that still exists is killed first, and its exit waited for.

        Raises:
            NodeStartError: the process ended before; it is gone.
        """
        children = await self._open_children()
        await self._bury(name)
        order = StartNode(
            name=name,
            kind=kind,
            application=application,
            payload=payload,
            epoch=epoch,
            run_dir=self.run_dir,
            cookie=self.cookie,
            parent_socket=self._socket,
        )
        fork = Fork(order, self.loop.create_future())
        fork.made.add_done_callback(lambda made: _adopt(children, made))
        self._forks.append(fork)
        try:
            child = await fork.made
            first: set[asyncio.Future[str]] = {child.exited, child.up}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:  # whoever asked was killed: nobody would ever stop this child
            _discard(fork.made)
            raise
        if child.exited.done():
            raise NodeStartError(name, child.exit_reason)
        return child

    def received(self, link: Link, messages: list[object]) -> None:
        for message in messages:
            match message:
                case StopNode(reason):
                    self.stop(reason)
                case NewPayload(payload):
                    self.payload = payload
                    if self.told is not None:
                        self.told(payload)

    def lost(self, link: Link, reason: str) -> None:
        if not self._stop_reason.done():
            end_process(f"{self.name}: the link to the parent is gone ({reason})", EXIT_FAILED)

    async def run(self) -> NoReturn:
        """Live and end; called once by the actor."""
        parent = await self._meet_parent()
        try:
            self._root = await resolve(self._application)(self)
        except Exception as error:  # noqa: BLE001 - any error of the application ends the node
            _log.exception("the application %s did not start", self._application)
            self.stop(f"{type(error).__name__}: {error}")
        else:
            parent.send(Up())
        if self._root is not None:
            watch = self.loop.create_task(self._watch(self._root), name="root process")
            watch.add_done_callback(asyncio.Task.result)
        reason = await self._stop_reason
        await self._stop_processes()
        clean = reason in ("normal", "shutdown")
        await self._say_farewell(str(reason))
        end_process("" if clean else f"{self.name} ends: {reason}", 0 if clean else EXIT_FAILED)

    async def _open_children(self) -> Children:
        if self._children is None:
            self._children = Children(self._socket, lambda: self.hello(NODE_PROTOCOL), self.cookie)
        await self._children.open()
        return self._children

    async def _bury(self, name: str) -> None:
        """Make sure that no earlier incarnation of a child is alive."""
        assert self._children is not None
        for child in self._children.living():
            if child.name == name:
                child.kill()
                await asyncio.shield(child.exited)

    async def _meet_parent(self) -> Link:
        met: asyncio.Future[Link] = self.loop.create_future()

        def connected(link: Link) -> Handler:
            if met.done():
                raise LinkError("this node has ended")
            met.set_result(link)
            return self

        self._dialer = Dialer(
            self._parent_socket,
            me=lambda: self.hello(NODE_PROTOCOL),
            cookie=self.cookie,
            encode=encode,
            decode=decode,
            connected=connected,
        )
        self._parent = await met
        self._beat()
        return self._parent

    def _beat(self) -> None:
        assert self._parent is not None
        self._parent.send(Beat())
        self.loop.call_later(BEAT_S, self._beat)

    async def _watch(self, root: Pid) -> None:
        """Stop the node when its root process ends."""
        self.stop(await self.runtime.exited(root))

    async def _stop_processes(self) -> None:
        if self._root is not None and self._root.is_alive():
            self.runtime.exit(self._root, "shutdown")
            await self.runtime.exited(self._root).within(STOP_LIMIT_S)
        living = [] if self._children is None else self._children.living()
        await asyncio.gather(*(child.stop(STOP_LIMIT_S) for child in living))

    async def _say_farewell(self, reason: str) -> None:
        assert self._parent is not None
        self._parent.send(Stopping(reason))
        self._dialer.close(reason)
        await asyncio.wait({self._parent.closed}, timeout=FAREWELL_S)


@dataclass(frozen=True, slots=True)
class Fork:
    """A process to be made between two steps of the loop, when no loop is on the stack."""

    order: StartNode
    made: asyncio.Future[ChildNode]


Application = Callable[[Node], Awaitable[Pid | None]]


def resolve(application: str) -> Application:
    """Import the function behind "module:function".

    Raises:
        ImportError, AttributeError: there is no such function.
    """
    module, _, name = application.partition(":")
    function: Application = getattr(importlib.import_module(module), name)
    return function


def _adopt(children: Children, made: asyncio.Future[ChildNode]) -> None:
    """Watch a new process, even if whoever asked for it has died meanwhile."""
    if not made.cancelled() and made.exception() is None:
        children.add(made.result())


def _discard(made: asyncio.Future[ChildNode]) -> None:
    if not made.cancel() and not made.cancelled() and made.exception() is None:
        made.result().kill()


def _socket_name(name: str, kind: str) -> str:
    """Name the socket on which a node's children report: short, the same for every incarnation."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return "root.sock" if kind == "root" else f"{kind}-{digest}.sock"
