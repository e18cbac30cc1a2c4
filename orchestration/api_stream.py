"""Server-sent events: the event log as it grows, resumable, with a heartbeat, ended at shutdown.

A pump takes events from the orchestrator and a sender writes all that are there in one go, so a burst
costs one write. The pump stops while the sender is `WINDOW` events behind: a slow reader reads the log
later, it never makes the server hold it. `Streams.close` ends all of them; uvicorn would wait for ever.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestration.records import EventRecord

__all__ = ["EventStream", "Streams"]

HEARTBEAT_S = 15.0
WINDOW = 1000
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]

_encode = msgspec.json.Encoder().encode


class Streams:
    """The open event streams of one server."""

    def __init__(self, heartbeat_s: float = HEARTBEAT_S) -> None:
        self.heartbeat_s = heartbeat_s
        self.closing = False
        self._open: set[EventStream] = set()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, stream: EventStream) -> None:
        """Count `stream` in."""
        self._open.add(stream)

    def discard(self, stream: EventStream) -> None:
        """Forget `stream`, which has ended."""
        self._open.discard(stream)

    def close(self) -> None:
        """End every stream; its client sees a proper end and comes again with Last-Event-ID."""
        self.closing = True
        for stream in self._open:
            stream.end()


class EventStream(Response):
    """One client's stream of the events that `wanted` lets through."""

    def __init__(
        self,
        events: AsyncIterator[EventRecord],
        wanted: Callable[[EventRecord], bool],
        streams: Streams,
    ) -> None:
        super().__init__(b"")
        self._events = events
        self._wanted = wanted
        self._streams = streams
        self._waiting: deque[EventRecord] = deque()
        self._wake = asyncio.Event()  # something to send, or the end
        self._room = asyncio.Event()
        self._ended = streams.closing

    def end(self) -> None:
        """Send what is there, then finish."""
        self._ended = True
        self._wake.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve until the client leaves, the events end or the server stops."""
        self._streams.add(self)
        pump = asyncio.ensure_future(self._pump())
        watch = asyncio.ensure_future(self._watch(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await self._send_all(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._streams.discard(self)
            watch.cancel()
            pump.cancel()
            with suppress(asyncio.CancelledError):
                await watch
            with suppress(asyncio.CancelledError):
                await pump  # an error of the log is the server's, and is logged as one

    async def _send_all(self, send: Send) -> None:
        body = b"retry: 500\n\n"  # milliseconds before a client comes again
        while True:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            if not self._waiting and not self._ended:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._streams.heartbeat_s)
            if not self._waiting and self._ended:
                return
            body = b"".join(map(_frame, self._waiting)) or b": heartbeat\n\n"
            self._waiting.clear()
            self._wake.clear()
            self._room.set()
            if self._ended:
                self._wake.set()

    async def _pump(self) -> None:
        try:
            async with aclosing(self._events) as events:  # type: ignore[type-var]
                async for event in events:
                    if self._wanted(event):
                        self._waiting.append(event)
                        self._wake.set()
                    while len(self._waiting) >= WINDOW:
                        self._room.clear()
                        await self._room.wait()
        finally:
            self.end()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._waiting.clear()
        self.end()


def _frame(event: EventRecord) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.kind.encode(), _encode(event))
