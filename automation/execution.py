"""One command from the driver's first call to a known end: apply, wait, look, and settle what is unknown.

Coroutines that a resource process runs as its one job, each in an asyncio task of its own (drivers may use
`asyncio.timeout`, which needs one). They hold no state: what they find out is their result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import TypeVar

from automation.faults import describe
from drivers.contract import (
    Accepted,
    ConflictError,
    DeviceFaultError,
    DeviceRef,
    Done,
    Driver,
    DriverError,
    FinalError,
    NoChange,
    NotStartedError,
    Observation,
    OutcomeUnknownError,
    Settlement,
    Step,
    StepContext,
)

__all__ = [
    "GRACE_S",
    "LOOK_S",
    "DriverContractError",
    "DriverExitError",
    "cancel_late",
    "contained",
    "not_applied",
    "run_command",
    "settle_command",
    "waits",
]

T = TypeVar("T")

# Drivers keep their deadlines themselves; one that does not is cut off this much later.
GRACE_S = 1.0
LOOK_S = 10.0  # deadline of an observation

_SETTLE_WAITS_S = (0.05, 5.0)


class DriverExitError(RuntimeError):
    """A driver, or a library it calls, wanted to end the whole process."""


class DriverContractError(RuntimeError):
    """A driver answered something that its contract does not know."""


async def contained(work: Coroutine[object, object, T]) -> T:
    """Run `work`, which calls a driver; its `sys.exit` is a crash of this one job, not the pod's end.

    Raises:
        DriverExitError: instead of SystemExit, which no task could keep from the loop.
    """
    try:
        return await work
    except SystemExit as error:
        raise DriverExitError(f"the driver called sys.exit({error.code!r})") from error


def waits(first_s: float, longest_s: float) -> Iterator[float]:
    """Yield waits that double from `first_s` to `longest_s`, for ever."""
    wait_s = first_s
    while True:
        yield wait_s
        wait_s = min(wait_s * 2, longest_s)


async def run_command(driver: Driver, ref: DeviceRef, step: Step, ctx: StepContext) -> Observation:
    """Apply `step` and look at what the device made of it.

    Raises:
        FinalError: refused, nothing happened.
        NotStartedError: nothing happened.
        OutcomeUnknownError: too late, the answer was lost, or the device does not show what it confirmed.
        DeviceFaultError: the device is broken.
        DriverContractError: the driver answered something else than it may.
    """
    try:
        async with asyncio.timeout(ctx.deadline_s + GRACE_S):
            answer = await driver.execute(ref, step, ctx)
            if isinstance(answer, Accepted):
                answer = await _resume(driver, ref, answer, ctx)
            _require_answer(driver, step, answer)
    except TimeoutError as error:
        raise OutcomeUnknownError(
            f"{ref.path}: {step.verb} took longer than {ctx.deadline_s:g} s"
        ) from error
    return await _verify(driver, ref, ctx, answer)


def _require_answer(driver: Driver, step: Step, answer: object) -> None:
    """Third-party drivers are not checked by a type checker: a forgotten `return` gives None."""
    if not isinstance(answer, Done | NoChange):
        raise DriverContractError(
            f"{driver.info.name}.apply answered {answer!r} to {step.verb!r}, "
            "not Done, NoChange or Accepted (see the driver contract)"
        )


async def settle_command(
    driver: Driver,
    ref: DeviceRef,
    step: Step,
    ctx: StepContext,
    unknown: Callable[[str], None],
    over_at: float,
) -> Observation | None:
    """Find out whether `step` was applied, however long it takes; None: it was not.

    A step that still runs past `over_at` is cancelled, if it can be: it has had its time.

    Args:
        driver: the device's connection.
        ref: the device.
        step: what was asked of it.
        ctx: under which key.
        unknown: told each time the device cannot say yet.
        over_at: when the step's deadline is over, in the loop's time.

    Raises:
        FinalError: the question itself was refused.
        DeviceFaultError: the device is broken.
    """
    for wait_s in waits(*_SETTLE_WAITS_S):
        try:
            async with asyncio.timeout(LOOK_S + GRACE_S):
                settlement = await driver.settle(ref, step, ctx)
                if settlement is Settlement.APPLIED:
                    return await driver.observe(ref, LOOK_S)
                if settlement is Settlement.NOT_APPLIED:
                    return None
            unknown(f"{ref.path}: the device does not know yet how {step.verb} ended")
            await cancel_late(driver, ref, ctx, over_at)
        except (FinalError, DeviceFaultError):
            raise
        except (DriverError, TimeoutError) as error:
            unknown(describe(error))
        await asyncio.sleep(wait_s)
    raise AssertionError("waits() never ends")


async def cancel_late(driver: Driver, ref: DeviceRef, ctx: StepContext, over_at: float) -> None:
    """Try to stop the step `ctx.key` once the loop's time is past `over_at`; `settle` says if it helped."""
    if asyncio.get_running_loop().time() < over_at:
        return
    try:
        async with asyncio.timeout(LOOK_S + GRACE_S):
            await driver.cancel(ref, ctx)
    except (DriverError, TimeoutError):
        return


def not_applied(ref: DeviceRef, step: Step) -> ConflictError:
    """What a command is that the device did not take, by its own account."""
    return ConflictError(
        f"{ref.path}: {step.verb} was not applied; the device was asked and said so"
    )


async def _resume(
    driver: Driver, ref: DeviceRef, accepted: Accepted, ctx: StepContext
) -> Done | NoChange:
    while True:
        await asyncio.sleep(accepted.poll_s)
        try:
            answer = await driver.resume(ref, accepted.handle, ctx)
        except NotStartedError as error:
            # The step did start when it was accepted: not reaching the device says nothing of its end.
            raise OutcomeUnknownError(describe(error)) from error
        if not isinstance(answer, Accepted):
            return answer
        accepted = answer


async def _verify(
    driver: Driver, ref: DeviceRef, ctx: StepContext, answer: Done | NoChange
) -> Observation:
    """Look at the device: real ones answer OK and change nothing (docs/drivers.md)."""
    observation = answer.observed
    if observation is None:
        try:
            async with asyncio.timeout(LOOK_S + GRACE_S):
                observation = await driver.observe(ref, LOOK_S)
        except (DriverError, TimeoutError) as error:
            raise OutcomeUnknownError(
                f"{ref.path}: done, but not seen: {describe(error)}"
            ) from error
    if isinstance(answer, Done) and observation.marks and ctx.key not in observation.marks:
        raise OutcomeUnknownError(f"{ref.path}: the device said done and shows no {ctx.key}")
    return observation
