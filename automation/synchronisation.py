"""Synchronisation: a new incarnation learns what its device is, settles what is in doubt, and converges it.

`synchronise` is the job a resource process runs between its claim and `ready`. It runs again from the start
when it fails: every part looks before it acts.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from automation.execution import LOOK_S, cancel_late, run_command, settle_command, waits
from automation.resource_memory import ResourceMemory
from drivers.contract import (
    Driver,
    DriverError,
    Observation,
    OutcomeUnknownError,
    Settlement,
    Step,
    StepContext,
)
from rpc.messages import Settled, Unit

__all__ = ["Synchronised", "can_skip", "synchronise", "what_is_open"]

MOST_ROUNDS = 8  # plans in a row that may fall short before the device counts as unruly

_IN_FLIGHT_WAITS_S = (0.05, 2.0)
_UNKNOWN_DEADLINE_S = 60.0  # of a step that nobody remembers; the contract's `longest_s`


@dataclass(frozen=True, slots=True)
class Synchronised:
    """The device as it is now, how the units in doubt turned out, and the steps it took."""

    observation: Observation
    settled: tuple[Settled, ...] = ()
    drift: tuple[str, ...] = ()


def can_skip(driver: Driver, memory: ResourceMemory, observed: Observation) -> bool:
    """Whether the claim's observation already says that there is nothing to do."""
    if memory.doubt or observed.in_flight is not None:
        return False
    if memory.desired is None or memory.set_aside:
        return True
    return not driver.plan(memory.desired, observed)


def what_is_open(memory: ResourceMemory, observed: Observation) -> str:
    """Say in one line why a resource is not ready at once."""
    if observed.in_flight is not None:
        return f"{observed.in_flight} still runs at the device"
    if memory.doubt:
        return f"settling {', '.join(unit.id for unit in memory.doubt)}"
    return "bringing the device to its last known state"


async def synchronise(
    driver: Driver, memory: ResourceMemory, observed: Observation
) -> Synchronised:
    """Wait for what is still running there, settle the units in doubt in order, converge the device.

    Where a unit in doubt turns out to have changed the device, the device is taken as it is: the rest of
    that unit, not the state before it, is what orchestration wants.

    Raises:
        DriverError: could not be done now.
    """
    observed = await _wait_for_in_flight(driver, memory, observed)
    settled = tuple([await _settle(driver, memory, unit, observed) for unit in memory.doubt])
    if settled:
        observed = await driver.observe(memory.ref, LOOK_S)
    if memory.desired is None or memory.set_aside or any(unit.completed for unit in settled):
        return Synchronised(observed, settled)
    observed, drift = await _converge(driver, memory, memory.desired, observed)
    return Synchronised(observed, settled, drift)


async def _wait_for_in_flight(
    driver: Driver, memory: ResourceMemory, observed: Observation
) -> Observation:
    began_at = asyncio.get_running_loop().time()
    for wait_s in waits(*_IN_FLIGHT_WAITS_S):
        if observed.in_flight is None:
            return observed
        await asyncio.sleep(wait_s)
        ctx = _context_of(driver, memory, observed.in_flight)
        await cancel_late(driver, memory.ref, ctx, began_at + ctx.deadline_s)
        observed = await driver.observe(memory.ref, LOOK_S)
    raise AssertionError("waits() never ends")


def _context_of(driver: Driver, memory: ResourceMemory, key: str) -> StepContext:
    """Under what a step runs that an earlier incarnation began; it gets its whole time once more."""
    unit_id, _, number = key.rpartition("/")
    index = int(number) if number.isdecimal() else 0
    deadline_s = _UNKNOWN_DEADLINE_S
    for unit in memory.doubt:
        if unit.id == unit_id and index < len(unit.commands):
            spec = driver.info.verbs.get(unit.commands[index].verb)
            longest_s = _UNKNOWN_DEADLINE_S if spec is None else spec.longest_s
            deadline_s = longest_s if unit.deadline_s is None else unit.deadline_s
    return StepContext(unit=unit_id, index=index, epoch=memory.epoch, deadline_s=deadline_s)


async def _settle(
    driver: Driver, memory: ResourceMemory, unit: Unit, observed: Observation
) -> Settled:
    completed = unit.first
    while completed < len(unit.commands):
        if not await _is_applied(driver, memory, unit, completed, observed):
            break
        completed += 1
    return Settled(unit.id, unit.attempt, completed)


async def _is_applied(
    driver: Driver, memory: ResourceMemory, unit: Unit, index: int, observed: Observation
) -> bool:
    command = unit.commands[index]
    if command.verb not in driver.info.verbs:
        return False
    ctx = StepContext(
        unit=unit.id, index=index, epoch=memory.epoch, deadline_s=LOOK_S, attempt=unit.attempt
    )
    if ctx.key in observed.marks:
        return True
    step = Step(command.verb, command.params)
    for wait_s in waits(*_IN_FLIGHT_WAITS_S):
        settlement = await driver.settle(memory.ref, step, ctx)
        if settlement is not Settlement.UNKNOWN:
            return settlement is Settlement.APPLIED
        await asyncio.sleep(wait_s)
    raise AssertionError("waits() never ends")


async def _converge(
    driver: Driver, memory: ResourceMemory, desired: dict[str, object], observed: Observation
) -> tuple[Observation, tuple[str, ...]]:
    drift: list[str] = []
    for _ in range(MOST_ROUNDS):
        steps = driver.plan(desired, observed)
        if not steps:
            return observed, tuple(drift)
        for step in steps:
            await _apply(driver, memory, step, len(drift))
            drift.append(step.verb)
        observed = await driver.observe(memory.ref, LOOK_S)
    raise DriverError(f"{memory.path}: still not as desired after {MOST_ROUNDS} plans")


async def _apply(driver: Driver, memory: ResourceMemory, step: Step, index: int) -> None:
    # The key must be new each time: a device that remembers keys would answer an old one unread.
    epoch = ".".join(map(str, memory.epoch))
    ctx = StepContext(
        unit=f"sync-{epoch}-{memory.sync_failures}",
        index=index,
        epoch=memory.epoch,
        deadline_s=driver.info.verbs[step.verb].longest_s,
    )
    over_at = asyncio.get_running_loop().time() + ctx.deadline_s
    try:
        await run_command(driver, memory.ref, step, ctx)
    except OutcomeUnknownError:
        # Whether it was applied is seen by the next plan; what matters is that it is over.
        await settle_command(driver, memory.ref, step, ctx, _ignore, over_at)


def _ignore(_reason: str) -> None:
    """Nobody is told: the resource is reported as synchronising already."""
