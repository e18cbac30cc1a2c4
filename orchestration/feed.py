"""The feed: wakes who follows the event log, and who waits for units to end, once a commit is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from orchestration.journal.contract import Committed, Journal
from orchestration.records import TERMINAL, EventRecord

__all__ = ["Feed"]

PAGE = 500
_TERMINAL_KINDS = frozenset(f"unit.{state.value}" for state in TERMINAL)


class _Waiter:
    """Somebody waits for all of `pending` to end."""

    __slots__ = ("done", "pending")

    def __init__(self, pending: set[str]) -> None:
        self.pending = pending
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ended(self, unit: str) -> None:
        self.pending.discard(unit)
        if not self.pending and not self.done.done():
            self.done.set_result(None)


class Feed:
    """Follows the commits of `journal`.

    A follower is a number in the log and nothing else: it reads page by page at its own pace, so a slow
    one costs no memory and misses nothing.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._last = 0
        self._grown: asyncio.Future[None] | None = None
        self._waiters: dict[str, list[_Waiter]] = {}

    def committed(self, batch: Committed) -> None:
        """Take note of a batch that is durable."""
        self._last = batch.first_seq + len(batch.rows) - 1
        if self._grown is not None:
            self._grown.set_result(None)
            self._grown = None
        if self._waiters:
            for row in batch.rows:
                if row[2] in self._waiters and row[1] in _TERMINAL_KINDS:
                    for waiter in self._waiters.pop(row[2]):
                        waiter.ended(row[2])

    async def follow(self, after: int) -> AsyncIterator[EventRecord]:
        """Yield every event after number `after`, for ever.

        A number beyond the log belongs to another journal: then the first event is a `log.resync`.
        """
        last = self._journal.last_event()
        if after > last:
            detail: dict[str, object] = {"after": after}
            yield EventRecord(seq=last, at_utc=0.0, kind="log.resync", subject="", detail=detail)
            after = last
        while True:
            page = self._journal.events(after=after, limit=PAGE)
            for event in page:
                yield event
                after = event.seq
            if not page:
                await self._beyond(after)

    async def ended(self, units: Iterable[str], timeout_s: float) -> bool:
        """Wait until all of `units` have come to their end; False when the time is up first."""
        names = set(units)
        waiter = _Waiter(names)
        for name in names:
            self._waiters.setdefault(name, []).append(waiter)
        try:
            for name in [name for name in names if self._is_over(name)]:
                waiter.ended(name)
            await asyncio.wait({waiter.done}, timeout=timeout_s)
            return waiter.done.done()
        finally:
            self._forget(waiter)

    async def _beyond(self, seq: int) -> None:
        while self._last <= seq:
            if self._grown is None:
                self._grown = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._grown)

    def _is_over(self, unit: str) -> bool:
        seq = self._journal.unit_seq(unit)
        record = None if seq is None else self._journal.unit(seq)
        return record is None or record.state in TERMINAL

    def _forget(self, waiter: _Waiter) -> None:
        for name in waiter.pending:
            others = [other for other in self._waiters.get(name, ()) if other is not waiter]
            if others:
                self._waiters[name] = others
            else:
                self._waiters.pop(name, None)
