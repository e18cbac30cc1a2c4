"""One connection to a device service, pipelined: many asks under way, answers matched by number.

It dials when first needed and again after a loss, and never sends anything twice. Whoever waits for an
answer when the connection breaks is told whether the ask had left. Waits are timers on futures, not
`asyncio.timeout`, because the caller may be stepped outside any task.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from typing import TypeVar, cast

import msgspec

from drivers.contract import OutcomeUnknownError, UnreachableError
from drivers.device_protocol import Ask, Changed, Hello, Reply, frame, reply_frames

__all__ = ["ConnectionLostError", "DeviceClient"]

DIAL_S = 2.0  # a service that is being restarted is back within this
REDIAL_S = 0.05

T = TypeVar("T", bound=Reply)


class ConnectionLostError(OutcomeUnknownError):
    """The connection broke after the ask had left; what changes nothing may be asked again."""


class DeviceClient:
    """Asks the device service at `path`.

    Args:
        path: its unix socket.
        changed: called with each device that changed by itself.
    """

    def __init__(self, path: str, changed: Callable[[str], None]) -> None:
        self._path = path
        self._changed = changed
        self._session = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._generation = 0
        self._next = 1
        self._connection: _Connection | None = None
        self._dialing: asyncio.Task[_Connection] | None = None

    async def connect(self, deadline_s: float) -> None:
        """Dial unless connected.

        Raises:
            UnreachableError: nobody answered in time.
        """
        await self._connected(deadline_s)

    def close(self) -> None:
        """Hang up; what is under way is answered with an error."""
        if self._dialing is not None:
            self._dialing.cancel()
        if self._connection is not None:
            self._connection.close()
        self._connection = self._dialing = None

    async def ask(self, make: Callable[[int], Ask], answer: type[T], deadline_s: float) -> T:
        """Send `make(number)` and return its answer.

        Raises:
            UnreachableError: it never left.
            OutcomeUnknownError: it left, and no answer came in time.
        """
        connection = self._connection
        if connection is None or connection.closed:
            connection = await self._connected(deadline_s)
        self._next += 1
        reply = await connection.ask(make(self._next), deadline_s)
        if not isinstance(reply, answer):
            raise OutcomeUnknownError(f"{self._path} answered {reply!r}, not {answer.__name__}")
        return reply

    async def _connected(self, deadline_s: float) -> _Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if self._dialing is None or self._dialing.done():
            self._dialing = asyncio.ensure_future(self._dial(min(deadline_s, DIAL_S)))
        # Shared by all who ask meanwhile, so none of them may cancel it.
        return await asyncio.shield(self._dialing)

    async def _dial(self, patience_s: float) -> _Connection:
        loop = asyncio.get_running_loop()
        until = loop.time() + patience_s
        while True:
            try:
                return await self._dial_once(until - loop.time())
            except (OSError, OutcomeUnknownError, UnreachableError) as error:
                if loop.time() + REDIAL_S >= until:
                    raise UnreachableError(
                        f"no device service answers at {self._path}: {error}"
                    ) from error
            await asyncio.sleep(REDIAL_S)

    async def _dial_once(self, patience_s: float) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(
            lambda: _Connection(self._path, self._changed), self._path
        )
        self._generation += 1
        hello = Hello(0, self._session, self._generation, events=True)
        try:
            await connection.ask(hello, max(patience_s, REDIAL_S))
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection


class _Connection(asyncio.Protocol):
    """A connected socket; the asks of one turn of the loop leave as one frame."""

    def __init__(self, path: str, changed: Callable[[str], None]) -> None:
        self.closed = False
        self._path = path
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._frames = reply_frames()
        self._transport: asyncio.Transport | None = None
        self._out: list[Ask] = []
        self._waiting: dict[int, asyncio.Future[Reply]] = {}

    async def ask(self, ask: Ask, deadline_s: float) -> Reply:
        if self.closed:
            raise UnreachableError(f"the connection to {self._path} is gone")
        answer: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting[ask.number] = answer
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(ask)
        timer = self._loop.call_later(deadline_s, _expire, answer, self._path, deadline_s)
        try:
            return await answer
        finally:
            timer.cancel()
            self._waiting.pop(ask.number, None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._end("closed")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not derived from it

    def data_received(self, data: bytes) -> None:
        try:
            for batch in self._frames.feed(data):
                for message in batch:
                    self._received(message)
        except (ValueError, msgspec.DecodeError) as error:
            if self._transport is not None:
                self._transport.abort()
            self._end(f"spoke another protocol: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"lost: {exc}" if exc else "lost")

    def _received(self, message: Reply | Changed) -> None:
        if isinstance(message, Changed):
            self._changed(message.device)
            return
        answer = self._waiting.get(message.number)
        if answer is not None and not answer.done():
            answer.set_result(message)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and not self.closed and out:
            self._transport.write(frame(out))

    def _end(self, how: str) -> None:
        self.closed = True
        unsent = {ask.number for ask in self._out}
        for number, answer in self._waiting.items():
            if answer.done():
                continue
            text = f"the connection to {self._path} was {how}"
            error = UnreachableError(text) if number in unsent else ConnectionLostError(text)
            answer.set_exception(error)
        self._out.clear()


def _expire(answer: asyncio.Future[Reply], path: str, deadline_s: float) -> None:
    if not answer.done():
        answer.set_exception(OutcomeUnknownError(f"{path} gave no answer in {deadline_s:g} s"))
