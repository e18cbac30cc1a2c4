"""The command line against the real server: every process is real, the devices are simulated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

TOML = """
[infrastructure]
name = "acme"
[region.eu.zone.a.pod.rack-1]
driver = "simulated"
[region.eu.zone.a.pod.rack-1.resource."vm-{1..5}"]
class = "vm"
"""


class Shell:
    """Runs `cloudctl` for one state folder."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def command(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "cli", "--state-dir", str(self.state), *map(str, words)]

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def nodes(self) -> dict[str, int]:
        items = json.loads(self.run("get", "nodes", "-o", "json").stdout)["items"]
        return {item["name"]: item["pid"] for item in items}


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""  # a zombie has none
    except OSError:
        return False


@pytest.fixture
def shell() -> Iterator[Shell]:
    with tempfile.TemporaryDirectory() as folder:
        shell = Shell(Path(folder) / "state")
        yield shell
        shell.run("server", "stop")


@pytest.fixture
def infra(tmp_path: Path) -> Path:
    file = tmp_path / "infra.toml"
    file.write_text(TOML)
    return file


def test_apply_starts_a_server_and_work_runs_to_its_end(shell, infra):
    applied = shell.run("apply", infra, "--auto-approve", "--wait=60s")
    worked = shell.run("submit", "work", "eu/a/rack-1/vm-1", "create", "memory=1GiB", "--wait=30s")
    verified = shell.run("verify")
    nodes = shell.nodes()
    stopped = shell.run("server", "stop")

    assert (applied.returncode, applied.stderr.count("starting one in the background")) == (0, 1)
    assert (worked.returncode, len(worked.stdout.splitlines())) == (0, 1)
    assert verified.returncode == 0
    assert {"serve", "orchestration", "root", "eu/a", "eu/a/rack-1"} <= set(nodes)
    assert stopped.returncode == 0
    assert [name for name, pid in nodes.items() if is_running(pid)] == []


def test_bulk_submit_survives_a_kill_of_the_orchestration_node(shell, infra, tmp_path):
    shell.run("apply", infra, "-y")
    file = tmp_path / "work.jsonl"
    unit = '{"resource":"eu/a/rack-1/vm-%d","commands":[{"verb":"noop"}]}\n'
    file.write_text("".join(unit % (number % 5 + 1) for number in range(20_000)))
    with subprocess.Popen(
        shell.command("submit", "work", "-f", file), stdout=subprocess.PIPE, text=True
    ) as submit:
        assert submit.stdout is not None
        first = submit.stdout.readline()
        os.kill(shell.nodes()["orchestration"], signal.SIGKILL)
        ids = [first, *submit.stdout]

    assert submit.returncode == 0
    assert len(set(ids)) == len(ids) == 20_000
    status = json.loads(shell.run("server", "status", "-o", "json").stdout)["status"]
    assert sum(status["units"].values()) == 20_000


def test_second_server_is_refused_and_the_first_goes_on(shell, infra):
    shell.run("server", "start")
    pid = shell.nodes()["serve"]
    second = shell.run("serve")

    assert second.returncode == 1
    assert f"pid {pid}" in second.stderr
    assert shell.nodes()["serve"] == pid


def test_follower_of_events_outlives_a_restart_of_the_node(shell, infra):
    shell.run("apply", infra, "-y")
    follow = shell.command("events", "-f", "--after", "0", "-o", "jsonl")
    with subprocess.Popen(follow, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = [json.loads(process.stdout.readline())["seq"]]
        os.kill(shell.nodes()["orchestration"], signal.SIGKILL)
        shell.run("submit", "work", "eu/a/rack-1/vm-1", "noop", "--wait=30s")
        deadline = time.monotonic() + 30
        ended = False
        while not ended and time.monotonic() < deadline:
            event = json.loads(process.stdout.readline())
            seen.append(event["seq"])
            ended = event["kind"] == "unit.succeeded"
        process.send_signal(signal.SIGINT)

    assert ended
    assert seen == list(range(1, len(seen) + 1))


def test_serve_takes_no_module_from_the_folder_it_is_started_in(shell, infra, tmp_path):
    for module in ("config", "otp", "drivers"):
        (tmp_path / f"{module}.py").write_text('raise SystemExit("a stranger was imported")')
    command = [Path(sys.executable).with_name("cloudctl"), "serve", "--state-dir", shell.state]

    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as serve:
        until = time.monotonic() + 20
        while shell.run("server", "status").returncode and serve.poll() is None:
            assert time.monotonic() < until
        applied = shell.run("apply", infra, "-y", "--wait=20s")
        serve.send_signal(signal.SIGINT)
        _, said = serve.communicate(timeout=20)

    assert applied.returncode == 0, applied.stderr
    assert "stranger" not in said
    assert serve.returncode == 0
