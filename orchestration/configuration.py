"""Configuration: what applying an infrastructure would change, and what becomes of the work that waits."""

from __future__ import annotations

import re
from collections.abc import Iterator

import config
from config import Infrastructure
from orchestration.records import PlanAnswer, PlanChange
from orchestration.view import ResourceView, View, pattern_matches

__all__ = ["faults", "plan", "work_that_would_go"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def plan(view: View, wanted: Infrastructure) -> PlanAnswer:
    """Compare `wanted` with what is declared now."""
    known = view.infrastructure if view.revision else None
    changes = tuple(_with_work(view, change) for change in config.plan(known, wanted))
    actions = [change.action for change in changes]
    replaced = actions.count("replace")
    return PlanAnswer(
        revision=view.revision,
        changes=changes,
        add=actions.count("create") + replaced,
        change=actions.count("update"),
        destroy=actions.count("destroy") + replaced,
    )


def work_that_would_go(view: View, wanted: Infrastructure) -> list[ResourceView]:
    """The resources with unfinished work that `wanted` no longer has."""
    busy = [each for each in view.resources.values() if each.pending or each.in_flight]
    if not busy:
        return []
    pods = dict(wanted.pods())
    declared = {path: {resource.name for resource in pod.resources} for path, pod in pods.items()}
    return [
        resource
        for resource in busy
        if resource.pod.path not in pods
        or not (
            resource.spec.name in declared[resource.pod.path]
            or (resource.on_demand and _has_template(pods[resource.pod.path], resource))
        )
    ]


def faults(infrastructure: Infrastructure) -> list[str]:
    """What a client that does not read TOML can still get wrong: names."""
    return [*_level("", [(region.name, region) for region in infrastructure.regions])]


def _level(above: str, parts: list[tuple[str, object]]) -> Iterator[str]:
    seen: set[str] = set()
    for name, part in parts:
        path = f"{above}{name}"
        if not _NAME.fullmatch(name):
            yield f"{path!r}: a name has letters, digits, `.`, `_` and `-`"
        if name in seen:
            yield f"{path!r} is there twice"
        seen.add(name)
        for attribute in ("zones", "pods", "resources"):
            children = getattr(part, attribute, ())
            yield from _level(f"{path}/", [(child.name, child) for child in children])


def _has_template(pod: config.Pod, resource: ResourceView) -> bool:
    name = resource.spec.name
    return any(pattern_matches(template.pattern, name) for template in pod.templates)


def _with_work(view: View, change: config.Change) -> PlanChange:
    queued = sum(each.pending + each.in_flight for each in _touched(view, change))
    return PlanChange(
        action=change.action.value,
        kind=change.kind,
        path=change.path,
        detail=change.detail,
        queued=queued,
        effect=_EFFECTS.get(change.action.value, "") if queued else "",
    )


_EFFECTS = {
    "destroy": "refused while work is unfinished, unless it is cancelled with --cancel-work",
    "replace": "waits, then runs on the new device",
    "update": "waits while the process takes its new settings, then runs",
}


def _touched(view: View, change: config.Change) -> Iterator[ResourceView]:
    if change.kind == "resource":
        resource = view.resources.get(change.path)
        if resource is not None:
            yield resource
    elif change.action is config.Action.DESTROY and change.kind in ("region", "zone", "pod"):
        for pod in view.pods.values():
            if f"{pod.path}/".startswith(f"{change.path}/"):
                yield from pod.resources.values()
