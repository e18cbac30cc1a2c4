"""The whole product, as an operator and the devices' ledger see it: every promise under its own fault."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.local_server import LocalServer, kill, marked_processes, process_state
from drivers.ledger import LedgerAudit, audit

FILE = """
[infrastructure]
name = "faults"
[region.eu.zone.a]
intensity = 1000
[region.eu.zone.a.pod.p1]
driver = "simulated"
intensity = 1000
[region.eu.zone.a.pod.p1.resource."d-{01..12}"]
class = "host"
[region.eu.zone.a.pod.p1.resource."vm-*"]
class = "vm"
[region.eu.zone.b.pod.p2]
driver = "simulated"
[region.eu.zone.b.pod.p2.resource."d-{01..04}"]
class = "host"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("product")
    with LocalServer(folder) as running:
        (folder / "infra.toml").write_text(FILE)
        running.cli("apply", str(folder / "infra.toml"), "--auto-approve", "--wait=60")
        created = [unit(f"eu/a/p1/d-{n:02}", "create") for n in range(1, 13)]
        created += [unit(f"eu/b/p2/d-{n:02}", "create") for n in range(1, 5)]
        submit(running, created, "--wait=60")
        yield running


def unit(resource: str, verb: str, key: str | None = None, **params: object) -> dict[str, object]:
    spec: dict[str, object] = {
        "resource": resource,
        "commands": [{"verb": verb, "params": params}],
        "on_failure": {"strategy": "wait", "attempts": 0},
    }
    return spec if key is None else {**spec, "idempotency_key": key}


def submit(server: LocalServer, units: list[dict[str, object]], *options: str) -> list[str]:
    lines = "".join(json.dumps(each) + "\n" for each in units)
    return server.cli("submit", "work", "-f", "-", *options, stdin=lines).stdout.split()


def state_of(server: LocalServer, identity: str) -> str:
    return str(server.ask("get", "work", identity)[0]["state"])


def resource(server: LocalServer, path: str) -> dict[str, object]:
    return server.ask("get", "resources", path)[0]


def all_ended(server: LocalServer, ids: list[str]) -> Callable[[], bool]:
    ends = {"succeeded", "failed", "cancelled", "superseded", "quarantined"}
    wanted = set(ids)

    def ended() -> bool:
        found = {u["id"]: u["state"] for u in server.ask("get", "work") if u["id"] in wanted}
        return len(found) == len(wanted) and set(found.values()) <= ends

    return ended


def ledger(server: LocalServer) -> LedgerAudit:
    return audit(server.folder / "devices" / "ledger.jsonl")


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("pod", signal.SIGKILL),
        ("pod", signal.SIGSTOP),
        ("zone", signal.SIGSEGV),
        ("root", signal.SIGKILL),
        ("admin", signal.SIGKILL),
        ("logger", signal.SIGSEGV),
        ("launcher", signal.SIGSTOP),
        ("orchestration", signal.SIGKILL),
        ("orchestration", signal.SIGSTOP),
        ("devices", signal.SIGKILL),
    ],
)
def test_every_unit_takes_effect_once_whatever_process_dies(
    server: LocalServer, kind: str, number: signal.Signals
) -> None:
    units = [unit(f"eu/a/p1/d-{n % 12 + 1:02}", "set", value=n, latency="20ms") for n in range(240)]
    ids = submit(server, units)
    victim = server.node(kind, None if kind != "pod" else "eu/a/p1").pid
    assert victim is not None

    kill(victim, number)

    server.wait_for("the victim is gone", lambda: process_state(victim) in ("", "Z"), 30)
    server.wait_for("all units have ended", all_ended(server, ids), 60)
    assert {state_of(server, each) for each in ids[:5]} == {"succeeded"}
    found = ledger(server)
    assert found.sound, found.examples
    assert [each for each in ids if found.applied.get(each) != 1] == []


def test_kill_of_serve_leaves_nothing_and_the_next_start_goes_on(server: LocalServer) -> None:
    ids = submit(server, [unit(f"eu/a/p1/d-{n % 12 + 1:02}", "set", value=n) for n in range(120)])
    victim = server.node("serve").pid
    assert victim is not None

    kill(victim, signal.SIGKILL)

    server.wait_for("all are gone", lambda: not marked_processes(server.mark), 30)
    server.start()
    server.wait_for("all units have ended", all_ended(server, ids), 60)
    found = ledger(server)
    assert found.sound, found.examples
    assert [each for each in ids if found.applied.get(each) != 1] == []


def test_key_submitted_again_after_a_kill_gives_the_same_single_id(server: LocalServer) -> None:
    keyed = [unit("eu/a/p1/d-01", "set", key=f"once-{n}", value=n) for n in range(200)]
    node = server.node("orchestration")
    assert node.pid is not None
    lines = "".join(json.dumps(each) + "\n" for each in keyed)
    sender = subprocess.Popen(
        [sys.executable, "cli.py", "submit", "work", "-f", "-"],
        env=server.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    kill(node.pid, signal.SIGKILL)
    first, _ = sender.communicate(lines.encode(), timeout=60)

    ids = submit(server, keyed)
    assert len(set(ids)) == 200
    assert first.decode().split() in ([], ids)
    server.wait_for("all units have ended", all_ended(server, ids), 60)
    assert all(ledger(server).applied.get(each) == 1 for each in ids)


def test_create_and_destroy_from_two_clients_leave_the_device_as_the_last_accepted_says(
    server: LocalServer,
) -> None:
    clients = [
        subprocess.Popen(
            [sys.executable, "cli.py", "submit", "work", "eu/a/p1/vm-7", verb, "--wait=30"],
            env=server.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for verb in ("create", "destroy")
    ]
    ids = [client.communicate(timeout=60)[0].decode().split()[0] for client in clients]

    units = sorted(
        (server.ask("get", "work", each)[0] for each in ids),
        key=lambda found: int(str(found["seq"])),
    )
    exists = resource(server, "eu/a/p1/vm-7")["exists"]
    last = units[-1]["commands"][0]["verb"]  # type: ignore[index]
    assert all(each["state"] in ("succeeded", "superseded", "failed") for each in units)
    assert bool(exists) == (last == "create" and units[-1]["state"] == "succeeded")


def test_unit_that_crashes_its_process_is_quarantined_and_the_mailbox_moves_on(
    server: LocalServer,
) -> None:
    poison, after = submit(
        server,
        [unit("eu/a/p1/d-02", "set", value=1, crash=True), unit("eu/a/p1/d-02", "set", value=77)],
    )

    server.wait_for("both have ended", all_ended(server, [poison, after]), 60)

    assert state_of(server, poison) == "quarantined"
    assert state_of(server, after) == "succeeded"
    assert resource(server, "eu/a/p1/d-02")["observed"]["value"] == 77  # type: ignore[index]
    crashes = [e for e in server.ask("events", "--kind", "resource.crashed") if e["detail"]]
    assert any(poison in json.dumps(each) for each in crashes)


def test_hanging_command_holds_its_device_alone_and_can_be_cancelled(server: LocalServer) -> None:
    hanging, waiting = submit(
        server,
        [
            {**unit("eu/a/p1/d-03", "set", value=1, hang=True), "command_deadline_s": 0.5},
            unit("eu/a/p1/d-03", "set", value=2),
        ],
    )
    server.wait_for(
        "the deadline has passed",
        lambda: server.ask("events", "--kind", "resource.suspect", "--resource", "eu/a/p1/d-03"),
        30,
    )

    submit(server, [unit("eu/a/p1/d-04", "set", value=5)], "--wait=30")
    assert state_of(server, waiting) in ("pending", "dispatched")
    server.cli("cancel", "work", hanging)

    server.wait_for("both have ended", all_ended(server, [hanging, waiting]), 60)
    assert state_of(server, hanging) == "cancelled"
    assert state_of(server, waiting) == "succeeded"
    assert ledger(server).sound


def test_unknown_verb_and_unknown_resource_are_refused_with_a_hint(server: LocalServer) -> None:
    verb = server.cli("submit", "work", "eu/a/p1/d-01", "creat", check=False)
    name = server.cli("submit", "work", "eu/a/p1/e-01", "create", check=False)

    assert verb.returncode == name.returncode == 1
    assert "did you mean" in verb.stderr
    assert "create" in verb.stderr
    assert "did you mean" in name.stderr


def test_second_serve_on_the_folder_is_refused_by_pid(server: LocalServer) -> None:
    second = server.cli("serve", check=False)

    assert second.returncode != 0
    assert str(server.node("serve").pid) in second.stderr
    assert server.cli("server", "status").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another user's identity")
def test_client_without_permission_is_told_whose_socket_it_is(server: LocalServer) -> None:
    server.folder.chmod(0o755)
    code = (
        "import os, sys; from orchestration.client import Client, choose_target\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: Client(choose_target(None, None), 5.0).status()\n"
        "except Exception as error: print(type(error).__name__, error); sys.exit(5)\n"
    )

    refused = subprocess.run(
        [sys.executable, "-c", code],
        env=server.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert refused.returncode == 5
    assert "Traceback" not in refused.stderr
    assert "ermission" in refused.stdout


def test_verify_holds_after_all_of_it(server: LocalServer) -> None:
    answer = json.loads(server.cli("verify", "-o", "json").stdout)["verify"]

    assert answer["holds"] is True, answer
    assert answer["units"] > 1000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_full_disk_refuses_clearly_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], check=True)
    try:
        with LocalServer(small / "state") as server:
            (small / "infra.toml").write_text(FILE)
            server.cli("apply", str(small / "infra.toml"), "--auto-approve", "--wait=60")
            created = [unit(f"eu/a/p1/d-{n:02}", "create") for n in range(1, 13)]
            submit(server, created, "--wait=60")
            accepted = submit(server, [unit("eu/a/p1/d-01", "set", value=n) for n in range(50)])
            _fill(small / "filler")

            refused = None
            for n in range(200):
                done = server.cli("submit", "work", "eu/a/p1/d-05", "set", f"v{n}={n}", check=False)
                if done.returncode != 0:
                    refused = done
                    break
                accepted.append(done.stdout.strip())
            assert refused is not None
            assert "full" in refused.stderr
            assert "Traceback" not in refused.stderr

            (small / "filler").unlink()
            accepted += submit(server, [unit("eu/a/p1/d-06", "set", value=1)], "--wait=60")
            server.wait_for("all units have ended", all_ended(server, accepted), 60)
            assert ledger(server).sound
            assert server.cli("verify").returncode == 0
    finally:
        for _ in range(50):
            if (
                subprocess.run(["umount", str(small)], check=False, capture_output=True).returncode
                == 0
            ):
                break
            time.sleep(0.1)
        shutil.rmtree(small, ignore_errors=True)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as filler:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    filler.write(b"\0" * size)
            except OSError:
                continue
