"""Starting, stopping and asking after the server of a state folder on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from orchestration import problems
from orchestration.client import Client
from orchestration.client_output import Console
from orchestration.client_target import Target
from orchestration.problems import ProblemError
from orchestration.state_folder import StateFolder

__all__ = ["ensure", "run_in_foreground", "start", "status", "stop"]

SERVE = "orchestration.serve"
POLL_S = 0.05
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
LOG_TAIL_LINES = 15


def run_in_foreground(target: Target, extra: tuple[str, ...]) -> NoReturn:
    """Become `cloudctl serve`: its parent process must have neither threads nor sockets of ours."""
    command = _command(target, extra)
    _refuse_second(target)
    os.execv(sys.executable, command)  # noqa: S606 (no shell is wanted)


def start(
    target: Target, console: Console, extra: tuple[str, ...], timeout_s: float = START_TIMEOUT_S
) -> int:
    """Start a server in the background, wait until it is ready, and give its process id.

    Raises:
        ProblemError: one is running already, or it ended or was not ready in time (its log says why).
    """
    command = _command(target, extra)
    _refuse_second(target)
    log = _log_file(target)
    offset = log.stat().st_size
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    give_up_at = time.monotonic() + timeout_s
    with Client(target) as client:
        while not client.is_ready():
            code = process.poll()
            if code is not None:
                raise problems.START_FAILED.error(
                    f"it ended with {code}:\n{_tail(log, offset)}", hint=f"see {log}"
                )
            if time.monotonic() >= give_up_at:
                raise problems.START_FAILED.error(
                    f"pid {process.pid} is not ready after {timeout_s:g} s:\n{_tail(log, offset)}",
                    hint=f"see {log}; stop it: cloudctl server stop",
                )
            time.sleep(POLL_S)
    process.returncode = 0  # it stays; without this Popen warns about a child that still runs
    console.say(f"server started: pid {process.pid}, state in {target.state}, log in {log}")
    return process.pid


def ensure(target: Target, console: Console) -> None:
    """Start a local server in the background if none runs for this state folder.

    Raises:
        ProblemError: it does not start, or only a socket was named and nobody listens on it.
    """
    with Client(target) as client:
        try:
            client.status()
        except ProblemError as error:
            if error.problem.code != problems.NOT_RUNNING.code or target.state is None:
                raise
            console.say(f"no server is running for {target.state}: starting one in the background")
            start(target, console, ())


def stop(target: Target, console: Console, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Stop the server and wait until it is gone; one that does not run is stopped already.

    Raises:
        ProblemError: it is still there after `timeout_s`, or belongs to another account.
    """
    pid = target.serve_pid()
    if pid is None:
        console.say(f"no server is running for {target.state or target.socket}")
        return
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError as error:
        raise problems.STOP_DENIED.error(f"pid {pid} belongs to another account") from error
    except ProcessLookupError:
        return
    give_up_at = time.monotonic() + timeout_s
    while target.serve_pid() == pid:
        if time.monotonic() >= give_up_at:
            raise problems.STOP_FAILED.error(f"pid {pid} is still there after {timeout_s:g} s")
        time.sleep(POLL_S)
    console.say(f"server stopped: pid {pid}")


def status(client: Client, console: Console) -> None:
    """Show the server's health on one screen."""
    answer = client.status()
    if console.is_machine:
        console.document("ServerStatus", status=answer)
        return
    console.write(
        f"cloudctl {answer.version}, pid {client.target.serve_pid() or answer.pid}, up {answer.uptime_s:.0f} s"
    )
    console.write(f"state folder  {answer.state_folder}")
    console.write(f"socket        {client.target.socket}")
    console.write(f"revision      {answer.revision}")
    for name, counts in (
        ("nodes", answer.nodes),
        ("resources", answer.resources),
        ("work", answer.units),
    ):
        shown = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()) if count)
        console.write(f"{name:<13} {shown or 'none'}")
    console.write(f"accepts       {answer.accepts_per_s:.1f}/s")
    console.write(f"metrics       {answer.metrics or 'GET /metrics on the socket'}")


def _command(target: Target, extra: tuple[str, ...]) -> list[str]:
    if target.state is None:
        raise problems.BAD_ARGUMENT.error(
            "a server is started for a state folder, not for a socket",
            hint="leave --server out, use --state-dir",
        )
    # -P: whatever lies in the folder somebody starts it from is none of the server's modules.
    return [sys.executable, "-P", "-m", SERVE, "--state-dir", str(target.state), *extra]


def _refuse_second(target: Target) -> None:
    pid = target.serve_pid()
    if pid is not None:
        raise problems.ALREADY_RUNNING.error(f"pid {pid} serves {target.state}")


def _log_file(target: Target) -> Path:
    """Make sure that there is a log, for what keeps the server from starting stands in it."""
    assert target.state is not None  # _command has refused by now
    log = StateFolder(target.state).log / "serve.log"
    try:
        target.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        log.parent.mkdir(mode=0o700, exist_ok=True)
        log.touch(mode=0o600)
    except OSError as error:
        raise problems.BAD_STATE_FOLDER.error(f"{log}: {error.strerror}") from error
    return log


def _tail(log: Path, offset: int) -> str:
    with log.open("rb") as file:
        file.seek(offset)
        lines = file.read().decode(errors="replace").splitlines()
    return (
        "\n".join(f"      {line}" for line in lines[-LOG_TAIL_LINES:]) or "      (its log is empty)"
    )
