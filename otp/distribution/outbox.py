"""Outbox: what a node holds for a peer that does not keep up, and where it ends."""

from __future__ import annotations

from collections import deque
from typing import Final

from otp.distribution.channel import Link
from otp.errors import OtpError

__all__ = ["Outbox", "OutboxFullError"]

MAX_MESSAGES: Final = 65_536  # beyond, whoever sends is refused
MAX_BYTES: Final = 64 * 1024 * 1024
SIGNAL_ROOM: Final = (
    4  # so many times more are held of what cannot be refused; then the link is given up
)


class OutboxFullError(OtpError):
    """A message was refused because the node does not keep up. Raised in the sender, which may wait and try again."""

    def __init__(self, node: str, messages: int, size_bytes: int) -> None:
        super().__init__(f"{messages} messages ({size_bytes} bytes) already wait for node {node}")
        self.node = node


class Outbox:
    """Packed messages on their way into `link`."""

    __slots__ = ("_link", "_size_bytes", "_sizes")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._sizes: deque[int] = deque()  # of the messages that wait, and of some that have left
        self._size_bytes = 0

    def send(self, packed: bytes) -> None:
        """Send what may be refused.

        Raises:
            OutboxFullError: too much waits already.
        """
        if self._over(1):
            raise OutboxFullError(self._link.peer.node, len(self._sizes), self._size_bytes)
        self._put(packed)

    def say(self, packed: bytes) -> None:
        """Send what cannot be refused; if far too much waits, give up the link."""
        if self._over(SIGNAL_ROOM):
            self._link.close("the peer does not keep up")
        else:
            self._put(packed)

    def _over(self, room: int) -> bool:
        """Tell whether it is full, after forgetting what has left."""
        if len(self._sizes) < MAX_MESSAGES and self._size_bytes < MAX_BYTES:
            return False
        while len(self._sizes) > self._link.backlog:
            self._size_bytes -= self._sizes.popleft()
        return len(self._sizes) >= MAX_MESSAGES * room or self._size_bytes >= MAX_BYTES * room

    def _put(self, packed: bytes) -> None:
        size = len(packed)
        self._sizes.append(size)
        self._size_bytes += size
        self._link.send(packed)
