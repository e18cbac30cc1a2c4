"""Checks a step against what the driver declares of its verb, before anything leaves.

It reads the part of JSON Schema that verbs need: type, enum, minimum, maximum, required, properties and
additionalProperties. Fast enough for every command.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from drivers.contract import DriverInfo, InvalidError, Step, UnsupportedError

__all__ = ["check_step"]

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}


def check_step(info: DriverInfo, step: Step) -> None:
    """Refuse a step that the driver's declaration rules out.

    Raises:
        UnsupportedError: no such verb.
        InvalidError: a parameter is missing, unknown, or has a value it cannot have.
    """
    spec = info.verbs.get(step.verb)
    if spec is None:
        raise UnsupportedError(
            f"driver {info.name} has no verb {step.verb!r}{_hint(step.verb, info.verbs)}"
        )
    properties = spec.params.get("properties", {})
    required = spec.params.get("required", [])
    assert isinstance(properties, dict)
    assert isinstance(required, list)
    for name in required:
        if name not in step.params:
            raise InvalidError(f"{step.verb} needs {name}")
    for name, value in step.params.items():
        rule = properties.get(name)
        if rule is not None:
            _check_value(f"{step.verb} {name}", value, rule)
        elif spec.params.get("additionalProperties", True) is False:
            raise InvalidError(f"{step.verb} takes no {name!r}{_hint(name, properties)}")


def _check_value(name: str, value: object, rule: Mapping[str, object]) -> None:
    wanted = rule.get("type", [])
    kinds = [wanted] if isinstance(wanted, str) else wanted
    assert isinstance(kinds, list)
    if kinds and not any(_is(value, kind) for kind in kinds):
        raise InvalidError(f"{name}={value!r} is not of type {' or '.join(kinds)}")
    choices = rule.get("enum")
    # 1 == True in Python; in JSON they differ.
    if isinstance(choices, list) and not any(
        value == choice and isinstance(value, bool) == isinstance(choice, bool)
        for choice in choices
    ):
        raise InvalidError(f"{name}={value!r} is none of {', '.join(map(str, choices))}")
    _check_range(name, value, rule)


def _check_range(name: str, value: object, rule: Mapping[str, object]) -> None:
    low, high = rule.get("minimum"), rule.get("maximum")
    if isinstance(value, int | float):
        if isinstance(low, int | float) and value < low:
            raise InvalidError(f"{name}={value} is below {low}")
        if isinstance(high, int | float) and value > high:
            raise InvalidError(f"{name}={value} is above {high}")


def _is(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def _hint(name: str, known: Mapping[str, object]) -> str:
    close = get_close_matches(name, known, 1)
    if not known:
        return "; it takes none"
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"
