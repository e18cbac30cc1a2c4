"""The journal on SQLite: one writer thread with group commit around `SqliteStore`.

Whatever is waiting when the thread looks becomes one transaction and one fsync, so concurrent submitters
share its cost. If the storage refuses, requests fail and records are kept in front, in order, and tried
again: running work's reports stay unacknowledged meanwhile, and everything goes on when space returns.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, cast

from msgspec import Struct

from orchestration.journal.contract import (
    Acceptance,
    Accepted,
    Changes,
    Committed,
    Journal,
    JournalFullError,
    JournalIOError,
    OpenUnit,
    Replay,
    ResourceRow,
)
from orchestration.journal.reader import SqliteReader
from orchestration.journal.store import (
    Accept,
    ClaimEpoch,
    Outcome,
    Record,
    Request,
    SaveInfrastructure,
    SqliteStore,
)
from orchestration.records import EventRecord, UnitRecord, UnitSpec, UnitState

__all__ = ["SqliteJournal"]

_RETRY_S = 0.2  # between attempts to write while the storage refuses


class _Job(Struct, eq=False):
    """A request and who waits for it; a record has `done`, everything else a future."""

    request: Request
    future: asyncio.Future[object] | None = None
    done: Callable[[], None] | None = None
    outcome: Outcome | None = None


class SqliteJournal(Journal):
    """A journal in the file `path`, created when it is missing."""

    def __init__(
        self,
        path: Path,
        *,
        open_store: Callable[[Path], SqliteStore] = SqliteStore,
        took: Callable[[float], None] | None = None,
    ) -> None:
        self._path = path
        self._open_store = open_store
        self._took = took  # is told how long every commit was
        self._wakeup = threading.Condition()
        self._waiting: list[_Job] = []
        self._closing = False
        self._trouble = ""
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def open(
        self,
        accepted: Callable[[Acceptance], None],
        committed: Callable[[Committed], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._accepted = accepted
        self._committed = committed
        self._store = self._open_store(self._path)
        self._reader = SqliteReader(self._path, self._store.tag)
        self.broken: asyncio.Future[BaseException] = self._loop.create_future()
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._wakeup:
            self._closing = True
            self._wakeup.notify()
        await asyncio.to_thread(thread.join)
        await asyncio.sleep(0)  # the thread's last answers are delivered
        self._reader.close()
        self._store.close()

    @property
    def tag(self) -> str:
        return self._store.tag

    @property
    def trouble(self) -> str:
        return self._trouble

    def accept(
        self, specs: Sequence[UnitSpec], *, on_demand: Sequence[str], revision: int, at_utc: float
    ) -> Awaitable[list[Accepted]]:
        return self._ask(Accept(specs, on_demand, revision, at_utc))

    def record(self, changes: Changes, done: Callable[[], None] | None = None) -> None:
        if self._thread is None:
            return  # the node is stopping: what is not durable was acknowledged to nobody
        self._put(_Job(Record(changes), done=done))

    def claim_root_epoch(self, expected: int, at_utc: float) -> Awaitable[int]:
        return self._ask(ClaimEpoch(expected, at_utc))

    def save_infrastructure(
        self, body: bytes, *, expected: int, changes: Changes, at_utc: float
    ) -> Awaitable[int]:
        return self._ask(SaveInfrastructure(body, expected, changes, at_utc))

    def root_epoch(self) -> int:
        return self._reader.root_epoch()

    def infrastructure(self) -> tuple[int, bytes]:
        return self._reader.infrastructure()

    def unit(self, seq: int) -> UnitRecord | None:
        return self._reader.unit(seq)

    def units(
        self, *, state: UnitState | None, resource: str | None, after: int, limit: int
    ) -> list[UnitRecord]:
        return self._reader.units(state=state, resource=resource, after=after, limit=limit)

    def open_units(self) -> Iterator[OpenUnit]:
        return self._reader.open_units()

    def resources(self) -> Iterator[ResourceRow]:
        return self._reader.resources()

    def reporters(self) -> dict[str, tuple[tuple[int, ...], int]]:
        return self._reader.reporters()

    def counts(self) -> dict[UnitState, int]:
        return self._reader.counts()

    def events(
        self,
        *,
        after: int,
        limit: int,
        subject: str | None = None,
        resource: str | None = None,
        kind: str | None = None,
    ) -> list[EventRecord]:
        return self._reader.events(
            after=after, limit=limit, subject=subject, resource=resource, kind=kind
        )

    def last_event(self) -> int:
        return self._reader.last_event()

    def replay(self, batch: int = 5000) -> Replay:
        return self._reader.replay(batch)

    def _ask(self, request: Request) -> Awaitable[Any]:
        future: asyncio.Future[object] = self._loop.create_future()
        self._put(_Job(request, future=future))
        return future

    def _put(self, job: _Job) -> None:
        if self._thread is None:
            raise JournalIOError(f"{self._path} is closed")
        with self._wakeup:
            self._waiting.append(job)
            if len(self._waiting) == 1:
                self._wakeup.notify()

    # ── the writer thread ─────────────────────────────────────────────────────────────────────

    def _write(self) -> None:
        kept: list[_Job] = []  # records the storage has refused so far
        try:
            while jobs := kept + self._take(wait_s=_RETRY_S if kept else None):
                kept = self._commit(jobs)
                if kept and self._closing:
                    return
        except BaseException as error:  # noqa: BLE001 - handed to the node, which stops
            self._loop.call_soon_threadsafe(self._break, error)

    def _take(self, wait_s: float | None) -> list[_Job]:
        with self._wakeup:
            if wait_s is not None:
                self._wakeup.wait_for(lambda: self._closing, wait_s)
            else:
                self._wakeup.wait_for(lambda: self._waiting or self._closing)
            jobs, self._waiting = self._waiting, []
        return jobs

    def _commit(self, jobs: list[_Job]) -> list[_Job]:
        """Commit `jobs`; returns the records to try again."""
        began = monotonic()
        try:
            outcomes = self._store.commit([job.request for job in jobs])
        except (JournalFullError, JournalIOError) as error:
            refused = [job for job in jobs if job.future is not None]
            for job in refused:
                job.outcome = Outcome(error=type(error)(*error.args))
            self._loop.call_soon_threadsafe(self._deliver, refused, str(error), None)
            return [job for job in jobs if job.future is None]
        for job, outcome in zip(jobs, outcomes, strict=True):
            job.outcome = outcome
        self._loop.call_soon_threadsafe(self._deliver, jobs, "", monotonic() - began)
        return []

    # ── back on the loop ──────────────────────────────────────────────────────────────────────

    def _deliver(self, jobs: list[_Job], trouble: str, took_s: float | None) -> None:
        self._trouble = trouble
        if took_s is not None and self._took is not None:
            self._took(took_s)
        for job in jobs:
            outcome = job.outcome
            if outcome is None:
                continue
            if outcome.events:
                self._committed(Committed(outcome.first_event, outcome.events))
            self._tell(job, outcome)

    def _tell(self, job: _Job, outcome: Outcome) -> None:
        if isinstance(job.request, Accept) and outcome.error is None:
            request = job.request
            answers = cast("list[Accepted]", outcome.answer)
            self._accepted(Acceptance(request.specs, answers, request.on_demand, request.at_utc))
        if job.done is not None:
            job.done()
        if job.future is not None and not job.future.done():
            if outcome.error is not None:
                job.future.set_exception(outcome.error)
            else:
                job.future.set_result(outcome.answer)

    def _break(self, error: BaseException) -> None:
        """The writer met a bug: nobody is left waiting, and the node is told to stop."""
        self._trouble = f"the journal's writer has stopped: {error!r}"
        if not self.broken.done():
            self.broken.set_result(error)
        with self._wakeup:
            jobs, self._waiting = self._waiting, []
        for job in jobs:
            if job.future is not None and not job.future.done():
                job.future.set_exception(JournalIOError(self._trouble))
