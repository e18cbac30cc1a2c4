"""What an application is: its specification, its callbacks, its restart type, and its errors."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from otp.errors import OtpError
from otp.process import Pid

__all__ = [
    "Application",
    "ApplicationError",
    "ApplicationInfo",
    "ApplicationSpec",
    "RestartType",
    "StartKind",
]


class ApplicationError(OtpError):
    """An application cannot be loaded, started or stopped; `reason` is OTP's. Told to the caller."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"{reason!r:.1000}")
        self.reason = reason


class RestartType(Enum):
    """What the end of the application means to the others. It is never started again by itself."""

    PERMANENT = "permanent"  # everything stops
    TRANSIENT = "transient"  # everything stops, unless the reason was normal (shutdown is not)
    TEMPORARY = "temporary"  # it is reported


class StartKind(Enum):
    """Why an application starts; takeover and failover are not ported."""

    NORMAL = "normal"


class Application:
    """The callbacks of an application; each may be `async def`."""

    def start(
        self, kind: StartKind, args: Any
    ) -> Pid | tuple[Pid, Any] | Awaitable[Pid | tuple[Pid, Any]]:
        """Start the top supervisor, linked to the caller, and return it, perhaps with a state.

        Raises:
            StartError: it did not start.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no start")

    def start_phase(self, phase: str, kind: StartKind, args: Any) -> Awaitable[None] | None:
        """Go through one of the spec's `start_phases`, after `start`."""

    def prep_stop(self, state: Any) -> Any:
        """Prepare for being stopped, while everything still runs; returns the state for `stop`."""
        return state

    def stop(self, state: Any) -> Awaitable[None] | None:
        """Clean up after the tree has gone, in whatever way it went."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationSpec:
    """What OTP keeps in an `.app` file.

    Args:
        name: by which others know it.
        mod: the callbacks and their argument; None for a library, which has no processes.
        applications: what has to be started before.
        optional_applications: those of `applications` that may be missing.
        env: its configuration, which the controller's `config` overrides.
        start_phases: names and arguments for `Application.start_phase`.
    """

    name: str
    mod: tuple[Application, object] | None = None
    vsn: str = ""
    description: str = ""
    registered: tuple[str, ...] = ()
    applications: tuple[str, ...] = ()
    optional_applications: tuple[str, ...] = ()
    env: Mapping[str, object] = field(default_factory=dict)
    start_phases: tuple[tuple[str, object], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ApplicationError(("bad_application", f"name is {self.name!r:.200}"))
        if self.mod is not None and not (
            isinstance(self.mod, tuple)
            and len(self.mod) == 2
            and isinstance(self.mod[0], Application)
        ):
            raise ApplicationError(("bad_application", f"{self.name}: mod is {self.mod!r:.200}"))
        stray = set(self.optional_applications) - set(self.applications)
        if stray:
            fault = f"{self.name}: optional, but no applications: {sorted(stray)}"
            raise ApplicationError(("bad_application", fault))


@dataclass(frozen=True, slots=True)
class ApplicationInfo:
    """One line of which_applications."""

    name: str
    description: str
    vsn: str
