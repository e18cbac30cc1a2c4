"""The process of one registry partition: links to registered processes, cleans up after them, keeps locks.

It is a child of the registry's supervisor. If it dies its entries are gone, and processes linked to it die too
unless they trap exits: nobody lives on believing that it is registered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from otp import erlang
from otp.callback_results import NoReply, Result
from otp.gen_server import GenServer
from otp.process import Down, Exit, Pid, Ref
from otp.registry_table import Partition, Table
from otp.waiting import From

__all__ = ["Lock", "RegistryPartition", "Unlock"]


@dataclass(frozen=True, slots=True)
class Lock:
    """Wait for the lock of a key; the answer is the `Unlock` to cast afterwards."""

    exact_key: Hashable
    pid: Pid


@dataclass(frozen=True, slots=True, eq=False)
class Unlock:
    """The holder is done; one that was released already, by death, changes nothing."""

    exact_key: Hashable


class _Held:
    """A lock: who has it, and who waits, first come first."""

    __slots__ = ("grant", "monitor", "waiting")

    def __init__(self) -> None:
        self.grant: Unlock | None = None
        self.monitor: Ref | None = None
        self.waiting: deque[tuple[Lock, From]] = deque()


class RegistryPartition(GenServer[Partition]):
    """Partition `index` of `table`."""

    __slots__ = ("_index", "_locks", "_table")

    def __init__(self, table: Table, index: int) -> None:
        self._table = table
        self._index = index
        self._locks: dict[Hashable, _Held] = {}

    def init(self) -> Partition:
        self.trap_exit()
        return self._table.open_partition(self._index, self.pid)

    def handle_call(self, request: Any, from_: From, state: Partition) -> Result[Partition]:
        if not isinstance(request, Lock):
            raise self._undefined("handle_call", request)
        held = self._locks.setdefault(request.exact_key, _Held())
        held.waiting.append((request, from_))
        if held.grant is None:
            self._grant_next(request.exact_key, held)
        return NoReply(state)

    def handle_cast(self, request: Any, state: Partition) -> Result[Partition]:
        if not isinstance(request, Unlock):
            raise self._undefined("handle_cast", request)
        held = self._locks.get(request.exact_key)
        if held is not None and held.grant is request and held.monitor is not None:
            erlang.demonitor(held.monitor, flush=True)
            self._grant_next(request.exact_key, held)
        return NoReply(state)

    def handle_info(self, message: object, state: Partition) -> Result[Partition]:
        if isinstance(message, Exit) and message.pid is not None:
            self._table.clean_up(state, message.pid)
        elif isinstance(message, Down):
            self._holder_died(message.ref)
        return NoReply(state)

    def _grant_next(self, exact_key: Hashable, held: _Held) -> None:
        held.grant = held.monitor = None
        while held.waiting:
            lock, from_ = held.waiting.popleft()
            if lock.pid.is_alive() and not from_.done:
                held.grant = Unlock(exact_key)
                held.monitor = erlang.monitor(lock.pid)
                from_.reply(held.grant)
                return
        del self._locks[exact_key]

    def _holder_died(self, monitor: Ref) -> None:
        for exact_key, held in list(self._locks.items()):
            if held.monitor is monitor:
                self._grant_next(exact_key, held)
