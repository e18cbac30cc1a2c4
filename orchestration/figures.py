"""The orchestration node's own figures, in plain integers, and one scrape made of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from metrics.distribution import Distribution
from metrics.exposition import render
from metrics.families import COMMIT_BOUNDS_S, WORK_BOUNDS_S
from metrics.samples import NodeSample, PodSample, ServerSample
from orchestration.records import TERMINAL, NodeRecord, UnitState
from orchestration.view import View

__all__ = ["Figures"]

_RATE_WINDOW_S = 10.0


_SAMPLED = tuple(name for name in PodSample.__struct_fields__ if name != "path")


class Figures:
    """Counters of this node; `clock` returns monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._recent: deque[tuple[float, int]] = deque()
        self._wait = Distribution(WORK_BOUNDS_S)
        self._duration = {state: Distribution(WORK_BOUNDS_S) for state in TERMINAL}
        self._commit = Distribution(COMMIT_BOUNDS_S)
        self._finished: dict[UnitState, int] = dict.fromkeys(TERMINAL, 0)
        self.accepted = 0
        self.events = 0

    def note_accepted(self, count: int) -> None:
        """Count units that are durable."""
        self.accepted += count
        now = self._clock()
        self._recent.append((now, count))
        while self._recent[0][0] < now - _RATE_WINDOW_S:
            self._recent.popleft()

    def note_first_dispatch(self, wait_s: float) -> None:
        """Count the time from acceptance to the first dispatch."""
        self._wait.note(max(0.0, wait_s))

    def note_end(self, state: UnitState, took_s: float) -> None:
        """Count the time from acceptance to the end."""
        self._finished[state] += 1
        self._duration[state].note(max(0.0, took_s))

    def note_commit(self, took_s: float) -> None:
        """Count one group commit."""
        self._commit.note(took_s)

    def accepts_per_s(self) -> float:
        """Accepted units a second, over the last ten seconds."""
        now = self._clock()
        recent = sum(count for at, count in self._recent if at >= now - _RATE_WINDOW_S)
        return round(recent / _RATE_WINDOW_S, 3)

    def scrape(
        self,
        view: View,
        nodes: Sequence[NodeRecord],
        *,
        version: str,
        oldest_pending_age_s: float,
        now_utc: float,
    ) -> bytes:
        """Render what Prometheus reads."""
        server = ServerSample(
            version=version,
            units={state.value: count for state, count in view.units.items()},
            accepted=self.accepted,
            finished={state.value: count for state, count in self._finished.items()},
            oldest_pending_age_s=oldest_pending_age_s,
            wait=self._wait.sample(),
            duration={state.value: each.sample() for state, each in self._duration.items()},
            commit=self._commit.sample(),
            events=self.events,
            revision=view.revision,
        )
        pods = [
            PodSample(path=pod.path, **{name: getattr(pod.stats, name) for name in _SAMPLED})
            for pod in view.pods.values()
            if pod.stats is not None
        ]
        samples = [
            NodeSample(
                name=node.name,
                kind=node.kind,
                up=node.state == "up",
                restarts=node.restarts,
                last_seen_utc=None if node.age_s is None else now_utc - node.age_s,
            )
            for node in nodes
        ]
        return render(pods, server=server, nodes=samples)
