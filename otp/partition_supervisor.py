"""partition_supervisor: n copies of one child, each in charge of a share of the keys, against a bottleneck.

Children have the ids 0 to n - 1 under an ordinary supervisor. `PartitionVia(name, key)` stands wherever a name does
and leads to the copy for that key: an int goes by its remainder, anything else by its hash.

Source: partition_supervisor.ex of Elixir 1.18.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from otp import supervisor
from otp.address import Address, Name
from otp.child_spec import ChildSpec, Started, Strategy, SupervisorFlags
from otp.child_spec_forms import SpecForm, as_child_spec
from otp.errors import ChildRunningError, NoProcessError, OtpError
from otp.partitioning import partition_of
from otp.process import Pid
from otp.supervisor import ChildCounts, ChildInfo, Supervisor
from otp.waiting import Waiter, self_process

if TYPE_CHECKING:  # a cycle of types only
    from otp.runtime import Runtime

__all__ = [
    "PartitionError",
    "PartitionSupervisor",
    "PartitionVia",
    "count_children",
    "partitions",
    "resize",
    "start_link",
    "which_children",
]

Template = SpecForm | Callable[[int], SpecForm]


class PartitionError(OtpError):
    """A number of partitions is not possible, or there is none to lead to. Told to the caller."""


class PartitionSupervisor(Supervisor):
    """A partition supervisor to be started, under its own name.

    Args:
        name: what `PartitionVia` and the functions of this module call it.
        child_spec: the child, or a function of the partition's number that gives it; its id is not used.
        partitions: how many; as many as there are CPUs by default.
        strategy: which partitions restart together.
        intensity: restarts allowed within `period_s`.
        period_s: the length of that window.

    Raises:
        PartitionError: `partitions` is no number >= 1.
        ChildSpecError: `child_spec` is or gives no ChildSpec.
    """

    def __init__(
        self,
        name: Name,
        child_spec: Template,
        *,
        partitions: int | None = None,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: int = 3,
        period_s: float = 5.0,
    ) -> None:
        count = os.cpu_count() or 1 if partitions is None else partitions
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise PartitionError(f"{name!r}: partitions is {partitions!r:.200}, not a number >= 1")
        super().__init__()
        self.flags = SupervisorFlags(strategy=strategy, intensity=intensity, period_s=period_s)
        self.name = name
        self._templates = [_template(child_spec, index) for index in range(count)]

    def init(self) -> tuple[SupervisorFlags, list[ChildSpec]]:
        """Make the table, which lives as long as this supervisor, and name the partitions."""
        me = self_process()
        table = _Table(self.name, len(self._templates))
        me.runtime.tables[_table_id(self.name)] = table
        me.watch(table)
        specs = [_numbered(spec, index, table) for index, spec in enumerate(self._templates)]
        return self.flags, specs

    def start_in(self, runtime: Runtime, *, parent: Pid | None, name: Name | None) -> Pid:
        """Start it in `runtime` under its own name."""
        return super().start_in(runtime, parent=parent, name=self.name)


@dataclass(frozen=True, slots=True)
class PartitionVia(Address):
    """The partition of `key`, wherever a name is accepted, but nothing can be started under it.

    Raises:
        NoProcessError: (when used) there is no such partition supervisor.
        PartitionError: (when used) it has been resized to zero partitions.
    """

    name: Name
    key: Hashable

    def whereis(self, runtime: Runtime) -> Pid | None:
        """Find the partition's process."""
        table = _table(self.name, runtime)
        if table.size == 0:
            raise PartitionError(f"{self.name!r} has zero partitions")
        pid = table.pids[partition_of(self.key, table.size)]
        return pid if pid is not None and pid.is_alive() else None

    def register(self, runtime: Runtime, pid: Pid) -> None:
        """Refuse."""
        raise PartitionError("a process cannot be started under a PartitionVia")

    def unregister(self, runtime: Runtime) -> None:
        """Refuse."""
        raise PartitionError("a PartitionVia cannot be unregistered")


def start_link(
    name: Name, child_spec: Template, *, partitions: int | None = None, **flags: Any
) -> Pid:
    """Start a partition supervisor linked to the calling process; arguments as for `PartitionSupervisor`."""
    blueprint = PartitionSupervisor(name, child_spec, partitions=partitions, **flags)
    parent = self_process()
    return blueprint.start_in(parent.runtime, parent=parent, name=name)


def partitions(name: Name) -> int:
    """Count the partitions in use; raises NoProcessError."""
    return _table(name).size


async def resize(name: Name, size: int) -> int:
    """Start or stop partitions until there are `size`; returns how many there were.

    Keys move to other partitions, which is for their users to know. Resizing by several callers goes one by one.

    Raises:
        PartitionError: `size` is below zero or above what it started with, or a start says ignore.
        StartChildError: a partition does not start; the size is as before.
        NoProcessError: there is no such partition supervisor.
    """
    table = _table(name)
    if not isinstance(size, int) or not 0 <= size <= len(table.pids):
        raise PartitionError(f"{name!r} can have 0 to {len(table.pids)} partitions, not {size!r}")
    mine, before = _Turn(self_process().runtime), table.last_turn
    table.last_turn = mine
    try:
        if before is not None:
            await before
        return await _resize(table, size)
    finally:
        # A caller that dies while it waits passes its turn on.
        if before is None or before.done:
            mine.finish()
        else:
            before.heir = mine


async def which_children(name: Name) -> list[ChildInfo]:
    """List the partitions, highest number first; one that was resized away has no pid."""
    return await supervisor.which_children(name)


async def count_children(name: Name) -> ChildCounts:
    """Count the partitions."""
    return await supervisor.count_children(name)


class _Turn(Waiter):
    """One resize: the next waits for its end."""

    __slots__ = ("heir",)

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.heir: _Turn | None = None

    def __await__(self) -> Any:
        yield from self.wait()

    def finish(self) -> None:
        """Let the next go on, and whoever waited for one that died while it waited."""
        super().finish()
        if self.heir is not None:
            self.heir.finish()


class _Table:
    """Which process is which partition."""

    __slots__ = ("last_turn", "name", "pids", "size")

    def __init__(self, name: Name, size: int) -> None:
        self.name = name
        self.size = size
        self.pids: list[Pid | None] = [None] * size
        self.last_turn: _Turn | None = None

    def note(self, index: int, result: object) -> None:
        """A start function has returned `result`."""
        pid = result.pid if isinstance(result, Started) else result
        self.pids[index] = pid if isinstance(pid, Pid) else None

    def ended(self, pid: Pid, reason: object) -> None:
        """The supervisor has ended: the table goes with it."""
        if pid.runtime.tables.get(_table_id(self.name)) is self:
            del pid.runtime.tables[_table_id(self.name)]


async def _resize(table: _Table, size: int) -> int:
    name, before = table.name, table.size
    if size < before:  # first nobody is led there any more
        table.size = size
    for index in range(size, before):
        await supervisor.terminate_child(name, index)
        table.pids[index] = None
    for index in range(before, size):
        await _restart(name, index)
    table.size = size
    return before


async def _restart(name: Name, index: int) -> None:
    try:
        pid = await supervisor.restart_child(name, index)
    except ChildRunningError:
        return  # whoever shrank it was killed before its turn came
    if pid is None:
        raise PartitionError(f"{name!r}: partition {index} did not start: ignore")


def _template(child_spec: Template, index: int) -> ChildSpec:
    # A class that knows its own child spec can be called as well, but that would make a server.
    if callable(child_spec) and not isinstance(child_spec, type):
        child_spec = child_spec(index)
    return as_child_spec(child_spec)


def _numbered(spec: ChildSpec, index: int, table: _Table) -> ChildSpec:
    async def later(begun: Awaitable[Any]) -> Any:
        result = await begun
        table.note(index, result)
        return result

    def start(*args: object) -> Any:
        result = spec.start(*args)
        if isinstance(result, Awaitable) and not isinstance(result, Pid):
            return later(result)
        table.note(index, result)
        return result

    return replace(spec, id=index, start=start)


def _table_id(name: Name) -> tuple[str, Name]:
    return ("partition_supervisor", name)


def _table(name: Name, runtime: Runtime | None = None) -> _Table:
    table = (runtime or self_process().runtime).tables.get(_table_id(name))
    if table is None:
        raise NoProcessError(name, "partitions")
    return cast("_Table", table)
