from __future__ import annotations

import asyncio

import pytest

from drivers.contract import (
    Accepted,
    BusyError,
    ConflictError,
    DeniedError,
    DeviceFaultError,
    DeviceRef,
    Done,
    InvalidError,
    NotStartedError,
    Observation,
    OutcomeUnknownError,
    Settlement,
    StaleEpochError,
    Step,
    StepContext,
    UnreachableError,
    UnsupportedError,
)
from drivers.simulated import DEVICES_VARIABLE, SimulatedCrashError, SimulatedDriver
from drivers.testing import ServiceProcess

REF = DeviceRef("eu/a/rack-1/vm-1", "vm-1", "vm")


@pytest.fixture
def service(tmp_path):
    process = ServiceProcess(tmp_path)
    yield process
    process.stop()


@pytest.fixture
async def driver(service):
    opened = SimulatedDriver(service.connect)
    await opened.open(5.0)
    yield opened
    await opened.close()


def ctx(unit="u", index=0, epoch=(1, 1, 1, 1), deadline_s=5.0):
    return StepContext(unit=unit, index=index, epoch=epoch, deadline_s=deadline_s)


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("refused", InvalidError),
        ("unsupported", UnsupportedError),
        ("denied", DeniedError),
        ("busy", BusyError),
        ("conflict", ConflictError),
        ("unknown", OutcomeUnknownError),
        ("lost", OutcomeUnknownError),
        ("fault", DeviceFaultError),
    ],
)
async def test_failure_asked_for_arrives_as_its_error(driver, word, error):
    with pytest.raises(error):
        await driver.execute(REF, Step("noop", {"fail": word}), ctx())


async def test_crash_asked_for_is_no_driver_error(driver):
    with pytest.raises(SimulatedCrashError):
        await driver.execute(REF, Step("noop", {"crash": True}), ctx())


async def test_lie_is_found_by_the_missing_mark(driver):
    with pytest.raises(OutcomeUnknownError, match="has no mark of it"):
        await driver.execute(REF, Step("create", {"lie": True}), ctx())

    assert await driver.settle(REF, Step("create"), ctx()) is Settlement.NOT_APPLIED


async def test_device_setting_misbehaves_until_a_parameter_overrules_it(driver):
    busy = DeviceRef(REF.path, REF.name, REF.kind, {"fail": "busy"})
    with pytest.raises(BusyError):
        await driver.execute(busy, Step("noop"), ctx())

    done = await driver.execute(busy, Step("noop", {"rate": 0}), ctx())

    assert isinstance(done, Done)


async def test_accepted_step_is_resumed_by_its_handle(driver):
    step = Step("create", {"accept": True, "latency": "50ms"})

    accepted = await driver.execute(REF, step, ctx())

    assert accepted == Accepted("u/0")
    assert await driver.resume(REF, "u/0", ctx()) == Accepted("u/0")
    while isinstance(await driver.resume(REF, "u/0", ctx()), Accepted):
        pass
    assert (await driver.observe(REF, 5.0)).exists


async def test_accepted_step_cut_off_by_a_restart_did_not_happen(driver, service):
    await driver.execute(REF, Step("create", {"accept": True, "latency": "1h"}), ctx())

    service.kill()
    service.restart()

    with pytest.raises(NotStartedError):
        await driver.resume(REF, "u/0", ctx())


async def test_handle_never_given_out_is_unknown(driver):
    with pytest.raises(OutcomeUnknownError):
        await driver.resume(REF, "nobody/0", ctx())


async def test_device_refuses_an_old_epoch_by_itself(driver, service):
    await driver.claim(REF, (2, 1, 1, 1), 5.0)
    other = SimulatedDriver(service.connect)

    with pytest.raises(StaleEpochError, match="older than"):
        await other.execute(REF, Step("noop"), ctx(epoch=(1, 9, 9, 9)))
    await other.close()


async def test_claims_of_many_name_the_stale_one(driver, service):
    other = DeviceRef("eu/a/rack-1/vm-2", "vm-2")
    await driver.claim(REF, (2,), 5.0)

    answers = await driver.claim_many([(REF, (1,)), (other, (1,))], 5.0)

    assert isinstance(answers[0], StaleEpochError)
    assert isinstance(answers[1], Observation)


async def test_change_by_hand_is_announced(driver):
    events = driver.events()

    await driver.poke(REF, {"running": True})

    event = await anext(events)
    assert event.device == REF.path
    await events.aclose()


async def test_many_callers_share_one_dial_after_a_restart(driver, service):
    service.kill()
    service.restart()

    found = await asyncio.gather(*(driver.observe(REF, 5.0) for _ in range(100)))

    assert {one.exists for one in found} == {False}


async def test_closing_answers_those_who_wait(driver):
    waiting = asyncio.ensure_future(driver.execute(REF, Step("noop", {"hang": True}), ctx()))
    while (await driver.observe(REF, 5.0)).in_flight is None:
        pass

    await driver.close()

    with pytest.raises(OutcomeUnknownError):
        await waiting


async def test_no_address_at_all_is_explained(monkeypatch):
    monkeypatch.delenv(DEVICES_VARIABLE, raising=False)

    with pytest.raises(UnreachableError, match=f"{DEVICES_VARIABLE} is not set"):
        await SimulatedDriver("").open(1.0)


async def test_address_is_taken_from_the_environment(monkeypatch, service):
    monkeypatch.setenv(DEVICES_VARIABLE, str(service.socket))
    driver = SimulatedDriver("")

    await driver.open(5.0)

    assert not (await driver.observe(REF, 5.0)).exists
    await driver.close()


async def test_address_of_another_kind_is_refused():
    with pytest.raises(InvalidError, match='write "unix:/path'):
        await SimulatedDriver("tcp:1.2.3.4").open(1.0)


def test_plan_stops_sets_and_snapshots_towards_the_desired_state():
    seen = Observation(exists=True, state={"running": True, "a": 1, "b": 2, "snapshots": ["x"]})
    desired = {"running": False, "a": 5, "c": 3, "snapshots": ["y"]}

    steps = SimulatedDriver("").plan(desired, seen)

    assert steps == [
        Step("set", {"a": 5, "c": 3, "b": None}),
        Step("snapshot", {"name": "y"}),
        Step("drop_snapshot", {"name": "x"}),
        Step("stop"),
    ]
