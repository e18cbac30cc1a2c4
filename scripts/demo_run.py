"""The run itself: apply, submit from several clients, kill a pod, wait for every end, and judge.

Whatever changes something goes through the command line, in processes of their own, as operators would do it;
only the looking for progress is done over one kept connection, so as not to measure the start of a CLI.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from benchmarks.local_server import LocalServer, kill
from drivers.ledger import audit
from orchestration.client import Client, Target
from orchestration.records import ResourceRecord, UnitRecord
from scripts.demo_judge import Verdict, judge
from scripts.demo_libvirt import DomainWatch
from scripts.demo_story import Story
from scripts.demo_work import ON_DEMAND, RACE_UNITS, Unit, deal, jsonl

__all__ = ["DemoError", "Run"]

BATCH = 100  # units of one submit: small, so that the kill falls between many of them
KILL_AFTER = 0.4  # of the units
CLIENTS = 4
READY_S = 60
DONE_S = 90.0
LOOK_S = 0.05  # between two looks at the server
UNDER_WAY = frozenset({"pending", "dispatched", "executing", "in_doubt"})
AT_WORK = frozenset({"ready", "executing"})
ZONES = ("eu/a", "eu/b")


class DemoError(Exception):
    """The demo cannot go on; its text is the reason on the last line."""


class Run:
    """One run against one server; `watch` is libvirt's side of the story, None without libvirt."""

    def __init__(
        self, server: LocalServer, story: Story, watch: DomainWatch | None, total: int
    ) -> None:
        self._server = server
        self._story = story
        self._watch = watch
        self._total = total
        self._accepted: list[str] = []
        self._given_up = threading.Event()
        self._client = Client(Target(state=server.folder))

    def go(self, file: Path) -> tuple[Verdict, float]:
        """Do everything; return the verdict and the seconds from the kill to all resources ready.

        Raises:
            DemoError: something was not ready or not done in time.
            AssertionError: a command of the CLI failed.
        """
        resources = self._apply(file)
        machines = frozenset(r.path for r in resources if r.driver == "libvirt")
        paths = [resource.path for resource in resources]
        racer = max(path for path in paths if "/vm-" in path)
        paths.remove(racer)
        with ThreadPoolExecutor(CLIENTS) as clients:
            try:
                submitting = self._submit(clients, paths, racer)
                self._until(lambda: len(self._accepted) >= KILL_AFTER * self._total, "submitted")
                healed_s = self._kill("eu/a/rack-1" if machines else "eu/a/rack-2")
                for client in submitting:
                    client.result()
                self._until(self._all_finished, "finished")
            finally:
                self._given_up.set()
                self._client.close()
        return self._judge(machines), healed_s

    def _apply(self, file: Path) -> list[ResourceRecord]:
        self._story.tell(f"cloudctl apply examples/{file.name} --auto-approve --wait={READY_S}s")
        done = self._server.cli("apply", str(file), "--auto-approve", f"--wait={READY_S}s")
        self._story.quote(done.stderr)
        resources = self._resources()
        pods = {resource.path.rpartition("/")[0] for resource in resources}
        self._story.tell(f"{len(resources)} resources in {len(pods)} pods are ready")
        return resources

    def _submit(
        self, clients: ThreadPoolExecutor, paths: list[str], racer: str
    ) -> list[Future[None]]:
        """Two clients, one for each zone, and two that race for one machine."""
        self._story.tell(f"two clients submit {self._total - RACE_UNITS:,} units")
        self._story.tell(f"two more race: one creates {racer}, the other destroys it")
        at_once = threading.Barrier(RACE_UNITS)
        return [
            *(clients.submit(self._submit_all, units) for units in self._shares(paths)),
            *(clients.submit(self._race, at_once, racer, v) for v in ("create", "destroy")),
        ]

    def _shares(self, paths: list[str]) -> Iterable[list[Unit]]:
        total = self._total - RACE_UNITS
        for zone, share in zip(ZONES, (total - total // 2, total // 2), strict=True):
            on_demand = [f"{zone}/rack-2/vm-{number}" for number in range(ON_DEMAND)]
            mine = [path for path in paths if path.startswith(f"{zone}/")]
            yield deal(mine + (on_demand if zone == ZONES[0] else []), share, f"demo-{zone}")

    def _submit_all(self, units: list[Unit]) -> None:
        for start in range(0, len(units), BATCH):
            if self._given_up.is_set():
                return
            lines = jsonl(units[start : start + BATCH])
            self._accepted += self._server.cli(
                "submit", "work", "-f", "-", stdin=lines
            ).stdout.split()

    def _race(self, at_once: threading.Barrier, path: str, verb: str) -> None:
        at_once.wait(READY_S)
        self._accepted += self._server.cli("submit", "work", path, verb).stdout.split()

    def _kill(self, pod: str) -> float:
        victim = self._server.node("pod", pod)
        assert victim.pid is not None
        begun = time.monotonic()
        kill(victim.pid, signal.SIGKILL)
        self._story.tell(f"SIGKILL to pod {pod} (pid {victim.pid})")

        def healed() -> bool:
            replaced = any(
                node.name == pod and node.pid not in {None, victim.pid}
                for node in self._client.nodes()
            )
            return replaced and _present(self._client.status().resources) <= AT_WORK

        self._until(healed, "ready again")
        healed_s = time.monotonic() - begun
        self._story.tell(f"everything is ready again, {healed_s:.1f} s after the kill")
        return healed_s

    def _all_finished(self) -> bool:
        return not UNDER_WAY & _present(self._client.status().units)

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        begun = time.monotonic()
        while not holds():
            if time.monotonic() - begun > DONE_S:
                raise DemoError(f"not {what} within {DONE_S:.0f} s: {self._client.status()}")
            units = self._client.status().units
            done = sum(count for state, count in units.items() if state not in UNDER_WAY)
            self._story.progress(done, self._total)
            time.sleep(LOOK_S)

    def _judge(self, machines: frozenset[str]) -> Verdict:
        self._story.tell("every unit has come to its end; cloudctl verify")
        verified = self._server.cli("verify", check=False)
        self._story.quote(verified.stdout)
        lines = self._server.cli("get", "work", "-o", "jsonl").stdout.splitlines()
        units = [msgspec.json.decode(line, type=UnitRecord) for line in lines]
        ledger = audit(self._server.folder / "devices" / "ledger.jsonl")
        if self._watch is not None:
            self._watch.catch_up()
        verdict = judge(self._accepted, units, ledger, self._watch, machines)
        verdict.verified = "holds" if verified.returncode == 0 else "does NOT hold"
        if verified.returncode != 0:
            verdict.complaints.append(f"cloudctl verify: {verified.stderr.strip()}")
        if len(self._accepted) != self._total:
            verdict.complaints.append(f"{len(self._accepted)} of {self._total} were accepted")
        return verdict

    def _resources(self) -> list[ResourceRecord]:
        lines = self._server.cli("get", "resources", "-o", "jsonl").stdout.splitlines()
        return [msgspec.json.decode(line, type=ResourceRecord) for line in lines]


def _present(by_state: dict[str, int]) -> set[str]:
    return {state for state, count in by_state.items() if count}
