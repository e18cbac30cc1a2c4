"""dynamic_supervisor: any number of children, started one by one at run time, stopped all at once.

Strategy is one_for_one; children are known by pid, ids may repeat. An idle child costs its supervisor two dict
entries. After Elixir's DynamicSupervisor; OTP's simple_one_for_one is the same with one template.

Source: dynamic_supervisor.ex of Elixir 1.18; supervisor(3) of OTP 27.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, cast

from otp.address import Name
from otp.child_spec import (
    BRUTAL_KILL,
    INFINITY,
    Backoff,
    ChildSpec,
    ChildType,
    Restart,
    Started,
    check_intensity,
)
from otp.child_start import Outcome, StartFailure, run_start, stop_child, was_expected
from otp.errors import (
    ChildSpecError,
    MaxChildrenError,
    NotFoundError,
    OtpError,
    StartChildError,
    SupervisorFlagsError,
)
from otp.exit_reason import KILL, SHUTDOWN, is_clean
from otp.gen_server import GenServer, NoReply, Reply, Stop, call
from otp.process import Exit, Pid
from otp.reports import SupervisorLabel, bounded_text
from otp.restart_window import RestartWindow
from otp.runtime import Runtime
from otp.supervision_reports import report_child, report_progress
from otp.supervisor import ChildCounts, ChildInfo
from otp.supervisor_process import SupervisorState
from otp.waiting import ExitWait, From, self_process

__all__ = [
    "DynamicSupervisor",
    "count_children",
    "start_child",
    "start_link",
    "terminate_child",
    "which_children",
]

_log = logging.getLogger("otp")


class DynamicSupervisor:
    """A dynamic supervisor to be started.

    Args:
        intensity: restarts allowed within `period_s`; one more ends the supervisor.
        period_s: the length of that window.
        max_children: how many children there may be, those being restarted included.
        backoff: waits before restarts; off by default.

    Raises:
        SupervisorFlagsError: a flag is not valid.
    """

    def __init__(
        self,
        *,
        intensity: int = 3,
        period_s: float = 5.0,
        max_children: float = INFINITY,
        backoff: Backoff | None = None,
    ) -> None:
        check_intensity(intensity, period_s)
        if not max_children >= 0:
            fault = ("invalid_max_children", max_children)
            raise SupervisorFlagsError(fault, f"max_children cannot be {max_children!r:.200}")
        self.intensity = intensity
        self.period_s = period_s
        self.max_children = max_children
        self.backoff = backoff

    def start_in(self, runtime: Runtime, *, parent: Pid | None, name: Name | None) -> Pid:
        """Start it in `runtime`, linked to `parent` if there is one."""
        return _Server(self).start_in(runtime, parent=parent, name=name)


def start_link(supervisor: DynamicSupervisor | None = None, *, name: Name | None = None) -> Pid:
    """Start a dynamic supervisor without children, linked to the calling process."""
    parent = self_process()
    server = supervisor or DynamicSupervisor()
    return server.start_in(parent.runtime, parent=parent, name=name)


async def start_child(supervisor: Pid | Name, spec: ChildSpec) -> Pid | None:
    """Start one more child; None if its start said ignore, and then nothing is kept.

    Raises:
        MaxChildrenError: there are `max_children` already.
        StartChildError: the start failed; nothing is kept.
        AlreadyStartedError: the start function says that its process runs already.
        ChildSpecError: `spec` is no ChildSpec, or it is significant.
    """
    if not isinstance(spec, ChildSpec):
        raise ChildSpecError(("invalid_child_spec", spec), f"{spec!r:.200} is no ChildSpec")
    if spec.significant:
        text = f"{spec.id!r}: children of a dynamic supervisor cannot be significant"
        raise ChildSpecError(("invalid_significant", True), text)
    answer = await call(supervisor, ("start_child", spec), None)
    if isinstance(answer, Exception):
        raise answer
    return cast("Pid | None", answer)


async def terminate_child(supervisor: Pid | Name, pid: Pid) -> None:
    """Stop a child and forget it; one that is being restarted goes by its old pid.

    Raises:
        NotFoundError: no child has that pid.
    """
    answer = await call(supervisor, ("terminate_child", pid), None)
    if isinstance(answer, Exception):
        raise answer


async def which_children(supervisor: Pid | Name) -> list[ChildInfo]:
    """List the children, in no promised order; ids are not shown, as in OTP."""
    return cast("list[ChildInfo]", await call(supervisor, ("which_children", None), None))


async def count_children(supervisor: Pid | Name) -> ChildCounts:
    """Count the children."""
    return cast("ChildCounts", await call(supervisor, ("count_children", None), None))


@dataclass(slots=True)
class _Waiting:
    """A child between two attempts to restart it."""

    spec: ChildSpec
    failures: int  # in a row, for the back-off


class _TryAgain:
    __slots__ = ("pid",)

    def __init__(self, pid: Pid) -> None:
        self.pid = pid


class _Server(GenServer[None]):
    """The process of a dynamic supervisor."""

    __slots__ = (
        "_children",
        "_failures",
        "_flags",
        "_random",
        "_restarting",
        "_stripped",
        "_window",
    )

    def __init__(self, flags: DynamicSupervisor) -> None:
        self._flags = flags
        self._children: dict[Pid, ChildSpec] = {}
        self._restarting: dict[Pid, _Waiting] = {}  # by the old pid
        self._failures: dict[
            Pid, tuple[int, float]
        ] = {}  # of restarted ones, and since when; for the back-off
        self._stripped: dict[tuple[object, ...], ChildSpec] = {}
        self._window = RestartWindow(flags.intensity, flags.period_s)
        self._random = Random()

    def init(self) -> None:
        self.trap_exit()

    def handle_call(
        self, request: tuple[str, Any], from_: From, state: None
    ) -> Reply[None] | Awaitable[Reply[None]]:
        match request:
            case ("start_child", ChildSpec() as spec):
                if len(self._children) + len(self._restarting) >= self._flags.max_children:
                    return Reply(MaxChildrenError(f"{self._flags.max_children} children"), state)
                outcome = run_start(spec)
                if isinstance(outcome, Awaitable):
                    return self._started_later(spec, outcome)
                return Reply(self._started(spec, outcome), state)
            case ("terminate_child", pid):
                return self._terminate_child(pid)
            case ("which_children", _):
                return Reply(self._list(), state)
            case ("count_children", _):
                return Reply(self._counts(), state)
            case _:
                raise self._undefined("handle_call", request)

    def handle_info(
        self, message: object, state: None
    ) -> NoReply[None] | Stop[None] | Awaitable[NoReply[None] | Stop[None]]:
        if isinstance(message, Exit):
            spec = None if message.pid is None else self._children.pop(message.pid, None)
            if spec is None or message.pid is None:
                return NoReply(state)
            return self._child_ended(message.pid, spec, message.reason)
        if isinstance(message, _TryAgain):
            waiting = self._restarting.get(message.pid)
            return NoReply(state) if waiting is None else self._try_again(message.pid, waiting)
        _log.error("supervisor %r dropped %s", self.pid, bounded_text(message))
        return NoReply(state)

    async def terminate(self, reason: object, state: None) -> None:
        """Stop all children at once, each group of equal `shutdown_s` under one deadline."""
        self._restarting.clear()
        children, self._children = self._children, {}
        waits = [(ExitWait(pid, linked=self.pid), spec) for pid, spec in children.items()]
        for wait, spec in waits:
            brutal = spec.shutdown_s is BRUTAL_KILL
            wait.pid.exit_signal(self.pid, KILL if brutal else SHUTDOWN)
        begun = self.runtime.clock()
        for wait, spec in sorted(waits, key=lambda entry: _deadline_s(entry[1])):
            await self._await_end(wait, spec, begun)
        self._report_unexpected(waits)

    # What sys asks for. The state is this object, so it can be shown but not replaced.

    behaviour = "dynamic_supervisor"

    def system_get_state(self, state: None) -> SupervisorState:
        """Show flags and children."""
        return SupervisorState(self._flags, tuple(self._list()))

    def system_replace_state(self, change: object, state: None) -> tuple[object, None]:
        """Refuse."""
        raise OtpError("the state of a supervisor cannot be replaced; use its management calls")

    # Starting.

    def _started(self, spec: ChildSpec, outcome: Outcome) -> object:
        if isinstance(outcome, Started):
            self._keep(outcome.pid, spec, by_hand=True)
            return outcome.pid
        if isinstance(outcome, StartFailure):
            return outcome.already or StartChildError(spec.id, outcome.reason)
        return None

    async def _started_later(self, spec: ChildSpec, outcome: Awaitable[Outcome]) -> Reply[None]:
        return Reply(self._started(spec, await outcome), None)

    def _keep(self, pid: Pid, spec: ChildSpec, *, by_hand: bool) -> None:
        report_progress(self.pid, spec, pid, by_hand=by_hand)
        if spec.restart is Restart.TEMPORARY:
            spec = self._without_start(spec)
        self._children[pid] = spec

    def _without_start(self, spec: ChildSpec) -> ChildSpec:
        # A temporary child's arguments are not kept; equal leftovers are shared, ids do not count here.
        key = (spec.shutdown_s, spec.type)
        shared = self._stripped.get(key)
        if shared is None:
            shared = self._stripped[key] = spec.without_start()
        return shared

    # Ends and restarts.

    def _child_ended(
        self, pid: Pid, spec: ChildSpec, reason: object
    ) -> NoReply[None] | Stop[None] | Awaitable[NoReply[None] | Stop[None]]:
        failures, since = self._failures.pop(pid, (0, 0.0))
        clean = is_clean(reason)
        restarts = spec.restart is Restart.PERMANENT or (
            spec.restart is Restart.TRANSIENT and not clean
        )
        if restarts or not clean:
            report_child(self.pid, SupervisorLabel.CHILD_TERMINATED, spec, pid, reason)
        if not restarts:
            return NoReply(None)
        backoff = self._flags.backoff
        if backoff is not None and self.runtime.clock() - since >= backoff.reset_after_s:
            failures = 0
        return self._restart(pid, _Waiting(spec, failures))

    def _restart(
        self, pid: Pid, waiting: _Waiting
    ) -> NoReply[None] | Stop[None] | Awaitable[NoReply[None] | Stop[None]]:
        """Count one attempt; make it, now or after the back-off, unless it was one too many."""
        if not self._window.allows(self.runtime.clock()):
            why = "reached_max_restart_intensity"
            report_child(self.pid, SupervisorLabel.SHUTDOWN, waiting.spec, pid, why)
            self._restarting.pop(pid, None)
            return Stop(SHUTDOWN, None)
        self._restarting[pid] = waiting
        backoff = self._flags.backoff
        if backoff is None:
            return self._attempt(pid, waiting)
        waiting.failures += 1
        wait_s = backoff.wait_s(waiting.failures, self._random)
        self.runtime.send_after(self.pid, wait_s, _TryAgain(pid))
        return NoReply(None)

    def _try_again(
        self, pid: Pid, waiting: _Waiting
    ) -> NoReply[None] | Stop[None] | Awaitable[NoReply[None] | Stop[None]]:
        if self._flags.backoff is None:
            return self._restart(pid, waiting)
        return self._attempt(pid, waiting)

    def _attempt(
        self, pid: Pid, waiting: _Waiting
    ) -> NoReply[None] | Stop[None] | Awaitable[NoReply[None] | Stop[None]]:
        outcome = run_start(waiting.spec)
        if isinstance(outcome, Awaitable):
            return self._attempted_later(pid, waiting, outcome)
        return self._attempted(pid, waiting, outcome)

    async def _attempted_later(
        self, pid: Pid, waiting: _Waiting, outcome: Awaitable[Outcome]
    ) -> NoReply[None] | Stop[None]:
        result = self._attempted(pid, waiting, await outcome)
        assert not isinstance(result, Awaitable)
        return result

    def _attempted(
        self, pid: Pid, waiting: _Waiting, outcome: Outcome
    ) -> NoReply[None] | Stop[None] | Awaitable[NoReply[None] | Stop[None]]:
        if isinstance(outcome, StartFailure):
            report_child(self.pid, SupervisorLabel.START_ERROR, waiting.spec, pid, outcome.reason)
            if self._flags.backoff is not None:
                return self._restart(pid, waiting)
            self.pid.send(_TryAgain(pid))
            return NoReply(None)
        del self._restarting[pid]
        if outcome is not None:
            self._keep(outcome.pid, waiting.spec, by_hand=False)
            if self._flags.backoff is not None:
                self._failures[outcome.pid] = (waiting.failures, self.runtime.clock())
        return NoReply(None)

    # Stopping.

    async def _terminate_child(self, pid: Pid) -> Reply[None]:
        if self._restarting.pop(pid, None) is not None:
            return Reply(None, None)
        spec = self._children.pop(pid, None)
        self._failures.pop(pid, None)
        if spec is None:
            return Reply(NotFoundError(f"there is no child {pid!r}"), None)
        reason = await stop_child(self.pid, pid, spec)
        if not was_expected(spec, reason):
            report_child(self.pid, SupervisorLabel.SHUTDOWN_ERROR, spec, pid, reason)
        return Reply(None, None)

    async def _await_end(self, wait: ExitWait, spec: ChildSpec, begun: float) -> None:
        if wait.done:
            return
        left_s = begun + _deadline_s(spec) - self.runtime.clock()
        await wait.within(None if left_s == INFINITY else max(0.0, left_s))
        if not wait.done:
            wait.pid.exit_signal(self.pid, KILL)
            await wait

    def _report_unexpected(self, waits: Iterable[tuple[ExitWait, ChildSpec]]) -> None:
        # One report for all children that ended alike, as OTP's simple_one_for_one does.
        odd = [(wait, spec) for wait, spec in waits if not was_expected(spec, wait.reason)]
        counts = Counter(bounded_text(wait.reason) for wait, _ in odd)
        for text, number in counts.items():
            wait, spec = next(entry for entry in odd if bounded_text(entry[0].reason) == text)
            shown = wait.pid if number == 1 else None
            label = SupervisorLabel.SHUTDOWN_ERROR
            report_child(self.pid, label, spec, shown, wait.reason, nb_children=number)

    # Answers.

    def _list(self) -> list[ChildInfo]:
        running = [
            ChildInfo(None, pid, restarting=False, type=ChildType(spec.type))
            for pid, spec in self._children.items()
        ]
        return running + [
            ChildInfo(None, None, restarting=True, type=ChildType(waiting.spec.type))
            for waiting in self._restarting.values()
        ]

    def _counts(self) -> ChildCounts:
        specs = [*self._children.values(), *(w.spec for w in self._restarting.values())]
        supervisors = sum(spec.type is ChildType.SUPERVISOR for spec in specs)
        active = sum(pid.is_alive() for pid in self._children)
        return ChildCounts(len(specs), active, supervisors, len(specs) - supervisors)


def _deadline_s(spec: ChildSpec) -> float:
    return 0.0 if spec.shutdown_s is BRUTAL_KILL else float(cast("float", spec.shutdown_s))
