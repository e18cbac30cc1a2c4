import json
import os
import pickle
import signal
import socket
import time
from pathlib import Path

import pytest

from otp.distribution.process_control import status

pytestmark = pytest.mark.system


class Events:
    def __init__(self, tree) -> None:
        self.tree = tree

    def all(self, **wanted):
        try:
            lines = (self.tree.run / "events").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [e for e in map(json.loads, lines) if wanted.items() <= e.items()]

    def one(self, limit_s=10.0, **wanted):
        self.tree.wait(lambda: self.all(**wanted), limit_s)
        return self.all(**wanted)[0]


@pytest.fixture
def events(tree):
    return Events(tree)


def start(tree, root, *plan):
    (tree.run / "plan").write_text("\n".join(plan))
    tree.start(
        *("-m", "otp.distribution.launcher", "--run-dir", str(tree.run)),
        *("--root", f"node_behaviours:{root}"),
    )


def test_node_gets_its_payload_and_epoch_and_has_one_thread(tree, events):
    start(tree, "root_of_one", "leaf")
    started = events.one(what="started")

    assert started["payload"] == "the payload"
    assert started["epoch"] == [7, 1]
    assert started["threads"] == 1


def test_later_node_holds_no_socket_of_its_parent_or_siblings(tree, events):
    start(tree, "root_of_one", *["leaf"] * 6)
    tree.wait(lambda: len(events.all(what="started")) == 6, 10.0)

    counts = [len(event["sockets"]) for event in events.all(what="started")]
    assert max(counts) == min(counts)


def test_log_of_an_application_names_its_node_and_bypasses_thespian(tree, events):
    start(tree, "root_of_one", "leaf")
    started = events.one(what="started")
    tree.wait(lambda: "the leaf of child-0 logs" in tree.log.read_text(), 5.0)

    (line,) = [row for row in tree.log.read_text().splitlines() if "the leaf of" in row]
    assert f"child-0[{started['pid']}] WARNING leaf:" in line


def test_application_that_raises_refuses_its_start_with_the_reason(tree, events):
    start(tree, "root_of_one", "refuses")

    assert events.one(what="refused")["reason"] == ["exit", 70, "RuntimeError: no such rack"]


def test_end_of_the_root_process_ends_the_node_with_its_reason(tree, events):
    start(tree, "root_of_one", "escalates")
    exited = events.one(what="exited")

    assert exited["reason"] == ["exit", 70, "('too_many', 'restarts')"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT])
def test_killed_node_exits_with_its_signal_at_once(tree, events, number):
    start(tree, "root_of_one", "leaf")
    pid = events.one(what="up")["child_pid"]

    began = time.monotonic()
    os.kill(pid, number)
    exited = events.one(what="exited")

    print(f"{number.name}: known after {1000 * (time.monotonic() - began):.0f} ms")
    assert exited["reason"] == ["killed", number]
    assert time.monotonic() - began < 1.0


def test_terminated_node_stops_its_processes_and_ends_clean(tree, events):
    start(tree, "root_of_one", "leaf")
    pid = events.one(what="up")["child_pid"]

    os.kill(pid, signal.SIGTERM)

    assert events.one(what="terminated")["reason"] == "shutdown"
    assert events.one(what="exited")["reason"] == "shutdown"


def test_hanging_node_is_killed_and_called_a_failed_heartbeat(tree, events):
    start(tree, "root_of_one", "hangs")
    up = events.one(what="up")

    assert events.one(what="exited")["reason"] == "heartbeat"
    assert status(up["child_pid"]) is None


def test_node_that_merely_works_hard_lives_on(tree, events):
    start(tree, "root_of_one", "works_hard")
    up = events.one(what="up")
    time.sleep(6.0)

    assert events.all(what="exited") == []
    assert status(up["child_pid"]).is_alive


def test_unexpected_error_ends_the_node_and_is_logged(tree, events):
    start(tree, "root_of_one", "fails_later")

    assert events.one(what="exited")["reason"][:2] == ["exit", 70]
    assert "ZeroDivisionError" in tree.log.read_text()


def test_full_disk_under_the_log_keeps_nobody_alive(tree, events):
    tree.log = Path("/dev/full")
    start(tree, "root_of_one", "fails_later", "leaf")

    assert events.one(what="exited")["reason"][:2] == ["exit", 70]
    events.one(what="up", child="child-1")


def test_supervisor_restarts_a_node_with_a_newer_epoch(tree, events):
    start(tree, "supervising_root")
    first = events.one(what="started")
    os.kill(first["pid"], signal.SIGKILL)
    tree.wait(lambda: len(events.all(what="started")) == 2, 5.0)

    second = events.all(what="started")[1]
    assert second["pid"] != first["pid"]
    assert second["epoch"] > first["epoch"]


def test_stop_reaches_the_leaves_before_anybody_is_killed(tree, events):
    start(tree, "supervising_root")
    events.one(what="started")

    tree.process.terminate()
    assert tree.process.wait(5.0) == 0

    assert events.one(what="terminated")["reason"] == "shutdown"
    assert tree.living() == []


def test_ports_are_on_loopback_and_run_nobody_elses_code(tree, events, tmp_path):
    start(tree, "root_of_one", "leaf")
    events.one(what="up")
    ports = listening_ports(tree.living())
    assert len(ports) >= 4  # admin, logger, root, pod
    assert {address for address, _ in ports} == {"127.0.0.1"}

    class Intruder:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    frame = pickle.dumps((None, Intruder()))
    for address in ports:
        with socket.create_connection(address, timeout=5.0) as connection:
            connection.sendall(b"%d>" % len(frame) + frame)
            connection.recv(1)

    assert not (tmp_path / "owned").exists()
    assert tree.process.poll() is None
    assert events.all(what="exited") == []


def listening_ports(pids):
    """The TCP addresses on which these processes listen."""
    sockets = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            target = str(entry.readlink())
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    found = []
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = row.split()
        if fields[3] == "0A" and fields[9] in sockets:
            address, port = fields[1].split(":")
            found.append((socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)))
    return found


def test_launcher_starts_its_tree_again_though_the_log_has_no_room(tree):
    tree.log = Path("/dev/full")
    tree.start_launcher()
    tree.wait(tree.is_whole, 20.0)
    root = tree.pids()["root"]

    os.kill(root, signal.SIGKILL)

    tree.wait(lambda: tree.is_whole(without=root), 20.0)
