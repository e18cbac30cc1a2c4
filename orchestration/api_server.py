"""Serving the API inside the node's own loop: uvicorn on sockets we bind, peers known, streams ended first.

uvicorn is asked for no signal handlers (the node has its own), and creates no socket: its own unix
sockets are 0666, ours belong to the account that runs the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from orchestration.actor import Actor
from orchestration.api_stream import Streams

__all__ = ["bind_unix", "serve"]

GRACE_S = 5
PEERCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid. Source: unix(7)


def bind_unix(path: Path, mode: int = 0o600) -> socket.socket:
    """Listen on `path`, which may hold the socket of a server that has died.

    Raises:
        OSError: the folder is missing or not ours, or the path is too long for a unix socket.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(mode)  # before it listens: nobody can have connected yet
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)  # noqa: FBT003 (the standard library's signature)
    return listener


async def serve(app: Starlette, sockets: Sequence[socket.socket], stop: asyncio.Event) -> None:
    """Serve `app` until `stop` is set: then end the event streams, finish what is in hand and return."""
    config = uvicorn.Config(
        app,
        http=PeerProtocol,
        loop="none",
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=list(sockets)))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        streams: Streams = app.state.streams
        streams.close()
        server.should_exit = True
        await serving


class PeerProtocol(HttpToolsProtocol):
    """Adds the peer's credentials to the scope, as `extensions.peercred`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask the kernel once per connection."""
        super().connection_made(transport)
        self._peer = _peer_of(transport)

    def on_message_begin(self) -> None:
        """Note the peer in the scope of the request that begins."""
        super().on_message_begin()
        if self._peer is not None:
            extensions = cast("dict[str, object]", self.scope.setdefault("extensions", {}))
            extensions["peercred"] = self._peer


class _Server(uvicorn.Server):
    """uvicorn without signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _peer_of(transport: asyncio.BaseTransport) -> Actor | None:
    peer = transport.get_extra_info("socket")
    if peer is None or peer.family != socket.AF_UNIX:
        return None
    pid, uid, gid = PEERCRED.unpack(
        peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEERCRED.size)
    )
    return Actor(uid=uid, gid=gid, pid=pid)
