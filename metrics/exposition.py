"""Exposition: the body of `/metrics` in the Prometheus text format, rendered by hand.

prometheus_client renders the registry of this process (CPU, memory, garbage collector); the rest is a
block made of samples. By hand, because a scrape runs in the event loop that also accepts work: the text
around the values is made once per pod and kept, and a scrape only fills the values in.

Never a series per resource: the number of series depends on pods, nodes and states alone.

Source: Prometheus documentation, "Exposition formats", text-based format 0.0.4.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, chain

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    REGISTRY,
    CollectorRegistry,
    generate_latest,
)

from metrics import families
from metrics.distribution import DistributionSample
from metrics.families import Family
from metrics.samples import NodeSample, PodSample, ServerSample

__all__ = ["CONTENT_TYPE", "render"]

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_POD_VALUES: tuple[tuple[Family, Callable[[PodSample], float]], ...] = (
    (families.MAILBOX_MESSAGES, lambda pod: pod.mailbox_sum),
    (families.MAILBOX_MAX, lambda pod: pod.mailbox_max),
    (families.PROCESS_RESTARTS, lambda pod: pod.restarts),
    (families.SUPERVISOR_ESCALATIONS, lambda pod: pod.escalations),
    (families.COMMANDS, lambda pod: pod.commands),
    (families.STALE_EPOCHS, lambda pod: pod.stale_epochs),
    (families.REPORTS_PENDING, lambda pod: pod.reports_pending),
    (families.LOOP_LAG, lambda pod: pod.loop_lag_s),
)
_POD_COUNTS: tuple[tuple[Family, Callable[[PodSample], Mapping[str, int]]], ...] = (
    (families.PROCESSES, lambda pod: pod.processes),
    (families.PROCESS_CRASHES, lambda pod: _limited(pod.crashes)),
    (families.POD_UNITS, lambda pod: pod.units),
)
_POD_HISTOGRAMS: tuple[tuple[Family, Callable[[PodSample], tuple[tuple[int, ...], float]]], ...] = (
    (families.MAILBOX_DEPTH, lambda pod: (pod.mailbox_depth, pod.mailbox_sum)),
    (families.MAILBOX_WAIT, lambda pod: (pod.wait_s, pod.wait_s_sum)),
    (families.PROCESS_HANDLE, lambda pod: (pod.handle_s, pod.handle_s_sum)),
)


def render(
    pods: Sequence[PodSample],
    *,
    server: ServerSample,
    nodes: Sequence[NodeSample] = (),
    registry: CollectorRegistry = REGISTRY,
) -> bytes:
    """Render one scrape.

    Args:
        pods: One sample per pod that has been heard of, in any order, no path twice.
        server: The server itself.
        nodes: Every operating-system process of the system, up or not.
        registry: What prometheus_client has to say about this process.

    Raises:
        ValueError: a distribution has another number of buckets than its family.
    """
    text = "".join(chain(_pod_lines(pods), _node_lines(nodes), _server_lines(server)))
    return generate_latest(registry) + text.encode()


def _pod_lines(pods: Sequence[PodSample]) -> Iterable[str]:
    texts = [_pod_text(pod.path) for pod in pods]
    for family, value in _POD_VALUES:
        yield _head(family)
        for pod, text in zip(pods, texts, strict=True):
            yield text[family.name] % value(pod)
    for family, counts in _POD_COUNTS:
        yield _head(family)
        for pod, text in zip(pods, texts, strict=True):
            opening = text[family.name]
            for key, count in counts(pod).items():
                yield f'{opening}{_escape(key)}"}} {count}\n'
    for family, distribution in _POD_HISTOGRAMS:
        yield _head(family)
        for pod, text in zip(pods, texts, strict=True):
            yield _fill(family, text[family.name], *distribution(pod))


def _node_lines(nodes: Sequence[NodeSample]) -> Iterable[str]:
    yield _head(families.NODE_UP)
    for node in nodes:
        yield _line(families.NODE_UP, (node.name, node.kind), int(node.up))
    yield _head(families.NODE_RESTARTS)
    for node in nodes:
        yield _line(families.NODE_RESTARTS, (node.name, node.kind), node.restarts)
    yield _head(families.NODE_LAST_SEEN)
    for node in nodes:
        if node.last_seen_utc is not None:
            yield _line(families.NODE_LAST_SEEN, (node.name, node.kind), node.last_seen_utc)


def _server_lines(server: ServerSample) -> Iterable[str]:
    for family, value in (
        (families.WORK_ACCEPTED, server.accepted),
        (families.WORK_OLDEST_PENDING, server.oldest_pending_age_s),
        (families.EVENTS, server.events),
        (families.REVISION, server.revision),
    ):
        yield _head(family)
        yield _line(family, (), value)
    for family, counts in (
        (families.WORK_UNITS, server.units),
        (families.WORK_FINISHED, server.finished),
    ):
        yield _head(family)
        for key, count in counts.items():
            yield _line(family, (key,), count)
    yield from _server_distributions(server)
    yield _head(families.BUILD_INFO)
    yield _line(families.BUILD_INFO, (server.version, platform.python_version()), 1)


def _server_distributions(server: ServerSample) -> Iterable[str]:
    yield _head(families.WORK_WAIT)
    yield _distribution(families.WORK_WAIT, (), server.wait)
    yield _head(families.WORK_DURATION)
    for outcome, sample in server.duration.items():
        yield _distribution(families.WORK_DURATION, (outcome,), sample)
    yield _head(families.JOURNAL_COMMIT)
    yield _distribution(families.JOURNAL_COMMIT, (), server.commit)


def _distribution(family: Family, values: tuple[str, ...], sample: DistributionSample) -> str:
    template = _histogram_template(family, _labels(family.labels, values))
    return _fill(family, template, sample.counts, sample.total)


def _fill(family: Family, template: str, counts: tuple[int, ...], total: float) -> str:
    if not counts:
        return ""
    if len(counts) != len(family.bounds) + 1:
        raise ValueError(
            f"{family.name} has {len(family.bounds) + 1} buckets, the sample has {len(counts)}"
        )
    cumulative = tuple(accumulate(counts))
    return template % (*cumulative, total, cumulative[-1])


# 16,384 pods, a few kilobytes each; beyond that the oldest are made anew at each scrape.
@lru_cache(maxsize=16_384)
def _pod_text(path: str) -> dict[str, str]:
    """Return, by family name, the text of `path` that never changes: %-templates and line openings."""
    region, zone, _ = path.split("/", 2)
    labels = _labels(("region", "zone", "pod"), (region, f"{region}/{zone}", path))
    values = {family.name: f"{family.name}{{{_percent(labels)}}} %s\n" for family, _ in _POD_VALUES}
    openings = {
        family.name: f'{family.name}{{{labels},{family.labels[-1]}="' for family, _ in _POD_COUNTS
    }
    histograms = {family.name: _histogram_template(family, labels) for family, _ in _POD_HISTOGRAMS}
    return values | openings | histograms


@lru_cache(maxsize=256)
def _histogram_template(family: Family, labels: str) -> str:
    inside = _percent(labels)
    joined = f"{inside}," if inside else ""
    bounds = [*(f"{bound:g}" for bound in family.bounds), "+Inf"]
    buckets = [f'{family.name}_bucket{{{joined}le="{bound}"}} %s\n' for bound in bounds]
    braces = f"{{{inside}}}" if inside else ""
    return "".join([*buckets, f"{family.name}_sum{braces} %s\n{family.name}_count{braces} %s\n"])


@lru_cache(maxsize=256)
def _head(family: Family) -> str:
    return f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.type.value}\n"


def _line(family: Family, values: tuple[str, ...], value: float) -> str:
    labels = _labels(family.labels, values)
    return f"{family.name}{{{labels}}} {value}\n" if labels else f"{family.name} {value}\n"


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True))


def _limited(reasons: Mapping[str, int]) -> Mapping[str, int]:
    """Keep the first reasons that were seen: sums of counters may not shrink, so never by size."""
    if len(reasons) <= families.REASON_LIMIT:
        return reasons
    kept = dict(list(reasons.items())[: families.REASON_LIMIT])
    kept["other"] = kept.get("other", 0) + sum(reasons.values()) - sum(kept.values())
    return kept


def _escape(value: str) -> str:
    if value.isalnum():
        return value
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _percent(text: str) -> str:
    return text.replace("%", "%%")
