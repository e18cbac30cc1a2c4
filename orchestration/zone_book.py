"""The book of one zone: every lane in it, and what each report, link and request does to their units.

The dispatcher process owns it. Methods take what happened and the time; they change the units at once and
collect two things: `changes` for the journal, and `outbox`, the messages that may leave only after those
changes are durable. So a unit is `dispatched` on disk before its pod hears of it, and a report is in the
journal before it is acknowledged. Nothing here waits, and nothing knows a process or a socket.

The module is longer than most: every transition of a unit goes through the one `_go` and the one `changes`,
and which report may follow which is only seen with all of them side by side.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from orchestration import recovery
from orchestration.figures import Figures
from orchestration.journal.contract import Changes
from orchestration.lane import Lane, QueuedUnit
from orchestration.records import TERMINAL, UnitState
from orchestration.recovery import Verdict
from orchestration.view import PodView, ResourceView, View
from rpc.messages import (
    Ack,
    Cancel,
    Crashed,
    Define,
    Dispatch,
    Dropped,
    Epoch,
    Finished,
    Inventory,
    Progress,
    Ready,
    Report,
    ReportBody,
    ResourceDefinition,
    ResourceState,
    Retire,
    Retired,
    Started,
    Suspect,
)
from rpc.messages import Down as DownMessage

__all__ = ["Moves", "Outbox", "ZoneBook"]

DROPPED_PAUSE_S = 0.1  # before a lane whose unit was not taken is tried again
_encode = msgspec.json.Encoder().encode
_TEXTS = {state: state.value for state in UnitState}
_KINDS = {state: f"unit.{state.value}" for state in UnitState}
_ATTEMPTS = [f'{{"attempt":{n}}}' for n in range(64)]
_PENDING, _DISPATCHED = UnitState.PENDING, UnitState.DISPATCHED
_EXECUTING, _IN_DOUBT = UnitState.EXECUTING, UnitState.IN_DOUBT
_FLYING = frozenset({_DISPATCHED, _EXECUTING, _IN_DOUBT})

Outbox = list[tuple[PodView, DownMessage]]
Moves = list[tuple[UnitState, UnitState]]


class ZoneBook:
    """The units of one zone.

    Args:
        view: read for definitions, written with what the pods say.
        figures: counts what happens.
        clock_utc: returns Unix seconds.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        view: View,
        figures: Figures,
        clock_utc: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self.changes = Changes()
        self.outbox: Outbox = []
        self.units: dict[str, QueuedUnit] = {}
        self._moves: Moves = []
        self.late = 0  # reports about something that is over
        self._view = view
        self._figures = figures
        self._clock_utc = clock_utc
        self._clock = clock
        self._dirty: dict[str, ResourceView] = {}
        self._leaving: dict[str, ResourceView] = {}
        self._timers: list[tuple[float, int, str]] = []
        self._catching_up: dict[str, Inventory] = {}  # by pod

    # ── work comes in ─────────────────────────────────────────────────────────────────────────

    def restore(self, units: Iterable[QueuedUnit]) -> None:
        """Take back unfinished units from the journal, in order of acceptance."""
        for unit in units:
            resource = self._view.resources.get(unit.spec.resource)
            if resource is None:  # it was removed while the unit was at its device
                self._orphan(unit)
                continue
            self._enter(resource, unit)
            if unit.cancelling and unit.state is _PENDING:
                self._go(unit, Verdict(UnitState.CANCELLED, "cancelled before it began"))

    def accept(self, units: Iterable[QueuedUnit]) -> None:
        """Queue units that have just been accepted, in order of acceptance."""
        for unit in units:
            resource = self._view.resources.get(unit.spec.resource)
            if resource is None:
                self._orphan(unit)
                continue
            lane = self._enter(resource, unit)
            exists = bool(resource.exists) or bool(resource.desired)
            create = recovery.superseded_by(lane, unit, exists=exists)
            if create is not None:
                self._end_both(create, unit)

    def _enter(self, resource: ResourceView, unit: QueuedUnit) -> Lane:
        lane = resource.lane
        if lane is None:
            lane = resource.lane = Lane(resource.path)
        lane.append(unit)
        self.units[unit.id] = unit
        self._count(resource, unit.state, 1)
        self._view.units[unit.state] += 1
        if unit.state is _PENDING:
            self._dirty[resource.path] = resource
        limit_utc = recovery.deadline_utc(unit)
        for at_utc in (limit_utc, unit.next_attempt_utc):
            if at_utc is not None:
                heapq.heappush(self._timers, (at_utc, unit.seq, unit.id))
        return lane

    def _end_both(self, create: QueuedUnit, destroy: QueuedUnit) -> None:
        for unit, other in ((create, destroy), (destroy, create)):
            reason = f"create and destroy met in the queue: {other.id}"
            self._go(unit, Verdict(UnitState.SUPERSEDED, reason), {"with": other.id})

    def _orphan(self, unit: QueuedUnit) -> None:
        """End a unit whose resource went away while nobody could say what became of it."""
        self._view.units[UnitState.CANCELLED] += 1
        unit.lane = None
        verdict = Verdict(UnitState.CANCELLED, "its resource was removed", "removed")
        self._write(unit, verdict, unit.spec.resource, {})

    # ── what users ask ────────────────────────────────────────────────────────────────────────

    def cancel(self, unit_id: str) -> str:
        """Cancel a unit, or ask its pod to.

        What cannot be done at once is journalled: it is done as soon as the unit is at a border, whatever
        dies in between.

        Returns:
            done, asked (it is cancelled if commands are left when its pod, or its settling, says how far
            it is), or over.
        """
        unit = self.units.get(unit_id)
        if unit is None or unit.lane is None:
            return "over"
        if unit.state is _PENDING:
            self._go(unit, Verdict(UnitState.CANCELLED, "cancelled before it began"))
            return "done"
        resource = self._owner(unit.lane)
        if not unit.cancelling:
            unit.cancelling = True
            self.changes.cancels.append(unit.seq)
            self._note("unit.cancel_requested", unit.id, resource, {"attempt": unit.attempt})
        self._send_cancel(resource.pod, unit)
        return "asked"

    def _send_cancel(self, pod: PodView, unit: QueuedUnit) -> None:
        """Ask the pod again for what was promised; one that is away is asked when it is back."""
        if unit.cancelling and unit.at_the_pod and unit.lane is not None and pod.is_live:
            self.outbox.append((pod, Cancel(unit.lane.path, unit.id)))

    def reset(self, resource: ResourceView) -> bool:
        """Have a resource that was set aside tried again; False if it is not, or cannot be now."""
        if resource.state != "set_aside" or not resource.pod.is_live or resource.is_leaving:
            return False
        self._note("resource.reset", resource.path, resource, {"detail": resource.detail})
        resource.enter("initialised", "brought back")
        self.define([resource])
        return True

    def remove(self, removed: Sequence[ResourceView]) -> None:
        """Follow an `apply`: these resources are to go, and what waits for them ends."""
        paths: dict[str, tuple[PodView, list[str]]] = {}
        for resource in removed:
            forerunner = self._left(resource.pod, resource.path)
            self._leaving[resource.path] = resource
            self._dirty.pop(resource.path, None)
            self._cancel_waiting(resource)
            if forerunner is not None:  # this one has not come to the pod: all its units waited
                self._leaving[resource.path] = forerunner
            paths.setdefault(resource.pod.path, (resource.pod, []))[1].append(resource.path)
        for pod, names in paths.values():
            if pod.path in self._view.pods and pod.is_live:
                self.outbox.append((pod, Retire(self._view.revision, tuple(names))))
            else:
                for name in names:
                    self._gone(self._leaving[name], "its resource was removed")

    def redefine(self, resources: Sequence[ResourceView], pods: Sequence[PodView]) -> None:
        """Follow an `apply`: tell living pods of what is new, and the rest of them of the revision."""
        changed: dict[str, list[ResourceView]] = {pod.path: [] for pod in pods}
        for resource in resources:
            changed.setdefault(resource.pod.path, []).append(resource)
            if resource.epoch and resource.desired is None:  # perhaps another device, by a template
                self.changes.resources[resource.path] = resource.row()
        for path, mine in changed.items():
            pod = self._view.pods.get(path)
            if pod is not None and pod.is_live:
                definitions = tuple(self._definition(each) for each in mine)
                self.outbox.append((pod, Define(self._view.revision, definitions)))

    def define(self, resources: Sequence[ResourceView]) -> None:
        """Tell living pods of resources they do not have."""
        for pod in {resource.pod.path: resource.pod for resource in resources}.values():
            if pod.is_live:
                mine = tuple(self._definition(each) for each in resources if each.pod is pod)
                self.outbox.append((pod, Define(self._view.revision, mine)))

    def _cancel_waiting(self, resource: ResourceView) -> None:
        for unit in list(resource.lane.queue) if resource.lane is not None else []:
            unit.cancelling = True
            if unit.state is _PENDING:
                self._go(unit, Verdict(UnitState.CANCELLED, "its resource was removed", "removed"))

    # ── pods come and go ──────────────────────────────────────────────────────────────────────

    def pod_up(self, pod: PodView, epoch: Epoch, inventory: Inventory) -> None:
        """A link to the incarnation `epoch` of `pod` is there, and this is what it has."""
        pod.is_live = False
        if epoch > pod.reported_epoch:
            self.pod_dead(pod, epoch, "a newer incarnation is there")
            pod.reported_epoch, pod.last_report = epoch, 0
            self.changes.reporters[pod.path] = pod.reporter_row()
            pod.is_live = True
            self._define_all(pod)
            return
        if pod.last_report:
            self.outbox.append((pod, Ack(pod.last_report)))
        self._catching_up[pod.path] = inventory
        self._caught_up(pod)

    def pod_unreachable(self, pod: PodView) -> None:
        """The link is gone; that says nothing about the pod."""
        pod.is_live = False
        self._catching_up.pop(pod.path, None)
        for resource in pod.resources.values():
            resource.is_open = False

    def pod_dead(self, pod: PodView, before: Epoch, reason: str) -> None:
        """Every incarnation of `pod` older than `before` is gone: what they held is in doubt."""
        for resource in [*pod.resources.values(), *self._leaving.values()]:
            if resource.pod is not pod or resource.epoch[:3] >= before:
                continue
            resource.is_open = False
            resource.enter("unreachable")
            for unit in resource.lane.at_the_pod() if resource.lane is not None else []:
                detail: dict[str, object] = {"cause": pod.path, "reason": reason}
                if recovery.is_blamed(unit, before):
                    self._note_pod_losses(unit, unit.pod_losses + 1)
                    detail["pod_losses"] = unit.pod_losses
                self._go(unit, Verdict(_IN_DOUBT, f"{pod.path} was lost: {reason}"), detail)
            if resource.is_leaving:
                self._gone(resource, "its resource was removed while it was in doubt")

    def _caught_up(self, pod: PodView) -> None:
        """Once all reports older than the inventory are in, believe the inventory."""
        inventory = self._catching_up.get(pod.path)
        if inventory is None or pod.last_report < inventory.last_report:
            return
        del self._catching_up[pod.path]
        pod.is_live = True
        held = {unit for each in inventory.resources for unit in each.units}
        for resource in pod.resources.values():
            for unit in resource.lane.at_the_pod() if resource.lane is not None else []:
                if unit.id not in held:
                    self._not_held(unit, pod)
                else:
                    self._send_cancel(pod, unit)
        self._believe(pod, inventory)

    def _not_held(self, unit: QueuedUnit, pod: PodView) -> None:
        if unit.state is _DISPATCHED:
            self._return(unit, "it was lost on the way to the pod")
        else:
            text = f"{pod.path} does not know it any more"
            self._go(unit, Verdict(_IN_DOUBT, text), {"cause": pod.path, "reason": text})

    def _believe(self, pod: PodView, inventory: Inventory) -> None:
        there = set()
        for each in inventory.resources:
            resource = pod.resources.get(each.path)
            if resource is None or self._left(pod, each.path) is not None:
                self.outbox.append((pod, Retire(self._view.revision, (each.path,))))
                continue
            there.add(each.path)
            resource.take_epoch(each.epoch)
            self._believe_state(resource, each.state)
            resource.is_open = each.state in ("ready", "executing")
            self._dirty[each.path] = resource
        if inventory.revision != self._view.revision:
            self._define_all(pod)
            return
        missing = [each for path, each in pod.resources.items() if path not in there]
        if missing:
            self.define(missing)

    def _believe_state(self, resource: ResourceView, state: str) -> None:
        """Take a state that was told before; why it is so was told then, unless we are new."""
        if state != resource.state:
            resource.enter(state)
            resource.suspect_utc = self._clock_utc()

    def _define_all(self, pod: PodView) -> None:
        everything = tuple(self._definition(each) for each in pod.resources.values())
        self.outbox.append((pod, Define(self._view.revision, everything, complete=True)))

    def _definition(self, resource: ResourceView) -> ResourceDefinition:
        lane = resource.lane
        doubt = () if lane is None else tuple(unit.message() for unit in lane.in_doubt())
        return resource.definition(doubt)

    # ── reports ───────────────────────────────────────────────────────────────────────────────

    def reports(self, pod: PodView, reports: Sequence[Report]) -> None:
        """Take reports of the pod's present incarnation; those known already are acknowledged again."""
        for report in reports:
            if report.seq > pod.last_report:
                self._report(pod, report.body)
                pod.last_report = report.seq
                if self._catching_up:
                    self._caught_up(pod)
        self.changes.reporters[pod.path] = pod.reporter_row()
        self.outbox.append((pod, Ack(pod.last_report)))

    def _report(self, pod: PodView, body: ReportBody) -> None:
        path = getattr(body, "path", "")
        # Until the pod has said `Retired`, it speaks of the one that leaves, not of a later one of that name.
        resource = self._left(pod, path) or pod.resources.get(path)
        if resource is None or getattr(body, "epoch", resource.epoch) < resource.epoch:
            self.late += 1
            return
        match body:
            case Finished():
                self._finished(resource, body)
            case Started():
                self._started(resource, body)
            case Ready():
                self._ready(resource, body)
            case Crashed():
                self._crashed(resource, body)
            case _:
                self._rare(resource, body)

    def _left(self, pod: PodView, path: str) -> ResourceView | None:
        """The resource of this name that is about to leave this pod."""
        resource = self._leaving.get(path)
        return resource if resource is not None and resource.pod is pod else None

    def _owner(self, lane: Lane) -> ResourceView:
        """The resource whose units these are: one that leaves, or the present one of that name."""
        leaving = self._leaving.get(lane.path)
        if leaving is not None and leaving.lane is lane:
            return leaving
        return self._view.resources[lane.path]

    def _rare(self, resource: ResourceView, body: ReportBody) -> None:
        match body:
            case Progress():
                self._progress(resource, body)
            case ResourceState():
                self._state(resource, body)
            case Suspect():
                self._suspect(resource, body)
            case Dropped():
                self._dropped(resource, body)
            case Retired():
                self._gone(resource, "its resource was removed")

    def _held(
        self, body: Started | Progress | Finished | Suspect, resource: ResourceView
    ) -> QueuedUnit | None:
        """The unit a report is about, None if that attempt is over."""
        unit = self.units.get(body.unit)
        if (
            unit is None
            or not unit.at_the_pod
            or unit.attempt != body.attempt
            or unit.epoch != body.epoch
            or unit.lane is not resource.lane
        ):
            self.late += 1
            return None
        return unit

    def _started(self, resource: ResourceView, body: Started) -> None:
        unit = self._held(body, resource)
        if unit is not None:
            resource.enter("executing")
            if unit.state is _DISPATCHED:
                self._go(unit, _STARTED)

    def _progress(self, resource: ResourceView, body: Progress) -> None:
        unit = self._held(body, resource)
        if unit is None:
            return
        if resource.state == "suspect":
            resource.enter("executing")
            resource.is_open = True
        if body.completed > unit.completed:
            self._advance(unit, body.completed)
            # The device is past the state held: until this unit's end, whatever is there counts.
            resource.hold(None)
            self.changes.resources[resource.path] = resource.row()
            self._note("unit.progress", unit.id, resource, {"completed": body.completed})
        self._go(unit, Verdict(_EXECUTING), silent=unit.state is _EXECUTING)

    def _finished(self, resource: ResourceView, body: Finished) -> None:
        unit = self._held(body, resource)
        if unit is None:
            return
        if resource.epoch == body.epoch and resource.state in ("executing", "suspect"):
            resource.enter("ready")
            resource.is_open = True
        now = self._clock()
        lane = resource.lane
        if lane is not None:
            resource.pod.note_finish(now - max(lane.finished_at, unit.dispatched_at))
            lane.finished_at = now
        partial = body.completed > unit.completed
        self._advance(unit, body.completed)
        if body.outcome == "succeeded":
            self._hold(resource, body)
            self._go(unit, _SUCCEEDED, {"duration_s": round(body.duration_s, 6)})
            return
        if body.observed:
            self._hold(resource, body)
        elif partial:
            resource.hold(None)
            self.changes.resources[resource.path] = resource.row()
        if body.outcome == "cancelled":
            self._go(unit, Verdict(UnitState.CANCELLED, "cancelled at a command border"))
        else:
            self._go(unit, recovery.after_failure(unit, body.fault, self._clock_utc()))

    def _hold(self, resource: ResourceView, body: Finished) -> None:
        if body.epoch <= resource.former_epoch:
            return  # it tells of a device that is the resource's no more
        resource.hold(body.observed if body.exists else {})
        resource.see(body.observed, exists=body.exists, now=self._clock())
        self.changes.resources[resource.path] = resource.row()

    def _ready(self, resource: ResourceView, body: Ready) -> None:
        resource.take_epoch(body.epoch)
        resource.enter("ready")
        resource.is_open = True
        self._left_behind(resource)
        self._settled(resource, body)
        resource.see(body.observed, exists=body.exists, now=self._clock())
        self.changes.resources[resource.path] = resource.row()
        self._note("resource.ready", resource.path, resource, {"drift": body.drift})
        self._dirty[resource.path] = resource
        if resource.lane is not None and resource.lane.in_doubt():
            self.define([resource])  # it did not know of them

    def _settled(self, resource: ResourceView, body: Ready) -> None:
        """Carry out what observation said of the units in doubt, the last one first noted as begun."""
        found: list[tuple[QueuedUnit, int]] = []
        for settled in body.settled:
            unit = self.units.get(settled.unit)
            if unit is None or unit.state is not _IN_DOUBT or unit.lane is not resource.lane:
                self.late += 1
            else:
                found.append((unit, settled.completed))
        begun = [index for index, (unit, done) in enumerate(found) if done > unit.completed]
        last_begun = begun[-1] if begun else -1
        limit = resource.pod.spec.quarantine_after
        for index, (unit, done) in enumerate(found):
            self._advance(unit, done)
            resource.hold(body.observed if body.exists else {})
            overtaken = index < last_begun
            verdict = recovery.after_settling(unit, unit.completed, limit, overtaken=overtaken)
            self._go(unit, verdict)

    def _left_behind(self, resource: ResourceView) -> None:
        """A unit begun by an earlier incarnation of which no crash was told can only be in doubt."""
        for unit in resource.lane.at_the_pod() if resource.lane is not None else []:
            if unit.state is _EXECUTING and unit.epoch < resource.epoch:
                text = "its process was replaced"
                self._go(unit, Verdict(_IN_DOUBT, text), {"cause": resource.path, "reason": text})

    def _crashed(self, resource: ResourceView, body: Crashed) -> None:
        resource.take_epoch(body.epoch)
        resource.is_open = False
        resource.crashes += 1
        resource.pod.crashes += 1
        resource.enter("initialised", body.reason)
        detail = {
            "unit": body.unit,
            "attempt": body.attempt,
            "completed": body.completed,
            "reason": body.reason,
            "culprit": body.culprit,
            "flushed": body.flushed,
            "recorder": [msgspec.to_builtins(line) for line in body.recorder],
        }
        self._note("resource.crashed", resource.path, resource, detail)
        unit = None if body.unit is None else self.units.get(body.unit)
        if unit is not None and unit.at_the_pod and unit.lane is resource.lane:
            self._advance(unit, body.completed)
            unit.crashes += body.culprit
            cause = {"cause": resource.path, "reason": body.reason}
            self._go(unit, Verdict(_IN_DOUBT, body.reason, "crash"), cause)
        for name in body.flushed:
            flushed = self.units.get(name)
            if flushed is not None and flushed.at_the_pod and flushed.lane is resource.lane:
                self._return(flushed, f"flushed by a crash: {body.reason}")

    def _state(self, resource: ResourceView, body: ResourceState) -> None:
        if body.epoch > resource.epoch:
            resource.take_epoch(body.epoch)
        resource.is_open = False
        resource.enter(body.state, body.detail)
        if body.state == "set_aside":
            self._note("resource.set_aside", resource.path, resource, {"detail": body.detail})

    def _suspect(self, resource: ResourceView, body: Suspect) -> None:
        unit = self._held(body, resource)
        if unit is not None:
            resource.is_open = False
            resource.enter("suspect", body.reason)
            resource.suspect_utc = self._clock_utc()
            detail = {"unit": body.unit, "index": body.index, "reason": body.reason}
            self._note("resource.suspect", resource.path, resource, detail)

    def _dropped(self, resource: ResourceView, body: Dropped) -> None:
        unit = self.units.get(body.unit)
        if unit is None or unit.state is not _DISPATCHED or unit.attempt != body.attempt:
            self.late += 1
            return
        self._return(unit, f"not taken: {body.reason}", DROPPED_PAUSE_S)
        if body.reason == "unknown":
            self.define([resource])

    def _gone(self, resource: ResourceView, reason: str) -> None:
        """The process of a leaving resource has ended: so have its units."""
        if not resource.is_leaving:
            for unit in resource.lane.at_the_pod() if resource.lane is not None else []:
                self._return(unit, "handed back")
            return
        for unit in list(resource.lane.queue) if resource.lane is not None else []:
            self._go(unit, Verdict(UnitState.CANCELLED, reason, "removed"))
        self._leaving.pop(resource.path, None)
        self._note("resource.retired", resource.path, resource, {"reason": reason})
        if resource.path not in self._view.resources:
            self.changes.dropped.append(resource.path)

    # ── sending ───────────────────────────────────────────────────────────────────────────────

    def tick(self) -> None:
        """Look at what has become due: deadlines, and the ends of back-offs."""
        now_utc = self._clock_utc()
        while self._timers and self._timers[0][0] <= now_utc:
            _, _, unit_id = heapq.heappop(self._timers)
            unit = self.units.get(unit_id)
            if unit is None or unit.state is not _PENDING or unit.lane is None:
                continue
            limit_utc = recovery.deadline_utc(unit)
            resource = self._view.resources[unit.lane.path]
            self._dirty[resource.path] = resource
            if limit_utc is not None and limit_utc <= now_utc:
                self._go(unit, recovery.after_deadline(unit))

    def next_tick_utc(self) -> float | None:
        """When `tick` is to be called next."""
        return self._timers[0][0] if self._timers else None

    def pump(self) -> None:
        """Dispatch what may go, on the lanes something has happened to."""
        if not self._dirty:
            return
        now_utc, now = self._clock_utc(), self._clock()
        dirty, self._dirty = self._dirty, {}
        for resource in dirty.values():
            lane = resource.lane
            if lane is None or not resource.is_open or not resource.pod.is_live:
                continue
            for unit in lane.due(now_utc, resource.pod.spec.mailbox, resource.epoch):
                if unit.attempt == 0:
                    self._figures.note_first_dispatch(now_utc - unit.accepted_utc)
                unit.attempt += 1
                unit.epoch = resource.epoch
                unit.dispatched_at = now
                self._go(unit, _SENT)
                message = Dispatch(resource.path, resource.epoch, unit.message())
                self.outbox.append((resource.pod, message))

    def take(self) -> tuple[Changes, Outbox, Moves]:
        """Hand over what has been collected; `note_durable` is told of the moves once they are."""
        collected = self.changes, self.outbox, self._moves
        self.changes, self.outbox, self._moves = Changes(), [], []
        return collected

    def note_durable(self, moves: Moves) -> None:
        """Count in the view what has become durable, not what is only decided."""
        units = self._view.units
        for before, after in moves:
            units[before] -= 1
            units[after] += 1

    # ── transitions ───────────────────────────────────────────────────────────────────────────

    def _advance(self, unit: QueuedUnit, completed: int) -> None:
        """Note how many commands are applied; a unit that gets further is not what its pod dies of."""
        if completed > unit.completed:
            unit.completed = completed
            if unit.pod_losses:
                self._note_pod_losses(unit, 0)

    def _note_pod_losses(self, unit: QueuedUnit, losses: int) -> None:
        unit.pod_losses = self.changes.pod_losses[unit.seq] = losses

    def _return(self, unit: QueuedUnit, reason: str, pause_s: float = 0.0) -> None:
        """Take back a unit that never began: that was no attempt."""
        unit.attempt -= 1
        verdict = recovery.after_return(unit, reason)
        if pause_s and verdict.state is _PENDING:
            again_utc = self._clock_utc() + pause_s
            verdict = Verdict(_PENDING, reason, "", again_utc)
        self._go(unit, verdict)

    def _go(
        self,
        unit: QueuedUnit,
        verdict: Verdict,
        detail: Mapping[str, object] | None = None,
        *,
        silent: bool = False,
    ) -> None:
        """Carry out a verdict: memory now, the journal with the next commit."""
        lane = unit.lane
        assert lane is not None, f"{unit.id} is over"
        resource = self._owner(lane)
        if verdict.state is not unit.state:
            self._count(resource, unit.state, -1)
            self._count(resource, verdict.state, 1)
            self._moves.append((unit.state, verdict.state))
        self._write(unit, verdict, lane.path, detail, silent=silent)
        if verdict.next_attempt_utc is not None:
            heapq.heappush(self._timers, (verdict.next_attempt_utc, unit.seq, unit.id))
        if verdict.state is _PENDING:
            self._dirty[lane.path] = resource
        elif verdict.state in TERMINAL:
            lane.remove(unit)
            del self.units[unit.id]
            if lane.queue:
                self._dirty[lane.path] = resource

    def _write(
        self,
        unit: QueuedUnit,
        verdict: Verdict,
        path: str,
        detail: Mapping[str, object] | None,
        *,
        silent: bool = False,
    ) -> None:
        state = unit.state = verdict.state
        unit.reason, unit.code = verdict.reason, verdict.code
        unit.next_attempt_utc = verdict.next_attempt_utc
        now_utc = self._clock_utc()
        epoch = _epoch_text(unit.epoch)
        changes = self.changes
        if state in TERMINAL:
            self._figures.note_end(state, now_utc - unit.accepted_utc)
        changes.units[unit.seq] = (
            unit.seq,
            _TEXTS[state],
            unit.completed,
            unit.attempt,
            unit.crashes,
            epoch,
            unit.reason,
            unit.code,
            now_utc,
            unit.next_attempt_utc,
        )
        if silent:
            return
        if not detail and not unit.reason:
            text = _ATTEMPTS[unit.attempt] if unit.attempt < 64 else f'{{"attempt":{unit.attempt}}}'
        else:
            text = _encode(_event_detail(unit, detail)).decode()
        changes.events.append((now_utc, _KINDS[state], unit.id, path, epoch, text))

    def _note(
        self, kind: str, subject: str, resource: ResourceView, detail: Mapping[str, object]
    ) -> None:
        text = _encode(detail).decode()
        row = (self._clock_utc(), kind, subject, resource.path, resource.epoch_text, text)
        self.changes.events.append(row)

    def _count(self, resource: ResourceView, state: UnitState, by: int) -> None:
        pod = resource.pod
        if state is _PENDING:
            resource.pending += by
            pod.pending += by
        elif state in _FLYING:
            resource.in_flight += by
            pod.in_flight += by


_STARTED = Verdict(_EXECUTING)
_SENT = Verdict(_DISPATCHED)
_SUCCEEDED = Verdict(UnitState.SUCCEEDED)
_epoch_texts: dict[Epoch, str] = {}


def _epoch_text(epoch: Epoch) -> str:
    """Encode an epoch; few are in use at a time, so the texts are kept."""
    text = _epoch_texts.get(epoch)
    if text is None:
        if len(_epoch_texts) > 100_000:
            _epoch_texts.clear()
        text = _epoch_texts[epoch] = _encode(epoch).decode()
    return text


def _event_detail(unit: QueuedUnit, detail: Mapping[str, object] | None) -> dict[str, object]:
    full: dict[str, object] = {"attempt": unit.attempt, **(detail or {})}
    if unit.reason:
        full["reason"] = unit.reason
    if unit.code:
        full["code"] = unit.code
    if unit.completed:
        full["completed"] = unit.completed
    if unit.next_attempt_utc is not None:
        full["next_attempt_utc"] = unit.next_attempt_utc
    return full
