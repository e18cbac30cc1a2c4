from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestration import client_transport, problems
from orchestration.client import Client, choose_target
from orchestration.client_target import Target
from orchestration.problems import ProblemError
from orchestration.records import CommandSpec, UnitSpec, UnitState
from tests.orchestration.live_api import LiveApi, live_api, small_infrastructure

VM = "eu/a/rack-1/vm-1"
UNIT = UnitSpec(resource=VM, commands=(CommandSpec(verb="create", params={"memory": "1GiB"}),))


@pytest.fixture
def live() -> Iterator[LiveApi]:
    with live_api() as server:
        server.run(server.orchestrator.apply(small_infrastructure(), None, False))
        yield server


@pytest.fixture
def client(live: LiveApi) -> Iterator[Client]:
    with Client(choose_target(live.url, None), timeout_s=5) as client:
        yield client


class Peer:
    """A server of bytes: each connection is handled by the next of `acts`."""

    def __init__(self, path: Path, *acts: Callable[[socket.socket], None]) -> None:
        self.requests: list[bytes] = []
        self._acts = acts
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for act in self._acts:
            connection, _ = self._listener.accept()
            with connection:
                self.requests.append(read_request(connection))
                act(connection)
        self._listener.close()

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


def read_request(connection: socket.socket) -> bytes:
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += connection.recv(65536)
    head, _, body = raw.partition(b"\r\n\r\n")
    length = next(
        (
            int(line[15:])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ),
        0,
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def hang_up(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def answer(status: int, value: object, **headers: str) -> Callable[[socket.socket], None]:
    body = json.dumps(value).encode()
    more = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode()
    return lambda connection: connection.sendall(head + body)


def stay_silent_for(seconds: float) -> Callable[[socket.socket], None]:
    return lambda connection: time.sleep(seconds)


ACCEPTED = [{"id": "u-1", "resource": VM, "state": "pending", "seq": 1}]


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "api.sock"


def test_submit_gives_one_answer_per_unit_in_order(client):
    answers = client.submit([UNIT] * 3)

    assert [answer.seq for answer in answers] == [1, 2, 3]


def test_submit_makes_a_key_for_each_unit_without_one(client, live):
    client.submit(
        [UNIT, UnitSpec(resource=VM, commands=UNIT.commands, idempotency_key="mine")], "base"
    )

    assert list(live.orchestrator.keys) == ["base-0", "mine"]


def test_submit_keys_do_not_collide_between_chunks(client, live):
    client.submit([UNIT, UNIT], "base")
    client.submit([UNIT], "base", first=2)

    assert list(live.orchestrator.keys) == ["base-0", "base-1", "base-2"]


def test_submit_is_repeated_with_the_same_key_when_the_connection_breaks(short):
    first_try_counts = answer(200, {"status": "ready"})
    peer = Peer(short, first_try_counts, hang_up, answer(202, ACCEPTED))
    with Client(Target(named=short)) as client:
        # The server has answered before, so it is worth waiting for.
        client._transport.send(client_transport.Request(method="GET", path="/readyz"))
        answers = client.submit([UNIT])
    peer.join()

    bodies = [request.partition(b"\r\n\r\n")[2] for request in peer.requests[1:]]
    assert answers[0].id == "u-1"
    assert bodies[0] == bodies[1]
    assert b"idempotency_key" in bodies[0]


def test_apply_is_not_repeated_when_the_connection_breaks(short):
    peer = Peer(short, hang_up)
    with Client(Target(named=short)) as client, pytest.raises(ProblemError) as caught:
        client.apply(small_infrastructure(), revision=1)
    peer.join()

    assert caught.value.problem.code == problems.CONNECTION_BROKE.code
    assert "plan" in caught.value.problem.hint


def test_time_out_of_a_submit_says_how_to_repeat_it(short):
    peer = Peer(short, stay_silent_for(0.5))
    with (
        Client(Target(named=short), timeout_s=0.1) as client,
        pytest.raises(ProblemError) as caught,
    ):
        client.submit([UNIT], "my-key")
    peer.join()

    assert caught.value.problem.code == problems.OUTCOME_UNKNOWN.code
    assert "--idempotency-key my-key" in caught.value.problem.hint


def test_time_out_of_a_read_says_that_nothing_changed(short):
    peer = Peer(short, stay_silent_for(0.5))
    with (
        Client(Target(named=short), timeout_s=0.1) as client,
        pytest.raises(ProblemError) as caught,
    ):
        client.status()
    peer.join()

    assert "nothing has changed" in caught.value.problem.detail


def test_kept_connection_that_the_server_closed_is_opened_anew(short):
    plan = {"revision": 1, "changes": [], "add": 0, "change": 0, "destroy": 0}
    peer = Peer(short, answer(200, plan), answer(200, {"revision": 2, "plan": plan}))
    with Client(Target(named=short)) as client:
        client.plan(small_infrastructure())
        deadline = time.monotonic() + 5
        while not client._transport._connection.is_stale() and time.monotonic() < deadline:
            time.sleep(0.01)
        applied = client.apply(small_infrastructure(), revision=1)
    peer.join()

    assert applied.revision == 2


def test_server_that_is_starting_is_asked_again(short):
    ready = answer(200, {"status": "ready"})
    starting = problems.NOT_READY.problem("reading the journal")
    busy = answer(503, {"title": starting.title, "status": 503, "code": starting.code})
    status = {
        "version": "1",
        "state_folder": "/s",
        "pid": 1,
        "revision": 3,
        "uptime_s": 1,
        "units": {},
        "resources": {},
        "nodes": {},
    }
    peer = Peer(short, ready, busy, answer(200, status))
    with Client(Target(named=short)) as client:
        client._transport.send(client_transport.Request(method="GET", path="/readyz"))
        revision = client.status().revision
    peer.join()

    assert revision == 3


def test_answer_that_is_no_json_is_not_understood(short):
    peer = Peer(short, answer(200, {"hello": 1}))
    with Client(Target(named=short)) as client, pytest.raises(ProblemError) as caught:
        client.status()
    peer.join()

    assert caught.value.problem.code == problems.NOT_UNDERSTOOD.code


def test_missing_socket_means_no_server_is_running(tmp_path):
    with (
        Client(choose_target(None, str(tmp_path))) as client,
        pytest.raises(ProblemError) as caught,
    ):
        client.status()

    assert caught.value.problem.code == problems.NOT_RUNNING.code
    assert f"server start --state-dir {tmp_path}" in caught.value.problem.hint


def test_socket_nobody_listens_on_means_no_server_is_running(short):
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(short))
    with Client(Target(named=short)) as client, pytest.raises(ProblemError) as caught:
        client.status()

    assert caught.value.problem.code == problems.NOT_RUNNING.code


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_socket_of_somebody_else_is_named_with_owner_and_mode(live):
    live.socket_path.parent.chmod(0o755)
    script = (
        "import os, sys; from orchestration.client import *\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: Client(choose_target(sys.argv[1], None)).status()\n"
        "except ProblemError as error: print(error.problem.code, error.problem.detail)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, live.url], capture_output=True, text=True, check=True
    )

    assert ended.stdout.startswith(problems.SOCKET_DENIED.code)
    assert f"{live.socket_path}" in ended.stdout
    assert "root:root with mode 0600" in ended.stdout


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_folder_of_somebody_else_is_named_where_the_way_ends(live):
    script = (
        "import os, sys; from orchestration.client import *\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: Client(choose_target(sys.argv[1], None)).status()\n"
        "except ProblemError as error: print(error.problem.detail)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, live.url], capture_output=True, text=True, check=True
    )

    assert (
        f"the folder {live.socket_path.parent} belongs to root:root with mode 0700" in ended.stdout
    )


def test_server_that_is_no_unix_address_is_a_usage_error():
    with pytest.raises(ProblemError) as caught:
        choose_target("http://localhost", None)

    assert problems.exit_status_of(caught.value.problem) == problems.EXIT_USAGE


def test_pages_are_joined(client, live, monkeypatch):
    client.submit([UNIT] * 2500)

    assert [unit.seq for unit in client.units()] == list(range(1, 2501))
    assert len(list(client.events())) == 2501


def test_names_with_odd_characters_survive_the_address(client):
    with pytest.raises(ProblemError) as caught:
        client.unit("a b?c/d#e")

    assert "'a b?c/d#e'" in caught.value.problem.detail or caught.value.problem.status == 404


def test_cancel_of_a_cancelled_unit_succeeds(client):
    (accepted,) = client.submit([UNIT])
    client.cancel(accepted.id)

    assert client.cancel(accepted.id).state is UnitState.CANCELLED


def test_cancel_of_a_succeeded_unit_fails(client, live):
    (accepted,) = client.submit([UNIT])
    live.run(live.orchestrator.finish(accepted.id))
    with pytest.raises(ProblemError) as caught:
        client.cancel(accepted.id)

    assert caught.value.problem.code == problems.ALREADY_FINISHED.code


def test_follow_gives_old_and_new_events(client, live):
    client.submit([UNIT])
    stream = client.follow(after=1)
    first = next(stream)
    live.run(live.orchestrator.finish(first.subject))
    second = next(stream)
    stream.close()

    assert [first.kind, second.kind] == ["unit.pending", "unit.succeeded"]


def test_follow_resumes_where_the_stream_broke(short):
    def stream(*numbers: int) -> Callable[[socket.socket], None]:
        frames = "".join(
            f'id: {n}\nevent: x\ndata: {{"seq":{n},"at_utc":0,"kind":"x","subject":"s"}}\n\n'
            for n in numbers
        )
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        return lambda connection: connection.sendall((head + frames).encode())

    peer = Peer(short, stream(4, 5), stream(6))
    with Client(Target(named=short)) as client:
        events = client.follow(after=3)
        seen = [next(events).seq for _ in range(3)]
        events.close()
    peer.join()

    assert seen == [4, 5, 6]
    assert b"Last-Event-ID: 3" in peer.requests[0]
    assert b"Last-Event-ID: 5" in peer.requests[1]


def test_follow_without_a_server_fails_at_once(short):
    with Client(Target(named=short)) as client, pytest.raises(ProblemError) as caught:
        next(client.follow())

    assert caught.value.problem.code == problems.NOT_RUNNING.code


def test_client_imports_no_server_code():
    script = "import orchestration.client_commands, sys; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(ended.stdout.split())

    assert not loaded & {"asyncio", "starlette", "uvicorn", "thespian", "jsonschema", "rich"}
