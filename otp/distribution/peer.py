"""Peer: what two nodes say to each other over a link, and what one of them has to remember for it.

Everything between two processes goes over the one link in the order it was done, so their order is kept. The first
message each way names the types that side has registered; before it has come the node does not count as connected.
When the link ends, every call, link and monitor that goes over it ends with it, once.

A link between processes has an id from whoever made it, and an unlink or exit names those it has seen: so both sides
agree whether two processes are linked, whatever crosses on the way.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from otp.distribution.channel import Link
from otp.distribution.frames import LinkError
from otp.distribution.outbox import Outbox
from otp.distribution.terms import Packer, Terms
from otp.envelope import CALL, CAST, INFO, SYSTEM, Envelope
from otp.exit_reason import NOPROC
from otp.process import Pid, Watcher
from otp.waiting import From

# A peer serves remote pids and they use it: a cycle of types only.
if TYPE_CHECKING:
    from otp.distribution.remote_pid import RemotePid
    from otp.runtime import Runtime

__all__ = ["Asked", "Home", "Peer"]

# Words; CAST, CALL, INFO and SYSTEM are those of an envelope.
INTRODUCE: Final = 20
ANSWER: Final = 21
FAILURE: Final = 22
LINK: Final = 23
UNLINK: Final = 24
LINK_ENDED: Final = 25
EXIT: Final = 26
MONITOR: Final = 27
DEMONITOR: Final = 28
DOWN: Final = 29

_log = logging.getLogger(__name__)


class Home(Protocol):
    """The node this is an end of."""

    runtime: Runtime
    incarnation: str

    def admit(self, peer: Peer) -> None:
        """Take note that the peer has introduced itself."""

    def peer(self, node: str) -> Peer | None:
        """Give the one end of a link to `node` that is in use."""

    def dismiss(self, peer: Peer, reason: str) -> None:
        """Take note that the link has ended."""

    def local(self, to: int | str) -> Pid | None:
        """Find a living process of this node."""

    def export(self, pid: Pid) -> int:
        """Give the serial of a process of this node, which others may now use."""

    def remote(self, node: str, incarnation: str, serial: int) -> RemotePid:
        """Give the pid of a process of another node."""


class Asked(dict[From, None]):
    """The calls that wait for an answer, by the numbers they have on the link."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[From, int] = {}
        self._calls: dict[int, From] = {}

    def add(self, number: int, call: From) -> None:
        """Note a call."""
        self[call] = None
        self._numbers[call] = number
        self._calls[number] = call

    def numbered(self, number: int) -> From | None:
        """Find a call; None if it is over, as after its time."""
        return self._calls.get(number)

    def pop(self, call: From, default: Any = None) -> Any:
        """Forget a call."""
        number = self._numbers.pop(call, None)
        if number is not None:
            del self._calls[number]
        return super().pop(call, default)


class _Answering(From):
    """A call that came over the link, as the server holds it."""

    __slots__ = ("_number", "_peer")

    def __init__(self, peer: Peer, server: Pid | str, request: object, number: int) -> None:
        super().__init__(peer.runtime, server, request)
        self._peer = peer
        self._number = number

    def finish(self) -> None:
        """Send the answer back."""
        self.done = True
        if self.failure is not None:
            self._peer.signal(FAILURE, self._number, term=self.failure)
        else:
            self._peer.answer(self._number, self.value)


class _Reporting:
    """A monitor of the peer at a process of this node."""

    __slots__ = ("number", "peer", "pid")

    def __init__(self, peer: Peer, number: int, pid: Pid) -> None:
        self.peer = peer
        self.number = number
        self.pid = pid

    def ended(self, pid: Pid, reason: object) -> None:
        """Tell the peer."""
        self.peer.report_end(self.number, reason)


class _Pair:
    """Two linked processes, and the ids of the links between them."""

    __slots__ = ("ids", "local", "remote")

    def __init__(self, local: Pid, remote: RemotePid) -> None:
        self.local = local
        self.remote = remote
        self.ids: set[int] = set()


class Peer:
    """One node, as long as the link to it lives; a `Handler` of that link."""

    def __init__(self, home: Home, link: Link, terms: Terms, *, dialed: bool) -> None:
        self.node = link.peer.node
        self.incarnation = link.peer.incarnation
        self.dialed = dialed
        self.channel = link
        self.runtime = home.runtime
        self.asked = Asked()
        self._home = home
        self._terms = terms
        self._ended = False
        self._introduced = False
        self._outbox = Outbox(link)
        self._numbers = itertools.count(1)
        # Both sides issue link ids: one the odd ones, the other the even ones.
        self._link_ids = itertools.count(1 + (home.incarnation > self.incarnation), 2)
        self._pairs: dict[tuple[int, int], _Pair] = {}
        self._watches: dict[int, tuple[RemotePid, Watcher]] = {}
        self._reporting: dict[int, _Reporting] = {}
        self._strict = Packer(terms, frozenset(), lenient=False)
        self._lenient = Packer(terms, frozenset(), lenient=True)
        self._words: dict[int, Callable[..., None]] = {
            CAST: self._take_message,
            INFO: self._take_message,
            CALL: self._take_call,
            SYSTEM: self._take_call,
            ANSWER: self._take_answer,
            FAILURE: self._take_failure,
            LINK: self._take_link,
            UNLINK: self._take_unlink,
            LINK_ENDED: self._take_link_ended,
            EXIT: self._take_exit,
            MONITOR: self._take_monitor,
            DEMONITOR: self._take_demonitor,
            DOWN: self._take_down,
        }
        self.signal(INTRODUCE, term=tuple(terms.signatures()))

    # What processes of this node want of the peer's.

    def tell(self, kind: int, to: int | str, message: object) -> None:
        """Send a cast or a message.

        Raises:
            UncrossableError: something in it cannot cross.
            OutboxFullError: too much waits already.
        """
        self._outbox.send(self._strict.pack(kind, to, term=message))

    def ask(self, kind: int, to: int | str, request: object, call: From) -> None:
        """Send a call; raises as `tell`."""
        number = next(self._numbers)
        self._outbox.send(self._strict.pack(kind, to, number, term=request))
        self.asked.add(number, call)

    def exit(self, sender: Pid | None, to: int | str, reason: object) -> None:
        """Send an exit signal.

        Raises:
            UncrossableError: the reason cannot cross.
        """
        from_ = None if sender is None else self._home.export(sender)
        self._outbox.say(self._strict.pack(EXIT, from_, to, term=reason))

    def link(self, local: Pid, remote: RemotePid) -> None:
        """Link two processes; a second time changes nothing."""
        key = (self._home.export(local), remote.serial)
        if key not in self._pairs:
            pair = self._pairs[key] = _Pair(local, remote)
            number = next(self._link_ids)
            pair.ids.add(number)
            self.signal(LINK, number, *key)

    def unlink(self, local: Pid, remote: RemotePid) -> None:
        """Take the link of two processes away."""
        pair = self._pairs.pop((local.serial, remote.serial), None)
        if pair is not None:
            self.signal(UNLINK, list(pair.ids), local.serial, remote.serial)

    def link_ended(self, local: Pid, remote: RemotePid, reason: object) -> None:
        """Tell the peer's process that its partner has ended."""
        pair = self._pairs.pop((local.serial, remote.serial), None)
        if pair is not None:
            self.signal(LINK_ENDED, list(pair.ids), local.serial, remote.serial, term=reason)

    def watch(self, remote: RemotePid, watcher: Watcher) -> int:
        """Monitor a process of the peer; gives the number to end that by."""
        number = next(self._numbers)
        self._watches[number] = (remote, watcher)
        self.signal(MONITOR, number, remote.to)
        return number

    def unwatch(self, number: int) -> None:
        """End a monitor."""
        if self._watches.pop(number, None) is not None:
            self.signal(DEMONITOR, number)

    # What this node has to say by itself.

    def signal(self, *head: object, term: object = None) -> None:
        """Send what must not be refused; what cannot cross in `term` is replaced."""
        if self._ended:
            return
        self._outbox.say(self._lenient.pack(*head, term=term))

    def answer(self, number: int, value: object) -> None:
        """Answer a call; an answer that cannot cross fails it, and says so on both nodes."""
        if self._ended:
            return
        try:
            packed = self._strict.pack(ANSWER, number, term=value)
        except TypeError as error:
            _log.error("an answer to node %s was refused: %s", self.node, error)
            self.signal(FAILURE, number, term=("uncrossable", str(error)))
        else:
            self._outbox.say(packed)

    def report_end(self, number: int, reason: object) -> None:
        """Tell the peer that what it monitors has ended."""
        if self._reporting.pop(number, None) is not None:
            self.signal(DOWN, number, term=reason)

    # What comes.

    def received(self, link: Link, messages: list[Any]) -> None:
        """Take what the peer said."""
        for word, *rest in messages:
            if self._ended:
                return
            if not self._introduced:
                self._take_introduction(word, rest[0])
                continue
            take = self._words.get(word)
            if take is None:
                raise LinkError(f"word {word} is unknown")
            if word <= SYSTEM:
                take(word, *rest)
            else:
                take(*rest)

    def lost(self, link: Link, reason: str) -> None:
        """Take note that the link has ended."""
        self._home.dismiss(self, reason)

    def _take_introduction(self, word: int, signatures: list[str]) -> None:
        if word != INTRODUCE:
            raise LinkError(f"word {word} before the introduction")
        self._introduced = True
        known = frozenset(signatures)
        self._strict = Packer(self._terms, known, lenient=False)
        self._lenient = Packer(self._terms, known, lenient=True)
        self._home.admit(self)
        # One of two links to the same node is refused, and nothing that comes over it is taken.
        self._ended = self._home.peer(self.node) is not self

    def _take_message(self, kind: int, to: int | str, wire: object) -> None:
        pid = self._home.local(to)
        if pid is not None:
            pid.post(Envelope((kind, self._terms.read(wire))))

    def _take_call(self, kind: int, to: int | str, number: int, wire: object) -> None:
        pid = self._home.local(to)
        if pid is None:
            self.signal(FAILURE, number, term=NOPROC)
            return
        request = self._terms.read(wire)
        call = _Answering(self, pid, request, number)
        pid.post(Envelope((kind, request, call)))

    def _take_answer(self, number: int, wire: object) -> None:
        call = self.asked.numbered(number)
        if call is not None:
            call.reply(self._terms.read(wire))

    def _take_failure(self, number: int, wire: object) -> None:
        call = self.asked.numbered(number)
        if call is not None:
            call.fail(self._terms.read(wire))

    def _take_link(self, number: int, theirs: int, mine: int, _: object) -> None:
        local = self._home.local(mine)
        if local is None:
            self.signal(LINK_ENDED, [number], mine, theirs, term=NOPROC)
            return
        remote = self._remote(theirs)
        pair = self._pairs.get((mine, theirs))
        if pair is None:
            pair = self._pairs[mine, theirs] = _Pair(local, remote)
            local.add_link(remote)
        pair.ids.add(number)

    def _take_unlink(self, ids: list[int], theirs: int, mine: int, _: object) -> None:
        pair = self._pairs.get((mine, theirs))
        if pair is not None:
            pair.ids.difference_update(ids)
            if not pair.ids:
                del self._pairs[mine, theirs]
                pair.local.drop_link(pair.remote)

    def _take_link_ended(self, ids: list[int], theirs: int, mine: int, wire: object) -> None:
        pair = self._pairs.get((mine, theirs))
        if pair is not None and not pair.ids.isdisjoint(ids):
            del self._pairs[mine, theirs]
            pair.local.drop_link(pair.remote)
            pair.local.link_signal(pair.remote, self._terms.read(wire))

    def _take_exit(self, theirs: int | None, to: int | str, wire: object) -> None:
        pid = self._home.local(to)
        if pid is not None:
            pid.exit_signal(
                None if theirs is None else self._remote(theirs), self._terms.read(wire)
            )

    def _take_monitor(self, number: int, to: int | str, _: object) -> None:
        pid = self._home.local(to)
        if pid is None:
            self.signal(DOWN, number, term=NOPROC)
            return
        reporting = self._reporting[number] = _Reporting(self, number, pid)
        pid.watch(reporting)

    def _take_demonitor(self, number: int, _: object) -> None:
        reporting = self._reporting.pop(number, None)
        if reporting is not None:
            reporting.pid.unwatch(reporting)

    def _take_down(self, number: int, wire: object) -> None:
        remote, watcher = self._watches.pop(number, (None, None))
        if remote is not None and watcher is not None:
            remote.fire(watcher, self._terms.read(wire))

    def _remote(self, serial: int) -> RemotePid:
        return self._home.remote(self.node, self.incarnation, serial)

    def end(self, call_reason: object, signal_reason: object) -> None:
        """End everything that goes over the link; after that nothing is sent or taken."""
        if self._ended:
            return
        self._ended = True
        reporting, self._reporting = self._reporting, {}
        for each in reporting.values():
            each.pid.unwatch(each)
        pairs, self._pairs = self._pairs, {}
        for pair in pairs.values():
            pair.local.drop_link(pair.remote)
            pair.local.link_signal(pair.remote, signal_reason)
        watches, self._watches = self._watches, {}
        for remote, watcher in watches.values():
            remote.fire(watcher, signal_reason)
        for call in tuple(self.asked):
            call.fail(call_reason)
