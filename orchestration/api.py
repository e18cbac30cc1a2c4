"""The HTTP API: one table of typed routes over the orchestrator, problems as RFC 9457 documents.

The orchestration node builds it once and serves it on the unix socket. It keeps nothing: every answer
comes from the orchestrator, so a restart loses only open connections.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from config.model import Infrastructure
from orchestration import api_handlers as handlers
from orchestration import problems
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
from orchestration.api_openapi import document
from orchestration.api_routes import TypedRoute, json_response, problem_response
from orchestration.api_server import serve
from orchestration.api_stream import Streams
from orchestration.records import (
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
    VerifyAnswer,
    ZoneRecord,
)

__all__ = ["build", "serve"]


def build(orchestrator: Orchestration) -> Starlette:
    """Make the application; `serve` runs it. Its event streams are at `app.state.streams`."""
    routes = [route.starlette(orchestrator) for route in ROUTES]
    app = Starlette(
        routes=[*routes, Route("/openapi.json", _openapi, methods=["GET"])],
        exception_handlers={HTTPException: _http_problem, Exception: _internal_problem},
    )
    app.state.streams = Streams()
    return app


async def _openapi(_request: Request) -> Response:
    return json_response(document(ROUTES, version("cloudctl")))


async def _http_problem(request: Request, error: Exception) -> Response:
    """Answer Starlette's own refusals (no such route, wrong method) as problems."""
    path = request.url.path
    if isinstance(error, HTTPException) and error.status_code == problems.METHOD_NOT_ALLOWED.status:
        return problem_response(problems.METHOD_NOT_ALLOWED.problem(f"{request.method} {path}"))
    return problem_response(problems.NO_SUCH_ROUTE.problem(path))


async def _internal_problem(request: Request, error: Exception) -> Response:
    """Say that it is our fault; the server logs the traceback."""
    detail = f"{type(error).__name__} while handling {request.method} {request.url.path}"
    return problem_response(problems.INTERNAL.problem(detail))


ROUTES: tuple[TypedRoute[Any, Any], ...] = (
    TypedRoute(
        method="POST",
        path="/v1/work",
        summary="Submit units of work; all or none are accepted",
        handler=handlers.submit,
        query=NoQuery,
        body=list[UnitSpec],
        answer=list[SubmitAnswer],
        status=202,
        problems=(
            problems.MALFORMED_BODY,
            problems.UNSUPPORTED_MEDIA,
            problems.BODY_TOO_LARGE,
            problems.TOO_MANY_UNITS,
            problems.BATCH_REFUSED,
            problems.KEY_REUSED,
            problems.DISK_FULL,
            problems.JOURNAL_FAILED,
        ),
    ),
    TypedRoute(
        method="GET",
        path="/v1/work",
        summary="List units of work in the order of their acceptance",
        handler=handlers.units,
        query=UnitsQuery,
        answer=Page[UnitRecord],
        problems=(problems.BAD_QUERY, problems.BAD_CURSOR),
    ),
    TypedRoute(
        method="POST",
        path="/v1/work/wait",
        summary="Wait until units of work have come to their end",
        handler=handlers.wait,
        query=NoQuery,
        body=WaitRequest,
        answer=WaitAnswer,
        problems=(problems.MALFORMED_BODY, problems.NO_SUCH_UNIT),
    ),
    TypedRoute(
        method="GET",
        path="/v1/work/{id}",
        summary="Show a unit of work, at once or when it has come to its end",
        handler=handlers.unit,
        query=UnitQuery,
        answer=UnitRecord,
        problems=(problems.BAD_QUERY, problems.NO_SUCH_UNIT),
    ),
    TypedRoute(
        method="POST",
        path="/v1/work/{id}/cancel",
        summary="Cancel a unit of work",
        handler=handlers.cancel,
        query=NoQuery,
        answer=UnitRecord,
        problems=(problems.NO_SUCH_UNIT, problems.ALREADY_FINISHED),
    ),
    TypedRoute(
        method="GET",
        path="/v1/regions",
        summary="List regions",
        handler=handlers.regions,
        query=PartitionsQuery,
        answer=Page[RegionRecord],
    ),
    TypedRoute(
        method="GET",
        path="/v1/zones",
        summary="List zones",
        handler=handlers.zones,
        query=PartitionsQuery,
        answer=Page[ZoneRecord],
    ),
    TypedRoute(
        method="GET",
        path="/v1/pods",
        summary="List pods",
        handler=handlers.pods,
        query=PartitionsQuery,
        answer=Page[PodRecord],
    ),
    TypedRoute(
        method="GET",
        path="/v1/nodes",
        summary="List the server's processes",
        handler=handlers.nodes,
        query=PartitionsQuery,
        answer=Page[NodeRecord],
    ),
    TypedRoute(
        method="GET",
        path="/v1/resources",
        summary="List resources in path order",
        handler=handlers.resources,
        query=ResourcesQuery,
        answer=Page[ResourceRecord],
        problems=(problems.BAD_QUERY, problems.BAD_CURSOR),
    ),
    TypedRoute(
        method="GET",
        path="/v1/resources/{path:path}",
        summary="Show a resource",
        handler=handlers.resource,
        query=NoQuery,
        answer=ResourceRecord,
        problems=(problems.NO_SUCH_RESOURCE,),
    ),
    TypedRoute(
        method="POST",
        path="/v1/resources/{path:path}/reset",
        summary="Bring back a resource that was set aside",
        handler=handlers.reset,
        query=NoQuery,
        answer=ResourceRecord,
        problems=(problems.NO_SUCH_RESOURCE, problems.NOT_SET_ASIDE, problems.JOURNAL_FAILED),
    ),
    TypedRoute(
        method="GET",
        path="/v1/events",
        summary="List events, or follow them with Accept: text/event-stream",
        handler=handlers.events,
        query=EventsQuery,
        answer=Page[EventRecord],
        problems=(problems.BAD_QUERY, problems.BAD_HEADER),
    ),
    TypedRoute(
        method="POST",
        path="/v1/plan",
        summary="Say what applying would change; the ETag is the revision compared with",
        handler=handlers.plan,
        query=NoQuery,
        body=Infrastructure,
        answer=PlanAnswer,
        problems=(problems.MALFORMED_BODY, problems.BAD_INFRASTRUCTURE),
    ),
    TypedRoute(
        method="POST",
        path="/v1/apply",
        summary="Declare the infrastructure, if it is still at the revision of If-Match",
        handler=handlers.apply,
        query=NoQuery,
        body=ApplyRequest,
        answer=ApplyAnswer,
        problems=(
            problems.MALFORMED_BODY,
            problems.STALE_REVISION,
            problems.WORK_WOULD_GO,
            problems.BAD_INFRASTRUCTURE,
            problems.DISK_FULL,
        ),
    ),
    TypedRoute(
        method="GET",
        path="/v1/infrastructure",
        summary="Show what is declared",
        handler=handlers.infrastructure,
        query=NoQuery,
        answer=InfrastructureAnswer,
    ),
    TypedRoute(
        method="GET",
        path="/v1/verify",
        summary="Check every promise against the event log",
        handler=handlers.verify,
        query=NoQuery,
        answer=VerifyAnswer,
    ),
    TypedRoute(
        method="GET",
        path="/v1/status",
        summary="Show the server's health on one screen",
        handler=handlers.status,
        query=NoQuery,
        answer=ServerStatus,
    ),
    TypedRoute(
        method="GET",
        path="/healthz",
        summary="Alive",
        handler=handlers.healthz,
        query=NoQuery,
        answer=dict[str, str],
    ),
    TypedRoute(
        method="GET",
        path="/readyz",
        summary="Ready to accept",
        handler=handlers.readyz,
        query=NoQuery,
        answer=dict[str, str],
        problems=(problems.NOT_READY,),
    ),
    TypedRoute(
        method="GET",
        path="/metrics",
        summary="What Prometheus reads",
        handler=handlers.metrics,
        query=NoQuery,
        media_type="text/plain",
    ),
)
