"""The zone node: supervises its pods with the strategy of the operator's file.

    zone (one for all, no restarts)
     ├─ pods        the supervisor with the zone's strategy over pod nodes; when it gives up, the node ends
     └─ partition   keeps it in step with the `ZoneDefinition`, the node's payload

Root sends a new payload over the parent link when pods come, go or change.
"""

from __future__ import annotations

import msgspec

from automation.counters import Counters
from automation.gateway import Gateway
from automation.partition import Member, Partition, Wanted
from automation.supervision import flags_of
from otp import ChildSpec, Pid, Strategy, Supervisor, SupervisorFlags, gen_server, supervisor
from otp.distribution.node import Node
from rpc.messages import Down, Inventory, PodDefinition, PodStats, ZoneDefinition

__all__ = ["Zone", "start"]

_POD = "automation.pod:start"


async def start(node: Node) -> Pid:
    """Be the zone that the node's payload, a `ZoneDefinition`, describes."""
    return await Zone(node).start()


class Zone:
    """The node's side of a zone."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._counters = Counters()
        self._gateway = Gateway(node)
        self._pods: Pid | None = None
        self._partition: Pid | None = None

    async def start(self) -> Pid:
        """Start the processes, begin to start the pods, dial orchestration; answers the top supervisor."""
        flags = SupervisorFlags(strategy=Strategy.ONE_FOR_ALL, intensity=0)
        top = await self._node.runtime.start_wait(Supervisor(flags, self._children()))
        self._node.told = self._define
        self._define(self._node.payload)
        self._gateway.start(self)
        return top

    def inventory(self, last_report: int) -> Inventory:
        """Nothing but itself."""
        return Inventory(last_report=last_report)

    def received(self, message: Down) -> None:
        """Orchestration has nothing to say to a zone."""

    def stats(self, reports_pending: int, loop_lag_s: float) -> PodStats:
        """Say what was counted."""
        return self._counters.sample((), reports_pending, loop_lag_s)

    def opened(self) -> None:
        """A zone runs no units."""

    def _define(self, payload: bytes) -> None:
        definition = msgspec.msgpack.decode(payload, type=ZoneDefinition)
        assert self._partition is not None
        self._partition.cast(Wanted({"pods": tuple(map(_member, definition.pods))}))

    def _children(self) -> list[ChildSpec]:
        return [
            ChildSpec(id="pods", start=self._start_pods, type="supervisor"),
            ChildSpec(id="partition", start=self._start_partition),
        ]

    def _start_pods(self) -> Pid:
        definition = msgspec.msgpack.decode(self._node.payload, type=ZoneDefinition)
        self._pods = supervisor.start_link(flags_of(definition.supervision))
        return self._pods

    def _start_partition(self) -> Pid:
        self._partition = gen_server.start_link(
            Partition(self._node, self._gateway.report, self._supervise)
        )
        return self._partition

    async def _supervise(self, _group: str) -> Pid:
        assert self._pods is not None
        return self._pods


def _member(pod: PodDefinition) -> Member:
    # A pod's definition is its supervisor's flags and its processes' limits: all of it is fixed at start.
    return Member(
        name=pod.path,
        kind="pod",
        application=_POD,
        payload=msgspec.msgpack.encode(pod),
        fixed=pod,
    )
