"""The client of the HTTP API: one method per call, records in and out. Standard library and msgspec alone.

A submit always carries idempotency keys, made here where the caller gave none, so it is repeated safely
when the connection breaks. Lists are read page by page; the event stream resumes where it broke.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterator, Sequence
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec

from config.model import Infrastructure
from orchestration import problems
from orchestration.api_messages import (
    ApplyRequest,
    InfrastructureAnswer,
    Page,
    WaitAnswer,
    WaitRequest,
)
from orchestration.client_stream import follow
from orchestration.client_target import Target, choose_target
from orchestration.client_transport import Request, Transport
from orchestration.problems import ProblemError
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
    UnitState,
    VerifyAnswer,
    ZoneRecord,
)

__all__ = ["Client", "ProblemError", "Target", "choose_target"]

T = TypeVar("T")
TIMEOUT_S = 30.0
BEYOND = 2**62
NDJSON = "application/x-ndjson"
VERIFY_TIMEOUT_S = 600.0  # it replays the whole event log

_encode = msgspec.json.Encoder()


class Client:
    """One server. `timeout_s` bounds each answer; use as a context manager or close it."""

    def __init__(self, target: Target, timeout_s: float = TIMEOUT_S) -> None:
        self.target = target
        self._timeout_s = timeout_s
        self._transport = Transport(target, timeout_s)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection up."""
        self._transport.close()

    def submit(
        self, units: Sequence[UnitSpec], key: str | None = None, *, first: int = 0
    ) -> list[SubmitAnswer]:
        """Submit `units` in one request, all or none.

        Args:
            units: those without an idempotency key get one.
            key: what those keys begin with; by default a new one, known to nobody else.
            first: the number of the first unit, where they are part of a longer submit.
        """
        key = key or uuid.uuid4().hex
        alone = first == 0 and len(units) == 1
        keyed = [
            unit
            if unit.idempotency_key is not None
            else msgspec.structs.replace(unit, idempotency_key=key if alone else f"{key}-{number}")
            for number, unit in enumerate(units, first)
        ]
        request = Request(
            method="POST",
            path="/v1/work",
            body=_encode.encode_lines(keyed),
            headers={"Content-Type": NDJSON},
            unknown_hint=f"submit the same again with --idempotency-key {key}: it is accepted once",
        )
        return self._ask(request, list[SubmitAnswer])

    def unit(self, unit_id: str, wait_s: float = 0.0) -> UnitRecord:
        """Show a unit of work, if `wait_s` is given once it has ended or that time is over."""
        request = Request(
            method="GET",
            path=_path("/v1/work", unit_id, wait=wait_s or None),
            timeout_s=self._timeout_s + wait_s,
        )
        return self._ask(request, UnitRecord)

    def units(
        self, state: UnitState | None = None, resource: str | None = None
    ) -> Iterator[UnitRecord]:
        """List units of work, oldest first."""
        given = {"state": state.value if state else None, "resource": resource}
        return self._pages("/v1/work", Page[UnitRecord], "cursor", **given)

    def cancel(self, unit_id: str) -> UnitRecord:
        """Cancel a unit of work; one that a broken first try has cancelled counts as done."""
        request = Request(method="POST", path=_path("/v1/work", unit_id) + "/cancel")
        try:
            return self._ask(request, UnitRecord)
        except ProblemError as error:
            if error.problem.code != problems.ALREADY_FINISHED.code:
                raise
            record = self.unit(unit_id)
            if record.state is not UnitState.CANCELLED:
                raise
            return record

    def reset(self, path: str) -> ResourceRecord:
        """Bring back a resource that was set aside."""
        request = Request(
            method="POST",
            path=_path("/v1/resources", path) + "/reset",
            repeatable=False,
            unknown_hint=f"look: cloudctl describe {path}",
        )
        return self._ask(request, ResourceRecord)

    def wait(self, ids: Sequence[str], timeout_s: float) -> WaitAnswer:
        """Wait until all have ended or `timeout_s` (at most 600) is over."""
        body = WaitRequest(ids=list(ids), timeout_s=timeout_s)
        request = Request(
            method="POST",
            path="/v1/work/wait",
            body=_encode.encode(body),
            timeout_s=self._timeout_s + timeout_s,
        )
        return self._ask(request, WaitAnswer)

    def regions(self, prefix: str = "") -> list[RegionRecord]:
        """List regions."""
        return self._get("/v1/regions", Page[RegionRecord], prefix=prefix).items

    def zones(self, prefix: str = "") -> list[ZoneRecord]:
        """List zones."""
        return self._get("/v1/zones", Page[ZoneRecord], prefix=prefix).items

    def pods(self, prefix: str = "") -> list[PodRecord]:
        """List pods."""
        return self._get("/v1/pods", Page[PodRecord], prefix=prefix).items

    def nodes(self, prefix: str = "") -> list[NodeRecord]:
        """List the server's processes."""
        return self._get("/v1/nodes", Page[NodeRecord], prefix=prefix).items

    def resources(self, prefix: str = "") -> Iterator[ResourceRecord]:
        """List resources in path order."""
        return self._pages("/v1/resources", Page[ResourceRecord], "cursor", prefix=prefix)

    def resource(self, path: str) -> ResourceRecord:
        """Show a resource."""
        return self._get(_path("/v1/resources", path), ResourceRecord)

    def events(
        self,
        after: int = 0,
        subject: str | None = None,
        resource: str | None = None,
        kind: str | None = None,
    ) -> Iterator[EventRecord]:
        """List events that have happened, oldest first."""
        return self._pages(
            "/v1/events",
            Page[EventRecord],
            "after",
            after=after,
            subject=subject,
            resource=resource,
            kind=kind,
        )

    def follow(
        self,
        after: int = 0,
        subject: str | None = None,
        resource: str | None = None,
        kind: str | None = None,
    ) -> Generator[EventRecord, None, None]:
        """Give events above `after` and then each as it happens, for ever, across restarts of the server."""
        query = _query(subject=subject, resource=resource, kind=kind)
        return follow(self.target, "/v1/events" + query, after)

    def last_event(self) -> int:
        """Give the number of the newest event; 0 if there is none."""
        # A number beyond the log is answered with where the log ends.
        stream = self.follow(BEYOND)
        try:
            return next(stream).seq
        finally:
            stream.close()

    def plan(self, infrastructure: Infrastructure) -> PlanAnswer:
        """Say what applying would change."""
        request = Request(method="POST", path="/v1/plan", body=_encode.encode(infrastructure))
        return self._ask(request, PlanAnswer)

    def apply(
        self, infrastructure: Infrastructure, *, revision: int | None, cancel_work: bool = False
    ) -> ApplyAnswer:
        """Declare `infrastructure`, if the server is still at `revision` (None: whatever it is at)."""
        body = ApplyRequest(infrastructure=infrastructure, cancel_work=cancel_work)
        request = Request(
            method="POST",
            path="/v1/apply",
            body=_encode.encode(body),
            headers={} if revision is None else {"If-Match": f'"{revision}"'},
            repeatable=False,
            unknown_hint="run `cloudctl plan` again: no changes means that it was applied",
        )
        return self._ask(request, ApplyAnswer)

    def infrastructure(self) -> InfrastructureAnswer:
        """Show what is declared."""
        return self._get("/v1/infrastructure", InfrastructureAnswer)

    def verify(self) -> VerifyAnswer:
        """Have every promise checked against the event log."""
        timeout_s = max(self._timeout_s, VERIFY_TIMEOUT_S)
        return self._ask(
            Request(method="GET", path="/v1/verify", timeout_s=timeout_s), VerifyAnswer
        )

    def status(self) -> ServerStatus:
        """Show the server's health."""
        return self._get("/v1/status", ServerStatus)

    def is_ready(self) -> bool:
        """Say whether the server takes requests now; asks once, without patience."""
        probe = Transport(self.target, timeout_s=2.0)
        try:
            probe.once(Request(method="GET", path="/readyz"))
        except ProblemError:
            return False
        finally:
            probe.close()
        return True

    def _get(self, path: str, shape: type[T], **query: object) -> T:
        return self._ask(Request(method="GET", path=path + _query(**query)), shape)

    def _pages(self, path: str, shape: type[Page[T]], cursor: str, **query: object) -> Iterator[T]:
        while True:
            page = self._get(path, shape, **query)
            yield from page.items
            if page.next is None:
                return
            query[cursor] = page.next

    def _ask(self, request: Request, shape: type[T]) -> T:
        reply = self._transport.send(request)
        try:
            return msgspec.json.decode(reply.body, type=shape)
        except msgspec.DecodeError as error:
            raise problems.NOT_UNDERSTOOD.error(f"{request.name}: {error}") from error


def _path(base: str, name: str, **query: object) -> str:
    return f"{base}/{quote(name)}" + _query(**query)


def _query(**query: object) -> str:
    given = {name: value for name, value in query.items() if value not in {None, ""}}
    return f"?{urlencode(given)}" if given else ""
