"""Frames and the handshake of a link, without any I/O.

A frame is a 4-byte big-endian length of its body, one byte that says what it is, and the body. Before
anything else both sides open with a nonce and their `Hello`, and prove by an HMAC over both openings
that they hold the cookie. Nothing is decoded for a peer that has not proved it, but its `Hello`.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator
from enum import IntEnum
from struct import Struct as Layout

import msgspec
from msgspec import Struct

from otp.errors import OtpError

__all__ = [
    "HANDSHAKE_LIMIT_BYTES",
    "MAX_FRAME_BYTES",
    "FrameKind",
    "FrameReader",
    "Handshake",
    "Hello",
    "LinkError",
    "frame",
]

MAX_FRAME_BYTES = 64 * 1024 * 1024
HANDSHAKE_LIMIT_BYTES = 64 * 1024
NONCE_BYTES = 32

_HEADER = Layout(">IB")


class LinkError(OtpError):
    """A peer broke the protocol or was refused. The link is closed; a dialer tries again."""


class FrameKind(IntEnum):
    """What the body of a frame is."""

    OPENING = 1  # nonce + msgpack Hello
    PROOF = 2  # HMAC-SHA256 over both openings
    BATCH = 3  # what `encode` made of a list of messages
    CREDIT = 4  # 4 bytes: so many more messages may be sent
    GOODBYE = 5  # UTF-8: why this side closes


class Hello(Struct, frozen=True, array_like=True):
    """Who speaks: `incarnation` differs for every process that ever bore the name."""

    node: str
    kind: str
    pid: int
    epoch: tuple[int, ...]
    protocol: int
    incarnation: str


def frame(kind: FrameKind, body: bytes) -> bytes:
    """Put a header before `body`.

    Raises:
        LinkError: the body is longer than `MAX_FRAME_BYTES`.
    """
    if len(body) > MAX_FRAME_BYTES:
        raise LinkError(f"a frame of {len(body)} bytes exceeds {MAX_FRAME_BYTES}")
    return _HEADER.pack(len(body), kind) + body


class FrameReader:
    """Cuts a byte stream into frames; `limit_bytes` bounds a body and may be raised after the handshake."""

    __slots__ = ("_buffer", "limit_bytes")

    def __init__(self, limit_bytes: int = HANDSHAKE_LIMIT_BYTES) -> None:
        self._buffer = bytearray()
        self.limit_bytes = limit_bytes

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the kind and body of every frame completed by `data`.

        Raises:
            LinkError: a header announces more than the limit.
        """
        buffer = self._buffer
        buffer += data
        start, end = 0, len(buffer)
        try:
            while end - start >= _HEADER.size:
                length, kind = _HEADER.unpack_from(buffer, start)
                if length > self.limit_bytes:
                    raise LinkError(f"a frame of {length} bytes exceeds {self.limit_bytes}")
                body = start + _HEADER.size
                if end - body < length:
                    break
                start = body + length
                yield kind, bytes(memoryview(buffer)[body:start])
        finally:
            del buffer[:start]


class Handshake:
    """One side's part of the mutual challenge; `peer` is to be believed once `receive` returned True."""

    def __init__(self, me: Hello, cookie: bytes, *, dialed: bool) -> None:
        self._cookie = cookie
        self._dialed = dialed
        self._protocol = me.protocol
        self._mine = secrets.token_bytes(NONCE_BYTES) + msgspec.msgpack.encode(me)
        self._theirs: bytes | None = None
        self.peer: Hello | None = None

    def opening(self) -> bytes:
        """Build the first frame to send."""
        return frame(FrameKind.OPENING, self._mine)

    def receive(self, kind: int, body: bytes) -> bytes | None:
        """Take the peer's opening: return our proof to send. Take its proof: return None, it is who it says.

        Raises:
            LinkError: unexpected frame, malformed hello, other protocol, or wrong cookie.
        """
        if kind == FrameKind.OPENING and self._theirs is None:
            self.peer = self._read_opening(body)
            self._theirs = body
            return frame(FrameKind.PROOF, self._proof(dialed=self._dialed))
        if kind == FrameKind.PROOF and self._theirs is not None:
            if not hmac.compare_digest(body, self._proof(dialed=not self._dialed)):
                raise LinkError("the peer has another cookie")
            return None
        if kind == FrameKind.GOODBYE:
            raise LinkError(f"refused by the peer: {body.decode(errors='replace')}")
        raise LinkError(f"frame kind {kind} during the handshake")

    def _read_opening(self, body: bytes) -> Hello:
        try:
            peer = msgspec.msgpack.decode(body[NONCE_BYTES:], type=Hello)
        except msgspec.DecodeError as error:
            raise LinkError(f"not a hello: {error}") from error
        if peer.protocol != self._protocol:
            raise LinkError(f"the peer speaks protocol {peer.protocol}, not {self._protocol}")
        return peer

    def _proof(self, *, dialed: bool) -> bytes:
        """HMAC of the side that dialed (or not); the side's name in it keeps a proof from being echoed."""
        dialer, listener = self._mine, self._theirs or b""
        if not self._dialed:
            dialer, listener = listener, dialer
        side = b"dialer" if dialed else b"listener"
        length = len(dialer).to_bytes(4, "big")
        return hmac.digest(self._cookie, side + length + dialer + listener, "sha256")
