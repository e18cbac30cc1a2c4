"""`get` and `describe`: find records by name, prefix or label, show them once or as they change."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

import msgspec
from msgspec import Struct

from orchestration import problems
from orchestration.client import Client
from orchestration.client_output import Console
from orchestration.client_views import View, view_of, when
from orchestration.client_yaml import to_yaml
from orchestration.records import EventRecord, UnitState

__all__ = ["Filter", "describe", "follow_events", "get", "past_events"]

GLOB = frozenset("*?[")
WATCH_S = 1.0
RECENT = 10
AGING = frozenset({"age_s", "observed_age_s"})  # these change without anything having happened


class Filter(Struct, frozen=True, kw_only=True):
    """Which records: all given conditions hold. `labels` are field=value on the record."""

    name: str | None = None  # exact, a prefix, or a pattern with * ? [
    labels: tuple[str, ...] = ()
    limit: int | None = None


def get(
    client: Client, console: Console, kind: str, wanted: Filter, *, watch: bool = False
) -> None:
    """Show the records of a kind.

    Raises:
        ProblemError: no record has the name asked for.
    """
    view = view_of(kind)
    if watch:
        _watch(client, console, view, wanted)
    else:
        console.records(view, _find(client, view, wanted))


def follow_events(
    client: Client, console: Console, wanted: Filter, after: int | None, kind: str | None
) -> None:
    """Show the events above `after` (by default the last few) and then each as it happens."""
    view = view_of("events")
    labels = _labels(wanted.labels)
    if after is None:
        after = max(0, client.last_event() - (wanted.limit or RECENT))
    for event in client.follow(after, resource=wanted.name, kind=kind):
        if _has(event, labels):
            console.stream(view, event)


def past_events(
    client: Client, wanted: Filter, after: int | None, kind: str | None
) -> Iterator[EventRecord]:
    """Give the events that have happened; with a limit, the last of them."""
    labels = _labels(wanted.labels)
    if wanted.limit is not None and not labels and not kind and not wanted.name:
        after = max(after or 0, client.last_event() - wanted.limit)  # the rest need not be read
    events = client.events(after or 0, resource=wanted.name, kind=kind)
    found = (event for event in events if _has(event, labels))
    return found if wanted.limit is None else iter(deque(found, maxlen=wanted.limit))


def describe(client: Client, console: Console, kind: str | None, name: str) -> None:
    """Show everything known about one object, with its last events.

    Raises:
        ProblemError: there is no such object.
    """
    view = view_of(kind or _guess_kind(client, name))
    record = _one(client, view, name)
    events = _recent_events(client, view, name)
    if console.is_machine:
        console.document(view.kind, item=record, events=events)
        return
    console.write(to_yaml(_tidy(msgspec.to_builtins(record))).rstrip("\n"))
    if events:
        console.write("events:")
        for event in events:
            detail = " ".join(f"{field}={value}" for field, value in event.detail.items())
            console.write(
                f"  {when(event.at_utc)}  {event.kind}  {event.subject}  {detail}".rstrip()
            )


def _find(client: Client, view: View, wanted: Filter) -> Iterator[Struct]:
    labels = _labels(wanted.labels)
    records = (
        record for record in _named(client, view, wanted.name, labels) if _has(record, labels)
    )
    for number, record in enumerate(records):
        if wanted.limit is not None and number >= wanted.limit:
            return
        yield record


def _named(
    client: Client, view: View, name: str | None, labels: dict[str, str]
) -> Iterable[Struct]:
    if view.kind == "Work" and (name is None or "/" in name):
        return _units(client, name, labels)
    if name is None:
        return view.fetch(client, "")
    if GLOB & set(name):
        start = name[: min(name.index(sign) for sign in GLOB if sign in name)]
        return (
            record
            for record in view.fetch(client, start)
            if fnmatchcase(view.name_of(record), name)
        )
    if name.endswith("/"):
        return view.fetch(client, name)
    return [_one(client, view, name)]


def _units(client: Client, resource: str | None, labels: dict[str, str]) -> Iterable[Struct]:
    """Let the server do what it can: units of a resource, or in a state."""
    word = labels.get("state")
    try:
        state = UnitState(word) if word else None
    except ValueError as error:
        states = ", ".join(state.value for state in UnitState)
        raise problems.BAD_ARGUMENT.error(f"no state {word!r}", hint=f"states: {states}") from error
    if resource is not None and (GLOB & set(resource) or resource.endswith("/")):
        pattern = resource + ("*" if resource.endswith("/") else "")
        return (unit for unit in client.units(state) if fnmatchcase(unit.resource, pattern))
    return client.units(state, resource)


def _one(client: Client, view: View, name: str) -> Struct:
    """Find one by its full name, else by a beginning that only one has."""
    if view.kind == "Resource":
        return client.resource(name)
    if view.kind == "Work":
        return client.unit(name)
    found = [record for record in view.fetch(client, name) if view.name_of(record).startswith(name)]
    exact = [record for record in found if view.name_of(record) == name]
    if exact:
        return exact[0]
    if len(found) == 1:
        return found[0]
    detail = f"{view.name} {name!r}"
    if found:
        detail += f" could be any of {', '.join(view.name_of(record) for record in found[:10])}"
    raise problems.NO_SUCH_OBJECT.error(detail, hint=f"list them: cloudctl get {view.name}s")


def _guess_kind(client: Client, name: str) -> str:
    depth = name.count("/")
    if depth:
        return ("zones", "pods", "resources")[min(depth, 3) - 1]
    is_region = any(region.path == name for region in client.regions(name))
    return "regions" if is_region else "work"


def _recent_events(client: Client, view: View, name: str) -> list[EventRecord]:
    if view.kind == "Resource":
        events = client.events(resource=name)
    else:
        events = client.events(subject=name)
    return list(deque(events, maxlen=RECENT))


def _labels(given: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for text in given:
        for label in text.split(","):
            name, equals, value = label.partition("=")
            if not equals or not name:
                raise problems.BAD_ARGUMENT.error(
                    f"-l {text!r}", hint="write field=value: -l state=ready"
                )
            labels[name.strip()] = value.strip()
    return labels


def _has(record: Struct, labels: dict[str, str]) -> bool:
    for name, wanted in labels.items():
        if name not in record.__struct_fields__:
            fields = ", ".join(record.__struct_fields__)
            raise problems.BAD_ARGUMENT.error(f"-l {name}: no such field", hint=f"fields: {fields}")
        value = msgspec.to_builtins(getattr(record, name))
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if not fnmatchcase(text, wanted):
            return False
    return True


def _watch(client: Client, console: Console, view: View, wanted: Filter) -> None:
    """Show all, then each record that has changed, until interrupted."""
    if view.kind == "Event":
        follow_events(client, console, wanted, None, None)
        return
    shown: dict[str, object] = {}
    while True:
        for record in _find(client, view, wanted):
            facts = {
                name: getattr(record, name)
                for name in record.__struct_fields__
                if name not in AGING
            }
            if shown.get(view.name_of(record)) != facts:
                shown[view.name_of(record)] = facts
                console.stream(view, record)
        time.sleep(WATCH_S)


def _tidy(value: object) -> object:
    """Leave out what is empty: people need not read it."""
    if isinstance(value, dict):
        return {name: _tidy(item) for name, item in value.items() if item not in (None, "", [], {})}
    return value
