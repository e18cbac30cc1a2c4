"""RemotePid: a process on another node, accepted wherever a `Pid` is.

It holds no process: what is done to it goes over the link to its node, if that is up and the node still the same
one. Without it casts, messages and exit signals vanish, calls fail with `("nodedown", node)`, links and monitors fire
`"noconnection"` at once; if the node has been started anew since, they fail with `"noproc"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from otp.distribution.peer import Asked, Peer
from otp.envelope import CALL, DEAD, SYSTEM, WAITING
from otp.errors import OtpError
from otp.exit_reason import NOPROC
from otp.process import DeadLetters, Pid, Rare, Watcher
from otp.waiting import From, opened

# A pid knows its runtime and the runtime its pids: a cycle of types only.
if TYPE_CHECKING:
    from otp.runtime import Runtime

__all__ = ["NOCONNECTION", "RemotePid", "Routes", "gone_pid"]

NOCONNECTION: Final = "noconnection"
NODEDOWN: Final = "nodedown"


class Routes(Protocol):
    """Who knows the way to other nodes."""

    def peer(self, node: str) -> Peer | None:
        """Give the node's end of the link to it; None while there is no link."""


class RemotePid(Pid):
    """The process `to` (its serial, or a name) at `node`; made by `NodeLinks` only.

    `incarnation` tells the OS processes apart that bear the node's name one after the other; a name is looked up in
    whichever is there.
    """

    __slots__ = ("__weakref__", "_routes", "_watching", "incarnation", "node", "to")

    def __init__(
        self, runtime: Runtime, routes: Routes, node: str, incarnation: str, to: int | str
    ) -> None:
        _prepare(self, runtime)
        self.status = WAITING  # as far as one can know; not IDLE, for then `call` would not post
        self.trapping = True  # what ends here does not end it here: no neighbour in crash reports
        self.serial = to if isinstance(to, int) else 0
        self.node = node
        self.incarnation = incarnation
        self.to = to
        self._routes = routes
        self._watching: dict[Watcher, tuple[Peer, int]] = {}

    def __repr__(self) -> str:
        return f"<{self.to} at {self.node}>"

    @property
    def initial_call(self) -> str:  # type: ignore[override]  # computed, as a gen_server's
        """Say where it is: what it runs is not known."""
        return f"a process of {self.node}"

    @property
    def name(self) -> str:
        """What it is called here; never None, so that nobody registers it as a process of this runtime."""
        return f"{self.to}@{self.node}"

    @property
    def unanswered(self) -> dict[From, None]:
        """The calls to it that wait for an answer: those of the link they went over."""
        peer = self._routes.peer(self.node)
        return Asked() if peer is None else peer.asked

    def post(self, item: object) -> None:
        """Send what would lie in the mailbox of a process here.

        Raises:
            UncrossableError: something in it cannot cross.
            OutboxFullError: the node does not keep up.
        """
        envelope = opened(item)
        kind = envelope[0]
        peer = self._peer()
        if kind in (CALL, SYSTEM):
            if isinstance(peer, Peer):
                request, call = (envelope[1], envelope[2])
                call.waiting_at = (
                    self  # whose `unanswered` forgets it when it is done, in whichever way
                )
                peer.ask(kind, self.to, request, call)
            else:
                envelope[2].fail(NOPROC if peer == NOPROC else (NODEDOWN, self.node))
        elif isinstance(peer, Peer):
            peer.tell(kind, self.to, envelope[1])

    def add_link(self, other: Pid) -> None:
        """Link `other`, a process of this runtime, to it.

        Raises:
            OtpError: this is a name (OTP's badarg).
        """
        if isinstance(self.to, str):
            other.drop_link(self)
            raise OtpError(f"a link takes a pid, and {self!r} is a name")
        peer = self._peer()
        if isinstance(peer, Peer):
            peer.link(other, self)
        else:
            other.drop_link(self)
            other.link_signal(self, peer)

    def drop_link(self, other: Pid) -> None:
        """Take the link of `other` away; of one that is ending the `link_signal` follows."""
        peer = self._peer()
        if isinstance(peer, Peer) and other.status != DEAD:
            peer.unlink(other, self)

    def link_signal(self, sender: Pid, reason: object) -> None:
        """Tell it that its link partner `sender`, a process of this runtime, has ended."""
        peer = self._peer()
        if isinstance(peer, Peer):
            peer.link_ended(sender, self, reason)

    def exit_signal(self, sender: Pid | None, reason: object) -> None:
        """Send it the signal of `exit(pid, reason)`.

        Raises:
            UncrossableError: the reason cannot cross.
        """
        peer = self._peer()
        if isinstance(peer, Peer):
            peer.exit(sender, self.to, reason)

    def watch(self, watcher: Watcher) -> None:
        """Tell `watcher` when it ends, or when the link to its node does."""
        peer = self._peer()
        if isinstance(peer, Peer):
            self._watching[watcher] = (peer, peer.watch(self, watcher))
        else:
            watcher.ended(self, peer)

    def unwatch(self, watcher: Watcher) -> None:
        """Forget `watcher`."""
        peer, ref = self._watching.pop(watcher, (None, 0))
        if peer is not None:
            peer.unwatch(ref)

    def fire(self, watcher: Watcher, reason: object) -> None:
        """Tell `watcher` that it has ended; for the peer, which has forgotten it by now."""
        self._watching.pop(watcher, None)
        watcher.ended(self, reason)

    def _peer(self) -> Peer | str:
        """Give the link's end to send to, or the reason why there is none."""
        peer = self._routes.peer(self.node)
        if peer is None:
            return NOCONNECTION
        return peer if self.incarnation in ("", peer.incarnation) else NOPROC

    @property
    def rare(self) -> Rare:
        """Refuse: nothing of this process is kept here."""
        raise NotImplementedError(f"{self!r} is kept by its own node")


class _GonePid(Pid):
    """A process of this runtime that has ended and been forgotten; its pid has come back from another node."""

    __slots__ = ()

    initial_call = "a process that has ended"


def gone_pid(runtime: Runtime, serial: int) -> Pid:
    """Make the pid of a process that has ended."""
    pid = _GonePid.__new__(_GonePid)
    _prepare(pid, runtime)
    pid.serial = serial
    pid.status = DEAD
    pid.mailbox = DeadLetters(NOPROC)
    return pid


def _prepare(pid: Pid, runtime: Runtime) -> None:
    """Set what every pid has, without entering it into the runtime."""
    pid.runtime = runtime
    pid.parent = None
    pid.group_leader = None
    pid.mailbox = None
    pid.trapping = False
    pid.links = None
    pid.watchers = None
    pid._rare = None  # noqa: SLF001 - a Pid that is not admitted is still a Pid
    pid.reductions = 0
    pid.coro = None
    pid.waiting = None
    pid.newer = None
    pid.older = None
