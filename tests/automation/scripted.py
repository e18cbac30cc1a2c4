"""A driver that does as it is told: devices in memory, a script of what goes wrong, and a record of each effect."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Mapping

from drivers.contract import (
    DeviceRef,
    Done,
    Driver,
    DriverInfo,
    Epoch,
    Execution,
    Fence,
    Health,
    Idempotency,
    InvalidError,
    NoChange,
    Observation,
    Settlement,
    StaleEpochError,
    Step,
    StepContext,
    VerbSpec,
)


class Device:
    """The far side: state, marks and the highest epoch; survives every driver."""

    def __init__(self) -> None:
        self.state: dict[str, object] | None = None
        self.marks: list[str] = []
        self.epoch: Epoch = ()
        self.running: str | None = None

    def look(self) -> Observation:
        return Observation(
            exists=self.state is not None,
            state=dict(self.state or {}),
            marks=tuple(self.marks),
            in_flight=self.running,
            epoch=self.epoch,
        )


class Scripted(Driver):
    """`script[path]` lists what the next applies do: an exception to raise, a future to wait for first,
    ("applied", exception) to take effect and then raise, or None to just work."""

    info = DriverInfo(
        name="scripted",
        kinds=frozenset({"*"}),
        verbs={
            name: VerbSpec(params={}, idempotency=Idempotency.KEYED, longest_s=30.0)
            for name in ("set", "remove", "noop")
        },
        execution=Execution.ASYNC,
        fence=Fence.NATIVE,
    )

    def __init__(self, connect: str = "") -> None:
        super().__init__(connect)
        self.devices: defaultdict[str, Device] = defaultdict(Device)
        self.script: defaultdict[str, deque[object]] = defaultdict(deque)
        self.settles: defaultdict[str, deque[object]] = defaultdict(deque)
        self.claims: deque[object] = deque()
        self.opens: deque[object] = deque()
        self.effects: list[tuple[str, str]] = []  # (path, key), in order
        self.busy: Counter[str] = Counter()
        self.overlaps = 0
        self.opened = 0
        self.cancels: list[str] = []
        self.deaf: deque[asyncio.Future[None]] = (
            deque()
        )  # the next applies wait for these, whatever comes
        self.health = Health.HEALTHY
        self.batches: list[int] = []

    async def open(self, deadline_s: float) -> None:
        _raise(self.opens)
        self.opened += 1

    async def close(self) -> None:
        pass

    async def probe(self) -> Health:
        return self.health

    async def claim(self, ref: DeviceRef, epoch: Epoch, deadline_s: float) -> Observation:
        device = self.devices[ref.path]
        if epoch < device.epoch:
            raise StaleEpochError(f"{ref.path}: {epoch} is older than {device.epoch}")
        device.epoch = epoch
        return device.look()

    async def claim_many(self, refs, deadline_s):
        self.batches.append(len(refs))
        _raise(self.claims)
        return await super().claim_many(refs, deadline_s)

    async def observe(self, ref: DeviceRef, deadline_s: float) -> Observation:
        return self.devices[ref.path].look()

    def plan(self, desired: Mapping[str, object], observed: Observation) -> list[Step]:
        if dict(desired) == observed.state and bool(desired) == observed.exists:
            return []
        return [Step("set", dict(desired))] if desired else [Step("remove")]

    async def apply(self, ref: DeviceRef, step: Step, ctx: StepContext) -> Done | NoChange:
        device = self.devices[ref.path]
        if ctx.epoch < device.epoch:
            raise StaleEpochError(f"{ref.path}: {ctx.epoch} is older than {device.epoch}")
        if ctx.key in device.marks:
            return NoChange()
        self.busy[ref.path] += 1
        self.overlaps += self.busy[ref.path] > 1
        device.running = ctx.key
        try:
            while self.deaf and not self.deaf[0].done():
                try:
                    await asyncio.shield(self.deaf[0])
                except asyncio.CancelledError:
                    continue  # as drivers do that catch everything
            return await self._apply(ref, step, ctx)
        finally:
            self.busy[ref.path] -= 1
            device.running = None

    async def settle(self, ref: DeviceRef, step: Step, ctx: StepContext) -> Settlement:
        script = self.settles[ref.path]
        if script:
            answer = script.popleft()
            if isinstance(answer, BaseException):
                raise answer
            return answer
        applied = ctx.key in self.devices[ref.path].marks
        return Settlement.APPLIED if applied else Settlement.NOT_APPLIED

    async def cancel(self, ref: DeviceRef, ctx: StepContext) -> bool:
        self.cancels.append(ctx.key)
        device = self.devices[ref.path]
        was_running, device.running = device.running == ctx.key, None
        return was_running

    async def _apply(self, ref: DeviceRef, step: Step, ctx: StepContext) -> Done:
        script = self.script[ref.path]
        what = script.popleft() if script else None
        match what:
            case asyncio.Future():
                await what
            case ("applied", error):
                self._effect(ref, step, ctx)
                raise error
            case "lie":
                self.devices[ref.path].marks.append("something/0")
                return Done()
            case "nothing":  # as a driver that forgets its `return`
                return None  # type: ignore[return-value]
            case BaseException():
                raise what
        self._effect(ref, step, ctx)
        return Done()

    def _effect(self, ref: DeviceRef, step: Step, ctx: StepContext) -> None:
        device = self.devices[ref.path]
        device.marks.append(ctx.key)
        self.effects.append((ref.path, ctx.key))
        match step.verb:
            case "set":
                device.state = {**(device.state or {}), **step.params}
            case "remove":
                device.state = None
            case "noop":
                device.state = device.state or {}
            case _:
                raise InvalidError(step.verb)


def _raise(script: deque[object]) -> None:
    if script:
        error = script.popleft()
        if isinstance(error, BaseException):
            raise error
