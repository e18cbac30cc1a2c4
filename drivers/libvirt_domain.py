"""The libvirt driver: virtual machines as resources, through libvirt-python.

`connect` is a libvirt URI. Calls block, so each busy domain has a thread (`drivers.threads`); a hung peer
is noticed by keepalive or by the deadline, whichever is first. Epoch and keys are in the domain's metadata.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from drivers.contract import (
    DeviceRef,
    Done,
    Driver,
    DriverError,
    DriverInfo,
    Epoch,
    Execution,
    Fence,
    Health,
    Idempotency,
    NoChange,
    Observation,
    OutcomeUnknownError,
    Settlement,
    Step,
    StepContext,
    UnreachableError,
    VerbSpec,
)
from drivers.libvirt_binding import libvirt
from drivers.libvirt_change import Change, Domain, Target, normalised
from drivers.libvirt_connection import close_connection, open_connection, version_of
from drivers.parameters import check_step
from drivers.threads import DeviceThreads

__all__ = ["LibvirtDriver"]

THREADS = 8  # and connections; libvirtd serves a client's calls five at a time by default

T = TypeVar("T")

_SIZES: dict[str, object] = {
    "memory": {"type": ["string", "integer"], "description": "512MiB, 4GiB, or bytes"},
    "vcpus": {"type": "integer", "minimum": 1, "maximum": 4096},
}
_NAME: dict[str, object] = {"name": {"type": "string", "description": "of the snapshot"}}


def _verb(
    summary: str,
    properties: dict[str, object] | None = None,
    *,
    required: tuple[str, ...] = (),
    atomic: bool = True,
    inverse: str | None = None,
) -> VerbSpec:
    return VerbSpec(
        summary=summary,
        params={
            "type": "object",
            "properties": properties or {},
            "required": list(required),
            "additionalProperties": False,
        },
        idempotency=Idempotency.KEYED,
        atomic=atomic,
        inverse=inverse,
        longest_s=30.0,
    )


class LibvirtDriver(Driver):
    """Virtual machines behind one libvirt URI."""

    info = DriverInfo(
        name="libvirt",
        kinds=frozenset({"vm"}),
        verbs={
            "create": _verb("Define it, powered off", _SIZES, inverse="destroy"),
            "destroy": _verb("Power it off, drop its snapshots, undefine it", atomic=False),
            "start": _verb("Power it on", inverse="stop"),
            "stop": _verb("Power it off", inverse="start"),
            "set": _verb("Change memory or vcpus while it is off", _SIZES),
            "snapshot": _verb("Take a snapshot", _NAME, required=("name",)),
            "drop_snapshot": _verb("Remove a snapshot", _NAME, required=("name",)),
        },
        execution=Execution.THREAD,
        fence=Fence.NATIVE,
        config_schema={
            "type": "object",
            "properties": {
                "domain": {"type": "string", "description": "its name; by default the path"},
                "xml": {"type": "string", "description": "what a new domain is made of"},
            },
            "additionalProperties": False,
        },
    )

    def __init__(self, connect: str) -> None:
        super().__init__(connect)
        self._threads: DeviceThreads[libvirt.virConnect] = self._new_threads()
        self._running: dict[str, str] = {}  # path to the key whose call has not returned

    async def open(self, deadline_s: float) -> None:
        # One call to it: a connection seems alive until the end of its peer has been noticed.
        await self._look("open", version_of, deadline_s)

    async def close(self) -> None:
        self._threads.close()
        self._threads = self._new_threads()

    async def probe(self) -> Health:
        try:
            await self._look("probe", version_of, 5.0)
        except UnreachableError:
            return Health.UNDETECTED
        except DriverError:
            return Health.UNHEALTHY
        return Health.HEALTHY

    async def claim(self, ref: DeviceRef, epoch: Epoch, deadline_s: float) -> Observation:
        self._raise_fence(ref, epoch)
        target = _target(ref)
        found = await self._look(
            f"claim {ref.path}",
            lambda connection: Domain(connection, target).claim(epoch),
            deadline_s,
        )
        return self._with_in_flight(ref, found)

    async def claim_many(
        self, refs: Sequence[tuple[DeviceRef, Epoch]], deadline_s: float
    ) -> list[Observation | DriverError]:
        claims = (self.claim(ref, epoch, deadline_s) for ref, epoch in refs)
        answers = await asyncio.gather(*claims, return_exceptions=True)
        return [_expected(answer) for answer in answers]

    async def observe(self, ref: DeviceRef, deadline_s: float) -> Observation:
        target = _target(ref)
        found = await self._look(
            f"observe {ref.path}",
            lambda connection: Domain(connection, target).observation(),
            deadline_s,
        )
        return self._with_in_flight(ref, found)

    def plan(self, desired: Mapping[str, object], observed: Observation) -> list[Step]:
        if not desired:
            return [Step("destroy")] if observed.exists else []
        found = observed.state
        running = bool(desired.get("running", False))
        was_running = bool(found.get("running", False))
        sizes = _plan_sizes(desired, observed)
        steps = [Step("stop")] if was_running and (sizes or not running) else []
        steps += [*sizes, *_plan_snapshots(desired, found)]
        if running and (sizes or not was_running):
            steps.append(Step("start"))
        return steps

    async def apply(self, ref: DeviceRef, step: Step, ctx: StepContext) -> Done | NoChange:
        check_step(self.info, step)
        normalised(step)
        target = _target(ref)

        def change(connection: libvirt.virConnect) -> Done | NoChange:
            return Change(Domain(connection, target), step, ctx).run()

        if not self._threads.taken(ref.path):
            self._running[ref.path] = ctx.key
        try:
            return await self._threads.run(ref.path, change, ctx.deadline_s)
        finally:
            if not self._threads.taken(ref.path):
                self._running.pop(ref.path, None)

    async def settle(self, ref: DeviceRef, step: Step, ctx: StepContext) -> Settlement:
        if self._in_flight(ref) is not None:
            return Settlement.UNKNOWN
        target = _target(ref)
        return await self._look(
            f"settle {ref.path}",
            lambda connection: Domain(connection, target).settle(step, ctx.key),
            ctx.deadline_s,
        )

    async def _look(
        self, slot: str, look: Callable[[libvirt.virConnect], T], deadline_s: float
    ) -> T:
        """Run what changes nothing: a lost answer is as good as none."""
        try:
            return await self._threads.run(slot, look, deadline_s)
        except OutcomeUnknownError as error:
            raise UnreachableError(str(error)) from error

    def _in_flight(self, ref: DeviceRef) -> str | None:
        return self._running.get(ref.path) if self._threads.taken(ref.path) else None

    def _with_in_flight(self, ref: DeviceRef, found: Observation) -> Observation:
        return Observation(
            exists=found.exists,
            state=found.state,
            marks=found.marks,
            epoch=found.epoch,
            in_flight=self._in_flight(ref),
        )

    def _new_threads(self) -> DeviceThreads[libvirt.virConnect]:
        return DeviceThreads(
            lambda old: open_connection(self.connect, old), close_connection, limit=THREADS
        )


def _target(ref: DeviceRef) -> Target:
    name = str(ref.config.get("domain") or ref.path.replace("/", "."))
    return Target(path=ref.path, name=name, xml=str(ref.config.get("xml", "")))


def _expected(answer: Observation | BaseException) -> Observation | DriverError:
    if isinstance(answer, Observation | DriverError):
        return answer
    raise answer


def _plan_sizes(desired: Mapping[str, object], observed: Observation) -> list[Step]:
    wanted = {name: desired[name] for name in _SIZES if name in desired}
    wanted = normalised(Step("set", wanted))
    if not observed.exists:
        return [Step("create", wanted)]
    change = {name: value for name, value in wanted.items() if observed.state.get(name) != value}
    return [Step("set", change)] if change else []


def _plan_snapshots(desired: Mapping[str, object], found: Mapping[str, object]) -> list[Step]:
    wanted, there = _names(desired), _names(found)
    return [
        *(Step("snapshot", {"name": name}) for name in wanted if name not in there),
        *(Step("drop_snapshot", {"name": name}) for name in there if name not in wanted),
    ]


def _names(state: Mapping[str, object]) -> list[str]:
    names = state.get("snapshots", [])
    return [str(name) for name in names] if isinstance(names, list | tuple) else []
