"""The words a node and its parent exchange over the parent link."""

from __future__ import annotations

import msgspec
from msgspec import Struct

__all__ = [
    "NODE_PROTOCOL",
    "Beat",
    "NewPayload",
    "StopNode",
    "Stopping",
    "Up",
    "decode",
    "encode",
]

NODE_PROTOCOL = 1


class Beat(Struct, frozen=True, array_like=True, tag="beat"):
    """To the parent: this node's loop turns."""


class Up(Struct, frozen=True, array_like=True, tag="up"):
    """To the parent: the application has started."""


class Stopping(Struct, frozen=True, array_like=True, tag="stopping"):
    """To the parent: this node ends now, and why."""

    reason: str


class StopNode(Struct, frozen=True, array_like=True, tag="stop"):
    """To a child: end in an orderly way."""

    reason: str


class NewPayload(Struct, frozen=True, array_like=True, tag="payload"):
    """To a child: its payload has changed; its application takes it while it runs."""

    payload: bytes


_decoder = msgspec.msgpack.Decoder(list[Beat | Up | Stopping | StopNode | NewPayload])
encode = msgspec.msgpack.Encoder().encode
decode = _decoder.decode
