"""The pod node: a driver pool, a throttle, and a supervisor over thousands of light resource processes.

    pod (one for all, no restarts: whatever fails here ends the node, and the zone starts another)
     ├─ synchroniser    paces and batches the claims
     ├─ resources       the supervisor with the pod's strategy; its children come and go with `Define`
     └─ roster          keeps that supervisor in step with the definitions

It keeps nothing on disk. A new pod knows no resources: it waits for orchestration to define them.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import msgspec

from automation.driver_pool import DriverPool
from automation.gateway import Gateway
from automation.intake import Intake
from automation.resource import WAKE
from automation.resource_memory import ResourceMemory
from automation.roster import Gone, ResourceTable, Roster
from automation.supervision import flags_of
from automation.surroundings import Reporter, Surroundings
from automation.throttle import Ask, Synchroniser
from drivers.contract import Driver
from drivers.loader import load
from otp import (
    ChildSpec,
    Pid,
    Runtime,
    Strategy,
    Supervisor,
    SupervisorFlags,
    SupervisorLabel,
    SupervisorReport,
    gen_server,
    supervisor,
)
from otp.distribution.node import Node
from rpc.messages import (
    Cancel,
    Define,
    Dispatch,
    Down,
    Epoch,
    Inventory,
    PodDefinition,
    PodStats,
    ResourceInventory,
    Retire,
)

__all__ = ["Pod", "start"]


async def start(node: Node) -> Pid:
    """Be the pod that the node's payload, a `PodDefinition`, describes."""
    # Thousands of resources live long: looking through them again and again took a third of a start.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    _spare_for_drivers(node.loop)
    definition = msgspec.msgpack.decode(node.payload, type=PodDefinition)
    gateway = Gateway(node)
    pod = Pod(node.runtime, definition, node.epoch, gateway, load)
    top = await pod.start()
    gateway.start(pod)
    return top


class Pod:
    """What comes from orchestration, and what the processes find around them.

    Args:
        runtime: where the processes run.
        definition: the pod's limits and its supervisor's flags.
        epoch: the pod's own.
        reporter: where reports go.
        load: finds the driver class behind a name.
    """

    def __init__(
        self,
        runtime: Runtime,
        definition: PodDefinition,
        epoch: Epoch,
        reporter: Reporter,
        load: Callable[[str], type[Driver]],
    ) -> None:
        self._runtime = runtime
        self._definition = definition
        self._table = ResourceTable()
        self._synchroniser: Pid | None = None
        self._resources: Pid | None = None
        self._roster: Pid | None = None
        self._surroundings = Surroundings(
            epoch=epoch,
            reporter=reporter,
            drivers=DriverPool(load),
            ask=self._ask,
            gone=self._gone,
            set_aside_after=definition.quarantine_after,
        )
        self._intake = Intake(self._table, self._surroundings)

    async def start(self) -> Pid:
        """Start the processes; answers the top supervisor."""
        reports = self._runtime.reports
        reports.subscribe(self._heard)
        reports.wants_progress = False  # one for each of 10,000 resources
        flags = SupervisorFlags(strategy=Strategy.ONE_FOR_ALL, intensity=0)
        return await self._runtime.start_wait(Supervisor(flags, self._children()))

    def inventory(self, last_report: int) -> Inventory:
        """Every resource process, its state and its units."""
        resources = tuple(
            ResourceInventory(memory.path, memory.epoch, memory.state.value, memory.mailbox.ids())
            for memory in self._table
        )
        return Inventory(resources, last_report, self._table.revision)

    def received(self, message: Down) -> None:
        """Hand definitions to the roster, units to the intake."""
        match message:
            case Dispatch():
                self._intake.dispatch(message, self._runtime.clock())
            case Cancel():
                self._intake.cancel(message)
            case Define() | Retire():
                assert self._roster is not None
                self._roster.cast(message)

    def stats(self, reports_pending: int, loop_lag_s: float) -> PodStats:
        """Say what was counted."""
        figures = self._surroundings.counters.sample(self._table, reports_pending, loop_lag_s)
        return msgspec.structs.replace(figures, verbs=self._surroundings.drivers.verbs())

    def opened(self) -> None:
        """Wake those who waited to begin a unit, in the order they came."""
        blocked = list(self._surroundings.blocked)
        self._surroundings.blocked.clear()
        for memory in blocked:
            if memory.pid is not None:
                memory.pid.cast(WAKE)

    def _heard(self, report: object) -> None:
        """Count it when the resources' supervisor gives up; the node is about to end, so say it now."""
        if (
            isinstance(report, SupervisorReport)
            and report.label is SupervisorLabel.SHUTDOWN
            and report.supervisor == repr(self._resources)
        ):
            self._surroundings.counters.escalations += 1
            self._surroundings.reporter.tell_figures()

    def _ask(self, ask: Ask) -> None:
        assert self._synchroniser is not None
        self._synchroniser.cast(ask)

    def _gone(self, memory: ResourceMemory) -> None:
        assert self._roster is not None
        self._roster.cast(Gone(memory))

    def _children(self) -> list[ChildSpec]:
        return [
            ChildSpec(id="synchroniser", start=self._start_synchroniser),
            ChildSpec(id="resources", start=self._start_resources, type="supervisor"),
            ChildSpec(id="roster", start=self._start_roster),
        ]

    def _start_synchroniser(self) -> Pid:
        self._synchroniser = gen_server.start_link(Synchroniser(self._definition.sync_rate))
        return self._synchroniser

    def _start_resources(self) -> Pid:
        self._resources = supervisor.start_link(flags_of(self._definition.supervision), [])
        return self._resources

    def _start_roster(self) -> Pid:
        assert self._resources is not None
        self._roster = gen_server.start_link(
            Roster(self._table, self._surroundings, self._resources, self._definition.mailbox)
        )
        return self._roster


def _spare_for_drivers(loop: asyncio.AbstractEventLoop) -> None:
    """Let a task that failed with nobody waiting for it end nothing: it is a driver's, ours are all awaited.

    Every other unexpected error ends the node, as on all nodes.
    """
    fatal = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        if fatal is None or "future" in context or "task" in context:
            loop.default_exception_handler(context)
        else:
            fatal(loop, context)

    loop.set_exception_handler(handle)
