"""application: parts of a program that are started and stopped as one, each after what it needs.

    controller = runtime.start(ApplicationController())
    ...
    await application.load(spec)                      # inside a process
    await application.ensure_all_started("shop")

Of OTP not ported: included applications, take-over and fail-over between nodes, reading `.app` files, config_change.

Source: application(3) of OTP 25.
"""

from __future__ import annotations

from typing import Any, cast

from otp.application_controller import CONTROLLER, TABLE, ApplicationController, Environment
from otp.application_master import MASTERS
from otp.application_spec import (
    Application,
    ApplicationError,
    ApplicationInfo,
    ApplicationSpec,
    RestartType,
    StartKind,
)
from otp.errors import NoProcessError
from otp.gen_server import call
from otp.process import Pid
from otp.waiting import self_process

__all__ = [
    "Application",
    "ApplicationController",
    "ApplicationError",
    "ApplicationInfo",
    "ApplicationSpec",
    "RestartType",
    "StartKind",
    "ensure_all_started",
    "ensure_started",
    "get_all_env",
    "get_application",
    "get_env",
    "load",
    "loaded_applications",
    "set_env",
    "start",
    "stop",
    "unload",
    "unset_env",
    "which_applications",
]


async def load(spec: ApplicationSpec) -> None:
    """Make an application known; raises ApplicationError: ("already_loaded", name)."""
    await _ask(("load", spec))


async def unload(name: str) -> None:
    """Forget an application; raises ApplicationError: ("not_loaded", name), ("running", name)."""
    await _ask(("unload", name))


async def start(name: str, restart: RestartType = RestartType.TEMPORARY) -> None:
    """Start a loaded application, but not what it needs.

    Raises:
        ApplicationError: ("not_loaded", name), ("already_started", name), ("not_started", what it needs), or
            (reason, (callbacks, "start", [kind, args])) when its start failed.
    """
    await _ask(("start", name, restart))


async def ensure_started(name: str, restart: RestartType = RestartType.TEMPORARY) -> None:
    """Start an application unless it runs; otherwise as `start`."""
    try:
        await start(name, restart)
    except ApplicationError as error:
        if error.reason != ("already_started", name):
            raise


async def ensure_all_started(name: str, restart: RestartType = RestartType.TEMPORARY) -> list[str]:
    """Start an application and what it needs, depth first; returns what was started, in order.

    Raises:
        ApplicationError: one did not start: (its name, the reason). What was started is stopped again, newest first.
    """
    started: list[str] = []
    try:
        await _start_all(name, restart, started, ())
    except ApplicationError:
        for other in reversed(started):
            await stop(other)
        raise
    return started


async def stop(name: str) -> None:
    """Stop an application by hand, and wait; others are not affected.

    First `prep_stop`, then the tree, with no limit of time, then `stop`; what is left of its processes is killed.

    Raises:
        ApplicationError: ("not_started", name).
    """
    await _ask(("stop", name))


async def loaded_applications() -> list[ApplicationInfo]:
    """List what is loaded."""
    return cast("list[ApplicationInfo]", await _ask(("loaded", None)))


async def which_applications() -> list[ApplicationInfo]:
    """List what runs, newest first."""
    return cast("list[ApplicationInfo]", await _ask(("which", None)))


def get_application(pid: Pid | None = None) -> str | None:
    """Name the application that `pid`, or the calling process, belongs to."""
    leader = (self_process() if pid is None else pid).group_leader
    names = cast("dict[Pid, str]", self_process().runtime.tables.get(MASTERS, {}))
    return None if leader is None else names.get(leader)


def get_env(name: str, key: str, default: object = None) -> Any:
    """Read a value of an application's configuration."""
    return _environment().all(name).get(key, default)


def get_all_env(name: str) -> dict[str, object]:
    """Read an application's configuration; empty if nothing is known of it."""
    return _environment().all(name)


def set_env(name: str, key: str, value: object, *, persistent: bool = False) -> None:
    """Set a value; a persistent one survives unload and load."""
    _environment().set(name, key, value, persistent=persistent)


def unset_env(name: str, key: str, *, persistent: bool = False) -> None:
    """Forget a value; none is fine."""
    _environment().unset(name, key, persistent=persistent)


async def _start_all(
    name: str, restart: RestartType, started: list[str], path: tuple[str, ...]
) -> None:
    if name in path:
        raise ApplicationError((name, ("circular", [*path, name])))
    loaded = {info.name for info in await loaded_applications()}
    if any(info.name == name for info in await which_applications()):
        return
    try:
        spec = cast("ApplicationSpec", await _ask(("spec", name)))
    except ApplicationError as error:
        raise ApplicationError((name, error.reason)) from error
    for needed in spec.applications:
        if needed in loaded or needed not in spec.optional_applications:
            await _start_all(needed, restart, started, (*path, name))
    try:
        await start(name, restart)
    except ApplicationError as error:
        raise ApplicationError((name, error.reason)) from error
    started.append(name)


async def _ask(request: tuple[object, ...]) -> object:
    answer = await call(CONTROLLER, request, None)
    if isinstance(answer, ApplicationError):
        raise answer
    return answer


def _environment() -> Environment:
    found = self_process().runtime.tables.get(TABLE)
    if found is None:
        raise NoProcessError(CONTROLLER, "env")
    return cast("Environment", found)
