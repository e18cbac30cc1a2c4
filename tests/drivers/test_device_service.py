"""The device service as a process, spoken to over its socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drivers.contract import DeviceRef, OutcomeUnknownError, Settlement, Step, StepContext
from drivers.device_protocol import Apply, Hello, frame
from drivers.ledger import audit
from drivers.ledger_records import Booted, read_ledger
from drivers.simulated import SimulatedDriver
from drivers.testing import ServiceProcess

EPOCH = (1, 1, 1, 1)
REF = DeviceRef("eu/a/rack-1/vm-1", "vm-1", "vm")


@pytest.fixture
def service(tmp_path):
    process = ServiceProcess(tmp_path)
    yield process
    process.stop()


def ctx(unit, index=0, deadline_s=5.0):
    return StepContext(unit=unit, index=index, epoch=EPOCH, deadline_s=deadline_s)


def run_service(folder, *options):
    command = [sys.executable, "-m", "drivers.device_service", "--folder", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


async def test_devices_outlive_a_kill_of_the_service(service):
    driver = SimulatedDriver(service.connect)
    await driver.execute(REF, Step("create", {"memory": "1GiB"}), ctx("u"))
    await driver.execute(REF, Step("start"), ctx("u", 1))
    before = await driver.observe(REF, 5.0)

    service.kill()
    service.restart()

    assert await driver.observe(REF, 5.0) == before
    await driver.close()


async def test_command_goes_on_although_its_client_has_gone(service):
    leaving, staying = SimulatedDriver(service.connect), SimulatedDriver(service.connect)
    await staying.open(5.0)
    with pytest.raises(OutcomeUnknownError):
        await leaving.execute(REF, Step("create", {"latency": "300ms"}), ctx("u", deadline_s=0.05))
    await leaving.close()

    assert (await staying.observe(REF, 5.0)).in_flight == "u/0"
    assert await staying.settle(REF, Step("create"), ctx("u")) is Settlement.UNKNOWN
    while (await staying.observe(REF, 5.0)).in_flight:
        pass
    assert await staying.settle(REF, Step("create"), ctx("u")) is Settlement.APPLIED
    await staying.close()


async def test_overlap_is_not_prevented_and_is_in_the_ledger(service):
    first, second = SimulatedDriver(service.connect), SimulatedDriver(service.connect)
    slow = Step("noop", {"latency": "100ms"})

    await asyncio.gather(first.execute(REF, slow, ctx("a")), second.execute(REF, slow, ctx("b")))

    assert audit(service.ledger).overlapping == 1
    await first.close()
    await second.close()


async def test_newer_connection_of_a_session_cuts_the_older_off(service):
    await _opened(service)
    old_answers, old = await asyncio.open_unix_connection(str(service.socket))
    new_answers, new = await asyncio.open_unix_connection(str(service.socket))
    old.write(frame([Hello(1, "me", 1)]))
    await old_answers.readexactly(4)
    new.write(frame([Hello(1, "me", 2)]))
    await new_answers.readexactly(4)

    old.write(frame([Apply(2, REF.path, "late", 0, EPOCH, "noop")]))

    with contextlib.suppress(ConnectionResetError):
        await old_answers.read()
    service.stop()
    assert audit(service.ledger).commands == 0
    for writer in (old, new):
        writer.close()


async def test_garbage_closes_that_connection_alone(service):
    driver = SimulatedDriver(service.connect)
    await driver.open(5.0)
    reader, writer = await asyncio.open_unix_connection(str(service.socket))

    writer.write(b"\x00\x00\x00\x05hello")

    assert await reader.read() == b""
    assert not (await driver.observe(REF, 5.0)).exists
    writer.close()
    await driver.close()


async def test_ten_thousand_claims_take_well_under_a_second(service):
    driver = SimulatedDriver(service.connect)
    await driver.open(5.0)
    refs = [(DeviceRef(f"eu/a/rack-1/vm-{n}", f"vm-{n}"), EPOCH) for n in range(10_000)]

    began = time.perf_counter()
    answers = await driver.claim_many(refs, 10.0)

    # 0.07 s on an idle machine of two cores; the bound leaves room for a busy one
    assert time.perf_counter() - began < 1.0
    assert all(answer.epoch == EPOCH for answer in answers)
    await driver.close()


def test_service_ends_with_its_parent(tmp_path):
    script = (
        "import sys; from pathlib import Path; from drivers.testing import ServiceProcess;"
        "s = ServiceProcess(Path(sys.argv[1])); import time\n"
        "while not s.socket.exists(): time.sleep(0.01)\n"
        "print(s.pid)"
    )
    parent = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )

    assert_gone(int(parent.stdout))


def test_service_whose_parent_is_another_does_not_start(tmp_path):
    answer = run_service(tmp_path, "--socket", str(tmp_path / "s"), "--parent", "1")

    assert answer.returncode == 1


async def test_second_service_on_a_folder_is_refused(service, tmp_path):
    await _opened(service)

    answer = run_service(tmp_path, "--socket", str(tmp_path / "other.sock"))

    assert answer.returncode == 1
    assert "is in use by another device service" in answer.stderr


async def test_socket_that_is_served_already_is_refused(service, tmp_path):
    await _opened(service)

    answer = run_service(tmp_path / "other", "--socket", str(service.socket))

    assert answer.returncode == 1
    assert "is served by another process" in answer.stderr


def test_socket_path_that_is_too_long_is_explained(tmp_path):
    answer = run_service(tmp_path, "--socket", "/tmp/" + "x" * 110)

    assert answer.returncode == 1
    assert "longer than 107 bytes" in answer.stderr


def test_bad_latency_is_explained(tmp_path):
    answer = run_service(tmp_path, "--socket", str(tmp_path / "s"), "--latency", "soon")

    assert answer.returncode == 1
    assert "'soon' is not a duration" in answer.stderr


async def test_default_latency_slows_every_command(tmp_path):
    service = ServiceProcess(tmp_path, "--latency", "80ms")
    driver = SimulatedDriver(service.connect)
    await driver.open(5.0)
    began = time.perf_counter()

    await driver.execute(REF, Step("noop"), ctx("u"))

    assert time.perf_counter() - began >= 0.08
    await driver.close()
    service.stop()


async def test_service_that_cannot_write_ends_and_loses_nothing_it_answered(tmp_path):
    service = ServiceProcess(tmp_path)
    driver = SimulatedDriver(service.connect)
    await driver.open(5.0)
    resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (4000, 4000))

    answered = 0

    async def work():
        nonlocal answered
        while answered < 100:
            await driver.execute(REF, Step("noop"), ctx("u", answered))
            answered += 1

    with pytest.raises(OutcomeUnknownError):
        await work()

    assert service.wait() == 1
    service.restart()
    found = await driver.observe(REF, 5.0)
    assert 0 < answered < 100
    assert found.marks[-1] == f"u/{answered - 1}"
    await driver.close()
    service.stop()


def test_heartbeat_lines_arrive_on_the_pipe(tmp_path):
    read, write = os.pipe()
    command = [sys.executable, "-m", "drivers.device_service", "--folder", str(tmp_path)]
    command += ["--socket", str(tmp_path / "s"), "--heartbeat-fd", str(write)]
    process = subprocess.Popen(command, pass_fds=[write])
    os.close(write)

    lines = os.read(read, 6) + os.read(read, 6)

    os.close(read)
    process.terminate()
    assert process.wait(5.0) == 0
    assert lines == b"alive\nalive\n"


async def test_each_start_is_in_the_ledger(service):
    driver = SimulatedDriver(service.connect)
    await driver.open(5.0)
    service.kill()
    service.restart()
    await driver.observe(REF, 5.0)

    assert [type(record) for record in read_ledger(service.ledger)] == [Booted, Booted]
    await driver.close()


async def _opened(service):
    driver = SimulatedDriver(service.connect)
    await driver.open(5.0)
    await driver.close()


def assert_gone(pid):
    until = time.monotonic() + 5.0
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except FileNotFoundError:
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} is still there")
