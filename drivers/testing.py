"""The conformance kit: what every driver is held to, against its real peer; and a device service to test with.

A driver's tests derive `DriverConformance` in a class called `Test…` and give it a `peer` fixture and its
steps. Each test starts from a peer without the device.

Longer than most: a driver's author reads all that is asked of a driver in one place.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar, Protocol

import pytest

from drivers.contract import (
    DeniedError,
    DeviceRef,
    Done,
    Driver,
    DriverError,
    Epoch,
    FinalError,
    Health,
    InvalidError,
    NoChange,
    Observation,
    OutcomeUnknownError,
    Settlement,
    StaleEpochError,
    Step,
    StepContext,
    UnreachableError,
    UnsupportedError,
)
from drivers.simulated import SimulatedDriver

__all__ = ["CredentialConformance", "DriverConformance", "Peer", "ServiceProcess"]

LATE_S = 1.0  # a deadline is kept within this
PATIENCE_S = 15.0  # until a peer that goes on has answered what it was asked before


class Peer(Protocol):
    """The real thing behind a driver, and how to hurt it."""

    connect: str

    def hang(self) -> None:
        """Stop it from answering, connections staying up (SIGSTOP)."""

    def go_on(self) -> None:
        """Let it answer again."""

    def kill(self) -> None:
        """SIGKILL it."""

    def restart(self) -> None:
        """Start it again after `kill`, at the same address."""

    async def tamper(self, ref: DeviceRef) -> None:
        """Change the device past every driver."""


class ServiceProcess:
    """A device service as a process of its own; a `Peer` of the simulated driver.

    Args:
        folder: where its ledger and its socket are.
        options: more arguments of `python -m drivers.device_service`.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.socket = folder / "devices.sock"
        self.connect = f"unix:{self.socket}"
        self.ledger = folder / "ledger.jsonl"
        self._folder = folder
        self._options = options
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def hang(self) -> None:
        """Stop it with SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on with SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL it and wait for its end."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Start it again."""
        self._process = self._start()

    def stop(self) -> int:
        """End it and return its exit code; once more is harmless."""
        self.go_on()
        self._process.terminate()
        return self._process.wait(5.0)

    def wait(self) -> int:
        """Wait until it has ended by itself and return its exit code."""
        return self._process.wait(10.0)

    async def tamper(self, ref: DeviceRef) -> None:
        """Remove the device."""
        from_outside = SimulatedDriver(self.connect)
        await from_outside.poke(ref, None)
        await from_outside.close()

    def _start(self) -> subprocess.Popen[bytes]:
        where = ["--socket", str(self.socket), "--folder", str(self._folder)]
        where += ["--parent", str(os.getpid())]
        return subprocess.Popen(
            [sys.executable, "-m", "drivers.device_service", *where, *self._options]
        )


class DriverConformance:
    """Derive, name the class `Test…`, set what is unset here, and provide a fixture `peer`."""

    driver: ClassVar[type[Driver]]
    ref: ClassVar[DeviceRef] = DeviceRef("eu/a/rack-1/thing-1", "thing-1")
    prepare: ClassVar[tuple[Step, ...]]  # from nothing to a device that `change` changes
    change: ClassVar[Step]
    bad: ClassVar[Step]  # a step of a known verb with a value no device takes
    slow: ClassVar[Step | None] = None  # a step that takes seconds, for cancelling
    nowhere: ClassVar[str]  # a `connect` behind which there is nobody

    epoch: ClassVar[Epoch] = (1, 1, 1, 1)

    async def test_opening_twice_finds_a_healthy_peer(self, peer: Peer) -> None:
        driver = await self._opened(peer)
        await driver.open(5.0)

        assert await driver.probe() is Health.HEALTHY
        await driver.close()
        await driver.close()

    async def test_an_address_without_a_peer_is_unreachable(self) -> None:
        driver = self.driver(self.nowhere)

        with pytest.raises(UnreachableError):
            await driver.open(0.5)
        assert await driver.probe() is Health.UNDETECTED
        await driver.close()

    async def test_a_device_never_made_does_not_exist(self, peer: Peer) -> None:
        driver = await self._opened(peer)

        found = await driver.claim(self.ref, self.epoch, 5.0)

        assert (found.exists, found.state, found.marks) == (False, {}, ())
        await driver.close()

    async def test_claims_are_answered_in_the_order_asked(self, peer: Peer) -> None:
        driver = await self._prepared(peer)
        other = DeviceRef(self.ref.path + "-other", self.ref.name + "-other", self.ref.kind)
        newer = (*self.epoch[:-1], 2)

        answers = await driver.claim_many([(other, newer), (self.ref, newer)], 5.0)

        assert [isinstance(a, Observation) and a.exists for a in answers] == [False, True]
        await driver.close()

    async def test_the_same_step_twice_is_no_change(self, peer: Peer) -> None:
        driver = await self._prepared(peer)

        first = await driver.execute(self.ref, self.change, self._ctx("once"))
        seen = await driver.observe(self.ref, 5.0)
        second = await driver.execute(self.ref, self.change, self._ctx("once"))

        assert isinstance(first, Done)
        assert isinstance(second, NoChange)
        assert (await driver.observe(self.ref, 5.0)).state == seen.state
        assert "once/0" in seen.marks
        await driver.close()

    async def test_a_new_step_towards_the_present_state_is_no_change(self, peer: Peer) -> None:
        driver = await self._prepared(peer)

        await driver.execute(self.ref, self.change, self._ctx("first"))
        again = await driver.execute(self.ref, self.change, self._ctx("second"))

        assert isinstance(again, NoChange)
        assert await self._settle(driver, "second") is Settlement.APPLIED
        await driver.close()

    async def test_what_was_read_back_is_what_is_observed(self, peer: Peer) -> None:
        driver = await self._prepared(peer)

        done = await driver.execute(self.ref, self.change, self._ctx("unit"))

        found = await driver.observe(self.ref, 5.0)
        assert isinstance(done, Done)
        assert done.observed is None or done.observed.state == found.state
        await driver.close()

    async def test_planned_steps_lead_to_the_state_desired(self, peer: Peer) -> None:
        driver = await self._prepared(peer)
        desired = (await driver.observe(self.ref, 5.0)).state
        await driver.execute(self.ref, self.change, self._ctx("away"))

        for wanted in (desired, {}, desired):
            await self._converge(driver, wanted)

            found = await driver.observe(self.ref, 5.0)
            assert driver.plan(wanted, found) == []
            assert found.state == wanted
        await driver.close()

    async def test_a_hung_peer_leaves_the_outcome_unknown_in_time(self, peer: Peer) -> None:
        driver = await self._prepared(peer)
        peer.hang()
        began = time.monotonic()

        with pytest.raises(OutcomeUnknownError):
            await driver.execute(self.ref, self.change, self._ctx("hung", deadline_s=0.5))

        assert time.monotonic() - began < 0.5 + LATE_S
        peer.go_on()
        assert await self._settle(driver, "hung") is await self._truth(driver)
        await driver.close()

    async def test_a_peer_killed_in_a_step_is_seen_after_its_restart(self, peer: Peer) -> None:
        driver = await self._prepared(peer)
        peer.hang()
        with pytest.raises(OutcomeUnknownError):
            await driver.execute(self.ref, self.change, self._ctx("cut", deadline_s=0.3))

        peer.kill()
        peer.restart()

        assert await self._settle(driver, "cut") is await self._truth(driver)
        assert await driver.probe() is Health.HEALTHY
        await driver.close()

    async def test_a_dead_peer_is_unreachable_in_time(self, peer: Peer) -> None:
        driver = await self._prepared(peer)
        peer.kill()
        began = time.monotonic()

        with pytest.raises(UnreachableError):
            await driver.observe(self.ref, 0.5)

        assert time.monotonic() - began < 0.5 + LATE_S
        await driver.close()

    async def test_a_step_whose_caller_died_is_found_by_the_next(self, peer: Peer) -> None:
        dying = await self._prepared(peer)
        await dying.execute(self.ref, self.change, self._ctx("orphan"))
        await dying.close()
        newer = (*self.epoch[:-1], self.epoch[-1] + 1)

        heir = await self._opened(peer)
        claimed = await heir.claim(self.ref, newer, 5.0)

        assert "orphan/0" in claimed.marks
        assert await self._settle(heir, "orphan", newer) is Settlement.APPLIED
        repeated = await heir.execute(self.ref, self.change, self._ctx("orphan", newer))
        assert isinstance(repeated, NoChange)
        await heir.close()

    async def test_a_step_never_sent_is_not_applied(self, peer: Peer) -> None:
        driver = await self._prepared(peer)

        assert await self._settle(driver, "never") is Settlement.NOT_APPLIED
        await driver.close()

    async def test_a_change_past_the_driver_is_observed(self, peer: Peer) -> None:
        driver = await self._prepared(peer)
        before = await driver.observe(self.ref, 5.0)

        await peer.tamper(self.ref)

        after = await driver.observe(self.ref, 5.0)
        assert (after.exists, after.state) != (before.exists, before.state)
        assert driver.plan(before.state, after) != []
        await driver.close()

    async def test_a_bad_parameter_is_final_and_changes_nothing(self, peer: Peer) -> None:
        driver = await self._prepared(peer)
        before = await driver.observe(self.ref, 5.0)

        with pytest.raises(InvalidError):
            await driver.execute(self.ref, self.bad, self._ctx("bad"))
        with pytest.raises(UnsupportedError):
            await driver.execute(self.ref, Step("frobnicate"), self._ctx("worse"))

        assert (await driver.observe(self.ref, 5.0)).state == before.state
        assert await self._settle(driver, "bad") is Settlement.NOT_APPLIED
        await driver.close()

    async def test_a_newer_epoch_shuts_older_callers_out(self, peer: Peer) -> None:
        old = await self._prepared(peer)
        new = await self._opened(peer)
        await new.claim(self.ref, (*self.epoch[:-2], 2, 1), 5.0)
        before = await new.observe(self.ref, 5.0)

        with pytest.raises(StaleEpochError):
            await old.execute(self.ref, self.change, self._ctx("late"))
        with pytest.raises(StaleEpochError):
            await old.claim(self.ref, self.epoch, 5.0)

        assert (await new.observe(self.ref, 5.0)).state == before.state
        await old.close()
        await new.close()

    async def test_a_device_that_hung_has_nothing_in_flight_once_settled(self, peer: Peer) -> None:
        driver = await self._prepared(peer)
        peer.hang()
        with pytest.raises(OutcomeUnknownError):
            await driver.execute(self.ref, self.change, self._ctx("stuck", deadline_s=0.3))
        peer.go_on()

        assert await self._settle(driver, "stuck") is not Settlement.UNKNOWN

        assert (await driver.observe(self.ref, 5.0)).in_flight is None
        await driver.close()

    async def test_undoing_a_step_restores_the_state(self, peer: Peer) -> None:
        driver = await self._prepared(peer)
        before = await driver.observe(self.ref, 5.0)
        await driver.execute(self.ref, self.change, self._ctx("do"))

        await driver.undo(self.ref, self.change, self._ctx("undo"))

        assert (await driver.observe(self.ref, 5.0)).state == before.state
        await driver.close()

    async def test_cancelling_stops_a_step_or_says_it_cannot(self, peer: Peer) -> None:
        driver = await self._prepared(peer)
        if self.slow is None:
            assert not await driver.cancel(self.ref, self._ctx("idle"))
        else:
            step = asyncio.ensure_future(
                driver.execute(self.ref, self.slow, self._ctx("slow", deadline_s=30.0))
            )
            await self._until_in_flight(driver)

            assert await driver.cancel(self.ref, self._ctx("slow"))
            with pytest.raises(DriverError):
                await step
            assert await self._settle(driver, "slow") is Settlement.NOT_APPLIED
        await driver.close()

    async def _opened(self, peer: Peer) -> Driver:
        driver = self.driver(peer.connect)
        await driver.open(5.0)
        return driver

    async def _prepared(self, peer: Peer) -> Driver:
        driver = await self._opened(peer)
        await driver.claim(self.ref, self.epoch, 5.0)
        for index, step in enumerate(self.prepare):
            await driver.execute(self.ref, step, self._ctx("prepare", index=index))
        return driver

    def _ctx(
        self, unit: str, epoch: Epoch | None = None, *, index: int = 0, deadline_s: float = 5.0
    ) -> StepContext:
        return StepContext(unit=unit, index=index, epoch=epoch or self.epoch, deadline_s=deadline_s)

    async def _converge(self, driver: Driver, wanted: dict[str, object]) -> None:
        found = await driver.observe(self.ref, 5.0)
        for index, step in enumerate(driver.plan(wanted, found)):
            unit = f"converge-{found.exists}-{len(wanted)}-{time.monotonic()}"
            await driver.execute(self.ref, step, self._ctx(unit, index=index))

    async def _settle(self, driver: Driver, unit: str, epoch: Epoch | None = None) -> Settlement:
        """Ask until the answer is known, as the automation tier does."""
        until = time.monotonic() + PATIENCE_S
        settled = Settlement.UNKNOWN
        while settled is Settlement.UNKNOWN and time.monotonic() < until:
            try:
                settled = await driver.settle(self.ref, self.change, self._ctx(unit, epoch))
            except UnreachableError:
                settled = Settlement.UNKNOWN
            if settled is Settlement.UNKNOWN:
                await asyncio.sleep(0.05)
        return settled

    async def _truth(self, driver: Driver) -> Settlement:
        """Say whether `change` is in the device, by asking for it under another key."""
        try:
            again = await driver.execute(self.ref, self.change, self._ctx("truth"))
        except FinalError:  # the peer has forgotten the device, and the change with it
            return Settlement.NOT_APPLIED
        return Settlement.APPLIED if isinstance(again, NoChange) else Settlement.NOT_APPLIED

    async def _until_in_flight(self, driver: Driver) -> None:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if (await driver.observe(self.ref, 5.0)).in_flight is not None:
                return
            await asyncio.sleep(0.01)
        pytest.fail("the slow step never began")


class CredentialConformance:
    """Derive beside `DriverConformance` where the peer asks who is there."""

    driver: ClassVar[type[Driver]]
    refused: ClassVar[str]  # a `connect` with wrong credentials

    async def test_wrong_credentials_are_denied(self) -> None:
        driver = self.driver(self.refused)

        with pytest.raises(DeniedError):
            await driver.open(5.0)
