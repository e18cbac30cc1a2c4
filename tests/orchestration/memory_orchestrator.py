"""An orchestrator in memory: the same methods and refusals, no journal and no pods.

Units stay pending until a test finishes them; every change is an event, as in the real one.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress

import msgspec

from config.model import Infrastructure
from orchestration import problems
from orchestration.actor import ACTOR, Actor
from orchestration.records import (
    TERMINAL,
    ApplyAnswer,
    EventRecord,
    InvariantRecord,
    NodeRecord,
    PlanAnswer,
    PlanChange,
    PodRecord,
    RegionRecord,
    ResourceRecord,
    ServerStatus,
    SubmitAnswer,
    UnitRecord,
    UnitSpec,
    UnitState,
    VerifyAnswer,
    ZoneRecord,
)


class MemoryOrchestrator:
    def __init__(self) -> None:
        self.declared = Infrastructure(name="nothing")
        self.revision = 0
        self.records: dict[str, UnitRecord] = {}
        self.keys: dict[str, str] = {}
        self.log: list[EventRecord] = []
        self.actors: list[Actor | None] = []
        self.batches: list[int] = []
        self.finish_at_once = False
        self.resource_state = "ready"
        self.aside: set[str] = set()  # set aside, whatever `resource_state` says
        self.on_demand = 0  # resources of each pod that are not declared, and not ready
        self.full = False
        self.grown = asyncio.Condition()
        self.subscribers = 0

    async def submit(self, specs: Sequence[UnitSpec]) -> list[SubmitAnswer]:
        self.actors.append(ACTOR.get())
        self.batches.append(len(specs))
        if self.full:
            raise problems.DISK_FULL.error("journal.db: no space left on device")
        known = {path for path, _, _ in self._paths()}
        errors = [
            problems.UNKNOWN_RESOURCE.item(index, f"no resource {spec.resource!r}")
            for index, spec in enumerate(specs)
            if spec.resource not in known
        ]
        if errors:
            raise problems.BATCH_REFUSED.error(f"{len(errors)} of {len(specs)}", errors=errors)
        answers = [self._accept(spec) for spec in specs]
        await self._told()
        return answers

    def _accept(self, spec: UnitSpec) -> SubmitAnswer:
        known = self.records.get(self.keys.get(spec.idempotency_key or "", ""))
        if known is not None:
            if (known.resource, known.commands) != (spec.resource, spec.commands):
                raise problems.KEY_REUSED.error(f"{spec.idempotency_key!r} is of unit {known.id}")
            return SubmitAnswer(
                id=known.id,
                resource=known.resource,
                state=known.state,
                seq=known.seq,
                replayed=True,
            )
        seq = len(self.records) + 1
        record = UnitRecord(
            id=f"u-{seq:06}",
            seq=seq,
            resource=spec.resource,
            state=UnitState.SUCCEEDED if self.finish_at_once else UnitState.PENDING,
            commands=spec.commands,
            on_failure=spec.on_failure,
            idempotency_key=spec.idempotency_key,
            accepted_utc=time.time(),
            changed_utc=time.time(),
        )
        self.records[record.id] = record
        if spec.idempotency_key:
            self.keys[spec.idempotency_key] = record.id
        self._event(f"unit.{record.state.value}", record.id, record.resource)
        return SubmitAnswer(id=record.id, resource=record.resource, state=record.state, seq=seq)

    async def finish(
        self, unit_id: str, state: UnitState = UnitState.SUCCEEDED, reason: str = ""
    ) -> None:
        record = msgspec.structs.replace(self.unit(unit_id), state=state, reason=reason)
        self.records[unit_id] = record
        self._event(f"unit.{state.value}", unit_id, record.resource)
        await self._told()

    def unit(self, unit_id: str) -> UnitRecord:
        if unit_id not in self.records:
            raise problems.NO_SUCH_UNIT.error(f"unit {unit_id!r}")
        return self.records[unit_id]

    async def units(
        self, state: UnitState | None, resource: str | None, limit: int, cursor: str | None
    ) -> tuple[list[UnitRecord], str | None]:
        found = [
            record
            for record in self.records.values()
            if (state is None or record.state is state)
            and (resource is None or record.resource == resource)
            and record.seq > int(cursor or 0)
        ]
        return found[:limit], str(found[limit - 1].seq) if len(found) > limit else None

    async def cancel(self, unit_id: str) -> UnitRecord:
        self.actors.append(ACTOR.get())
        if self.unit(unit_id).state in TERMINAL:
            raise problems.ALREADY_FINISHED.error(f"{unit_id} is {self.unit(unit_id).state.value}")
        await self.finish(unit_id, UnitState.CANCELLED)
        return self.unit(unit_id)

    async def wait(self, ids: Sequence[str], timeout_s: float) -> tuple[bool, list[UnitRecord]]:
        def over() -> bool:
            return all(self.unit(unit_id).state in TERMINAL for unit_id in ids)

        async with self.grown:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.grown.wait_for(over), timeout_s)
        return over(), [self.unit(unit_id) for unit_id in ids]

    def plan(self, infrastructure: Infrastructure) -> PlanAnswer:
        before = {path: record for path, record, _ in self._paths()}
        after = {path: record for path, record, _ in self._paths(infrastructure)}
        changes = [
            PlanChange(action="destroy", kind="resource", path=path, queued=self._queued(path))
            for path in before.keys() - after.keys()
        ]
        changes += [
            PlanChange(action="create", kind="resource", path=path)
            for path in sorted(after.keys() - before.keys())
        ]
        changes += [
            PlanChange(
                action="update",
                kind="resource",
                path=path,
                detail=(f"config: {before[path].config} -> {after[path].config}",),
            )
            for path in sorted(before.keys() & after.keys())
            if before[path] != after[path]
        ]
        count = {
            action: sum(change.action == action for change in changes)
            for action in ("create", "update", "destroy")
        }
        return PlanAnswer(
            revision=self.revision,
            changes=tuple(changes),
            add=count["create"],
            change=count["update"],
            destroy=count["destroy"],
        )

    async def apply(
        self, infrastructure: Infrastructure, if_match: int | None, cancel_work: bool
    ) -> ApplyAnswer:
        self.actors.append(ACTOR.get())
        if if_match is not None and if_match != self.revision:
            raise problems.STALE_REVISION.error(f"revision is {self.revision}, not {if_match}")
        plan = self.plan(infrastructure)
        busy = [change.path for change in plan.changes if change.queued]
        if busy and not cancel_work:
            raise problems.WORK_WOULD_GO.error(", ".join(busy))
        self.declared = infrastructure
        self.revision += 1
        self._event("infrastructure.applied", str(self.revision))
        await self._told()
        return ApplyAnswer(revision=self.revision, plan=plan)

    def infrastructure(self) -> tuple[int, Infrastructure]:
        return self.revision, self.declared

    def regions(self) -> list[RegionRecord]:
        return [
            RegionRecord(path=region.name, zones=len(region.zones))
            for region in self.declared.regions
        ]

    def zones(self) -> list[ZoneRecord]:
        return [
            ZoneRecord(path=f"{region.name}/{zone.name}", state="up", pods=len(zone.pods))
            for region in self.declared.regions
            for zone in region.zones
        ]

    def pods(self) -> list[PodRecord]:
        return [
            PodRecord(
                path=path,
                state="up",
                pid=1,
                strategy=pod.supervision.strategy.value,
                resources=len(pod.resources) + self.on_demand,
                ready=sum(self._state(f"{path}/{each.name}") == "ready" for each in pod.resources),
            )
            for path, pod in self.declared.pods()
        ]

    def nodes(self) -> list[NodeRecord]:
        return [
            NodeRecord(name="serve", kind="serve", pid=10, state="up"),
            NodeRecord(name="eu/a/rack-1", kind="pod", pid=11, state="up", epoch=(1, 2, 3)),
        ]

    def resources(
        self, prefix: str, limit: int, cursor: str | None
    ) -> tuple[list[ResourceRecord], str | None]:
        paths = [
            path
            for path, _, _ in self._paths()
            if path.startswith(prefix) and (cursor is None or path > cursor)
        ]
        found = [self.resource(path) for path in paths[:limit]]
        return found, paths[limit - 1] if len(paths) > limit else None

    def resource(self, path: str) -> ResourceRecord:
        for known, resource, _ in self._paths():
            if known == path:
                return ResourceRecord(
                    path=path,
                    kind=resource.kind,
                    driver=resource.driver,
                    state=self._state(path),
                    epoch=(1, 1, 1, 1),
                    pending=self._queued(path),
                    config=resource.config,
                )
        raise problems.NO_SUCH_RESOURCE.error(f"resource {path!r}")

    def _state(self, path: str) -> str:
        return "set_aside" if path in self.aside else self.resource_state

    async def reset(self, path: str) -> ResourceRecord:
        self.actors.append(ACTOR.get())
        record = self.resource(path)
        if record.state != "set_aside":
            raise problems.NOT_SET_ASIDE.error(f"{path} is {record.state}")
        self.resource_state = "ready"
        return self.resource(path)

    async def events(
        self, after: int, limit: int, subject: str | None, resource: str | None, kind: str | None
    ) -> list[EventRecord]:
        return [
            event
            for event in self.log[max(after, 0) :]
            if subject in {None, event.subject}
            and resource in {None, event.resource}
            and kind in {None, event.kind}
        ][:limit]

    async def subscribe(self, after: int) -> AsyncIterator[EventRecord]:
        self.subscribers += 1
        try:
            if after > len(self.log):
                after = len(self.log)
                yield EventRecord(seq=after, at_utc=0.0, kind="log.resync", subject="")
            while True:
                for event in self.log[after:]:
                    yield event
                    after = event.seq
                async with self.grown:
                    await self.grown.wait_for(lambda: len(self.log) > after)  # noqa: B023 (read now)
        finally:
            self.subscribers -= 1

    async def verify(self) -> VerifyAnswer:
        return VerifyAnswer(
            holds=True,
            events=len(self.log),
            units=len(self.records),
            unfinished=sum(record.state not in TERMINAL for record in self.records.values()),
            invariants=(InvariantRecord(name="I1", holds=True, checked=len(self.records)),),
        )

    def status(self) -> ServerStatus:
        return ServerStatus(
            version="0",
            state_folder="/nowhere",
            pid=1,
            revision=self.revision,
            uptime_s=1.0,
            units={},
            resources=Counter(self._state(path) for path, _, _ in self._paths()),
            nodes={"up": 2},
        )

    def metrics(self) -> bytes:
        return b"# TYPE cloudctl_units gauge\ncloudctl_units 1\n"

    def _event(self, kind: str, subject: str, resource: str = "") -> None:
        seq = len(self.log) + 1
        self.log.append(
            EventRecord(seq=seq, at_utc=time.time(), kind=kind, subject=subject, resource=resource)
        )

    async def _told(self) -> None:
        async with self.grown:
            self.grown.notify_all()

    def _queued(self, path: str) -> int:
        return sum(
            record.resource == path and record.state not in TERMINAL
            for record in self.records.values()
        )

    def _paths(
        self, infrastructure: Infrastructure | None = None
    ) -> Iterator[tuple[str, object, str]]:
        declared = self.declared if infrastructure is None else infrastructure
        return iter(
            sorted(
                (f"{path}/{resource.name}", resource, path)
                for path, pod in declared.pods()
                for resource in pod.resources
            )
        )
