"""The rules of recovery: what becomes of a unit after a failure, a crash, a loss or a settlement.

Pure: from a unit and what happened to a `Verdict`. The dispatcher carries it out and journals it.
"""

from __future__ import annotations

from msgspec import Struct

from orchestration.lane import Lane, QueuedUnit
from orchestration.records import OnFailure, UnitState
from rpc.messages import Epoch, Fault

__all__ = [
    "POD_LOSSES_LIMIT",
    "Verdict",
    "after_deadline",
    "after_failure",
    "after_return",
    "after_settling",
    "backoff_s",
    "deadline_utc",
    "is_blamed",
    "superseded_by",
]

CREATE, DESTROY = "create", "destroy"
# Deaths of its pod under a unit that never got further. More than crashes of its process are forgiven:
# a pod is also killed by hand, by a lack of memory, or by a unit of another of its resources.
POD_LOSSES_LIMIT = 5


class Verdict(Struct, frozen=True):
    """The state a unit goes to, and why; `next_attempt_utc` only for one that waits."""

    state: UnitState
    reason: str = ""
    code: str = ""
    next_attempt_utc: float | None = None


def backoff_s(policy: OnFailure, attempt: int) -> float:
    """How long to wait after attempt number `attempt` (from 1)."""
    doublings = min(max(attempt - 1, 0), 60)  # 2.0 ** 1024 would overflow
    return float(min(policy.backoff_s * 2.0**doublings, policy.backoff_max_s))


def deadline_utc(unit: QueuedUnit) -> float | None:
    """When a unit that has not begun by then is given up."""
    limit_s = unit.spec.on_failure.deadline_s
    return None if limit_s is None else unit.accepted_utc + limit_s


def after_failure(unit: QueuedUnit, fault: Fault | None, now_utc: float) -> Verdict:
    """What follows an attempt that failed without a crash."""
    reason = "failed" if fault is None else fault.message
    code = "" if fault is None else fault.kind
    policy = unit.spec.on_failure
    if fault is None or not fault.retryable or policy.strategy != "wait":
        return Verdict(UnitState.FAILED, reason, code)
    if policy.attempts and unit.attempt >= policy.attempts:
        text = f"attempt {unit.attempt} of {policy.attempts}: {reason}"
        return Verdict(UnitState.FAILED, text, code)
    again_utc = now_utc + backoff_s(policy, unit.attempt)
    limit_utc = deadline_utc(unit)
    if limit_utc is not None and again_utc >= limit_utc:
        return Verdict(UnitState.FAILED, f"its deadline is over: {reason}", code or "deadline")
    if unit.cancelling:
        return Verdict(UnitState.CANCELLED, f"cancelled after attempt {unit.attempt}: {reason}")
    return Verdict(UnitState.PENDING, f"attempt {unit.attempt}: {reason}", code, again_utc)


def after_return(unit: QueuedUnit, reason: str) -> Verdict:
    """What follows when a pod hands a unit back that it never began."""
    if unit.cancelling:
        return Verdict(UnitState.CANCELLED, "cancelled before it began")
    return Verdict(UnitState.PENDING, reason)


def after_settling(
    unit: QueuedUnit, completed: int, quarantine_after: int, *, overtaken: bool = False
) -> Verdict:
    """What follows once observation has said how many commands of a unit in doubt are applied.

    `overtaken`: a later unit of the resource had begun. A mailbox is serial, so this one had ended by then,
    and not well; its report died with the pod. Running it now would turn the order around.
    """
    if completed >= len(unit.spec.commands):
        return Verdict(UnitState.SUCCEEDED, "found applied by observation")
    if overtaken:
        text = f"ended without success after command {completed}; why was lost with its pod"
        state = UnitState.CANCELLED if unit.cancelling else UnitState.FAILED
        return Verdict(state, text, "report_lost")
    if unit.crashes >= quarantine_after:
        text = f"crashed its process {unit.crashes} times: {unit.reason}"
        return Verdict(UnitState.QUARANTINED, text, unit.code or "crash")
    if unit.pod_losses >= POD_LOSSES_LIMIT:
        text = f"its pod died {unit.pod_losses} times while it was executing: {unit.reason}"
        return Verdict(UnitState.QUARANTINED, text, "pod_lost")
    if unit.cancelling:
        return Verdict(UnitState.CANCELLED, f"cancelled after command {completed}")
    return Verdict(UnitState.PENDING, f"found not applied from command {completed} on")


def is_blamed(unit: QueuedUnit, before: Epoch) -> bool:
    """Whether the death of the pod's incarnations older than `before` counts against `unit`.

    Only if it was begun, and only while root and zone are the same: a pod that went down with its zone, or
    with the server, did not die of its work.
    """
    return unit.state is UnitState.EXECUTING and unit.epoch[:2] == before[:2]


def after_deadline(unit: QueuedUnit) -> Verdict:
    """What follows when a unit still waits at its deadline."""
    limit_s = unit.spec.on_failure.deadline_s
    why = f": {unit.reason}" if unit.reason else ""
    return Verdict(UnitState.FAILED, f"not begun within {limit_s:g} s{why}", "deadline")


def superseded_by(lane: Lane, destroy: QueuedUnit, *, exists: bool) -> QueuedUnit | None:
    """The create that `destroy` makes superfluous together with itself, None if there is none.

    Only a create that is the first unit of its resource, was never sent, and has the destroy directly
    behind it; and only if the device is not known to exist: else the destroy has something to do.
    """
    if exists or len(lane.queue) != 2 or lane.queue[1] is not destroy:
        return None
    create = lane.queue[0]
    untouched = create.state is UnitState.PENDING and create.attempt == create.completed == 0
    if untouched and _is_only(create, CREATE) and _is_only(destroy, DESTROY):
        return create
    return None


def _is_only(unit: QueuedUnit, verb: str) -> bool:
    return [command.verb for command in unit.spec.commands] == [verb]
