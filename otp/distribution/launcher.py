"""The process above an actor system: starts it, creates the root node in it, and watches what it cannot watch.

    python -m otp.distribution.launcher --run-dir R --cookie-file F --root module:function [--heartbeat-fd N]

Thespian's admin and logger are daemons that outlive whoever started them and do not heal. Here they are
bound to the launcher (subreaper, parent-death signals), and when one of them or the root node dies, hangs or is
stopped, everything below the launcher is killed and the launcher executes itself anew, after a back-off:
a system is only ever started from a fresh process without threads or sockets.

The launcher writes `launcher.json` into the run folder, and `alive` to its heartbeat pipe. It kills a parent
that has been stopped, so that the whole ends rather than lingers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import msgspec
from thespian.actors import ActorSystem

from otp.distribution import hardening
from otp.distribution.children import ChildNode, Children
from otp.distribution.environment import thespian_environment
from otp.distribution.link import Hello
from otp.distribution.node import StartNode, resolve
from otp.distribution.node_actor import NodeActor
from otp.distribution.parent_link import NODE_PROTOCOL
from otp.distribution.process_control import (
    become_subreaper,
    descendants,
    die_with_parent,
    kill_and_wait,
    status,
)

__all__ = ["main"]

BEAT_S = 0.5
STOPPED_LIMIT_S = 2.0  # a process of the system may be stopped for so long
START_LIMIT_S = 10
ROOT_STOP_S = 3.5
KILL_LIMIT_S = 5.0
BACKOFF_INITIAL_S = 0.1
BACKOFF_MAX_S = 5.0
SETTLED_S = 30.0  # a system that lived so long starts anew with the first back-off
RESTARTS = "OTP_LAUNCHER_RESTARTS"
FAILURES = "OTP_LAUNCHER_FAILURES"  # in a row

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """The processes of a running actor system; `root_address` is Thespian's."""

    admin: int
    logger: int
    root: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line."""

    run_dir: Path
    cookie: bytes
    root: str
    heartbeat_fd: int | None

    @property
    def socket(self) -> Path:
        """Where the root node reports."""
        return self.run_dir / "launcher.sock"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run until SIGTERM; never returns."""
    options = _parse(arguments)
    if options.heartbeat_fd is not None:
        fcntl.fcntl(options.heartbeat_fd, fcntl.F_SETFD, 0)  # kept over the execution of ourselves
        fcntl.fcntl(options.heartbeat_fd, fcntl.F_SETFL, os.O_NONBLOCK)
    parent = os.getppid()
    die_with_parent(parent)
    become_subreaper()
    _enter_environment(options.run_dir)
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s launcher[{os.getpid()}] %(levelname)s %(name)s: %(message)s",
    )
    _kill_everything()
    began = time.monotonic()
    try:
        system = _start(options)
        reason = asyncio.run(_Watch(options, system, parent).run())
    except Exception:  # noqa: BLE001 - whatever it is, it is tried again from scratch
        _log.exception("the actor system did not start")
        reason = "failed to start"
    _kill_everything()
    if reason is None:
        os._exit(0)
    _log.error("the actor system is started anew: %s", reason)
    _again(options, lived_s=time.monotonic() - began)


def _parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="otp.distribution.launcher", description=__doc__)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument(
        "--root", required=True, help="the root node's application, module:function"
    )
    parser.add_argument("--cookie-file", type=Path, help="default: cookie in the run folder")
    parser.add_argument("--heartbeat-fd", type=int)
    found = parser.parse_args(arguments)
    cookie_file: Path = found.cookie_file or found.run_dir / "cookie"
    return Options(
        run_dir=found.run_dir,
        cookie=cookie_file.read_bytes().strip(),
        root=found.root,
        heartbeat_fd=found.heartbeat_fd,
    )


def _enter_environment(run_dir: Path) -> None:
    """Execute this program anew if Thespian was imported without its environment."""
    log_file = os.environ.get("THESPLOG_FILE", str(run_dir / "thespian.log"))
    wanted = thespian_environment(Path(log_file))
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        _execute(wanted)


def _start(options: Options) -> System:
    """Start admin, logger and root node; blocks for a tenth of a second, for a minute if something is wrong."""
    resolve(options.root)  # what is imported now is shared by every node
    _limit_start(options)
    hardening.install(secrets.token_bytes(32))
    system = ActorSystem("multiprocTCPBase", {"Admin Port": _free_port()})
    (admin,) = _children(os.getpid())
    (logger,) = _children(admin)
    address = system.createActor(NodeActor)
    (root,) = set(_children(admin)) - {logger}
    order = StartNode(
        name="root",
        kind="root",
        application=options.root,
        payload=b"",
        epoch=(),
        run_dir=options.run_dir,
        cookie=options.cookie,
        parent_socket=options.socket,
    )
    system.tell(address, order)
    system._systemBase.transport.close()  # noqa: SLF001 - nothing is to reach the launcher this way
    signal.alarm(0)
    found = System(admin=admin, logger=logger, root=root)
    _write_record(options.run_dir, found)
    return found


class _Watch:
    """Watches a system until it is broken or to be stopped."""

    def __init__(self, options: Options, system: System, parent: int) -> None:
        self._options = options
        self._system = system
        self._parent = parent
        self._stopped_since: dict[int, float] = {}

    async def run(self) -> str | None:
        """Return why the system is broken, None if it was stopped by SIGTERM."""
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str | None] = loop.create_future()
        loop.add_signal_handler(signal.SIGTERM, self._end, None)
        loop.add_signal_handler(signal.SIGINT, self._end, None)
        loop.add_signal_handler(signal.SIGCHLD, _reap)
        children = Children(self._options.socket, self._hello, self._options.cookie)
        await children.open()
        root = self._adopt_root(children)
        for name, pid in (("admin", self._system.admin), ("logger", self._system.logger)):
            loop.add_reader(os.pidfd_open(pid), self._end, f"the {name} died")
        self._beat()
        reason = await self._ended
        if reason is None:
            await root.stop(ROOT_STOP_S)
        children.close()
        return reason

    def _adopt_root(self, children: Children) -> ChildNode:
        loop = asyncio.get_running_loop()
        # Not our child, so nobody tells us its exit code: its last words, or that it is gone.
        root = ChildNode("root", "root", self._system.root, (), exit_code=lambda: None, loop=loop)
        children.add(root)
        root.exited.add_done_callback(lambda it: self._end(f"the root node died: {it.result()}"))
        return root

    def _hello(self) -> Hello:
        return Hello("launcher", "launcher", os.getpid(), (), NODE_PROTOCOL, "")

    def _end(self, reason: str | None) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    def _beat(self) -> None:
        _write_beat(self._options.heartbeat_fd)
        if self._is_stopped(self._system.admin):
            self._end("the admin is stopped")
        if self._is_stopped(self._system.logger):
            self._end("the logger is stopped")
        if self._options.heartbeat_fd is not None and self._is_stopped(self._parent):
            _log.error("the parent (pid %d) is stopped: it is killed, and all of us", self._parent)
            os.kill(self._parent, signal.SIGKILL)
        asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _is_stopped(self, pid: int) -> bool:
        now = time.monotonic()
        found = status(pid)
        if found is None or not found.is_stopped:
            self._stopped_since.pop(pid, None)
            return False
        return now - self._stopped_since.setdefault(pid, now) > STOPPED_LIMIT_S


def _limit_start(options: Options) -> None:
    """Start anew if Thespian blocks: it waits 50 s for an actor when the admin has died meanwhile."""
    launcher = os.getpid()

    def overrun(number: int, frame: object) -> None:  # noqa: ARG001
        if os.getpid() == launcher:
            _log.error("the actor system did not start within %d s", START_LIMIT_S)
            _kill_everything()
            _again(options, lived_s=0.0)

    signal.signal(signal.SIGALRM, overrun)
    signal.alarm(START_LIMIT_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((hardening.LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _children(pid: int) -> list[int]:
    return [each for each in descendants(pid) if (found := status(each)) and found.parent == pid]


def _write_record(run_dir: Path, system: System) -> None:
    """Tell who looks for a process, or for what an earlier system has left behind."""
    restarts = int(os.environ.get(RESTARTS, "0"))
    record = {
        name: {"pid": pid, "restarts": restarts}
        for name, pid in (
            ("admin", system.admin),
            ("logger", system.logger),
            ("root", system.root),
        )
    }
    written = run_dir / "launcher.json.new"
    try:
        written.write_bytes(msgspec.json.encode(record))
        written.rename(run_dir / "launcher.json")
    except OSError as error:  # a full disk is no reason to do without the system
        _log.warning("%s cannot be written: %s", written, error)


def _write_beat(fd: int | None) -> None:
    if fd is not None:
        try:
            os.write(fd, b"alive\n")
        except BlockingIOError:
            _log.warning("the parent does not read our heartbeats")


def _reap() -> None:
    """Take the exit status of adopted processes."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _kill_everything() -> None:
    """SIGKILL all descendants, those they leave behind included, and wait for their ends."""
    deadline = time.monotonic() + KILL_LIMIT_S
    while (below := descendants(os.getpid())) and time.monotonic() < deadline:
        kill_and_wait(below, KILL_LIMIT_S)
    _reap()
    if below:
        _log.error("processes that cannot be killed: %s", below)


def _again(options: Options, lived_s: float) -> NoReturn:
    """Wait, then execute this program anew: same pid, same heartbeat pipe, nothing else."""
    signal.alarm(0)  # it would outlive the execution
    failures = 0 if lived_s > SETTLED_S else int(os.environ.get(FAILURES, "0"))
    until = time.monotonic() + min(BACKOFF_INITIAL_S * 2**failures, BACKOFF_MAX_S)
    while (left_s := until - time.monotonic()) > 0:
        _write_beat(options.heartbeat_fd)
        time.sleep(min(left_s, BEAT_S))
    restarts = int(os.environ.get(RESTARTS, "0"))
    _execute({RESTARTS: str(restarts + 1), FAILURES: str(failures + 1)})


def _execute(changes: dict[str, str]) -> NoReturn:
    with contextlib.suppress(OSError):  # no room for a log is no reason not to go on
        sys.stdout.flush()
        sys.stderr.flush()
    os.execve(  # noqa: S606 - this very program
        sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **changes}
    )


if __name__ == "__main__":
    main()
