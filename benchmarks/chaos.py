"""Kill, stop and crash the processes of a server at random while units run, then count what was lost.

The judge is the devices' own ledger, not the server's journal: two commands that overlap on a device, an
effect applied twice, a command with an old epoch. `--seed` repeats the same choices. Exit status 0 only
if every accepted id ended exactly once, the ledger is clean and no process is left behind. Last line:
`chaos: ok kills=50 units=5000 lost=0 overlapping=0 replayed=0 stale=0 left_behind=0`.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec

from benchmarks.local_server import (
    LocalServer,
    ServerProcess,
    kill,
    marked_processes,
    process_state,
)
from drivers.ledger import audit

SIGNALS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV)
KINDS = ("pod", "zone", "root", "admin", "logger", "launcher", "orchestration", "serve")
GONE_WITHIN_S = 5.0
SLACK_S = 5.0  # for the machine: a bound that is generous on two busy cores

PODS = ("eu/a/p1", "eu/a/p2", "eu/b/p3", "eu/b/p4")
ZONE = """
[region.eu.zone.{}]
intensity = 1000
"""
POD = """
[region.eu.zone.{}.pod.{}]
driver = "simulated"
intensity = 1000
resource."d-{{01..25}}" = {{ class = "host", config = {{ latency = "500ms" }} }}
"""
FILE = "".join(
    ['[infrastructure]\nname = "chaos"\n', ZONE.format("a"), ZONE.format("b")]
    + [POD.format(*pod.split("/")[1:]) for pod in PODS]
)


class Submitter(threading.Thread):
    """Submits units in batches of 100, each with its own key, again and again until it has its ids."""

    def __init__(self, server: LocalServer, units: int, seed: int, pause_s: float) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.units = units
        self.random = random.Random(seed)
        self.pause_s = pause_s
        self.ids: list[str] = []
        self.stop = threading.Event()

    def run(self) -> None:
        for at in range(0, self.units, 100):
            lines = [json.dumps(self.unit(n)) for n in range(at, min(at + 100, self.units))]
            self.ids += self.submit("\n".join(lines) + "\n")
            if self.stop.wait(self.pause_s):
                return

    def unit(self, number: int) -> dict[str, object]:
        resource = f"{self.random.choice(PODS)}/d-{self.random.randint(1, 25):02}"
        commands = [
            {"verb": "set", "params": {"value": number * 10 + index}}
            for index in range(self.random.choice((1, 1, 1, 3)))
        ]
        return {
            "resource": resource,
            "commands": commands,
            "idempotency_key": f"chaos-{number}",
            "on_failure": {"strategy": "wait", "attempts": 0},
        }

    def submit(self, lines: str) -> list[str]:
        while not self.stop.is_set():
            try:
                done = self.server.cli("submit", "work", "-f", "-", stdin=lines, check=False)
            except subprocess.TimeoutExpired:
                continue
            if done.returncode == 0:
                return done.stdout.split()
            time.sleep(0.2)
        return []


class Chaos:
    """One run: what was done, and what came of it."""

    def __init__(self, server: LocalServer, seed: int, kinds: tuple[str, ...]) -> None:
        self.server = server
        self.random = random.Random(seed)
        self.kinds = kinds
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []

    def strike(self) -> None:
        """Hurt one process, then wait until it is well again or everything is gone."""
        kind = self.random.choice(self.kinds)
        number = self.random.choice(SIGNALS)
        victim = self.find(kind)
        if victim is None or victim.pid is None:
            self.done[f"{kind} not found"] += 1
            return
        self.done[f"{kind} {number.name}"] += 1
        print(f"  {number.name} {victim}", flush=True)
        kill(victim.pid, number)
        if kind == "serve":
            self.after_serve(number)
        else:
            self.until_gone(victim, number)

    def find(self, kind: str) -> ServerProcess | None:
        try:
            nodes = [n for n in self.server.nodes() if n.kind == kind and n.pid]
        except (AssertionError, subprocess.TimeoutExpired, json.JSONDecodeError):
            return None
        return self.random.choice(nodes) if nodes else None

    def until_gone(self, victim: ServerProcess, number: signal.Signals) -> None:
        assert victim.pid is not None
        begin = time.monotonic()
        while process_state(victim.pid) not in ("", "Z"):
            if time.monotonic() - begin > GONE_WITHIN_S + SLACK_S:
                self.problems.append(f"{victim} still there {GONE_WITHIN_S} s after {number.name}")
                kill(victim.pid, signal.SIGKILL)
            time.sleep(0.05)

    def after_serve(self, number: signal.Signals) -> None:
        """The parent takes everything with it, a stopped one too; it is started again."""
        begin = time.monotonic()
        while left := marked_processes(self.server.mark):
            if time.monotonic() - begin > GONE_WITHIN_S + SLACK_S:
                left = [p for p in left if not _is_cli(p)]
                if left:
                    self.problems.append(f"left behind after {number.name} of serve: {left}")
                break
            time.sleep(0.05)
        started = self.server.cli("server", "start", check=False)
        if started.returncode != 0:
            self.problems.append(f"did not start again: {started.stderr}")


def _is_cli(pid: int) -> bool:
    try:
        return b"cli.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True


def unfinished(server: LocalServer) -> int:
    """Units that are not in a terminal state."""
    states = server.states()
    return sum(states.get(s, 0) for s in ("pending", "dispatched", "executing", "in_doubt"))


def run(options: argparse.Namespace) -> int:
    """Do one chaos run and print its result."""
    seed = options.seed if options.seed is not None else random.randrange(1 << 32)
    print(f"chaos: seed {seed}", flush=True)
    with LocalServer() as server:
        path = server.folder / "chaos.toml"
        path.write_text(FILE)
        server.cli("apply", str(path), "--auto-approve", "--wait=60")
        creates = [
            json.dumps({"resource": f"{pod}/d-{n:02}", "commands": [{"verb": "create"}]})
            for pod in PODS
            for n in range(1, 26)
        ]
        server.cli("submit", "work", "-f", "-", "--wait=60", stdin="\n".join(creates) + "\n")
        chaos = Chaos(server, seed, tuple(options.kinds.split(",")))
        pause = options.kills * options.every / max(options.units / 100, 1)
        submitter = Submitter(server, options.units, seed, min(pause, 5.0))
        submitter.start()
        for _ in range(options.kills):
            time.sleep(chaos.random.uniform(0.3, options.every))
            chaos.strike()
        submitter.join(options.units / 10 + 120)
        submitter.stop.set()
        server.wait_for("all units ended", lambda: unfinished(server) == 0, options.timeout)
        return judge(server, chaos, submitter, options)


def judge(
    server: LocalServer, chaos: Chaos, submitter: Submitter, options: argparse.Namespace
) -> int:
    """Compare what was accepted with the journal, the ledger and the process table."""
    units = server.ask("get", "work")
    units = [unit for unit in units if unit["id"] in set(submitter.ids)]
    outcomes = Counter(str(unit["state"]) for unit in units)
    lost = len(submitter.ids) - sum(outcomes.values())
    distinct = len(set(submitter.ids))
    verified = server.cli("verify", check=False)
    ledger = audit(server.folder / "devices" / "ledger.jsonl")
    short = [u["id"] for u in units if ledger.applied.get(str(u["id"]), 0) != _commands(u)]
    server.cli("server", "stop", check=False)
    time.sleep(0.5)
    left = marked_processes(server.mark)
    for line in sorted(chaos.done.items()):
        print("  ", *line)
    print("  outcomes", dict(outcomes), "ids", len(submitter.ids), "distinct", distinct)
    print("  ledger", {**msgspec.structs.asdict(ledger), "applied": len(ledger.applied)})
    problems = [
        *chaos.problems,
        *(
            text
            for wrong, text in (
                (
                    distinct != options.units or lost,
                    f"{options.units} units, {distinct} distinct ids",
                ),
                (outcomes["succeeded"] != options.units, f"not all succeeded: {dict(outcomes)}"),
                (
                    short,
                    f"{len(short)} units whose commands are not all at the device: {short[:5]}",
                ),
                (not ledger.sound, "the ledger is not clean"),
                (verified.returncode, f"verify: {verified.stdout}{verified.stderr}"),
                (left, f"left behind: {left}"),
            )
            if wrong
        ),
    ]
    for problem in problems:
        print("  problem:", problem)
    print(
        f"chaos: {'FAILED' if problems else 'ok'} kills={options.kills} units={options.units}"
        f" lost={lost} overlapping={ledger.overlapping} replayed={ledger.replayed}"
        f" stale={ledger.stale_applied} left_behind={len(left)}"
    )
    return 1 if problems else 0


def _commands(unit: dict[str, object]) -> int:
    commands = unit["commands"]
    assert isinstance(commands, list)
    return len(commands)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--units", type=int, default=5000)
    parser.add_argument("--every", type=float, default=2.0, help="longest pause between kills, s")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--timeout", type=float, default=300.0)
    sys.exit(run(parser.parse_args()))


if __name__ == "__main__":
    main()
