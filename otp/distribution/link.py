"""Links: authenticated message streams between two nodes over a unix socket.

Whoever listens gets a `Link` for every peer that proved the cookie; a `Dialer` keeps one link alive for
ever. The messages sent in one turn of the loop leave as few batches; each direction has a window of
messages the receiver has allowed, so a peer that does not keep up leaves a `backlog` with the sender.

A link ends once, with a reason: `Handler.lost`, then `Link.closed`. What was sent and not yet
handled by the peer is lost with it; whoever needs more says it again on the next link.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from otp.distribution.channel import WINDOW, Decode, Encode, Handler, Link
from otp.distribution.connection import Connection
from otp.distribution.frames import Handshake, Hello, LinkError

__all__ = [
    "WINDOW",
    "Decode",
    "Dialer",
    "Encode",
    "Handler",
    "Hello",
    "Link",
    "LinkError",
    "Listener",
    "listen",
]

REDIAL_INITIAL_S = 0.05
REDIAL_MAX_S = 1.0


class Listener:
    """A listening socket and the connections it has accepted."""

    def __init__(self, path: Path, server: asyncio.AbstractServer, links: set[Link]) -> None:
        self._path = path
        self._server = server
        self._links = links
        self._inode = path.stat().st_ino

    def close(self) -> None:
        """Listen no more and close the links that were accepted here."""
        self._server.close()
        for link in tuple(self._links):
            link.close("the listener closed")
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


async def listen(
    path: Path,
    *,
    me: Callable[[], Hello],
    cookie: bytes,
    encode: Encode,
    decode: Decode,
    accept: Callable[[Link], Handler],
) -> Listener:
    """Listen on the unix socket `path` (mode 0600); `accept` gets every link whose peer proved the cookie.

    A socket file left by an earlier listener is replaced: one owner of the path is the caller's business.

    Raises:
        OSError: the path cannot be bound.
    """
    links: set[Link] = set()

    def welcome(link: Link) -> Handler:
        links.add(link)
        link.closed.add_done_callback(lambda _: links.discard(link))
        return accept(link)

    def connection() -> Connection:
        return Connection(Handshake(me(), cookie, dialed=False), encode, decode, welcome)

    address = _bind(path)
    server = await asyncio.get_running_loop().create_unix_server(connection, sock=address)
    return Listener(path, server, links)


class Dialer:
    """Keeps a link to `path` alive: redials for ever, waiting 0.05 s doubling to 1 s between tries."""

    def __init__(
        self,
        path: Path,
        *,
        me: Callable[[], Hello],
        cookie: bytes,
        encode: Encode,
        decode: Decode,
        connected: Callable[[Link], Handler],
    ) -> None:
        self.link: Link | None = None
        self.last_error = ""  # why the last try failed, for whoever shows the state
        self._path = path
        self._me = me
        self._cookie = cookie
        self._codec = (encode, decode)
        self._connected = connected
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"dial {path.name}")
        self._task.add_done_callback(_raise_unexpected)

    def close(self, reason: str = "closed") -> None:
        """Close the link and dial no more."""
        self._task.cancel()
        if self.link is not None:
            self.link.close(reason)

    async def _keep(self) -> None:
        loop, wait_s = asyncio.get_running_loop(), REDIAL_INITIAL_S
        while True:
            began = loop.time()
            try:
                link = await self._dial()
            except (OSError, LinkError) as error:
                self.last_error = str(error)
            else:
                self.last_error = await asyncio.shield(link.closed)
                self.link = None
            # A peer that lets us in and drops us at once is waited for like one that is not there.
            wait_s = REDIAL_INITIAL_S if loop.time() - began > REDIAL_MAX_S else wait_s
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, REDIAL_MAX_S)

    async def _dial(self) -> Link:
        def accept(link: Link) -> Handler:
            self.link = link
            return self._connected(link)

        def connection() -> Connection:
            handshake = Handshake(self._me(), self._cookie, dialed=True)
            return Connection(handshake, *self._codec, accept)

        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_unix_connection(connection, str(self._path))
        return await protocol.established


def _bind(path: Path) -> socket.socket:
    """Bind a socket that nobody else may open, in place of one left behind."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
    address = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        address.bind(str(path))
        path.chmod(0o600)
    except OSError:
        address.close()
        raise
    return address


def _raise_unexpected(task: asyncio.Task[None]) -> None:
    """Hand an unexpected end of a task to the loop's exception handler now, not at its collection."""
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler(
            {"message": f"{task.get_name()} failed", "exception": error}
        )
