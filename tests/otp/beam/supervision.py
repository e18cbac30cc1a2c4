"""Random scenarios of supervision, run on the BEAM and on us: the same starts, stops, reasons and answers.

By hand: python -m tests.otp.beam.supervision --scenarios 5000 --seed 7
`scenarios` makes them; `beam_supervision.erl` is the same as the stage here.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from dataclasses import dataclass
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
    StartError,
    Stop,
    Strategy,
    Supervisor,
    SupervisorFlags,
    gen_server,
    self_pid,
    supervisor,
)
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

    def __init__(self, stage: Stage, name: str, body: Term) -> None:
        self.stage = stage
        self.name = name
        _, self.fates, self.trap, self.stop = body
        self.nth = 0

    def init(self) -> Any:
        attempt = self.stage.attempts[self.name] = self.stage.attempts.get(self.name, 0) + 1
        fate = self.fates[attempt - 1] if attempt <= len(self.fates) else "ok"
        match fate:
            case "ignore":
                self.stage.note("ignore", self.name)
                return Ignore()
            case ("fail", reason):
                self.stage.note("fail", self.name)
                return Stop(reason)
            case "raise":
                self.stage.note("fail", self.name)
                raise ValueError("boom")
        self.trap_exit(self.trap)
        self.nth = self.stage.born(self.name, self.pid)
        return Ok("", Continue(fate[1])) if fate != "ok" else ""

    def handle_call(self, request: Any, from_: Any, state: str) -> Any:
        parent = self.pid.parent
        assert parent is not None
        self.pid.unlink(parent)
        return Reply("ok", state)

    def handle_continue(self, term: Any, state: str) -> Any:
        self.stop = "quick"
        return Stop(term, state)

    def handle_cast(self, request: Any, state: str) -> Any:
        if request == "raise":
            raise ValueError("boom")
        if self.stop == "stubborn":
            self.stop = "quick"
        return Stop(request[1], state)

    def handle_info(self, message: Any, state: str) -> Any:
        assert isinstance(message, Exit)
        self.stage.note("info", self.name, self.nth, shown(message.reason))
        return NoReply(state)

    async def terminate(self, reason: Any, state: str) -> None:
        self.stage.note("terminate", self.name, self.nth, shown(reason))
        if self.stop == "stubborn" and reason == "shutdown":
            self.stage.stuck.add(self.pid)
            await self.runtime.loop.create_future()
        elif isinstance(self.stop, tuple):
            raise ExitError(self.stop[1])


class TracedSupervisor(Supervisor):
    """Notes its own start."""

    def __init__(self, stage: Stage, name: str, body: Term) -> None:
        super().__init__()
        self.stage = stage
        self.name = name
        self.body = body

    def init(self) -> Any:
        self.stage.born(self.name, self_pid())
        if self.body[0] == "simple":
            return self.simple()
        _, strategy, intensity, period, auto, children = self.body
        flags = SupervisorFlags(
            strategy=Strategy(strategy),
            intensity=intensity,
            period_s=period,
            auto_shutdown=AutoShutdown(auto),
        )
        return flags, [self.stage.spec(child) for child in children]

    def simple(self) -> Any:
        _, intensity, period, (restart, shutdown) = self.body
        flags = SupervisorFlags(
            strategy=Strategy.SIMPLE_ONE_FOR_ONE, intensity=intensity, period_s=period
        )

        def start(name: str, body: Term) -> Pid:
            return gen_server.start_link(Worker(self.stage, name, body))

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
            seen.extend(self.observed(self.step(step)) for step in steps)
        finally:
            self.virtual.close()
        return seen

    def observed(self, answer: Term) -> Any:
        self.virtual.run_until_idle()
        while self.stuck:
            self.virtual.advance(SLOW_S)
        events, self.events = self.events, []
        return plain([answer, events])

    def start(self, root: Term) -> Term:
        made = TracedSupervisor(self, root[1], root[5])
        try:
            self.root = self.virtual.run(self.virtual.runtime.start_wait(made))
        except StartError as error:
            return ("error", shown(error.reason))
        return "started"

    def spec(self, child: Term) -> ChildSpec:
        _, name, restart, shutdown, significant, body = child

        def start() -> Pid:
            if body[0] == "sup":
                return supervisor.start_link(TracedSupervisor(self, name, body))
            return gen_server.start_link(Worker(self, name, body))

        return ChildSpec(
            name,
            start,
            restart=Restart(restart),
            shutdown_s=seconds(shutdown),
            type=ChildType.SUPERVISOR if body[0] == "sup" else ChildType.WORKER,
            significant=significant,
        )

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
        what, name, term = step
        pid = self.alive(name)
        return "dead" if pid is None else self.act(what, pid, term)

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
            case "manage":
                return self.virtual.run(self.manage(pid, term))
        return "ok"

    async def manage(self, sup: Pid, call: Term) -> Term:
        try:
            return await self.ask(sup, call)
        except tuple(REFUSALS) as error:
            return REFUSALS[type(error)]
        except AlreadyStartedError as error:
            return ("already_started", self.names[error.pid])
        except StartChildError as error:
            return ("start_error", shown(error.reason))
        except CallError as error:
            return ("exit", shown(error.cause))

    async def ask(self, sup: Pid, call: Term) -> Term:
        match call:
            case ("start_child", child):
                return ("ok", self.who(await supervisor.start_child(sup, self.spec(child))))
            case ("restart_child", name):
                return ("ok", self.who(await supervisor.restart_child(sup, name)))
            case ("start_instance", name, body):
                return ("ok", self.who(await supervisor.start_child(sup, [name, body])))
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

    def who(self, pid: Pid | None) -> Term:
        return "undefined" if pid is None else self.names[pid]

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
        self.note("down", *self.names[pid], shown(reason))

    def note(self, *event: Term) -> None:
        self.events.append(event)


def seconds(shutdown: Term) -> Any:
    """Turn a shutdown into ours."""
    if shutdown == 20:
        return SLOW_S
    words = {"brutal_kill": BRUTAL_KILL, "infinity": INFINITY}
    return words[shutdown] if isinstance(shutdown, str) else shutdown / 1000


def shown(reason: Term) -> Term:
    """Leave the stack out of a reason."""
    if isinstance(reason, Raised):
        return "raised"
    return tuple(map(shown, reason)) if isinstance(reason, tuple) else reason


# Comparing.


def comparable(scenario: Scenario, seen: list[Any]) -> list[Any]:
    """Leave out what OTP does not promise: the order among the children of a killed or simple supervisor."""
    simple = scenario[0][5][0] == "simple"
    supervisors = set(supervisors_of(scenario[0]))
    result = []
    for step, (answer, observed) in zip([("start",), *scenario[1]], seen, strict=True):
        events = observed
        listed = simple and step[-1] == "which_children" and answer != "dead"
        if simple or (step[0] == "kill" and supervisors.intersection(step[1])):
            starts = [event for event in events if event[0] == "start"]
            others = sorted((event for event in events if event[0] != "start"), key=repr)
            events = starts + others
        result.append([sorted(answer, key=repr) if listed else answer, events])
    return result


def supervisors_of(child: Term) -> list[str]:
    if child[5][0] != "sup":
        return ["root"] if child[5][0] == "simple" else []
    return [child[1], *(name for inner in child[5][5] for name in supervisors_of(inner))]


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
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
