"""The driver pool: one open `Driver` per driver name and `connect`, shared by the resources behind it.

A driver that cannot be loaded is the business of its own resources alone: they are told why and stay
`initialised`. One that cannot be opened is tried again for ever, with back-off. Plain state driven by the
loop; it lives as long as its pod, and its connections end with the pod's process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from automation.execution import contained, waits
from automation.faults import describe
from drivers.contract import Driver, Health
from otp import Pid

__all__ = ["DriverPool", "Opened", "Unavailable"]

OPEN_S = 10.0
_GRACE_S = 5.0
_WAITS_S = (0.1, 5.0)


@dataclass(frozen=True, slots=True)
class Opened:
    """The driver a resource waits for is open: it may request it again."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The driver a resource waits for cannot be had now; `Opened` follows if that changes."""

    reason: str


class _Connection:
    """One driver at one `connect`, and which processes wait for it."""

    __slots__ = ("driver", "is_open", "name", "reason", "task", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.driver: Driver | None = None
        self.is_open = False
        self.reason = ""
        self.waiting: list[Pid] = []
        self.task: asyncio.Task[None] | None = None


class DriverPool:
    """The pod's drivers; `load` finds the class behind a name and raises what it likes."""

    def __init__(self, load: Callable[[str], type[Driver]]) -> None:
        self._load = load
        self._connections: dict[tuple[str, str], _Connection] = {}

    def request(self, name: str, connect: str, pid: Pid) -> Driver | None:
        """Answer the open driver, or None: then `pid` is sent `Opened` and, meanwhile, `Unavailable`."""
        connection = self._connections.get((name, connect))
        if connection is None:
            connection = self._connections[name, connect] = _Connection(name)
            connection.task = self._begin(connection, self._load_and_open(connection, connect))
        if connection.is_open:
            return connection.driver
        connection.waiting.append(pid)
        if connection.reason:
            pid.send(Unavailable(connection.reason))
        return None

    def doubt(self, name: str, connect: str) -> None:
        """Look whether the connection still stands, since a device behind it was unreachable."""
        connection = self._connections.get((name, connect))
        if connection is not None and connection.is_open and connection.task is None:
            assert connection.driver is not None
            connection.task = self._begin(connection, self._mend(connection, connection.driver))

    def verbs(self) -> dict[str, tuple[str, ...]]:
        """The verbs of every driver that could be loaded, by the driver's name."""
        return {
            each.name: tuple(each.driver.info.verbs)
            for each in self._connections.values()
            if each.driver is not None
        }

    def _begin(
        self, connection: _Connection, work: Coroutine[object, object, None]
    ) -> asyncio.Task[None]:
        task = asyncio.ensure_future(contained(work))
        task.add_done_callback(lambda done: self._ended(connection, done))
        return task

    def _ended(self, connection: _Connection, task: asyncio.Task[None]) -> None:
        connection.task = None
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._tell(connection, f"driver {connection.name!r}: {describe(error)}")

    async def _load_and_open(self, connection: _Connection, connect: str) -> None:
        driver = self._load(connection.name)(connect)
        connection.driver = driver
        await self._open(connection, driver)

    async def _mend(self, connection: _Connection, driver: Driver) -> None:
        async with asyncio.timeout(OPEN_S + _GRACE_S):
            health = await driver.probe()
        if health is Health.UNDETECTED:
            connection.is_open = False
            await self._open(connection, driver)

    async def _open(self, connection: _Connection, driver: Driver) -> None:
        for wait_s in waits(*_WAITS_S):
            try:
                async with asyncio.timeout(OPEN_S + _GRACE_S):
                    await contained(driver.open(OPEN_S))
            except Exception as error:  # noqa: BLE001 - whatever it is, the next try may succeed
                self._tell(connection, f"driver {connection.name!r}: {describe(error)}")
                await asyncio.sleep(wait_s)
            else:
                break
        connection.is_open = True
        connection.reason = ""
        waiting, connection.waiting = connection.waiting, []
        for pid in waiting:
            pid.send(Opened())

    def _tell(self, connection: _Connection, reason: str) -> None:
        if reason != connection.reason:
            connection.reason = reason
            for pid in connection.waiting:
                pid.send(Unavailable(reason))
