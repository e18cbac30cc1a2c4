"""What the orchestration tier remembers and shows: the shapes behind the API, the journal and `get`.

Everything here is a frozen `msgspec.Struct`, so one definition serves the journal, the HTTP answers
(JSON, field names as here) and the client. `_utc` is Unix seconds; `age_s` is seconds at answer time.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct, field

__all__ = [
    "TERMINAL",
    "ApplyAnswer",
    "CommandSpec",
    "EventRecord",
    "InvariantRecord",
    "NodeRecord",
    "OnFailure",
    "PlanAnswer",
    "PlanChange",
    "PodRecord",
    "Problem",
    "RegionRecord",
    "ResourceRecord",
    "ServerStatus",
    "SubmitAnswer",
    "UnitRecord",
    "UnitSpec",
    "UnitState",
    "VerifyAnswer",
    "ZoneRecord",
]


class UnitState(Enum):
    """The life of a unit of work; the last five are terminal."""

    PENDING = "pending"
    DISPATCHED = "dispatched"
    EXECUTING = "executing"
    IN_DOUBT = "in_doubt"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    QUARANTINED = "quarantined"

    # By identity, in C: Enum's own is a Python call, several times for each transition of a unit.
    __hash__ = object.__hash__


TERMINAL = frozenset(
    {
        UnitState.SUCCEEDED,
        UnitState.FAILED,
        UnitState.CANCELLED,
        UnitState.SUPERSEDED,
        UnitState.QUARANTINED,
    }
)


class OnFailure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to do when an attempt fails in a way that may be tried again.

    `wait`: try again on that very resource, up to `attempts` in all (0 = until `deadline_s` after
    acceptance, or for ever), waiting `backoff_s`, doubled up to `backoff_max_s`. `fail`: at once.
    """

    strategy: str = "fail"  # fail | wait
    attempts: int = 5
    backoff_s: float = 0.5
    backoff_max_s: float = 30.0
    deadline_s: float | None = None


class CommandSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One command as submitted."""

    verb: str
    params: dict[str, object] = field(default_factory=dict)


class UnitSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A unit of work as submitted: an ordered list of commands against exactly one resource."""

    resource: str
    commands: tuple[CommandSpec, ...]
    on_failure: OnFailure = OnFailure()
    idempotency_key: str | None = None
    command_deadline_s: float | None = None  # for one command; None: what the driver declares


class SubmitAnswer(Struct, frozen=True, kw_only=True):
    """Durably accepted (one per unit, in the order submitted); `replayed`: the key was known."""

    id: str
    resource: str
    state: UnitState
    seq: int
    queued_before: int = 0  # units in front of it on this resource
    expected_start_s: float | None = None  # from the measured drain rate; None: not known yet
    replayed: bool = False


class UnitRecord(Struct, frozen=True, kw_only=True):
    """A unit of work as the journal holds it. `completed` commands are known to be applied."""

    id: str
    seq: int
    resource: str
    state: UnitState
    commands: tuple[CommandSpec, ...]
    completed: int = 0
    attempt: int = 0
    crashes: int = 0
    epoch: tuple[int, ...] = ()
    reason: str = ""  # why it is where it is: "waiting for eu/a/rack-1 (pod is down)", an error, …
    code: str = ""  # error kind of the last failure, "" if none
    on_failure: OnFailure = OnFailure()
    idempotency_key: str | None = None
    command_deadline_s: float | None = None
    accepted_utc: float = 0.0
    changed_utc: float = 0.0
    next_attempt_utc: float | None = None
    cancel_requested: bool = False  # durable: no command is begun after the one in hand


class EventRecord(Struct, frozen=True, kw_only=True):
    """One line of the event log; `seq` is durable and never reused (the SSE id)."""

    seq: int
    at_utc: float
    kind: str  # unit.pending, unit.dispatched, …, resource.ready, resource.crashed, node.up, node.lost, infrastructure.applied
    subject: str  # unit id, resource path, node name or revision
    resource: str = ""
    epoch: tuple[int, ...] = ()
    detail: dict[str, object] = field(default_factory=dict)


class ResourceRecord(Struct, frozen=True, kw_only=True):
    """The view of one resource; `observed_age_s` is how old that fact is (None: never observed)."""

    path: str
    kind: str
    driver: str
    state: str  # undefined, initialised, synchronising, ready, executing, suspect, set_aside, unreachable
    epoch: tuple[int, ...] = ()
    exists: bool | None = None
    observed: dict[str, object] = field(default_factory=dict)
    observed_age_s: float | None = None
    desired: dict[str, object] | None = None
    in_sync: bool | None = None  # None: not known
    mailbox: int = 0  # units dispatched and not finished
    pending: int = 0  # units waiting in the journal
    crashes: int = 0
    on_demand: bool = False
    detail: str = ""
    connect: str = ""
    config: dict[str, object] = field(default_factory=dict)


class PodRecord(Struct, frozen=True, kw_only=True):
    """One pod: its node's state and sums over its resources."""

    path: str
    state: str  # up, down, starting
    pid: int | None = None
    epoch: tuple[int, ...] = ()
    strategy: str = ""
    resources: int = 0
    ready: int = 0
    pending: int = 0
    in_flight: int = 0
    crashes: int = 0
    restarts: int = 0
    age_s: float | None = None  # since it was last heard of


class ZoneRecord(Struct, frozen=True, kw_only=True):
    """One zone."""

    path: str
    state: str
    strategy: str = ""
    pods: int = 0
    pods_up: int = 0
    resources: int = 0
    ready: int = 0


class RegionRecord(Struct, frozen=True, kw_only=True):
    """One region."""

    path: str
    zones: int = 0
    pods: int = 0
    resources: int = 0
    ready: int = 0


class NodeRecord(Struct, frozen=True, kw_only=True):
    """One OS process: kind is serve, orchestration, launcher, admin, logger, root, zone, pod or devices."""

    name: str
    kind: str
    pid: int | None
    state: str  # up, down, starting
    epoch: tuple[int, ...] = ()
    restarts: int = 0
    age_s: float | None = None


class PlanChange(Struct, frozen=True, kw_only=True):
    """One line of a plan; `queued` units are waiting there, `effect` says what becomes of them."""

    action: str  # create (+), update (~), replace (-/+), destroy (-)
    kind: str  # region, zone, pod, resource, template
    path: str
    detail: tuple[str, ...] = ()  # "connect: a -> b"
    queued: int = 0
    effect: str = ""


class PlanAnswer(Struct, frozen=True, kw_only=True):
    """What `apply` would change against `revision`."""

    revision: int
    changes: tuple[PlanChange, ...]
    add: int
    change: int
    destroy: int


class ApplyAnswer(Struct, frozen=True, kw_only=True):
    """The revision that is now durable, and what it changed."""

    revision: int
    plan: PlanAnswer


class InvariantRecord(Struct, frozen=True, kw_only=True):
    """One promise, checked: how often it was tested and every violation found (at most 20 listed)."""

    name: str  # I1 … I5, order, isolation, cancel, log
    holds: bool
    checked: int
    violations: tuple[str, ...] = ()
    detail: str = ""


class VerifyAnswer(Struct, frozen=True, kw_only=True):
    """The event log replayed through a checker of its own."""

    holds: bool
    events: int
    units: int
    unfinished: int
    invariants: tuple[InvariantRecord, ...]


class ServerStatus(Struct, frozen=True, kw_only=True):
    """One screen of the server's health."""

    version: str
    state_folder: str
    pid: int
    revision: int
    uptime_s: float
    units: dict[str, int]  # by state
    resources: dict[str, int]  # by state
    nodes: dict[str, int]  # by state
    accepts_per_s: float = 0.0
    metrics: str = ""  # address Prometheus scrapes, "" if none


class Problem(Struct, frozen=True, kw_only=True):
    """RFC 9457 problem document; `code` is ours (CLOUDCTL-E0412), `hint` says what to do."""

    title: str
    status: int
    code: str
    detail: str = ""
    hint: str = ""
    instance: str = ""
    errors: tuple[dict[str, object], ...] = ()
