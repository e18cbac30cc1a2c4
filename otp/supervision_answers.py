"""What supervisors answer to management calls, and how those calls are made."""

from __future__ import annotations

from dataclasses import dataclass

from otp.address import Name
from otp.child_spec import ChildType
from otp.errors import NotFoundError
from otp.gen_server import call
from otp.process import Pid

__all__ = [
    "ChildCounts",
    "ChildInfo",
    "Refused",
    "StartAnswer",
    "SupervisorState",
    "ask",
    "not_found",
]


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """One line of which_children; `pid` is None when the child is not running."""

    id: object
    pid: Pid | None
    restarting: bool
    type: ChildType


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """What a supervisor has: specs, living children, and both kinds of specs."""

    specs: int
    active: int
    supervisors: int
    workers: int


@dataclass(frozen=True, slots=True)
class SupervisorState:
    """What `sys.get_state` shows of a supervisor: its flags, and its children, newest first."""

    flags: object
    children: tuple[ChildInfo, ...]


@dataclass(frozen=True, slots=True)
class StartAnswer:
    """A child was started, or its start said ignore."""

    pid: Pid | None
    info: object = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer to a management call that is raised in the caller."""

    error: Exception


async def ask(supervisor: Pid | Name, request: tuple[str, object]) -> object:
    """Make a management call, which waits for ever; what is refused is raised here."""
    answer = await call(supervisor, request, None)
    if isinstance(answer, Refused):
        raise answer.error
    return answer


def not_found(child: object) -> Refused:
    """Say that there is no such child."""
    return Refused(NotFoundError(f"there is no child {child!r:.200}"))
