"""A resource process: the one place that talks to one device, one command at a time.

    initialised → synchronising → ready ⇄ executing → (suspect) → ready
                                             └ crash → the pod's supervisor starts the next incarnation

It takes units from its mailbox in order and carries each command to a known end. Whatever waits for the
device runs as the process's one job, in an asyncio task; the process itself stays responsive and acts on
wishes (cancel, retire, redefine) at the borders between commands. Everything it knows is in its
`ResourceMemory`: a restart issues a new epoch, settles what is in doubt and goes on from there.

The module is longer than most: it is one state machine, and wants to be read in one place.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Literal

from automation.driver_pool import Opened, Unavailable
from automation.execution import GRACE_S, contained, not_applied, run_command, settle_command, waits
from automation.faults import describe, error_text, fault_kind, fault_of, reason_class, reason_text
from automation.mailbox import Hand
from automation.resource_memory import ResourceMemory, State
from automation.surroundings import Surroundings
from automation.synchronisation import Synchronised, can_skip, synchronise, what_is_open
from automation.throttle import Ask, Claimed
from drivers.contract import (
    Driver,
    DriverError,
    FinalError,
    NotStartedError,
    Observation,
    OutcomeUnknownError,
    StaleEpochError,
    Step,
    StepContext,
    UnreachableError,
    UnsupportedError,
)
from otp import GenServer, Ignore, NoReply, Result, Stop, is_clean, send_after
from rpc.messages import (
    CommandRecord,
    Dropped,
    Epoch,
    Fault,
    Finished,
    Progress,
    Ready,
    ResourceState,
    Started,
    Suspect,
)

__all__ = ["WAKE", "Resource", "Wake"]

_RETRY_WAITS_S = (0.2, 10.0)


@dataclass(frozen=True, slots=True)
class Wake:
    """Look again: at the mailbox, at the wishes in the memory, at whether units may be begun."""


WAKE = Wake()


@dataclass(frozen=True, slots=True)
class _JobOver:
    """The job has ended; its result is in the task."""

    task: asyncio.Task[object]


@dataclass(frozen=True, slots=True)
class _Unknown:
    """The device cannot say yet how command `index` of the unit in hand ended."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Retry:
    """Time to try synchronisation again, if `epoch` is still the incarnation."""

    epoch: Epoch


Outcome = Literal["succeeded", "failed", "cancelled"]
Noted = Result[ResourceMemory]


class Resource(GenServer[ResourceMemory]):
    """The process of the resource that `memory` is about; `pod` is what is around it."""

    __slots__ = ("_began_at", "_driver", "_memory", "_pod", "_retry_waits", "_told")

    def __init__(self, memory: ResourceMemory, pod: Surroundings) -> None:
        self._memory = memory
        self._pod = pod
        self._driver: Driver | None = None
        self._retry_waits = waits(*_RETRY_WAITS_S)
        self._told = ""  # the trouble last reported, so that it is not said twice
        self._began_at = 0.0  # when the command in hand began

    def init(self) -> ResourceMemory | Ignore:
        """Begin an incarnation, once the last one's call has left the driver."""
        memory, pod = self._memory, self._pod
        self.trap_exit(on=True)
        self._ended("killed", is_crash=True)
        if memory.incarnation:
            pod.counters.restarts += 1
        if memory.retiring:
            pod.gone(memory)
            return Ignore()
        memory.pid = self.pid
        self._begin_incarnation(memory)
        return memory

    def handle_cast(self, request: object, state: ResourceMemory) -> Noted:
        """On `Wake`, look again."""
        assert isinstance(request, Wake)
        if state.job is not None:
            if state.state is State.SYNCHRONISING and _is_leaving(state):
                state.job.cancel()
            return NoReply(state)
        return self._next(state)

    def handle_info(self, message: object, state: ResourceMemory) -> Noted:
        """Go on with what has ended, opened or come due."""
        match message:
            case _JobOver(task):
                return self._job_over(state, task)
            case Claimed(epoch, driver, answer) if epoch == state.epoch:
                return self._claimed(state, driver, answer)
            case Opened() if state.state is State.INITIALISED and state.job is None:
                self._request_driver(state)
            case Unavailable(reason) if state.state is State.INITIALISED and state.job is None:
                self._tell(state, State.INITIALISED, reason)
            case _Retry(epoch) if epoch == state.epoch and state.state is State.SYNCHRONISING:
                self._request_driver(state)
            case _Unknown(index, reason):
                self._suspect(state, index, reason)
        return NoReply(state)

    def terminate(self, reason: object, state: ResourceMemory) -> None:
        """Report the unit in hand and the flushed ones, whatever the reason."""
        self._ended(reason, is_crash=not is_clean(reason))

    # ── initialised → synchronising → ready ──────────────────────────────────────────────────

    def _begin_incarnation(self, memory: ResourceMemory) -> None:
        memory.begin(self._pod.epoch)
        memory.is_alive = True
        memory.state = State.INITIALISED
        self._told = ""
        self._retry_waits = waits(*_RETRY_WAITS_S)
        if memory.job is None:
            self._request_driver(memory)
        else:  # of the incarnation before: two calls must never be in flight
            self._tell_when_over(memory.job)

    def _request_driver(self, memory: ResourceMemory) -> None:
        definition = memory.definition
        driver = self._pod.drivers.request(definition.driver, definition.connect, self.pid)
        if driver is not None:
            self._ask(memory, driver)

    def _ask(self, memory: ResourceMemory, driver: Driver) -> None:
        memory.state = State.SYNCHRONISING
        self._pod.ask(Ask(memory, memory.epoch, driver))

    def _claimed(
        self, memory: ResourceMemory, driver: Driver, answer: Observation | BaseException
    ) -> Noted:
        if isinstance(answer, BaseException):
            return self._not_synchronised(memory, answer)
        self._driver = driver
        if can_skip(driver, memory, answer):
            return self._ready(memory, Synchronised(answer))
        self._report_state(memory, State.SYNCHRONISING, what_is_open(memory, answer))
        self._run(memory, synchronise(driver, memory, answer))
        return NoReply(memory)

    def _not_synchronised(self, memory: ResourceMemory, error: BaseException) -> Noted:
        if isinstance(error, StaleEpochError):
            return self._stale(memory, error)
        if isinstance(error, UnreachableError):
            self._pod.drivers.doubt(memory.definition.driver, memory.definition.connect)
        memory.sync_failures += 1
        self._tell(memory, State.SYNCHRONISING, describe(error))
        wait_s = next(self._retry_waits) * self._pod.random.uniform(0.5, 1.0)
        send_after(self.pid, wait_s, _Retry(memory.epoch))
        return NoReply(memory)

    def _ready(self, memory: ResourceMemory, found: Synchronised) -> Noted:
        observation = found.observation
        memory.see(observation.state, exists=observation.exists)
        if memory.doubt:
            memory.hold()
            memory.doubt = ()
        self._told = ""
        self._pod.reporter.report(
            Ready(
                memory.path,
                memory.epoch,
                memory.observed,
                memory.exists,
                found.settled,
                found.drift,
            )
        )
        memory.state = State.READY
        if memory.set_aside:
            units = ", ".join(sorted(memory.crashed_by))
            self._report_state(memory, State.SET_ASIDE, f"crashed by different units: {units}")
        return self._next(memory)

    # ── ready ⇄ executing ────────────────────────────────────────────────────────────────────

    def _next(self, memory: ResourceMemory) -> Noted:
        """At a border: act on the wishes, then begin the next command, if there is one."""
        while memory.job is None:
            hand = memory.mailbox.hand
            if hand is not None and (hand.is_done or hand.cancelled or memory.retiring):
                self._finish(memory, hand, "succeeded" if hand.is_done else "cancelled")
            elif hand is None and _is_leaving(memory):
                return self._leave(memory)
            elif hand is None and (memory.state is not State.READY or not memory.mailbox):
                break
            elif not self._pod.reporter.is_open:
                self._pod.blocked[memory] = None
                break
            elif hand is None:
                self._take(memory)
            else:
                self._execute(memory, hand)
        return NoReply(memory)

    def _take(self, memory: ResourceMemory) -> None:
        hand, wait_s = memory.mailbox.take(self.runtime.clock())
        memory.state = State.EXECUTING
        self._pod.counters.wait_s.note(wait_s)
        unit = hand.unit
        self._pod.reporter.report(Started(memory.path, memory.epoch, unit.id, unit.attempt, wait_s))

    def _execute(self, memory: ResourceMemory, hand: Hand) -> None:
        driver, unit = self._driver, hand.unit
        assert driver is not None
        command = unit.commands[hand.completed]
        self._began_at = self.runtime.clock()
        spec = driver.info.verbs.get(command.verb)
        if spec is None:
            known = ", ".join(sorted(driver.info.verbs))
            error = UnsupportedError(f"{driver.info.name} has no {command.verb!r}; it has {known}")
            self._refused(memory, hand, error)
            return
        ctx = StepContext(
            unit=unit.id,
            index=hand.completed,
            epoch=memory.epoch,
            deadline_s=spec.longest_s if unit.deadline_s is None else unit.deadline_s,
            attempt=unit.attempt,
        )
        self._pod.counters.commands += 1
        self._run(memory, self._carry_out(driver, memory, Step(command.verb, command.params), ctx))

    async def _carry_out(
        self, driver: Driver, memory: ResourceMemory, step: Step, ctx: StepContext
    ) -> Observation:
        """Run one command to its known end (in a task; it touches nothing of the process)."""
        loop = asyncio.get_running_loop()
        over_at = loop.time() + ctx.deadline_s
        # A driver that swallows its cancellation cannot be left alone: at least everybody is told.
        stuck = loop.call_at(over_at + 2 * GRACE_S, self._stuck, memory, step, ctx)
        try:
            return await run_command(driver, memory.ref, step, ctx)
        except OutcomeUnknownError:
            observation = await settle_command(
                driver,
                memory.ref,
                step,
                ctx,
                lambda reason: self.pid.send(_Unknown(ctx.index, reason)),
                over_at,
            )
        finally:
            stuck.cancel()
        if observation is None:
            raise not_applied(memory.ref, step)
        return observation

    def _stuck(self, memory: ResourceMemory, step: Step, ctx: StepContext) -> None:
        late = f"{step.verb} took longer than {ctx.deadline_s:g} s and its driver has not come back"
        self.pid.send(_Unknown(ctx.index, f"{memory.path}: {late}"))

    def _command_over(
        self, memory: ResourceMemory, hand: Hand, task: asyncio.Task[object]
    ) -> Noted:
        error = task.exception()
        self._record(memory, hand, "applied" if error is None else fault_kind(error))
        memory.state = State.EXECUTING
        if error is None:
            self._applied(memory, hand, task.result())
            return self._next(memory)
        if isinstance(error, StaleEpochError):
            return self._stale(memory, error)
        if isinstance(error, FinalError | NotStartedError):
            self._refused(memory, hand, error)
            return self._next(memory)
        return Stop((fault_kind(error), error_text(error)), memory)

    def _applied(self, memory: ResourceMemory, hand: Hand, observation: object) -> None:
        assert isinstance(observation, Observation)
        memory.see(observation.state, exists=observation.exists)
        memory.hold()
        hand.completed += 1
        if not hand.is_done:
            unit = hand.unit
            self._pod.reporter.report(
                Progress(memory.path, memory.epoch, unit.id, unit.attempt, hand.completed)
            )

    def _refused(self, memory: ResourceMemory, hand: Hand, error: DriverError) -> None:
        if isinstance(error, UnreachableError):
            self._pod.drivers.doubt(memory.definition.driver, memory.definition.connect)
        self._finish(memory, hand, "failed", fault_of(error))

    def _finish(
        self, memory: ResourceMemory, hand: Hand, outcome: Outcome, fault: Fault | None = None
    ) -> None:
        unit, pod = hand.unit, self._pod
        duration_s = self.runtime.clock() - hand.started_at
        memory.mailbox.hand = None
        memory.state = State.READY
        if outcome == "succeeded":
            memory.crashed_by = frozenset()
        finished = Finished(
            memory.path,
            memory.epoch,
            unit.id,
            unit.attempt,
            outcome,
            hand.completed,
            memory.observed,
            memory.exists,
            fault,
            duration_s,
        )
        pod.finishes.add(finished)
        pod.counters.units[outcome] += 1
        pod.counters.handle_s.note(duration_s)
        pod.reporter.report(finished)

    # ── what interrupts ──────────────────────────────────────────────────────────────────────

    def _leave(self, memory: ResourceMemory) -> Noted:
        """No unit is in hand, and the pod wants the resource gone or redefined."""
        waiting = memory.mailbox.flush()
        if memory.retiring:
            memory.handed_back = tuple(unit.id for unit in waiting)
            self._pod.gone(memory)
            return Stop("normal", memory)
        for unit in waiting:
            self._pod.reporter.report(Dropped(memory.path, unit.id, unit.attempt, "epoch"))
        self._begin_incarnation(memory)
        return NoReply(memory)

    def _stale(self, memory: ResourceMemory, error: StaleEpochError) -> Noted:
        # A newer incarnation owns the device. As "shutdown" it is no crash and brings no restart.
        self._pod.counters.stale_epochs += 1
        self._report_state(memory, State.STOPPED, describe(error))
        return Stop(("shutdown", describe(error)), memory)

    def _suspect(self, memory: ResourceMemory, index: int, reason: str) -> None:
        hand = memory.mailbox.hand
        if hand is None or memory.state is not State.EXECUTING or hand.completed != index:
            return  # told before, or known by now
        memory.state = State.SUSPECT
        unit = hand.unit
        self._pod.reporter.report(
            Suspect(memory.path, memory.epoch, unit.id, unit.attempt, index, reason)
        )

    def _job_over(self, memory: ResourceMemory, task: asyncio.Task[object]) -> Noted:
        assert memory.job is task, "one job at a time"
        memory.job = None
        hand = memory.mailbox.hand
        if memory.state is State.INITIALISED:
            if not _is_leaving(memory):
                self._request_driver(memory)
            return self._next(memory)
        if task.cancelled():
            return self._next(memory) if hand is None else Stop("cancelled", memory)
        if hand is not None:
            return self._command_over(memory, hand, task)
        error = task.exception()
        if error is not None:
            return self._not_synchronised(memory, error)
        found = task.result()
        assert isinstance(found, Synchronised)
        return self._ready(memory, found)

    def _run(self, memory: ResourceMemory, work: Coroutine[object, object, object]) -> None:
        assert memory.job is None, "one job at a time"
        memory.job = asyncio.ensure_future(contained(work))
        self._tell_when_over(memory.job)

    def _tell_when_over(self, job: asyncio.Task[object]) -> None:
        me = self.pid

        def tell(task: asyncio.Task[object]) -> None:
            if not task.cancelled():
                task.exception()  # seen here, even if the process is gone and nobody takes it up
            me.send(_JobOver(task))

        job.add_done_callback(tell)

    def _ended(self, reason: object, *, is_crash: bool) -> None:
        memory, pod = self._memory, self._pod
        if is_crash and memory.is_alive:
            pod.counters.crashes[reason_class(reason)] += 1
        crashed = memory.end(
            reason_text(reason), is_crash=is_crash, set_aside_after=pod.set_aside_after
        )
        if crashed is not None:
            pod.reporter.report(crashed)

    def _record(self, memory: ResourceMemory, hand: Hand, outcome: str) -> None:
        verb = hand.unit.commands[hand.completed].verb
        duration_s = self.runtime.clock() - self._began_at
        memory.record(
            CommandRecord(hand.unit.id, hand.completed, verb, outcome, duration_s, time.time())
        )

    def _tell(self, memory: ResourceMemory, state: State, trouble: str) -> None:
        if trouble != self._told:
            self._told = trouble
            self._report_state(memory, state, trouble)

    def _report_state(self, memory: ResourceMemory, state: State, detail: str) -> None:
        memory.state = state
        self._pod.reporter.report(ResourceState(memory.path, memory.epoch, state.value, detail))


def _is_leaving(memory: ResourceMemory) -> bool:
    return memory.retiring or memory.redefinition is not None
