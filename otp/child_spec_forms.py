"""Other ways to write a child spec or supervisor flags: mappings, and classes that know their own spec.

    {"id": "pump", "start": start_pump, "restart": "transient"}   # OTP's keys, but shutdown_s; unknown ones are ignored
    (Pump, "pump-7")                                               # Pump.child_spec("pump-7")
    Pump                                                           # Pump.child_spec()

Source: supervisor(3) of OTP 27; Supervisor.child_spec and `use GenServer` of Elixir 1.18.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import Any, ClassVar

from otp.address import Name
from otp.child_spec import (
    BRUTAL_KILL,
    INFINITY,
    AutoShutdown,
    ChildSpec,
    ChildType,
    Restart,
    Strategy,
    SupervisorFlags,
)
from otp.errors import ChildSpecError, SupervisorFlagsError
from otp.process import Pid
from otp.waiting import self_process

__all__ = [
    "ChildModule",
    "SpecForm",
    "as_child_spec",
    "as_flags",
    "as_forms",
    "check_childspecs",
    "check_significance",
    "child_spec",
]

_SHUTDOWNS: Mapping[str, Any] = {"brutal_kill": BRUTAL_KILL, "infinity": INFINITY}


class ChildModule:
    """A class whose instances can be started, and that says how: the base of all behaviours.

    A subclass may set `spec_options`, fields of `ChildSpec` that differ from the defaults.
    """

    __slots__ = ()

    child_type: ClassVar[ChildType] = ChildType.WORKER
    spec_options: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def child_spec(cls, *args: object, name: Name | None = None, **options: object) -> ChildSpec:
        """Give the spec of a child `cls(*args, **options)`; its id is `name`, or the class."""
        fields: dict[str, Any] = {
            "id": cls if name is None else name,
            "start": partial(_start_link, partial(cls, **options), name),
            "args": args,
            "type": cls.child_type,
            **cls.spec_options,
        }
        return ChildSpec(**fields)


SpecForm = ChildSpec | Mapping[str, object] | type | tuple[type, object]


def child_spec(form: SpecForm, **overrides: Any) -> ChildSpec:
    """Give the spec that `form` stands for, with some fields changed.

    Raises:
        ChildSpecError: it stands for none, or a field is not valid.
    """
    return replace(as_child_spec(form), **overrides)


def as_child_spec(form: object) -> ChildSpec:
    """Give the spec that `form` stands for; raises as `child_spec`."""
    match form:
        case ChildSpec():
            return form
        case Mapping():
            return _from_mapping(form)
        case type() as module if hasattr(module, "child_spec"):
            return _from_class(module)
        case (type() as module, argument) if hasattr(module, "child_spec"):
            return _from_class(module, argument)
        case _:
            raise ChildSpecError(("invalid_child_spec", form), f"{form!r:.200} is no ChildSpec")


def as_flags(form: object) -> SupervisorFlags:
    """Give the flags that a `SupervisorFlags` or a mapping stands for.

    Raises:
        SupervisorFlagsError: it is neither, or a flag is not valid.
    """
    if isinstance(form, SupervisorFlags):
        return form
    if not isinstance(form, Mapping):
        raise SupervisorFlagsError(("invalid_type", form), f"{form!r:.200} are no supervisor flags")
    if "period" in form:
        text = "a mapping gives the period in seconds, as period_s"
        raise SupervisorFlagsError(("invalid_period", form["period"]), text)
    named: dict[str, Any] = {key: form[key] for key in SupervisorFlags.__slots__ if key in form}
    for key, closed in (("strategy", Strategy), ("auto_shutdown", AutoShutdown)):
        if key in named:
            named[key] = _member(closed, named[key])
    return SupervisorFlags(**named)


def check_childspecs(
    forms: Iterable[SpecForm], auto_shutdown: AutoShutdown | None = None
) -> list[ChildSpec]:
    """Check specs as a supervisor would, and return them in full.

    Args:
        forms: the specs, in start order.
        auto_shutdown: the supervisor's flag, if the check is to include it.

    Raises:
        ChildSpecError: one is no spec, an id comes twice, or `forms` is no collection.
    """
    specs: dict[object, ChildSpec] = {}
    for form in as_forms(forms):
        spec = as_child_spec(form)
        check_significance(spec, auto_shutdown)
        if spec.id in specs:
            raise ChildSpecError(("duplicate_child_name", spec.id), f"{spec.id!r} comes twice")
        specs[spec.id] = spec
    return list(specs.values())


def as_forms(forms: Iterable[SpecForm]) -> Iterable[SpecForm]:
    """Raise ChildSpecError unless `forms` can be a list of specs."""
    if isinstance(forms, str | bytes | Mapping) or not isinstance(forms, Iterable):
        raise ChildSpecError(("badarg", forms), f"{forms!r:.200} is no list of specs")
    return forms


def check_significance(spec: ChildSpec, auto_shutdown: AutoShutdown | None) -> None:
    """Raise ChildSpecError for a significant child of a supervisor that never shuts down by itself."""
    if spec.significant and auto_shutdown is AutoShutdown.NEVER:
        pair = (("auto_shutdown", "never"), ("significant", True))
        text = f"{spec.id!r} is significant, but auto_shutdown is never"
        raise ChildSpecError(("bad_combination", pair), text)


def _from_class(module: Any, *arguments: object) -> ChildSpec:
    try:
        return as_child_spec(module.child_spec(*arguments))
    except ChildSpecError:
        raise
    except Exception as error:  # a supervisor asks, and must survive what a class answers
        fault = ("invalid_child_spec", (module, *arguments))
        text = f"{module.__qualname__}.child_spec failed: {error!r:.200}"
        raise ChildSpecError(fault, text) from error


def _from_mapping(form: Mapping[Any, Any]) -> ChildSpec:
    for key in ("id", "start"):
        if key not in form:
            raise ChildSpecError(f"missing_{key}", f"{dict(form)!r:.200} has no {key!r}")
    if "shutdown" in form:  # ignored, a child meant to be killed at once would be given 5 s
        text = f"{form['id']!r:.200}: a mapping gives shutdown in seconds, as shutdown_s"
        raise ChildSpecError(("invalid_shutdown", form["shutdown"]), text)
    start, args = form["start"], form.get("args", ())
    if isinstance(start, tuple) and len(start) == 2:
        start, args = start
    if not isinstance(args, list | tuple):
        raise ChildSpecError(("invalid_mfa", form["start"]), f"the arguments are {args!r:.200}")
    stop: Any = form.get("shutdown_s")
    return ChildSpec(
        form["id"],
        start,
        restart=_member(Restart, form.get("restart", Restart.PERMANENT)),
        shutdown_s=_SHUTDOWNS.get(stop, stop) if isinstance(stop, str) else stop,
        type=form.get("type", ChildType.WORKER),
        significant=form.get("significant", False),
        args=tuple(args),
    )


def _member(closed: type[Enum], value: object) -> Any:
    """Give the member with that value; anything else is left for the check that comes."""
    try:
        return closed(value)
    except ValueError:
        return value


def _start_link(make: Any, name: Name | None, *args: object) -> Pid:
    parent = self_process()
    pid: Pid = make(*args).start_in(parent.runtime, parent=parent, name=name)
    return pid
