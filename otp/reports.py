"""What the runtime tells operators: crashes, supervisor decisions, progress. Text in reports is bounded.

Every report goes to each subscriber, in order, in the process that caused it; a subscriber that raises is
dropped and logged. The first subscriber writes to the logger `otp`, so that no crash is silent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from otp.bounded_text import MAX_TEXT, bounded_text

__all__ = [
    "CrashReport",
    "EventHandlerReport",
    "Neighbour",
    "Offender",
    "ProgressReport",
    "Report",
    "ReportBus",
    "ServerReport",
    "StatemReport",
    "SupervisorLabel",
    "SupervisorReport",
    "bounded_text",
    "log_report",
]

_log = logging.getLogger("otp")


class SupervisorLabel(Enum):
    """What a supervisor reports, OTP's names."""

    CHILD_TERMINATED = "child_terminated"
    START_ERROR = "start_error"
    SHUTDOWN = "shutdown"
    SHUTDOWN_ERROR = "shutdown_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReport:
    """A behaviour process ended badly (OTP's gen_server terminate report)."""

    process: str
    behaviour: str
    last_message: str
    state: str
    reason: object
    reason_text: str
    log: tuple[str, ...] = ()  # what sys.log kept
    label: str | None = None  # the process label
    callback: str | None = None  # where it failed; a gen_statem's queue says that


@dataclass(frozen=True, slots=True, kw_only=True)
class StatemReport(ServerReport):
    """A gen_statem ended badly; `state` is state and data, the queue begins with the event it failed at."""

    queue: tuple[str, ...]
    postponed: tuple[str, ...]
    timeouts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventHandlerReport:
    """An event handler failed and was removed; its manager and the other handlers live on."""

    handler: str
    manager: str
    callback: str  # where it failed
    last_event: str
    state: str
    reason: object
    reason_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashReport:
    """A process ended badly by itself (OTP's proc_lib crash report); an exit signal gives none."""

    process: str
    initial_call: str
    ancestors: tuple[str, ...]
    reason: object
    reason_text: str
    message_queue_len: int
    links: tuple[str, ...]
    trap_exit: bool
    reductions: int
    label: str | None = None
    messages: tuple[str, ...] = ()  # the first few that wait
    neighbours: tuple[Neighbour, ...] = ()  # linked processes that do not trap exits, nearest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A process that may die of another's crash."""

    process: str
    initial_call: str
    label: str | None
    message_queue_len: int
    links: tuple[str, ...]
    reductions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Offender:
    """The child a supervisor report is about; `nb_children` stands for a group that ended alike."""

    pid: str | None
    id: object
    restart: str
    shutdown: str
    child_type: str
    significant: bool = False
    nb_children: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorReport:
    """A supervisor saw a child fail, or gave up."""

    label: SupervisorLabel
    supervisor: str
    offender: Offender
    reason: object
    reason_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressReport:
    """A supervisor has started a child. `by_hand`: through start_child or restart_child."""

    supervisor: str
    started: Offender
    by_hand: bool


Report = ServerReport | EventHandlerReport | CrashReport | SupervisorReport | ProgressReport


class ReportBus:
    """Hands each report to all subscribers."""

    __slots__ = ("_subscribers", "wants_progress")

    def __init__(self) -> None:
        self._subscribers: list[Callable[[Report], None]] = [log_report]
        self.wants_progress = _log.isEnabledFor(logging.INFO)

    def subscribe(self, subscriber: Callable[[Report], None]) -> None:
        """Call `subscriber` with every report from now on, progress included."""
        self._subscribers.append(subscriber)
        self.wants_progress = True

    def unsubscribe(self, subscriber: Callable[[Report], None]) -> None:
        """Stop calling `subscriber`; unknown ones are ignored."""
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)

    def send(self, report: Report) -> None:
        """Hand out one report."""
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(report)
            except Exception:  # noqa: BLE001 - a failing listener must not fail the process it listens to
                self.unsubscribe(subscriber)
                _log.exception("a report subscriber raised and was dropped: %r", subscriber)


def log_report(report: Report) -> None:
    """Write `report` to the logger `otp`: progress as info (by hand: debug), the rest as errors."""
    match report:
        case ProgressReport(supervisor=supervisor, started=child, by_hand=by_hand):
            level = logging.DEBUG if by_hand else logging.INFO
            _log.log(level, "%s started %r as %s", supervisor, child.id, child.pid)
        case SupervisorReport(label=label, supervisor=supervisor, offender=child):
            text = "%s: %s of child %r (%s): %s"
            _log.error(text, supervisor, label.value, child.id, child.pid, report.reason_text)
        case CrashReport(process=process, initial_call=call):
            _log.error("%s (%s) crashed: %s", process, call, report.reason_text)
        case EventHandlerReport(handler=handler, manager=manager, callback=callback):
            text = (
                "event handler %s of %s failed: %s\n  callback: %s\n  last event: %s\n  state: %s"
            )
            more = (report.reason_text, callback, report.last_event, report.state)
            _log.error(text, handler, manager, *more)
        case ServerReport():
            _log.error(*_server_text(report))


def _server_text(report: ServerReport) -> tuple[str, ...]:
    """Give format and values of the text for a server or machine that ends badly."""
    what = f" {report.label}" if report.label else ""
    if not isinstance(report, StatemReport):
        text = "%s (%s%s) terminating: %s\n  callback: %s\n  last message: %s\n  state: %s"
        more: tuple[str, ...] = (report.callback or "none", report.last_message)
    else:
        text = "state machine %s (%s%s) terminating: %s\n  queue: %s\n  postponed: %s\n  time-outs: %s\n  state: %s"
        more = tuple(_listed(part) for part in (report.queue, report.postponed, report.timeouts))
    return text, report.process, report.behaviour, what, report.reason_text, *more, report.state


def _listed(texts: tuple[str, ...]) -> str:
    text = ", ".join(texts)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
