"""A laboratory for supervision: traced workers whose starts and stops can be told to fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from otp import (
    ChildSpec,
    DynamicSupervisor,
    ExitError,
    GenServer,
    Ignore,
    NoReply,
    Pid,
    ProgressReport,
    Reply,
    Report,
    Stop,
    Supervisor,
    SupervisorFlags,
    SupervisorReport,
    dynamic_supervisor,
    gen_server,
    supervisor,
)
from otp.testing import Handle, VirtualRuntime


@pytest.fixture
def runtime() -> Iterator[VirtualRuntime]:
    virtual = VirtualRuntime()
    yield virtual
    virtual.close()


@pytest.fixture
def lab(runtime: VirtualRuntime) -> Lab:
    return Lab(runtime)


@pytest.fixture
def lab_class() -> type[Lab]:
    return Lab


@pytest.fixture
def inside(runtime: VirtualRuntime) -> Callable[..., Any]:
    """Run a coroutine function in a plain process, and give its result or raise what it raised."""

    def run(body: Callable[..., Any], *args: Any) -> Any:
        ends: list[Any] = []

        async def process() -> None:
            try:
                ends.append((await body(*args), None))
            except Exception as error:  # noqa: BLE001 - raised again outside
                ends.append((None, error))

        async def ended() -> object:
            return await runtime.runtime.exited(runtime.runtime.spawn(process))

        reason = runtime.run(ended())
        assert ends, f"the process ended early: {reason}"
        value, error = ends[0]
        if error is not None:
            raise error
        return value

    return run


class Worker(GenServer[str]):
    """Traces its life; stops `stop_s` seconds after it was told to, with `stop_reason` if that is set."""

    def __init__(self, lab: Lab, name: str, *, trap: bool, stop_s: float) -> None:
        self.lab = lab
        self.name = name
        self.trap = trap
        self.stop_s = stop_s

    def init(self) -> str | Ignore | Stop[str]:
        fate = self.lab.fates.get(self.name)
        what = fate.pop(0) if fate else "ok"
        if what == "ignore":
            return Ignore()
        if what == "fail":
            self.lab.note("fail", self.name)
            return Stop("refused")
        if what == "raise":
            raise ValueError(self.name)
        self.trap_exit(self.trap)
        self.lab.note("start", self.name)
        self.lab.pids.append(self.pid)
        return self.name

    def handle_call(self, request: Any, from_: Any, state: str) -> Any:
        if request == "unlink":
            self.pid.unlink(self.pid.parent)
        return Reply(state, state)

    def handle_cast(self, request: Any, state: str) -> Any:
        kind, reason = request
        if kind == "raise":
            raise ValueError(reason)
        return Stop(reason, state)

    def handle_info(self, message: Any, state: str) -> Any:
        return NoReply(state)

    async def terminate(self, reason: Any, state: str) -> None:
        if self.stop_s:
            await asyncio.sleep(self.stop_s)
        self.lab.note("stop", state)
        if state in self.lab.stop_reasons:
            raise ExitError(self.lab.stop_reasons[state])


class Lab:
    """Starts supervisors over traced workers; `fates` says how the next starts of a worker go."""

    def __init__(self, runtime: VirtualRuntime) -> None:
        self.runtime = runtime
        self.trace: list[tuple[str, str]] = []
        self.fates: dict[str, list[str]] = {}
        self.stop_reasons: dict[str, object] = {}
        self.pids: list[Pid] = []
        self.reports: list[Report] = []
        runtime.reports.subscribe(self.reports.append)

    def note(self, what: str, name: str) -> None:
        self.trace.append((what, name))

    def drain(self) -> list[str]:
        """What happened since the last time, as "start a"."""
        seen = [f"{what} {name}" for what, name in self.trace]
        self.trace.clear()
        return seen

    def worker(self, name: str, *, trap: bool = True, stop_s: float = 0.0) -> Worker:
        return Worker(self, name, trap=trap, stop_s=stop_s)

    def spec(self, name: str, *, trap: bool = True, stop_s: float = 0.0, **more: Any) -> ChildSpec:
        def start() -> Pid:
            return gen_server.start_link(self.worker(name, trap=trap, stop_s=stop_s))

        return ChildSpec(name, start, **more)

    def start(self, *specs: ChildSpec, name: str | None = None, **flags: Any) -> Handle:
        blueprint = Supervisor(SupervisorFlags(**flags), specs)
        return self.runtime.start(blueprint, name)

    def start_dynamic(self, **flags: Any) -> Handle:
        return self.runtime.start(DynamicSupervisor(**flags))

    def do(self, call: Awaitable[Any]) -> Any:
        """Run a management call to its end."""

        async def awaited() -> Any:
            return await call

        return self.runtime.run(awaited())

    def add(self, sup: Handle, spec: ChildSpec) -> Pid | None:
        return self.do(dynamic_supervisor.start_child(sup.pid, spec))

    def children(self, sup: Handle) -> dict[object, Pid | str | None]:
        """Child ids with pid, "restarting" or None."""
        infos = self.do(supervisor.which_children(sup.pid))
        return {info.id: "restarting" if info.restarting else info.pid for info in reversed(infos)}

    def pid(self, sup: Handle, child_id: object) -> Pid:
        found = self.children(sup)[child_id]
        assert isinstance(found, Pid)
        return found

    def end(self, pid: Pid, reason: object) -> None:
        """Let a worker end by itself with `reason`, or be killed."""
        if reason == "kill":
            self.runtime.runtime.exit(pid, "kill")
        else:
            pid.cast(("stop", reason))
        self.runtime.run_until_idle()

    def labels(self) -> list[str]:
        """Supervisor reports so far, as "child_terminated a"."""
        return [
            f"{report.label.value} {report.offender.id}"
            for report in self.reports
            if isinstance(report, SupervisorReport)
        ]

    def progress(self) -> list[tuple[object, bool]]:
        """Progress reports so far: child id, whether it was started by hand."""
        return [
            (report.started.id, report.by_hand)
            for report in self.reports
            if isinstance(report, ProgressReport)
        ]
