"""The driver contract: what a plugin promises so that one command at a time reaches a device, exactly accounted.

One `Driver` object is one connection, shared by every device of a pod behind the same `connect`; the
automation tier calls it from one event loop and never twice at a time for the same device. A driver
keeps no durable state: what must survive is on the device (marks) or with the caller (handles).

Source: the contracts compared in docs/drivers.md (CSI, Nomad task drivers, Ironic, Crossplane).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from enum import Enum
from typing import ClassVar

from msgspec import Struct, field

__all__ = [
    "CONTRACT_VERSION",
    "Accepted",
    "BusyError",
    "ConflictError",
    "DeniedError",
    "DeviceFaultError",
    "DeviceRef",
    "Done",
    "Driver",
    "DriverError",
    "DriverEvent",
    "DriverInfo",
    "Epoch",
    "Execution",
    "Fence",
    "FinalError",
    "Health",
    "Idempotency",
    "InvalidError",
    "NoChange",
    "NotStartedError",
    "Observation",
    "OutcomeUnknownError",
    "Settlement",
    "StaleEpochError",
    "Step",
    "StepContext",
    "UnreachableError",
    "UnsupportedError",
    "VerbSpec",
]

CONTRACT_VERSION = 1

Epoch = tuple[int, ...]  # (root, zone, pod, resource); compared lexicographically


class Execution(Enum):
    """Where a driver's calls run."""

    ASYNC = "async"  # on the pod's loop; never blocks it
    THREAD = "thread"  # one dedicated thread per busy device, owned by the driver
    PROCESS = "process"  # a process of the driver's own


class Idempotency(Enum):
    """What happens when a verb is applied a second time with the same key."""

    NATURAL = "natural"  # the same end state, whoever asks
    KEYED = "keyed"  # the device remembers the key and answers as before
    GUARDED = "guarded"  # the driver looks first and does nothing if it is done
    NONE = "none"  # a second effect: never repeated without `settle`


class Fence(Enum):
    """Where an old epoch is refused."""

    NATIVE = "native"  # at the device, which stores the epoch
    LEASE = "lease"  # only here: the partition's lease must have ended first


class Settlement(Enum):
    """What a look at the device says about a step whose answer was lost."""

    APPLIED = "applied"
    NOT_APPLIED = "not_applied"
    UNKNOWN = "unknown"  # e.g. still running there; ask again later


class Health(Enum):
    """What `probe` found behind the connection."""

    UNDETECTED = "undetected"
    UNHEALTHY = "unhealthy"
    HEALTHY = "healthy"


class VerbSpec(Struct, frozen=True, kw_only=True):
    """What a driver declares of one verb, before anybody calls it."""

    params: dict[str, object]  # JSON Schema of the parameters (type: object)
    idempotency: Idempotency
    summary: str = ""
    atomic: bool = True
    cancellable: bool = False
    inverse: str | None = None  # the verb that undoes it
    longest_s: float = 60.0  # past this the outcome is unknown


class DriverInfo(Struct, frozen=True, kw_only=True):
    """A driver's declaration; `params` and `config_schema` are JSON Schemas."""

    name: str
    kinds: frozenset[str]  # resource classes it can stand behind; {"*"}: any
    verbs: dict[str, VerbSpec]
    execution: Execution
    fence: Fence
    config_schema: dict[str, object] = field(default_factory=dict)
    contract: int = CONTRACT_VERSION


class DeviceRef(Struct, frozen=True):
    """Which device: the resource's path and name, its class, and the driver's own settings for it."""

    path: str
    name: str
    kind: str = ""
    config: dict[str, object] = field(default_factory=dict)


class Step(Struct, frozen=True):
    """One change to one device."""

    verb: str
    params: dict[str, object] = field(default_factory=dict)


def _ignore_progress(_share: float, /) -> None:
    """Take a progress figure and drop it."""


class StepContext(Struct, frozen=True, kw_only=True):
    """Under which unit, attempt, epoch and deadline a step is applied; `key` is its idempotency key."""

    unit: str
    index: int  # position of the command in its unit, from 0
    epoch: Epoch
    deadline_s: float  # seconds from now
    attempt: int = 1
    progress: Callable[[float], None] = _ignore_progress  # takes 0.0 to 1.0

    @property
    def key(self) -> str:
        """The idempotency key, written onto the device where it can hold one."""
        return f"{self.unit}/{self.index}"


class Observation(Struct, frozen=True, kw_only=True):
    """What a device looks like now.

    `state` is normalised, comparable with `==`, and free of anything that changes by itself.
    """

    exists: bool
    state: dict[str, object] = field(default_factory=dict)
    revision: str | None = None
    marks: tuple[str, ...] = ()  # keys of the latest steps applied, oldest first
    in_flight: str | None = None  # key of a step that is still running at the device
    epoch: Epoch = ()  # the highest epoch the device has seen, () if it stores none


class Done(Struct, frozen=True):
    """The step is applied.

    `observed` is the device read back after the step, where the driver has it anyway; None: ask `observe`.
    Its `marks` may leave out older keys.
    """

    detail: str = ""
    observed: Observation | None = None


class NoChange(Struct, frozen=True):
    """The device was there already (the same key, or the same state); `observed` as in `Done`."""

    detail: str = ""
    observed: Observation | None = None


class Accepted(Struct, frozen=True):
    """The device will do it; `resume(handle)` asks how far it is, `poll_s` seconds from now."""

    handle: str
    poll_s: float = 0.2


class DriverEvent(Struct, frozen=True):
    """A hint that a device changed by itself; it only triggers `observe`."""

    device: str
    detail: str = ""


class DriverError(Exception):
    """Base of every error of a driver. A leaf says what the caller does next.

    Args:
        message: names the device, the value and the limit.
    """


class FinalError(DriverError):
    """Nothing happened and repeating it will not help: the unit fails, the process goes on."""


class InvalidError(FinalError):
    """A parameter or the state of the device rules the step out."""


class UnsupportedError(FinalError):
    """The driver or the device cannot do this at all."""


class DeniedError(FinalError):
    """The credentials do not allow it."""


class StaleEpochError(FinalError):
    """The device has seen a newer epoch: this incarnation is over and must stop."""


class NotStartedError(DriverError):
    """Nothing happened; the same step may be tried again later (the unit's strategy decides)."""


class ConflictError(NotStartedError):
    """Something else holds the device, or its revision moved."""


class BusyError(NotStartedError):
    """The device is doing something else just now."""


class UnreachableError(NotStartedError):
    """The request never left: no connection, or refused before the first byte."""


class OutcomeUnknownError(DriverError):
    """The answer was lost (time-out, cancel, disconnect, any unmapped exception): `settle` first."""


class DeviceFaultError(DriverError):
    """The device reports itself broken: the process crashes and its supervisor decides."""


class Driver(ABC):
    """One connection to the devices behind `connect`.

    Every call is a coroutine, keeps its deadline, and retries nothing by itself. `execute` is what the
    automation tier calls: it refuses old epochs before `apply` sees them.

    Args:
        connect: where the devices are, as the operator wrote it.
    """

    info: ClassVar[DriverInfo]

    def __init__(self, connect: str) -> None:
        self.connect = connect
        self._highest: dict[str, Epoch] = {}

    @abstractmethod
    async def open(self, deadline_s: float) -> None:
        """Connect, changing nothing on any device; opening twice is opening once.

        Raises:
            UnreachableError: nobody answers there.
            DeniedError: the credentials are refused.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of the connection; closing twice is closing once."""

    @abstractmethod
    async def probe(self) -> Health:
        """Say whether the far side is there and well."""

    async def claim(self, ref: DeviceRef, epoch: Epoch, deadline_s: float) -> Observation:
        """Begin an incarnation: raise the fence to `epoch`, then observe.

        A driver with a native fence also raises it at the device, so that a command of an older
        incarnation which is still on its way is refused there.

        Raises:
            StaleEpochError: a newer incarnation was here first.
        """
        self._raise_fence(ref, epoch)
        return await self.observe(ref, deadline_s)

    async def claim_many(
        self, refs: Sequence[tuple[DeviceRef, Epoch]], deadline_s: float
    ) -> list[Observation | DriverError]:
        """Claim several devices; answers in the order asked, an error in place of a failed one.

        The automation tier batches the claims of a pod's start through this. Drivers whose peer can
        answer for many devices at once override it.
        """
        answers: list[Observation | DriverError] = []
        for ref, epoch in refs:
            try:
                answers.append(await self.claim(ref, epoch, deadline_s))
            except DriverError as error:
                answers.append(error)
        return answers

    @abstractmethod
    async def observe(self, ref: DeviceRef, deadline_s: float) -> Observation:
        """Look at one device.

        Raises:
            UnreachableError: nobody answers.
        """

    @abstractmethod
    def plan(self, desired: Mapping[str, object], observed: Observation) -> list[Step]:
        """Name the steps from `observed` to `desired`; [] means in sync. Pure: no I/O.

        Args:
            desired: an earlier `Observation.state`, or {} for "does not exist".
            observed: what the device looks like now.
        """

    async def execute(
        self, ref: DeviceRef, step: Step, ctx: StepContext
    ) -> Done | NoChange | Accepted:
        """Apply `step` unless a newer epoch has been here.

        Raises:
            StaleEpochError: `ctx.epoch` is older than one seen for this device.
            DriverError: as `apply`.
        """
        self._raise_fence(ref, ctx.epoch)
        return await self.apply(ref, step, ctx)

    @abstractmethod
    async def apply(
        self, ref: DeviceRef, step: Step, ctx: StepContext
    ) -> Done | NoChange | Accepted:
        """Change the device.

        Raises:
            FinalError: refused for good, nothing happened.
            NotStartedError: nothing happened, may be tried again.
            OutcomeUnknownError: it may or may not have happened.
            DeviceFaultError: the device is broken.
        """

    async def resume(self, ref: DeviceRef, handle: str, ctx: StepContext) -> Done | Accepted:
        """Ask how an `Accepted` step is going; also after a restart of the caller.

        Raises:
            DriverError: as `apply`.
        """
        raise UnsupportedError(f"{self.info.name} never answers Accepted (handle {handle!r})")

    @abstractmethod
    async def settle(self, ref: DeviceRef, step: Step, ctx: StepContext) -> Settlement:
        """Find out by looking whether `step` under `ctx.key` was applied; changes nothing."""

    async def cancel(self, ref: DeviceRef, ctx: StepContext) -> bool:
        """Try to stop the step that is running; False where the device cannot."""
        return False

    async def undo(
        self, ref: DeviceRef, step: Step, ctx: StepContext
    ) -> Done | NoChange | Accepted:
        """Apply the inverse of an applied step.

        Raises:
            UnsupportedError: the verb declares no inverse.
        """
        inverse = self.info.verbs[step.verb].inverse
        if inverse is None:
            raise UnsupportedError(f"{step.verb} has no inverse")
        return await self.execute(ref, Step(inverse, {}), ctx)

    async def events(self) -> AsyncIterator[DriverEvent]:
        """Yield hints of out-of-band changes until closed; none by default."""
        return
        yield  # makes this an async generator

    def _raise_fence(self, ref: DeviceRef, epoch: Epoch) -> None:
        seen = self._highest.get(ref.path, ())
        if epoch < seen:
            raise StaleEpochError(f"{ref.path}: epoch {epoch} is older than {seen}")
        self._highest[ref.path] = epoch
