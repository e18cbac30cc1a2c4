"""Too many restarts: OTP's intensity rule, free of processes and clocks. `supervisor` acts on the answer."""

from __future__ import annotations

import math

__all__ = ["RestartWindow"]


class RestartWindow:
    """The restart attempts that still count.

    `intensity` attempts within `period_s` are allowed, one more is too many. Attempts are stamped in whole
    seconds, floored, and the boundary second is inside, so the true window is between `period_s` and a second
    more. Source: supervisor.erl of OTP 25, add_restart.
    """

    __slots__ = ("_intensity", "_period_s", "_stamps")

    def __init__(self, intensity: int, period_s: float) -> None:
        self._intensity = intensity
        self._period_s = period_s
        self._stamps: list[int] = []  # newest first

    def allows(self, now: float) -> bool:
        """Count one attempt at `now`; False when it is one too many."""
        second = math.floor(now)
        kept = [second]
        for stamp in self._stamps:
            if stamp < second - self._period_s:
                break
            kept.append(stamp)
        self._stamps = kept[: self._intensity + 1]
        return len(kept) <= self._intensity
