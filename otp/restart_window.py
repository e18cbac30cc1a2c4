"""Too many restarts: OTP's intensity rule, free of processes and clocks. `supervisor` acts on the answer."""

from __future__ import annotations

import math
from collections import deque

__all__ = ["RestartWindow"]


class RestartWindow:
    """The restart attempts that still count.

    `intensity` attempts within `period_s` are allowed, one more is too many. Attempts are stamped in whole
    seconds, floored, and the boundary second is inside, so the true window is between `period_s` and a second
    more. Source: supervisor.erl of OTP 25, add_restart.
    """

    __slots__ = ("_count", "_intensity", "_period_s", "_seconds")

    def __init__(self, intensity: int, period_s: float) -> None:
        self._intensity = intensity
        self._period_s = period_s
        self._seconds: deque[list[int]] = deque()  # [second, attempts in it], oldest first
        self._count = 0

    def allows(self, now: float) -> bool:
        """Count one attempt at `now`; False when it is one too many."""
        second = math.floor(now)
        seconds = self._seconds
        while seconds and seconds[0][0] < second - self._period_s:
            self._count -= seconds.popleft()[1]
        if seconds and seconds[-1][0] == second:
            seconds[-1][1] += 1
        else:
            seconds.append([second, 1])
        self._count += 1
        return self._count <= self._intensity
