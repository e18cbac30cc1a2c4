"""What the dashboard shows: rows of charts, each with its queries, in the order an operator asks.

Is anything wrong? Where does work pile up? What crashes? How does work get on? Which processes are up?
`grafana.dashboard` turns this into Grafana's JSON; the metric names are those of `metrics.families`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from metrics import families
from metrics.families import Family

__all__ = ["ROWS", "Chart", "Look", "Query", "Row"]

# The pods chosen at the top of the dashboard.
PODS = '{zone=~"$zone",pod=~"$pod"}'


class Look(Enum):
    """How a chart is drawn."""

    STAT = "stat"
    LINES = "lines"
    STACK = "stack"
    HEATMAP = "heatmap"
    STATES = "states"


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and how its series are called in the legend."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One panel; `span` is its width of 24; `warn` and `bad` colour a value from that limit on."""

    title: str
    text: str
    unit: str
    queries: tuple[Query, ...]
    look: Look = Look.LINES
    span: int = 8
    warn: float | None = None
    bad: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A titled row of charts; the spans of each line of it add up to 24."""

    title: str
    charts: tuple[Chart, ...]


def _rate(family: Family, by: str, selector: str = PODS) -> str:
    return f"sum by ({by}) (rate({family.name}{selector}[$__rate_interval]))"


def _quantile(quantile: float, family: Family, by: str = "", selector: str = "") -> str:
    """Over time: what happened in the interval."""
    buckets = f"rate({family.name}_bucket{selector}[$__rate_interval])"
    return f"histogram_quantile({quantile:g}, sum by ({by}le) ({buckets}))"


def _depth_quantile(quantile: float) -> str:
    """Over processes: the depth buckets are what is now, so no rate."""
    buckets = f"{families.MAILBOX_DEPTH.name}_bucket{PODS}"
    return f"histogram_quantile({quantile:g}, sum by (pod, le) ({buckets}))"


OVERVIEW = Row(
    "Is anything wrong?",
    (
        Chart(
            title="Nodes down",
            text="Operating-system processes of the tree that are not up.",
            unit="short",
            look=Look.STAT,
            span=4,
            bad=1,
            queries=(Query(f"count({families.NODE_UP.name}) - sum({families.NODE_UP.name})"),),
        ),
        Chart(
            title="Crashes per second",
            text="Crashes of resource processes in the chosen pods.",
            unit="cps",
            look=Look.STAT,
            span=4,
            warn=0.1,
            bad=1,
            queries=(Query(f"sum(rate({families.PROCESS_CRASHES.name}{PODS}[$__rate_interval]))"),),
        ),
        Chart(
            title="Fullest mailbox",
            text="Units in the fullest mailbox of the chosen pods.",
            unit="short",
            look=Look.STAT,
            span=4,
            warn=100,
            bad=1000,
            queries=(Query(f"max({families.MAILBOX_MAX.name}{PODS})"),),
        ),
        Chart(
            title="Oldest unfinished unit",
            text="Age of the oldest unit that has not reached a terminal state.",
            unit="s",
            look=Look.STAT,
            span=4,
            warn=60,
            bad=900,
            queries=(Query(f"max({families.WORK_OLDEST_PENDING.name})"),),
        ),
        Chart(
            title="Accepted per second",
            text="Units of work durably accepted.",
            unit="cps",
            look=Look.STAT,
            span=4,
            queries=(Query(f"sum(rate({families.WORK_ACCEPTED.name}[$__rate_interval]))"),),
        ),
        Chart(
            title="Finished per second",
            text="Units of work that reached a terminal state.",
            unit="cps",
            look=Look.STAT,
            span=4,
            queries=(Query(f"sum(rate({families.WORK_FINISHED.name}[$__rate_interval]))"),),
        ),
    ),
)

MAILBOXES = Row(
    "Where does work pile up?",
    (
        Chart(
            title="Mailbox depth, p50 and p99 over processes",
            text="Half (and all but one in a hundred) of a pod's processes have at most so many units.",
            unit="short",
            queries=(
                Query(_depth_quantile(0.5), "p50 {{pod}}"),
                Query(_depth_quantile(0.99), "p99 {{pod}}"),
            ),
        ),
        Chart(
            title="Fullest mailbox by pod",
            text="One hot resource shows here and not in the percentiles; `cloudctl get resources` names it.",
            unit="short",
            queries=(Query(f"max by (pod) ({families.MAILBOX_MAX.name}{PODS})", "{{pod}}"),),
        ),
        Chart(
            title="Units in mailboxes by pod",
            text="All units handed to a pod that have not begun.",
            unit="short",
            look=Look.STACK,
            queries=(Query(f"sum by (pod) ({families.MAILBOX_MESSAGES.name}{PODS})", "{{pod}}"),),
        ),
        Chart(
            title="Processes by mailbox depth",
            text="How many resource processes have a mailbox of which depth.",
            unit="short",
            look=Look.HEATMAP,
            span=12,
            queries=(Query(f"sum by (le) ({families.MAILBOX_DEPTH.name}_bucket{PODS})", "{{le}}"),),
        ),
        Chart(
            title="Wait in the mailbox, p50 and p99",
            text="From the arrival in the pod to the first command.",
            unit="s",
            span=12,
            queries=(
                Query(_quantile(0.5, families.MAILBOX_WAIT, "pod, ", PODS), "p50 {{pod}}"),
                Query(_quantile(0.99, families.MAILBOX_WAIT, "pod, ", PODS), "p99 {{pod}}"),
            ),
        ),
    ),
)

CRASHES = Row(
    "What crashes?",
    (
        Chart(
            title="Crash rate by pod",
            text="Crashes of resource processes.",
            unit="cps",
            queries=(Query(_rate(families.PROCESS_CRASHES, "pod"), "{{pod}}"),),
        ),
        Chart(
            title="Crash rate by reason",
            text="The class of the exit reason; the crash events have the whole story.",
            unit="cps",
            look=Look.STACK,
            queries=(Query(_rate(families.PROCESS_CRASHES, "reason"), "{{reason}}"),),
        ),
        Chart(
            title="Restart rate by pod",
            text="Restarts by pod supervisors; lower than the crash rate means processes are throttled.",
            unit="cps",
            queries=(Query(_rate(families.PROCESS_RESTARTS, "pod"), "{{pod}}"),),
        ),
        Chart(
            title="Escalations",
            text="Supervisors that exceeded their restart intensity and gave up, in the last hour.",
            unit="short",
            span=12,
            queries=(
                Query(
                    f"sum by (pod) (increase({families.SUPERVISOR_ESCALATIONS.name}{PODS}[1h]))",
                    "{{pod}}",
                ),
            ),
        ),
        Chart(
            title="Stale epochs refused",
            text="Commands of a dead incarnation that its device turned down, in the last hour.",
            unit="short",
            span=12,
            queries=(
                Query(
                    f"sum by (pod) (increase({families.STALE_EPOCHS.name}{PODS}[1h]))", "{{pod}}"
                ),
            ),
        ),
    ),
)

WORK = Row(
    "How does work get on?",
    (
        Chart(
            title="Unfinished units by state",
            text="Accepted units that have not reached a terminal state.",
            unit="short",
            look=Look.STACK,
            queries=(
                Query(
                    f"sum by (state) ({families.WORK_UNITS.name}"
                    '{state=~"pending|dispatched|executing|in_doubt"})',
                    "{{state}}",
                ),
            ),
        ),
        Chart(
            title="Finished by outcome",
            text="Units per second that reached each terminal state.",
            unit="cps",
            look=Look.STACK,
            queries=(Query(_rate(families.WORK_FINISHED, "outcome", ""), "{{outcome}}"),),
        ),
        Chart(
            title="Processes by state",
            text="Resource processes of the chosen pods.",
            unit="short",
            look=Look.STACK,
            queries=(Query(f"sum by (state) ({families.PROCESSES.name}{PODS})", "{{state}}"),),
        ),
        Chart(
            title="Wait, p50 and p99",
            text="From acceptance to the first command.",
            unit="s",
            queries=(
                Query(_quantile(0.5, families.WORK_WAIT), "p50"),
                Query(_quantile(0.99, families.WORK_WAIT), "p99"),
            ),
        ),
        Chart(
            title="Duration, p50 and p99 by outcome",
            text="From acceptance to the terminal state.",
            unit="s",
            queries=(
                Query(_quantile(0.5, families.WORK_DURATION, "outcome, "), "p50 {{outcome}}"),
                Query(_quantile(0.99, families.WORK_DURATION, "outcome, "), "p99 {{outcome}}"),
            ),
        ),
        Chart(
            title="Handling in the pod, p50 and p99",
            text="From a unit's first command to its end.",
            unit="s",
            queries=(
                Query(_quantile(0.5, families.PROCESS_HANDLE, "pod, ", PODS), "p50 {{pod}}"),
                Query(_quantile(0.99, families.PROCESS_HANDLE, "pod, ", PODS), "p99 {{pod}}"),
            ),
        ),
    ),
)

NODES = Row(
    "Which processes are up?",
    (
        Chart(
            title="Nodes",
            text="Every operating-system process of the tree.",
            unit="short",
            look=Look.STATES,
            span=12,
            queries=(Query(f"max by (node, kind) ({families.NODE_UP.name})", "{{kind}} {{node}}"),),
        ),
        Chart(
            title="Restarts of nodes",
            text="Restarts of operating-system processes in the last hour.",
            unit="short",
            span=12,
            queries=(
                Query(
                    f"sum by (node, kind) (increase({families.NODE_RESTARTS.name}[1h]))",
                    "{{kind}} {{node}}",
                ),
            ),
        ),
        Chart(
            title="Event-loop lag by pod",
            text="How late the last timer ran; a pod above half a second is starved or blocked.",
            unit="s",
            queries=(Query(f"max by (pod) ({families.LOOP_LAG.name}{PODS})", "{{pod}}"),),
        ),
        Chart(
            title="Journal commit, p50 and p99",
            text="Time of one durable commit; every accept waits for one.",
            unit="s",
            queries=(
                Query(_quantile(0.5, families.JOURNAL_COMMIT), "p50"),
                Query(_quantile(0.99, families.JOURNAL_COMMIT), "p99"),
            ),
        ),
        Chart(
            title="Reports not yet in the journal",
            text="What pods have to tell and orchestration has not acknowledged.",
            unit="short",
            queries=(Query(f"sum by (pod) ({families.REPORTS_PENDING.name}{PODS})", "{{pod}}"),),
        ),
    ),
)

ROWS = (OVERVIEW, MAILBOXES, CRASHES, WORK, NODES)
