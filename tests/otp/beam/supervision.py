"""Random scenarios of supervision, run on the BEAM and on us: the same starts, stops, reasons and answers.

By hand: python -m tests.otp.beam.supervision --scenarios 5000 --seed 7
`scenarios` makes them; `beam_supervision.erl` is the same as the stage here.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
from collections.abc import Awaitable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
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
from tests.otp.beam.beam import ask_beam, plain
from tests.otp.beam.scenarios import Scenario, Term, generate

__all__ = ["Compared", "compare"]

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


async def plain_worker(stage: Stage, name: str, body: Term, fate: Term, parent: Pid) -> None:
    """Run the worker of beam_supervision.erl that is no gen_server."""
    refused = stage.refuse(name, fate)
    if isinstance(refused, Stop):
        raise ExitError(refused.reason)
    if refused is not None:
        proc_lib.init_ack(refused)
        return
    _, _, _, trap, (_, deaf) = body
    trap_exit(trap)
    nth = stage.born(name, self_pid())
    proc_lib.init_ack(self_pid())
    if fate[0] == "then_exit":
        raise ExitError(fate[1])
    while True:
        match await receive():
            case ("$gen_cast", ("stop", reason)):
                raise ExitError(reason)
            case ("$gen_cast", "raise"):
                raise ValueError("boom")
            case ("$gen_cast", ("fake", reason)):
                exit(parent, reason)
            case ("$gen_call", from_, request):
                partner = request if isinstance(request, Pid) else parent
                (link if partner is request else unlink)(partner)
                from_.reply("ok")
            case Exit(pid, "shutdown") if pid is parent and deaf:
                stage.stuck.add(self_pid())
            case Exit(pid, reason) if pid is parent:
                raise ExitError(reason)
            case Exit(_, reason):
                stage.note("info", name, nth, stage.shown(reason))


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
            return proc_lib.start_link(plain_worker, self, name, body, fate, self_pid())
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
            self.virtual.run_until_idle()
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
                try:
                    self.virtual.run(gen_server.stop(pid, term, None))
                except (CallError, ExitError):
                    return "other"
            case "manage":
                return self.virtual.run(self.manage(pid, term))
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
            case "which_children":
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


# Comparing.


def comparable(scenario: Scenario, seen: list[Any]) -> list[Any]:
    """Leave out what OTP does not promise: the order among those that a killed or simple supervisor leaves behind."""
    root, steps = scenario
    supervisors = {child[1]: child for child in supervisors_of(root)}
    simple = {name for name, child in supervisors.items() if child[5][0] == "simple"}
    brutal = any(child[3] == "brutal_kill" for child in supervisors.values())
    violent = "kills" in repr(scenario)
    stormy = any(step[0] == "burst" for step in steps)
    linked = any(step[0] == "link" for step in steps)
    linked = linked or "helper" in repr(root)
    free = simple or brutal or linked or any(step[0] == "fake" for step in steps)
    result = []
    for step, (answer, observed) in zip([("start",), *steps], seen, strict=True):
        # A partner that traps exits may be killed by its supervisor before or after it has taken the exit signal.
        events = [event for event in observed if not (linked and event[0] == "info")]
        if free or (step[0] == "kill" and supervisors.keys() & step[1]):
            starts = [event for event in events if event[0] == "start"]
            others = sorted((event for event in events if event[0] != "start"), key=repr)
            events = starts + others
        elif violent:
            # The victim of a child that is about to end itself: either may be gone first.
            events = [
                event
                for down, run in groupby(events, lambda event: event[0] == "down")
                for event in (sorted(run, key=repr) if down else run)
            ]
        shown = answer
        if step[0] == "manage" and step[1] in simple:
            shown = listing(answer, stormy=stormy)
        elif step[0] == "burst" and step[1] in simple and answer != "dead":
            shown = [listing(part, stormy=stormy) for part in answer]
        result.append([shown, events])
    return result


def listing(answer: Any, *, stormy: bool) -> Any:
    """Sort what which_children answered, and cut what count_children answered; other answers stay."""
    if isinstance(answer, list) and all(isinstance(entry, list) for entry in answer):
        return sorted(answer, key=repr)
    if stormy and isinstance(answer, list) and isinstance(answer[0], int):
        # For OTP 25 a child that was terminated while it was being restarted is one active child less, for ever.
        return [answer[0], *answer[2:]]
    return answer


def supervisors_of(child: Term) -> list[Term]:
    body = child[5]
    if body[0] == "worker":
        return []
    inside = body[7] if body[0] == "sup" else []
    return [child, *(found for inner in inside for found in supervisors_of(inner))]


@dataclass
class Compared:
    """What the BEAM saw in each scenario, and the scenarios where we saw something else."""

    seen: list[Any]
    differing: list[
        tuple[Scenario, int, Any, Any]
    ]  # scenario, step, what the BEAM saw there, what we saw


def compare(scenarios: list[Scenario], folder: Path) -> Compared:
    """Run all on both."""
    compared = Compared([], [])
    theirs = ask_beam("beam_supervision", scenarios, folder)
    for scenario, beam in zip(scenarios, theirs, strict=True):
        beam_seen = comparable(scenario, beam)
        our_seen = comparable(scenario, Stage().play(scenario))
        compared.seen.append(beam_seen)
        for index, (want, got) in enumerate(zip(beam_seen, our_seen, strict=True)):
            if want != got:
                compared.differing.append((scenario, index, want, got))
                break
    return compared


def shrink(scenario: Scenario, folder: Path) -> tuple[Scenario, int, Any, Any]:
    """Drop steps as long as both still differ."""
    smallest = compare([scenario], folder).differing[0]
    while True:
        (root, steps), index = smallest[:2]
        steps = steps[: max(index, 1)]
        fewer = [(root, steps[:drop] + steps[drop + 1 :]) for drop in range(len(steps))]
        found = compare([(root, steps), *fewer], folder).differing
        smaller = [entry for entry in found if len(entry[0][1]) < len(steps)]
        if not smaller:
            return found[0] if found else smallest
        smallest = smaller[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenarios", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--show", type=int, default=3, help="how many differences to shrink and show"
    )
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = compare(generate(options.scenarios, options.seed), folder).differing
        for entry in found[: options.show]:
            (root, steps), index, want, got = shrink(entry[0], folder)
            print(f"root {root}")
            for number, step in enumerate(steps, 1):
                print(f"  {number}: {step}")
            print(f"step {index}:\n  BEAM {want}\n  ours {got}\n")
    print(f"{options.scenarios} scenarios, {len(found)} differ")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
