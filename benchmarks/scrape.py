"""How long one scrape takes: `python -m benchmarks.scrape [PODS]`."""

from __future__ import annotations

import sys
import time

from metrics import DEPTH_BOUNDS, HANDLE_BOUNDS_S, WAIT_BOUNDS_S, PodSample, ServerSample, render


def pod(number: int) -> PodSample:
    """Make a pod in which everything has happened."""
    return PodSample(
        path=f"eu/{number % 10}/rack-{number}",
        processes={"ready": 9_000, "executing": 900, "synchronising": 100},
        mailbox_depth=tuple(range(number, number + len(DEPTH_BOUNDS) + 1)),
        units={"succeeded": 10**6, "failed": 100},
        crashes={"device_fault": 5, "unmapped": 1},
        wait_s=tuple(range(len(WAIT_BOUNDS_S) + 1)),
        wait_s_sum=12.5,
        handle_s=tuple(range(len(HANDLE_BOUNDS_S) + 1)),
        handle_s_sum=99.25,
    )


def main() -> None:
    """Print the first scrape (texts are made) and the best of the following ones."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    pods, server = [pod(number) for number in range(count)], ServerSample(version="0")
    taken_s = []
    for _ in range(8):
        started = time.perf_counter()
        body = render(pods, server=server)
        taken_s.append(time.perf_counter() - started)
    series = sum(not line.startswith(b"#") for line in body.splitlines())
    print(
        f"scrape: pods={count} series={series} bytes={len(body)} "
        f"first_ms={taken_s[0] * 1e3:.1f} best_ms={min(taken_s) * 1e3:.1f}"
    )


if __name__ == "__main__":
    main()
