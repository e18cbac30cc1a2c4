"""The process of a supervisor: OTP's rules for starting, restarting and stopping children.

Where "too many restarts" is decided: `restart_window`; what happens then: `SupervisorServer._restart`.
Stopping one child: `child_start.stop_child`. A restart that fails is tried again by a message to itself, so calls,
exits and its own shutdown are served in between.

Longer than most: its calls, ends and restarts all work on the same few fields, and read best side by side.

Source: supervisor(3) and supervisor.erl of OTP 25 to 27, checked against a running OTP 25.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Mapping
from enum import Enum, auto
from random import Random
from typing import Any, Protocol

from otp.callback_results import CallResult, Hibernate, Ignore, NoReply, Ok, Reply, Result, Stop
from otp.child_spec import (
    AutoShutdown,
    ChildSpec,
    ChildType,
    Restart,
    Started,
    Strategy,
    SupervisorFlags,
)
from otp.child_spec_forms import as_child_spec, as_flags, check_childspecs, check_significance
from otp.child_start import Outcome, StartFailure, run_start, stop_child, was_expected
from otp.errors import (
    AlreadyPresentError,
    AlreadyStartedError,
    ChildRestartingError,
    ChildRunningError,
    ChildSpecError,
    OtpError,
    StartChildError,
    SupervisorFlagsError,
)
from otp.exit_reason import SHUTDOWN, is_clean
from otp.gen_server import GenServer
from otp.process import Exit, Pid
from otp.reports import SupervisorLabel, bounded_text
from otp.restart_window import RestartWindow
from otp.server_process import ServerPid
from otp.simple_one_for_one import SimpleServer
from otp.supervision_answers import (
    ChildCounts,
    ChildInfo,
    Refused,
    StartAnswer,
    SupervisorState,
    not_found,
)
from otp.supervision_reports import report_child, report_progress
from otp.timers import TimerRef
from otp.waiting import From

__all__ = ["Blueprint", "SupervisorServer"]

_log = logging.getLogger("otp")


class Blueprint(Protocol):
    """Says which supervisor this is; see `otp.supervisor.Supervisor`."""

    def init(self) -> Any:
        """Return flags and children, or Ignore()."""


class _BadReturnError(Exception):
    """The callback `init` returned nonsense."""


class _TryAgain:
    """Message to itself: the restart of that child is due."""

    __slots__ = ("child_id",)

    def __init__(self, child_id: object) -> None:
        self.child_id = child_id


class _Status(Enum):
    RUNNING = auto()
    RESTARTING = auto()
    STOPPED = auto()


class _Child:
    __slots__ = ("attempt", "failures", "pid", "since", "spec", "status", "timer")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.pid: Pid | None = None  # while RESTARTING: the old one
        self.status = _Status.STOPPED
        self.attempt: _TryAgain | None = None
        self.timer: TimerRef | None = None
        self.failures = 0  # in a row, for the back-off
        self.since = 0.0

    def info(self) -> ChildInfo:
        """Show it to which_children."""
        running = self.status is _Status.RUNNING
        restarting = self.status is _Status.RESTARTING
        return ChildInfo(
            self.spec.id, self.pid if running else None, restarting, ChildType(self.spec.type)
        )


class SupervisorServer(GenServer[None]):
    """The process of a supervisor."""

    __slots__ = ("_by_pid", "_children", "_flags", "_random", "_supervisor", "_window")

    def __init__(self, supervisor: Blueprint) -> None:
        self._supervisor = supervisor
        self._children: dict[object, _Child] = {}  # in start order
        self._by_pid: dict[Pid, _Child] = {}
        self._flags = SupervisorFlags()
        self._window = RestartWindow(1, 5.0)
        self._random = Random()

    @property
    def callback_module(self) -> object:
        """What reports name."""
        return self._supervisor

    async def init(self) -> Ok[None] | Ignore | Stop[Any] | None:
        self.trap_exit()
        try:
            value: Any = self._supervisor.init()
            if isinstance(value, Awaitable):
                value = await value
            if isinstance(value, Ignore):
                return value
            flags, children = self._parts(value)
            if flags.strategy is Strategy.SIMPLE_ONE_FOR_ONE:
                return self._become_simple(flags, children)
            self._take(flags, children)
        except SupervisorFlagsError as error:
            return Stop(("supervisor_data", error.fault))
        except ChildSpecError as error:
            return Stop(("start_spec", error.fault))
        except _BadReturnError:
            where = (type(self._supervisor).__qualname__, "init", value)
            return Stop(("bad_return", where))
        failure = await self._start_all()
        return Ok(None, Hibernate()) if failure is None else failure

    async def handle_call(
        self, request: tuple[str, Any], from_: From, state: None
    ) -> CallResult[None]:
        match request:
            case ("start_child", form):
                answer: object = await self._start_child(form)
            case ("restart_child", child_id):
                answer = await self._restart_child(child_id)
            case ("terminate_child", child_id):
                answer = await self._terminate_child(child_id)
            case _:
                answer = self._answer(request)
        return Reply(answer, state)

    async def handle_info(self, message: object, state: None) -> Result[None]:
        if isinstance(message, Exit):
            child = None if message.pid is None else self._by_pid.pop(message.pid, None)
            going_on = child is None or await self._child_ended(child, message.reason)
        elif isinstance(message, _TryAgain):
            child = self._due(message)
            going_on = child is None or await self._try_again(child)
        else:
            _log.error("supervisor %r dropped %s", self.pid, bounded_text(message))
            going_on = True
        return NoReply(state) if going_on else Stop(SHUTDOWN, state)

    async def terminate(self, reason: object, state: None) -> None:
        await self._stop_each(reversed(list(self._children.values())))

    # What sys asks for. The state is this object, so it can be shown but not replaced.

    behaviour = "supervisor"

    def system_get_state(self, state: None) -> SupervisorState:
        """Show flags and children."""
        children = tuple(child.info() for child in reversed(self._children.values()))
        return SupervisorState(self._flags, children)

    def system_replace_state(self, change: object, state: None) -> tuple[object, None]:
        """Refuse."""
        raise OtpError("the state of a supervisor cannot be replaced; use its management calls")

    # Start-up.

    def _parts(self, value: object) -> tuple[SupervisorFlags, Any]:
        match value:
            case (SupervisorFlags() | Mapping() as flags, Iterable() as children):
                return as_flags(flags), children
            case _:
                raise _BadReturnError

    def _take(self, flags: SupervisorFlags, children: Iterable[Any]) -> None:
        specs = check_childspecs(children, flags.auto_shutdown)
        self._flags = flags
        self._window = RestartWindow(flags.intensity, flags.period_s)
        self._children = {spec.id: _Child(spec) for spec in specs}

    def _become_simple(self, flags: SupervisorFlags, children: Iterable[Any]) -> Stop[Any] | None:
        """Leave the process to the server of simple_one_for_one."""
        forms = list(children)
        if len(forms) != 1:
            return Stop(("bad_start_spec", forms))
        simple = SimpleServer(flags, as_child_spec(forms[0]))
        assert isinstance(self.pid, ServerPid)
        self.pid.become(simple)
        return None

    async def _start_all(self) -> Stop[Any] | None:
        for child in list(self._children.values()):
            outcome = await self._start(child)
            if isinstance(outcome, StartFailure):
                self._report(SupervisorLabel.START_ERROR, child, outcome.reason)
                failed = ("failed_to_start_child", child.spec.id, outcome.reason)
                await self._stop_each(reversed(list(self._children.values())))
                return Stop((SHUTDOWN, failed))
        return None

    async def _start(self, child: _Child, *, by_hand: bool = False) -> Outcome:
        """Run the start function and note what came of it; a failure is left to the caller."""
        outcome = run_start(child.spec)
        if isinstance(outcome, Awaitable):
            outcome = await outcome
        self._settle_wait(child)
        child.pid = None
        child.status = _Status.STOPPED
        if isinstance(outcome, Started):
            child.pid = outcome.pid
            child.status = _Status.RUNNING
            child.since = self.runtime.clock()
            self._by_pid[outcome.pid] = child
            report_progress(self.pid, child.spec, outcome.pid, by_hand=by_hand)
            if child.spec.restart is Restart.TEMPORARY:
                child.spec = child.spec.without_start()
        elif outcome is None and child.spec.restart is Restart.TEMPORARY:
            self._children.pop(child.spec.id, None)
        return outcome

    # Ends and restarts. Each returns False when the supervisor has to end.

    async def _child_ended(self, child: _Child, reason: object) -> bool:
        spec = child.spec
        clean = is_clean(reason)
        if spec.restart is Restart.PERMANENT or (spec.restart is Restart.TRANSIENT and not clean):
            self._report(SupervisorLabel.CHILD_TERMINATED, child, reason)
            return await self._restart(child)
        if not clean:
            self._report(SupervisorLabel.CHILD_TERMINATED, child, reason)
        self._take_off(child)
        return not (spec.significant and self._ends_with_significant())

    async def _restart(self, child: _Child) -> bool:
        """Count one attempt; restart the child and those that go with it, unless it was one too many."""
        if not self._window.allows(self.runtime.clock()):
            self._report(SupervisorLabel.SHUTDOWN, child, "reached_max_restart_intensity")
            self._take_off(child)
            return False
        if self._flags.backoff is None:
            await self._restart_group(child)
        else:
            await self._wait_before_restart(child)
        return True

    async def _wait_before_restart(self, child: _Child) -> None:
        backoff = self._flags.backoff
        assert backoff is not None
        if child.status is _Status.RUNNING:
            ran_s = self.runtime.clock() - child.since
            child.failures = 0 if ran_s >= backoff.reset_after_s else child.failures
        child.failures += 1
        self._mark_restarting(child)
        await self._stop_group(self._group(child), spare=child)
        if child.status is _Status.RESTARTING:
            wait_s = backoff.wait_s(child.failures, self._random)
            child.timer = self.runtime.send_after(self.pid, wait_s, child.attempt)

    def _due(self, message: _TryAgain) -> _Child | None:
        """Name the child to try; as in OTP, one queued for an earlier failure serves a later one of the same id."""
        child = self._children.get(message.child_id)
        if child is None or child.status is not _Status.RESTARTING:
            return None
        stale = self._flags.backoff is not None and child.attempt is not message
        return None if stale else child

    async def _try_again(self, child: _Child) -> bool:
        if self._flags.backoff is None:
            # The failed attempt has cost OTP turns as well: a tree that is still stopping gets as far as there.
            await asyncio.sleep(0)
            return await self._restart(child)
        child.timer = None
        failed = await self._start_group(child)
        return failed is None or await self._restart(failed)

    async def _restart_group(self, child: _Child) -> None:
        self._mark_restarting(child)
        await self._stop_group(self._group(child), spare=child)
        failed = await self._start_group(child)
        if failed is not None:
            if child.status is _Status.RESTARTING:  # one before it failed: that one is tried again
                self._take_off(child)
            self._mark_restarting(failed)
            self.pid.send(failed.attempt)

    def _group(self, child: _Child) -> list[_Child]:
        """Name the children that go down and up with `child`, itself included, in start order."""
        if self._flags.strategy is Strategy.ONE_FOR_ONE:
            return [child]
        children = list(self._children.values())
        if self._flags.strategy is Strategy.ONE_FOR_ALL:
            return children
        return children[children.index(child) :]

    async def _stop_group(self, group: list[_Child], *, spare: _Child) -> None:
        await self._stop_each(member for member in reversed(group) if member is not spare)
        for member in group:
            if member.spec.restart is Restart.TEMPORARY and member is not spare:
                self._children.pop(member.spec.id, None)

    async def _start_group(self, child: _Child) -> _Child | None:
        """Start the group of `child`; returns the first member that did not start."""
        for member in self._group(child):
            if member.status is _Status.RUNNING:
                continue
            # Whoever a death has reached gets its turn first, and frees its name, as while OTP waits for an init.
            # 10,000 children take 66 ms for it instead of 57, and leave the loop alone in between.
            await asyncio.sleep(0)
            old = member.pid
            outcome = await self._start(member)
            if isinstance(outcome, StartFailure):
                member.pid = old
                self._report(SupervisorLabel.START_ERROR, member, outcome.reason)
                if child.status is _Status.RESTARTING and child is not member:
                    self._take_off(child)
                return member
        return None

    def _mark_restarting(self, child: _Child) -> None:
        child.status = _Status.RESTARTING
        child.attempt = _TryAgain(child.spec.id)

    def _settle_wait(self, child: _Child) -> None:
        child.attempt = None
        if child.timer is not None:
            self.runtime.cancel_timer(child.timer)
            child.timer = None

    def _take_off(self, child: _Child) -> None:
        self._settle_wait(child)
        child.pid = None
        child.status = _Status.STOPPED
        if child.spec.restart is Restart.TEMPORARY:
            self._children.pop(child.spec.id, None)

    def _ends_with_significant(self) -> bool:
        match self._flags.auto_shutdown:
            case AutoShutdown.NEVER:
                return False
            case AutoShutdown.ANY_SIGNIFICANT:
                return True
            case AutoShutdown.ALL_SIGNIFICANT:
                return not any(
                    child.spec.significant and child.status is not _Status.STOPPED
                    for child in self._children.values()
                )

    # Stopping.

    async def _stop_each(self, children: Iterable[_Child]) -> None:
        for child in children:
            await self._stop(child)

    async def _stop(self, child: _Child) -> None:
        self._settle_wait(child)
        pid = child.pid
        if child.status is _Status.RUNNING and pid is not None:
            self._by_pid.pop(pid, None)
            reason = await stop_child(self.pid, pid, child.spec)
            if not was_expected(child.spec, reason):
                self._report(SupervisorLabel.SHUTDOWN_ERROR, child, reason)
        child.pid = None
        child.status = _Status.STOPPED

    # Management calls.

    async def _start_child(self, form: object) -> object:
        try:
            spec = as_child_spec(form)
            check_significance(spec, self._flags.auto_shutdown)
        except ChildSpecError as error:
            return Refused(error)
        present = self._children.get(spec.id)
        if present is not None:
            if present.status is _Status.RUNNING:
                return Refused(AlreadyStartedError(present.pid))
            return Refused(AlreadyPresentError(f"{spec.id!r} is there, not running"))
        child = self._children[spec.id] = _Child(spec)
        answer = await self._start_by_hand(child)
        if isinstance(answer, Refused):
            self._children.pop(spec.id, None)
        return answer

    async def _start_by_hand(self, child: _Child) -> object:
        outcome = await self._start(child, by_hand=True)
        if isinstance(outcome, Started):
            return StartAnswer(outcome.pid, outcome.info)
        if isinstance(outcome, StartFailure):
            return Refused(outcome.already or StartChildError(child.spec.id, outcome.reason))
        return StartAnswer(None)

    async def _restart_child(self, child_id: object) -> object:
        child = self._stopped(child_id)
        return child if isinstance(child, Refused) else await self._start_by_hand(child)

    async def _terminate_child(self, child_id: object) -> object:
        child = self._children.get(child_id)
        if child is None:
            return not_found(child_id)
        await self._stop(child)
        if child.spec.restart is Restart.TEMPORARY:
            self._children.pop(child_id, None)
        return None

    def _stopped(self, child_id: object) -> _Child | Refused:
        child = self._children.get(child_id)
        if child is None:
            return not_found(child_id)
        if child.status is _Status.RUNNING:
            return Refused(ChildRunningError(f"{child_id!r} is running"))
        if child.status is _Status.RESTARTING:
            return Refused(ChildRestartingError(f"{child_id!r} is being restarted"))
        return child

    def _answer(self, request: tuple[str, Any]) -> object:
        match request:
            case ("delete_child", child_id):
                child = self._stopped(child_id)
                if isinstance(child, Refused):
                    return child
                del self._children[child_id]
                return None
            case ("which_children", _):
                return [child.info() for child in reversed(self._children.values())]
            case ("which_child" | "get_childspec" as what, child_id):
                found = self._children.get(child_id)
                if found is None:
                    return not_found(child_id)
                return found.info() if what == "which_child" else found.spec
            case ("count_children", _):
                return self._counts()
            case _:
                raise self._undefined("handle_call", request)

    def _counts(self) -> ChildCounts:
        children = self._children.values()
        supervisors = sum(child.spec.type is ChildType.SUPERVISOR for child in children)
        active = sum(pid.is_alive() for pid in self._by_pid)
        return ChildCounts(len(children), active, supervisors, len(children) - supervisors)

    # Reports.

    def _report(self, label: SupervisorLabel, child: _Child, reason: object) -> None:
        report_child(self.pid, label, child.spec, child.pid, reason)
