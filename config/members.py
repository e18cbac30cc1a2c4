"""The resources and templates of one pod, made from its tables and the pod's defaults."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from msgspec import UNSET, UnsetType

from config.findings import Findings, Where
from config.model import Resource, Template
from config.names import NamePattern
from config.problems import Code
from config.quantities import Amount
from config.settings import check_config, check_driver
from config.tables import ResourceTable

__all__ = ["MOST_TEMPLATES", "Member", "PodMembers"]

MOST_TEMPLATES = 200  # of one pod; every pair is compared


class Member(NamedTuple):
    """A resource table as it stands in a file."""

    pattern: NamePattern
    table: ResourceTable
    where: Where


class PodMembers:
    """Collects `resources` and `templates`, in the order of the files."""

    def __init__(
        self, path: str, drivers: Collection[str], findings: Findings, *, damaged: bool
    ) -> None:
        self.resources: list[Resource] = []
        self.templates: list[Template] = []
        self._path = path
        self._drivers = drivers
        self._findings = findings
        self._damaged = damaged
        self._declared: dict[str, Where] = {}
        self._template_wheres: list[Where] = []

    def add_all(self, members: Iterable[Member], defaults: Mapping[str, object]) -> None:
        """Make what the tables stand for; `defaults` are driver, connect and config, or UNSET."""
        for member in members:
            names = self._new_names(member)
            values = self._values(member, defaults)
            if member.pattern.template:
                self._add_templates(names, values, member.where)
            else:
                self.resources.extend([Resource(name=name, **values) for name in names])  # type: ignore[arg-type]
        self._check_overlaps()

    def _new_names(self, member: Member) -> list[str]:
        """The names of a table, without those that were there before."""
        where, declared = member.where, self._declared
        names = list(member.pattern.names())
        again = [name for name in names if name in declared] if declared else []
        if again:
            others = f" and {len(again) - 1:,} more" if len(again) > 1 else ""
            be = "are" if others else "is"
            message = f"`{again[0]}`{others} {be} declared twice in pod {self._path}"
            first = declared[again[0]]
            self._findings.add(Code.DUPLICATE, message, where, "every name once in a pod", first)
            names = [name for name in names if name not in declared]
        declared.update(dict.fromkeys(names, where))
        return names

    def _values(self, member: Member, defaults: Mapping[str, object]) -> dict[str, object]:
        """The fields that all resources of a table share."""
        table, where = member.table, member.where
        check_driver(table.driver, where, self._drivers, self._findings)
        check_config(table.config, where, self._findings)
        driver = _or(table.driver, defaults["driver"])
        if driver is UNSET and not self._damaged:
            hint = f'add driver = "…" here or to pod {self._path}'
            message = f"`{where.path[-1]}` has no driver"
            self._findings.add(Code.MISSING, message, where, hint)
        connect = _or(table.connect, defaults["connect"])
        return {
            "kind": table.kind,
            "driver": "" if driver is UNSET else driver,
            "connect": "" if connect is UNSET else connect,
            "config": {**_table(defaults["config"]), **_table(table.config)},
            "capacity": _amounts(table.capacity),
            "claims": _amounts(table.claims),
        }

    def _add_templates(self, names: list[str], values: dict[str, object], where: Where) -> None:
        if len(self.templates) + len(names) > MOST_TEMPLATES:
            message = f"pod {self._path} has more than {MOST_TEMPLATES} templates"
            self._findings.add(Code.TOO_MANY, message, where, "one template makes many resources")
            return
        self.templates.extend(Template(pattern=name, **values) for name in names)  # type: ignore[arg-type]
        self._template_wheres.extend(where for _ in names)

    def _check_overlaps(self) -> None:
        known = zip(self.templates, self._template_wheres, strict=True)
        for (one, first), (other, where) in itertools.combinations(known, 2):
            if _overlap(one.pattern, other.pattern):
                message = f"`{one.pattern}` and `{other.pattern}` can make the same name"
                hint = "let the parts before or after the `*` differ"
                self._findings.add(Code.TEMPLATES_OVERLAP, message, where, hint, first)


def _overlap(one: str, other: str) -> bool:
    """Whether some name fits both templates."""
    (head, _, tail), (other_head, _, other_tail) = one.partition("*"), other.partition("*")
    heads = head.startswith(other_head) or other_head.startswith(head)
    return heads and (tail.endswith(other_tail) or other_tail.endswith(tail))


def _or(value: object, default: object) -> object:
    return default if value is UNSET else value


def _table(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _amounts(amounts: dict[str, Amount] | UnsetType) -> dict[str, float]:
    return {} if amounts is UNSET else {name: float(amount) for name, amount in amounts.items()}
