"""The roster: which resources the pod has, and the one who adds and removes their processes.

One process per pod. It takes definitions and removals in the order of receipt and keeps the pod's
resource supervisor in step with them. The `ResourceTable` is shared with the pod's gateway side, which
finds resources in it; only the roster changes what is in it. If it dies the pod goes down with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from automation.resource import WAKE, Resource
from automation.resource_memory import ResourceMemory, State
from automation.surroundings import Surroundings
from otp import (
    ChildSpec,
    GenServer,
    NoReply,
    Pid,
    Restart,
    Result,
    gen_server,
    supervisor,
)
from rpc.messages import Define, ResourceDefinition, Retire, Retired

__all__ = ["Gone", "ResourceTable", "Roster"]

# From "please stop" to "killed": a resource process stops at once, its call is settled by the next one.
_SHUTDOWN_S = 5.0


@dataclass(frozen=True, slots=True)
class Gone:
    """The process of a retiring resource has nothing more to do."""

    memory: ResourceMemory


class ResourceTable:
    """The pod's resources by path.

    A resource that comes back goes on above every incarnation number that has left: its device has seen
    those epochs, and one that counted from 1 again would be refused.
    """

    __slots__ = ("_by_path", "_highest_gone", "revision")

    def __init__(self) -> None:
        self._by_path: dict[str, ResourceMemory] = {}
        self._highest_gone = 0
        self.revision = 0

    def __iter__(self) -> Iterator[ResourceMemory]:
        return iter(self._by_path.values())

    def __len__(self) -> int:
        return len(self._by_path)

    def find(self, path: str) -> ResourceMemory | None:
        """The resource at `path`, if the pod has it."""
        return self._by_path.get(path)

    def add(self, memory: ResourceMemory) -> None:
        """Have one more resource."""
        memory.incarnation = self._highest_gone
        self._by_path[memory.path] = memory

    def remove(self, path: str) -> None:
        """Have it no longer."""
        gone = self._by_path.pop(path)
        self._highest_gone = max(self._highest_gone, gone.incarnation)


class Roster(GenServer[ResourceTable]):
    """Keeps `supervisor_pid`'s children in step with the definitions; `mailbox` bounds each resource's."""

    def __init__(
        self, table: ResourceTable, pod: Surroundings, supervisor_pid: Pid, mailbox: int
    ) -> None:
        self._table = table
        self._pod = pod
        self._supervisor = supervisor_pid
        self._mailbox = mailbox
        self._named: set[str] = set()  # in the definitions of the revision that is coming in
        self._reborn: dict[str, ResourceDefinition] = {}  # defined again while retiring

    def init(self) -> ResourceTable:
        """Start with what is in the table."""
        return self._table

    async def handle_cast(self, request: object, state: ResourceTable) -> Result[ResourceTable]:
        """Take definitions and removals, one message at a time."""
        match request:
            case Define():
                await self._define_all(state, request)
            case Retire(revision, paths):
                state.revision = max(state.revision, revision)
                for path in paths:
                    await self._retire(state, path)
            case Gone(memory):
                await self._remove(state, memory)
        return NoReply(state)

    async def _define_all(self, table: ResourceTable, define: Define) -> None:
        if define.revision != table.revision:
            self._named.clear()
        table.revision = define.revision
        for definition in define.resources:
            self._named.add(definition.path)
            await self._define(table, definition, is_complete=define.complete)
        if define.complete:
            for memory in [memory for memory in table if memory.path not in self._named]:
                await self._retire(table, memory.path)
            self._named.clear()

    async def _define(
        self, table: ResourceTable, definition: ResourceDefinition, *, is_complete: bool
    ) -> None:
        memory = table.find(definition.path)
        if memory is None:
            await self._add(table, definition)
        elif memory.retiring:
            self._reborn[definition.path] = definition
        elif (
            memory.differs_from(definition)
            or memory.strange_to_it(definition.doubt)
            or (memory.set_aside and not is_complete)
        ):
            memory.redefinition = definition
            await self._wake(memory)

    async def _add(self, table: ResourceTable, definition: ResourceDefinition) -> None:
        memory = ResourceMemory(definition, self._mailbox)
        table.add(memory)
        pod = self._pod

        def start() -> Pid:
            return gen_server.start_link(Resource(memory, pod))

        await supervisor.start_child(
            self._supervisor,
            ChildSpec(
                id=memory.path, start=start, restart=Restart.TRANSIENT, shutdown_s=_SHUTDOWN_S
            ),
        )

    async def _wake(self, memory: ResourceMemory) -> None:
        """Let the process act on a wish; one that stopped by itself is started again."""
        if memory.pid is not None:
            memory.pid.cast(WAKE)
        elif memory.state is State.STOPPED:
            await supervisor.restart_child(self._supervisor, memory.path)

    async def _retire(self, table: ResourceTable, path: str) -> None:
        self._reborn.pop(path, None)
        memory = table.find(path)
        if memory is None:
            self._pod.reporter.report(Retired(path, ()))  # it is gone already, as was asked
        elif not memory.retiring:
            memory.retiring = True
            if memory.pid is None:
                await self._remove(table, memory)
            else:
                memory.pid.cast(WAKE)

    async def _remove(self, table: ResourceTable, memory: ResourceMemory) -> None:
        if table.find(memory.path) is not memory:
            return
        await supervisor.terminate_child(self._supervisor, memory.path)
        await supervisor.delete_child(self._supervisor, memory.path)
        table.remove(memory.path)
        self._pod.reporter.report(Retired(memory.path, memory.handed_back))
        reborn = self._reborn.pop(memory.path, None)
        if reborn is not None:
            # What happened since it was defined is known here alone.
            desired = memory.latest_desired(reborn)
            latest = msgspec.structs.replace(reborn, doubt=memory.doubt, desired=desired)
            await self._add(table, latest)
