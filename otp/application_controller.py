"""The application controller: which applications are loaded and running, and what the end of one means.

One per runtime, under the name `application_controller`. When it ends, for whatever reason, it stops the running
applications, newest first; so `await runtime.exited(controller)` is the end of the program. The configuration is in a
table that every process reads and writes directly.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from otp import gen_server
from otp.address import Name
from otp.application_master import MASTERS, ApplicationMaster, Begun, NotBegun
from otp.application_spec import (
    ApplicationError,
    ApplicationInfo,
    ApplicationSpec,
    RestartType,
)
from otp.callback_results import CallResult, NoReply, Reply, Result, Stop
from otp.child_spec import INFINITY
from otp.exit_reason import KILL, NORMAL
from otp.gen_server import GenServer
from otp.process import Exit, Pid
from otp.reports import bounded_text
from otp.runtime import Runtime
from otp.waiting import ExitWait, From

__all__ = ["CONTROLLER", "TABLE", "ApplicationController", "Environment"]

CONTROLLER = "application_controller"
TABLE = "application"
_log = logging.getLogger("otp")


class Environment:
    """The configuration of all applications: what the specs say, what overrides it, what was set since."""

    __slots__ = ("_config", "_persistent", "_values")

    def __init__(self, config: Mapping[str, Mapping[str, object]]) -> None:
        self._config = config
        self._values: dict[str, dict[str, object]] = {}
        self._persistent: dict[str, dict[str, object]] = {}

    def load(self, spec: ApplicationSpec) -> None:
        """Fill in the values of an application that is being loaded."""
        name = spec.name
        kept = {**self._config.get(name, {}), **self._persistent.get(name, {})}
        self._values[name] = {**spec.env, **kept}

    def unload(self, name: str) -> None:
        """Forget its values, but not those that were set to persist."""
        self._values.pop(name, None)

    def all(self, name: str) -> dict[str, object]:
        """Give the values of one application."""
        return dict(self._values.get(name, {}))

    def set(self, name: str, key: str, value: object, *, persistent: bool) -> None:
        """Set a value."""
        self._values.setdefault(name, {})[key] = value
        if persistent:
            self._persistent.setdefault(name, {})[key] = value

    def unset(self, name: str, key: str, *, persistent: bool) -> None:
        """Forget a value; none is fine."""
        self._values.get(name, {}).pop(key, None)
        if persistent:
            self._persistent.get(name, {}).pop(key, None)


class _Running:
    """An application that starts, runs or stops; a library has no master."""

    __slots__ = ("begun", "failure", "master", "restart", "spec", "starters", "stoppers")

    def __init__(self, spec: ApplicationSpec, restart: RestartType) -> None:
        self.spec = spec
        self.restart = restart
        self.master: Pid | None = None
        self.begun = False
        self.failure: object = None
        self.starters: list[From] = []
        self.stoppers: list[From] = []


class ApplicationController(GenServer[None]):
    """The controller to be started.

    Args:
        config: values that override the `env` of the specs, by application.
        shutdown_timeout_s: how long each application may take to stop when the controller ends.
    """

    __slots__ = ("_config", "_loaded", "_running", "_shutdown_timeout_s")

    def __init__(
        self,
        config: Mapping[str, Mapping[str, object]] | None = None,
        *,
        shutdown_timeout_s: float = INFINITY,
    ) -> None:
        self._config = config or {}
        self._shutdown_timeout_s = shutdown_timeout_s
        self._loaded: dict[str, ApplicationSpec] = {}
        self._running: dict[str, _Running] = {}  # in start order

    def start_in(self, runtime: Runtime, *, parent: Pid | None, name: Name | None) -> Pid:
        """Start it in `runtime` under its own name."""
        return super().start_in(runtime, parent=parent, name=CONTROLLER)

    def init(self) -> None:
        self.trap_exit()
        self.runtime.tables[TABLE] = Environment(self._config)
        self.runtime.tables[MASTERS] = {}

    def handle_call(self, request: Any, from_: From, state: None) -> CallResult[None]:
        try:
            answer = self._answer(request, from_)
        except ApplicationError as error:
            answer = error
        return NoReply(state) if answer is _LATER else Reply(answer, state)

    def handle_cast(self, request: object, state: None) -> Result[None]:
        match request:
            case Begun(name):
                running = self._running[name]
                running.begun = True
                # In order of being up, not of having been asked for.
                self._running[name] = self._running.pop(name)
                _answer_all(running.starters, None)
            case NotBegun(name, reason):
                self._running[name].failure = reason
        return NoReply(state)

    def handle_info(self, message: object, state: None) -> Result[None]:
        if isinstance(message, Exit):
            for name, running in self._running.items():
                if running.master is message.pid and message.pid is not None:
                    del self._running[name]
                    del self.runtime.tables[MASTERS][message.pid]
                    return self._ended(running, message.reason)
        return NoReply(state)

    async def terminate(self, reason: object, state: None) -> None:
        for running in reversed(list(self._running.values())):
            if running.master is None:
                continue
            wait = ExitWait(running.master, linked=self.pid)
            running.master.cast("stop")
            limit_s = self._shutdown_timeout_s
            await wait.within(None if limit_s == INFINITY else limit_s)
            if not wait.done:
                self._kill(running.master)
                await wait
        self.runtime.tables.pop(TABLE, None)
        self.runtime.tables.pop(MASTERS, None)

    def _answer(self, request: Any, from_: From) -> object:
        match request:
            case ("load", ApplicationSpec() as spec):
                return self._load(spec)
            case ("unload", name):
                return self._unload(name)
            case ("start", name, restart):
                return self._start(name, restart, from_)
            case ("stop", name):
                return self._stop(name, from_)
            case ("spec", name):
                return self._spec(name)
            case _:
                return self._list(request)

    def _list(self, request: Any) -> list[ApplicationInfo]:
        match request:
            case ("loaded", _):
                return [_info(spec) for spec in self._loaded.values()]
            case ("which", _):
                running = reversed(self._running.values())
                return [_info(each.spec) for each in running if each.begun]
            case _:
                raise self._undefined("handle_call", request)

    def _load(self, spec: ApplicationSpec) -> object:
        if spec.name in self._loaded:
            raise ApplicationError(("already_loaded", spec.name))
        self._loaded[spec.name] = spec
        self.runtime.tables[TABLE].load(spec)
        return None

    def _unload(self, name: str) -> object:
        if name in self._running:
            raise ApplicationError(("running", name))
        self._spec(name)
        del self._loaded[name]
        self.runtime.tables[TABLE].unload(name)
        return None

    def _spec(self, name: str) -> ApplicationSpec:
        if name not in self._loaded:
            raise ApplicationError(("not_loaded", name))
        return self._loaded[name]

    def _start(self, name: str, restart: RestartType, from_: From) -> object:
        spec = self._spec(name)
        running = self._running.get(name)
        if running is not None and not running.begun:  # both hear how it goes
            running.starters.append(from_)
            return _LATER
        if running is not None:
            raise ApplicationError(("already_started", name))
        for needed in spec.applications:
            optional = needed in spec.optional_applications and needed not in self._loaded
            there = self._running.get(needed)
            if not optional and (there is None or not there.begun):
                raise ApplicationError(("not_started", needed))
        running = self._running[name] = _Running(spec, restart)
        if spec.mod is None:
            running.begun = True
            return None
        running.starters.append(from_)
        running.master = gen_server.start_link(ApplicationMaster(spec, self.pid))
        return _LATER

    def _stop(self, name: str, from_: From) -> object:
        running = self._running.get(name)
        if running is None or not running.begun:
            raise ApplicationError(("not_started", name))
        if running.master is None:
            del self._running[name]
            return None
        running.stoppers.append(from_)
        if len(running.stoppers) == 1:
            running.master.cast("stop")
        return _LATER

    def _ended(self, running: _Running, reason: object) -> Result[None]:
        name = running.spec.name
        if not running.begun:
            failure = reason if running.failure is None else running.failure
            _answer_all(running.starters, ApplicationError(failure))
            return NoReply(None)
        _log.info(
            "application %s exited: %s (%s)", name, bounded_text(reason), running.restart.value
        )
        _answer_all(running.stoppers, None)
        clean = running.restart is RestartType.TRANSIENT and reason == NORMAL
        if running.stoppers or running.restart is RestartType.TEMPORARY or clean:
            return NoReply(None)
        return Stop(("application_terminated", name, reason), None)

    def _kill(self, master: Pid) -> None:
        for pid in list(self.runtime.processes()):
            if pid.group_leader is master and pid is not master:
                pid.exit_signal(self.pid, KILL)
        master.exit_signal(self.pid, KILL)


def _answer_all(waiting: list[From], answer: object) -> None:
    for from_ in waiting:
        from_.reply(answer)


def _info(spec: ApplicationSpec) -> ApplicationInfo:
    return ApplicationInfo(spec.name, spec.description, spec.vsn)


_LATER = object()
