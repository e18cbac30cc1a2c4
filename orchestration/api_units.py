"""How a body of units is read: a JSON array or one JSON object a line, both decoded in one go.

Only when that fails is the body read again unit by unit, so that every bad unit is named by its index.
What needs the journal or the view (does the resource exist?) is the orchestrator's to check.
"""

from __future__ import annotations

import msgspec

from orchestration import problems
from orchestration.records import OnFailure, UnitSpec

__all__ = ["MAX_BODY_BYTES", "MAX_UNITS", "NDJSON", "decode_units"]

NDJSON = "application/x-ndjson"
MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_UNITS = 20_000  # one request is one transaction; keeps the pause of everybody else short
MAX_LISTED = 100  # errors in one answer

_unit = msgspec.json.Decoder(UnitSpec)
_units = msgspec.json.Decoder(list[UnitSpec])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_plain = OnFailure()


def decode_units(body: bytes, media_type: str) -> list[UnitSpec]:
    """Decode and check the units of a submit, in order.

    Raises:
        ProblemError: the body is no JSON (400), too many units (413), or some units are wrong (422,
            with one entry in `errors` for each).
    """
    lines = media_type == NDJSON
    try:
        units = _unit.decode_lines(body) if lines else _units.decode(body)
    except msgspec.DecodeError as error:
        raise _explain(body, lines=lines, error=error) from error
    if len(units) > MAX_UNITS:
        raise problems.TOO_MANY_UNITS.error(
            f"{len(units)} units, at most {MAX_UNITS} in one request"
        )
    errors = [item for index, unit in enumerate(units) for item in _faults(index, unit)]
    if errors:
        raise _refused(errors, len(units))
    return units


def _faults(index: int, unit: UnitSpec) -> list[dict[str, object]]:
    """Find what the types alone do not exclude; the common unit costs four comparisons."""
    faults = []
    if not unit.commands:
        faults.append(
            problems.NO_COMMANDS.item(index, f"unit for {unit.resource!r} has no commands")
        )
    key = unit.idempotency_key
    if key is not None and not (0 < len(key) <= 255 and key.isprintable()):
        faults.append(
            problems.BAD_KEY.item(index, f"idempotency key {key[:40]!r} ({len(key)} long)")
        )
    if unit.on_failure != _plain:
        faults += [
            problems.BAD_ON_FAILURE.item(index, text)
            for text in _on_failure_faults(unit.on_failure)
        ]
    if unit.command_deadline_s is not None and unit.command_deadline_s <= 0:
        faults.append(
            problems.BAD_UNIT.item(
                index, f"command_deadline_s is {unit.command_deadline_s}, not above 0"
            )
        )
    return faults


def _on_failure_faults(rule: OnFailure) -> list[str]:
    faults = []
    if rule.strategy not in {"fail", "wait"}:
        faults.append(f"strategy is {rule.strategy!r}, not `fail` or `wait`")
    if rule.attempts < 0 or rule.backoff_s < 0 or rule.backoff_max_s < 0:
        faults.append("attempts, backoff_s and backoff_max_s are 0 or more")
    if rule.deadline_s is not None and rule.deadline_s <= 0:
        faults.append(f"deadline_s is {rule.deadline_s}, not above 0")
    return faults


def _explain(body: bytes, *, lines: bool, error: msgspec.DecodeError) -> problems.ProblemError:
    """Read the body again, one unit at a time, and name those that are wrong."""
    try:
        parts = (
            [line for line in body.splitlines() if line.strip()] if lines else _raws.decode(body)
        )
    except msgspec.DecodeError:
        hint = "send a JSON array of units, or lines as application/x-ndjson"
        return problems.MALFORMED_BODY.error(str(error), hint=hint)
    errors = []
    for index, part in enumerate(parts):
        try:
            _unit.decode(part)
        except msgspec.DecodeError as fault:
            errors.append(problems.BAD_UNIT.item(index, str(fault)))
    return _refused(errors, len(parts))


def _refused(errors: list[dict[str, object]], of: int) -> problems.ProblemError:
    shown = "" if len(errors) <= MAX_LISTED else f" (the first {MAX_LISTED} are listed)"
    return problems.BATCH_REFUSED.error(
        f"{len(errors)} faults in {of} units{shown}", errors=errors[:MAX_LISTED]
    )
