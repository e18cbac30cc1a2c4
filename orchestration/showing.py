"""Showing: the view as the API's records."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable

from orchestration.lane import QueuedUnit
from orchestration.records import (
    TERMINAL,
    PodRecord,
    RegionRecord,
    ResourceRecord,
    UnitRecord,
    UnitState,
    ZoneRecord,
)
from orchestration.submission import expected_start_s
from orchestration.view import PodView, ResourceView, View, ZoneView

__all__ = ["explanation", "page", "pod", "regions", "resource_states", "zone"]


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


def explanation(view: View, record: UnitRecord, now_utc: float) -> str:
    """Why a unit is where it is, as of now; what happened to it before stands behind that."""
    if record.state in TERMINAL:
        return record.reason
    parts = [_why(view, record, now_utc), record.reason]
    if record.cancel_requested:
        parts.insert(0, "cancellation requested")
    return "; ".join(part for part in parts if part)


def _why(view: View, record: UnitRecord, now_utc: float) -> str:
    resource = view.resources.get(record.resource)
    if resource is None:
        return "its resource was removed"
    if not resource.pod.is_live:
        return f"waiting for {resource.pod.path} (pod is {resource.pod.state})"
    if resource.state == "set_aside":
        how = f"bring it back: cloudctl reset resource {resource.path}"
        return f"its resource is set aside: {resource.detail}; {how}"
    if record.state is UnitState.PENDING:
        return _why_pending(resource, record, now_utc)
    if record.state is UnitState.IN_DOUBT:
        return f"waiting to be settled by {resource.path} ({_state(resource, now_utc)})"
    is_suspect = resource.state == "suspect" and record.state is UnitState.EXECUTING
    return _state(resource, now_utc) if is_suspect else ""


def _why_pending(resource: ResourceView, record: UnitRecord, now_utc: float) -> str:
    if record.next_attempt_utc is not None and record.next_attempt_utc > now_utc:
        return f"next attempt in {record.next_attempt_utc - now_utc:.3g} s"
    if not resource.is_open:
        return f"waiting for {resource.path} ({_state(resource, now_utc)})"
    first = _first(resource)
    if first is not None and first.id != record.id and first.state is not UnitState.EXECUTING:
        again_utc = first.next_attempt_utc
        if again_utc is not None and again_utc > now_utc:
            return f"waiting for {first.id}, whose next attempt is in {again_utc - now_utc:.3g} s"
    start_s = expected_start_s(resource, resource.pending + resource.in_flight - 1)
    return "waiting for its turn" + (f", about {start_s:.3g} s" if start_s else "")


def _state(resource: ResourceView, now_utc: float) -> str:
    detail = f": {resource.detail}" if resource.detail else ""
    if resource.state == "suspect":
        return f"suspect for {max(0.0, now_utc - resource.suspect_utc):.3g} s{detail}"
    return f"{resource.state}{detail}"


def _first(resource: ResourceView) -> QueuedUnit | None:
    lane = resource.lane
    return lane.queue[0] if lane is not None and lane.queue else None


def _ready(pods: Iterable[PodView]) -> int:
    return sum(pod.ready for pod in pods if pod.is_live)
