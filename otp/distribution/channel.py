"""One end of an established link, as its owner holds it; `connection` is its other face, to the socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from otp.distribution.frames import (
    MAX_FRAME_BYTES,
    FrameKind,
    Hello,
    LinkError,
    frame,
)

__all__ = ["WINDOW", "Decode", "Encode", "Handler", "Link"]

WINDOW = 8192  # messages one side may have under way to the other
BATCH = 512  # messages in one frame
GRANT = WINDOW // 4  # consumed messages are granted anew in portions
CLOSE_TIMEOUT_S = 1.0

_log = logging.getLogger(__name__)

# The words of a link are its users' business: `Any` lets each of them state theirs.
Encode = Callable[[list[Any]], bytes]
Decode = Callable[[bytes], Sequence[Any]]


class Handler(Protocol):
    """What a link tells its owner; both are called from the loop and must not block."""

    def received(self, link: Link, messages: list[Any]) -> None:
        """Take messages, in the order the peer sent them."""

    def lost(self, link: Link, reason: str) -> None:
        """Take note that the link is gone; called once."""


class Link:
    """One end of an established connection to `peer`; made by `listen` and `Dialer` only."""

    def __init__(
        self, peer: Hello, transport: asyncio.Transport, encode: Encode, decode: Decode
    ) -> None:
        self.peer = peer
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._encode = encode
        self._decode = decode
        self._outbox: list[object] = []
        self._credit = WINDOW  # what the peer still takes
        self._allowed = WINDOW  # what the peer may still send
        self._consumed = 0  # handled, not yet granted anew
        self._flush_due = False
        self._writable = True
        self._ending: str | None = None
        self._drained: list[asyncio.Future[None]] = []

    @property
    def backlog(self) -> int:
        """Messages waiting for credit, or for the next turn of the loop."""
        return len(self._outbox)

    def send(self, message: object) -> None:
        """Send one message; on a link that has ended it is dropped, as in Erlang."""
        if self._ending is None:
            self._outbox.append(message)
            self._flush_soon()

    def send_many(self, messages: Sequence[object]) -> None:
        """Send messages in order."""
        if self._ending is None:
            self._outbox.extend(messages)
            self._flush_soon()

    async def drain(self, limit: int = 0) -> None:
        """Wait until at most `limit` messages are in the backlog, or the link has ended."""
        while self._ending is None and len(self._outbox) > limit:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._drained.append(waiter)
            await waiter

    def close(self, reason: str = "closed") -> None:
        """Send what credit allows, say goodbye and end the link."""
        if self._ending is None:
            self._flush()
            self._say_goodbye(reason)

    def pause_reading(self) -> None:
        """Take no more messages for now: the peer's backlog grows instead of ours."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take messages again."""
        self._transport.resume_reading()

    def take(self, kind: int, body: bytes) -> list[object]:
        """Handle one frame; return the messages in it. This and what follows is for the connection alone."""
        if kind == FrameKind.BATCH:
            return self._take_batch(body)
        if kind == FrameKind.CREDIT:
            self._credit += int.from_bytes(body, "big")
            if self._outbox:
                self._flush_soon()
            return []
        if kind == FrameKind.GOODBYE:
            self._end(f"closed by the peer: {body.decode(errors='replace')}")
            return []
        raise LinkError(f"frame kind {kind} is unknown")

    def consume(self, count: int) -> None:
        """Grant anew what the handler has taken."""
        self._consumed += count
        if self._consumed >= GRANT and self._ending is None:
            self._allowed += self._consumed
            self._transport.write(frame(FrameKind.CREDIT, self._consumed.to_bytes(4, "big")))
            self._consumed = 0

    def pause(self) -> None:
        """Write no more: the socket is full."""
        self._writable = False

    def resume(self) -> None:
        """Write again."""
        self._writable = True
        self._flush_soon()

    def finish(self, handler: Handler, error: Exception | None) -> None:
        reason = self._ending or (f"lost: {error}" if error else "lost: the peer vanished")
        self._ending = reason
        self._outbox.clear()
        self._wake_drainers()
        handler.lost(self, reason)
        if not self.closed.done():
            self.closed.set_result(reason)

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        outbox, taken = self._outbox, 0
        while self._ending is None and self._writable and self._credit and taken < len(outbox):
            count = min(BATCH, self._credit, len(outbox) - taken)
            self._write_batch(outbox[taken : taken + count])
            self._credit -= count
            taken += count
        del outbox[:taken]
        if taken:
            self._wake_drainers()

    def _write_batch(self, batch: list[object]) -> None:
        body = self._encode(batch)
        if len(body) <= MAX_FRAME_BYTES:
            self._transport.write(frame(FrameKind.BATCH, body))
        elif len(batch) > 1:
            self._write_batch(batch[: len(batch) // 2])
            self._write_batch(batch[len(batch) // 2 :])
        else:
            self._say_goodbye(f"a message of {len(body)} bytes exceeds {MAX_FRAME_BYTES}")

    def _wake_drainers(self) -> None:
        waiting, self._drained = self._drained, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _take_batch(self, body: bytes) -> list[object]:
        try:
            messages = list(self._decode(body))
        except ValueError as error:  # msgspec's decode and validation errors are ValueErrors
            raise LinkError(f"undecodable batch: {error}") from error
        self._allowed -= len(messages)
        if self._allowed < 0:
            raise LinkError("the peer sent more than it was allowed to")
        return messages

    def _say_goodbye(self, reason: str) -> None:
        if self._ending is None:
            self._transport.write(frame(FrameKind.GOODBYE, reason.encode()[:1024]))
            self._end(reason)

    def _end(self, reason: str) -> None:
        """Stop sending; the transport gets a moment to write what it holds."""
        if self._ending is None:
            self._ending = reason
            self._outbox.clear()
            self._wake_drainers()
            self._transport.close()
            self._loop.call_later(CLOSE_TIMEOUT_S, self._transport.abort)
