"""The socket under a link: first the handshake, then frames to the link and messages to its handler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from otp.distribution.channel import Decode, Encode, Handler, Link
from otp.distribution.frames import (
    MAX_FRAME_BYTES,
    FrameKind,
    FrameReader,
    Handshake,
    LinkError,
    frame,
)

__all__ = ["Connection"]

HANDSHAKE_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


class Connection(asyncio.Protocol):
    """The socket under a link: handshake first, then frames to the link and messages to its handler."""

    def __init__(
        self,
        handshake: Handshake,
        encode: Encode,
        decode: Decode,
        accept: Callable[[Link], Handler],
    ) -> None:
        self._handshake = handshake
        self._codec = (encode, decode)
        self._accept = accept
        self._reader = FrameReader()
        self._link: Link | None = None
        self._refused = False
        loop = asyncio.get_running_loop()
        self.established: asyncio.Future[Link] = loop.create_future()
        self._timeout = loop.call_later(HANDSHAKE_TIMEOUT_S, self._refuse, "no handshake in time")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it
        self._transport = transport
        transport.set_write_buffer_limits(high=1024 * 1024)
        transport.write(self._handshake.opening())

    def data_received(self, data: bytes) -> None:
        try:
            for kind, body in self._reader.feed(data):
                if self._link is None:
                    self._greet(kind, body)
                else:
                    self._deliver(self._link, kind, body)
                if self._transport.is_closing():
                    break
        except LinkError as error:
            self._refuse(str(error))

    def _greet(self, kind: int, body: bytes) -> None:
        answer = self._handshake.receive(kind, body)
        if answer is not None:
            self._transport.write(answer)
            return
        assert self._handshake.peer is not None
        self._timeout.cancel()
        self._reader.limit_bytes = MAX_FRAME_BYTES
        link = Link(self._handshake.peer, self._transport, *self._codec)
        self._handler = self._accept(link)
        self._link = link
        if not self.established.done():
            self.established.set_result(link)

    def _deliver(self, link: Link, kind: int, body: bytes) -> None:
        messages = link.take(kind, body)
        if messages:
            self._handler.received(link, messages)
            link.consume(len(messages))

    def _refuse(self, reason: str) -> None:
        if self._link is not None:
            _log.error("link to %s closed: %s", self._link.peer.node, reason)
            self._link.close(reason)
            return
        self._fail(reason)
        self._transport.write(frame(FrameKind.GOODBYE, reason.encode()))
        self._transport.close()

    def _fail(self, reason: str) -> None:
        self._timeout.cancel()
        if not self.established.done():
            self.established.set_exception(LinkError(reason))
            self.established.exception()  # a listener's refusals are nobody's to collect

    def pause_writing(self) -> None:
        if self._link is not None:
            self._link.pause()

    def resume_writing(self) -> None:
        if self._link is not None:
            self._link.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(str(exc) if exc else "the peer hung up during the handshake")
        if self._link is not None:
            self._link.finish(self._handler, exc)
