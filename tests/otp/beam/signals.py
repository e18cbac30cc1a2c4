"""Random scripts of links, monitors, exit signals and names, run on the BEAM and on us.

By hand: python -m tests.otp.beam.signals --scripts 5000 --seed 7
A script is a term: how many processes, and the steps, each a process and what it does without a pause.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import otp
from otp import Down, Exit, ExitError, NameTakenError, NoProcessError, Pid, Raised, Ref
from otp.testing import VirtualRuntime
from tests.otp.beam.beam import ask_beam, plain

__all__ = ["Compared", "compare", "generate"]

Term = Any
Script = tuple[int, list[Term]]
REASONS: list[Term] = ["normal", "kill", "killed", "shutdown", ("shutdown", 1), "noproc", "oops"]
NAMES = ["ann", "bob"]


class Generator:
    """Makes one script."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.number = random.randint(2, 6)
        self.keys = 0

    def script(self) -> Script:
        first = self.number
        trapping = [
            (index, [("trap", True)]) for index in range(first) if self.random.random() < 0.5
        ]
        return first, trapping + [self.step() for _ in range(self.random.randint(6, 24))]

    def step(self) -> Term:
        me = self.random.randrange(self.number)
        ops = [self.op(me) for _ in range(self.random.choice([1, 1, 2, 4]))]
        return (me, _in_one_go(ops))

    def op(self, me: int) -> Term:
        pick = self.random
        other = pick.choice([me, *range(self.number), *range(self.number)])
        makers: list[tuple[float, Any]] = [
            (6, lambda: ("link", other)),
            (2, lambda: ("unlink", other)),
            (4, lambda: ("monitor", other, self.key())),
            (1, lambda: ("monitor_name", pick.choice(NAMES), self.key())),
            (2, lambda: ("demonitor", self.old_key(), pick.random() < 0.5)),
            (1, lambda: ("trap", pick.random() < 0.5)),
            (4, lambda: ("exit", other, pick.choice(REASONS))),
            (1.5, lambda: ("die", pick.choice(REASONS))),
            (0.5, lambda: "raise"),
            (1, lambda: ("alive", other)),
            (2, lambda: ("register", pick.choice(NAMES), other)),
            (0.5, lambda: ("unregister", pick.choice(NAMES))),
            (1, lambda: ("whereis", pick.choice(NAMES))),
            (1, lambda: ("send", other, "hello")),
            (1, lambda: ("send_name", pick.choice(NAMES), "hello")),
            (0.7, self.spawn),
            (1, lambda: "links"),
            (1, lambda: "monitors"),
            (0.5, lambda: "flush"),
        ]
        weights, ops = zip(*makers, strict=True)
        return pick.choices(ops, weights)[0]()

    def key(self) -> int:
        self.keys += 1
        return self.keys

    def old_key(self) -> int:
        return self.random.randint(max(1, self.keys - 3), max(1, self.keys))

    def spawn(self) -> Term:
        self.number += 1
        return ("spawn_link", self.number - 1)


def _in_one_go(ops: list[Term]) -> list[Term]:
    # The BEAM sets links and monitors up by signals: right after one, or after an exit, it may still show the old
    # state. And what an exit brings back to its sender comes while that one still runs, or later.
    kept: list[Term] = []
    for op in ops:
        what = op if isinstance(op, str) else op[0]
        alone = what in {"links", "monitors", "link", "spawn_link"}
        early = what == "flush" or (what == "demonitor" and not op[2])
        last = kept[-1] if kept else ("none",)
        after_exit = last[0] == "exit" and op != ("alive", last[1])
        if ((alone or early) and kept) or after_exit:
            break
        kept.append(op)
        if alone:
            break
    return kept


def generate(number: int, seed: int) -> list[Script]:
    """Make scripts; the same for the same seed."""
    return [Generator(Random(f"{seed}/{index}")).script() for index in range(number)]


class Stage:
    """One script on a virtual runtime; also the tracer."""

    def __init__(self) -> None:
        self.virtual = VirtualRuntime()
        self.pids: dict[int, Pid] = {}
        self.numbers: dict[Pid, int] = {}
        self.refs: dict[tuple[Pid, int], Ref] = {}
        self.events: list[Term] = []

    def play(self, script: Script) -> list[Any]:
        number, steps = script
        try:
            for index in range(number):
                self.born(index, self.virtual.runtime.spawn(self.body, index))
            return [self.step(step) for step in steps]
        finally:
            self.virtual.close()

    def step(self, step: Term) -> Any:
        actor, ops = step
        self.events = []
        if actor in self.pids:  # else its maker died before it could spawn it
            self.pids[actor].send(("do", ops))
        self.virtual.run_until_idle()
        return plain(self.events)

    def born(self, index: int, pid: Pid) -> None:
        self.pids[index] = pid
        self.numbers[pid] = index
        pid.watch(self)

    def ended(self, pid: Pid, reason: object) -> None:
        self.events.append(("dead", self.numbers[pid], shown(reason)))

    async def body(self, me: int) -> None:
        while True:
            message = await otp.receive()
            if isinstance(message, tuple) and message[0] == "do":
                for op in message[1]:
                    self.events.append(("did", me, await self.done(me, op)))
            else:
                self.got(me, message)

    def got(self, me: int, message: Term) -> None:
        match message:
            case Exit(pid, reason):
                assert pid is not None
                told: Term = ("exit", self.numbers[pid], shown(reason))
            case Down(ref, target, reason):
                keys = [key for (_, key), known in self.refs.items() if known is ref]
                whom = self.numbers[target] if isinstance(target, Pid) else target
                told = ("down", keys[0], whom, shown(reason))
            case _:
                told = ("message", message)
        self.events.append(("got", me, told))

    async def done(self, me: int, op: Term) -> Term:
        try:
            if op == "flush":
                return await self.flush(me)
            if isinstance(op, str):
                return self.about(me, op)
            if op[0] in {"register", "unregister", "whereis", "send_name", "monitor_name"}:
                return self.named(me, *op)
            return self.do(me, *op)
        except (NameTakenError, KeyError):
            return "badarg"
        except NoProcessError:
            return "badarg" if op[0] == "send_name" else "noproc"

    async def flush(self, me: int) -> Term:
        while True:
            try:
                self.got(me, await otp.receive(_is_no_command, timeout_s=0))
            except otp.ReceiveTimeoutError:
                return "ok"

    def about(self, me: int, op: str) -> Term:
        match op:
            case "raise":
                raise ValueError("boom")
            case "links":
                return sorted(self.numbers[pid] for pid in self.pids[me].linked())
            case _:
                return len(self.pids[me].monitoring())

    def named(self, me: int, what: str, name: str, arg: Term = None) -> Term:
        match what:
            case "register":
                otp.register(name, self.pids[arg])
            case "unregister":
                otp.unregister(name)
            case "whereis":
                pid = otp.whereis(name)
                return "undefined" if pid is None else self.numbers[pid]
            case "send_name":
                otp.send(name, arg)
            case _:
                self.refs[self.pids[me], arg] = otp.monitor(name)
        return "ok"

    def do(self, me: int, what: str, arg: Term, more: Term = None) -> Term:  # noqa: C901 - a table
        mine = self.pids[me]
        match what:
            case "trap":
                otp.trap_exit(arg)
            case "link":
                otp.link(self.pids[arg])
            case "unlink":
                otp.unlink(self.pids[arg])
            case "monitor":
                self.refs[mine, more] = otp.monitor(self.pids[arg])
            case "demonitor":
                ref = self.refs.get((mine, arg))
                if ref is None:
                    return "none"
                otp.demonitor(ref, flush=more)
            case "exit":
                otp.exit(self.pids[arg], more)
            case "die":
                raise ExitError(arg)
            case "alive":
                return "true" if self.pids[arg].is_alive() else "false"
            case "send":
                otp.send(self.pids[arg], more)
            case _:
                self.born(arg, otp.spawn_link(self.body, arg))
        return "ok"


def _is_no_command(message: Term) -> bool:
    return not (isinstance(message, tuple) and message[0] == "do")


def shown(reason: Term) -> Term:
    """Leave the stack out of a reason."""
    if isinstance(reason, Raised):
        return "raised"
    return tuple(map(shown, reason)) if isinstance(reason, tuple) else reason


@dataclass
class Compared:
    """What the BEAM saw in each script, and the scripts where we saw something else."""

    seen: list[Any]
    differing: list[
        tuple[Script, int, Any, Any]
    ]  # script, step, what the BEAM saw there, what we saw


def compare(scripts: list[Script], folder: Path) -> Compared:
    """Run all on both."""
    compared = Compared([], [])
    theirs = ask_beam("beam_signals", scripts, folder)
    for script, beam in zip(scripts, theirs, strict=True):
        compared.seen.append(beam)
        for index, (want, got) in enumerate(zip(beam, Stage().play(script), strict=True)):
            if comparable(want) != comparable(got):
                compared.differing.append((script, index, comparable(want), comparable(got)))
                break
    return compared


def comparable(events: list[Any]) -> list[Any]:
    """Order what several processes saw; what one did stays in order, and comes last.

    How far one that died in this step still got is left out: it was cut off somewhere.
    """
    dead = {event[1] for event in events if event[0] == "dead"}
    kept = [event for event in events if event[0] == "dead" or event[1] not in dead]
    did = [event for event in kept if event[0] == "did"]
    return sorted((event for event in kept if event[0] != "did"), key=repr) + did


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scripts", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=3, help="how many differences to show")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as name:
        found = compare(generate(options.scripts, options.seed), Path(name)).differing
    for (number, steps), index, want, got in found[: options.show]:
        print(f"{number} processes")
        for position, step in enumerate(steps[: index + 1]):
            print(f"  {position}: {step}")
        print(f"step {index}:\n  BEAM {want}\n  ours {got}\n")
    print(f"{options.scripts} scripts, {len(found)} differ")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
