"""What `get` shows of each kind: where its records come from, their columns and their names."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from msgspec import Struct

from orchestration import problems
from orchestration.client import Client
from orchestration.records import (
    EventRecord,
    NodeRecord,
    PodRecord,
    RegionRecord,
    UnitRecord,
    ZoneRecord,
)

__all__ = ["KIND_NAMES", "View", "age", "duration", "epoch", "view_of", "when"]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One kind of object; `wide` columns are shown with -o wide only."""

    kind: str  # of one object, in JSON: Pod, Resource, …
    name: str  # what one is called in `-o name`
    name_field: str
    fetch: Callable[[Client, str], Iterable[Struct]]  # by prefix of the name
    columns: dict[str, Callable[..., object]]
    wide: dict[str, Callable[..., object]]

    def name_of(self, record: Struct) -> str:
        """Give the name by which `record` is asked for."""
        return str(getattr(record, self.name_field))


def view_of(word: str) -> View:
    """Find a kind by its singular or plural name.

    Raises:
        ProblemError: there is no such kind.
    """
    view = (
        VIEWS.get(word)
        or VIEWS.get(f"{word}s")
        or VIEWS.get({"unit": "work", "units": "work"}.get(word, ""))
    )
    if view is None:
        raise problems.BAD_ARGUMENT.error(
            f"there is no kind {word!r}", hint=f"kinds: {', '.join(VIEWS)}"
        )
    return view


def age(seconds: float | None) -> str:
    """Write how long ago, coarsely; `-` if never."""
    return "-" if seconds is None else duration(seconds)


def duration(seconds: float) -> str:
    """Write a time in at most two units."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    for size, unit, smaller_size, smaller in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if seconds >= size:
            rest = int(seconds % size // smaller_size)
            return f"{int(seconds // size)}{unit}" + (f"{rest}{smaller}" if rest else "")
    return f"{int(seconds)}s"


def epoch(record: Struct) -> str:
    """Write an epoch as 1.2.3; `-` before the first."""
    return ".".join(map(str, getattr(record, "epoch", ()))) or "-"


def when(utc: float) -> str:
    """Write a wall time."""
    return datetime.fromtimestamp(utc, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _since(utc: float) -> str:
    return duration(max(0.0, time.time() - utc))


def _yes_no(value: bool | None) -> str:  # noqa: FBT001 (three-valued)
    return "-" if value is None else "yes" if value else "no"


def _commands(unit: UnitRecord) -> str:
    return ",".join(command.verb for command in unit.commands)


def _detail(event: EventRecord) -> str:
    return " ".join(f"{name}={value}" for name, value in event.detail.items())


def _ready(record: RegionRecord | ZoneRecord | PodRecord) -> str:
    return f"{record.ready}/{record.resources}"


def _last_fault(record: UnitRecord) -> str:
    return " ".join(part for part in (record.code, record.reason) if part)


def _pid(record: NodeRecord | PodRecord) -> object:
    return "-" if record.pid is None else record.pid


VIEWS: dict[str, View] = {
    "regions": View(
        kind="Region",
        name="region",
        name_field="path",
        fetch=lambda client, prefix: client.regions(prefix),
        columns={
            "REGION": lambda r: r.path,
            "ZONES": lambda r: r.zones,
            "PODS": lambda r: r.pods,
            "READY": _ready,
        },
        wide={},
    ),
    "zones": View(
        kind="Zone",
        name="zone",
        name_field="path",
        fetch=lambda client, prefix: client.zones(prefix),
        columns={
            "ZONE": lambda r: r.path,
            "STATE": lambda r: r.state,
            "PODS UP": lambda r: f"{r.pods_up}/{r.pods}",
            "READY": _ready,
        },
        wide={"STRATEGY": lambda r: r.strategy},
    ),
    "pods": View(
        kind="Pod",
        name="pod",
        name_field="path",
        fetch=lambda client, prefix: client.pods(prefix),
        columns={
            "POD": lambda r: r.path,
            "STATE": lambda r: r.state,
            "READY": _ready,
            "PENDING": lambda r: r.pending,
            "IN FLIGHT": lambda r: r.in_flight,
            "CRASHES": lambda r: r.crashes,
            "RESTARTS": lambda r: r.restarts,
            "HEARD": lambda r: age(r.age_s),
        },
        wide={"PID": _pid, "EPOCH": epoch, "STRATEGY": lambda r: r.strategy},
    ),
    "resources": View(
        kind="Resource",
        name="resource",
        name_field="path",
        fetch=lambda client, prefix: client.resources(prefix),
        columns={
            "RESOURCE": lambda r: r.path,
            "KIND": lambda r: r.kind,
            "STATE": lambda r: r.state,
            "IN SYNC": lambda r: _yes_no(r.in_sync),
            "MAILBOX": lambda r: r.mailbox,
            "PENDING": lambda r: r.pending,
            "CRASHES": lambda r: r.crashes,
            "OBSERVED": lambda r: age(r.observed_age_s),
        },
        wide={"DRIVER": lambda r: r.driver, "EPOCH": epoch, "DETAIL": lambda r: r.detail},
    ),
    "work": View(
        kind="Work",
        name="work",
        name_field="id",
        fetch=lambda client, _prefix: client.units(),
        columns={
            "ID": lambda r: r.id,
            "RESOURCE": lambda r: r.resource,
            "COMMANDS": _commands,
            "STATE": lambda r: r.state.value,
            "DONE": lambda r: f"{r.completed}/{len(r.commands)}",
            "ATTEMPT": lambda r: r.attempt,
            "AGE": lambda r: _since(r.accepted_utc),
            "REASON": lambda r: r.reason,
        },
        wide={"EPOCH": epoch, "CRASHES": lambda r: r.crashes, "LAST FAULT": _last_fault},
    ),
    "nodes": View(
        kind="Node",
        name="node",
        name_field="name",
        fetch=lambda client, prefix: client.nodes(prefix),
        columns={
            "NODE": lambda r: r.name,
            "KIND": lambda r: r.kind,
            "PID": _pid,
            "STATE": lambda r: r.state,
            "EPOCH": epoch,
            "RESTARTS": lambda r: r.restarts,
            "HEARD": lambda r: age(r.age_s),
        },
        wide={},
    ),
    "events": View(
        kind="Event",
        name="event",
        name_field="seq",
        fetch=lambda client, _prefix: client.events(),
        columns={
            "SEQ": lambda r: r.seq,
            "TIME": lambda r: when(r.at_utc),
            "KIND": lambda r: r.kind,
            "SUBJECT": lambda r: r.subject,
            "RESOURCE": lambda r: r.resource,
            "DETAIL": _detail,
        },
        wide={"EPOCH": epoch},
    ),
}

KIND_NAMES = tuple(VIEWS)
