"""Puts the tables of all files together: ranges expanded, defaults filled in, names and drivers checked.

First every table is entered into a tree of parts, because a pod may be described in several files; only
then are the resources made, since the pod's defaults may come last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from msgspec import UNSET

from config.findings import Findings, Source, Where
from config.locate import Path
from config.members import Member, PodMembers
from config.model import Backoff, Infrastructure, Pod, Region, Supervision, Zone
from config.names import BadNameError, NamePattern, parse_name
from config.problems import Code
from config.settings import check_config, check_driver
from config.tables import BackoffTable, Document, PodTable, RegionTable, ZoneTable

__all__ = ["MOST_PARTS", "MOST_RESOURCES", "Assembly"]

MOST_RESOURCES = 5_000_000
MOST_PARTS = 100_000  # regions, zones and pods; each pod is an OS process

_ZONE_FLAGS = Zone(name="default").supervision
_POD_FLAGS = Pod(name="default").supervision
_FLAGS = ("strategy", "intensity", "period", "backoff")
_POD_SETTINGS = (*_FLAGS, "mailbox", "sync_rate", "quarantine_after", "driver", "connect", "config")


@dataclass(slots=True)
class _Part:
    """A region, zone or pod (or the root of them) while its tables come in."""

    path: str
    key: str
    where: Where
    settings: dict[str, tuple[object, Where]] = field(default_factory=dict)
    parts: dict[str, _Part] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)

    def get(self, name: str) -> object:
        """The value of a setting, or UNSET."""
        return self.settings[name][0] if name in self.settings else UNSET


class Assembly:
    """What the files say so far.

    Args:
        drivers: names of the installed drivers.
        findings: where problems go.
    """

    def __init__(self, drivers: Collection[str], findings: Findings) -> None:
        self._drivers = drivers
        self._findings = findings
        self._root: _Part | None = None
        self._patterns: dict[tuple[str, bool], NamePattern] = {}
        self._name: tuple[str, Where] | None = None
        self._damaged = False
        self._part_count = 0
        self._resource_count = 0

    def add(self, source: Source, document: Document) -> None:
        """Enter the tables of one file."""
        if self._root is None:
            self._root = _Part("", "", Where(source, part="file"))
        self._damaged = self._damaged or source.damaged
        if document.infrastructure is not UNSET:
            self._set_name(document.infrastructure.name, source)
        for key, table in document.region.items():
            path: Path = ("region", key)
            for region in self._expanded(self._root, "region", Where(source, path)):
                self._add_zones(region, table, source, path)

    def finished(self) -> Infrastructure:
        """Make the infrastructure; useless when there are findings."""
        root = self._root
        if root is not None and self._name is None and not self._damaged:
            hint = 'add a table [infrastructure] with name = "…"'
            self._findings.add(Code.MISSING, "[infrastructure] is missing", root.where, hint)
        regions = root.parts.items() if root is not None else ()
        return Infrastructure(
            name=self._name[0] if self._name else "",
            regions=tuple(self._region(name, part) for name, part in regions),
        )

    def _set_name(self, name: str, source: Source) -> None:
        where = Where(source, ("infrastructure", "name"))
        if self._name is not None:
            hint = "[infrastructure] belongs into one file"
            message = "the infrastructure is named twice"
            self._findings.add(Code.SET_TWICE, message, where, hint, self._name[1])
        else:
            self._name = name, where

    def _add_zones(self, region: _Part, table: RegionTable, source: Source, path: Path) -> None:
        for key, zone_table in table.zone.items():
            zone_path = (*path, "zone", key)
            for zone in self._expanded(region, "zone", Where(source, zone_path)):
                self._set(zone, zone_table, _FLAGS, Where(source, zone_path))
                self._add_pods(zone, zone_table, source, zone_path)

    def _add_pods(self, zone: _Part, table: ZoneTable, source: Source, path: Path) -> None:
        for key, pod_table in table.pod.items():
            pod_path = (*path, "pod", key)
            for pod in self._expanded(zone, "pod", Where(source, pod_path)):
                self._set(pod, pod_table, _POD_SETTINGS, Where(source, pod_path))
                self._add_members(pod, pod_table, source, pod_path)

    def _add_members(self, pod: _Part, table: PodTable, source: Source, path: Path) -> None:
        for key, resource in table.resource.items():
            where = Where(source, (*path, "resource", key))
            pattern = self._pattern(where, template=True)
            if pattern is None:
                continue
            self._resource_count += pattern.count
            if self._resource_count > MOST_RESOURCES:
                message = f"`{key}` makes it {self._resource_count:,} resources"
                hint = f"at most {MOST_RESOURCES:,} in one infrastructure; is a range too long?"
                self._findings.add(Code.TOO_MANY, message, where, hint)
                self._resource_count -= pattern.count
            else:
                pod.members.append(Member(pattern, resource, where))

    def _expanded(self, parent: _Part, kind: str, where: Where) -> Iterator[_Part]:
        """The parts that a key stands for, made where they are new."""
        pattern = self._pattern(where, template=False)
        if pattern is None:
            return
        key = str(where.path[-1])
        if self._part_count + pattern.count > MOST_PARTS:
            hint = f"at most {MOST_PARTS:,} regions, zones and pods; is a range too long?"
            self._findings.add(Code.TOO_MANY, f"`{key}` makes too many {kind}s", where, hint)
            return
        for name in pattern.names():
            part = parent.parts.get(name)
            if part is None:
                self._part_count += 1
                part = _Part(f"{parent.path}/{name}".lstrip("/"), key, where)
                parent.parts[name] = part
            elif part.key != key:
                message = f"{kind} {part.path} is declared twice, as `{part.key}` and `{key}`"
                hint = "keep it under one key"
                self._findings.add(Code.DUPLICATE, message, where, hint, part.where)
                continue
            yield part

    def _pattern(self, where: Where, *, template: bool) -> NamePattern | None:
        key = str(where.path[-1])
        known = self._patterns.get((key, template))
        if known is not None:
            return known
        try:
            pattern = parse_name(key, template=template)
        except BadNameError as error:
            self._findings.add(error.code, str(error), where, error.hint)
            return None
        self._patterns[key, template] = pattern
        return pattern

    def _set(
        self, part: _Part, table: ZoneTable | PodTable, names: tuple[str, ...], where: Where
    ) -> None:
        for name in names:
            value = getattr(table, name)
            if value is UNSET:
                continue
            place = Where(where.source, (*where.path, name))
            if name in part.settings:
                message = f"`{name}` of {part.path} is set twice"
                first = part.settings[name][1]
                self._findings.add(Code.SET_TWICE, message, place, "keep one of them", first)
                continue
            part.settings[name] = value, place
        if isinstance(table, PodTable):
            check_driver(table.driver, where, self._drivers, self._findings)
            check_config(table.config, where, self._findings)

    def _region(self, name: str, part: _Part) -> Region:
        return Region(name=name, zones=tuple(self._zone(n, p) for n, p in part.parts.items()))

    def _zone(self, name: str, part: _Part) -> Zone:
        return Zone(
            name=name,
            supervision=self._supervision(part, _ZONE_FLAGS),
            pods=tuple(self._pod(n, p) for n, p in part.parts.items()),
        )

    def _pod(self, name: str, part: _Part) -> Pod:
        limits = ("mailbox", "sync_rate", "quarantine_after")
        given = {limit: part.settings[limit][0] for limit in limits if limit in part.settings}
        members = PodMembers(part.path, self._drivers, self._findings, damaged=self._damaged)
        defaults = {n: part.get(n) for n in ("driver", "connect", "config")}
        members.add_all(part.members, defaults)
        return Pod(
            name=name,
            supervision=self._supervision(part, _POD_FLAGS),
            resources=tuple(members.resources),
            templates=tuple(members.templates),
            **given,  # type: ignore[arg-type]  # each was converted to its field's type
        )

    def _supervision(self, part: _Part, default: Supervision) -> Supervision:
        names = {"strategy": "strategy", "intensity": "intensity", "period": "period_s"}
        given = {
            field_name: float(value)
            if isinstance(value := part.settings[name][0], float)
            else value
            for name, field_name in names.items()
            if name in part.settings
        }
        flags = {
            "strategy": default.strategy,
            "intensity": default.intensity,
            "period_s": default.period_s,
            "backoff": self._backoff(part, default.backoff),
        }
        return Supervision(**{**flags, **given})  # type: ignore[arg-type]  # as above

    def _backoff(self, part: _Part, default: Backoff) -> Backoff:
        table = part.get("backoff")
        if not isinstance(table, BackoffTable):
            return default
        initial_s = default.initial_s if table.initial is UNSET else float(table.initial)
        max_s = default.max_s if table.max is UNSET else float(table.max)
        if initial_s > max_s:
            message = f"the first wait ({initial_s:g}s) is longer than the longest ({max_s:g}s)"
            place = part.settings["backoff"][1]
            where = Where(place.source, place.path, "value")
            self._findings.add(Code.OUT_OF_RANGE, message, where, "raise `max` or lower `initial`")
        return Backoff(initial_s=initial_s, max_s=max_s)
