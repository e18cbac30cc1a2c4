"""A stage for one scenario of supervision: our side of `beam_supervision.erl`, on a virtual clock.

Longer than most: the processes of a scenario and who watches them are read side by side with that one file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from otp import (
    BRUTAL_KILL,
    INFINITY,
    AlreadyPresentError,
    AlreadyStartedError,
    AutoShutdown,
    CallError,
    ChildRestartingError,
    ChildRunningError,
    ChildSpec,
    ChildSpecError,
    ChildType,
    Continue,
    Exit,
    ExitError,
    GenServer,
    Ignore,
    NoReply,
    NotFoundError,
    Ok,
    Pid,
    Raised,
    Reply,
    Restart,
    SimpleOneForOneError,
    StartChildError,
    Started,
    StartError,
    Stop,
    Strategy,
    Supervisor,
    SupervisorFlags,
    exit,  # noqa: A004
    gen_server,
    link,
    proc_lib,
    receive,
    self_pid,
    supervisor,
    sys,
    trap_exit,
    unlink,
)
from otp.supervision_answers import StartAnswer
from otp.testing import VirtualRuntime
from tests.otp.beam.beam import plain
from tests.otp.beam.scenarios import Scenario, Term

__all__ = ["Stage"]

# A slow stop must not move the clock of the restart window on, as it does not on the BEAM's side: its 20 ms are
# a microsecond here, and every step begins half a millisecond after a full one.
SLOW_S = 1e-6
PHASE_S = 0.0005
REFUSALS: dict[type[Exception], str] = {
    AlreadyPresentError: "already_present",
    NotFoundError: "not_found",
    ChildRunningError: "running",
    ChildRestartingError: "restarting",
    SimpleOneForOneError: "simple_one_for_one",
}


class Worker(GenServer[str]):
    """The worker of beam_supervision.erl."""

    def __init__(self, stage: Stage, name: str, body: Term, fate: Term) -> None:
        self.stage = stage
        self.name = name
        self.trap, self.stop = body[3:]
        self.fate = fate
        self.nth = 0

    def init(self) -> Any:
        refused = self.stage.refuse(self.name, self.fate)
        if refused is not None:
            return refused
        self.trap_exit(self.trap)
        self.nth = self.stage.born(self.name, self.pid)
        match self.fate:
            case ("kills", other):
                self.stage.kill(other)
            case ("helper", trap):
                helper = ("worker", "none", [], trap, "quick")
                gen_server.start_link(Worker(self.stage, f"{self.name}h", helper, "ok"))
            case ("then_exit", reason):
                return Ok("", Continue(reason))
        return ""

    def handle_call(self, request: Any, from_: Any, state: str) -> Any:
        if isinstance(request, Pid):
            self.pid.link(request)
        else:
            self.pid.unlink(self.parent())
        return Reply("ok", state)

    def handle_continue(self, term: Any, state: str) -> Any:
        self.stop = "quick"
        return Stop(term, state)

    def handle_cast(self, request: Any, state: str) -> Any:
        match request:
            case "raise":
                raise ValueError("boom")
            case ("fake", reason):
                exit(self.parent(), reason)
                return NoReply(state)
        if self.stop == "stubborn" or self.stop[0] == "kills":
            self.stop = "quick"
        return Stop(request[1], state)

    def handle_info(self, message: Any, state: str) -> Any:
        assert isinstance(message, Exit)
        self.stage.note("info", self.name, self.nth, self.stage.shown(message.reason))
        return NoReply(state)

    async def terminate(self, reason: Any, state: str) -> None:
        self.stage.note("terminate", self.name, self.nth, self.stage.shown(reason))
        match self.stop:
            case "stubborn" if reason == "shutdown":
                self.stage.stuck.add(self.pid)
                await self.runtime.loop.create_future()
            case "raise":
                raise ValueError("boom")
            case ("kills", other) if reason == "shutdown":
                self.stage.kill(other)
            case ("exit", instead):
                raise ExitError(instead)

    def parent(self) -> Pid:
        parent = self.pid.parent
        assert parent is not None
        return parent


class AsyncWorker(Worker):
    """The same, but others run during its init, as they do on the BEAM."""

    async def init(self) -> Any:
        await asyncio.sleep(0)
        return super().init()


class PlainWorker:
    """The worker of beam_supervision.erl that is no gen_server."""

    def __init__(self, stage: Stage, name: str, body: Term, fate: Term) -> None:
        self.stage = stage
        self.name = name
        _, _, _, self.trap, (_, self.deaf) = body
        self.fate = fate
        self.nth = 0
        self.parent = self_pid()

    async def run(self) -> None:
        refused = self.stage.refuse(self.name, self.fate)
        if isinstance(refused, Stop):
            raise ExitError(refused.reason)
        if refused is not None:
            proc_lib.init_ack(refused)
            return
        trap_exit(self.trap)
        self.nth = self.stage.born(self.name, self_pid())
        proc_lib.init_ack(self_pid())
        if self.fate[0] == "then_exit":
            raise ExitError(self.fate[1])
        while True:
            self.take(await receive())

    def take(self, message: Any) -> None:
        match message:
            case ("$gen_cast", "raise"):
                raise ValueError("boom")
            case ("$gen_cast", ("fake", reason)):
                exit(self.parent, reason)
            case ("$gen_cast", (_, reason)):
                raise ExitError(reason)
            case ("$gen_call", from_, request):
                partner = request if isinstance(request, Pid) else self.parent
                (link if partner is request else unlink)(partner)
                from_.reply("ok")
            case Exit(pid, reason) if pid is not self.parent:
                self.stage.note("info", self.name, self.nth, self.stage.shown(reason))
            case Exit(_, "shutdown") if self.deaf:
                self.stage.stuck.add(self_pid())
            case Exit(_, reason):
                raise ExitError(reason)


class TracedSupervisor(Supervisor):
    """Notes its own start."""

    def __init__(self, stage: Stage, name: str, body: Term, fate: Term) -> None:
        super().__init__()
        self.stage = stage
        self.name = name
        self.body = body
        self.fate = fate

    def init(self) -> Any:
        refused = self.stage.refuse(self.name, self.fate)
        if refused is not None:
            return refused
        self.stage.born(self.name, self_pid())
        if self.body[0] == "simple":
            return self.simple()
        _, _, _, strategy, intensity, period, auto, children = self.body
        flags = SupervisorFlags(
            strategy=Strategy(strategy),
            intensity=intensity,
            period_s=period,
            auto_shutdown=AutoShutdown(auto),
        )
        return flags, [self.stage.spec(child) for child in children]

    def simple(self) -> Any:
        _, _, _, intensity, period, (restart, shutdown) = self.body
        flags = SupervisorFlags(
            strategy=Strategy.SIMPLE_ONE_FOR_ONE, intensity=intensity, period_s=period
        )
        start = self.stage.start_child
        template = ChildSpec("t", start, restart=Restart(restart), shutdown_s=seconds(shutdown))
        return flags, [template]


class Stage:
    """One scenario on a virtual runtime; also the tracer."""

    def __init__(self) -> None:
        self.virtual = VirtualRuntime()
        self.now_ms = 0
        self.stuck: set[Pid] = set()
        self.root: Pid | None = None
        self.events: list[Term] = []
        self.attempts: dict[str, int] = {}
        self.latest: dict[str, tuple[int, Pid]] = {}
        self.names: dict[Pid, Term] = {}

    def play(self, scenario: Scenario) -> list[Any]:
        root, steps = scenario
        self.virtual.advance(PHASE_S)
        try:
            seen = [self.observed(self.start(root))]
            for step in steps:
                answer = self.burst(*step[1:]) if step[0] == "burst" else self.step(step)
                seen.append(self.observed(answer))
        finally:
            self.virtual.close()
        return seen

    def settle(self) -> None:
        self.virtual.run_until_idle()
        while self.stuck:
            self.virtual.advance(SLOW_S)

    def observed(self, answer: Term) -> Any:
        self.settle()
        events, self.events = self.events, []
        return plain([answer, events])

    def start(self, root: Term) -> Term:
        made = TracedSupervisor(self, root[1], root[5], "ok")
        try:
            name = None if root[5][1] == "none" else root[5][1]
            self.root = self.virtual.run(self.virtual.runtime.start_wait(made, name))
        except StartError as error:
            return ("error", self.shown(error.reason))
        return "started"

    def spec(self, child: Term) -> ChildSpec:
        _, name, restart, shutdown, significant, body = child
        return ChildSpec(
            name,
            self.start_child,
            restart=Restart(restart),
            shutdown_s=seconds(shutdown),
            type=ChildType.WORKER if body[0] == "worker" else ChildType.SUPERVISOR,
            significant=significant,
            args=(name, body),
        )

    def start_child(self, name: str, body: Term) -> Any:
        attempt = self.attempts[name] = self.attempts.get(name, 0) + 1
        fates = body[2]
        fate = fates[attempt - 1] if attempt <= len(fates) else "ok"
        if fate[0] != "start":
            return self.start_process(name, body, fate)
        if fate[1] == "info":
            started = self.start_process(name, body, "ok")
            return Started(started, "extra") if isinstance(started, Pid) else with_info(started)
        if fate[1] == "odd":
            self.note("fail", name)
            return "odd"
        if fate[1] != "ignore" and fate[1][0] == "error":
            self.note("fail", name)
            raise StartError(fate[1][1])
        return self.refuse(name, fate[1])

    def start_process(self, name: str, body: Term, fate: Term) -> Any:
        known_as = None if body[1] == "none" else body[1]
        if body[0] != "worker":
            made = TracedSupervisor(self, name, body, fate)
            return supervisor.start_link(made, name=known_as)
        if body[4][0] == "plain":
            return proc_lib.start_link(PlainWorker(self, name, body, fate).run)
        # Every other worker has an init that waits.
        kind = Worker if name[-1] in "02468" else AsyncWorker
        return gen_server.start_link(kind(self, name, body, fate), name=known_as)

    def refuse(self, name: str, fate: Term) -> Any:
        """Fail as `fate` wants it, or return what it wants to be returned."""
        if fate == "ignore":
            self.note("ignore", name)
            return Ignore()
        if fate in ("raise", "odd") or fate[0] in ("fail", "exit"):
            self.note("fail", name)
        match fate:
            case "odd":
                return "odd"
            case ("fail", reason):
                return Stop(reason)
            case ("exit", reason):
                raise ExitError(reason)
            case "raise":
                raise ValueError("boom")
        return None

    def step(self, step: Term) -> Term:
        match step:
            case ("pass", ms):
                self.now_ms += ms
                self.virtual.advance(self.now_ms / 1000 + PHASE_S - self.virtual.clock())
                return "ok"
            case ("stop", reason):
                return self.stop(reason)
            case ("kill", names):
                pids = [self.alive(name) for name in names]
                for pid in pids:
                    if pid is not None:
                        self.virtual.runtime.exit(pid, "kill")
                return ["dead" if pid is None else "ok" for pid in pids]
            case ("link", *names):
                pid, partner = map(self.alive, names)
                if pid is None or partner is None:
                    return "dead"
                return self.virtual.handle(pid).call(partner)
        what, name, term = step
        pid = self.alive(name)
        return "dead" if pid is None else self.act(what, pid, term)

    def burst(self, name: str, parts: list[Term]) -> Term:
        """Let the parts wait in the mailbox of a suspended supervisor, so that it finds them all at once."""
        pid = self.alive(name)
        if pid is None:
            return "dead"
        self.virtual.run(sys.suspend(pid))
        answers: list[Any] = []
        for part in parts:
            if part[0] == "call":
                answers.append(self.virtual.loop.create_task(self.manage(pid, part[1])))
            else:
                answers.append(self.step(part))
            self.settle()
        if pid.is_alive():
            self.virtual.run(sys.resume(pid))
        self.settle()
        return [each.result() if isinstance(each, asyncio.Task) else each for each in answers]

    def stop(self, reason: Term) -> Term:
        if self.root is None or not self.root.is_alive():
            return "dead"
        self.virtual.runtime.exit(self.root, reason)
        return "ok"

    def act(self, what: str, pid: Pid, term: Term) -> Term:
        match what:
            case "crash":
                pid.cast(("stop", term))
            case "raise":
                pid.cast("raise")
            case "unlink":
                return self.virtual.handle(pid).call("unlink")
            case "signal":
                self.virtual.runtime.exit(pid, term)
            case "fake":
                pid.cast(("fake", term))
            case "halt":
                return self.halt(pid, term)
            case "manage":
                return self.virtual.run(self.manage(pid, term))
        return "ok"

    def halt(self, pid: Pid, reason: Term) -> Term:
        try:
            self.virtual.run(gen_server.stop(pid, reason, None))
        except (CallError, ExitError):
            return "other"
        return "ok"

    async def manage(self, sup: Pid, call: Term) -> Term:
        try:
            return await self.ask(sup, call)
        except tuple(REFUSALS) as error:
            return REFUSALS[type(error)]
        except AlreadyStartedError as error:
            return ("already_started", self.who(error.pid))
        except StartChildError as error:
            return ("start_error", self.shown(error.reason))
        except ChildSpecError as error:
            word, pairs = error.fault  # type: ignore[misc]  # a bad_combination
            return (word, [(key, str(value).lower()) for key, value in pairs])
        except CallError as error:
            return ("exit", self.shown(error.cause))

    async def ask(self, sup: Pid, call: Term) -> Term:
        match call:
            case ("start_child", child):
                return self.started(await supervisor.start_child_with_info(sup, self.spec(child)))
            case ("restart_child", name):
                return self.started(await supervisor.restart_child_with_info(sup, name))
            case ("start_instance", *args):
                return self.started(await supervisor.start_child_with_info(sup, args))
            case ("get_childspec", name):
                spec = await supervisor.get_childspec(sup, name)
                kind = ChildType(spec.type).value
                stop = words(spec.shutdown_s)
                return ("spec", spec.restart.value, stop, kind, str(spec.significant).lower())
            case (_, name):
                await self.apply(sup, call[0], name)
                return "ok"
        return await self.look(sup, call)

    async def look(self, sup: Pid, call: Term) -> Term:
        if call == "which_children":
            infos = await supervisor.which_children(sup)
            return [
                (
                    info.id or "undefined",
                    "restarting" if info.restarting else self.who(info.pid),
                    info.type.value,
                )
                for info in infos
            ]
        counts = await supervisor.count_children(sup)
        return (counts.specs, counts.active, counts.supervisors, counts.workers)

    async def apply(self, sup: Pid, what: str, name: str) -> None:
        if what == "terminate_child":
            await supervisor.terminate_child(sup, name)
        elif what == "delete_child":
            await supervisor.delete_child(sup, name)
        else:
            known = self.latest.get(name)
            await supervisor.terminate_child(sup, name if known is None else known[1])

    def started(self, answer: StartAnswer) -> Term:
        info = () if answer.info is None else (answer.info,)
        return ("ok", self.who(answer.pid), *info)

    def who(self, pid: Any) -> Term:
        return "undefined" if pid is None else self.names.get(pid, "stranger")

    def shown(self, reason: Term) -> Term:
        """Leave the stack and the class of the supervisor out of a reason, and name the pids."""
        match reason:
            case Raised():
                return "raised"
            case ("bad_return", (_, "init", value)):
                return ("bad_return", value)
            case tuple():
                return tuple(map(self.shown, reason))
        return self.who(reason) if isinstance(reason, Pid) else reason

    def kill(self, name: str) -> None:
        pid = self.alive(name)
        if pid is not None:
            exit(pid, "kill")

    def alive(self, name: str) -> Pid | None:
        pid = self.latest[name][1] if name in self.latest else None
        return pid if pid is not None and pid.is_alive() else None

    def born(self, name: str, pid: Pid) -> int:
        nth = self.latest[name][0] + 1 if name in self.latest else 1
        self.latest[name] = (nth, pid)
        self.names[pid] = (name, nth)
        self.note("start", name, nth)
        pid.watch(self)
        return nth

    def ended(self, pid: Pid, reason: object) -> None:
        self.stuck.discard(pid)
        self.note("down", *self.names[pid], self.shown(reason))

    def note(self, *event: Term) -> None:
        self.events.append(event)


async def with_info(starting: Awaitable[Pid]) -> Started:
    """Add the info to what starts asynchronously."""
    return Started(await starting, "extra")


def seconds(shutdown: Term) -> Any:
    """Turn a shutdown into ours."""
    if shutdown == 20:
        return SLOW_S
    words = {"brutal_kill": BRUTAL_KILL, "infinity": INFINITY}
    return words[shutdown] if isinstance(shutdown, str) else shutdown / 1000


def words(shutdown_s: Any) -> Term:
    """Turn a shutdown into Erlang's."""
    if shutdown_s in (BRUTAL_KILL, INFINITY):
        return "infinity" if shutdown_s == INFINITY else "brutal_kill"
    return 20 if shutdown_s == SLOW_S else round(shutdown_s * 1000)
