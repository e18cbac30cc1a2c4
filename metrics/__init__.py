"""What Prometheus reads: the metric families, counting in plain integers, and the text of a scrape.

Knows nothing else of ours: the orchestration tier maps what it has to samples and calls `render`.
"""

from __future__ import annotations

from metrics.distribution import Distribution, DistributionSample
from metrics.exposition import CONTENT_TYPE, render
from metrics.families import (
    COMMIT_BOUNDS_S,
    DEPTH_BOUNDS,
    HANDLE_BOUNDS_S,
    WAIT_BOUNDS_S,
    WORK_BOUNDS_S,
)
from metrics.samples import NodeSample, PodSample, ServerSample

__all__ = [
    "COMMIT_BOUNDS_S",
    "CONTENT_TYPE",
    "DEPTH_BOUNDS",
    "HANDLE_BOUNDS_S",
    "WAIT_BOUNDS_S",
    "WORK_BOUNDS_S",
    "Distribution",
    "DistributionSample",
    "NodeSample",
    "PodSample",
    "ServerSample",
    "render",
]
