"""Showing: the view as the API's records."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable

from orchestration.records import PodRecord, RegionRecord, ResourceRecord, ZoneRecord
from orchestration.submission import expected_start_s
from orchestration.view import PodView, View, ZoneView

__all__ = ["page", "pod", "regions", "resource_states", "waiting_reason", "zone"]


def regions(view: View) -> list[RegionRecord]:
    """Every region, in the order of the file."""
    records = []
    for region in view.infrastructure.regions:
        zones = [view.zones[f"{region.name}/{zone.name}"] for zone in region.zones]
        pods = [pod for zone in zones for pod in zone.pods.values()]
        records.append(
            RegionRecord(
                path=region.name,
                zones=len(zones),
                pods=len(pods),
                resources=sum(len(pod.resources) for pod in pods),
                ready=_ready(pods),
            )
        )
    return records


def zone(zone: ZoneView) -> ZoneRecord:
    """One zone."""
    pods = zone.pods.values()
    return ZoneRecord(
        path=zone.path,
        state=zone.node.state,
        strategy=zone.spec.supervision.strategy.value,
        pods=len(pods),
        pods_up=sum(pod.is_live for pod in pods),
        resources=sum(len(pod.resources) for pod in pods),
        ready=_ready(pods),
    )


def pod(pod: PodView, now: float) -> PodRecord:
    """One pod."""
    node = pod.node
    return PodRecord(
        path=pod.path,
        state=pod.state,
        pid=node.pid,
        epoch=node.epoch,
        strategy=pod.spec.supervision.strategy.value,
        resources=len(pod.resources),
        ready=pod.ready if pod.is_live else 0,
        pending=pod.pending,
        in_flight=pod.in_flight,
        crashes=pod.crashes,
        restarts=node.restarts,
        age_s=None if node.heard_at is None else max(0.0, now - node.heard_at),
    )


def page(
    view: View, prefix: str, limit: int, after: str | None
) -> tuple[list[ResourceRecord], str | None]:
    """Resources whose path begins with `prefix`, by path, and the cursor of the next page."""
    paths = view.paths
    start = bisect_left(paths, prefix)
    if after is not None:
        start = max(start, bisect_right(paths, after))
    found = []
    for path in paths[start : start + limit + 1]:
        if not path.startswith(prefix):
            break
        found.append(path)
    now = view.clock()
    records = [view.resources[path].record(now) for path in found[:limit]]
    return records, found[limit - 1] if len(found) > limit else None


def resource_states(view: View) -> dict[str, int]:
    """Resources by the state that is shown."""
    states: Counter[str] = Counter()
    for each in view.pods.values():
        for state, count in each.by_state.items():
            shown = state if each.is_live or state == "undefined" else "unreachable"
            states[shown] += count
    return {state: count for state, count in states.items() if count}


def waiting_reason(view: View, path: str) -> str:
    """Why a unit of `path` that could be sent is not."""
    resource = view.resources.get(path)
    if resource is None:
        return "its resource was removed"
    if not resource.pod.is_live:
        return f"waiting for {resource.pod.path} (pod is {resource.pod.state})"
    if not resource.is_open:
        detail = f": {resource.detail}" if resource.detail else ""
        return f"waiting for {path} ({resource.state}{detail})"
    start_s = expected_start_s(resource, resource.pending + resource.in_flight - 1)
    return "waiting for its turn" + (f", about {start_s:.3g} s" if start_s else "")


def _ready(pods: Iterable[PodView]) -> int:
    return sum(pod.ready for pod in pods if pod.is_live)
