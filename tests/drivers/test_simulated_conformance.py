"""The simulated driver against a real device service."""

from __future__ import annotations

import pytest

from drivers.contract import Step
from drivers.simulated import SimulatedDriver
from drivers.testing import DriverConformance, ServiceProcess


@pytest.fixture
def peer(tmp_path):
    service = ServiceProcess(tmp_path)
    yield service
    service.stop()


class TestSimulatedDriver(DriverConformance):
    driver = SimulatedDriver
    prepare = (Step("create", {"memory": "1GiB"}),)
    change = Step("start")
    bad = Step("start", {"fail": "gently"})
    slow = Step("start", {"hang": True})
    nowhere = "unix:/nonexistent/devices.sock"
