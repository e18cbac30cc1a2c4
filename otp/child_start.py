"""Running a child's start function, and telling what came of it; both kinds of supervisor use it."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable
from dataclasses import dataclass

from otp.callback_results import Ignore
from otp.child_spec import BRUTAL_KILL, ChildSpec, Restart, Started
from otp.errors import AlreadyStartedError, IgnoredError
from otp.exit_reason import KILL, KILLED, NORMAL, SHUTDOWN, is_clean, reason_of
from otp.process import Pid
from otp.waiting import ExitWait

__all__ = ["StartFailure", "outcome_of", "run_start", "stop_child", "was_expected"]


@dataclass(frozen=True, slots=True)
class StartFailure:
    """A start function brought no child; `already` is set when it said that the child runs elsewhere."""

    reason: object
    already: AlreadyStartedError | None = None


Outcome = Started | StartFailure | None  # None: ignore, deliberately no process


def run_start(spec: ChildSpec, first: tuple[object, ...] = ()) -> Outcome | Awaitable[Outcome]:
    """Call the start function, with `first` before its own arguments; what it began asynchronously is left to await."""
    try:
        result = spec.start(*first, *spec.args)
    except Exception as error:  # noqa: BLE001 - a start may raise anything; it becomes the reason
        return _failure(error)
    if isinstance(result, Pid):
        return _wait_for(result) if result.initialising else Started(result)
    if isinstance(result, Awaitable) or (isinstance(result, Started) and result.pid.initialising):
        return _wait_for(result)
    return outcome_of(result)


def outcome_of(result: object) -> Outcome:
    """Say what a start function's value means; any odd value is a failure with that reason."""
    if isinstance(result, Started):
        return result
    if isinstance(result, Pid):
        return Started(result)
    return None if isinstance(result, Ignore) else StartFailure(result)


async def stop_child(me: Pid, pid: Pid, spec: ChildSpec) -> object:
    """Stop a child in OTP's way and wait until it is gone; returns its exit reason.

    A monitor, not the link, tells of the end, so a child that unlinked itself cannot hang its supervisor.
    """
    wait = ExitWait(pid, linked=me)
    if spec.shutdown_s is BRUTAL_KILL:
        pid.exit_signal(me, KILL)
    else:
        pid.exit_signal(me, SHUTDOWN)
        if not wait.done:
            await wait.within(spec.longest_stop_s)
        if wait.timed_out:
            pid.exit_signal(me, KILL)
    return wait.reason if wait.done else await wait


def was_expected(spec: ChildSpec, reason: object) -> bool:
    """Tell whether a child that was told to stop ended as it should; otherwise that is reported."""
    if type(reason) is str and reason == (KILLED if spec.shutdown_s is BRUTAL_KILL else SHUTDOWN):
        return True
    if spec.restart is Restart.PERMANENT:
        return False
    return reason == NORMAL or (spec.shutdown_s is not BRUTAL_KILL and is_clean(reason))


async def _wait_for(start: Awaitable[object] | Started) -> Outcome:
    try:
        result = start if isinstance(start, Started) else await start
        pid = result.pid if isinstance(result, Started) else result
        if isinstance(pid, Pid) and pid.initialising:
            await pid
    except (Exception, CancelledError) as error:  # noqa: BLE001 - as in run_start
        return _failure(error)
    return outcome_of(result)


def _failure(error: BaseException) -> Outcome:
    if isinstance(error, IgnoredError):
        return None
    already = error if isinstance(error, AlreadyStartedError) else None
    return StartFailure(reason_of(error), already)
