"""The orchestrator: what the API can ask of the orchestration tier, and how the tier is put together.

It keeps nothing of its own: what is accepted is in the journal, what is known is in the view, what is
decided is decided by the dispatchers. After a restart all of it is rebuilt from the journal.

The module is longer than most: it is the whole of what the API may ask, one short method each.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from importlib.metadata import version

import msgspec
import structlog
from msgspec.structs import replace

from config import Infrastructure
from orchestration import configuration, problems, showing, submission
from orchestration.dispatcher import (
    Accepted,
    CancelUnit,
    Define,
    Dispatcher,
    Remove,
    ResetResource,
)
from orchestration.feed import Feed
from orchestration.figures import Figures
from orchestration.gateway import Gateway
from orchestration.journal.contract import (
    Acceptance,
    Changes,
    Committed,
    IdempotencyError,
    Journal,
    JournalError,
    JournalFullError,
    RevisionError,
)
from orchestration.journal.contract import Accepted as AcceptedUnit
from orchestration.lane import QueuedUnit
from orchestration.problems import ProblemError
from orchestration.processes import known_processes
from orchestration.records import (
    TERMINAL,
    ApplyAnswer,
    EventRecord,
    NodeRecord,
    PlanAnswer,
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
from orchestration.state_folder import StateFolder
from orchestration.verify import Difference, Present, verify
from orchestration.view import ResourceView, View, zone_of
from orchestration.zone_book import ZoneBook
from otp import Pid, Runtime

__all__ = ["Orchestrator"]

_REVALIDATIONS = 5
_encode = msgspec.json.encode
_log = structlog.get_logger(__name__)


class Orchestrator:
    """One orchestration node's whole tier, on one loop.

    Args:
        journal: not yet open.
        runtime: where the dispatchers live.
        figures: what the journal also reports its commits to.
        folder: where `serve` and the launcher name their processes.
        clock_utc: returns Unix seconds.
        metrics_address: shown in the status.
    """

    def __init__(
        self,
        journal: Journal,
        runtime: Runtime,
        *,
        figures: Figures,
        folder: StateFolder,
        clock_utc: Callable[[], float] = time.time,
        metrics_address: str = "",
    ) -> None:
        self._journal = journal
        self._runtime = runtime
        self._figures = figures
        self._folder = folder
        self._clock_utc = clock_utc
        self._metrics_address = metrics_address
        self._view = View(runtime.clock)
        self._feed = Feed(journal)
        self._dispatchers: dict[str, Pid] = {}
        self._started_at = runtime.clock()
        self._applying = asyncio.Lock()
        self._version = version("cloudctl")
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    # ── life ──────────────────────────────────────────────────────────────────────────────────

    def start(self) -> Gateway:
        """Open the journal, rebuild everything from it, and return the gateway that nodes may meet."""
        self._journal.open(self._accepted, self._committed)
        revision, body = self._journal.infrastructure()
        if revision:
            self._view.adopt(revision, msgspec.json.decode(body, type=Infrastructure))
        for row in self._journal.resources():
            self._view.restore(row)
        for name, (epoch, last) in self._journal.reporters().items():
            pod = self._view.pods.get(name)
            if pod is not None:
                pod.reported_epoch, pod.last_report = epoch, last
                pod.node.epoch = epoch
        for state, count in self._journal.counts().items():
            self._view.units[state] = count if state in TERMINAL else 0
        self._start_dispatchers(self._open_units())
        self._figures.events = self._journal.last_event()
        self._gateway = Gateway(self._view, self._journal, self._dispatcher, self._clock_utc)
        return self._gateway

    async def stop(self) -> None:
        """Meet no more nodes, and commit what is recorded."""
        self._gateway.close()
        await self._journal.close()

    @property
    def wants_devices(self) -> bool:
        """Whether a resource stands for a simulated device of the device service of our own."""
        return any(
            each.driver == "simulated" and not each.connect
            for _, pod in self._view.infrastructure.pods()
            for parts in (pod.templates, pod.resources)
            for each in parts
        )

    def _open_units(self) -> dict[str, list[QueuedUnit]]:
        by_zone: dict[str, list[QueuedUnit]] = {}
        unit_id = self._journal.unit_id
        for known in self._journal.open_units():
            unit = QueuedUnit.restored(unit_id(known.seq), known)
            by_zone.setdefault(zone_of(known.spec.resource), []).append(unit)
        return by_zone

    def _start_dispatchers(self, units: dict[str, list[QueuedUnit]]) -> None:
        """One per zone that is declared or still has units (to end those that have lost their resource)."""
        for path in [*self._view.zones, *units]:
            if path not in self._dispatchers:
                book = ZoneBook(self._view, self._figures, self._clock_utc, self._runtime.clock)
                book.restore(units.get(path, ()))
                dispatcher = Dispatcher(book, self._journal, self._clock_utc)
                pid = self._runtime.start(dispatcher, f"dispatcher {path}")
                self._dispatchers[path] = pid
                watch = asyncio.ensure_future(self._watch(path, pid))
                watch.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _watch(self, path: str, pid: Pid) -> None:
        """A dead dispatcher is not replaced alone: the node ends and is rebuilt from the journal."""
        reason = await self._runtime.exited(pid)
        if not self.failed.done():
            self.failed.set_result(f"the dispatcher of {path} ended: {reason}")

    def _dispatcher(self, zone: str) -> Pid:
        return self._dispatchers[zone]

    # ── work ──────────────────────────────────────────────────────────────────────────────────

    async def submit(self, specs: Sequence[UnitSpec], /) -> list[SubmitAnswer]:
        """Accept all of `specs` durably, or none.

        Raises:
            ProblemError: something is wrong with one of them, or the journal cannot take them.
        """
        if not specs:
            return []
        accepted = await self._accept(specs)
        before: dict[str, int] = {}
        answers = []
        for spec, unit in zip(specs, accepted, strict=True):
            resource = self._view.resources.get(spec.resource)
            queued = before.get(spec.resource)
            if queued is None:
                queued = 0 if resource is None else resource.queued_before(unit.seq)
            start_s = None
            if unit.replayed or resource is None:
                queued = 0
            else:
                start_s = submission.expected_start_s(resource, queued)
                before[spec.resource] = queued + 1
            answers.append(
                SubmitAnswer(
                    id=self._journal.unit_id(unit.seq),
                    resource=spec.resource,
                    state=unit.state,
                    seq=unit.seq,
                    queued_before=queued,
                    expected_start_s=start_s,
                    replayed=unit.replayed,
                )
            )
        return answers

    async def _accept(self, specs: Sequence[UnitSpec]) -> list[AcceptedUnit]:
        for _ in range(_REVALIDATIONS):
            checked = submission.check(self._view, specs)
            if checked.errors:
                raise _refused(checked.errors)
            try:
                return await self._journal.accept(
                    specs,
                    on_demand=tuple(checked.on_demand),
                    revision=self._view.revision,
                    at_utc=self._clock_utc(),
                )
            except RevisionError:
                await asyncio.sleep(0)  # an apply came between: look at the units again
            except IdempotencyError as error:
                item = problems.KEY_REUSED.item(error.index, str(error))
                raise _refused([item]) from error
            except JournalError as error:
                raise _storage(error) from error
        raise problems.NOT_READY.error("the infrastructure is being changed")

    def _accepted(self, acceptance: Acceptance) -> None:
        """Queue what has just become durable, in order of acceptance."""
        on_demand: dict[str, list[str]] = {}
        for path in acceptance.on_demand:
            on_demand.setdefault(zone_of(path), []).append(path)
        by_zone: dict[str, list[QueuedUnit]] = {zone: [] for zone in on_demand}
        unit_id = self._journal.unit_id
        count = 0
        for spec, answer in zip(acceptance.specs, acceptance.answers, strict=True):
            if not answer.replayed:
                unit = QueuedUnit(unit_id(answer.seq), answer.seq, spec, acceptance.at_utc)
                by_zone.setdefault(zone_of(spec.resource), []).append(unit)
                count += 1
        self._figures.note_accepted(count)
        for zone, units in by_zone.items():
            fresh = [
                resource
                for path in on_demand.get(zone, ())
                if path not in self._view.resources
                and (resource := self._view.create_on_demand(path)) is not None
            ]
            self._dispatchers[zone].cast(Accepted(units, fresh))

    def _committed(self, batch: Committed) -> None:
        self._figures.events += len(batch.rows)
        self._feed.committed(batch)

    def unit(self, unit_id: str, /) -> UnitRecord:
        """One unit.

        Raises:
            ProblemError: there is none with this id.
        """
        seq = self._journal.unit_seq(unit_id)
        record = None if seq is None else self._journal.unit(seq)
        if record is None:
            raise problems.NO_SUCH_UNIT.error(f"there is no unit {unit_id!r}")
        return self._explained(record)

    async def units(
        self, state: UnitState | None, resource: str | None, limit: int, cursor: str | None, /
    ) -> tuple[list[UnitRecord], str | None]:
        """Units in order of acceptance, and the cursor of the next page."""
        after = _number(cursor)
        found = self._journal.units(state=state, resource=resource, after=after, limit=limit + 1)
        records = [self._explained(record) for record in found[:limit]]
        return records, str(records[-1].seq) if len(found) > limit else None

    async def cancel(self, unit_id: str, /) -> UnitRecord:
        """Cancel a unit, or have it stopped at the next border between its commands.

        The answer is durable: a record that is not cancelled yet has `cancel_requested`, and no command of
        it is begun after the one in hand.

        Raises:
            ProblemError: there is none, it is over, or the journal is in trouble.
        """
        record = self.unit(unit_id)
        if record.state in TERMINAL:
            raise problems.ALREADY_FINISHED.error(f"{unit_id} is {record.state.value}")
        if self._journal.trouble:
            raise problems.JOURNAL_FAILED.error(self._journal.trouble)
        dispatcher = self._dispatchers[zone_of(record.resource)]
        # A task of its own: if the client goes away meanwhile, the cancellation stands.
        answer = await asyncio.shield(
            asyncio.ensure_future(_answer(dispatcher, CancelUnit(unit_id)))
        )
        record = self.unit(unit_id)
        if answer == "over" and record.state is not UnitState.CANCELLED:
            raise problems.ALREADY_FINISHED.error(f"{unit_id} is {record.state.value}")
        return record

    async def wait(self, ids: Sequence[str], timeout_s: float, /) -> tuple[bool, list[UnitRecord]]:
        """Wait until all of `ids` have come to their end, at most so long; answers as they are then."""
        for unit_id in ids:
            self.unit(unit_id)
        done = await self._feed.ended(ids, timeout_s)
        return done, [self.unit(unit_id) for unit_id in ids]

    def _explained(self, record: UnitRecord) -> UnitRecord:
        """Say why an unfinished unit is where it is, as of now."""
        reason = showing.explanation(self._view, record, self._clock_utc())
        return record if reason == record.reason else replace(record, reason=reason)

    # ── infrastructure ────────────────────────────────────────────────────────────────────────

    def plan(self, infrastructure: Infrastructure, /) -> PlanAnswer:
        """Say what `apply` would change."""
        _require_valid(infrastructure)
        return configuration.plan(self._view, infrastructure)

    async def apply(
        self,
        infrastructure: Infrastructure,
        if_match: int | None,
        cancel_work: bool,  # noqa: FBT001 (a field of the request)
        /,
    ) -> ApplyAnswer:
        """Make `infrastructure` the declared one.

        Raises:
            ProblemError: it is not valid, the revision has moved, or work would go.
        """
        _require_valid(infrastructure)
        async with self._applying:
            revision = self._view.revision
            if if_match is not None and if_match != revision:
                raise problems.STALE_REVISION.error(
                    f"the plan was made for revision {if_match}, it is {revision} now"
                )
            answer = configuration.plan(self._view, infrastructure)
            if revision and not answer.changes:
                return ApplyAnswer(revision=revision, plan=answer)
            self._refuse_loss(infrastructure, cancel_work=cancel_work)
            revision = await self._save(infrastructure, answer)
            self._follow(revision, infrastructure)
            return ApplyAnswer(revision=revision, plan=answer)

    def _refuse_loss(self, infrastructure: Infrastructure, *, cancel_work: bool) -> None:
        going = configuration.work_that_would_go(self._view, infrastructure)
        if going and not cancel_work:
            units = sum(each.pending + each.in_flight for each in going)
            errors = [
                {"resource": each.path, "pending": each.pending, "in_flight": each.in_flight}
                for each in going[:20]
            ]
            raise problems.WORK_WOULD_GO.error(
                f"{len(going)} resources with {units} unfinished units would be removed, "
                f"the first is {going[0].path}",
                errors=errors,
            )

    async def _save(self, infrastructure: Infrastructure, answer: PlanAnswer) -> int:
        now_utc = self._clock_utc()
        counts = {"add": answer.add, "change": answer.change, "destroy": answer.destroy}
        changes = Changes()
        subject = str(answer.revision + 1)
        row = (now_utc, "infrastructure.applied", subject, "", "", _encode(counts).decode())
        changes.events.append(row)
        for path in [each.path for each in answer.changes if each.action == "replace"]:
            known = self._view.resources.get(path)
            if known is not None:  # nothing is held of the device that takes its place
                changes.resources[path] = known.row_of_another_device()
        try:
            return await self._journal.save_infrastructure(
                _encode(infrastructure),
                expected=answer.revision,
                changes=changes,
                at_utc=now_utc,
            )
        except RevisionError as error:
            raise problems.STALE_REVISION.error(str(error)) from error
        except JournalError as error:
            raise _storage(error) from error

    def _follow(self, revision: int, infrastructure: Infrastructure) -> None:
        """Tell dispatchers and root of the revision that is durable now."""
        difference = self._view.adopt(revision, infrastructure)
        self._start_dispatchers({})
        for path in [
            *(zone.path for zone in difference.zones),
            *(pod.path for pod in difference.pods),
        ]:
            self._view.nodes.pop(path, None)
        removed: dict[str, list[ResourceView]] = {}
        for resource in difference.removed:
            removed.setdefault(zone_of(resource.path), []).append(resource)
        for zone, resources in removed.items():
            self._dispatchers[zone].cast(Remove(resources))
        changed: dict[str, list[ResourceView]] = {path: [] for path in self._view.zones}
        for resource in (*difference.added, *difference.changed):
            changed[zone_of(resource.path)].append(resource)
        for path, resources in changed.items():
            pods = tuple(self._view.zones[path].pods.values())
            self._dispatchers[path].cast(Define(resources, pods))
        self._gateway.set_tree()

    def infrastructure(self) -> tuple[int, Infrastructure]:
        """The revision in force and what it declares."""
        return self._view.revision, self._view.infrastructure

    # ── the view ──────────────────────────────────────────────────────────────────────────────

    def regions(self) -> list[RegionRecord]:
        """Every region."""
        return showing.regions(self._view)

    def zones(self) -> list[ZoneRecord]:
        """Every zone."""
        return [showing.zone(zone) for zone in self._view.zones.values()]

    def pods(self) -> list[PodRecord]:
        """Every pod."""
        now = self._view.clock()
        return [showing.pod(pod, now) for pod in self._view.pods.values()]

    def nodes(self) -> list[NodeRecord]:
        """Every OS process of the system."""
        now = self._view.clock()
        around = {each.name: each for each in known_processes(self._folder.run)}
        written = around.get("orchestration")
        around["orchestration"] = NodeRecord(
            name="orchestration",
            kind="orchestration",
            pid=os.getpid(),
            state="up",
            restarts=0 if written is None else written.restarts,
            age_s=0.0,
        )
        return [*around.values(), *(node.record(now) for node in self._view.nodes.values())]

    def resources(
        self, prefix: str, limit: int, cursor: str | None, /
    ) -> tuple[list[ResourceRecord], str | None]:
        """Resources by path, and the cursor of the next page."""
        return showing.page(self._view, prefix, limit, cursor)

    def resource(self, path: str, /) -> ResourceRecord:
        """One resource.

        Raises:
            ProblemError: there is none at this path.
        """
        resource = self._view.resources.get(path)
        if resource is None:
            raise problems.NO_SUCH_RESOURCE.error(f"there is no resource {path!r}")
        return resource.record(self._view.clock())

    async def reset(self, path: str, /) -> ResourceRecord:
        """Have a resource tried again that was set aside.

        Raises:
            ProblemError: there is none at this path, it is not set aside, or the journal is in trouble.
        """
        record = self.resource(path)
        if self._journal.trouble:
            raise problems.JOURNAL_FAILED.error(self._journal.trouble)
        request = ResetResource(self._view.resources[path])
        if not await _answer(self._dispatchers[zone_of(path)], request):
            raise problems.NOT_SET_ASIDE.error(f"{path} is {record.state}")
        return self.resource(path)

    # ── the log ───────────────────────────────────────────────────────────────────────────────

    async def events(
        self, after: int, limit: int, subject: str | None, resource: str | None, kind: str | None, /
    ) -> list[EventRecord]:
        """Events after number `after`."""
        return self._journal.events(
            after=after, limit=limit, subject=subject, resource=resource, kind=kind
        )

    def subscribe(self, after: int, /) -> AsyncIterator[EventRecord]:
        """Every event after number `after`, as it becomes durable, for ever."""
        return self._feed.follow(after)

    async def verify(self) -> VerifyAnswer:
        """Replay the log and judge every promise, beside the loop."""
        return await asyncio.to_thread(self._verify, self._present())

    def _verify(self, present: Present) -> VerifyAnswer:
        with self._journal.replay() as replay:
            return verify(replay.events(), present, replay.units())

    def _present(self) -> Present:
        now = self._view.clock()
        known = [each for each in self._view.resources.values() if each.in_sync is not None]
        differences = []
        for each in known:
            held = each.observed if each.exists else {}
            if held != each.desired:
                age_s = None if each.observed_at is None else now - each.observed_at
                differences.append(Difference(each.path, age_s, is_listed=each.in_sync is False))
        refused = sum(pod.stats.stale_epochs for pod in self._view.pods.values() if pod.stats)
        return Present(len(known), differences, refused)

    def status(self) -> ServerStatus:
        """One screen of health."""
        nodes: dict[str, int] = {}
        for node in self.nodes():
            nodes[node.state] = nodes.get(node.state, 0) + 1
        return ServerStatus(
            version=self._version,
            state_folder=str(self._folder.path),
            pid=os.getpid(),
            revision=self._view.revision,
            uptime_s=round(self._runtime.clock() - self._started_at, 3),
            units={state.value: count for state, count in self._view.units.items()},
            resources=showing.resource_states(self._view),
            nodes=nodes,
            accepts_per_s=self._figures.accepts_per_s(),
            metrics=self._metrics_address,
        )

    def metrics(self) -> bytes:
        """What Prometheus reads."""
        now_utc = self._clock_utc()
        oldest = self._journal.units(state=UnitState.PENDING, resource=None, after=0, limit=1)
        return self._figures.scrape(
            self._view,
            self.nodes(),
            version=self._version,
            oldest_pending_age_s=max(0.0, now_utc - oldest[0].accepted_utc) if oldest else 0.0,
            now_utc=now_utc,
        )


async def _answer(dispatcher: Pid, request: CancelUnit | ResetResource) -> object:
    return await dispatcher.call(request, None)


def _require_valid(infrastructure: Infrastructure) -> None:
    faults = configuration.faults(infrastructure)
    if faults:
        raise problems.BAD_INFRASTRUCTURE.error(
            faults[0], errors=[{"message": fault} for fault in faults[:20]]
        )


def _refused(errors: list[dict[str, object]]) -> ProblemError:
    first = errors[0]
    number = int(str(first["index"])) + 1  # people count from 1
    text = f"{len(errors)} refused, the first is unit {number}: {first['message']}"
    return problems.BATCH_REFUSED.error(text, hint=str(first["hint"]), errors=errors)


def _storage(error: JournalError) -> ProblemError:
    kind = problems.DISK_FULL if isinstance(error, JournalFullError) else problems.JOURNAL_FAILED
    return kind.error(str(error))


def _number(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit()):
        raise problems.BAD_CURSOR.error(f"the cursor is {cursor!r}")
    return int(cursor)
