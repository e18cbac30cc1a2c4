"""A TCP listener for Prometheus: `GET /metrics` and nothing else, so that nothing else is open on the network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["listen"]

_LIMIT_S = 10.0
_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def listen(address: str, scrape: Callable[[], bytes]) -> asyncio.Server:
    """Answer scrapes on `address` (HOST:PORT).

    Raises:
        ValueError: the address is not HOST:PORT.
        OSError: it cannot be bound.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{address!r} is not HOST:PORT")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _LIMIT_S)
            writer.write(_response(head, scrape))
            await asyncio.wait_for(writer.drain(), _LIMIT_S)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError):
            pass  # a peer that does not speak HTTP, or has gone
        finally:
            writer.close()

    return await asyncio.start_server(answer, host.strip("[]"), int(port))


def _response(head: bytes, scrape: Callable[[], bytes]) -> bytes:
    method, path, *_ = [*head.split(b"\r\n", 1)[0].split(b" "), b"", b""]
    if method not in (b"GET", b"HEAD") or path.split(b"?", 1)[0] != b"/metrics":
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    body = scrape()
    length = f"HTTP/1.1 200 OK\r\nContent-Type: {_TYPE}\r\nContent-Length: {len(body)}\r\n"
    return f"{length}Connection: close\r\n\r\n".encode() + (body if method == b"GET" else b"")
