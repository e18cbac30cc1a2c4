"""What the orchestration tier and the automation nodes say to each other, and how it is encoded.

Down: orchestration to root (`Welcome`, `SetTree`) and to pods (`Define`, `Retire`, `Dispatch`, …).
Up: every node sends `Inventory` first and `Stats` now and then (unreliable); pods send `Report`s, which
they keep until an `Ack` says they are in the journal. A report is sent again after every reconnect, so
the receiver drops those it has (same pod epoch, sequence number not above the last one).

Structs are arrays on the wire: fields are only ever added at the end, with a default. A change that an
older peer cannot read raises `PROTOCOL`. Long, because the whole protocol is to be read in one place.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct, field

__all__ = [
    "PROTOCOL",
    "Ack",
    "Backoff",
    "Cancel",
    "Command",
    "CommandRecord",
    "Crashed",
    "Define",
    "Dispatch",
    "Down",
    "Dropped",
    "Epoch",
    "Fault",
    "Finished",
    "Inventory",
    "NodeLost",
    "NodeUp",
    "PodDefinition",
    "PodStats",
    "Progress",
    "Ready",
    "Report",
    "ReportBody",
    "ResourceDefinition",
    "ResourceInventory",
    "ResourceState",
    "Retire",
    "Retired",
    "SetTree",
    "Settled",
    "Started",
    "Stats",
    "Supervision",
    "Suspect",
    "Unit",
    "Up",
    "Welcome",
    "ZoneDefinition",
    "decode_down",
    "decode_up",
    "encode",
]

PROTOCOL = 1

Epoch = tuple[int, ...]


class Backoff(Struct, frozen=True, array_like=True):
    """Restart waits: `initial_s`, doubling up to `max_s`, with jitter."""

    initial_s: float = 0.2
    max_s: float = 30.0


class Supervision(Struct, frozen=True, array_like=True):
    """A partition's supervisor flags, in OTP's words."""

    strategy: Literal["one_for_one", "one_for_all", "rest_for_one"] = "one_for_one"
    intensity: int = 5
    period_s: float = 60.0
    backoff: Backoff = Backoff()


class PodDefinition(Struct, frozen=True, array_like=True):
    """One pod: `path` is region/zone/pod; its resources come in `Define`."""

    path: str
    supervision: Supervision
    mailbox: int = 16  # units one resource holds; the rest pends in the journal
    sync_rate: float = 10_000.0  # synchronisations a second after a mass restart
    quarantine_after: int = 3  # crashes of one resource by one unit


class ZoneDefinition(Struct, frozen=True, array_like=True):
    """One zone and its pods, in start order."""

    path: str  # region/zone
    supervision: Supervision
    pods: tuple[PodDefinition, ...]


class Command(Struct, frozen=True, array_like=True):
    """One idempotency-keyed call of a driver verb."""

    verb: str
    params: dict[str, object]


class Unit(Struct, frozen=True, array_like=True):
    """A unit of work as a resource process gets it.

    `first` is the index of the first command that is not known to be applied; `commands` is the whole
    list, so that indices (and with them idempotency keys) never move.
    """

    id: str
    seq: int  # order of acceptance, over all resources
    attempt: int  # from 1
    first: int
    commands: tuple[Command, ...]
    deadline_s: float | None = None  # seconds for one command; None: what the driver declares


class ResourceDefinition(Struct, frozen=True, array_like=True):
    """One resource: what it is, the state orchestration holds of it, and the units in doubt.

    `desired` is the driver state after the last succeeded unit ({} = does not exist), None if no unit
    has succeeded yet: then whatever is there is adopted. `doubt` lists units an earlier incarnation may
    have begun or finished without saying so, in order of acceptance; they are settled by observation.
    """

    path: str
    kind: str
    driver: str
    connect: str
    config: dict[str, object]
    desired: dict[str, object] | None = None
    doubt: tuple[Unit, ...] = ()
    queued: bool = False  # work is waiting for it: synchronised first


# ── down ──────────────────────────────────────────────────────────────────────────────────────


class Welcome(Struct, frozen=True, array_like=True, tag="welcome"):
    """To root after its hello: the epoch it was given (compare-and-swap in the journal)."""

    root_epoch: int


class SetTree(Struct, frozen=True, array_like=True, tag="tree"):
    """To root: the zones and pods that are to exist, all of them, in start order."""

    revision: int
    zones: tuple[ZoneDefinition, ...]


class Define(Struct, frozen=True, array_like=True, tag="define"):
    """To a pod: resources to have, handled in order of receipt. `complete`: there are no others."""

    revision: int
    resources: tuple[ResourceDefinition, ...]
    complete: bool = False


class Retire(Struct, frozen=True, array_like=True, tag="retire"):
    """To a pod: finish the command in hand, hand back the queued units, end the process."""

    revision: int
    paths: tuple[str, ...]


class Dispatch(Struct, frozen=True, array_like=True, tag="dispatch"):
    """To a pod: put `unit` in the mailbox of the incarnation `epoch` of `path`.

    An incarnation with another epoch answers `Dropped`; a unit it already has is not run twice.
    """

    path: str
    epoch: Epoch
    unit: Unit


class Cancel(Struct, frozen=True, array_like=True, tag="cancel"):
    """To a pod: take `unit` out of the mailbox, or stop it at the next command border."""

    path: str
    unit: str


class Ack(Struct, frozen=True, array_like=True, tag="ack"):
    """To a pod: every report up to and including `seq` is in the journal."""

    seq: int


Down = Welcome | SetTree | Define | Retire | Dispatch | Cancel | Ack

# ── up ────────────────────────────────────────────────────────────────────────────────────────


class ResourceInventory(Struct, frozen=True, array_like=True):
    """A live resource process: its state and the units it holds, the one in hand first."""

    path: str
    epoch: Epoch
    state: str
    units: tuple[str, ...] = ()


class Inventory(Struct, frozen=True, array_like=True, tag="inventory"):
    """First message of every node on every connection: what is alive here.

    From a pod: its resources, and the highest report number it has issued. From root or a zone:
    nothing but itself.
    """

    resources: tuple[ResourceInventory, ...] = ()
    last_report: int = 0
    revision: int = 0  # of the definitions it has


class Fault(Struct, frozen=True, array_like=True):
    """Why something failed: the driver error's class, its text, and whether it may be tried again."""

    kind: str  # invalid, unsupported, denied, stale_epoch, conflict, busy, unreachable, …
    message: str
    retryable: bool = False


class CommandRecord(Struct, frozen=True, array_like=True):
    """One line of a resource's flight recorder."""

    unit: str
    index: int
    verb: str
    outcome: str
    duration_s: float
    at_utc: float


class Settled(Struct, frozen=True, array_like=True):
    """What observation said of a unit in doubt: so many of its commands are applied."""

    unit: str
    attempt: int
    completed: int


class ResourceState(Struct, frozen=True, array_like=True, tag="state"):
    """A resource process changed its state (initialised, synchronising, …; not ready, see `Ready`)."""

    path: str
    epoch: Epoch
    state: str
    detail: str = ""


class Ready(Struct, frozen=True, array_like=True, tag="ready"):
    """Synchronised: takes units from now on. Lists how the units in doubt turned out, in order.

    `drift` names the steps synchronisation had to apply to converge the device.
    """

    path: str
    epoch: Epoch
    observed: dict[str, object]
    exists: bool
    settled: tuple[Settled, ...] = ()
    drift: tuple[str, ...] = ()


class Started(Struct, frozen=True, array_like=True, tag="started"):
    """The unit's first command is about to reach the device."""

    path: str
    epoch: Epoch
    unit: str
    attempt: int
    wait_s: float  # in the mailbox


class Progress(Struct, frozen=True, array_like=True, tag="progress"):
    """`completed` commands of the unit are applied (sent for units of more than one command)."""

    path: str
    epoch: Epoch
    unit: str
    attempt: int
    completed: int


class Finished(Struct, frozen=True, array_like=True, tag="finished"):
    """The unit's end on this resource.

    `succeeded`: all applied, `observed` is the state to hold from now on. `failed`: command number
    `completed` was refused or did not start, see `fault`; the rest was not tried. `cancelled`: stopped
    at a command border.
    """

    path: str
    epoch: Epoch
    unit: str
    attempt: int
    outcome: Literal["succeeded", "failed", "cancelled"]
    completed: int
    observed: dict[str, object] = field(default_factory=dict)
    exists: bool = True
    fault: Fault | None = None
    duration_s: float = 0.0


class Crashed(Struct, frozen=True, array_like=True, tag="crashed"):
    """A resource process crashed: the unit in hand (in doubt), and every unit flushed unstarted.

    `culprit`: the unit itself is to blame (its command raised), not its surroundings.
    """

    path: str
    epoch: Epoch
    unit: str | None
    attempt: int
    completed: int
    reason: str
    flushed: tuple[str, ...]
    recorder: tuple[CommandRecord, ...] = ()
    culprit: bool = True


class Suspect(Struct, frozen=True, array_like=True, tag="suspect"):
    """A command overran its deadline: nothing else runs until the driver knows how it ended."""

    path: str
    epoch: Epoch
    unit: str
    attempt: int
    index: int
    reason: str


class Dropped(Struct, frozen=True, array_like=True, tag="dropped"):
    """A dispatched unit was not taken (`reason`: epoch, full, retired, unknown); it never started."""

    path: str
    unit: str
    attempt: int
    reason: str


class Retired(Struct, frozen=True, array_like=True, tag="retired"):
    """The process of a retired resource has ended; `units` were handed back unstarted."""

    path: str
    units: tuple[str, ...]


class NodeUp(Struct, frozen=True, array_like=True, tag="node_up"):
    """A child node runs (from its parent)."""

    node: str
    kind: str
    pid: int
    epoch: Epoch


class NodeLost(Struct, frozen=True, array_like=True, tag="node_lost"):
    """A child node is dead, its process gone (from its parent)."""

    node: str
    kind: str
    pid: int
    epoch: Epoch
    reason: str


ReportBody = (
    ResourceState
    | Ready
    | Started
    | Progress
    | Finished
    | Crashed
    | Suspect
    | Dropped
    | Retired
    | NodeUp
    | NodeLost
)


class Report(Struct, frozen=True, array_like=True, tag="report"):
    """A body with its number, from 1, per node incarnation; kept by the sender until acknowledged."""

    seq: int
    at_utc: float
    body: ReportBody


class PodStats(Struct, frozen=True, array_like=True):
    """A node's counters since it started, and its gauges now.

    Histograms are per-bucket counts (not cumulative), the last bucket is +Inf; bounds are in
    `metrics.families`.
    """

    processes: dict[str, int] = field(default_factory=dict)  # by state
    mailbox_sum: int = 0
    mailbox_max: int = 0
    mailbox_depth: tuple[int, ...] = ()  # processes per depth bucket
    units: dict[str, int] = field(default_factory=dict)  # finished, by outcome
    commands: int = 0
    crashes: dict[str, int] = field(default_factory=dict)  # by reason class
    restarts: int = 0
    escalations: int = 0
    stale_epochs: int = 0
    reports_pending: int = 0
    wait_s: tuple[int, ...] = ()
    wait_s_sum: float = 0.0
    handle_s: tuple[int, ...] = ()
    handle_s_sum: float = 0.0
    loop_lag_s: float = 0.0
    verbs: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of the drivers loaded here


class Stats(Struct, frozen=True, array_like=True, tag="stats"):
    """Sent every second by every node; lost ones are not repeated."""

    stats: PodStats


Up = Inventory | Report | Stats

_encoder = msgspec.msgpack.Encoder()
_down = msgspec.msgpack.Decoder(list[Down])
_up = msgspec.msgpack.Decoder(list[Up])


def encode(messages: list[Down] | list[Up]) -> bytes:
    """Encode a batch."""
    return _encoder.encode(messages)


def decode_down(frame: bytes) -> list[Down]:
    """Decode a batch that orchestration sent.

    Raises:
        msgspec.ValidationError: not such a batch; the link is closed.
    """
    return _down.decode(frame)


def decode_up(frame: bytes) -> list[Up]:
    """Decode a batch that a node sent.

    Raises:
        msgspec.ValidationError: not such a batch; the link is closed.
    """
    return _up.decode(frame)
