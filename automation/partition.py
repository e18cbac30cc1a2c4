"""A partition: keeps the child nodes of a zone, or of root, in step with what is wanted.

One `Partition` process per node, beside the supervisors over the child nodes: it adds, removes and restarts
their children, one change after the other; the supervisors restart what dies. Whatever comes up or is lost
is reported to orchestration from here. Child numbers (epochs) are issued here and never twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from otp import (
    ChildSpec,
    GenServer,
    NoReply,
    Pid,
    Result,
    StartChildError,
    gen_server,
    send_after,
    supervisor,
)
from otp.distribution.children import ChildNode
from otp.distribution.node import Node
from otp.distribution.node_child import STOP_LIMIT_S, IssueEpoch, NodeChild
from rpc.messages import Epoch, NodeLost, NodeUp, ReportBody

__all__ = ["Member", "Partition", "Wanted"]

_AGAIN_S = 1.0

Up = Callable[[ChildNode], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A child node that shall exist.

    One that changed is told its new `payload` while it lives; if `fixed` differs, it is restarted with it.
    """

    name: str
    kind: str
    application: str
    payload: bytes
    fixed: object


@dataclass(frozen=True, slots=True)
class Wanted:
    """All child nodes that shall exist, by the supervisor they are under, in start order."""

    groups: Mapping[str, tuple[Member, ...]]


@dataclass(frozen=True, slots=True)
class _Again:
    """Try once more what could not be started."""


class _Told(NodeChild):
    """A node child that tells of each node it has started."""

    def __init__(self, node: Node, member: Member, issue: IssueEpoch, up: Up) -> None:
        super().__init__(node, member.name, member.kind, member.application, member.payload, issue)
        self._up = up

    async def init(self) -> ChildNode:
        """Start the node."""
        child = await super().init()
        self._up(child)
        return child


class _Place:
    """A member and its living node, if it lives; `member` is what the next start takes."""

    __slots__ = ("group", "member", "node")

    def __init__(self, group: str, member: Member) -> None:
        self.group = group
        self.member = member
        self.node: ChildNode | None = None


class Partition(GenServer[dict[str, _Place]]):
    """Works on `node`'s children. `supervise` answers the supervisor of a group, made when first asked for."""

    def __init__(
        self,
        node: Node,
        report: Callable[[ReportBody], None],
        supervise: Callable[[str], Awaitable[Pid]],
    ) -> None:
        self._node = node
        self._report = report
        self._supervise = supervise
        self._issued: Counter[str] = Counter()
        self._wanted = Wanted({})
        self._is_trying_again = False

    def init(self) -> dict[str, _Place]:
        """Start with no children."""
        return {}

    async def handle_cast(
        self, request: object, state: dict[str, _Place]
    ) -> Result[dict[str, _Place]]:
        """Take `Wanted`."""
        assert isinstance(request, Wanted)
        self._wanted = request
        await self._reconcile(state)
        return NoReply(state)

    async def handle_info(
        self, message: object, state: dict[str, _Place]
    ) -> Result[dict[str, _Place]]:
        """Try again what could not be started."""
        assert isinstance(message, _Again)
        self._is_trying_again = False
        await self._reconcile(state)
        return NoReply(state)

    async def _reconcile(self, places: dict[str, _Place]) -> None:
        wanted = {
            member.name: (group, member)
            for group, members in self._wanted.groups.items()
            for member in members
        }
        for name in [name for name in places if name not in wanted]:
            await self._remove(places, name)
        for name, (group, member) in wanted.items():
            place = places.get(name)
            if place is None:
                await self._add(places, _Place(group, member))
            elif place.member != member:
                await self._change(places, place, member)

    async def _add(self, places: dict[str, _Place], place: _Place) -> None:
        name = place.member.name
        places[name] = place
        try:
            await supervisor.start_child(
                await self._supervise(place.group),
                ChildSpec(id=name, start=lambda: self._start(place), shutdown_s=STOP_LIMIT_S + 1.0),
            )
        except StartChildError as error:
            del places[name]
            self._not_started(place, error)

    async def _remove(self, places: dict[str, _Place], name: str) -> None:
        group = await self._supervise(places.pop(name).group)
        await supervisor.terminate_child(group, name)
        await supervisor.delete_child(group, name)

    async def _change(self, places: dict[str, _Place], place: _Place, member: Member) -> None:
        is_restart = place.member.fixed != member.fixed
        place.member = member
        if is_restart:
            # Removed and added, so that it is last in start order and its new flags count from here.
            await self._remove(places, member.name)
            await self._add(places, place)
        elif place.node is not None:
            place.node.tell(member.payload)

    def _not_started(self, place: _Place, error: StartChildError) -> None:
        member, parent = place.member, self._node
        self._report(NodeLost(member.name, member.kind, 0, parent.epoch, str(error.reason)))
        if not self._is_trying_again:
            self._is_trying_again = True
            send_after(self.pid, _AGAIN_S, _Again())

    def _start(self, place: _Place) -> Pid:
        """Start the node as its member says now; runs in the supervisor, at every restart."""
        member = place.member
        return gen_server.start_link(
            _Told(
                self._node,
                member,
                lambda: self._issue(member.name),
                lambda child: self._up(place, child),
            )
        )

    def _issue(self, name: str) -> Epoch:
        self._issued[name] += 1
        return (*self._node.epoch, self._issued[name])

    def _up(self, place: _Place, child: ChildNode) -> None:
        place.node = child
        self._report(NodeUp(child.name, child.kind, child.pid, child.epoch))
        child.exited.add_done_callback(lambda exited: self._lost(place, child, exited.result()))

    def _lost(self, place: _Place, child: ChildNode, reason: str) -> None:
        if place.node is child:
            place.node = None
        self._report(NodeLost(child.name, child.kind, child.pid, child.epoch, reason))
