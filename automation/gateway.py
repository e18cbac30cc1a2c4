"""The gateway: a node's own link to the orchestration tier.

It says `Inventory` first on every connection, numbers the node's reports and keeps each until it is
acknowledged, so a report may arrive twice and never not at all. It is plain state driven by the loop, no
process: it lives as long as its node. What it holds is lost with the node; the next one starts from 1.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Protocol

from otp.distribution.link import Dialer, Link
from otp.distribution.node import Node
from rpc.messages import (
    PROTOCOL,
    Ack,
    Down,
    Inventory,
    PodStats,
    Report,
    ReportBody,
    Stats,
    decode_down,
    encode,
)

__all__ = ["Gateway", "Outbox", "Owner"]

# Past so many reports without acknowledgement a pod begins no unit; half of it reopens. At 5,000 reports
# a second this is most of a second of journal.
HIGH = 4096
LOW = HIGH // 2
STATS_EVERY_S = 1.0


class Owner(Protocol):
    """What a gateway asks of the node it belongs to."""

    def inventory(self, last_report: int) -> Inventory:
        """Say what is alive here."""

    def received(self, message: Down) -> None:
        """Take one message of the orchestration tier; must not block."""

    def stats(self, reports_pending: int, loop_lag_s: float) -> PodStats:
        """Say what was counted."""

    def opened(self) -> None:
        """Units may be begun again."""


class Outbox:
    """Numbered reports that nobody has acknowledged yet, oldest first."""

    __slots__ = ("_pending", "last")

    def __init__(self) -> None:
        self.last = 0
        self._pending: deque[Report] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, body: ReportBody, at_utc: float) -> Report:
        """Number `body` and keep it."""
        self.last += 1
        report = Report(self.last, at_utc, body)
        self._pending.append(report)
        return report

    def acknowledge(self, seq: int) -> None:
        """Let go of every report up to and including `seq`."""
        pending = self._pending
        while pending and pending[0].seq <= seq:
            pending.popleft()

    def pending(self) -> list[Report]:
        """All that is kept, in order."""
        return list(self._pending)


class Gateway:
    """Dials orchestration for ever on behalf of `node`; reports may come before it is started."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._owner: Owner | None = None
        self._outbox = Outbox()
        self._link: Link | None = None
        self._is_clogged = False
        self._dialer: Dialer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = node.loop.time()  # of the next figures
        self._lag_s = 0.0  # by which the last ones were late

    @property
    def is_open(self) -> bool:
        """Whether a unit may be begun: orchestration is there, and keeps up with the reports."""
        return self._link is not None and not self._is_clogged

    def start(self, owner: Owner) -> None:
        """Begin to dial; `owner` says what is here and takes what comes."""
        node = self._node
        self._owner = owner
        self._dialer = Dialer(
            node.run_dir / "orchestration.sock",
            me=lambda: node.hello(PROTOCOL),
            cookie=node.cookie,
            encode=encode,
            decode=decode_down,
            connected=self._connected,
        )
        self._send_stats()

    def close(self) -> None:
        """Hang up for good."""
        if self._timer is not None:
            self._timer.cancel()
        if self._dialer is not None:
            self._dialer.close()

    def report(self, body: ReportBody) -> None:
        """Tell orchestration; kept until it is acknowledged."""
        report = self._outbox.add(body, time.time())
        if self._link is not None:
            self._link.send(report)
        if len(self._outbox) > HIGH:
            self._is_clogged = True

    def tell_figures(self) -> None:
        """Send the owner's figures; a peer that does not take what it has been sent gets none on top."""
        link, owner = self._link, self._owner
        if link is not None and owner is not None and link.backlog < LOW:
            link.send(Stats(owner.stats(len(self._outbox), self._lag_s)))

    def received(self, link: Link, messages: list[Down]) -> None:
        """Take a batch: acknowledgements are the gateway's own, the rest is the owner's."""
        owner = self._owner
        assert owner is not None
        for message in messages:
            if isinstance(message, Ack):
                self._acknowledged(message.seq)
            else:
                owner.received(message)

    def lost(self, link: Link, reason: str) -> None:
        """Keep the reports; the dialer is at it again."""
        if self._link is link:
            self._link = None

    def _connected(self, link: Link) -> Gateway:
        assert self._owner is not None
        self._link = link
        link.send(self._owner.inventory(self._outbox.last))
        link.send_many(self._outbox.pending())
        self._tell_if_open()
        return self

    def _acknowledged(self, seq: int) -> None:
        self._outbox.acknowledge(seq)
        if self._is_clogged and len(self._outbox) <= LOW:
            self._is_clogged = False
            self._tell_if_open()

    def _tell_if_open(self) -> None:
        if self.is_open and self._owner is not None:
            self._owner.opened()

    def _send_stats(self) -> None:
        loop = self._node.loop
        self._lag_s = max(0.0, loop.time() - self._due_at)
        self.tell_figures()
        self._due_at = loop.time() + STATS_EVERY_S
        self._timer = loop.call_at(self._due_at, self._send_stats)
