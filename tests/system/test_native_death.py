"""A third party's driver that takes its whole process along: no exception, no crash report, just an end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.local_server import LocalServer

DRIVER = """
import os

from drivers.contract import (
    Done, Driver, DriverInfo, Execution, Fence, Health, Idempotency, Observation, Settlement, VerbSpec,
)

ANY = VerbSpec(params={"type": "object"}, idempotency=Idempotency.NATURAL)


class Fragile(Driver):
    info = DriverInfo(
        name="fragile",
        kinds=frozenset({"*"}),
        execution=Execution.ASYNC,
        fence=Fence.LEASE,
        verbs={"set": ANY, "die": ANY},
    )

    async def open(self, deadline_s):
        pass

    async def close(self):
        pass

    async def probe(self):
        return Health.HEALTHY

    async def observe(self, ref, deadline_s):
        return Observation(exists=True)

    def plan(self, desired, observed):
        return []

    async def apply(self, ref, step, ctx):
        if step.verb == "die":
            os._exit(1)
        return Done(observed=Observation(exists=True))

    async def settle(self, ref, step, ctx):
        return Settlement.NOT_APPLIED
"""
FILE = """
[infrastructure]
name = "fragile"
[region.eu.zone.a.pod.p1]
driver = "fragile"
[region.eu.zone.a.pod.p1.resource."d-{1..2}"]
class = "host"
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    packages = tmp_path / "packages"
    info = packages / "fragile-1.0.dist-info"
    info.mkdir(parents=True)
    (packages / "fragile.py").write_text(DRIVER)
    (info / "METADATA").write_text("Name: fragile\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cloudctl.drivers]\nfragile = fragile:Fragile\n")
    (tmp_path / "infra.toml").write_text(FILE)
    running = LocalServer(tmp_path / "state")
    running.env["PYTHONPATH"] = str(packages)
    with running:
        running.cli("apply", str(tmp_path / "infra.toml"), "--auto-approve", "--wait=60")
        yield running


def submit(server: LocalServer, name: str, verb: str) -> str:
    spec = {"resource": f"eu/a/p1/{name}", "commands": [{"verb": verb, "params": {}}]}
    return server.cli("submit", "work", "-f", "-", stdin=json.dumps(spec) + "\n").stdout.strip()


def test_unit_that_ends_its_pods_process_is_quarantined_and_everything_else_goes_on(
    server: LocalServer,
) -> None:
    poison, behind = submit(server, "d-1", "die"), submit(server, "d-1", "set")
    beside = submit(server, "d-2", "set")

    def states() -> list[object]:
        found = {unit["id"]: unit["state"] for unit in server.ask("get", "work")}
        return [found[unit] for unit in (poison, behind, beside)]

    server.wait_for(
        "the poison is out of the way",
        lambda: states() == ["quarantined", "succeeded", "succeeded"],
        60,
    )

    (given_up,) = server.ask("get", "work", poison)
    assert str(given_up["reason"]).startswith("its pod died 5 times while it was executing")
    assert server.cli("verify").returncode == 0
