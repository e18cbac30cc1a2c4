"""The gateway: meets root, zones and pods on links, tells root what is to exist, and pods' words to dispatchers.

An automation node dials in and says its `Inventory` first. A node with an older epoch than the one known
is a zombie: its link is closed before anything it says is believed. What a pod reports is passed on to
the dispatcher of its zone; what root and zones report (children up and lost) is journalled here.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from orchestration.dispatcher import PodDead, PodDown, PodUp, Reported
from orchestration.journal.contract import Changes, EpochTakenError, Journal, JournalError
from orchestration.view import NodeView, View, zone_of
from otp import Pid
from otp.distribution.link import Hello, Link, Listener, listen
from rpc.messages import (
    PROTOCOL,
    Ack,
    Epoch,
    Inventory,
    NodeLost,
    NodeUp,
    Report,
    SetTree,
    Stats,
    Up,
    Welcome,
    decode_up,
    encode,
)

__all__ = ["Gateway", "Peer"]

_encode = msgspec.json.Encoder().encode
_log = structlog.get_logger(__name__)


class Gateway:
    """Every link of the orchestration node.

    Args:
        view: what is declared is read from it, what nodes say is written to it.
        journal: holds the root epoch and the events of nodes.
        dispatcher: gives the process of a zone.
        clock_utc: returns Unix seconds.
    """

    def __init__(
        self,
        view: View,
        journal: Journal,
        dispatcher: Callable[[str], Pid],
        clock_utc: Callable[[], float],
    ) -> None:
        self._view = view
        self._journal = journal
        self._dispatcher = dispatcher
        self._clock_utc = clock_utc
        self._incarnation = secrets.token_hex(8)
        self._peers: dict[str, Peer] = {}
        self._reported = journal.reporters()
        self._root_epoch = journal.root_epoch()
        self._listener: Listener | None = None
        self._claims: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def start(self, path: Path, cookie: bytes) -> None:
        """Listen on `path` for nodes that hold `cookie`."""
        self._listener = await listen(
            path,
            me=self._hello,
            cookie=cookie,
            encode=encode,
            decode=decode_up,
            accept=self.accept,
        )

    def close(self) -> None:
        """Close every link; the nodes dial again until somebody answers."""
        self._is_closed = True
        if self._listener is not None:
            self._listener.close()
        for claim in self._claims:
            claim.cancel()

    def accept(self, link: Link) -> Peer:
        """Give a new link its handler; it says nothing before its inventory is there."""
        return Peer(self, link)

    def set_tree(self) -> None:
        """Tell root what is to exist now."""
        root = self._peers.get("root")
        if root is not None and root.epoch:
            zones = tuple(zone.definition() for zone in self._view.zones.values())
            root.link.send(SetTree(self._view.revision, zones))

    # ── a peer has said hello and its inventory ───────────────────────────────────────────────

    def arrived(self, peer: Peer, inventory: Inventory) -> str:
        """Take a peer in, or say why not."""
        hello = peer.link.peer
        if self._is_closed:
            return "the orchestration node is stopping"
        if hello.protocol != PROTOCOL:
            return f"protocol {hello.protocol} is not {PROTOCOL}"
        if hello.kind == "root":
            return self._root_arrived(peer)
        if not self._is_declared(hello):
            return f"{hello.kind} {hello.node} is not declared"
        known = self._view.node(hello.node, hello.kind)
        if hello.epoch[:1] != (self._root_epoch,) or hello.epoch < known.epoch:
            return f"epoch {hello.epoch} is over"
        self._enter(peer, known, hello.epoch)
        if hello.kind == "pod":
            pod = self._view.pods[hello.node]
            message = PodUp(pod, peer.link, hello.epoch, inventory)
            self._dispatcher(zone_of(hello.node)).cast(message)
        else:
            self._acknowledge_known(peer)
        return ""

    def gone(self, peer: Peer, reason: str) -> None:
        """A peer's link has ended."""
        name = peer.link.peer.node
        if self._is_closed or self._peers.get(name) is not peer:
            return
        del self._peers[name]
        node = self._view.nodes.get(name)
        if node is None:
            return
        if node.state == "up":
            node.state = "down"
            self._event("node.unreachable", node, {"reason": reason})
        pod = self._view.pods.get(name)
        if pod is not None:
            self._dispatcher(zone_of(name)).cast(PodDown(pod, peer.link))

    def heard(self, peer: Peer, stats: Stats) -> None:
        """Keep a node's figures."""
        node = self._view.nodes.get(peer.link.peer.node)
        if node is not None:
            node.heard_at = self._view.clock()
        pod = self._view.pods.get(peer.link.peer.node)
        if pod is not None:
            pod.stats = stats.stats
            pod.verbs.update(stats.stats.verbs)

    def reported(self, peer: Peer, reports: list[Report]) -> None:
        """Pass on a pod's reports; keep those of root and zones."""
        if self._is_closed:
            return  # it is not acknowledged, so it comes again
        name = peer.link.peer.node
        pod = self._view.pods.get(name)
        if pod is not None:
            self._dispatcher(zone_of(name)).cast(Reported(pod, peer.link, reports))
            return
        epoch, last = self._reported.get(name, ((), 0))
        if epoch != peer.epoch:
            last = 0
        changes = Changes()
        for report in reports:
            if report.seq > last:
                last = report.seq
                self._child(report, changes)
        self._reported[name] = (peer.epoch, last)
        changes.reporters[name] = (name, _encode(peer.epoch).decode(), last)
        self._journal.record(changes, lambda: peer.link.send(Ack(last)))

    def _enter(self, peer: Peer, node: NodeView, epoch: Epoch) -> None:
        hello = peer.link.peer
        older = self._peers.get(hello.node)
        self._peers[hello.node] = peer
        peer.epoch = epoch
        if older is not None:
            older.link.close("another link of the same node is there")
        is_back = node.came_up(hello.pid, epoch, self._view.clock())
        if is_back or node.incarnation != hello.incarnation:
            node.incarnation = hello.incarnation
            self._event("node.up", node, {"pid": hello.pid, "kind": hello.kind})

    def _is_declared(self, hello: Hello) -> bool:
        if hello.kind == "zone":
            return hello.node in self._view.zones
        return hello.kind == "pod" and hello.node in self._view.pods

    # ── root ──────────────────────────────────────────────────────────────────────────────────

    def _root_arrived(self, peer: Peer) -> str:
        epoch = peer.link.peer.epoch
        if not epoch:
            claim = asyncio.ensure_future(self._claim(peer))
            self._claims.add(claim)
            claim.add_done_callback(self._claims.discard)
            return ""
        if epoch != (self._root_epoch,):
            return f"root epoch {epoch} is not {self._root_epoch}"
        self._enter(peer, self._view.node("root", "root"), epoch)
        self._acknowledge_known(peer)
        self.set_tree()
        return ""

    async def _claim(self, peer: Peer) -> None:
        """Give a new root the next epoch; from then on everything under the old one is over."""
        try:
            claimed = await self._journal.claim_root_epoch(self._root_epoch, self._clock_utc())
        except EpochTakenError as taken:
            self._root_epoch = taken.current
            peer.link.close("the root epoch was claimed by somebody else")
            return
        except JournalError as error:
            _log.warning("root epoch not claimed", error=str(error))
            peer.link.close(f"no root epoch can be given: {error}")
            return
        self._root_epoch = claimed
        if peer.link.closed.done():
            return  # it dials again and gets the next one
        for name, other in list(self._peers.items()):
            if name != "root":
                other.link.close("a new root is there")
        peer.link.send(Welcome(claimed))
        self._enter(peer, self._view.node("root", "root"), (claimed,))
        self.set_tree()

    # ── what parents say of their children ────────────────────────────────────────────────────

    def _child(self, report: Report, changes: Changes) -> None:
        match report.body:
            case NodeUp(name, kind, pid, epoch):
                node = self._view.node(name, kind)
                if epoch > node.epoch:
                    node.came_up(pid, epoch, self._view.clock())
                    node.state = "up" if name in self._peers else "starting"
            case NodeLost(name, kind, pid, epoch, reason):
                node = self._view.node(name, kind)
                detail: dict[str, object] = {"pid": pid, "kind": kind, "reason": reason}
                changes.events.append(self._event_row("node.lost", name, epoch, detail))
                if epoch >= node.epoch:
                    node.state = "down"
                pod = self._view.pods.get(name)
                if pod is not None:
                    before = (*epoch[:-1], epoch[-1] + 1)
                    self._dispatcher(zone_of(name)).cast(PodDead(pod, before, reason))
            case other:
                _log.warning("unexpected report", body=type(other).__name__)

    def _acknowledge_known(self, peer: Peer) -> None:
        epoch, last = self._reported.get(peer.link.peer.node, ((), 0))
        if epoch == peer.epoch and last:
            peer.link.send(Ack(last))

    def _event(self, kind: str, node: NodeView, detail: dict[str, object]) -> None:
        changes = Changes()
        changes.events.append(self._event_row(kind, node.name, node.epoch, detail))
        self._journal.record(changes)

    def _event_row(
        self, kind: str, name: str, epoch: Epoch, detail: dict[str, object]
    ) -> tuple[float, str, str, str, str, str]:
        texts = _encode(epoch).decode(), _encode(detail).decode()
        return (self._clock_utc(), kind, name, "", *texts)

    def _hello(self) -> Hello:
        return Hello("orchestration", "orchestration", os.getpid(), (), PROTOCOL, self._incarnation)


class Peer:
    """The handler of one link."""

    __slots__ = ("_gateway", "_is_in", "epoch", "link")

    def __init__(self, gateway: Gateway, link: Link) -> None:
        self._gateway = gateway
        self._is_in = False
        self.link = link
        self.epoch: Epoch = ()

    def received(self, link: Link, messages: list[Up]) -> None:
        """Take a batch; its reports go on together."""
        reports: list[Report] = []
        for message in messages:
            if isinstance(message, Report):
                reports.append(message)
            elif isinstance(message, Inventory):
                self._arrive(message)
            elif self._is_in:
                self._gateway.heard(self, message)
            if not self._is_in:
                return
        if reports:
            self._gateway.reported(self, reports)

    def lost(self, link: Link, reason: str) -> None:
        """Tell the gateway."""
        self._gateway.gone(self, reason)

    def _arrive(self, inventory: Inventory) -> None:
        refusal = self._gateway.arrived(self, inventory)
        self._is_in = not refusal
        if refusal:
            _log.warning("a node was turned away", node=self.link.peer.node, reason=refusal)
            self.link.close(refusal)
