"""The SQLite journal's reads, on a connection that can change nothing; they see committed rows alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from orchestration.journal.contract import OpenUnit, Replay, ResourceRow, UnitNow
from orchestration.journal.store import connect
from orchestration.records import (
    CommandSpec,
    EventRecord,
    OnFailure,
    UnitRecord,
    UnitSpec,
    UnitState,
)

__all__ = ["SqliteReader"]

_commands = msgspec.json.Decoder(tuple[CommandSpec, ...]).decode
_on_failure = msgspec.json.Decoder(OnFailure).decode
_epoch = msgspec.json.Decoder(tuple[int, ...]).decode
_detail = msgspec.json.Decoder(dict[str, object]).decode
_DEFAULT = OnFailure()
_STATES = {state.value: state for state in UnitState}
_UNIT = (
    "SELECT seq, resource, state, commands, completed, attempt, crashes, epoch, reason, code, "
    "on_failure, idempotency_key, command_deadline_s, accepted_utc, changed_utc, next_attempt_utc, "
    "cancel_requested, pod_losses FROM units"
)
_EVENT = "SELECT seq, at_utc, kind, subject, resource, epoch, detail FROM events"
_OPEN = "('pending', 'dispatched', 'executing', 'in_doubt')"


class SqliteReader:
    """One reading connection; `tag` names the journal in unit ids."""

    def __init__(self, path: Path, tag: str) -> None:
        self._tag = tag
        self._path = path
        self._connection = connect(path, read_only=True)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def root_epoch(self) -> int:
        """See `Journal.root_epoch`."""
        row = self._row("SELECT value FROM meta WHERE name = 'root_epoch'")
        return 0 if row is None else int(row[0])

    def infrastructure(self) -> tuple[int, bytes]:
        """See `Journal.infrastructure`."""
        row = self._row("SELECT revision, body FROM revisions ORDER BY revision DESC LIMIT 1")
        return (0, b"") if row is None else (row[0], row[1].encode())

    def unit(self, seq: int) -> UnitRecord | None:
        """See `Journal.unit`."""
        row = self._row(f"{_UNIT} WHERE seq = ?", (seq,))
        return None if row is None else self._unit(row)

    def units(
        self, *, state: UnitState | None, resource: str | None, after: int, limit: int
    ) -> list[UnitRecord]:
        """See `Journal.units`."""
        wheres, values = ["seq > ?"], [after]
        arguments: list[object] = list(values)
        if state is not None:
            wheres.append("state = ?")
            arguments.append(state.value)
            if state is not UnitState.SUCCEEDED:
                wheres.append("state <> 'succeeded'")  # lets the planner use units_by_state
        if resource is not None:
            wheres.append("(resource = ? OR resource BETWEEN ? || '/' AND ? || '0')")
            arguments += [resource, resource, resource]
        query = f"{_UNIT} WHERE {' AND '.join(wheres)} ORDER BY seq LIMIT ?"
        return [self._unit(row) for row in self._connection.execute(query, (*arguments, limit))]

    def open_units(self) -> Iterator[OpenUnit]:
        """See `Journal.open_units`."""
        query = f"{_UNIT} WHERE state IN {_OPEN} AND state <> 'succeeded' ORDER BY seq"
        for row in self._connection.execute(query):
            spec = UnitSpec(
                resource=row[1],
                commands=_commands(row[3]),
                on_failure=_DEFAULT if row[10] is None else _on_failure(row[10]),
                idempotency_key=row[11],
                command_deadline_s=row[12],
            )
            yield OpenUnit(
                row[0],
                spec,
                _STATES[row[2]],
                row[4],
                row[5],
                row[6],
                _epoch(row[7]),
                row[8],
                row[9],
                row[13],
                row[15],
                bool(row[16]),
                row[17],
            )

    def resources(self) -> Iterator[ResourceRow]:
        """See `Journal.resources`."""
        for path, on_demand, epoch, desired, former in self._connection.execute(
            "SELECT path, on_demand, epoch, desired, former_epoch FROM resources ORDER BY path"
        ):
            held = None if desired is None else _detail(desired)
            yield ResourceRow(path, bool(on_demand), _epoch(epoch), held, _epoch(former))

    def reporters(self) -> dict[str, tuple[tuple[int, ...], int]]:
        """See `Journal.reporters`."""
        rows = self._connection.execute("SELECT node, epoch, last_report FROM reporters")
        return {node: (_epoch(epoch), last) for node, epoch, last in rows}

    def counts(self) -> dict[UnitState, int]:
        """See `Journal.counts`."""
        rows = self._connection.execute("SELECT state, count(*) FROM units GROUP BY state")
        return {_STATES[state]: count for state, count in rows}

    def events(
        self,
        *,
        after: int,
        limit: int,
        subject: str | None = None,
        resource: str | None = None,
        kind: str | None = None,
    ) -> list[EventRecord]:
        """See `Journal.events`."""
        wheres, arguments = ["seq > ?"], [after]
        values: list[object] = list(arguments)
        if subject is not None:
            where, more = self._about(subject)
            wheres.append(where)
            values += more
        if resource is not None:
            wheres.append("resource <> '' AND resource = ?")
            values.append(resource)
        if kind is not None:
            wheres.append("substr(kind, 1, ?) = ?" if kind.endswith(".") else "kind = ?")
            values += [len(kind), kind] if kind.endswith(".") else [kind]
        query = f"{_EVENT} WHERE {' AND '.join(wheres)} ORDER BY seq LIMIT ?"
        return [_event(row) for row in self._connection.execute(query, (*values, limit))]

    def last_event(self) -> int:
        """See `Journal.last_event`."""
        row = self._row("SELECT max(seq) FROM events")
        return 0 if row is None or row[0] is None else int(row[0])

    def replay(self, batch: int) -> Replay:
        """See `Journal.replay`."""
        return _SqliteReplay(self._path, self._tag, batch)

    def _about(self, subject: str) -> tuple[str, list[object]]:
        """A unit's events are found through its resource, all others through either index."""
        tag, _, number = subject.rpartition("-")
        if tag == self._tag and number.isascii() and number.isdigit():
            row = self._row("SELECT resource FROM units WHERE seq = ?", (int(number),))
            if row is not None:
                return "resource <> '' AND resource = ? AND subject = ?", [row[0], subject]
        if subject.count("/") == 3:
            return "resource <> '' AND resource = ? AND subject = ?", [subject, subject]
        return "resource = '' AND subject = ?", [subject]

    def _row(self, query: str, arguments: tuple[object, ...] = ()) -> Any:
        return self._connection.execute(query, arguments).fetchone()

    def _unit(self, row: tuple[Any, ...]) -> UnitRecord:
        return UnitRecord(
            id=f"{self._tag}-{row[0]}",
            seq=row[0],
            resource=row[1],
            state=_STATES[row[2]],
            commands=_commands(row[3]),
            completed=row[4],
            attempt=row[5],
            crashes=row[6],
            epoch=_epoch(row[7]),
            reason=row[8],
            code=row[9],
            on_failure=_DEFAULT if row[10] is None else _on_failure(row[10]),
            idempotency_key=row[11],
            command_deadline_s=row[12],
            accepted_utc=row[13],
            changed_utc=row[14],
            next_attempt_utc=row[15],
            cancel_requested=bool(row[16]),
        )


class _SqliteReplay(Replay):
    """One read transaction: what is committed after its first read is not seen."""

    def __init__(self, path: Path, tag: str, batch: int) -> None:
        self._tag = tag
        self._batch = batch
        self._connection = connect(path, read_only=True)
        self._connection.execute("BEGIN")
        self._connection.execute("SELECT max(seq) FROM events").fetchone()

    def close(self) -> None:
        self._connection.close()

    def events(self) -> Iterator[list[EventRecord]]:
        for rows in self._batches(f"{_EVENT} ORDER BY seq"):
            yield [_event(row) for row in rows]

    def units(self) -> Iterator[UnitNow]:
        for rows in self._batches("SELECT seq, state FROM units ORDER BY seq"):
            for seq, state in rows:
                yield UnitNow(f"{self._tag}-{seq}", state)

    def _batches(self, query: str) -> Iterator[list[Any]]:
        cursor = self._connection.execute(query)
        while rows := cursor.fetchmany(self._batch):
            yield rows


def _event(row: sqlite3.Row | tuple[Any, ...]) -> EventRecord:
    return EventRecord(
        seq=row[0],
        at_utc=row[1],
        kind=row[2],
        subject=row[3],
        resource=row[4],
        epoch=_epoch(row[5]) if row[5] else (),
        detail=_detail(row[6]),
    )
