"""The simulated driver: devices of any kind in a device service that outlives its clients.

`connect` is `unix:PATH` of a `drivers.device_service`, or "" for the one `CLOUDCTL_DEVICES` names. The
device checks epochs and remembers keys itself; it can be slow, refuse, hang, lie or make this driver crash,
by parameters of a command or settings of the device (`drivers.device_faults`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TypeVar

from drivers.contract import (
    Accepted,
    BusyError,
    ConflictError,
    DeniedError,
    DeviceFaultError,
    DeviceRef,
    Done,
    Driver,
    DriverError,
    DriverEvent,
    DriverInfo,
    Epoch,
    Execution,
    Fence,
    Health,
    Idempotency,
    InvalidError,
    NoChange,
    NotStartedError,
    Observation,
    OutcomeUnknownError,
    Settlement,
    StaleEpochError,
    Step,
    StepContext,
    UnreachableError,
    UnsupportedError,
    VerbSpec,
)
from drivers.device_client import ConnectionLostError, DeviceClient
from drivers.device_faults import FAULT_SCHEMA
from drivers.device_protocol import (
    Answer,
    Apply,
    Ask,
    Cancel,
    Claim,
    Observe,
    Poke,
    Probe,
    Reply,
    Resume,
    Seen,
    Settle,
    Word,
)
from drivers.parameters import check_step

__all__ = ["DEVICES_VARIABLE", "SimulatedCrashError", "SimulatedDriver"]

DEVICES_VARIABLE = "CLOUDCTL_DEVICES"
CLAIMS_PER_FRAME = 1000  # about 5 ms of either side's time
EVENTS_KEPT = 1024  # hints; the oldest are dropped

T = TypeVar("T", bound=Reply)

_ERRORS: dict[str, type[DriverError]] = {
    "refused": InvalidError,
    "unsupported": UnsupportedError,
    "denied": DeniedError,
    "stale": StaleEpochError,
    "busy": BusyError,
    "conflict": ConflictError,
    "cancelled": NotStartedError,
    "aborted": NotStartedError,
    "fault": DeviceFaultError,
}


class SimulatedCrashError(RuntimeError):
    """What `crash=true` asks for: not a `DriverError`, so whoever called crashes."""


def _verb(
    summary: str,
    inverse: str | None = None,
    *,
    properties: dict[str, object] | None = None,
    required: tuple[str, ...] = (),
    attributes: bool = False,
) -> VerbSpec:
    return VerbSpec(
        summary=summary,
        params={
            "type": "object",
            "properties": {**(properties or {}), **FAULT_SCHEMA},
            "required": list(required),
            "additionalProperties": attributes,
        },
        idempotency=Idempotency.KEYED,
        cancellable=True,
        inverse=inverse,
    )


_NAME: dict[str, object] = {"name": {"type": "string"}}


class SimulatedDriver(Driver):
    """A client of one device service."""

    info = DriverInfo(
        name="simulated",
        kinds=frozenset({"*"}),
        verbs={
            "create": _verb("Make it, stopped, with any attributes", "destroy", attributes=True),
            "destroy": _verb("Remove it"),
            "start": _verb("Make it run", "stop"),
            "stop": _verb("Make it stand still", "start"),
            "set": _verb("Change attributes; null removes one", attributes=True),
            "snapshot": _verb("Take a snapshot", properties=_NAME, required=("name",)),
            "drop_snapshot": _verb("Remove a snapshot", properties=_NAME, required=("name",)),
            "noop": _verb("Do nothing, keyed and recorded"),
        },
        execution=Execution.ASYNC,
        fence=Fence.NATIVE,
        config_schema={
            "type": "object",
            "properties": FAULT_SCHEMA,
            "additionalProperties": False,
        },
    )

    def __init__(self, connect: str) -> None:
        super().__init__(connect)
        self._client: DeviceClient | None = None
        self._events: asyncio.Queue[str] = asyncio.Queue(EVENTS_KEPT)

    async def open(self, deadline_s: float) -> None:
        await self._reached().connect(deadline_s)

    async def close(self) -> None:
        if self._client is not None:
            self._client.close()

    async def probe(self) -> Health:
        try:
            await self._look(Probe, Word, 2.0)
        except UnreachableError:
            return Health.UNDETECTED
        return Health.HEALTHY

    async def claim(self, ref: DeviceRef, epoch: Epoch, deadline_s: float) -> Observation:
        (answer,) = await self.claim_many([(ref, epoch)], deadline_s)
        if isinstance(answer, DriverError):
            raise answer
        return answer

    async def claim_many(
        self, refs: Sequence[tuple[DeviceRef, Epoch]], deadline_s: float
    ) -> list[Observation | DriverError]:
        answers: list[Observation | DriverError] = []
        for start in range(0, len(refs), CLAIMS_PER_FRAME):
            part = refs[start : start + CLAIMS_PER_FRAME]
            answers += await self._claim_part(part, deadline_s)
        return answers

    async def observe(self, ref: DeviceRef, deadline_s: float) -> Observation:
        seen = await self._look(lambda number: Observe(number, ref.path), Seen, deadline_s)
        (observation,) = seen.devices
        assert isinstance(observation, Observation)
        return observation

    def plan(self, desired: Mapping[str, object], observed: Observation) -> list[Step]:
        if not desired:
            return [Step("destroy")] if observed.exists else []
        steps = _plan_attributes(desired, observed) + _plan_snapshots(desired, observed.state)
        running = bool(desired.get("running", False))
        if running != bool(observed.state.get("running", False)):
            steps.append(Step("start" if running else "stop"))
        return steps

    async def apply(
        self, ref: DeviceRef, step: Step, ctx: StepContext
    ) -> Done | NoChange | Accepted:
        check_step(self.info, step)
        answer = await self._reached().ask(
            lambda number: Apply(
                number, ref.path, ctx.unit, ctx.index, ctx.epoch, step.verb, step.params, ref.config
            ),
            Answer,
            ctx.deadline_s,
        )
        return _result(ref, ctx, answer)

    async def resume(self, ref: DeviceRef, handle: str, ctx: StepContext) -> Done | Accepted:
        answer = await self._look(
            lambda number: Resume(number, ref.path, handle), Answer, ctx.deadline_s
        )
        if answer.outcome == "accepted":
            return Accepted(handle)
        if answer.outcome == "done":
            return Done()
        raise _error(ref, answer)

    async def settle(self, ref: DeviceRef, step: Step, ctx: StepContext) -> Settlement:
        answer = await self._look(
            lambda number: Settle(number, ref.path, ctx.key), Word, ctx.deadline_s
        )
        return {
            "applied": Settlement.APPLIED,
            "not_applied": Settlement.NOT_APPLIED,
        }.get(answer.word, Settlement.UNKNOWN)

    async def cancel(self, ref: DeviceRef, ctx: StepContext) -> bool:
        answer = await self._look(
            lambda number: Cancel(number, ref.path, ctx.key), Word, ctx.deadline_s
        )
        return answer.word == "cancelled"

    async def events(self) -> AsyncIterator[DriverEvent]:
        while True:
            yield DriverEvent(await self._events.get(), "changed by itself")

    async def poke(self, ref: DeviceRef, state: dict[str, object] | None) -> None:
        """Change the device behind everybody's back; None removes it.

        Raises:
            UnreachableError: nobody answers.
        """
        await self._look(lambda number: Poke(number, ref.path, state), Word, 5.0)

    async def _claim_part(
        self, part: Sequence[tuple[DeviceRef, Epoch]], deadline_s: float
    ) -> list[Observation | DriverError]:
        wanted = [(ref.path, epoch) for ref, epoch in part]
        try:
            seen = await self._look(lambda number: Claim(number, wanted), Seen, deadline_s)
        except DriverError as error:
            return [error] * len(part)
        return [StaleEpochError(one) if isinstance(one, str) else one for one in seen.devices]

    async def _look(self, make: Callable[[int], Ask], answer: type[T], deadline_s: float) -> T:
        """Ask what changes nothing: a lost answer is as good as an ask that never left."""
        try:
            try:
                return await self._reached().ask(make, answer, deadline_s)
            except ConnectionLostError:
                return await self._reached().ask(make, answer, deadline_s)
        except OutcomeUnknownError as error:
            raise UnreachableError(str(error)) from error

    def _reached(self) -> DeviceClient:
        if self._client is None:
            self._client = DeviceClient(_socket_path(self.connect), self._changed)
        return self._client

    def _changed(self, device: str) -> None:
        if self._events.full():
            self._events.get_nowait()
        self._events.put_nowait(device)


def _socket_path(connect: str) -> str:
    if not connect:
        path = os.environ.get(DEVICES_VARIABLE, "")
        if not path:
            raise UnreachableError(
                f"the simulated driver has no connect setting and {DEVICES_VARIABLE} is not set; "
                'write connect = "unix:/path/to/devices.sock"'
            )
        return path
    scheme, _, path = connect.partition(":")
    if scheme != "unix" or not path:
        raise InvalidError(f'connect = {connect!r} is not understood; write "unix:/path/to/socket"')
    return path


def _plan_attributes(desired: Mapping[str, object], observed: Observation) -> list[Step]:
    wanted = _attributes(desired)
    if not observed.exists:
        return [Step("create", wanted)]
    found = _attributes(observed.state)
    change = {name: value for name, value in wanted.items() if found.get(name) != value}
    change |= {name: None for name in found if name not in wanted}
    return [Step("set", change)] if change else []


def _plan_snapshots(desired: Mapping[str, object], state: Mapping[str, object]) -> list[Step]:
    wanted, found = _snapshots(desired), _snapshots(state)
    return [
        *(Step("snapshot", {"name": name}) for name in wanted if name not in found),
        *(Step("drop_snapshot", {"name": name}) for name in found if name not in wanted),
    ]


def _attributes(state: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in state.items() if name not in ("running", "snapshots")}


def _snapshots(state: Mapping[str, object]) -> list[str]:
    names = state.get("snapshots", [])
    return [str(name) for name in names] if isinstance(names, list) else []


def _result(ref: DeviceRef, ctx: StepContext, answer: Answer) -> Done | NoChange | Accepted:
    match answer.outcome:
        case "done" if answer.seen is not None and ctx.key not in answer.seen.marks:
            raise OutcomeUnknownError(f"{ref.path} says {ctx.key} is done, but has no mark of it")
        case "done":
            return Done(answer.detail, answer.seen)
        case "no_change" | "known":
            return NoChange(answer.detail, answer.seen)
        case "accepted":
            return Accepted(answer.detail)
        case _:
            raise _error(ref, answer)


def _error(ref: DeviceRef, answer: Answer) -> Exception:
    text = f"{ref.path}: {answer.detail or answer.outcome}"
    if answer.outcome.startswith("crash"):
        return SimulatedCrashError(text)
    return _ERRORS.get(answer.outcome, OutcomeUnknownError)(text)
