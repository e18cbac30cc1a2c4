from collections.abc import Iterator

import pytest

from otp.testing import VirtualRuntime


@pytest.fixture
def runtime() -> Iterator[VirtualRuntime]:
    virtual = VirtualRuntime()
    yield virtual
    virtual.close()
