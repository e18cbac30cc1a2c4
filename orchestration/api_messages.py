"""What the HTTP API asks and answers beyond the records: pages, queries and the bodies of a few calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Generic, Protocol, TypeVar

from msgspec import Meta, Struct

from config.model import Infrastructure
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

__all__ = [
    "ApplyRequest",
    "EventsQuery",
    "InfrastructureAnswer",
    "NoQuery",
    "Orchestration",
    "Page",
    "PartitionsQuery",
    "ResourcesQuery",
    "UnitQuery",
    "UnitsQuery",
    "WaitAnswer",
    "WaitRequest",
]

T = TypeVar("T")
Limit = Annotated[int, Meta(ge=1, le=10_000)]
Seconds = Annotated[float, Meta(ge=0, le=600)]


class Page(Struct, Generic[T], frozen=True, kw_only=True):
    """Some of the items; `next` is the cursor for the rest, null at the end."""

    items: list[T]
    next: str | None = None


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """The call takes no query parameters."""


class UnitsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which units of work; newest last."""

    state: UnitState | None = None
    resource: str | None = None
    limit: Limit = 1000
    cursor: str | None = None


class UnitQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answer at once, or after at most `wait` seconds, as soon as the unit has come to its end."""

    wait: Seconds = 0.0


class PartitionsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Only those whose path starts with `prefix`."""

    prefix: str = ""


class ResourcesQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Only those whose path starts with `prefix`, in path order."""

    prefix: str = ""
    limit: Limit = 1000
    cursor: str | None = None


class EventsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events with a sequence number above `after`, oldest first."""

    after: int = 0
    limit: Limit = 1000
    subject: str | None = None
    resource: str | None = None
    kind: str | None = None


class WaitRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Wait until all `ids` have come to their end, at most `timeout_s`."""

    ids: Annotated[list[str], Meta(max_length=10_000)]
    timeout_s: Seconds = 30.0


class WaitAnswer(Struct, frozen=True, kw_only=True):
    """`done`: all have come to their end; `items` are as they are now, in the order asked."""

    done: bool
    items: list[UnitRecord]


class ApplyRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make `infrastructure` the declared one; `cancel_work`: also where that ends unfinished work."""

    infrastructure: Infrastructure
    cancel_work: bool = False


class InfrastructureAnswer(Struct, frozen=True, kw_only=True):
    """What is declared now."""

    revision: int
    infrastructure: Infrastructure


class Orchestration(Protocol):
    """What the API needs of the orchestrator. Everything may raise `ProblemError`."""

    async def submit(self, specs: Sequence[UnitSpec], /) -> list[SubmitAnswer]: ...
    def unit(self, unit_id: str, /) -> UnitRecord: ...
    async def units(
        self, state: UnitState | None, resource: str | None, limit: int, cursor: str | None, /
    ) -> tuple[list[UnitRecord], str | None]: ...
    async def cancel(self, unit_id: str, /) -> UnitRecord: ...
    async def wait(
        self, ids: Sequence[str], timeout_s: float, /
    ) -> tuple[bool, list[UnitRecord]]: ...
    def plan(self, infrastructure: Infrastructure, /) -> PlanAnswer: ...
    async def apply(
        self,
        infrastructure: Infrastructure,
        if_match: int | None,
        cancel_work: bool,  # noqa: FBT001 (a field of the request)
        /,
    ) -> ApplyAnswer: ...
    def infrastructure(self) -> tuple[int, Infrastructure]: ...
    def regions(self) -> list[RegionRecord]: ...
    def zones(self) -> list[ZoneRecord]: ...
    def pods(self) -> list[PodRecord]: ...
    def nodes(self) -> list[NodeRecord]: ...
    def resources(
        self, prefix: str, limit: int, cursor: str | None, /
    ) -> tuple[list[ResourceRecord], str | None]: ...
    def resource(self, path: str, /) -> ResourceRecord: ...
    async def reset(self, path: str, /) -> ResourceRecord: ...
    async def events(
        self, after: int, limit: int, subject: str | None, resource: str | None, kind: str | None, /
    ) -> list[EventRecord]: ...
    def subscribe(self, after: int, /) -> AsyncIterator[EventRecord]: ...
    async def verify(self) -> VerifyAnswer: ...
    def status(self) -> ServerStatus: ...
    def metrics(self) -> bytes: ...
