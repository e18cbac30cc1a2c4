"""NodeLinks: one runtime among others. Send, call, link and monitor work across nodes, as in Erlang.

One per runtime. Once two nodes have a link, each process can be used from the other: by a pid that came in a message, or
by name, `OnNode("clock", "node")`. A lost link is a `"noconnection"` exit for all that depended on it.

Of Erlang not here: nodes do not connect by themselves nor make each other known (dial each pair from one side), and
there is no tick: a peer that hangs with its socket open is for the one who supervises it to end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from weakref import WeakValueDictionary

from otp.distribution.frames import Hello
from otp.distribution.link import Dialer, Link, Listener, listen
from otp.distribution.outbox import OutboxFullError
from otp.distribution.peer import Peer
from otp.distribution.remote_pid import NOCONNECTION, NODEDOWN, RemotePid, gone_pid
from otp.distribution.terms import Opaque, RemoteError, Terms, UncrossableError, join, split
from otp.errors import OtpError
from otp.node_names import NODES
from otp.process import Pid
from otp.runtime import Runtime

__all__ = [
    "NOCONNECTION",
    "NODEDOWN",
    "NodeLinks",
    "Opaque",
    "OutboxFullError",
    "RemoteError",
    "RemotePid",
    "UncrossableError",
]

REMOTE_PROTOCOL = 1

_log = logging.getLogger(__name__)


class NodeLinks:
    """The links of `runtime` to other nodes; its node name must be its own among them.

    Args:
        runtime: whose processes are to be reached.
        cookie: what all nodes know; who does not is refused.
        types: Structs, dataclasses and Enums whose instances may cross, see `otp.distribution.terms`.

    Raises:
        OtpError: the runtime has links already.
        UncrossableError: a type cannot be registered.
    """

    def __init__(self, runtime: Runtime, *, cookie: bytes, types: Iterable[type] = ()) -> None:
        if NODES in runtime.tables:
            raise OtpError(f"node {runtime.node} has its links already")
        self.runtime = runtime
        self.node = runtime.node
        self.incarnation = secrets.token_hex(8)
        self._cookie = cookie
        self._terms = Terms(self)
        self._terms.register(types)
        self._peers: dict[str, Peer] = {}
        self._exported: dict[int, Pid] = {}
        self._remotes: WeakValueDictionary[tuple[str, str, int | str], RemotePid] = (
            WeakValueDictionary()
        )
        self._listeners: list[Listener] = []
        self._dialers: list[Dialer] = []
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        runtime.tables[NODES] = self

    async def listen(self, path: Path) -> None:
        """Let other nodes dial the unix socket `path`.

        Raises:
            OSError: the path cannot be bound.
        """

        def accept(link: Link) -> Peer:
            return Peer(self, link, self._terms, dialed=False)

        words = {"cookie": self._cookie, "encode": join, "decode": split}
        self._listeners.append(await listen(path, me=self._hello, accept=accept, **words))  # type: ignore[arg-type]  # as named

    def dial(self, path: Path) -> None:
        """Keep a link to the node that listens at `path`, for ever; of two nodes one is to dial."""

        def connected(link: Link) -> Peer:
            return Peer(self, link, self._terms, dialed=True)

        words = {"cookie": self._cookie, "encode": join, "decode": split}
        self._dialers.append(Dialer(path, me=self._hello, connected=connected, **words))  # type: ignore[arg-type]  # as named

    def close(self) -> None:
        """End all links and make no more; the processes of other nodes are lost to this one."""
        for dialer in self._dialers:
            dialer.close()
        for listener in self._listeners:
            listener.close()
        for peer in tuple(self._peers.values()):
            peer.channel.close()
            self.dismiss(peer, "closed")
        self.runtime.tables.pop(NODES, None)

    def nodes(self) -> list[str]:
        """Name the nodes that are connected."""
        return list(self._peers)

    async def connected(self, node: str) -> None:
        """Wait until `node` is connected."""
        while node not in self._peers:
            waiter: asyncio.Future[None] = self.runtime.loop.create_future()
            self._waiting.setdefault(node, []).append(waiter)
            await waiter

    async def drain(self, node: str, limit: int = 0) -> None:
        """Wait until at most `limit` messages wait to be sent to `node`, or it is not connected."""
        peer = self._peers.get(node)
        if peer is not None:
            await peer.channel.drain(limit)

    def backlog(self, node: str) -> int:
        """Count the messages that wait to be sent to `node`."""
        peer = self._peers.get(node)
        return 0 if peer is None else peer.channel.backlog

    # For names, terms, remote pids and peers.

    def named(self, name: str, node: str) -> RemotePid:
        """Give what sends to the process of that name on `node`, be there one or not."""
        return self._remote(node, "", name)

    def peer(self, node: str) -> Peer | None:
        """Give the node's end of the link to `node`."""
        return self._peers.get(node)

    def admit(self, peer: Peer) -> None:
        """Take a node in; of two links to it keep one."""
        old = self._peers.get(peer.node)
        if peer.node == self.node or (old is not None and self._better(old, peer)):
            peer.channel.close(f"node {peer.node} is connected already")
            return
        if old is not None:
            old.channel.close("replaced by a newer link")
            self.dismiss(old, "replaced by a newer link")
        self._peers[peer.node] = peer
        for waiter in self._waiting.pop(peer.node, ()):
            if not waiter.done():
                waiter.set_result(None)

    def dismiss(self, peer: Peer, reason: str) -> None:
        """Let a node go; what depended on it learns that."""
        if self._peers.get(peer.node) is peer:
            del self._peers[peer.node]
            _log.info("node %s: the link to %s has ended: %s", self.node, peer.node, reason)
        peer.end((NODEDOWN, peer.node), NOCONNECTION)

    def local(self, to: int | str) -> Pid | None:
        """Find a living process of this node, by name or by the serial it was told to others with."""
        return self.runtime.whereis(to) if isinstance(to, str) else self._exported.get(to)

    def export(self, pid: Pid) -> int:
        """Give the serial of a process of this node; it can be found by it as long as it lives."""
        if pid.serial not in self._exported and pid.is_alive():
            self._exported[pid.serial] = pid
            pid.watch(self)
        return pid.serial

    def ended(self, pid: Pid, reason: object) -> None:
        """Forget a process of this node."""
        self._exported.pop(pid.serial, None)

    def remote(self, node: str, incarnation: str, serial: int) -> RemotePid:
        """Give the pid of a process of another node: the same one as long as somebody holds it."""
        return self._remote(node, incarnation, serial)

    def address(self, pid: Pid) -> tuple[str, str, int] | None:
        """Give (node, incarnation, serial) of a pid; None if it cannot be told to others."""
        if isinstance(pid, RemotePid):
            return (pid.node, pid.incarnation, pid.to) if isinstance(pid.to, int) else None
        if pid.runtime is not self.runtime:
            return None
        return self.node, self.incarnation, self.export(pid)

    def resolve(self, node: str, incarnation: str, serial: int) -> Pid:
        """Give the pid at an address: the process itself if it is one of this node's."""
        if incarnation != self.incarnation:
            return self._remote(node, incarnation, serial)
        return self._exported.get(serial) or gone_pid(self.runtime, serial)

    def _remote(self, node: str, incarnation: str, to: int | str) -> RemotePid:
        key = (node, incarnation, to)
        pid = self._remotes.get(key)
        if pid is None:
            pid = self._remotes[key] = RemotePid(self.runtime, self, node, incarnation, to)
        return pid

    def _better(self, old: Peer, new: Peer) -> bool:
        """Tell whether `old` stays; when both sides dialed, both keep the link of the lesser name."""
        if old.incarnation != new.incarnation or old.dialed == new.dialed:
            return False
        return old.dialed == (self.node < old.node)

    def _hello(self) -> Hello:
        return Hello(self.node, "otp", os.getpid(), (), REMOTE_PROTOCOL, self.incarnation)
