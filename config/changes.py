"""What applying a new infrastructure would change: pure, from two values to a list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum

import msgspec
from msgspec import Struct

from config.model import Infrastructure, Pod, Region, Resource, Supervision, Template, Zone

__all__ = ["Action", "Change", "plan"]

_Part = Region | Zone | Pod | Resource | Template


class Action(Enum):
    """What happens to one part."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"  # the same name, another device: destroyed, then created
    DESTROY = "destroy"


class Change(Struct, frozen=True, kw_only=True):
    """One line of a plan; `kind` is infrastructure, region, zone, pod, resource or template."""

    action: Action
    kind: str
    path: str
    detail: tuple[str, ...] = ()  # "connect: a -> b"


_IDENTITY = ("driver", "connect", "kind")  # another value means another device
_NOT_SETTINGS = {"name", "pattern", "regions", "zones", "pods", "resources", "templates"}


def plan(old: Infrastructure | None, new: Infrastructure) -> tuple[Change, ...]:
    """Compare two infrastructures.

    Returns:
        The changes in the order of `new`, parents first; what only `old` has follows its siblings.
    """
    changes: list[Change] = []
    if old is not None and old.name != new.name:
        detail = (f"name: {old.name} -> {new.name}",)
        changes.append(
            Change(action=Action.UPDATE, kind="infrastructure", path=new.name, detail=detail)
        )
    changes.extend(_compared(() if old is None else old.regions, new.regions, ""))
    return tuple(changes)


def _compared(old: Sequence[_Part], new: Sequence[_Part], above: str) -> Iterator[Change]:
    """Compare the children of one part, all of one kind."""
    before = {_name(part): part for part in old}
    for part in new:
        known = before.pop(_name(part), None)
        if known is None:
            yield from _whole(Action.CREATE, part, above)
        elif known != part:
            yield from _changed(known, part, above)
    for part in before.values():
        yield from _whole(Action.DESTROY, part, above)


def _changed(old: _Part, new: _Part, above: str) -> Iterator[Change]:
    path = _path(new, above)
    detail = _differences(_settings(old), _settings(new))
    if detail:
        moved = any(getattr(old, n, None) != getattr(new, n, None) for n in _IDENTITY)
        action = Action.REPLACE if moved else Action.UPDATE
        yield Change(action=action, kind=_kind(new), path=path, detail=detail)
    for before, after in zip(_children(old), _children(new), strict=True):
        yield from _compared(before, after, path)


def _whole(action: Action, part: _Part, above: str) -> Iterator[Change]:
    """A part and all below it; when destroyed, the children first."""
    path = _path(part, above)
    own = Change(action=action, kind=_kind(part), path=path)
    if action is Action.CREATE:
        yield own
    for children in _children(part):
        for child in children:
            yield from _whole(action, child, path)
    if action is Action.DESTROY:
        yield own


def _children(part: _Part) -> tuple[Sequence[_Part], ...]:
    match part:
        case Region():
            return (part.zones,)
        case Zone():
            return (part.pods,)
        case Pod():
            return (part.resources, part.templates)
        case _:
            return ()


def _kind(part: _Part) -> str:
    return type(part).__name__.lower()


def _name(part: _Part) -> str:
    return part.pattern if isinstance(part, Template) else part.name


def _path(part: _Part, above: str) -> str:
    return f"{above}/{_name(part)}" if above else _name(part)


def _settings(part: _Part) -> dict[str, object]:
    """The part's own values by dotted name; what the operator calls `class` is called so."""
    flat: dict[str, object] = {}
    for name in part.__struct_fields__:
        value = getattr(part, name)
        if isinstance(value, Supervision):
            _flatten("", msgspec.to_builtins(value), flat)
        elif name not in _NOT_SETTINGS:
            _flatten("class" if name == "kind" else name, value, flat)
    return flat


def _flatten(name: str, value: object, flat: dict[str, object]) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _flatten(f"{name}.{key}" if name else str(key), inner, flat)
    else:
        flat[name] = value


def _differences(old: dict[str, object], new: dict[str, object]) -> tuple[str, ...]:
    names = dict.fromkeys((*old, *new))
    return tuple(
        f"{name}: {_shown(old, name)} -> {_shown(new, name)}"
        for name in names
        if name not in old or name not in new or old[name] != new[name]
    )


def _shown(values: dict[str, object], name: str) -> str:
    if name not in values:
        return "(none)"
    value = values[name]
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, str) and value else msgspec.json.encode(value).decode()
