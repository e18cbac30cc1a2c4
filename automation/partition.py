"""A partition: keeps the child nodes of a zone, or of root, in step with what is wanted.

One `Partition` process per node, beside the supervisors over the child nodes: it adds, removes and restarts
their children, one change after the other; the supervisors restart what dies. Whatever comes up or is lost
is reported to orchestration from here. Child numbers (epochs) are issued here and never twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from otp import ChildSpec, GenServer, NoReply, Pid, StartChildError, Strategy, SupervisorFlags
from otp import Backoff as RestartBackoff
from otp import send_after, supervisor
from otp.distribution import node_child
from otp.distribution.node import ChildNode, Node
from rpc.messages import Epoch, NodeLost, NodeUp, ReportBody, Supervision

__all__ = ["Member", "Partition", "Wanted", "flags_of"]

# From the order to stop to SIGKILL; a pod stops its processes within 3 s.
_STOP_S = 5.0
_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A child node that shall exist. One with another `fixed` is restarted, one with other `news` told."""

    name: str
    kind: str
    application: str
    payload: bytes
    fixed: object  # the part of the payload that a living node cannot take on


@dataclass(frozen=True, slots=True)
class Wanted:
    """All child nodes that shall exist, by supervisor, in start order."""

    groups: Mapping[str, tuple[Member, ...]]


@dataclass(frozen=True, slots=True)
class _Again:
    """Try once more what could not be started."""


def flags_of(supervision: Supervision) -> SupervisorFlags:
    """Put the operator's words into OTP's."""
    return SupervisorFlags(
        strategy=Strategy(supervision.strategy),
        intensity=supervision.intensity,
        period_s=supervision.period_s,
        backoff=RestartBackoff(
            initial_s=supervision.backoff.initial_s, max_s=supervision.backoff.max_s
        ),
    )
