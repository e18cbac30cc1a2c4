"""The SQLite file behind the journal: one transaction for a list of requests, and the reads.

It knows no thread and no loop: `SqliteJournal` puts a writer thread around it, tests drive it step by step.
Rows travel as one JSON parameter per table and commit. One `sqlite3_step` then does a whole batch without
the interpreter lock; with `executemany`, which takes the lock back for every row, a busy loop thread slows
the writer from 170,000 rows/s to 1,400 (measured, CPython 3.11).

Longer than most: every SQL statement of the journal is in this one place, beside the rows it reads or writes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from orchestration.journal.contract import (
    Accepted,
    Changes,
    EpochTakenError,
    EventRow,
    IdempotencyError,
    JournalError,
    JournalFullError,
    JournalInUseError,
    JournalIOError,
    JournalVersionError,
    RevisionError,
)
from orchestration.journal.schema import migrate
from orchestration.records import OnFailure, UnitSpec, UnitState

__all__ = [
    "RESERVE_BYTES",
    "Accept",
    "ClaimEpoch",
    "Outcome",
    "Record",
    "Request",
    "SaveInfrastructure",
    "SqliteStore",
    "connect",
]

_OLDEST_SQLITE = (3, 38, 0)  # the ->> operator
_TAG_ALPHABET = "abcdefghjkmnpqrstvwxyz0123456789"
RESERVE_BYTES = 8 * 1024 * 1024  # kept free for what becomes of units accepted before
_WAL_PAGES = 4000  # between checkpoints: 16 MiB

_INSERT_UNITS = """
INSERT INTO units (seq, resource, state, commands, on_failure, idempotency_key, body_hash,
                   command_deadline_s, accepted_utc, changed_utc)
SELECT value->>0, value->>1, 'pending', value->>2, value->>3, value->>4, value->>5,
       value->>6, value->>7, value->>7
FROM json_each(?)
"""
_UPDATE_UNITS = """
UPDATE units SET state = new.value->>1, completed = new.value->>2, attempt = new.value->>3,
  crashes = new.value->>4, epoch = new.value->>5, reason = new.value->>6, code = new.value->>7,
  changed_utc = new.value->>8, next_attempt_utc = new.value->>9
FROM json_each(?) AS new
WHERE units.seq = new.value->>0
  AND units.state NOT IN ('succeeded', 'failed', 'cancelled', 'superseded', 'quarantined')
"""
_REQUEST_CANCELS = """
UPDATE units SET cancel_requested = 1 WHERE seq IN (SELECT value FROM json_each(?))
"""
_COUNT_POD_LOSSES = """
UPDATE units SET pod_losses = new.value->>1 FROM json_each(?) AS new WHERE seq = new.value->>0
"""
_INSERT_EVENTS = """
INSERT INTO events (seq, at_utc, kind, subject, resource, epoch, detail)
SELECT ? + key, value->>0, value->>1, value->>2, value->>3, value->>4, value->>5 FROM json_each(?)
"""
_UPSERT_RESOURCES = """
INSERT INTO resources (path, on_demand, epoch, desired, former_epoch)
SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?) WHERE true
ON CONFLICT (path) DO UPDATE SET on_demand = excluded.on_demand, epoch = excluded.epoch,
  desired = excluded.desired, former_epoch = excluded.former_epoch
"""
_DELETE_RESOURCES = "DELETE FROM resources WHERE path IN (SELECT value FROM json_each(?))"
_INSERT_ON_DEMAND = """
INSERT INTO resources (path, on_demand) SELECT value, 1 FROM json_each(?) WHERE true
ON CONFLICT (path) DO NOTHING
"""
_UPSERT_REPORTERS = """
INSERT INTO reporters (node, epoch, last_report)
SELECT value->>0, value->>1, value->>2 FROM json_each(?) WHERE true
ON CONFLICT (node) DO UPDATE SET epoch = excluded.epoch, last_report = excluded.last_report
"""

_encode = msgspec.json.Encoder().encode
_NO_EPOCH = "[]"


class Accept(Struct, frozen=True):
    """See `Journal.accept`."""

    specs: Sequence[UnitSpec]
    on_demand: Sequence[str]
    revision: int
    at_utc: float


class Record(Struct, frozen=True):
    """See `Journal.record`."""

    changes: Changes


class ClaimEpoch(Struct, frozen=True):
    """See `Journal.claim_root_epoch`."""

    expected: int
    at_utc: float


class SaveInfrastructure(Struct, frozen=True):
    """See `Journal.save_infrastructure`."""

    body: bytes
    expected: int
    changes: Changes
    at_utc: float


Request = Accept | Record | ClaimEpoch | SaveInfrastructure


class Outcome(Struct):
    """What became of one request: its answer, or the error to raise; and the events it brought."""

    answer: object = None
    error: JournalError | None = None
    first_event: int = 0
    events: Sequence[EventRow] = ()


_NewUnit = tuple[int, str, str, str | None, str | None, str | None, float | None, float]


class _Body(Struct, frozen=True):
    """What an idempotency key stands for."""

    resource: str
    commands: object
    on_failure: OnFailure
    command_deadline_s: float | None


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a connection with the journal's settings; it may be used from any one thread at a time."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise JournalVersionError(f"SQLite {sqlite3.sqlite_version} is older than 3.38")
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=128, timeout=10.0
    )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    else:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {64 * 1024 * 1024}")
    return connection


class SqliteStore:
    """The writing side. `commit` is all or nothing for storage errors; refusals concern one request alone.

    Args:
        path: the journal's file, created when it is missing.
        reserve_bytes: with less than this free nothing is accepted, so that reports still find room.

    Raises:
        JournalInUseError: another process has it open.
        JournalVersionError: it was written by a newer program.
        JournalFullError: there is no space to create it.
        JournalIOError: it cannot be opened or is damaged.
    """

    def __init__(self, path: Path, *, reserve_bytes: int = RESERVE_BYTES) -> None:
        self.path = path
        self.reserve_bytes = reserve_bytes
        self._owner = _own(path)
        try:
            self._connection = connect(path)
            migrate(self._connection)
            self.tag = self._read_tag()
        except sqlite3.Error as error:
            raise _storage_error(error, path) from error
        self._next_unit = self._number("SELECT max(seq) FROM units") + 1
        self._next_event = self._number("SELECT max(seq) FROM events") + 1

    def close(self) -> None:
        """Let go of the file; closing twice is closing once."""
        if self._owner >= 0:
            self._connection.close()
            os.close(self._owner)
            self._owner = -1

    def commit(self, requests: Sequence[Request]) -> list[Outcome]:
        """Do all of `requests` in one durable transaction.

        Raises:
            JournalFullError: nothing was kept.
            JournalIOError: nothing was kept.
        """
        unit, event = self._next_unit, self._next_event
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = self._do(requests)
            self._connection.execute("COMMIT")
        except BaseException as error:
            self._next_unit, self._next_event = unit, event
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise _storage_error(error, self.path) from error
            raise
        return outcomes

    def _do(self, requests: Sequence[Request]) -> list[Outcome]:
        """Answer in order; neighbouring records become one statement per table."""
        outcomes: list[Outcome] = []
        waiting: list[Changes] = []
        for request in requests:
            if isinstance(request, Record):
                waiting.append(request.changes)
                first = self._next_event
                self._next_event += len(request.changes.events)
                outcomes.append(Outcome(None, None, first, request.changes.events))
                continue
            self._write(waiting)
            waiting = []
            outcomes.append(self._answer(request))
        self._write(waiting)
        return outcomes

    def _answer(self, request: Accept | ClaimEpoch | SaveInfrastructure) -> Outcome:
        try:
            match request:
                case Accept():
                    return self._accept(request)
                case ClaimEpoch():
                    return self._claim_epoch(request)
                case SaveInfrastructure():
                    return self._save(request)
        except (EpochTakenError, IdempotencyError, JournalFullError, RevisionError) as refused:
            return Outcome(error=refused)

    def _accept(self, request: Accept) -> Outcome:
        current = self.revision()
        if current != request.revision:
            raise RevisionError(current)
        self._require_room()
        answers, rows = self._number_units(request)
        events = [
            (request.at_utc, "unit.pending", f"{self.tag}-{row[0]}", row[1], _NO_EPOCH, "{}")
            for row in rows
        ]
        if request.on_demand:
            self._execute(_INSERT_ON_DEMAND, request.on_demand)
        if rows:
            self._execute(_INSERT_UNITS, rows)
        first = self._append(events)
        return Outcome(answers, None, first, events)

    def _require_room(self) -> None:
        disk = os.statvfs(self.path.parent)
        free = disk.f_bavail * disk.f_frsize
        if free < self.reserve_bytes:
            raise JournalFullError(
                f"{free // 1024} KiB are free for {self.path}; "
                f"{self.reserve_bytes // 1024} KiB are kept for work accepted before"
            )

    def _number_units(self, request: Accept) -> tuple[list[Accepted], list[_NewUnit]]:
        """Give each new unit its number; a known key gives the unit it stands for."""
        answers: list[Accepted] = []
        rows: list[_NewUnit] = []
        fresh: dict[str, tuple[int, str]] = {}
        number = self._next_unit
        for index, spec in enumerate(request.specs):
            key = spec.idempotency_key
            body = _hash(spec) if key is not None else None
            if key is not None and body is not None:
                known = self._known(index, key, body, fresh)
                if known is not None:
                    answers.append(known)
                    continue
                fresh[key] = (number, body)
            rows.append(
                (
                    number,
                    spec.resource,
                    _encode(spec.commands).decode(),
                    None if spec.on_failure == _DEFAULT else _encode(spec.on_failure).decode(),
                    key,
                    body,
                    spec.command_deadline_s,
                    request.at_utc,
                )
            )
            answers.append(Accepted(number, UnitState.PENDING))
            number += 1
        self._next_unit = number
        return answers, rows

    def _known(
        self, index: int, key: str, body: str, fresh: dict[str, tuple[int, str]]
    ) -> Accepted | None:
        state = UnitState.PENDING
        if key in fresh:
            seq, before = fresh[key]
        else:
            row = self._connection.execute(
                "SELECT seq, body_hash, state FROM units WHERE idempotency_key = ?", (key,)
            ).fetchone()
            if row is None:
                return None
            seq, before, state = row[0], row[1], UnitState(row[2])
        if before != body:
            raise IdempotencyError(index, key)
        return Accepted(seq, state, replayed=True)

    def _claim_epoch(self, request: ClaimEpoch) -> Outcome:
        current = self._number("SELECT value FROM meta WHERE name = 'root_epoch'")
        if current != request.expected:
            raise EpochTakenError(current)
        self._connection.execute(
            "INSERT INTO meta VALUES ('root_epoch', ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (str(current + 1),),
        )
        events = [(request.at_utc, "epoch.claimed", "root", "", f"[{current + 1}]", "{}")]
        return Outcome(current + 1, None, self._append(events), events)

    def _save(self, request: SaveInfrastructure) -> Outcome:
        current = self.revision()
        if current != request.expected:
            raise RevisionError(current)
        self._connection.execute(
            "INSERT INTO revisions VALUES (?, ?, ?)",
            (current + 1, request.body.decode(), request.at_utc),
        )
        first = self._next_event
        self._next_event += len(request.changes.events)
        self._write([request.changes], first)
        return Outcome(current + 1, None, first, request.changes.events)

    def _write(self, batch: Sequence[Changes], first: int | None = None) -> None:
        """Write records whose event numbers are reserved already: the last ones, or from `first` on."""
        if not batch:
            return
        events = [row for changes in batch for row in changes.events]
        if events:
            start = self._next_event - len(events) if first is None else first
            self._connection.execute(_INSERT_EVENTS, (start, _encode(events).decode()))
        units = {seq: row for changes in batch for seq, row in changes.units.items()}
        if units:
            self._update_units(list(units.values()))
        for changes in batch:
            self._write_rare(changes)
        reporters = {row[0]: row for changes in batch for row in changes.reporters.values()}
        if reporters:
            self._execute(_UPSERT_REPORTERS, list(reporters.values()))

    def _write_rare(self, changes: Changes) -> None:
        if changes.cancels:
            self._execute(_REQUEST_CANCELS, changes.cancels)
        if changes.pod_losses:
            self._execute(_COUNT_POD_LOSSES, list(changes.pod_losses.items()))
        if changes.resources:
            self._execute(_UPSERT_RESOURCES, list(changes.resources.values()))
        if changes.dropped:
            self._execute(_DELETE_RESOURCES, changes.dropped)

    def _update_units(self, rows: list[object]) -> None:
        changed = self._execute(_UPDATE_UNITS, rows)
        if changed != len(rows):
            # A bug of ours, and the last line of defence for "exactly one terminal state".
            raise AssertionError(f"{len(rows) - changed} of {len(rows)} units are over already")

    def _append(self, events: Sequence[EventRow]) -> int:
        first = self._next_event
        if events:
            self._connection.execute(_INSERT_EVENTS, (first, _encode(events).decode()))
            self._next_event += len(events)
        return first

    def _execute(self, statement: str, rows: Sequence[object]) -> int:
        return self._connection.execute(statement, (_encode(rows).decode(),)).rowcount

    def revision(self) -> int:
        """The revision in force, seen from inside the transaction."""
        return self._number("SELECT max(revision) FROM revisions")

    def _number(self, query: str) -> int:
        row = self._connection.execute(query).fetchone()
        return 0 if row is None or row[0] is None else int(row[0])

    def _read_tag(self) -> str:
        made = "".join(secrets.choice(_TAG_ALPHABET) for _ in range(8))
        self._connection.execute(
            "INSERT INTO meta VALUES ('tag', ?) ON CONFLICT (name) DO NOTHING", (made,)
        )
        row = self._connection.execute("SELECT value FROM meta WHERE name = 'tag'").fetchone()
        return str(row[0])


_DEFAULT = OnFailure()


def _hash(spec: UnitSpec) -> str:
    body = _Body(spec.resource, spec.commands, spec.on_failure, spec.command_deadline_s)
    text = msgspec.json.encode(body, order="deterministic")
    return hashlib.sha256(text).hexdigest()[:32]


def _own(path: Path) -> int:
    """Lock a file beside the journal: closing a descriptor of the journal itself would drop SQLite's locks."""
    descriptor = os.open(path.with_name(path.name + "-owner"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise JournalInUseError(f"{path} is in use by another process") from error
    return descriptor


def _storage_error(error: sqlite3.Error, path: Path) -> JournalError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return JournalFullError(f"no space left for {path}")
    return JournalIOError(f"{path}: {error}")
