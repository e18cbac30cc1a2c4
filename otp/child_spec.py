"""Child specifications and supervisor flags: OTP's keys and defaults, units in the names, checked when made."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, replace
from enum import Enum
from random import Random
from typing import Final

from otp.callback_results import Ignore
from otp.errors import ChildSpecError, SupervisorFlagsError
from otp.process import Pid

__all__ = [
    "BRUTAL_KILL",
    "INFINITY",
    "AutoShutdown",
    "Backoff",
    "ChildSpec",
    "ChildType",
    "Restart",
    "Start",
    "Started",
    "Strategy",
    "SupervisorFlags",
]


class Restart(Enum):
    """When a child that has exited is started again."""

    PERMANENT = "permanent"  # always
    TRANSIENT = "transient"  # only after an abnormal exit
    TEMPORARY = "temporary"  # never


class Strategy(Enum):
    """Which siblings are restarted with a failed child."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"
    SIMPLE_ONE_FOR_ONE = "simple_one_for_one"  # one template, any number of children of it


class AutoShutdown(Enum):
    """Whether the end of significant children stops the supervisor."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


class ChildType(Enum):
    """What a child is; decides the default of `shutdown_s`, and the counts."""

    WORKER = "worker"
    SUPERVISOR = "supervisor"


class _BrutalKill:
    __slots__ = ()

    def __repr__(self) -> str:
        return "BRUTAL_KILL"


BRUTAL_KILL: Final = _BrutalKill()
INFINITY: Final = math.inf

Shutdown = float | _BrutalKill


@dataclass(frozen=True, slots=True)
class Started:
    """A start function may return this: the child, and something for whoever called start_child."""

    pid: Pid
    info: object = None


StartResult = Pid | Started | Ignore
Start = Callable[..., StartResult | Awaitable[StartResult]]


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to start one child, when to restart it and how long it may take to stop.

    `start(*args)` runs in the supervisor; it makes a process, links it to the supervisor and returns its pid:
    `lambda: gen_server.start_link(Server())`.

    Raises:
        ChildSpecError: a field is not valid; `fault` is OTP's name for it.
    """

    id: object
    start: Start
    _: KW_ONLY
    restart: Restart = Restart.PERMANENT
    shutdown_s: Shutdown | None = (
        None  # from "please stop" to killed; 5 s, for supervisors INFINITY
    )
    type: ChildType | str = ChildType.WORKER
    significant: bool = False  # its own exit may stop the whole supervisor
    args: tuple[object, ...] = ()

    def __post_init__(self) -> None:
        if self.id is None or isinstance(self.id, Pid):
            raise ChildSpecError("missing_id", f"a child's id cannot be {self.id!r}")
        try:
            hash(self.id)
        except TypeError:
            text = f"a child's id cannot be {self.id!r:.200}, which has no hash"
            raise ChildSpecError(("invalid_id", self.id), text) from None
        if not callable(self.start):
            raise ChildSpecError(
                ("invalid_mfa", self.start), f"{self.id!r}: start is {self.start!r}, not callable"
            )
        if not isinstance(self.restart, Restart):
            raise self._fault("invalid_restart_type", "restart", self.restart, _members(Restart))
        if not isinstance(self.significant, bool):
            raise self._fault("invalid_significant", "significant", self.significant)
        # A permanent child never exits for good, so its exit can never be the last.
        if self.significant and self.restart is Restart.PERMANENT:
            raise ChildSpecError(
                ("bad_combination", (("restart", "permanent"), ("significant", True))),
                f"{self.id!r}: a permanent child cannot be significant",
            )
        self._check_type()
        self._check_shutdown()

    @property
    def longest_stop_s(self) -> float | None:
        """How long the child may take to stop; None is for ever."""
        return None if self.shutdown_s == INFINITY else float(self.shutdown_s)  # type: ignore[arg-type]

    def without_start(self) -> ChildSpec:
        """Forget the start function and its arguments: a temporary child is never started again."""
        return replace(self, start=_forgotten, args=())

    def _check_type(self) -> None:
        try:
            kind = ChildType(self.type)
        except ValueError:
            raise self._fault("invalid_child_type", "type", self.type) from None
        object.__setattr__(self, "type", kind)

    def _check_shutdown(self) -> None:
        stop = self.shutdown_s
        if stop is None:
            default = INFINITY if self.type is ChildType.SUPERVISOR else 5.0
            object.__setattr__(self, "shutdown_s", default)
        elif stop is not BRUTAL_KILL and not (
            isinstance(stop, int | float) and not isinstance(stop, bool) and stop >= 0
        ):
            raise self._fault("invalid_shutdown", "shutdown_s", stop)

    def _fault(self, name: str, field: str, value: object, wanted: str = "") -> ChildSpecError:
        return ChildSpecError(
            (name, value), f"{self.id!r}: {field} cannot be {value!r:.200}{wanted}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waits before restarts; not in OTP, and off unless a supervisor's flags ask for it.

    The first wait is `initial_s`; each further failure of the same child doubles it, up to `max_s`. A child that
    has run for `reset_after_s` starts over. `jitter` spreads a wait by up to that share, either way.
    """

    initial_s: float = 0.2
    max_s: float = 30.0
    jitter: float = 0.1
    reset_after_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0 <= self.initial_s <= self.max_s or not 0 <= self.jitter <= 1:
            raise ChildSpecError(("invalid_backoff", self), f"waits out of order in {self!r}")

    def wait_s(self, failures: int, random: Random) -> float:
        """How long to wait after `failures` failures in a row, at least 1."""
        wait = min(self.max_s, self.initial_s * 2.0 ** min(failures - 1, 60))
        return wait * (1 + self.jitter * random.uniform(-1, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorFlags:
    """A supervisor's strategy and patience: more than `intensity` restarts in `period_s` end it.

    Raises:
        SupervisorFlagsError: a flag is not valid; `fault` is OTP's name for it.
    """

    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: int = 1
    period_s: float = 5.0
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER
    backoff: Backoff | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.strategy, Strategy):
            raise _bad_flag("invalid_strategy", "strategy", self.strategy, _members(Strategy))
        check_intensity(self.intensity, self.period_s)
        if not isinstance(self.auto_shutdown, AutoShutdown):
            wanted = _members(AutoShutdown)
            raise _bad_flag("invalid_auto_shutdown", "auto_shutdown", self.auto_shutdown, wanted)
        simple = self.strategy is Strategy.SIMPLE_ONE_FOR_ONE
        if simple and self.auto_shutdown is not AutoShutdown.NEVER:
            mode = self.auto_shutdown.value
            pair = (("auto_shutdown", mode), ("strategy", "simple_one_for_one"))
            text = f"auto_shutdown {mode} does not go with simple_one_for_one"
            raise SupervisorFlagsError(("bad_combination", pair), text)


def _forgotten(*_: object) -> StartResult:
    raise ChildSpecError("temporary", "the start function of a temporary child is not kept")


def check_intensity(intensity: object, period_s: object) -> None:
    """Raise SupervisorFlagsError unless these are a whole number >= 0 and a number > 0."""
    if not isinstance(intensity, int) or isinstance(intensity, bool) or intensity < 0:
        raise _bad_flag("invalid_intensity", "intensity", intensity)
    if not isinstance(period_s, int | float) or isinstance(period_s, bool) or not period_s > 0:
        raise _bad_flag("invalid_period", "period_s", period_s)


def _bad_flag(fault: str, flag: str, value: object, wanted: str = "") -> SupervisorFlagsError:
    return SupervisorFlagsError((fault, value), f"{flag} cannot be {value!r:.200}{wanted}")


def _members(closed: type[Enum]) -> str:
    return f", only {', '.join(str(member) for member in closed)}"
