"""The nodes a node has started: their exits, however they come about, and the beats that show them alive.

Whoever is ready first tells of a death: the pidfd, Thespian's ChildActorExited, or a silence that is too
long. A silent process is killed before it counts as dead, so nothing is restarted beside a zombie.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

from otp.distribution.heartbeat import BEAT_S, LIMIT_S, Heartbeats, is_starved
from otp.distribution.link import Handler, Hello, Link, LinkError, Listener, listen
from otp.distribution.parent_link import NewPayload, StopNode, Stopping, Up, decode, encode
from otp.distribution.process_control import ProcessStatus, status

__all__ = ["ChildNode", "Children"]

START_GRACE_S = 10.0  # from the fork to the first beat
HEARTBEAT = "heartbeat"

_log = logging.getLogger(__name__)


class ChildNode:
    """A node's process as its parent holds it. `exited` is done once the process is gone, never before."""

    def __init__(
        self,
        name: str,
        kind: str,
        pid: int,
        epoch: tuple[int, ...],
        *,
        exit_code: Callable[[], int | None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.name = name
        self.kind = kind
        self.pid = pid
        self.epoch = epoch
        self.exited: asyncio.Future[str] = loop.create_future()
        self.exit_reason: object = None  # "normal", "heartbeat", ("killed", 9) or ("exit", 70, why)
        self.up: asyncio.Future[str] = loop.create_future()
        self.link: Link | None = None
        self.last_words: str | None = None
        self._loop = loop
        self._exit_code = exit_code
        self._verdict: str | None = None
        self._pidfd = os.pidfd_open(pid)
        loop.add_reader(self._pidfd, self._gone)

    def kill(self, verdict: str | None = None) -> None:
        """SIGKILL the process; `verdict` becomes the reason of its exit."""
        if not self.exited.done():
            self._verdict = self._verdict or verdict
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def tell(self, payload: bytes) -> None:
        """Give a living node its new payload; a dead or dying one is not told."""
        if self.link is not None:
            self.link.send(NewPayload(payload))

    async def stop(self, timeout_s: float) -> str:
        """Ask the node to end, SIGKILL it after `timeout_s`, and wait until it is gone. Return the reason."""
        if self.link is None:
            self.kill()
        else:
            self.link.send(StopNode("shutdown"))
            await asyncio.wait({self.exited}, timeout=timeout_s)
            self.kill()
        return await asyncio.shield(self.exited)

    def _gone(self) -> None:
        """Name the reason and tell everybody who waits; the process is a zombie at most."""
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.exit_reason = self._reason()
        if not self.up.done():
            self.up.cancel()
        self.exited.set_result(_text(self.exit_reason))

    def _reason(self) -> object:
        code = self._exit_code()
        if self._verdict is not None:
            return self._verdict
        if code is not None and code < 0:
            return ("killed", -code)
        if code:
            return ("exit", code, self.last_words or "")
        if code is None and self.last_words is None:
            return "gone"
        return self.last_words or "normal"


class Children(Handler):
    """The living children of one node, and the socket on which they report."""

    def __init__(self, path: Path, me: Callable[[], Hello], cookie: bytes) -> None:
        self._path = path
        self._me = me
        self._cookie = cookie
        self._loop = asyncio.get_running_loop()
        self._by_pid: dict[int, ChildNode] = {}
        self._beats: Heartbeats[int] = Heartbeats(self._loop.time())
        self._suspects: dict[int, tuple[float, ProcessStatus | None]] = {}
        self._opening: asyncio.Task[None] | None = None
        self._listener: Listener | None = None
        self._tick: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Listen for children and begin to judge their silences; any number of callers may wait for it."""
        if self._opening is None:
            self._opening = self._loop.create_task(self._open())
        await asyncio.shield(self._opening)

    def close(self) -> None:
        """Listen and judge no more."""
        if self._tick is not None:
            self._tick.cancel()
        if self._listener is not None:
            self._listener.close()

    def living(self) -> list[ChildNode]:
        """List the children whose process still exists."""
        return list(self._by_pid.values())

    def add(self, child: ChildNode) -> None:
        """Expect beats of `child` until it exits."""
        self._by_pid[child.pid] = child
        self._beats.expect(child.pid, self._loop.time(), START_GRACE_S)
        child.exited.add_done_callback(lambda _: self._forget(child))

    def received(self, link: Link, messages: list[object]) -> None:
        child = self._by_pid.get(link.peer.pid)
        if child is None:
            return
        self._beats.hear(child.pid, self._loop.time())
        for message in messages:
            match message:
                case Up() if not child.up.done():
                    child.up.set_result("up")
                case Stopping(reason):
                    child.last_words = reason

    def lost(self, link: Link, reason: str) -> None:
        """Wait for the exit that caused it; a process that lives on without its link falls silent."""
        child = self._by_pid.get(link.peer.pid)
        if child is not None:
            child.link = None

    async def _open(self) -> None:
        self._listener = await listen(
            self._path,
            me=self._me,
            cookie=self._cookie,
            encode=encode,
            decode=decode,
            accept=self._accept,
        )
        self._check()

    def _accept(self, link: Link) -> Handler:
        child = self._by_pid.get(link.peer.pid)
        if child is None or child.name != link.peer.node:
            raise LinkError(f"{link.peer.node} (pid {link.peer.pid}) is not a child of this node")
        child.link = link
        self._beats.expect(child.pid, self._loop.time())
        return self

    def _forget(self, child: ChildNode) -> None:
        self._by_pid.pop(child.pid, None)
        self._suspects.pop(child.pid, None)
        self._beats.forget(child.pid)

    def _check(self) -> None:
        self._tick = self._loop.call_later(BEAT_S, self._check)
        now = self._loop.time()
        overdue = self._beats.check(now)
        for pid in self._by_pid:
            self._suspect(pid, now)
        for pid in overdue:
            self._judge(self._by_pid[pid], now)

    def _suspect(self, pid: int, now: float) -> None:
        """Remember how much processor time a child had used when it began to be late."""
        if self._beats.silence_s(pid, now) < LIMIT_S / 2:
            self._suspects.pop(pid, None)
        elif pid not in self._suspects:
            self._suspects[pid] = (now, status(pid))

    def _judge(self, child: ChildNode, now: float) -> None:
        since, before = self._suspects[child.pid]
        silent_s = self._beats.silence_s(child.pid, now)
        if not is_starved(before, status(child.pid), now - since, silent_s):
            _log.error("%s (pid %d) is silent for %.1f s: killed", child.name, child.pid, silent_s)
            child.kill(HEARTBEAT)


def _text(reason: object) -> str:
    match reason:
        case ("killed", int(number)):
            known = number in set(signal.Signals)
            return f"killed by {signal.Signals(number).name if known else f'signal {number}'}"
        case ("exit", code, words):
            return f"exit code {code}: {words}" if words else f"exit code {code}"
        case _:
            return str(reason)
