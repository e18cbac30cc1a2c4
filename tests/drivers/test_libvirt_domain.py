"""What only the libvirt driver does, on a real libvirtd with its test driver."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

pytest.importorskip("libvirt", reason="libvirt-python is not installed")

import libvirt

from drivers import libvirtd_private
from drivers.contract import (
    DeviceRef,
    InvalidError,
    NoChange,
    Observation,
    Settlement,
    StaleEpochError,
    Step,
    StepContext,
    UnreachableError,
)
from drivers.libvirt_domain import LibvirtDriver
from drivers.libvirt_marks import KEYS_REMEMBERED, Marks, read_marks, write_marks

REF = DeviceRef("eu/a/rack-1/vm-1", "vm-1", "vm")
NAME = "eu.a.rack-1.vm-1"
EPOCH = (1, 1, 1, 1)


@pytest.fixture(scope="module")
def libvirtd(tmp_path_factory):
    try:
        started = libvirtd_private.start(tmp_path_factory.mktemp("libvirtd"))
    except libvirtd_private.LibvirtdError as error:
        pytest.skip(str(error))
    yield started
    started.stop()


@pytest.fixture
def connection(libvirtd):
    opened = libvirt.open(libvirtd.uri)
    yield opened
    for domain in opened.listAllDomains():
        if domain.isActive():
            domain.destroy()
        for snapshot in domain.listAllSnapshots():
            snapshot.delete()
        domain.undefine()
    opened.close()


@pytest.fixture
async def driver(libvirtd, connection):
    opened = LibvirtDriver(libvirtd.uri)
    await opened.open(5.0)
    yield opened
    await opened.close()


def ctx(unit, index=0, epoch=EPOCH):
    return StepContext(unit=unit, index=index, epoch=epoch, deadline_s=10.0)


async def run(driver, *steps, ref=REF, unit="u"):
    return [await driver.execute(ref, step, ctx(unit, index)) for index, step in enumerate(steps)]


async def test_domain_is_defined_as_asked(driver, connection):
    await run(driver, Step("create", {"memory": "64MiB", "vcpus": 3}))

    power, memory_kib, _, vcpus, _ = connection.lookupByName(NAME).info()
    assert (power, memory_kib, vcpus) == (libvirt.VIR_DOMAIN_SHUTOFF, 65536, 3)


async def test_destroy_takes_snapshots_and_definition_along(driver, connection):
    await run(
        driver,
        Step("create"),
        Step("start"),
        Step("snapshot", {"name": "one"}),
        Step("snapshot", {"name": "two"}),
        Step("destroy"),
    )

    assert NAME not in [domain.name() for domain in connection.listAllDomains()]


async def test_running_domain_is_not_resized(driver):
    await run(driver, Step("create", {"memory": "64MiB"}), Step("start"))

    with pytest.raises(InvalidError, match="stop it first"):
        await driver.execute(REF, Step("set", {"memory": "128MiB"}), ctx("set"))

    assert await driver.settle(REF, Step("set"), ctx("set")) is Settlement.NOT_APPLIED


async def test_plan_stops_a_running_domain_to_resize_it(driver):
    await run(driver, Step("create", {"memory": "64MiB"}), Step("start"))
    found = await driver.observe(REF, 5.0)

    steps = driver.plan({**found.state, "memory": "0.125GiB"}, found)
    await run(driver, *steps, unit="plan")

    assert [step.verb for step in steps] == ["stop", "set", "start"]
    assert (await driver.observe(REF, 5.0)).state == {**found.state, "memory": "128MiB"}


async def test_repeated_create_does_not_bring_a_destroyed_domain_back(driver):
    await run(driver, Step("create"), Step("destroy"))

    again = await driver.execute(REF, Step("create"), ctx("u", 0))

    assert isinstance(again, NoChange)
    assert not (await driver.observe(REF, 5.0)).exists
    assert await driver.settle(REF, Step("create"), ctx("u", 0)) is Settlement.APPLIED


async def test_old_pod_is_shut_out_where_there_is_no_domain(driver, libvirtd):
    newer = LibvirtDriver(libvirtd.uri)
    await newer.claim(REF, (1, 1, 2, 1), 5.0)

    with pytest.raises(StaleEpochError):
        await driver.execute(REF, Step("create"), ctx("late"))
    await newer.close()


async def test_step_cut_off_after_its_effect_is_settled_by_the_state(driver, connection):
    await run(driver, Step("create"))
    domain = connection.lookupByName(NAME)
    write_marks(domain, read_marks(domain).begin("cut/0", EPOCH, REF.path))
    domain.create()

    assert await driver.settle(REF, Step("start"), ctx("cut")) is Settlement.APPLIED


async def test_step_cut_off_before_its_effect_is_settled_by_the_state(driver, connection):
    await run(driver, Step("create"))
    domain = connection.lookupByName(NAME)
    write_marks(domain, read_marks(domain).begin("cut/0", EPOCH, REF.path))

    assert await driver.settle(REF, Step("start"), ctx("cut")) is Settlement.NOT_APPLIED


async def test_domain_of_another_resource_is_left_alone(driver):
    await run(driver, Step("create"))
    other = DeviceRef("eu/a/rack-1/vm-2", "vm-2", "vm", {"domain": NAME})

    with pytest.raises(InvalidError, match="belongs to eu/a/rack-1/vm-1"):
        await driver.execute(other, Step("destroy"), ctx("theft"))


async def test_domain_made_by_hand_is_adopted(driver, connection):
    connection.defineXML(
        "<domain type='test'><name>byhand</name><memory>65536</memory><os><type>hvm</type></os></domain>"
    )
    ref = DeviceRef(REF.path, REF.name, "vm", {"domain": "byhand"})

    found = await driver.claim(ref, EPOCH, 5.0)
    await driver.execute(ref, Step("start"), ctx("u"))

    assert found.state == {"running": False, "memory": "64MiB", "vcpus": 1}
    assert connection.lookupByName("byhand").isActive()


async def test_new_domain_is_made_of_the_xml_configured(driver, connection):
    xml = "<domain type='test'><name>x</name><title>From a template</title><memory unit='GiB'>9</memory>"
    ref = DeviceRef(REF.path, REF.name, "vm", {"xml": xml + "<os><type>hvm</type></os></domain>"})

    await run(driver, Step("create", {"memory": "64MiB"}), ref=ref)

    text = connection.lookupByName(NAME).XMLDesc()
    assert "From a template" in text
    assert "<memory unit='KiB'>65536</memory>" in text


async def test_marks_survive_power_cycles(driver, connection):
    steps = [Step("create"), *[Step("start"), Step("stop")] * 3]

    await run(driver, *steps)

    marks = read_marks(connection.lookupByName(NAME))
    assert marks.keys == tuple(f"u/{index}" for index in range(7))
    assert (marks.epoch, marks.begun, marks.path) == (EPOCH, "", REF.path)


async def test_refusal_of_libvirt_is_final(driver, connection):
    await run(driver, Step("create"))
    bad = DeviceRef(
        "eu/a/rack-1/vm-3", "vm-3", "vm", {"xml": "<domain type='test'/>", "domain": "a/b"}
    )

    with pytest.raises(InvalidError):
        await driver.execute(bad, Step("create"), ctx("bad"))


async def test_claims_of_many_are_answered_in_order(driver):
    refs = [(DeviceRef(f"eu/a/rack-1/vm-{n}", f"vm-{n}", "vm"), EPOCH) for n in range(30)]
    await run(driver, Step("create"), ref=refs[7][0])

    answers = await driver.claim_many(refs, 10.0)

    assert [isinstance(a, Observation) and a.exists for a in answers].index(True) == 7


def test_marks_keep_the_latest_keys():
    marks = Marks()
    for number in range(KEYS_REMEMBERED + 5):
        marks = marks.end(f"u/{number}")

    assert len(marks.keys) == KEYS_REMEMBERED
    assert marks.keys[-1] == f"u/{KEYS_REMEMBERED + 4}"


def test_private_libvirtd_listens_on_no_network_and_ends(tmp_path):
    try:
        started = libvirtd_private.start(tmp_path)
    except libvirtd_private.LibvirtdError as error:
        pytest.skip(str(error))
    listening = subprocess.run(["ss", "-lntup"], capture_output=True, text=True, check=True)

    assert f"pid={started.pid}," not in listening.stdout
    started.stop()
    started.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(started.pid, 0)


def test_missing_libvirtd_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(libvirtd_private, "_PATH", str(tmp_path))

    with pytest.raises(libvirtd_private.LibvirtdError, match="apt-get install"):
        libvirtd_private.start(tmp_path)


async def test_driver_finds_a_libvirtd_that_was_killed_and_came_back(tmp_path):
    first = libvirtd_private.start(tmp_path)
    driver = LibvirtDriver(first.uri)
    await driver.open(5.0)
    os.kill(first.pid, signal.SIGKILL)
    first.stop()
    for _ in range(3):  # whatever a try leaves behind must not spoil the next one
        with pytest.raises(UnreachableError):
            await driver.open(5.0)

    second = libvirtd_private.start(tmp_path)
    try:
        await driver.open(5.0)
        assert not (await driver.observe(REF, 5.0)).exists
    finally:
        await driver.close()
        second.stop()
