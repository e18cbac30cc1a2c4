"""The cheapest HTTP client there is, so that a benchmark measures the server: keep-alive on a unix socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

__all__ = ["RawConnection"]


class RawConnection:
    """One keep-alive connection; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, socket: Path) -> RawConnection:
        """Connect to the API's socket."""
        return cls(*await asyncio.open_unix_connection(str(socket), limit=1 << 26))

    async def request(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/json"
    ) -> tuple[int, bytes]:
        """Send one request and read its answer (status, body)."""
        self._writer.write(
            f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line[15:])
        return status, await self._reader.readexactly(length)

    async def json(self, method: str, path: str, body: object = None) -> object:
        """Send JSON, require a 2xx answer, decode it."""
        status, answer = await self.request(
            method, path, b"" if body is None else msgspec.json.encode(body)
        )
        assert status < 300, (status, answer[:500])
        return msgspec.json.decode(answer) if answer else None

    def close(self) -> None:
        """Hang up."""
        self._writer.close()
