"""Every metric family cloudctl exposes: name, type, help, labels, and the bounds of its buckets.

Named after the conventions of prometheus.io: one prefix, base units, `_total` for counters. Beside each
gauge of "now" stands a counter of "so far", since a scrape misses what happens between two of them.
No family has a label whose values grow with the number of resources: the largest are per pod.

Source: Prometheus documentation, "Metric and label naming" and "Histograms and summaries".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = [
    "BUILD_INFO",
    "COMMANDS",
    "COMMIT_BOUNDS_S",
    "DEPTH_BOUNDS",
    "EVENTS",
    "FAMILIES",
    "HANDLE_BOUNDS_S",
    "JOURNAL_COMMIT",
    "LOOP_LAG",
    "MAILBOX_DEPTH",
    "MAILBOX_MAX",
    "MAILBOX_MESSAGES",
    "MAILBOX_WAIT",
    "NODE_LAST_SEEN",
    "NODE_RESTARTS",
    "NODE_UP",
    "POD_UNITS",
    "PROCESSES",
    "PROCESS_CRASHES",
    "PROCESS_HANDLE",
    "PROCESS_RESTARTS",
    "REASON_LIMIT",
    "REPORTS_PENDING",
    "REVISION",
    "STALE_EPOCHS",
    "SUPERVISOR_ESCALATIONS",
    "WAIT_BOUNDS_S",
    "WORK_ACCEPTED",
    "WORK_BOUNDS_S",
    "WORK_DURATION",
    "WORK_FINISHED",
    "WORK_OLDEST_PENDING",
    "WORK_UNITS",
    "WORK_WAIT",
    "Family",
    "Type",
]

# Upper bounds, inclusive; the bucket +Inf follows by itself.
DEPTH_BOUNDS = (0.0, 1.0, 10.0, 100.0, 1_000.0, 10_000.0)
# An idle pod takes a unit within a millisecond; one that waits for a device may take minutes.
WAIT_BOUNDS_S = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0)
HANDLE_BOUNDS_S = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0)
WORK_BOUNDS_S = (0.002, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0)
COMMIT_BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0)

# Classes of crash reasons told apart per pod; what comes later is counted as "other".
REASON_LIMIT = 16


class Type(Enum):
    """The types of the text format that are in use."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric family; `bounds` are a histogram's, without +Inf."""

    name: str
    type: Type
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


FAMILIES: list[Family] = []
_POD = ("region", "zone", "pod")


def _family(
    name: str, kind: Type, text: str, *labels: str, bounds: tuple[float, ...] = ()
) -> Family:
    family = Family(name=f"cloudctl_{name}", type=kind, help=text, labels=labels, bounds=bounds)
    FAMILIES.append(family)
    return family


# ── one set per pod ───────────────────────────────────────────────────────────────────────────

PROCESSES = _family(
    "processes", Type.GAUGE, "Resource processes of the pod now, by state.", *_POD, "state"
)
MAILBOX_DEPTH = _family(
    "mailbox_depth_messages",
    Type.HISTOGRAM,
    "Resource processes of the pod now, by the number of units in their mailbox.",
    *_POD,
    bounds=DEPTH_BOUNDS,
)
MAILBOX_MESSAGES = _family(
    "mailbox_messages", Type.GAUGE, "Units in all mailboxes of the pod now.", *_POD
)
MAILBOX_MAX = _family(
    "mailbox_depth_max_messages", Type.GAUGE, "Units in the fullest mailbox of the pod now.", *_POD
)
MAILBOX_WAIT = _family(
    "mailbox_wait_seconds",
    Type.HISTOGRAM,
    "Time units spent in a mailbox of the pod before their first command.",
    *_POD,
    bounds=WAIT_BOUNDS_S,
)
PROCESS_HANDLE = _family(
    "process_handle_seconds",
    Type.HISTOGRAM,
    "Time from a unit's first command to its end in the pod.",
    *_POD,
    bounds=HANDLE_BOUNDS_S,
)
PROCESS_CRASHES = _family(
    "process_crashes_total",
    Type.COUNTER,
    "Crashes of resource processes since the pod started, by class of reason.",
    *_POD,
    "reason",
)
PROCESS_RESTARTS = _family(
    "process_restarts_total",
    Type.COUNTER,
    "Restarts of resource processes since the pod started.",
    *_POD,
)
SUPERVISOR_ESCALATIONS = _family(
    "supervisor_escalations_total",
    Type.COUNTER,
    "Times a supervisor of the pod gave up because of its restart intensity.",
    *_POD,
)
POD_UNITS = _family(
    "pod_units_total",
    Type.COUNTER,
    "Units that ended in the pod since it started, by outcome of the attempt.",
    *_POD,
    "outcome",
)
COMMANDS = _family(
    "commands_total", Type.COUNTER, "Commands given to drivers since the pod started.", *_POD
)
STALE_EPOCHS = _family(
    "stale_epochs_refused_total",
    Type.COUNTER,
    "Commands refused because their epoch was older than the device's, since the pod started.",
    *_POD,
)
REPORTS_PENDING = _family(
    "reports_pending",
    Type.GAUGE,
    "Reports of the pod that the journal has not acknowledged yet.",
    *_POD,
)
LOOP_LAG = _family(
    "loop_lag_seconds", Type.GAUGE, "How late the pod's event loop ran its last timer.", *_POD
)

# ── one set per node ──────────────────────────────────────────────────────────────────────────

NODE_UP = _family(
    "node_up", Type.GAUGE, "1 while the operating-system process is up, else 0.", "node", "kind"
)
NODE_RESTARTS = _family(
    "node_restarts_total", Type.COUNTER, "Restarts of the operating-system process.", "node", "kind"
)
NODE_LAST_SEEN = _family(
    "node_last_seen_timestamp_seconds",
    Type.GAUGE,
    "When the node was last heard of, in Unix time.",
    "node",
    "kind",
)

# ── one set per server ────────────────────────────────────────────────────────────────────────

WORK_UNITS = _family(
    "work_units", Type.GAUGE, "Units of work in the journal now, by state.", "state"
)
WORK_ACCEPTED = _family(
    "work_accepted_total", Type.COUNTER, "Units accepted since the server started."
)
WORK_FINISHED = _family(
    "work_finished_total",
    Type.COUNTER,
    "Units that reached a terminal state since the server started, by that state.",
    "outcome",
)
WORK_OLDEST_PENDING = _family(
    "work_oldest_pending_age_seconds",
    Type.GAUGE,
    "Age of the oldest unit that has not reached a terminal state, 0 without one.",
)
WORK_WAIT = _family(
    "work_wait_seconds",
    Type.HISTOGRAM,
    "Time from a unit's acceptance to its first command.",
    bounds=WORK_BOUNDS_S,
)
WORK_DURATION = _family(
    "work_duration_seconds",
    Type.HISTOGRAM,
    "Time from a unit's acceptance to its terminal state, by that state.",
    "outcome",
    bounds=WORK_BOUNDS_S,
)
JOURNAL_COMMIT = _family(
    "journal_commit_seconds",
    Type.HISTOGRAM,
    "Time the journal took for one durable commit.",
    bounds=COMMIT_BOUNDS_S,
)
EVENTS = _family("events_total", Type.COUNTER, "Events in the event log.")
REVISION = _family(
    "infrastructure_revision", Type.GAUGE, "Revision of the infrastructure last applied."
)
BUILD_INFO = _family("build_info", Type.GAUGE, "1, labelled with what runs.", "version", "python")
