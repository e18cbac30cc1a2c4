"""registry: local names of any hashable kind, unique or shared, that go away with their processes.

Reads and writes go straight to the tables, never through a process. A registry is a supervisor over one process per
partition; put it into the tree before whoever uses it. Everything here is called inside a process, and names
registries as they were started. `Via(registry, key)` stands wherever a name does.
Elixir's match specs are not ported: predicates on the value take their place.

Source: registry.ex of Elixir 1.18.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from otp import gen_server
from otp import task as tasks
from otp.address import Address, Name
from otp.child_spec import ChildSpec, Strategy, SupervisorFlags
from otp.partitioning import exact
from otp.process import Pid
from otp.registry_partition import Lock, RegistryPartition
from otp.registry_table import (
    AlreadyRegisteredError,
    Entry,
    Keys,
    NotRegisteredError,
    RegistryError,
    Table,
    Where,
)
from otp.supervisor import Supervisor
from otp.waiting import self_process

if TYPE_CHECKING:  # a cycle of types only
    from otp.runtime import Runtime

__all__ = [
    "AlreadyRegisteredError",
    "Entry",
    "Keys",
    "NotRegisteredError",
    "Registered",
    "Registry",
    "RegistryError",
    "Unregistered",
    "Via",
    "count",
    "count_match",
    "delete_meta",
    "dispatch",
    "dispatch_parallel",
    "keys",
    "lock",
    "lookup",
    "match",
    "meta",
    "put_meta",
    "register",
    "select",
    "start_link",
    "unregister",
    "unregister_match",
    "update_value",
    "values",
    "whereis",
]

ResultT = TypeVar("ResultT")
Entries = list[tuple[Pid, object]]


@dataclass(frozen=True, slots=True)
class Registered:
    """Sent to listeners: `pid` has registered `key`."""

    registry: str
    key: Hashable
    pid: Pid
    value: object


@dataclass(frozen=True, slots=True)
class Unregistered:
    """Sent to listeners: `pid` has unregistered `key` itself; of deaths a listener hears by its own monitors."""

    registry: str
    key: Hashable
    pid: Pid


class Registry(Supervisor):
    """A registry to be started, under its own name.

    Args:
        name: what the functions of this module and `Via` call it.
        keys: unique, or duplicate; a member of `Keys` or its value.
        partitions: how many processes share the cleaning up.
        listeners: names of processes that get `Registered` and `Unregistered`; one that is not there misses them.
        meta: what `meta` answers at first.

    Raises:
        RegistryError: an option is not valid.
    """

    def __init__(
        self,
        name: str,
        *,
        keys: Keys | str = Keys.UNIQUE,
        partitions: int = 1,
        listeners: Iterable[str] = (),
        meta: Mapping[Hashable, object] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(name, str):
            raise RegistryError(f"a registry's name is a str, not {name!r:.200}")
        if not isinstance(partitions, int) or isinstance(partitions, bool) or partitions < 1:
            raise RegistryError(f"{name!r}: partitions is {partitions!r:.200}, not a number >= 1")
        try:
            self.keys = Keys(keys)
        except ValueError:
            known = ", ".join(kind.value for kind in Keys)
            raise RegistryError(f"{name!r}: keys is {keys!r:.200}, not one of {known}") from None
        self.name = name
        self.partitions = partitions
        self.listeners = tuple(listeners)
        self.meta = dict(meta or {})

    def init(self) -> tuple[SupervisorFlags, list[ChildSpec]]:
        """Make the tables, which live as long as this supervisor, and name the partitions."""
        me = self_process()
        table = Table(self.name, self.keys, self.listeners, self.meta)
        me.runtime.tables[_table_id(self.name)] = table
        me.watch(_TableOwner(table))
        # Partitions of a table keyed by key hold entries for each other's processes: they restart together.
        alone = self.keys is Keys.DUPLICATE
        flags = SupervisorFlags(
            strategy=Strategy.ONE_FOR_ONE if alone else Strategy.ONE_FOR_ALL, intensity=3
        )
        return flags, [self._partition(table, index) for index in range(self.partitions)]

    def start_in(self, runtime: Runtime, *, parent: Pid | None, name: Name | None) -> Pid:
        """Start it in `runtime` under its own name."""
        return super().start_in(runtime, parent=parent, name=self.name)

    @classmethod
    def child_spec(cls, *args: object, name: Name | None = None, **options: Any) -> ChildSpec:
        """Give the spec of a registry called `name`, or by the first argument; that is its id as well."""
        own = args or (name,)
        return replace(super().child_spec(*own, **options), id=own[0])

    def _partition(self, table: Table, index: int) -> ChildSpec:
        name = f"{self.name}.partition{index}"
        return ChildSpec(
            name, lambda: gen_server.start_link(RegistryPartition(table, index), name=name)
        )


@dataclass(frozen=True, slots=True)
class Via(Address):
    """The holder of `key` in a unique registry, wherever a name is accepted; a start under it registers `value`.

    Raises:
        RegistryError: (when used) no such registry, or its keys are not unique.
    """

    registry: str
    key: Hashable
    value: object = None

    def whereis(self, runtime: Runtime) -> Pid | None:
        """Find the holder."""
        found = self._table(runtime).of(self.key)
        return found[0].pid if found else None

    def register(self, runtime: Runtime, pid: Pid) -> None:
        """Register `pid`."""
        _register(self._table(runtime), pid, self.key, self.value)

    def unregister(self, runtime: Runtime) -> None:
        """Take the key from its holder."""
        holder = self.whereis(runtime)
        if holder is not None:
            _unregister(self._table(runtime), holder, self.key)

    def _table(self, runtime: Runtime) -> Table:
        table = _table(self.registry, runtime)
        if not table.unique:
            raise RegistryError(f"Via is not supported: {self.registry!r} has duplicate keys")
        return table


def start_link(
    name: str,
    *,
    keys: Keys | str = Keys.UNIQUE,
    partitions: int = 1,
    listeners: Iterable[str] = (),
    meta: Mapping[Hashable, object] | None = None,
) -> Pid:
    """Start a registry linked to the calling process; options as for `Registry`."""
    blueprint = Registry(name, keys=keys, partitions=partitions, listeners=listeners, meta=meta)
    parent = self_process()
    return blueprint.start_in(parent.runtime, parent=parent, name=name)


# The calling process's own entries.


def register(registry: str, key: Hashable, value: object = None) -> Pid:
    """Register the calling process under `key`; returns the partition's process, now linked to the caller.

    Raises:
        AlreadyRegisteredError: the key is unique and somebody alive has it, perhaps the caller.
        RegistryError: there is no such registry.
        NoProcessError: the partition is being restarted.
    """
    return _register(_table(registry), self_process(), key, value)


def unregister(registry: str, key: Hashable) -> None:
    """Remove all entries of the calling process under `key`; none is fine."""
    _unregister(_table(registry), self_process(), key)


def unregister_match(registry: str, key: Hashable, where: Where) -> None:
    """Remove those entries of the calling process under `key` whose value is wanted; listeners are not told."""
    _table(registry).unregister(self_process(), key, where)


def update_value(
    registry: str, key: Hashable, change: Callable[[Any], object]
) -> tuple[object, object]:
    """Replace the value of a unique key of the calling process by `change(value)`; returns new and old.

    Raises:
        NotRegisteredError: the caller does not hold that key.
        RegistryError: the registry has duplicate keys.
    """
    return _table(registry).update_value(self_process(), key, change)


# Looking up.


def whereis(registry: str, key: Hashable) -> Pid | None:
    """Find the holder of a unique key."""
    return Via(registry, key).whereis(self_process().runtime)


def lookup(registry: str, key: Hashable) -> Entries:
    """List (process, value) of the living holders of `key`, in no promised order."""
    return _pairs(_table(registry).of(key))


def match(registry: str, key: Hashable, where: Where) -> Entries:
    """List (process, value) under `key` for the wanted values."""
    return [(pid, value) for pid, value in lookup(registry, key) if where(value)]


def count_match(registry: str, key: Hashable, where: Where) -> int:
    """Count the entries under `key` with wanted values."""
    return len(match(registry, key, where))


def keys(registry: str, pid: Pid) -> list[Hashable]:
    """List the keys of `pid`; a duplicate one as often as it is held. Empty when it is dead."""
    return _table(registry).keys_of(pid)


def values(registry: str, key: Hashable, pid: Pid) -> list[object]:
    """List the values `pid` has under `key`."""
    return [entry.value for entry in _table(registry).of(key) if entry.pid is pid]


def select(registry: str, wanted: Callable[[Entry], bool] | None = None) -> list[Entry]:
    """List all entries, or the wanted ones."""
    found = _table(registry).entries()
    return found if wanted is None else [entry for entry in found if wanted(entry)]


def count(registry: str) -> int:
    """Count all entries, including those of processes whose death is not cleaned up yet."""
    return _table(registry).count()


def dispatch(registry: str, key: Hashable, function: Callable[[Entries], object]) -> None:
    """Call `function` in the caller with the (process, value) pairs under `key`, once per partition that has any."""
    for group in list(_table(registry).groups(key)):
        function(_pairs(group))


async def dispatch_parallel(
    registry: str, key: Hashable, function: Callable[[Entries], object]
) -> None:
    """Call `function`, which may be `async def`, as `dispatch` does, but each time in a linked process of its own."""
    groups = list(_table(registry).groups(key))
    running = [tasks.async_(function, _pairs(group)) for group in groups]
    for task in running:
        await task.await_(None)


# Metadata and locks.


def meta(registry: str, key: Hashable, default: object = None) -> Any:
    """Read a value kept beside the entries."""
    return _table(registry).meta.get(exact(key), default)


def put_meta(registry: str, key: Hashable, value: object) -> None:
    """Store a value beside the entries."""
    _table(registry).meta[exact(key)] = value


def delete_meta(registry: str, key: Hashable) -> None:
    """Forget such a value; none is fine."""
    _table(registry).meta.pop(exact(key), None)


async def lock(
    registry: str, key: Hashable, function: Callable[[], ResultT | Awaitable[ResultT]]
) -> ResultT:
    """Run `function` while no other process runs one under the same key; first come, first served.

    The key has nothing to do with entries. The lock is free again when `function` has ended in any way, or its
    process has. Asking for a lock one holds already waits for ever.
    """
    server = _table(registry).lock_server(key)
    grant = await server.call(Lock(exact(key), self_process()), None)
    try:
        result = function()
        return await result if isinstance(result, Awaitable) else result
    finally:
        server.cast(grant)


class _TableOwner:
    """Takes the table away when the registry's supervisor ends."""

    __slots__ = ("_table",)

    def __init__(self, table: Table) -> None:
        self._table = table

    def ended(self, pid: Pid, reason: object) -> None:
        """The supervisor has ended."""
        tables = pid.runtime.tables
        if tables.get(_table_id(self._table.name)) is self._table:
            del tables[_table_id(self._table.name)]


def _table_id(name: str) -> tuple[str, str]:
    return ("registry", name)


def _table(registry: str, runtime: Runtime | None = None) -> Table:
    tables = (runtime or self_process().runtime).tables
    table = tables.get(_table_id(registry)) if isinstance(registry, str) else None
    if table is None:
        raise RegistryError(f"unknown registry: {registry!r:.200}")
    return cast("Table", table)


def _register(table: Table, pid: Pid, key: Hashable, value: object) -> Pid:
    owner = table.register(pid, key, value)
    _tell(pid.runtime, table, Registered(table.name, key, pid, value))
    return owner


def _unregister(table: Table, pid: Pid, key: Hashable) -> None:
    table.unregister(pid, key)
    _tell(pid.runtime, table, Unregistered(table.name, key, pid))


def _tell(runtime: Runtime, table: Table, message: Registered | Unregistered) -> None:
    for listener in table.listeners:
        pid = runtime.whereis(listener)
        if pid is not None:
            pid.send(message)


def _pairs(entries: Iterable[Entry]) -> Entries:
    return [(entry.pid, entry.value) for entry in entries]
