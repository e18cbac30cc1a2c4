"""Work from a file or a pipe: TOML with [[work]] tables, or one JSON object a line, read as a stream.

Lines are what is sent over the API. A table may be shorter: `verb` and `params` for a single command,
times as text, `on_failure` as on the command line.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO

import msgspec
import tomli
from msgspec import Struct, field

from orchestration import problems
from orchestration.client_input import parse_duration, parse_on_failure
from orchestration.problems import ProblemError
from orchestration.records import CommandSpec, OnFailure, UnitSpec

__all__ = ["read_units"]

_line = msgspec.json.Decoder(UnitSpec)


class WorkTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One [[work]] table as written."""

    resource: str
    verb: str | None = None
    params: dict[str, object] = field(default_factory=dict)
    commands: list[CommandSpec] = field(default_factory=list)
    on_failure: OnFailure | str | None = None
    deadline: str | float | None = None
    command_deadline: str | float | None = None
    idempotency_key: str | None = None


def read_units(name: str, stream: IO[bytes]) -> Iterator[UnitSpec]:
    """Give the units in `stream`; `name` tells the format, and if it does not, the first character does.

    Raises:
        ProblemError: with the line or the number of the table, when its turn comes.
    """
    suffix = Path(name).suffix
    if suffix == ".toml":
        return _from_toml(name, stream.read())
    if suffix in {".jsonl", ".ndjson", ".json"}:
        return _from_lines(name, enumerate(stream, 1))
    lines = enumerate(stream, 1)
    seen = []
    for number, line in lines:
        seen.append((number, line))
        if line.strip():
            break
    if seen and seen[-1][1].lstrip().startswith(b"{"):
        return _from_lines(name, chain(seen, lines))
    return _from_toml(name, b"".join(line for _, line in chain(seen, lines)))


def _from_lines(name: str, lines: Iterator[tuple[int, bytes]]) -> Iterator[UnitSpec]:
    for number, line in lines:
        if not line.strip():
            continue
        try:
            yield _line.decode(line)
        except msgspec.DecodeError as error:
            raise problems.BAD_WORK_FILE.error(f"{name}:{number}: {error}") from error


def _from_toml(name: str, raw: bytes) -> Iterator[UnitSpec]:
    try:
        document = tomli.loads(raw.decode())
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise problems.BAD_WORK_FILE.error(f"{name}: {error}") from error
    tables = document.pop("work", None)
    if document or not isinstance(tables, list):
        found = ", ".join(document) or "nothing"
        raise problems.BAD_WORK_FILE.error(f"{name}: wanted [[work]] tables alone, found {found}")
    for number, table in enumerate(tables, 1):
        yield _unit(f"{name}: [[work]] number {number}", table)


def _unit(where: str, table: object) -> UnitSpec:
    try:
        given = msgspec.convert(table, WorkTable)
        commands = given.commands
        if given.verb is not None:
            commands = [CommandSpec(verb=given.verb, params=given.params), *commands]
        return UnitSpec(
            resource=given.resource,
            commands=tuple(commands),
            on_failure=_on_failure(given),
            idempotency_key=given.idempotency_key,
            command_deadline_s=_seconds(given.command_deadline),
        )
    except (msgspec.ValidationError, ProblemError) as error:
        text = error.problem.detail if isinstance(error, ProblemError) else str(error)
        raise problems.BAD_WORK_FILE.error(f"{where}: {text}") from error


def _on_failure(given: WorkTable) -> OnFailure:
    rule = given.on_failure
    if not isinstance(rule, OnFailure):
        rule = parse_on_failure(rule, None)
    deadline_s = _seconds(given.deadline)
    return rule if deadline_s is None else msgspec.structs.replace(rule, deadline_s=deadline_s)


def _seconds(given: str | float | None) -> float | None:
    return parse_duration(given) if isinstance(given, str) else given
