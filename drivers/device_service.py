"""The device service: a process of its own in which simulated devices live, whoever else dies.

`python -m drivers.device_service --socket PATH --folder DIR` serves `drivers.simulated` on a unix socket
and keeps its memory in `DIR/ledger.jsonl`. It dies with its parent unless `--detached`. What it has
answered survives its own SIGKILL; what was running then is aborted.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import fcntl
import os
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path
from typing import cast

import msgspec
import uvloop

from drivers.contract import Observation
from drivers.device_engine import Engine
from drivers.device_faults import Faults, read_faults
from drivers.device_protocol import (
    Answer,
    Apply,
    Ask,
    Cancel,
    Changed,
    Claim,
    Hello,
    Observe,
    Poke,
    Probe,
    Reply,
    Resume,
    Seen,
    Settle,
    Word,
    ask_frames,
    frame,
)
from drivers.ledger_records import LedgerError, LedgerWriter, read_ledger

__all__ = ["LEDGER_NAME", "DeviceService", "main"]

LEDGER_NAME = "ledger.jsonl"
HEARTBEAT_S = 0.5

_PR_SET_PDEATHSIG = 1


class ServiceError(Exception):
    """The service cannot start or go on; it says so on stderr and ends with 1."""


class DeviceService:
    """Connects sockets to the engine: reads asks, and answers only what is in the ledger."""

    def __init__(self, ledger: LedgerWriter, default: Faults) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.engine = Engine(ledger, default, time.monotonic, loop.call_later)
        self._loop = loop
        self._ledger = ledger
        self._generations: dict[str, int] = {}
        self._connections: set[_Connection] = set()
        self._dirty: set[_Connection] = set()
        self._flushing = False

    def connect(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return _Connection(self)

    def handle(self, connection: _Connection, ask: Ask) -> None:
        """Handle one request."""
        match ask:
            case Apply():
                self.engine.execute(ask, partial(self._answer, connection, ask.number))
            case Claim():
                seen = [self.engine.claim(path, epoch) for path, epoch in ask.devices]
                self.send(connection, Seen(ask.number, seen))
            case Observe():
                self.send(connection, Seen(ask.number, [self.engine.observe(ask.device)]))
            case Hello():
                self._hello(connection, ask)
            case Poke():
                self._poke(connection, ask)
            case Resume():
                outcome, detail = self.engine.follow(ask.device, ask.key)
                self.send(connection, Answer(ask.number, outcome, detail))
            case _:
                self.send(connection, Word(ask.number, self._word(ask)))

    def send(self, connection: _Connection, message: Reply | Changed) -> None:
        """Send `message` once the ledger has been written."""
        connection.out.append(message)
        self._dirty.add(connection)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def opened(self, connection: _Connection) -> None:
        """Take a connection in."""
        self._connections.add(connection)

    def lost(self, connection: _Connection) -> None:
        """Forget a connection; its commands go on."""
        self._connections.discard(connection)
        self._dirty.discard(connection)

    def _word(self, ask: Ask) -> str:
        match ask:
            case Settle(device=path, key=key):
                return self.engine.knows(path, key)
            case Cancel(device=path, key=key):
                return "cancelled" if self.engine.cancel(path, key) else "not_running"
            case Probe():
                return "healthy"
            case _:
                raise ServiceError(f"unexpected request {ask!r}")

    def _hello(self, connection: _Connection, hello: Hello) -> None:
        if hello.generation < self._generations.get(hello.session, 0):
            connection.cut()
            return
        self._generations[hello.session] = hello.generation
        for other in self._connections:
            if other.session == hello.session and other is not connection:
                other.cut()
        connection.session = hello.session
        connection.events = hello.events
        self.send(connection, Word(hello.number, "welcome"))

    def _poke(self, connection: _Connection, ask: Poke) -> None:
        self.engine.poke(ask.device, ask.state)
        self.send(connection, Word(ask.number, "poked"))
        for listener in self._connections:
            if listener.events:
                self.send(listener, Changed(ask.device))

    def _answer(
        self,
        connection: _Connection,
        number: int,
        outcome: str,
        detail: str,
        seen: Observation | None,
    ) -> None:
        self.send(connection, Answer(number, outcome, detail, seen))

    def _flush(self) -> None:
        self._flushing = False
        try:
            self._ledger.flush()
        except LedgerError as error:
            if not self.ended.done():
                self.ended.set_exception(error)
            return
        dirty, self._dirty = self._dirty, set()
        for connection in dirty:
            connection.flush()


class _Connection(asyncio.Protocol):
    """One client; a cut one is neither read nor answered any more."""

    def __init__(self, service: DeviceService) -> None:
        self.out: list[Reply | Changed] = []
        self.session = ""
        self.events = False
        self._service = service
        self._frames = ask_frames()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not derived from it
        self._service.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            for batch in self._frames.feed(data):
                for ask in batch:
                    if self._transport is None:
                        return
                    self._service.handle(self, ask)
        except (ValueError, msgspec.DecodeError) as error:
            sys.stderr.write(f"closing a connection: {error}\n")
            self.cut()

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._service.lost(self)

    def cut(self) -> None:
        """Drop the connection with whatever it has not yet been read of."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def flush(self) -> None:
        """Send what has been gathered, as one frame."""
        out, self.out = self.out, []
        if self._transport is not None and out:
            self._transport.write(frame(out))


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 1 with a text on stderr if that is not possible."""
    options = _parser().parse_args(arguments)
    if not options.detached and not _follow_parent(options.parent):
        return 1
    try:
        default = read_faults({"latency": options.latency}, {}, Faults())
        lock = _lock(options.folder)
        uvloop.run(_serve(options.socket, options.folder, default, options.heartbeat_fd))
        options.socket.unlink(missing_ok=True)
        os.close(lock)
    except (ServiceError, LedgerError, ValueError, OSError) as error:
        sys.stderr.write(f"error: device service: {error}\n")
        return 1
    return 0


def _follow_parent(parent: int | None) -> bool:
    """Die with the parent, however it dies; False if it has died already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before that call: then somebody else has adopted this process.
    return parent is None or os.getppid() == parent


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m drivers.device_service", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, help="unix socket to serve")
    parser.add_argument("--folder", type=Path, required=True, help="where the ledger is kept")
    parser.add_argument("--latency", default="0s", help="how long every command takes (50ms)")
    parser.add_argument("--heartbeat-fd", type=int, help="pipe that gets a line every 0.5 s")
    parser.add_argument("--parent", type=int, help="pid of the process to end with")
    parser.add_argument("--detached", action="store_true", help="outlive the parent process")
    return parser


def _lock(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ServiceError(f"{folder} is in use by another device service") from error
    return file


async def _serve(path: Path, folder: Path, default: Faults, heartbeat: int | None) -> None:
    loop = asyncio.get_running_loop()
    ledger = LedgerWriter(folder / LEDGER_NAME)
    service = DeviceService(ledger, default)
    service.engine.replay(read_ledger(folder / LEDGER_NAME), pid=os.getpid(), utc=time.time())
    ledger.flush()
    loop.set_exception_handler(partial(_broken, service.ended))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _finish, service.ended)
    server = await loop.create_unix_server(service.connect, sock=_bind(path), backlog=1024)
    if heartbeat is not None:
        _beat(loop, heartbeat)
    await service.ended
    server.close()
    ledger.flush()
    ledger.close()


def _finish(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _broken(
    ended: asyncio.Future[None], _loop: asyncio.AbstractEventLoop, context: dict[str, object]
) -> None:
    """End the service: a device that goes on after a bug of ours would be no witness."""
    error = context.get("exception")
    if not ended.done():
        ended.set_exception(
            error if isinstance(error, Exception) else ServiceError(str(context["message"]))
        )


def _bind(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > 107:
        raise ServiceError(f"the socket path {path} is longer than 107 bytes, the system's limit")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
    else:
        raise ServiceError(f"{path} is served by another process")
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(str(path))
    finally:
        os.umask(mask)
    return sock


def _beat(loop: asyncio.AbstractEventLoop, heartbeat: int) -> None:
    try:
        os.write(heartbeat, b"alive\n")
    except BrokenPipeError:
        os.kill(os.getpid(), signal.SIGTERM)
    loop.call_later(HEARTBEAT_S, _beat, loop, heartbeat)


if __name__ == "__main__":
    sys.exit(main())
