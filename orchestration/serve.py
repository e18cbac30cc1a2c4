"""`cloudctl serve`: the small parent that keeps the server's processes running, each apart from the others.

    python -m orchestration.serve [--state-dir S] [--metrics-listen HOST:PORT] [--ready-fd N]

It has no threads and no sockets: a poll over its children's heartbeat pipes and pidfds. Children are the
orchestration node, the launcher of the automation tier, and, once somebody wants it, the service of the
simulated devices. If this process dies, the kernel kills them all, and the next start cleans up and goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import FrameType

from orchestration.problems import ProblemError, exit_status_of
from orchestration.served_process import ServedProcess
from orchestration.state_folder import StateFolder, default_path
from otp.distribution.environment import thespian_environment

__all__ = ["Children", "Serve", "main"]

TICK_S = 0.4
STOP_LIMIT_S = 5.0
AUTOMATION_ROOT = "automation.root:start"

_log = logging.getLogger("serve")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    options = _parse(arguments)
    logging.basicConfig(
        level=logging.INFO, format=f"%(asctime)s serve[{os.getpid()}] %(levelname)s %(message)s"
    )
    folder = StateFolder(options.state_dir or default_path())
    try:
        folder.prepare()
        lock = folder.lock()
    except ProblemError as error:
        problem = error.problem
        print(  # noqa: T201 - what the operator sees
            f"error[{problem.code}]: {problem.title}: {problem.detail}\n  hint: {problem.hint}",
            file=sys.stderr,
        )
        return exit_status_of(problem)
    status = Serve(folder, _children(folder, options.metrics_listen), options.ready_fd).run()
    os.close(lock)
    return status


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cloudctl serve", description="Run the server.")
    parser.add_argument("--state-dir", type=Path, help="default: $CLOUDCTL_STATE_DIR or the user's")
    parser.add_argument(
        "--metrics-listen", metavar="HOST:PORT", help="serve /metrics there as well"
    )
    parser.add_argument("--ready-fd", type=int, help="write a line there when the API answers")
    return parser.parse_args(arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    """What `Serve` keeps running; the device service only once the orchestration node wants it."""

    orchestration: ServedProcess
    launcher: ServedProcess
    devices: ServedProcess

    def __iter__(self) -> Iterator[ServedProcess]:
        """In the order of stopping: the automation tier first, so that it can still report what it ends."""
        return iter((self.launcher, self.orchestration, self.devices))


class Serve:
    """The parent: starts, hears, restarts and stops its children, one poll at a time."""

    def __init__(
        self, folder: StateFolder, children: Children, ready_fd: int | None = None
    ) -> None:
        self._folder = folder
        self._children = children
        self._ready_fd = ready_fd
        self._stopping = False
        self._poll = select.poll()
        self._environment = {
            **os.environ,
            **thespian_environment(folder.log / "thespian.log"),
            "CLOUDCTL_DEVICES": str(folder.devices_socket),
            "PYTHONPATH": os.pathsep.join(_import_path()),
        }

    def run(self) -> int:
        """Serve until a signal says stop, then stop the children in order; return the exit status.

        Without its state folder a server is seen by nobody, and another may start at the same place: it
        ends with all its children, and touches nothing that may be the other's.
        """
        self._listen_to_signals()
        for child in self._children:
            child.kill_strays()
        for child in (self._children.orchestration, self._children.launcher):
            child.due = monotonic()
        while not self._stopping and not self._folder.is_lost():
            self._start_due()
            self._turn(self._wait_s())
        if not self._stopping:
            return self._end_without_folder()
        _log.info("stopping")
        for child in self._children:
            self._stop(child)
        self._folder.serve_record.unlink(missing_ok=True)
        self._folder.leave_run()
        return 0

    def _end_without_folder(self) -> int:
        path = self._folder.path
        _log.error("the state folder %s, or its lock file, was removed: all processes end", path)
        self._stopping = True
        for child in self._children:
            child.signal(signal.SIGKILL)  # what they could still write is gone already
        for child in self._children:
            self._stop(child)
        return 1

    def _listen_to_signals(self) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        # A parent that is suspended with its terminal could not keep anything running.
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        self._wakeup = reader
        self._poll.register(reader, select.POLLIN)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _wait_s(self) -> float:
        due = [child.due for child in self._children if child.due is not None]
        return max(0.0, min([TICK_S, *(at - monotonic() for at in due)]))

    def _start_due(self) -> None:
        for child in self._children:
            if child.due is not None and monotonic() >= child.due:
                child.start(self._environment)
                assert child.process is not None
                _log.info("%s started, pid %d", child.name, child.process.pid)
                self._poll.register(child.pidfd, select.POLLIN)
                if child.pipe >= 0:
                    self._poll.register(child.pipe, select.POLLIN)
                self._write_record()

    def _turn(self, wait_s: float) -> None:
        """Wait for news and take it, then look for children that have gone quiet."""
        ready = {fd for fd, _ in self._poll.poll(wait_s * 1000)}
        if self._wakeup in ready:
            os.read(self._wakeup, 512)
        for child in self._children:
            if child.pipe in ready:
                self._hear(child)
            if child.process is not None and child.pidfd in ready:
                self._bury(child)
        for child in self._children:
            fault = child.fault(monotonic())
            if fault is not None:
                _log.error("%s is killed: %s", child.name, fault)
                child.signal(signal.SIGKILL)

    def _hear(self, child: ServedProcess) -> None:
        pipe = child.pipe
        for line in child.lines():
            if line == "want devices" and self._children.devices.process is None:
                self._children.devices.due = self._children.devices.due or monotonic()
            elif line == "ready":
                self._tell_ready()
        if child.pipe != pipe:
            self._poll.unregister(pipe)

    def _bury(self, child: ServedProcess) -> None:
        self._poll.unregister(child.pidfd)
        if child.pipe >= 0:
            self._poll.unregister(child.pipe)
        code = child.ended()
        if self._stopping:
            return
        wait_s = child.start_later()
        _log.error("%s ended with %d; started again in %.1f s", child.name, code, wait_s)
        self._write_record()

    def _stop(self, child: ServedProcess) -> None:
        child.due = None
        child.signal(signal.SIGTERM)
        deadline = monotonic() + STOP_LIMIT_S
        while child.process is not None:
            left_s = deadline - monotonic()
            if left_s <= 0:
                child.signal(signal.SIGKILL)
            self._turn(max(0.05, min(left_s, TICK_S)))

    def _tell_ready(self) -> None:
        _log.info("ready: %s", self._folder.api_socket)
        if self._ready_fd is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._ready_fd, b"ready\n")
            os.close(self._ready_fd)
            self._ready_fd = None

    def _write_record(self) -> None:
        """Tell who looks which processes there are; a full disk leaves the last news standing."""
        record: dict[str, dict[str, int]] = {"serve": {"pid": os.getpid()}}
        for child in self._children:
            if child.process is not None:
                record[child.name] = {"pid": child.process.pid, "restarts": child.restarts}
        fresh = self._folder.serve_record.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(record), encoding="utf-8")
            fresh.rename(self._folder.serve_record)
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._folder.serve_record, error)


def _children(folder: StateFolder, metrics_listen: str | None) -> Children:
    def child(name: str, module: str, *arguments: object, beats: bool = True) -> ServedProcess:
        command = [sys.executable, "-P", "-m", module, *map(str, arguments)]
        return ServedProcess(name, folder.run, folder.log, command, beats=beats)

    metrics = ("--metrics-listen", metrics_listen) if metrics_listen else ()
    return Children(
        orchestration=child(
            "orchestration",
            "orchestration.node",
            *("--state-dir", folder.path, "--run-dir", folder.run, *metrics),
        ),
        launcher=child(
            "launcher",
            "otp.distribution.launcher",
            *("--run-dir", folder.run, "--cookie-file", folder.cookie, "--root", AUTOMATION_ROOT),
        ),
        devices=child(
            "devices",
            "drivers.device_service",
            *("--socket", folder.devices_socket, "--folder", folder.devices),
            beats=False,
        ),
    )


def _import_path() -> Iterator[str]:
    """Where the children find our packages, however this process found them."""
    yield str(Path(__file__).resolve().parent.parent)
    if inherited := os.environ.get("PYTHONPATH"):
        yield inherited


if __name__ == "__main__":
    sys.exit(main())
