"""What people type, made into values: parameters, durations, failure strategies."""

from __future__ import annotations

import re

import msgspec

from orchestration import problems
from orchestration.records import CommandSpec, OnFailure

__all__ = ["parse_command", "parse_duration", "parse_on_failure", "parse_parameter"]

UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
INTEGER = re.compile(r"-?(0|[1-9]\d*)\Z")
FLOAT = re.compile(r"-?\d+\.\d+([eE][+-]?\d+)?\Z|-?\d+[eE][+-]?\d+\Z")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")


def parse_duration(text: str) -> float:
    """Read `300`, `1.5s`, `200ms`, `5m`, `1h30m` as seconds.

    Raises:
        ProblemError: it is none of these.
    """
    compact = text.replace(" ", "")
    if re.fullmatch(r"\d+(\.\d+)?", compact):
        return float(compact)
    parts = DURATION_PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise problems.BAD_ARGUMENT.error(
            f"{text!r} is not a time", hint="write 30, 200ms, 30s, 5m or 1h30m"
        )
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)


def parse_parameter(text: str) -> tuple[str, object]:
    """Read `name=value` (a number, true, false, else text) or `name:=JSON`.

    Raises:
        ProblemError: there is no `=`, the name is no name, or the JSON is wrong.
    """
    name, equals, value = text.partition("=")
    raw = name.endswith(":")
    name = name.removesuffix(":")
    if not equals or not NAME.match(name):
        raise problems.BAD_ARGUMENT.error(
            f"parameter {text!r}",
            hint="write name=value, or name:=JSON: memory=512MiB tags:='[1, 2]'",
        )
    if not raw:
        return name, _typed(value)
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError as error:
        raise problems.BAD_ARGUMENT.error(
            f"parameter {name}: {value!r} is no JSON: {error}"
        ) from error


def parse_command(verb: str, parameters: tuple[str, ...]) -> CommandSpec:
    """Make one command of a verb and its `name=value` parameters.

    Raises:
        ProblemError: a parameter is wrong, or given twice.
    """
    params: dict[str, object] = {}
    for text in parameters:
        name, value = parse_parameter(text)
        if name in params:
            raise problems.BAD_ARGUMENT.error(f"parameter {name!r} is given twice")
        params[name] = value
    return CommandSpec(verb=verb, params=params)


def parse_on_failure(text: str | None, deadline: str | None) -> OnFailure:
    """Read `fail` or `wait[,attempts=N][,backoff=T][,backoff_max=T][,deadline=T]`.

    Raises:
        ProblemError: the strategy or a setting is unknown or wrong.
    """
    strategy, *settings = (text or "fail").split(",")
    if strategy not in {"fail", "wait"}:
        raise problems.BAD_ARGUMENT.error(
            f"--on-failure {strategy!r}", hint="fail, or wait[,attempts=N,backoff=T]"
        )
    given: dict[str, object] = {"strategy": strategy}
    for setting in settings:
        name, _, value = setting.partition("=")
        given |= _setting(name.strip().replace("-", "_"), value)
    if deadline is not None:
        given["deadline_s"] = parse_duration(deadline)
    return msgspec.convert(given, OnFailure)


def _setting(name: str, value: str) -> dict[str, object]:
    if name == "attempts" and value.isdigit():
        return {"attempts": int(value)}
    if name in {"backoff", "backoff_max", "deadline"}:
        return {f"{name}_s": parse_duration(value)}
    raise problems.BAD_ARGUMENT.error(
        f"--on-failure: {name}={value}",
        hint="settings: attempts=N, backoff=T, backoff_max=T, deadline=T",
    )


def _typed(value: str) -> object:
    if value in {"true", "false"}:
        return value == "true"
    if INTEGER.match(value):
        return int(value)
    return float(value) if FLOAT.match(value) else value
