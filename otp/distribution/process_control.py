"""What the kernel offers to keep a tree of processes together: parent-death signals, subreapers, pidfds, /proc.

Linux only. Nothing here keeps state; a pid is named by whoever started it or found it in /proc.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

__all__ = [
    "ProcessStatus",
    "become_subreaper",
    "close_inherited_files",
    "descendants",
    "die_with_parent",
    "end_process",
    "find_by_environment",
    "kill_and_wait",
    "reset_fatal_signals",
    "status",
]

PR_SET_PDEATHSIG = 1  # source: linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
FATAL_SIGNALS = (
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGABRT,
    signal.SIGSYS,
    signal.SIGTRAP,
)
ADOPTION_LIMIT_S = 5.0
EXIT_ORPHANED = 75

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A line of /proc/<pid>/stat: `state` is the kernel's letter, `started` tells a reused pid apart."""

    pid: int
    parent: int
    state: str
    cpu_s: float
    started: int

    @property
    def is_alive(self) -> bool:
        """A zombie is not."""
        return self.state not in "ZX"

    @property
    def is_stopped(self) -> bool:
        """By SIGSTOP; a process under a debugger is not."""
        return self.state == "T"


def become_subreaper() -> None:
    """Adopt every orphan among the descendants, whoever its parent was."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Ask the kernel to SIGKILL this process when `parent` dies; end it now if that has happened.

    A daemonised process is adopted first: the signal is only asked for once `parent` is the parent.
    """
    deadline = time.monotonic() + ADOPTION_LIMIT_S
    while os.getppid() != parent:
        if time.monotonic() > deadline or status(parent) is None:
            os._exit(EXIT_ORPHANED)
        time.sleep(0.001)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(EXIT_ORPHANED)


def reset_fatal_signals() -> None:
    """Let a crash be a crash: a Python handler for SIGSEGV returns to the faulting instruction for ever."""
    for number in FATAL_SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def close_inherited_files(keep: Iterable[int] = (0, 1, 2)) -> None:
    """Let go of every file a fork has brought along, but `keep`.

    The descriptors are pointed at /dev/null, not closed: inherited objects still name these numbers, and
    one that is collected later must not close a file that was opened since.
    """
    kept = set(keep)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if fd != null and fd not in kept:
            with contextlib.suppress(OSError):  # the listing's own descriptor is closed by now
                os.fstat(fd)
                os.dup2(null, fd, inheritable=False)
    os.close(null)


def end_process(text: str, code: int) -> NoReturn:
    """End the process at once; Thespian's farewells are left out, the kernel tells the parent."""
    with contextlib.suppress(OSError):  # nothing may keep the process alive, not even a full disk
        if text:
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - logging may be what failed
    os._exit(code)


def status(pid: int) -> ProcessStatus | None:
    """Look `pid` up, None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name is in brackets and may hold blanks and brackets itself.
    fields = text[text.rindex(")") + 2 :].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return ProcessStatus(pid, int(fields[1]), fields[0], cpu_s, int(fields[19]))


def descendants(pid: int) -> list[int]:
    """List the living processes below `pid`, parents before children."""
    children: dict[int, list[int]] = {}
    for found in _all_processes():
        if found.is_alive:
            children.setdefault(found.parent, []).append(found.pid)
    below = list(children.get(pid, ()))
    for each in below:
        below += children.get(each, ())
    return below


def find_by_environment(name: str, value: str) -> list[int]:
    """List the living processes of this user that were started with `name=value` in their environment."""
    wanted = f"{name}={value}".encode()
    found = []
    for each in _all_processes():
        with contextlib.suppress(OSError):
            if each.is_alive and wanted in Path(f"/proc/{each.pid}/environ").read_bytes().split(
                b"\0"
            ):
                found.append(each.pid)
    return found


def kill_and_wait(pids: Iterable[int], timeout_s: float) -> list[int]:
    """SIGKILL processes and wait until they are gone (zombies of other parents count as gone).

    Returns:
        The pids still there after `timeout_s`: in the kernel, or not ours to kill.
    """
    with contextlib.ExitStack() as files:
        pidfds: dict[int, int] = {}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                pidfd = os.pidfd_open(pid)
                files.callback(os.close, pidfd)
                pidfds[pidfd] = pid
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        _wait_for_exits(pidfds, timeout_s)
        return list(pidfds.values())


def _wait_for_exits(pidfds: dict[int, int], timeout_s: float) -> None:
    """Wait for the exits of processes; those gone are taken out of `pidfds` and reaped if they are ours."""
    deadline = time.monotonic() + timeout_s
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    while pidfds and (left_s := deadline - time.monotonic()) > 0:
        for pidfd, _ in poll.poll(left_s * 1000):
            poll.unregister(pidfd)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pidfds[pidfd], os.WNOHANG)
            del pidfds[pidfd]


def _all_processes() -> Iterator[ProcessStatus]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (found := status(int(entry.name))) is not None:
            yield found


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")
