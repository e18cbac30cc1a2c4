"""What each route of the API does: take a decoded call, ask the orchestrator, shape the answer."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from starlette.responses import Response

from config.model import Infrastructure
from orchestration import problems
from orchestration.actor import ACTOR
from orchestration.api_messages import (
    ApplyRequest,
    EventsQuery,
    InfrastructureAnswer,
    NoQuery,
    Orchestration,
    Page,
    PartitionsQuery,
    ResourcesQuery,
    UnitQuery,
    UnitsQuery,
    WaitAnswer,
    WaitRequest,
)
from orchestration.api_routes import Call, json_response
from orchestration.api_stream import EventStream, Streams
from orchestration.records import (
    EventRecord,
    NodeRecord,
    PodRecord,
    RegionRecord,
    ResourceRecord,
    ServerStatus,
    SubmitAnswer,
    UnitRecord,
    UnitSpec,
    VerifyAnswer,
    ZoneRecord,
)

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_log = structlog.get_logger("api")


async def submit(
    orchestrator: Orchestration, call: Call[NoQuery, list[UnitSpec]]
) -> list[SubmitAnswer]:
    units = call.body
    key = call.request.headers.get("idempotency-key")
    return await orchestrator.submit(units if key is None else [_with_key(units, key)])


def _with_key(units: list[UnitSpec], key: str) -> UnitSpec:
    if len(units) != 1:
        raise problems.BAD_HEADER.error(
            f"Idempotency-Key is for one unit, the body has {len(units)}",
            hint="give each unit its own `idempotency_key`",
        )
    spec = units[0]
    if spec.idempotency_key not in {None, key}:
        raise problems.BAD_HEADER.error(
            f"Idempotency-Key {key!r} is not the unit's {spec.idempotency_key!r}"
        )
    if not (0 < len(key) <= 255 and key.isprintable()):
        raise problems.BAD_KEY.error(f"idempotency key {key[:40]!r} ({len(key)} long)")
    return UnitSpec(
        resource=spec.resource,
        commands=spec.commands,
        on_failure=spec.on_failure,
        idempotency_key=key,
        command_deadline_s=spec.command_deadline_s,
    )


async def units(orchestrator: Orchestration, call: Call[UnitsQuery, None]) -> Page[UnitRecord]:
    query = call.query
    items, cursor = await orchestrator.units(query.state, query.resource, query.limit, query.cursor)
    return Page(items=items, next=cursor)


async def unit(orchestrator: Orchestration, call: Call[UnitQuery, None]) -> UnitRecord:
    record = orchestrator.unit(call.path("id"))
    if call.query.wait > 0:
        _, (record,) = await orchestrator.wait([record.id], call.query.wait)
    return record


async def cancel(orchestrator: Orchestration, call: Call[NoQuery, None]) -> UnitRecord:
    record = await orchestrator.cancel(call.path("id"))
    _log.info("unit cancelled", unit=record.id, resource=record.resource, actor=_actor())
    return record


async def wait(orchestrator: Orchestration, call: Call[NoQuery, WaitRequest]) -> WaitAnswer:
    done, items = await orchestrator.wait(call.body.ids, call.body.timeout_s)
    return WaitAnswer(done=done, items=items)


async def regions(
    orchestrator: Orchestration, call: Call[PartitionsQuery, None]
) -> Page[RegionRecord]:
    prefix = call.query.prefix
    return Page(
        items=[record for record in orchestrator.regions() if record.path.startswith(prefix)]
    )


async def zones(orchestrator: Orchestration, call: Call[PartitionsQuery, None]) -> Page[ZoneRecord]:
    prefix = call.query.prefix
    return Page(items=[record for record in orchestrator.zones() if record.path.startswith(prefix)])


async def pods(orchestrator: Orchestration, call: Call[PartitionsQuery, None]) -> Page[PodRecord]:
    prefix = call.query.prefix
    return Page(items=[record for record in orchestrator.pods() if record.path.startswith(prefix)])


async def nodes(orchestrator: Orchestration, call: Call[PartitionsQuery, None]) -> Page[NodeRecord]:
    prefix = call.query.prefix
    return Page(items=[record for record in orchestrator.nodes() if record.name.startswith(prefix)])


async def resources(
    orchestrator: Orchestration, call: Call[ResourcesQuery, None]
) -> Page[ResourceRecord]:
    items, cursor = orchestrator.resources(call.query.prefix, call.query.limit, call.query.cursor)
    return Page(items=items, next=cursor)


async def resource(orchestrator: Orchestration, call: Call[NoQuery, None]) -> ResourceRecord:
    return orchestrator.resource(call.path("path"))


async def reset(orchestrator: Orchestration, call: Call[NoQuery, None]) -> ResourceRecord:
    record = await orchestrator.reset(call.path("path"))
    _log.info("resource reset", resource=record.path, actor=_actor())
    return record


async def events(
    orchestrator: Orchestration, call: Call[EventsQuery, None]
) -> Page[EventRecord] | EventStream:
    query = call.query
    if "text/event-stream" in call.request.headers.get("accept", ""):
        after = _last_event_id(call.request.headers, query.after)
        streams: Streams = call.request.app.state.streams
        return EventStream(
            orchestrator.subscribe(after), lambda event: _matches(event, query), streams
        )
    items = await orchestrator.events(
        query.after, query.limit, query.subject, query.resource, query.kind
    )
    return Page(items=items, next=str(items[-1].seq) if len(items) == query.limit else None)


def _last_event_id(headers: Mapping[str, str], after: int) -> int:
    given = headers.get("last-event-id")
    if given is None:
        return after
    if not given.isdigit():
        raise problems.BAD_HEADER.error(f"Last-Event-ID is {given!r}, not a sequence number")
    return int(given)


def _matches(event: EventRecord, query: EventsQuery) -> bool:
    return (
        query.subject in {None, event.subject}
        and query.resource in {None, event.resource}
        and query.kind in {None, event.kind}
    )


async def plan(orchestrator: Orchestration, call: Call[NoQuery, Infrastructure]) -> Response:
    answer = orchestrator.plan(call.body)
    return json_response(answer, headers=_etag(answer.revision))


async def apply(orchestrator: Orchestration, call: Call[NoQuery, ApplyRequest]) -> Response:
    if_match = _if_match(call.request.headers)
    answer = await orchestrator.apply(call.body.infrastructure, if_match, call.body.cancel_work)
    _log.info("infrastructure applied", revision=answer.revision, actor=_actor())
    return json_response(answer, headers=_etag(answer.revision))


async def infrastructure(orchestrator: Orchestration, _call: Call[NoQuery, None]) -> Response:
    revision, infrastructure = orchestrator.infrastructure()
    answer = InfrastructureAnswer(revision=revision, infrastructure=infrastructure)
    return json_response(answer, headers=_etag(revision))


def _etag(revision: int) -> dict[str, str]:
    return {"ETag": f'"{revision}"'}


def _if_match(headers: Mapping[str, str]) -> int | None:
    """Read the revision the caller planned against; None when any will do."""
    given = headers.get("if-match")
    if given is None or given.strip() == "*":
        return None
    revision = given.strip().removeprefix('"').removesuffix('"')
    if not revision.isdigit():
        raise problems.BAD_HEADER.error(
            f"If-Match is {given!r}", hint='send the ETag of the plan, for example "7"'
        )
    return int(revision)


async def verify(orchestrator: Orchestration, _call: Call[NoQuery, None]) -> VerifyAnswer:
    return await orchestrator.verify()


async def status(orchestrator: Orchestration, _call: Call[NoQuery, None]) -> ServerStatus:
    return orchestrator.status()


async def healthz(_orchestrator: Orchestration, _call: Call[NoQuery, None]) -> dict[str, str]:
    return {"status": "alive"}


async def readyz(orchestrator: Orchestration, call: Call[NoQuery, None]) -> dict[str, str]:
    streams: Streams = call.request.app.state.streams
    if streams.closing:
        raise problems.NOT_READY.error("the server is stopping")
    orchestrator.status()  # raises while the journal is being read
    return {"status": "ready"}


async def metrics(orchestrator: Orchestration, _call: Call[NoQuery, None]) -> Response:
    return Response(orchestrator.metrics(), media_type=METRICS_TYPE)


def _actor() -> str:
    actor = ACTOR.get()
    return "nobody known" if actor is None else f"uid {actor.uid} (pid {actor.pid})"
