"""Heartbeats: who has been silent for too long, judged fairly.

A watcher that was itself stopped or starved has heard nobody, so what it missed is not held against
them; a process that is ready to run and got no processor is late, not dead. The rule stands here without
clock or socket; `otp.distribution.children` feeds it.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from otp.distribution.process_control import ProcessStatus

__all__ = ["BEAT_S", "LIMIT_S", "STARVED_LIMIT_S", "Heartbeats", "is_starved"]

BEAT_S = 0.25
LIMIT_S = 2.0
STARVED_LIMIT_S = 10.0

KeyT = TypeVar("KeyT", bound=Hashable)


class Heartbeats(Generic[KeyT]):
    """When each peer was last heard; `check` is to be called every `BEAT_S`."""

    def __init__(self, now: float, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._checked = now
        self._heard: dict[KeyT, float] = {}

    def expect(self, key: KeyT, now: float, grace_s: float = 0.0) -> None:
        """Expect beats of `key`, the first one within the limit and `grace_s` more."""
        self._heard[key] = now + grace_s

    def hear(self, key: KeyT, now: float) -> None:
        """Note a beat; one of a peer that is not expected is ignored."""
        if key in self._heard:
            self._heard[key] = now

    def forget(self, key: KeyT) -> None:
        """Expect nothing of `key` any more."""
        self._heard.pop(key, None)

    def silence_s(self, key: KeyT, now: float) -> float:
        """Tell for how long `key` has been silent, in the watcher's own waking time."""
        return now - self._heard[key]

    def check(self, now: float) -> list[KeyT]:
        """Name the peers silent for more than the limit; time the watcher itself missed does not count."""
        missed_s = now - self._checked - 2 * BEAT_S
        self._checked = now
        if missed_s > 0:
            for key in self._heard:
                self._heard[key] += missed_s
        return [key for key, heard in self._heard.items() if now - heard > self._limit_s]


def is_starved(
    before: ProcessStatus | None, now: ProcessStatus | None, elapsed_s: float, silent_s: float
) -> bool:
    """Tell whether a silent process merely got no processor (or waits for a disk) since `before`.

    A process that is stopped, sleeps or spins is not starved; nor is any after `STARVED_LIMIT_S`.
    """
    if before is None or now is None or silent_s > STARVED_LIMIT_S:
        return False
    if now.state == "D":
        return True
    return now.state == "R" and now.cpu_s - before.cpu_s < elapsed_s / 2
