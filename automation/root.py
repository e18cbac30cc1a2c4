"""The root node: gets its epoch and the tree from orchestration, and supervises the zones.

    root (one for all, no restarts)
     ├─ regions     one light supervisor per region, over that region's zone nodes
     └─ partition   keeps them in step with the latest `SetTree`

Nothing is started before orchestration has given root its number. A region never gives up on a zone: it
waits ever longer between restarts, up to half a minute, so that one zone's trouble stays its own.
"""

from __future__ import annotations

import msgspec

from automation.counters import Counters
from automation.gateway import Gateway
from automation.partition import Member, Partition, Wanted
from otp import Backoff as RestartBackoff
from otp import (
    ChildSpec,
    Pid,
    Strategy,
    Supervisor,
    SupervisorFlags,
    gen_server,
    supervisor,
)
from otp.distribution.node import Node
from rpc.messages import Down, Inventory, PodStats, SetTree, Welcome, ZoneDefinition

__all__ = ["Root", "start"]

_ZONE = "automation.zone:start"
# More restarts in a period than the back-off lets happen.
_PATIENT = SupervisorFlags(
    strategy=Strategy.ONE_FOR_ONE,
    intensity=1_000_000,
    period_s=60.0,
    backoff=RestartBackoff(initial_s=0.1, max_s=30.0),
)


async def start(node: Node) -> Pid:
    """Be the root node."""
    return await Root(node).start()


class Root:
    """The node's side of root."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._counters = Counters()
        self._gateway = Gateway(node)
        self._regions: Pid | None = None
        self._partition: Pid | None = None
        self._by_region: dict[str, Pid] = {}

    async def start(self) -> Pid:
        """Start the processes and dial orchestration; answers the top supervisor."""
        flags = SupervisorFlags(strategy=Strategy.ONE_FOR_ALL, intensity=0)
        top = await self._node.runtime.start_wait(Supervisor(flags, self._children()))
        self._gateway.start(self)
        return top

    def inventory(self, last_report: int) -> Inventory:
        """Nothing but itself."""
        return Inventory(last_report=last_report)

    def received(self, message: Down) -> None:
        """Take the epoch, then the tree."""
        match message:
            case Welcome(root_epoch):
                # Never back: the zones of this root have their numbers from what it had.
                self._node.epoch = max(self._node.epoch, (root_epoch,))
            case SetTree(zones=zones):
                assert self._node.epoch, "the epoch comes before the tree"
                self._set_tree(zones)

    def stats(self, reports_pending: int, loop_lag_s: float) -> PodStats:
        """Say what was counted."""
        return self._counters.sample((), reports_pending, loop_lag_s)

    def opened(self) -> None:
        """Root runs no units."""

    def _set_tree(self, zones: tuple[ZoneDefinition, ...]) -> None:
        groups: dict[str, tuple[Member, ...]] = {}
        for zone in zones:
            region = zone.path.partition("/")[0]
            groups[region] = (*groups.get(region, ()), _member(zone))
        assert self._partition is not None
        self._partition.cast(Wanted(groups))

    def _children(self) -> list[ChildSpec]:
        return [
            ChildSpec(id="regions", start=self._start_regions, type="supervisor"),
            ChildSpec(id="partition", start=self._start_partition),
        ]

    def _start_regions(self) -> Pid:
        # A region only ends if something is wrong with root itself.
        self._regions = supervisor.start_link(SupervisorFlags(intensity=0))
        return self._regions

    def _start_partition(self) -> Pid:
        self._partition = gen_server.start_link(
            Partition(self._node, self._gateway.report, self._supervise)
        )
        return self._partition

    async def _supervise(self, region: str) -> Pid:
        if region not in self._by_region:
            assert self._regions is not None
            pid = await supervisor.start_child(
                self._regions,
                ChildSpec(
                    id=region, start=lambda: supervisor.start_link(_PATIENT), type="supervisor"
                ),
            )
            assert pid is not None
            self._by_region[region] = pid
        return self._by_region[region]


def _member(zone: ZoneDefinition) -> Member:
    return Member(
        name=zone.path,
        kind="zone",
        application=_ZONE,
        payload=msgspec.msgpack.encode(zone),
        fixed=zone.supervision,
    )
