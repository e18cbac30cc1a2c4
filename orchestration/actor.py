"""Who is asking: the peer of the request that is being handled.

The API sets it from the socket's peer credentials before it calls the orchestrator; whoever writes an
event for a change may note it. Outside a request there is nobody.
"""

from __future__ import annotations

from contextvars import ContextVar

from msgspec import Struct

__all__ = ["ACTOR", "Actor"]


class Actor(Struct, frozen=True, kw_only=True):
    """The process at the other end of the unix socket, as the kernel knows it."""

    uid: int
    gid: int
    pid: int


ACTOR: ContextVar[Actor | None] = ContextVar("actor", default=None)
