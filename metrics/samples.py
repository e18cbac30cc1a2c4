"""What the orchestration tier hands over at a scrape: plain numbers, taken when Prometheus asks."""

from __future__ import annotations

from msgspec import Struct, field

from metrics.distribution import DistributionSample

__all__ = ["NodeSample", "PodSample", "ServerSample"]


class PodSample(Struct, frozen=True, kw_only=True):
    """One pod: counters since its node started, gauges as of its last word.

    Bucket counts are per bucket, not cumulative, the last one +Inf; the bounds are in
    `metrics.families`. An empty tuple means "not measured": the family is left out for this pod.
    """

    path: str  # region/zone/pod
    processes: dict[str, int] = field(default_factory=dict)  # by state
    mailbox_sum: int = 0
    mailbox_max: int = 0
    mailbox_depth: tuple[int, ...] = ()  # processes per depth bucket
    units: dict[str, int] = field(default_factory=dict)  # ended, by outcome
    commands: int = 0
    crashes: dict[str, int] = field(default_factory=dict)  # by class of reason
    restarts: int = 0
    escalations: int = 0
    stale_epochs: int = 0
    reports_pending: int = 0
    wait_s: tuple[int, ...] = ()
    wait_s_sum: float = 0.0
    handle_s: tuple[int, ...] = ()
    handle_s_sum: float = 0.0
    loop_lag_s: float = 0.0


class NodeSample(Struct, frozen=True, kw_only=True):
    """One operating-system process; `last_seen_utc` is None for one never heard of."""

    name: str
    kind: str  # serve, orchestration, launcher, admin, logger, root, zone, pod, devices
    up: bool
    restarts: int = 0
    last_seen_utc: float | None = None


class ServerSample(Struct, frozen=True, kw_only=True):
    """The server as a whole: the journal's counts and the distributions it keeps."""

    version: str
    units: dict[str, int] = field(default_factory=dict)  # now, by state
    accepted: int = 0
    finished: dict[str, int] = field(default_factory=dict)  # by terminal state
    oldest_pending_age_s: float = 0.0
    wait: DistributionSample = DistributionSample()
    duration: dict[str, DistributionSample] = field(default_factory=dict)  # by terminal state
    commit: DistributionSample = DistributionSample()
    events: int = 0
    revision: int = 0
