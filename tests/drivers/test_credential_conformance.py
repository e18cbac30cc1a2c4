from __future__ import annotations

from typing import ClassVar

import pytest

from drivers.contract import DeniedError, Driver
from drivers.simulated import SimulatedDriver
from drivers.testing import CredentialConformance

TOKEN = "right"


class Guarded(SimulatedDriver):
    """A driver whose peer lets in who knows the token behind `#`."""

    async def open(self, deadline_s: float) -> None:
        if self.connect.rpartition("#")[2] != TOKEN:
            raise DeniedError(f"{self.connect}: the token is wrong")


class TestGuardedDriver(CredentialConformance):
    driver: ClassVar[type[Driver]] = Guarded
    refused: ClassVar[str] = "unix:/nowhere#wrong"


async def test_driver_that_lets_anybody_in_fails_the_conformance_test() -> None:
    case = CredentialConformance()
    case.driver, case.refused = Guarded, f"unix:/nowhere#{TOKEN}"  # type: ignore[misc]

    with pytest.raises(pytest.fail.Exception):
        await case.test_wrong_credentials_are_denied()
