"""supervisor: starts its children in order, restarts them by OTP's rules, stops them newest first.

A supervisor is a gen_server that traps exits, is linked to each child and does all its work in its own loop;
every management call queues behind that work and waits for ever. Nothing that runs in a child's `init` or
`terminate` may call its own supervisor. Children may be given as `ChildSpec`, as mappings with OTP's keys, or as classes
(see `child_spec_forms`). With simple_one_for_one there is one spec, the template, and children are named by pid.
The rules are in `supervisor_process`; here is what users call.

Source: supervisor(3) of OTP 25 to 27, checked against a running OTP 25.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import ClassVar, cast

from otp.address import Name
from otp.callback_results import Ignore
from otp.child_spec import ChildSpec, ChildType, SupervisorFlags
from otp.child_spec_forms import (
    ChildModule,
    SpecForm,
    as_flags,
    as_forms,
    check_childspecs,
    child_spec,
)
from otp.gen_server import stop
from otp.process import Pid
from otp.runtime import Runtime
from otp.supervision_answers import ChildCounts, ChildInfo, StartAnswer, ask
from otp.supervisor_process import SupervisorServer
from otp.waiting import self_process

__all__ = [
    "ChildCounts",
    "ChildInfo",
    "Supervisor",
    "check_childspecs",
    "child_spec",
    "count_children",
    "delete_child",
    "get_childspec",
    "restart_child",
    "restart_child_with_info",
    "start",
    "start_child",
    "start_child_with_info",
    "start_link",
    "stop",
    "terminate_child",
    "which_child",
    "which_children",
]


Blueprint = tuple[SupervisorFlags | Mapping[str, object], Sequence[SpecForm]]


class Supervisor(ChildModule):
    """A supervisor to be started: give flags and children, or subclass it and return them from `init`."""

    child_type: ClassVar[ChildType] = ChildType.SUPERVISOR

    def __init__(
        self,
        flags: SupervisorFlags | Mapping[str, object] | None = None,
        children: Iterable[SpecForm] = (),
    ) -> None:
        self._flags = SupervisorFlags() if flags is None else as_flags(flags)
        self._children = tuple(as_forms(children))

    def init(
        self,
    ) -> Blueprint | Ignore | Awaitable[Blueprint | Ignore]:
        """Return flags and children in start order; runs in the supervisor, also after each restart of it."""
        return self._flags, self._children

    def start_in(self, runtime: Runtime, *, parent: Pid | None, name: Name | None) -> Pid:
        """Start it in `runtime`, linked to `parent` if there is one."""
        return SupervisorServer(self).start_in(runtime, parent=parent, name=name)


def start_link(
    supervisor: Supervisor | SupervisorFlags,
    children: Iterable[SpecForm] = (),
    *,
    name: Name | None = None,
) -> Pid:
    """Start a supervisor and its children, linked to the calling process.

    When a child's init is a coroutine, await the pid to wait for it.

    Raises:
        StartError: `("shutdown", ("failed_to_start_child", id, reason))` when a child does not start, and
            OTP's reasons for bad flags, specs and init values; `IgnoredError` for `Ignore()`.
    """
    if isinstance(supervisor, SupervisorFlags):
        supervisor = Supervisor(supervisor, children)
    parent = self_process()
    return supervisor.start_in(parent.runtime, parent=parent, name=name)


async def start(
    runtime: Runtime,
    supervisor: Supervisor | SupervisorFlags,
    children: Iterable[SpecForm] = (),
    *,
    name: Name | None = None,
) -> Pid:
    """Start a supervisor from plain asyncio code, and wait for its children; raises as `start_link`."""
    if isinstance(supervisor, SupervisorFlags):
        supervisor = Supervisor(supervisor, children)
    return await runtime.start_wait(supervisor, name)


async def start_child(supervisor: Pid | Name, spec: SpecForm | Sequence[object]) -> Pid | None:
    """Add a child, last in start order, and start it; None if its start said ignore.

    With simple_one_for_one `spec` is the list of arguments that follow those of the template, and a child whose start
    said ignore is not kept.

    Raises:
        AlreadyPresentError: the id is there, not running.
        AlreadyStartedError: the id is there and running, or the start function says so of its process.
        StartChildError: the start failed; nothing is kept.
        ChildSpecError: `spec` is no ChildSpec.
    """
    return (await start_child_with_info(supervisor, spec)).pid


async def start_child_with_info(
    supervisor: Pid | Name, spec: SpecForm | Sequence[object]
) -> StartAnswer:
    """Start a child as `start_child` does; the answer also has the `info` its start returned."""
    return cast("StartAnswer", await ask(supervisor, ("start_child", spec)))


async def restart_child(supervisor: Pid | Name, child_id: object) -> Pid | None:
    """Start a child that is not running, from its stored spec.

    Raises:
        NotFoundError, ChildRunningError, ChildRestartingError: it is not there, or not stopped.
        StartChildError: the start failed; the spec is kept.
    """
    return (await restart_child_with_info(supervisor, child_id)).pid


async def restart_child_with_info(supervisor: Pid | Name, child_id: object) -> StartAnswer:
    """Restart a child as `restart_child` does; the answer also has the `info` its start returned."""
    return cast("StartAnswer", await ask(supervisor, ("restart_child", _hashable(child_id))))


async def terminate_child(supervisor: Pid | Name, child_id: object) -> None:
    """Stop a child and keep its spec (a temporary child's goes too); stopped already is fine.

    Raises:
        NotFoundError: there is no such id, or with simple_one_for_one the pid is that of a living stranger.
        SimpleOneForOneError: these children go by pid.
    """
    await ask(supervisor, ("terminate_child", _hashable(child_id)))


async def delete_child(supervisor: Pid | Name, child_id: object) -> None:
    """Forget the spec of a child that is not running.

    Raises:
        NotFoundError, ChildRunningError, ChildRestartingError: it is not there, or not stopped.
    """
    await ask(supervisor, ("delete_child", _hashable(child_id)))


async def which_children(supervisor: Pid | Name) -> list[ChildInfo]:
    """List the children, newest first."""
    return cast("list[ChildInfo]", await ask(supervisor, ("which_children", None)))


async def which_child(supervisor: Pid | Name, child_id: object) -> ChildInfo:
    """Look one child up, by id or with simple_one_for_one by pid; raises as `terminate_child`."""
    return cast("ChildInfo", await ask(supervisor, ("which_child", _hashable(child_id))))


async def count_children(supervisor: Pid | Name) -> ChildCounts:
    """Count the children."""
    return cast("ChildCounts", await ask(supervisor, ("count_children", None)))


async def get_childspec(supervisor: Pid | Name, child_id: object) -> ChildSpec:
    """Give the full spec of a child, or the template by its id or a child's pid; raises NotFoundError."""
    return cast("ChildSpec", await ask(supervisor, ("get_childspec", _hashable(child_id))))


def _hashable(child_id: object) -> object:
    """Raise TypeError here, in the caller, for what can be no id."""
    hash(child_id)
    return child_id
