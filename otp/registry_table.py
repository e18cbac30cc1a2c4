"""The tables of one registry: plain data that every process of the runtime reads and writes directly.

Each partition has two halves. `keys` leads from a key to its entries, `pids` from a process to the keys it holds;
the partition's process (`otp.registry_partition`) is linked to the processes of `pids` and empties their entries
when they end. Until it has, an entry of a dead process is not shown and does not block a new one.

Source: registry.ex of Elixir 1.18.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from otp.errors import NoProcessError, OtpError
from otp.partitioning import exact, partition_of
from otp.process import Pid

__all__ = [
    "AlreadyRegisteredError",
    "Entry",
    "Keys",
    "NotRegisteredError",
    "Partition",
    "RegistryError",
    "Table",
    "Where",
]

Where = Callable[[object], bool]  # a predicate on the value: instead of match specs


class RegistryError(OtpError):
    """A registry cannot do what was asked: unknown, the wrong kind of keys, or bad options. Told to the caller."""


class AlreadyRegisteredError(RegistryError):
    """The unique key belongs to the living process `pid`."""

    def __init__(self, key: object, pid: Pid) -> None:
        super().__init__(f"{key!r:.200} is registered by {pid!r}")
        self.key = key
        self.pid = pid


class NotRegisteredError(RegistryError):
    """The calling process does not hold that key."""


class Keys(Enum):
    """How many processes may hold a key, and for duplicate keys what a partition is chosen by."""

    UNIQUE = "unique"
    DUPLICATE = "duplicate"  # partitioned by process: good for few keys with many processes
    DUPLICATE_BY_KEY = "duplicate_by_key"  # good for many keys with few processes each


@dataclass(frozen=True, slots=True)
class Entry:
    """One registration."""

    key: Hashable
    pid: Pid
    value: object


class _KeyHalf(Protocol):
    """The entries of one partition, by exact key."""

    def insert(self, exact_key: Hashable, entry: Entry) -> None: ...
    def remove(self, exact_key: Hashable, pid: Pid, where: Where | None = None) -> int: ...
    def of(self, exact_key: Hashable) -> Iterator[Entry]: ...
    def entries(self) -> Iterator[Entry]: ...
    def __len__(self) -> int: ...


class _UniqueKeys:
    """At most one entry per key."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[Hashable, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def insert(self, exact_key: Hashable, entry: Entry) -> None:
        """Insert, unless a living process has the key; one of a dead process is swept aside."""
        current = self._entries.get(exact_key)
        if current is not None and current.pid.is_alive():
            raise AlreadyRegisteredError(entry.key, current.pid)
        self._entries[exact_key] = entry

    def replace(self, exact_key: Hashable, entry: Entry) -> None:
        """Put a new value in the place of the old one."""
        self._entries[exact_key] = entry

    def remove(self, exact_key: Hashable, pid: Pid, where: Where | None = None) -> int:
        """Remove the entry if it is of `pid` and wanted; returns how many went."""
        entry = self._entries.get(exact_key)
        if entry is None or entry.pid is not pid or not _wanted(entry, where):
            return 0
        del self._entries[exact_key]
        return 1

    def of(self, exact_key: Hashable) -> Iterator[Entry]:
        """Go through the entries of one key."""
        entry = self._entries.get(exact_key)
        if entry is not None:
            yield entry

    def entries(self) -> Iterator[Entry]:
        """Go through all entries."""
        yield from self._entries.values()


class _DuplicateKeys:
    """Any number of entries per key, grouped by process: one may leave a crowd in constant time."""

    __slots__ = ("_entries", "_size")

    def __init__(self) -> None:
        self._entries: dict[Hashable, dict[Pid, list[Entry]]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def insert(self, exact_key: Hashable, entry: Entry) -> None:
        """Insert one more."""
        self._entries.setdefault(exact_key, {}).setdefault(entry.pid, []).append(entry)
        self._size += 1

    def remove(self, exact_key: Hashable, pid: Pid, where: Where | None = None) -> int:
        """Remove the wanted entries of `pid`; returns how many went."""
        holders = self._entries.get(exact_key, {})
        held = holders.pop(pid, [])
        kept = [entry for entry in held if not _wanted(entry, where)]
        if kept:
            holders[pid] = kept
        elif not holders:
            self._entries.pop(exact_key, None)
        self._size -= len(held) - len(kept)
        return len(held) - len(kept)

    def of(self, exact_key: Hashable) -> Iterator[Entry]:
        """Go through the entries of one key."""
        for held in self._entries.get(exact_key, {}).values():
            yield from held

    def entries(self) -> Iterator[Entry]:
        """Go through all entries."""
        for exact_key in self._entries:
            yield from self.of(exact_key)


class Partition:
    """One partition: its process, the entries of its keys, and the keys of its processes."""

    __slots__ = ("keys", "pids", "server")

    def __init__(self, server: Pid, keys: _KeyHalf) -> None:
        self.server = server
        self.keys = keys
        # process -> exact key -> key, how often
        self.pids: dict[Pid, dict[Hashable, tuple[Hashable, int]]] = {}


class Table:
    """One registry, as its users see it. The processes that change it are passed in by `otp.registry`."""

    __slots__ = ("_partitions", "keys_kind", "listeners", "meta", "name")

    def __init__(
        self, name: str, keys: Keys, listeners: Sequence[str], meta: Mapping[Hashable, object]
    ) -> None:
        self.name = name
        self.keys_kind = keys
        self.listeners = tuple(listeners)
        self.meta = {exact(key): value for key, value in meta.items()}
        self._partitions: dict[int, Partition] = {}

    @property
    def unique(self) -> bool:
        """Tell whether a key has one holder at most."""
        return self.keys_kind is Keys.UNIQUE

    @property
    def partitions(self) -> list[Partition]:
        """The partitions in order."""
        return [self._partitions[index] for index in sorted(self._partitions)]

    def open_partition(self, index: int, server: Pid) -> Partition:
        """Begin a partition with no entries; what its predecessor held is gone with it."""
        keys = _UniqueKeys() if self.unique else _DuplicateKeys()
        partition = self._partitions[index] = Partition(server, keys)
        return partition

    # Changing.

    def register(self, pid: Pid, key: Hashable, value: object) -> Pid:
        """Add an entry; see `otp.registry.register`."""
        exact_key = exact(key)
        owner = self._by_pid(pid)
        keyed = self._by_key(key) if self._key_partitioned else owner
        for partition in (owner, keyed):
            if not partition.server.is_alive():
                raise NoProcessError(partition.server, ("register", key))
        keyed.keys.insert(exact_key, Entry(key, pid, value))
        held = owner.pids.setdefault(pid, {})
        held[exact_key] = (
            key,
            held[exact_key][1] + 1 if exact_key in held and not self.unique else 1,
        )
        pid.link(owner.server)
        return owner.server

    def unregister(self, pid: Pid, key: Hashable, where: Where | None = None) -> None:
        """Remove the wanted entries of `pid` under `key`; its last one takes the link with it."""
        exact_key = exact(key)
        owner = self._by_pid(pid)
        keyed = self._by_key(key) if self._key_partitioned else owner
        removed = keyed.keys.remove(exact_key, pid, where)
        held = owner.pids.get(pid, {})
        if removed:
            left = held[exact_key][1] - removed
            held[exact_key] = (key, left)
            if not left:
                del held[exact_key]
        if not held and owner.pids.pop(pid, None) is not None:
            pid.unlink(owner.server)

    def update_value(
        self, pid: Pid, key: Hashable, change: Callable[[object], object]
    ) -> tuple[object, object]:
        """Change the value of an own unique key; see `otp.registry.update_value`."""
        keys = self._by_key(key).keys
        if not isinstance(keys, _UniqueKeys):
            raise RegistryError(f"{self.name!r} has duplicate keys: update_value is not supported")
        exact_key = exact(key)
        for entry in keys.of(exact_key):
            if entry.pid is pid:
                new = change(entry.value)
                keys.replace(exact_key, Entry(key, pid, new))
                return new, entry.value
        raise NotRegisteredError(f"{pid!r} has not registered {key!r:.200} in {self.name!r}")

    def clean_up(self, owner: Partition, pid: Pid) -> None:
        """Remove the entries of a dead process that `owner` looks after, wherever they are."""
        for exact_key, (key, _) in owner.pids.pop(pid, {}).items():
            keyed = self._by_key(key) if self._key_partitioned else owner
            keyed.keys.remove(exact_key, pid)

    # Reading.

    def groups(self, key: Hashable) -> Iterator[list[Entry]]:
        """Go through the entries of `key`, one list for each partition that has some."""
        exact_key = exact(key)
        for partition in [self._by_key(key)] if self._key_partitioned else self.partitions:
            found = [entry for entry in partition.keys.of(exact_key) if entry.pid.is_alive()]
            if found:
                yield found

    def of(self, key: Hashable) -> list[Entry]:
        """List the entries of `key`."""
        return [entry for group in self.groups(key) for entry in group]

    def keys_of(self, pid: Pid) -> list[Hashable]:
        """List the keys `pid` holds, each as often as it holds it."""
        if not pid.is_alive():
            return []
        held = self._by_pid(pid).pids.get(pid, {})
        return [key for key, times in held.values() for _ in range(times)]

    def entries(self) -> list[Entry]:
        """List everything."""
        halves = [partition.keys for partition in self.partitions]
        return [entry for keys in halves for entry in keys.entries() if entry.pid.is_alive()]

    def count(self) -> int:
        """Count the entries, those of the just dead included."""
        return sum(len(partition.keys) for partition in self.partitions)

    def lock_server(self, key: Hashable) -> Pid:
        """Name the process that keeps the lock of `key`."""
        return self._by_key(key).server

    @property
    def _key_partitioned(self) -> bool:
        return self.keys_kind is not Keys.DUPLICATE

    def _by_key(self, key: Hashable) -> Partition:
        return self._partitions[partition_of(key, len(self._partitions))]

    def _by_pid(self, pid: Pid) -> Partition:
        return self._partitions[pid.serial % len(self._partitions)]


def _wanted(entry: Entry, where: Where | None) -> bool:
    return where is None or where(entry.value)
