"""One child of `serve`: started, heard on its heartbeat pipe, and started again when it dies.

A child cannot outlive `serve`: the kernel kills it with its parent, and what carries its mark in the
environment is killed before it is started anew. At first that is whatever belongs to the same place; later
only what this `serve` has started, since another one may have taken the place.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import IO

from otp.distribution.heartbeat import Heartbeats, is_starved
from otp.distribution.process_control import (
    ProcessStatus,
    die_with_parent,
    find_by_environment,
    kill_and_wait,
    status,
)

__all__ = ["ServedProcess"]

SILENCE_LIMIT_S = 5.0
START_GRACE_S = 60.0  # a big journal is read before the first beat
STOPPED_LIMIT_S = 2.0
KILL_LIMIT_S = 5.0
BACKOFF_INITIAL_S = 0.1
BACKOFF_MAX_S = 5.0
SETTLED_S = 30.0
LARGEST_LOG_BYTES = 10 * 1024 * 1024
LONGEST_LINE_BYTES = 64
MARK = "CLOUDCTL_PART"
OWN_MARK = "CLOUDCTL_PART_OF"


class ServedProcess:
    """A command to be kept running; `beats` says that it writes `alive` on the pipe it is given."""

    def __init__(
        self, name: str, run: Path, log: Path, command: Sequence[str], *, beats: bool
    ) -> None:
        self.name = name
        self.restarts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.pidfd = -1
        self.pipe = -1
        self.due: float | None = None  # when to start it; None: runs, or is not wanted
        self._log = log / f"{name}.log"
        self._mark = f"{run}#{name}"
        self._own_mark = f"{secrets.token_hex(8)}#{name}"
        self._command = tuple(command)
        self._beats = beats
        self._failures = 0
        self._born = 0.0
        self._line = b""
        self._hearts: Heartbeats[str] = Heartbeats(0.0, SILENCE_LIMIT_S)
        self._stopped_since: float | None = None
        self._late: tuple[float, ProcessStatus | None] | None = None

    def start(self, environment: Mapping[str, str]) -> None:
        """Run the command; nothing of an earlier run is left."""
        self._kill_own()
        command, pipe = self._command, -1
        if self._beats:
            self.pipe, pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            command = (*command, "--heartbeat-fd", str(pipe))
        with self._open_log() as log:
            self.process = subprocess.Popen(
                [*command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(pipe,) if self._beats else (),
                env={**environment, MARK: self._mark, OWN_MARK: self._own_mark},
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - no threads
            )
        if pipe >= 0:
            os.close(pipe)
        self.pidfd = os.pidfd_open(self.process.pid)
        self._born = monotonic()
        self._hearts = Heartbeats(self._born, SILENCE_LIMIT_S)
        self._hearts.expect(self.name, self._born, START_GRACE_S)
        self._line, self._late, self._stopped_since, self.due = b"", None, None, None

    def lines(self) -> list[str]:
        """Read what the child has written; every line shows it alive."""
        data = b""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self.pipe, 65536)
            if not data:  # it has closed its end: it will die, or fall silent
                self._close_pipe()
                return []
        *complete, self._line = (self._line + data).split(b"\n")
        self._line = self._line[:LONGEST_LINE_BYTES]
        self._hearts.hear(self.name, monotonic())
        return [line.decode(errors="replace") for line in complete]

    def fault(self, now: float) -> str | None:
        """Say why the running child must be killed, if it must."""
        if not self._beats or self.process is None:
            return None
        overdue = self._hearts.check(now)
        found = status(self.process.pid)
        if found is not None and found.is_stopped:
            self._stopped_since = self._stopped_since or now
            if now - self._stopped_since > STOPPED_LIMIT_S:
                return "it is stopped"
        else:
            self._stopped_since = None
        silent_s = self._hearts.silence_s(self.name, now)
        if silent_s < SILENCE_LIMIT_S / 2:
            self._late = None
        elif self._late is None:
            self._late = (now, found)
        if overdue and self._late is not None:
            since, before = self._late
            if not is_starved(before, found, now - since, silent_s):
                return f"it is silent for {silent_s:.1f} s"
        return None

    def signal(self, number: int) -> None:
        """Send a signal to the running child."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def ended(self) -> int:
        """Note the end of the child, with all that belonged to it; return its exit code."""
        assert self.process is not None
        code = self.process.wait()
        self.process = None
        os.close(self.pidfd)
        self._close_pipe()
        self._kill_own()
        return code

    def start_later(self) -> float:
        """Plan the next start; return the seconds until then."""
        if monotonic() - self._born > SETTLED_S:
            self._failures = 0
        wait_s = min(BACKOFF_INITIAL_S * 2.0**self._failures, BACKOFF_MAX_S)
        self._failures += 1
        self.restarts += 1
        self.due = monotonic() + wait_s
        return wait_s

    def kill_strays(self) -> None:
        """Kill what a `serve` that died may have left behind at this place."""
        kill_and_wait(find_by_environment(MARK, self._mark), KILL_LIMIT_S)

    def _kill_own(self) -> None:
        kill_and_wait(find_by_environment(OWN_MARK, self._own_mark), KILL_LIMIT_S)

    def _close_pipe(self) -> None:
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1

    def _open_log(self) -> IO[bytes]:
        with contextlib.suppress(FileNotFoundError):
            if self._log.stat().st_size > LARGEST_LOG_BYTES:
                self._log.rename(self._log.with_suffix(".log.1"))
        try:
            return self._log.open("ab")
        except OSError:  # no room for a log is no reason not to run
            return Path(os.devnull).open("ab")
