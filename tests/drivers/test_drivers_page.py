"""The driver printed in docs/drivers.md, installed and run as printed."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import tomli

from drivers.contract import (
    DeviceRef,
    Done,
    InvalidError,
    NoChange,
    Settlement,
    Step,
    StepContext,
    UnreachableError,
)
from drivers.loader import load

PAGE = Path(__file__).parents[2] / "docs" / "drivers.md"
REF = DeviceRef("eu/a/rack-1/volume-1", "volume-1", "volume")


def printed(name):
    (body,) = re.findall(rf"```\w+\n# {re.escape(name)}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return body


@pytest.fixture
def driver(tmp_path, monkeypatch):
    project = tomli.loads(printed("pyproject.toml"))["project"]
    (tmp_path / "files_driver.py").write_text(printed("files_driver.py"))
    info = tmp_path / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    offers = project["entry-points"]["cloudctl.drivers"].items()
    lines = "\n".join(f"{name} = {target}" for name, target in offers)
    (info / "entry_points.txt").write_text(f"[cloudctl.drivers]\n{lines}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    (tmp_path / "volumes").mkdir()
    yield load("files")(str(tmp_path / "volumes"))
    sys.modules.pop("files_driver")


def ctx(unit):
    return StepContext(unit=unit, index=0, epoch=(1, 1, 1, 1), deadline_s=5.0)


async def test_printed_driver_creates_once_and_settles(driver):
    create = Step("create", {"size": 7})

    assert await driver.settle(REF, create, ctx("u")) is Settlement.NOT_APPLIED
    assert isinstance(await driver.execute(REF, create, ctx("u")), Done)
    assert isinstance(await driver.execute(REF, create, ctx("u")), NoChange)
    assert await driver.settle(REF, create, ctx("u")) is Settlement.APPLIED


async def test_printed_driver_plans_its_way_to_the_desired_state(driver):
    await driver.execute(REF, Step("create", {"size": 7}), ctx("u"))
    found = await driver.observe(REF, 5.0)

    steps = driver.plan({"size": 9}, found)
    for number, step in enumerate(steps):
        await driver.execute(REF, step, ctx(f"plan-{number}"))

    assert (await driver.observe(REF, 5.0)).state == {"size": 9}


async def test_printed_driver_undoes_and_refuses(driver):
    create = Step("create", {"size": 7})
    await driver.execute(REF, create, ctx("u"))
    with pytest.raises(InvalidError):
        await driver.execute(REF, Step("create", {"size": 0}), ctx("bad"))
    with pytest.raises(InvalidError):
        await driver.execute(REF, Step("create", {"size": 8}), ctx("other"))

    await driver.undo(REF, create, ctx("undo"))

    assert not (await driver.observe(REF, 5.0)).exists


async def test_printed_driver_says_when_nobody_is_there(driver):
    with pytest.raises(UnreachableError):
        await type(driver)("/nonexistent").open(1.0)


def test_printed_driver_is_as_short_as_promised():
    lines = [line for line in printed("files_driver.py").splitlines() if line.strip()]

    assert len(lines) <= 80
