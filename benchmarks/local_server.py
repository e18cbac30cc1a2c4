"""A whole cloudctl server in a temporary folder, for benchmarks, chaos runs and system tests.

It is started and asked through the command line as an operator would, and carries a mark in its
environment, so that every process that belongs to it is found again, whatever became of its parents.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["LocalServer", "ServerProcess", "marked_processes", "process_state"]

ROOT = Path(__file__).resolve().parent.parent
MARK = "CLOUDCTL_MARK"


class ServerProcess:
    """One OS process of the server, as `cloudctl get nodes` names it."""

    __slots__ = ("kind", "name", "pid", "state")

    def __init__(self, name: str, kind: str, pid: int | None, state: str) -> None:
        self.name = name
        self.kind = kind
        self.pid = pid
        self.state = state

    def __repr__(self) -> str:
        return f"{self.kind} {self.name} pid {self.pid} {self.state}"


class LocalServer:
    """Starts, asks, hurts and ends one server; use it as a context manager.

    Args:
        folder: the state folder; a temporary one (removed at the end) if None.
    """

    def __init__(self, folder: Path | None = None, *, extra: Sequence[str] = ()) -> None:
        self.temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="cloudctl-"))
        self.mark = uuid.uuid4().hex
        self.extra = tuple(extra)
        self.env = {
            **os.environ,
            MARK: self.mark,
            "CLOUDCTL_STATE_DIR": str(self.folder),
            "NO_COLOR": "1",
        }

    def __enter__(self) -> LocalServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cli(
        self, *args: str, check: bool = True, stdin: str | None = None, timeout_s: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run one `cloudctl` command against this server."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "cli.py"), *args],
            env=self.env,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"cloudctl {' '.join(args)} ended with {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def ask(self, *args: str) -> list[dict[str, object]]:
        """Run a `get`-like command and return its items."""
        answer = json.loads(self.cli(*args, "-o", "json").stdout)
        items = answer.get("items", answer)
        return items if isinstance(items, list) else [items]

    def start(self) -> None:
        """Start the server in the background and wait until it answers."""
        self.cli("server", "start", *self.extra)

    def stop(self) -> None:
        """Stop the server in order."""
        self.cli("server", "stop")

    def close(self) -> None:
        """Stop the server, kill what is left of it, and remove a temporary folder."""
        self.cli("server", "stop", check=False)
        for pid in marked_processes(self.mark):
            kill(pid, signal.SIGKILL)
        if self.temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def nodes(self) -> list[ServerProcess]:
        """Every process the server knows to be its own."""
        return [
            ServerProcess(str(n["name"]), str(n["kind"]), _pid(n["pid"]), str(n["state"]))
            for n in self.ask("get", "nodes")
        ]

    def node(self, kind: str, name: str | None = None) -> ServerProcess:
        """The first live node of a kind."""
        for node in self.nodes():
            if node.kind == kind and node.pid and name in (None, node.name):
                return node
        raise AssertionError(f"no {kind} node {name or ''}")

    def states(self) -> dict[str, int]:
        """How many units are in which state."""
        status = json.loads(self.cli("server", "status", "-o", "json").stdout)
        return dict(status["status"]["units"])

    def wait_for(self, what: str, predicate: object, timeout_s: float) -> float:
        """Poll until `predicate()` holds; answers how long it took, in seconds."""
        assert callable(predicate)
        begin = time.monotonic()
        while time.monotonic() - begin < timeout_s:
            try:
                if predicate():
                    return time.monotonic() - begin
            except (AssertionError, json.JSONDecodeError):
                pass  # the server is on its way up again
            time.sleep(0.1)
        raise AssertionError(f"{what}: not within {timeout_s} s; nodes {self.nodes()}")


def _pid(value: object) -> int | None:
    return value if isinstance(value, int) else None


def kill(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False if the process is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def process_state(pid: int) -> str:
    """The letter of /proc/PID/stat (R, S, T, Z, …), "" if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def marked_processes(mark: str) -> list[int]:
    """Pids of every live process started (however indirectly) with this mark."""
    return sorted(_marked(f"{MARK}={mark}".encode()))


def _marked(wanted: bytes) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environ = (entry / "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if wanted in environ.split(b"\0") and process_state(int(entry.name)) not in ("", "Z"):
            yield int(entry.name)
