"""The process of a dynamic supervisor: children keyed by pid, each restarted alone, all stopped at once.

`simple_one_for_one` is made of it too. Where "too many restarts" is decided: `restart_window`; what happens then:
`DynamicServer._restart`. A restart that fails is tried again by a message to itself.

Source: dynamic_supervisor.ex of Elixir 1.18; supervisor(3) of OTP 27.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, cast

from otp.callback_results import CallResult, Ignore, NoReply, Reply, Result, Stop
from otp.child_spec import BRUTAL_KILL, INFINITY, Backoff, ChildSpec, ChildType, Restart, Started
from otp.child_start import Outcome, StartFailure, run_start, stop_child, was_expected
from otp.errors import MaxChildrenError, OtpError, StartChildError, SupervisorError
from otp.exit_reason import KILL, SHUTDOWN, is_clean
from otp.gen_server import GenServer
from otp.process import Exit, Pid
from otp.reports import SupervisorLabel, bounded_text
from otp.restart_window import RestartWindow
from otp.supervision_answers import (
    ChildCounts,
    ChildInfo,
    Refused,
    StartAnswer,
    SupervisorState,
    not_found,
)
from otp.supervision_reports import report_child, report_progress
from otp.waiting import ExitWait, From

__all__ = ["DynamicFlags", "DynamicServer"]

_log = logging.getLogger("otp")


class DynamicFlags(Protocol):
    """The flags of a dynamic supervisor that its process looks at; `SupervisorFlags` has them too."""

    @property
    def intensity(self) -> int: ...
    @property
    def period_s(self) -> float: ...
    @property
    def backoff(self) -> Backoff | None: ...


@dataclass(slots=True)
class _Waiting:
    """A child between two attempts to restart it."""

    spec: ChildSpec
    failures: int  # in a row, for the back-off


class _TryAgain:
    __slots__ = ("pid",)

    def __init__(self, pid: Pid) -> None:
        self.pid = pid


class DynamicServer(GenServer[None]):
    """The process of a dynamic supervisor."""

    __slots__ = (
        "_children",
        "_extra_arguments",
        "_failures",
        "_flags",
        "_max_children",
        "_random",
        "_restarting",
        "_stripped",
        "_window",
    )

    def __init__(
        self,
        flags: DynamicFlags,
        max_children: float = INFINITY,
        extra_arguments: tuple[object, ...] = (),
    ) -> None:
        self._flags = flags
        self._max_children = max_children
        self._extra_arguments = extra_arguments
        self._children: dict[Pid, ChildSpec] = {}
        self._restarting: dict[Pid, _Waiting] = {}  # by the old pid
        self._failures: dict[
            Pid, tuple[int, float]
        ] = {}  # of restarted ones, and since when; for the back-off
        self._stripped: dict[tuple[object, ...], ChildSpec] = {}
        self._window = RestartWindow(flags.intensity, flags.period_s)
        self._random = Random()

    def init(self) -> Ignore | Stop[None] | None:
        self.trap_exit()
        return None

    def handle_call(
        self, request: tuple[str, Any], from_: From, state: None
    ) -> CallResult[None] | Awaitable[CallResult[None]]:
        match request:
            case ("start_child", ChildSpec() as spec):
                return self._start_child(spec)
            case ("terminate_child", pid):
                return self._terminate_child(pid)
            case ("which_children", _):
                return Reply(self._list(), state)
            case ("count_children", _):
                return Reply(self._counts(), state)
            case ("which_child", pid):
                return Reply(self._which_child(pid), state)
            case ("restart_child" | "delete_child" | "get_childspec" as what, _):
                return Reply(_no_ids(what), state)
            case _:
                raise self._undefined("handle_call", request)

    def handle_info(self, message: object, state: None) -> Result[None] | Awaitable[Result[None]]:
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

    def _start_child(self, spec: ChildSpec) -> CallResult[None] | Awaitable[CallResult[None]]:
        if len(self._children) + len(self._restarting) >= self._max_children:
            return Reply(Refused(MaxChildrenError(f"{self._max_children} children")), None)
        outcome = run_start(spec, self._extra_arguments)
        if isinstance(outcome, Awaitable):
            return self._started_later(spec, outcome)
        return Reply(self._started(spec, outcome), None)

    def _started(self, spec: ChildSpec, outcome: Outcome) -> Started | StartAnswer | Refused:
        if isinstance(outcome, Started):
            self._keep(outcome.pid, spec, by_hand=True)
            return outcome
        if isinstance(outcome, StartFailure):
            return Refused(outcome.already or StartChildError(spec.id, outcome.reason))
        return StartAnswer(None)

    async def _started_later(
        self, spec: ChildSpec, outcome: Awaitable[Outcome]
    ) -> CallResult[None]:
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
    ) -> Result[None] | Awaitable[Result[None]]:
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

    def _restart(self, pid: Pid, waiting: _Waiting) -> Result[None] | Awaitable[Result[None]]:
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

    async def _try_again(self, pid: Pid, waiting: _Waiting) -> Result[None]:
        if self._flags.backoff is not None:
            return await self._attempt(pid, waiting)
        # The failed attempt has cost OTP turns as well: a tree that is still stopping gets as far as there.
        await asyncio.sleep(0)
        result = self._restart(pid, waiting)
        return await result if isinstance(result, Awaitable) else result

    async def _attempt(self, pid: Pid, waiting: _Waiting) -> Result[None]:
        # Whoever the death has reached gets its turn first, and frees its name, as while OTP waits for an init.
        await asyncio.sleep(0)
        outcome = run_start(waiting.spec, self._extra_arguments)
        if isinstance(outcome, Awaitable):
            outcome = await outcome
        result = self._attempted(pid, waiting, outcome)
        return await result if isinstance(result, Awaitable) else result

    def _attempted(
        self, pid: Pid, waiting: _Waiting, outcome: Outcome
    ) -> Result[None] | Awaitable[Result[None]]:
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

    async def _terminate_child(self, pid: Pid) -> CallResult[None]:
        if self._restarting.pop(pid, None) is not None:
            return Reply(None, None)
        spec = self._children.pop(pid, None)
        self._failures.pop(pid, None)
        if spec is None:
            return Reply(not_found(pid), None)
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

    def _which_child(self, pid: Pid) -> ChildInfo | Refused:
        spec = self._children.get(pid)
        if spec is not None:
            return ChildInfo(None, pid, restarting=False, type=ChildType(spec.type))
        waiting = self._restarting.get(pid)
        if waiting is None:
            return not_found(pid)
        return ChildInfo(None, None, restarting=True, type=ChildType(waiting.spec.type))

    def _counts(self) -> ChildCounts:
        specs = [*self._children.values(), *(w.spec for w in self._restarting.values())]
        supervisors = sum(spec.type is ChildType.SUPERVISOR for spec in specs)
        active = sum(pid.is_alive() for pid in self._children)
        return ChildCounts(len(specs), active, supervisors, len(specs) - supervisors)


def _no_ids(what: str) -> Refused:
    text = f"{what} is for supervisors with ids; the children of a dynamic supervisor go by pid"
    return Refused(SupervisorError(text))


def _deadline_s(spec: ChildSpec) -> float:
    return 0.0 if spec.shutdown_s is BRUTAL_KILL else float(cast("float", spec.shutdown_s))
