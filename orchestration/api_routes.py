"""The typed route: what a call takes and gives, written once for decoding, encoding and OpenAPI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestration import problems
from orchestration.actor import ACTOR, Actor
from orchestration.api_messages import Orchestration
from orchestration.api_units import MAX_BODY_BYTES, NDJSON, decode_units
from orchestration.problems import ProblemError, ProblemKind
from orchestration.records import Problem, UnitSpec

__all__ = ["Call", "TypedRoute", "json_response", "problem_response"]

Q = TypeVar("Q")
B = TypeVar("B")
PROBLEM_JSON = "application/problem+json"

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    """One decoded request."""

    query: Q
    body: B
    request: Request

    def path(self, name: str) -> str:
        """Give the part of the address that `{name}` stands for."""
        return str(self.request.path_params[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedRoute(Generic[Q, B]):
    """One method on one address; `answer` is what `handler` gives unless it makes a response itself."""

    method: str
    path: str
    summary: str
    handler: Callable[[Orchestration, Call[Q, B]], Awaitable[object]]
    query: type[Q]
    body: type[B] | None = None
    answer: object = None
    media_type: str = "application/json"
    status: int = 200
    problems: tuple[ProblemKind, ...] = ()

    def starlette(self, orchestrator: Orchestration) -> Route:
        """Bind to `orchestrator`."""

        async def endpoint(request: Request) -> Response:
            ACTOR.set(_actor(request))
            try:
                query = _query(request, self.query)
                body = await _body(request, self.body)
                answer = await self.handler(orchestrator, Call(query, body, request))
            except ProblemError as error:
                return problem_response(error.problem)
            return answer if isinstance(answer, Response) else json_response(answer, self.status)

        return Route(self.path, endpoint, methods=[self.method], name=self.summary)


def json_response(
    value: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Encode `value`, which is a record or made of records."""
    return Response(_encode(value), status, headers, "application/json")


def problem_response(problem: Problem) -> Response:
    """Answer with a problem document; a busy or full server also says when to come back."""
    status = problem.status or problems.INTERNAL.status
    headers = {"Retry-After": "1"} if status in {503, 507} else None
    return Response(_encode(problem), status, headers, PROBLEM_JSON)


def _actor(request: Request) -> Actor | None:
    extensions = request.scope.get("extensions") or {}
    actor = extensions.get("peercred")
    return actor if isinstance(actor, Actor) else None


def _query(request: Request, shape: type[Q]) -> Q:
    given = dict(request.query_params)
    try:
        return msgspec.convert(given, shape, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(field.name for field in msgspec.structs.fields(shape)) or "none"  # type: ignore[arg-type]
        raise problems.BAD_QUERY.error(str(error), hint=f"parameters: {known}") from error


async def _body(request: Request, shape: type[B] | None) -> B:
    if shape is None:
        return None  # type: ignore[return-value]  # such a route declares B as None
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    units: object = list[UnitSpec]
    if media_type not in {"application/json", NDJSON} or (media_type == NDJSON and shape != units):
        raise problems.UNSUPPORTED_MEDIA.error(f"{media_type!r} at {request.url.path}")
    raw = await _raw_body(request)
    if shape == units:
        return decode_units(raw, media_type)  # type: ignore[return-value]
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.DecodeError as error:
        raise problems.MALFORMED_BODY.error(str(error)) from error


async def _raw_body(request: Request) -> bytes:
    """Read the body, but never more than the limit: the declared length is only a first look."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise _too_large(int(declared))
    chunks = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise _too_large(size)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(size: int) -> ProblemError:
    return problems.BODY_TOO_LARGE.error(f"{size} bytes or more, at most {MAX_BODY_BYTES}")
