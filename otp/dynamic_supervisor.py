"""dynamic_supervisor: any number of children, started one by one at run time, stopped all at once.

Strategy is one_for_one; children are known by pid, ids may repeat. An idle child costs its supervisor two dict
entries. After Elixir's DynamicSupervisor; OTP's simple_one_for_one is the same with one template.

Longer than most: its public calls and the process behind them are read together.

Source: dynamic_supervisor.ex of Elixir 1.18; supervisor(3) of OTP 27.
"""

from __future__ import annotations

from typing import ClassVar, cast

from otp.address import Name
from otp.callback_results import Ignore, Stop
from otp.child_spec import INFINITY, Backoff, ChildSpec, ChildType, Started, check_intensity
from otp.child_spec_forms import ChildModule, SpecForm, as_child_spec
from otp.dynamic_supervisor_process import DynamicServer
from otp.errors import ChildSpecError, SupervisorFlagsError
from otp.gen_server import call, stop
from otp.process import Pid
from otp.runtime import Runtime
from otp.supervision_answers import ChildCounts, ChildInfo, Refused, StartAnswer, ask
from otp.waiting import self_process

__all__ = [
    "DynamicSupervisor",
    "count_children",
    "start_child",
    "start_child_with_info",
    "start_link",
    "stop",
    "terminate_child",
    "which_child",
    "which_children",
]


class DynamicSupervisor(ChildModule):
    """A dynamic supervisor to be started.

    Args:
        intensity: restarts allowed within `period_s`; one more ends the supervisor.
        period_s: the length of that window.
        max_children: how many children there may be, those being restarted included.
        backoff: waits before restarts; off by default.
        extra_arguments: what every child's start function gets before its spec's own `args`.

    Raises:
        SupervisorFlagsError: a flag is not valid.
    """

    child_type: ClassVar[ChildType] = ChildType.SUPERVISOR

    def __init__(
        self,
        *,
        intensity: int = 3,
        period_s: float = 5.0,
        max_children: float = INFINITY,
        backoff: Backoff | None = None,
        extra_arguments: tuple[object, ...] = (),
    ) -> None:
        check_intensity(intensity, period_s)
        if not max_children >= 0:
            fault = ("invalid_max_children", max_children)
            raise SupervisorFlagsError(fault, f"max_children cannot be {max_children!r:.200}")
        self.intensity = intensity
        self.period_s = period_s
        self.max_children = max_children
        self.backoff = backoff
        self.extra_arguments = tuple(extra_arguments)

    def init(self) -> DynamicSupervisor | Ignore:
        """Return whose flags to run by, its own unless a subclass says otherwise, or Ignore(); runs in the process."""
        return self

    def start_in(self, runtime: Runtime, *, parent: Pid | None, name: Name | None) -> Pid:
        """Start it in `runtime`, linked to `parent` if there is one."""
        return _DynamicSupervisorServer(self).start_in(runtime, parent=parent, name=name)


class _DynamicSupervisorServer(DynamicServer):
    """The process of a dynamic supervisor, which asks for its flags first."""

    __slots__ = ("_supervisor",)

    def __init__(self, supervisor: DynamicSupervisor) -> None:
        super().__init__(supervisor)
        self._supervisor = supervisor

    @property
    def callback_module(self) -> object:
        """What reports name."""
        return self._supervisor

    def init(self) -> Ignore | Stop[None] | None:
        try:
            value: object = self._supervisor.init()
        except SupervisorFlagsError as error:
            return Stop(("supervisor_data", error.fault))
        match value:
            case DynamicSupervisor():
                super().__init__(value, value.max_children, value.extra_arguments)
                return super().init()
            case Ignore():
                return value
            case _:
                return Stop(("bad_return", (type(self._supervisor).__qualname__, "init", value)))


def start_link(supervisor: DynamicSupervisor | None = None, *, name: Name | None = None) -> Pid:
    """Start a dynamic supervisor without children, linked to the calling process.

    Raises:
        StartError: `init` raised, gave bad flags or something else; `IgnoredError` for `Ignore()`; or the name is
            taken.
    """
    parent = self_process()
    server = supervisor or DynamicSupervisor()
    return server.start_in(parent.runtime, parent=parent, name=name)


async def start_child(supervisor: Pid | Name, spec: SpecForm) -> Pid | None:
    """Start one more child; None if its start said ignore, and then nothing is kept.

    Raises:
        MaxChildrenError: there are `max_children` already.
        StartChildError: the start failed; nothing is kept.
        AlreadyStartedError: the start function says that its process runs already.
        ChildSpecError: `spec` is no ChildSpec, or it is significant.
    """
    # Not by way of start_child_with_info and ask: two coroutines more cost a tenth of a start.
    answer = await call(supervisor, ("start_child", _checked(spec)), None)
    if isinstance(answer, Refused):
        raise answer.error
    return cast("Pid | None", answer.pid)


async def start_child_with_info(supervisor: Pid | Name, spec: SpecForm) -> Started | StartAnswer:
    """Start a child as `start_child` does; the answer also has the `info` its start returned."""
    answer = await ask(supervisor, ("start_child", _checked(spec)))
    return cast("Started | StartAnswer", answer)


async def terminate_child(supervisor: Pid | Name, pid: Pid) -> None:
    """Stop a child and forget it; one that is being restarted goes by its old pid.

    Raises:
        NotFoundError: no child has that pid.
    """
    await ask(supervisor, ("terminate_child", _a_pid(pid)))


async def which_children(supervisor: Pid | Name) -> list[ChildInfo]:
    """List the children, in no promised order; ids are not shown, as in OTP."""
    return cast("list[ChildInfo]", await ask(supervisor, ("which_children", None)))


async def which_child(supervisor: Pid | Name, pid: Pid) -> ChildInfo:
    """Look one child up; raises NotFoundError."""
    return cast("ChildInfo", await ask(supervisor, ("which_child", _a_pid(pid))))


async def count_children(supervisor: Pid | Name) -> ChildCounts:
    """Count the children."""
    return cast("ChildCounts", await ask(supervisor, ("count_children", None)))


def _checked(form: SpecForm) -> ChildSpec:
    spec = form if type(form) is ChildSpec else as_child_spec(form)
    if spec.significant:
        text = f"{spec.id!r}: children of a dynamic supervisor cannot be significant"
        raise ChildSpecError(("invalid_significant", True), text)
    return spec


def _a_pid(pid: Pid) -> Pid:
    if not isinstance(pid, Pid):
        raise TypeError(f"children of a dynamic supervisor go by pid, not {pid!r:.200}")
    return pid
