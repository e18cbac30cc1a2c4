"""The orchestration node as a process: what it answered survives a SIGKILL, and it leaves in good order."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.state_folder import StateFolder

ROOT = Path(__file__).parents[2]
INFRASTRUCTURE = {
    "name": "test",
    "regions": [
        {
            "name": "eu",
            "zones": [
                {
                    "name": "a",
                    "pods": [
                        {
                            "name": "r1",
                            "resources": [{"name": "vm-1", "kind": "vm", "driver": "simulated"}],
                        }
                    ],
                }
            ],
        }
    ],
}
WORK = [{"resource": "eu/a/r1/vm-1", "commands": [{"verb": "noop"}], "idempotency_key": "k"}]


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self.path))


class NodeProcess:
    def __init__(self, folder):
        self.folder = folder
        reader, writer = os.pipe()
        self.process = subprocess.Popen(
            [
                sys.executable,
                *("-m", "orchestration.node", "--state-dir", str(folder.path)),
                *("--heartbeat-fd", str(writer)),
            ],
            pass_fds=[writer],
            cwd=ROOT,
            stderr=subprocess.PIPE,
        )
        os.close(writer)
        self.beats = os.fdopen(reader)

    def wait_for(self, line):
        return any(said.strip() == line for said in self.beats)

    def ask(self, method, path, body=None):
        connection = UnixConnection(self.folder.api_socket)
        connection.request(
            method,
            path,
            None if body is None else json.dumps(body),
            {"Content-Type": "application/json"},
        )
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        return response.status, answer

    def end(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, said = self.process.communicate(timeout=20)
        self.beats.close()
        return self.process.returncode, said.decode()


@pytest.fixture
def folder(tmp_path):
    made = StateFolder(tmp_path / "state")
    made.prepare()
    yield made
    shutil.rmtree(made.run, ignore_errors=True)


@pytest.mark.system
def test_what_was_answered_before_a_sigkill_is_there_after_it(folder):
    first = NodeProcess(folder)
    assert first.wait_for("ready")
    assert first.ask("POST", "/v1/apply", {"infrastructure": INFRASTRUCTURE})[0] == 200
    status, (accepted,) = first.ask("POST", "/v1/work", WORK)
    assert status == 202
    assert first.wait_for("want devices")
    first.end(signal.SIGKILL)

    second = NodeProcess(folder)
    assert second.wait_for("ready")
    _, unit = second.ask("GET", f"/v1/work/{accepted['id']}")
    _, (again,) = second.ask("POST", "/v1/work", WORK)
    code, _ = second.end(signal.SIGTERM)

    assert unit["state"] == "pending"
    assert (again["id"], again["replayed"]) == (accepted["id"], True)
    assert code == 0


@pytest.mark.system
def test_second_node_on_the_same_journal_ends_with_a_clear_word(folder):
    first = NodeProcess(folder)
    assert first.wait_for("ready")

    code, said = NodeProcess(folder).end(signal.SIGCONT)
    first.end(signal.SIGTERM)

    assert code == 74
    assert "in use by another process" in said


@pytest.mark.system
def test_node_beats_from_its_loop(folder):
    node = NodeProcess(folder)

    assert node.wait_for("ready")
    assert [node.wait_for("alive") for _ in range(2)] == [True, True]
    assert oct(folder.api_socket.stat().st_mode & 0o777) == "0o600"
    node.end(signal.SIGTERM)
