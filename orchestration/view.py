"""The view: the orchestration tier's picture of nodes, pods and resources; every fact carries its age.

The gateway and the dispatchers write it from the node's one loop, everybody else only reads. It is rebuilt
after a restart: definitions, desired states and epochs from the journal, the rest from what the nodes say.

Longer than most: every fact has a way in, for those who know it, and a way out, for those who ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from config.model import Infrastructure, Pod, Resource, Supervision, Template, Zone
from orchestration.journal.contract import ResourceRow
from orchestration.records import NodeRecord, ResourceRecord, UnitState
from rpc.messages import (
    Backoff,
    Epoch,
    PodDefinition,
    PodStats,
    ResourceDefinition,
    Unit,
    ZoneDefinition,
)
from rpc.messages import Supervision as SupervisionMessage

if TYPE_CHECKING:
    from orchestration.lane import Lane

__all__ = [
    "NodeView",
    "PodView",
    "ResourceView",
    "View",
    "ZoneView",
    "pattern_matches",
    "zone_of",
]

_encode = msgspec.json.Encoder().encode


class NodeView:
    """One automation node: what its hello and its parent say."""

    __slots__ = ("epoch", "heard_at", "incarnation", "kind", "name", "pid", "restarts", "state")

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.pid: int | None = None
        self.epoch: Epoch = ()
        self.incarnation = ""
        self.restarts = 0
        self.state = "starting"
        self.heard_at: float | None = None

    def came_up(self, pid: int, epoch: Epoch, now: float) -> bool:
        """Note that the node runs; True if it is another incarnation than before."""
        fresh = epoch > self.epoch
        if fresh and self.epoch:
            self.restarts += 1
        self.pid, self.epoch, self.state, self.heard_at = pid, epoch, "up", now
        return fresh

    def record(self, now: float) -> NodeRecord:
        """Show it."""
        return NodeRecord(
            name=self.name,
            kind=self.kind,
            pid=self.pid,
            state=self.state,
            epoch=self.epoch,
            restarts=self.restarts,
            age_s=None if self.heard_at is None else max(0.0, now - self.heard_at),
        )


class ResourceView:
    """One resource. `is_open`: its present incarnation has said it is ready and takes units."""

    __slots__ = (
        "crashes",
        "desired",
        "detail",
        "epoch",
        "epoch_text",
        "exists",
        "former_epoch",
        "in_flight",
        "in_sync",
        "is_leaving",
        "is_open",
        "lane",
        "observed",
        "observed_at",
        "on_demand",
        "path",
        "pending",
        "pod",
        "spec",
        "state",
        "suspect_utc",
    )

    def __init__(self, path: str, pod: PodView, spec: Resource, *, on_demand: bool) -> None:
        self.path = path
        self.pod = pod
        self.spec = spec
        self.on_demand = on_demand
        self.state = "undefined"
        self.epoch: Epoch = ()
        self.epoch_text = "[]"
        self.former_epoch: Epoch = ()  # incarnations up to this one were of another device
        self.exists: bool | None = None
        self.observed: dict[str, object] = {}
        self.observed_at: float | None = None
        self.desired: dict[str, object] | None = None
        self.in_sync: bool | None = None
        self.crashes = 0
        self.pending = 0
        self.in_flight = 0
        self.is_open = False
        self.is_leaving = False
        self.detail = ""
        self.suspect_utc = 0.0  # since when, while it is suspect
        self.lane: Lane | None = None
        pod.by_state["undefined"] = pod.by_state.get("undefined", 0) + 1

    def enter(self, state: str, detail: str = "") -> None:
        """Note another state, and keep the pod's sums."""
        by_state = self.pod.by_state
        if state != self.state:
            by_state[self.state] -= 1
            by_state[state] = by_state.get(state, 0) + 1
            self.state = state
        self.detail = detail

    def redefine(self, spec: Resource) -> None:
        """Take other settings; behind another driver or connection is another device, of which nothing is known."""
        old, self.spec = self.spec, spec
        if (old.driver, old.connect, old.kind) != (spec.driver, spec.connect, spec.kind):
            self.desired = self.exists = self.observed_at = self.in_sync = None
            self.observed = {}
            self.former_epoch = self.epoch
        elif old.config == spec.config:
            return  # its pod has no part in what else there is
        if self.pod.is_live:  # the process begins anew, and tells when it is ready
            self.is_open = False
            self.enter("initialised", "its new settings are on their way")

    def take_epoch(self, epoch: Epoch) -> None:
        """Note the incarnation."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.epoch_text = _encode(epoch).decode()

    def hold(self, desired: dict[str, object] | None) -> None:
        """Note the state to hold from now on."""
        self.desired = desired
        self._compare()

    def see(self, observed: dict[str, object], *, exists: bool, now: float) -> None:
        """Note what the device looks like."""
        self.observed, self.exists, self.observed_at = observed, exists, now
        self._compare()

    def _compare(self) -> None:
        held = self.observed if self.exists else {}
        is_known = self.desired is not None and self.observed_at is not None
        self.in_sync = held == self.desired if is_known else None

    def queued_before(self, seq: int) -> int:
        """Unfinished units in front of the one with number `seq`."""
        return 0 if self.lane is None else self.lane.before(seq)

    def row(self) -> tuple[str, int, str, str | None, str]:
        """What the journal remembers of it."""
        desired = None if self.desired is None else _encode(self.desired).decode()
        former = _encode(self.former_epoch).decode() if self.former_epoch else "[]"
        return (self.path, int(self.on_demand), self.epoch_text, desired, former)

    def row_of_another_device(self) -> tuple[str, int, str, None, str]:
        """What the journal is to remember once another device has taken its place."""
        return (self.path, int(self.on_demand), self.epoch_text, None, self.epoch_text)

    def definition(self, doubt: tuple[Unit, ...]) -> ResourceDefinition:
        """What its pod is told."""
        spec = self.spec
        return ResourceDefinition(
            self.path,
            spec.kind,
            spec.driver,
            spec.connect,
            spec.config,
            self.desired,
            doubt,
            bool(self.pending or self.in_flight),
        )

    def record(self, now: float) -> ResourceRecord:
        """Show it."""
        reachable = self.pod.is_live or self.state == "undefined"
        return ResourceRecord(
            path=self.path,
            kind=self.spec.kind,
            driver=self.spec.driver,
            state=self.state if reachable else "unreachable",
            epoch=self.epoch,
            exists=self.exists,
            observed=self.observed,
            observed_age_s=None if self.observed_at is None else max(0.0, now - self.observed_at),
            desired=self.desired,
            in_sync=self.in_sync,
            mailbox=self.in_flight,
            pending=self.pending,
            crashes=self.crashes,
            on_demand=self.on_demand,
            detail=self.detail if reachable else f"pod {self.pod.path} is {self.pod.node.state}",
            connect=self.spec.connect,
            config=self.spec.config,
        )


class PodView:
    """One pod. `is_live`: its link is up, and its reports have been caught up with."""

    __slots__ = (
        "by_state",
        "crashes",
        "finish_s",
        "in_flight",
        "is_live",
        "last_report",
        "node",
        "outdated",
        "path",
        "pending",
        "reported_epoch",
        "resources",
        "spec",
        "stats",
        "verbs",
        "zone",
    )

    def __init__(self, path: str, zone: ZoneView, spec: Pod, node: NodeView) -> None:
        self.path = path
        self.zone = zone
        self.spec = spec
        self.node = node
        self.resources: dict[str, ResourceView] = {}
        self.by_state: dict[str, int] = {}
        self.pending = 0
        self.in_flight = 0
        self.crashes = 0
        self.is_live = False
        self.outdated: Epoch = ()  # incarnations up to this one are to be restarted
        self.reported_epoch: Epoch = ()  # of the incarnation `last_report` belongs to
        self.last_report = 0
        self.finish_s: float | None = None  # measured seconds between two ends on a busy resource
        self.stats: PodStats | None = None
        self.verbs: dict[str, tuple[str, ...]] = {}  # by driver, once the pod has told

    @property
    def state(self) -> str:
        """up, starting (its link is not there yet, or it is to be restarted with other settings) or down."""
        if self.is_live and (not self.outdated or self.node.epoch > self.outdated):
            return "up"
        return "starting" if self.node.state in ("up", "starting") else "down"

    @property
    def ready(self) -> int:
        """Resources that take units or run one."""
        return self.by_state.get("ready", 0) + self.by_state.get("executing", 0)

    def note_finish(self, took_s: float) -> None:
        """Feed the drain rate: a moving average over about twenty units."""
        self.finish_s = took_s if self.finish_s is None else self.finish_s * 0.95 + took_s * 0.05

    def reporter_row(self) -> tuple[str, str, int]:
        """What the journal remembers of its reports."""
        return (self.path, _encode(self.reported_epoch).decode(), self.last_report)


class ZoneView:
    """One zone and its pods, in start order."""

    __slots__ = ("node", "path", "pods", "spec")

    def __init__(self, path: str, spec: Zone, node: NodeView) -> None:
        self.path = path
        self.spec = spec
        self.node = node
        self.pods: dict[str, PodView] = {}

    def definition(self) -> ZoneDefinition:
        """What root is told."""
        pods = tuple(
            PodDefinition(
                pod.path,
                _supervision(pod.spec.supervision),
                pod.spec.mailbox,
                pod.spec.sync_rate,
                pod.spec.quarantine_after,
            )
            for pod in self.pods.values()
        )
        return ZoneDefinition(self.path, _supervision(self.spec.supervision), pods)


class View:
    """Everything known; `clock` returns monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.revision = 0
        self.infrastructure = Infrastructure(name="")
        self.zones: dict[str, ZoneView] = {}
        self.pods: dict[str, PodView] = {}
        self.resources: dict[str, ResourceView] = {}
        self.nodes: dict[str, NodeView] = {}
        self.units: dict[UnitState, int] = dict.fromkeys(UnitState, 0)
        self._paths: list[str] | None = None  # of the resources, sorted; None: to be made again

    @property
    def paths(self) -> list[str]:
        """Every resource's path, sorted."""
        if self._paths is None:
            self._paths = sorted(self.resources)
        return self._paths

    def node(self, name: str, kind: str) -> NodeView:
        """The node with this name, made when it is first heard of."""
        if name not in self.nodes:
            self.nodes[name] = NodeView(name, kind)
        return self.nodes[name]

    def adopt(self, revision: int, infrastructure: Infrastructure) -> Difference:
        """Make `infrastructure` the declared one; what is gone stays known to the caller alone."""
        self._paths = None
        difference = Difference()
        before = [zone.definition() for zone in self.zones.values()]
        wanted = _declared(infrastructure)
        for path in [path for path in self.zones if path not in wanted]:
            difference.zones.append(self.zones.pop(path))
        self.zones = {path: self._zone(path, zone) for path, zone in wanted.items()}
        for zone in self.zones.values():
            self._adopt_pods(zone, difference)
        for gone in difference.zones:
            difference.pods.extend(gone.pods.values())
        for pod in difference.pods:
            self.pods.pop(pod.path)
            difference.removed.extend(pod.resources.values())
        for resource in difference.removed:
            resource.is_leaving = True
            self.resources.pop(resource.path, None)
        self.revision, self.infrastructure = revision, infrastructure
        self._outdate(before)
        return difference

    def _outdate(self, before: list[ZoneDefinition]) -> None:
        """Note which pods automation restarts: a node gets its settings when it starts."""
        for old in before:
            zone = self.zones.get(old.path)
            if zone is None:
                continue
            new = zone.definition()
            known = {pod.path: pod for pod in old.pods}
            for definition in new.pods:
                is_new = known.get(definition.path, definition) != definition
                if is_new or new.supervision != old.supervision:
                    pod = self.pods[definition.path]
                    pod.outdated = pod.node.epoch

    def restore(self, row: ResourceRow) -> None:
        """Take back what the journal remembers of a resource."""
        resource = self.resources.get(row.path)
        if resource is None and row.on_demand:
            resource = self.create_on_demand(row.path)
        if resource is not None:
            resource.take_epoch(row.epoch)
            resource.desired = row.desired
            resource.former_epoch = row.former_epoch

    def template_for(self, path: str) -> tuple[PodView, Template] | None:
        """The template `path` can be made from, and its pod."""
        pod_path, _, name = path.rpartition("/")
        pod = self.pods.get(pod_path)
        if pod is None or not name:
            return None
        for template in pod.spec.templates:
            if pattern_matches(template.pattern, name):
                return pod, template
        return None

    def create_on_demand(self, path: str) -> ResourceView | None:
        """Make the resource `path` from its template, unless it is there or none matches."""
        if path in self.resources:
            return self.resources[path]
        found = self.template_for(path)
        if found is None:
            return None
        pod, template = found
        return self._add(ResourceView(path, pod, _from_template(template, path), on_demand=True))

    def _zone(self, path: str, spec: Zone) -> ZoneView:
        zone = self.zones.get(path)
        if zone is None:
            return ZoneView(path, spec, self.node(path, "zone"))
        zone.spec = spec
        return zone

    def _adopt_pods(self, zone: ZoneView, difference: Difference) -> None:
        wanted = {f"{zone.path}/{pod.name}": pod for pod in zone.spec.pods}
        difference.pods.extend(pod for path, pod in zone.pods.items() if path not in wanted)
        before, zone.pods = zone.pods, {}
        for path, spec in wanted.items():
            pod = before.get(path) or PodView(path, zone, spec, self.node(path, "pod"))
            pod.spec = spec
            zone.pods[path] = self.pods[path] = pod
            self._adopt_resources(pod, difference)

    def _adopt_resources(self, pod: PodView, difference: Difference) -> None:
        wanted = {f"{pod.path}/{resource.name}": resource for resource in pod.spec.resources}
        for path, known in list(pod.resources.items()):
            spec = wanted.get(path)
            if spec is None and known.on_demand:
                found = self.template_for(path)
                spec = None if found is None else _from_template(found[1], path)
            if spec is None:
                difference.removed.append(pod.resources.pop(path))
                pod.by_state[known.state] -= 1
            elif spec != known.spec:
                known.redefine(spec)
                difference.changed.append(known)
        for path, spec in wanted.items():
            if path not in pod.resources:
                resource = self._add(ResourceView(path, pod, spec, on_demand=False))
                difference.added.append(resource)
            pod.resources[path].on_demand = False

    def _add(self, resource: ResourceView) -> ResourceView:
        resource.pod.resources[resource.path] = resource
        self._paths = None
        self.resources[resource.path] = resource
        return resource


class Difference:
    """What `View.adopt` changed."""

    __slots__ = ("added", "changed", "pods", "removed", "zones")

    def __init__(self) -> None:
        self.zones: list[ZoneView] = []  # gone
        self.pods: list[PodView] = []  # gone
        self.added: list[ResourceView] = []
        self.changed: list[ResourceView] = []
        self.removed: list[ResourceView] = []


def zone_of(path: str) -> str:
    """The zone a pod or resource is in."""
    return "/".join(path.split("/", 2)[:2])


def _declared(infrastructure: Infrastructure) -> dict[str, Zone]:
    return {
        f"{region.name}/{zone.name}": zone
        for region in infrastructure.regions
        for zone in region.zones
    }


def pattern_matches(pattern: str, name: str) -> bool:
    """Say whether a template makes `name`: something must be where its `*` is."""
    before, _, after = pattern.partition("*")
    fits = name.startswith(before) and name.endswith(after)
    return fits and len(name) > len(before) + len(after)


def _from_template(template: Template, path: str) -> Resource:
    return Resource(
        name=path.rpartition("/")[2],
        kind=template.kind,
        driver=template.driver,
        connect=template.connect,
        config=template.config,
        capacity=template.capacity,
        claims=template.claims,
    )


def _supervision(flags: Supervision) -> SupervisionMessage:
    return SupervisionMessage(
        flags.strategy.value,
        flags.intensity,
        flags.period_s,
        Backoff(flags.backoff.initial_s, flags.backoff.max_s),
    )
