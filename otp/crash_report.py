"""What a crash report says about a process that is ending badly, and about its neighbours.

Source: proc_lib.erl of OTP 27 (crash reports, linked neighbours).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from otp.reports import CrashReport, Neighbour, bounded_text

# The process makes the report about itself: a cycle of types only.
if TYPE_CHECKING:
    from otp.process import Pid

__all__ = ["crash_report"]

MAX_LINKS_SHOWN: Final = 15
MAX_NEIGHBOURS: Final = 15  # linked processes that do not trap exits, and so may die of this
MAX_MESSAGES_SHOWN: Final = 5


def crash_report(pid: Pid, initial_call: str, reason: object) -> CrashReport:
    """Describe `pid`, which is about to end with `reason`; bounded however much it has."""
    return CrashReport(
        process=repr(pid),
        initial_call=initial_call,
        label=pid.label,
        ancestors=tuple(_ancestors(pid)),
        reason=reason,
        reason_text=bounded_text(reason),
        message_queue_len=pid.queue_length(),
        messages=tuple(
            bounded_text(envelope[1]) for envelope in islice(pid.queued(), MAX_MESSAGES_SHOWN)
        ),
        links=_links(pid),
        trap_exit=pid.trapping,
        reductions=pid.reductions,
        neighbours=tuple(_neighbour(each) for each in islice(_neighbours(pid), MAX_NEIGHBOURS)),
    )


def _ancestors(pid: Pid) -> Iterator[str]:
    parent = pid.parent
    while parent is not None:
        yield repr(parent)
        parent = parent.parent


def _links(pid: Pid) -> tuple[str, ...]:
    return tuple(repr(each) for each in _some_links(pid, MAX_LINKS_SHOWN))


def _some_links(pid: Pid, limit: int) -> list[Pid]:
    # Not linked(): that copies all links, and a hub may have a million.
    links = pid.links
    return list(islice(links, limit)) if isinstance(links, dict) else [links] if links else []


def _neighbours(pid: Pid) -> Iterator[Pid]:
    """Go through the linked processes that do not trap exits, and those linked to them, nearest first."""
    seen = {pid}
    layer = [pid]
    while layer:
        near = [
            each
            for one in layer
            for each in _some_links(one, MAX_NEIGHBOURS * MAX_LINKS_SHOWN)
            if not each.trapping
        ]
        layer = [each for each in dict.fromkeys(near) if each not in seen]
        seen.update(layer)
        yield from layer


def _neighbour(pid: Pid) -> Neighbour:
    return Neighbour(
        process=repr(pid),
        initial_call=pid.initial_call,
        label=pid.label,
        message_queue_len=pid.queue_length(),
        links=_links(pid),
        reductions=pid.reductions,
    )
