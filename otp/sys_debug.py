"""What sys can switch on in a process to watch it: statistics, a log of events, a trace, functions of the user.

A `Debug` belongs to one process and exists only while something is switched on. It is handed every event of that
process as a tuple, "in" and "out" first, and never lets a failing function disturb the process.

Source: sys(3) of OTP 25.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO

from otp.reports import bounded_text

__all__ = ["DONE", "NO_STATISTICS", "Debug", "DebugFunction", "Event", "Statistics", "event_text"]

DONE: Final = "done"  # a debug function that returns it is removed
NO_STATISTICS: Final = "no_statistics"
DEFAULT_LOG: Final = 10  # events kept by log("on")

Event = tuple[Any, ...]
DebugFunction = Callable[[Any, Event, object], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What a process has done since statistics were switched on; both times are local wall time."""

    start_time: datetime
    current_time: datetime
    reductions: int
    messages_in: int
    messages_out: int


class _Counts:
    __slots__ = ("began", "messages_in", "messages_out", "reductions")

    def __init__(self, reductions: int) -> None:
        self.began = datetime.now().astimezone()
        self.reductions = reductions
        self.messages_in = 0
        self.messages_out = 0

    def so_far(self, reductions: int) -> Statistics:
        """Show the counts; `reductions` is the process's own counter now."""
        return Statistics(
            start_time=self.began,
            current_time=datetime.now().astimezone(),
            reductions=reductions - self.reductions,
            messages_in=self.messages_in,
            messages_out=self.messages_out,
        )


class Debug:
    """All that is switched on in one process."""

    __slots__ = ("_counts", "_file", "_functions", "_log", "_tracing")

    def __init__(self) -> None:
        self._counts: _Counts | None = None
        self._log: deque[Event] | None = None
        self._tracing = False
        self._file: TextIO | None = None
        self._functions: dict[object, tuple[DebugFunction, Any]] = {}  # by id

    @property
    def idle(self) -> bool:
        """Tell whether nothing is switched on."""
        on = (self._counts, self._log, self._file)
        return not (self._tracing or self._functions) and on == (None, None, None)

    def handle(self, event: Event, extra: object) -> None:
        """Take one event of the process `extra`."""
        if self._counts is not None:
            self._counts.messages_in += event[0] == "in"
            self._counts.messages_out += event[0] == "out"
        if self._log is not None:
            self._log.append(event)
        if self._tracing:
            sys.stdout.write(f"*DBG* {event_text(event, extra)}\n")
        if self._file is not None:
            self._file.write(f"*DBG* {event_text(event, extra)}\n")
            self._file.flush()
        if self._functions:
            self._ask_functions(event, extra)

    def statistics(self, flag: str, reductions: int) -> object:
        """Switch the counters "on" or "off", or "get" them."""
        if flag == "get":
            return NO_STATISTICS if self._counts is None else self._counts.so_far(reductions)
        self._counts = _Counts(reductions) if flag == "on" else None
        return None

    def log(self, flag: str | int, extra: object) -> tuple[Event, ...] | None:
        """Keep the last events ("on", a number, "off"), or "get" or "print" them, oldest first."""
        events = self.events()
        if flag == "get":
            return events
        if flag == "print":
            for event in events:
                sys.stdout.write(f"*DBG* {event_text(event, extra)}\n")
        elif flag == "off":
            self._log = None
        else:
            self._log = deque(events, DEFAULT_LOG if isinstance(flag, str) else flag)
        return None

    def events(self) -> tuple[Event, ...]:
        """Give the logged events, oldest first."""
        return () if self._log is None else tuple(self._log)

    def log_to_file(self, path: str | None) -> None:
        """Write events to the file at `path`, which is emptied first; None closes it.

        Raises:
            OSError: it cannot be opened; then no file is written any more.
        """
        file, self._file = self._file, None
        if file is not None:
            file.close()
        if path is not None:
            self._file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115 - open until told otherwise

    def trace(self, flag: str) -> None:
        """Print events to stdout: "on" or "off"."""
        self._tracing = flag == "on"

    def install(self, key: object, function: DebugFunction, state: object) -> None:
        """Add a function, unless one with the same `key` is there."""
        self._functions.setdefault(key, (function, state))

    def remove(self, key: object) -> None:
        """Take the function with `key` out."""
        self._functions.pop(key, None)

    def no_debug(self) -> None:
        """Switch everything off."""
        self.log_to_file(None)
        self._counts = self._log = None
        self._tracing = False
        self._functions.clear()

    def shown(self) -> tuple[object, ...]:
        """List what is switched on, as get_status shows it."""
        parts: list[object] = []
        if self._counts is not None:
            parts.append("statistics")
        if self._log is not None:
            parts.append(("log", tuple(self._log)))
        if self._tracing:
            parts.append("trace")
        if self._file is not None:
            parts.append(("log_to_file", self._file.name))
        return (*parts, *(("install", key) for key in self._functions))

    def _ask_functions(self, event: Event, extra: object) -> None:
        for key, (function, state) in list(self._functions.items()):
            try:
                after = function(state, event, extra)
            except Exception:  # noqa: BLE001 - a failing debug function is removed; the process goes on
                after = DONE
            if isinstance(after, str) and after == DONE:
                del self._functions[key]
            else:
                self._functions[key] = (function, after)


def event_text(event: Event, extra: object) -> str:
    """Render an event as OTP's trace does: who, got or sent, what."""
    match event:
        case ("in", ("$gen_call", from_, request)):
            return f"{extra} got call {bounded_text(request)} from {_caller(from_)}"
        case ("in", ("$gen_cast", request)):
            return f"{extra} got cast {bounded_text(request)}"
        case ("in", message, *_):
            return f"{extra} got {bounded_text(message)}"
        case ("out", value, from_, *_):
            return f"{extra} sent {bounded_text(value)} to {_caller(from_)}"
        case ("noreply", state):
            return f"{extra} new state {bounded_text(state)}"
        case _:
            return f"{extra} event {bounded_text(event)}"


def _caller(from_: Any) -> object:
    owner = getattr(from_, "owner", None)
    return "outside" if owner is None else owner
