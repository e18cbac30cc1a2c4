"""Brings a journal's schema up to date: numbered `.sql` files, forward only, each kept with its checksum."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import time
from pathlib import Path

from orchestration.journal.contract import JournalVersionError

__all__ = ["FOLDER", "migrate"]

FOLDER = Path(__file__).parent / "migrations"

_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
  version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, at_utc REAL NOT NULL
) STRICT
"""


def migrate(connection: sqlite3.Connection, folder: Path = FOLDER) -> list[str]:
    """Apply what `folder` holds beyond the journal's version, each file in a transaction of its own.

    Returns:
        The names of the files applied.

    Raises:
        JournalVersionError: a file that was applied has changed or is gone.
    """
    connection.execute(_LEDGER)
    known = {
        version: (name, checksum)
        for version, name, checksum in connection.execute(
            "SELECT version, name, checksum FROM schema_migrations"
        )
    }
    files = _files(folder)
    for version, (name, checksum) in sorted(known.items()):
        if version not in files:
            raise JournalVersionError(f"the journal has migration {name}, which is not known here")
        if _checksum(files[version]) != checksum:
            raise JournalVersionError(f"migration {name} was changed after it was applied")
    return [
        _apply(connection, version, path)
        for version, path in sorted(files.items())
        if version not in known
    ]


def _files(folder: Path) -> dict[int, Path]:
    return {
        int(match[1]): path
        for path in folder.iterdir()
        if (match := re.fullmatch(r"(\d{4})_\w+\.sql", path.name))
    }


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _apply(connection: sqlite3.Connection, version: int, path: Path) -> str:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _statements(path.read_text(encoding="utf-8")):
            connection.execute(statement)
        connection.execute(
            "INSERT INTO schema_migrations VALUES (?, ?, ?, ?)",
            (version, path.name, _checksum(path), time.time()),
        )
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return path.name


def _statements(text: str) -> list[str]:
    statements, begun = [], ""
    for line in text.splitlines(keepends=True):
        begun += line
        if sqlite3.complete_statement(begun):
            statements.append(begun)
            begun = ""
    return statements
