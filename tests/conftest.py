"""What every test may rely on: nothing of the caller's environment reaches it, and system tests go first.

A test sees no `CLOUDCTL_*` variable, and the folders where cloudctl keeps state and contexts by default
are empty temporary ones, so no test can meet (or harm) a server somebody really runs.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SYSTEM = Path(__file__).parent / "system"
UNPACKED = Path(__file__).parents[1] / ".cache" / "prometheus" / "usr" / "bin"

for _name in [name for name in os.environ if name.startswith("CLOUDCTL_")]:
    del os.environ[_name]
for _name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
    os.environ.pop(_name, None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # One worker runs them one after the other while the other runs the rest: real processes that
    # compete for two cores would only measure each other.
    for item in items:
        if SYSTEM in item.path.parents:
            item.add_marker("system")
            item.add_marker(pytest.mark.xdist_group("system"))
    items.sort(key=lambda item: item.get_closest_marker("system") is None)


@pytest.fixture(scope="session", autouse=True)
def own_default_folders() -> Iterator[None]:
    home = tempfile.mkdtemp(prefix="cloudctl-tests-")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
            patch.setenv(variable, f"{home}/{variable.lower()}")
        yield
    shutil.rmtree(home)


def _unpacked(name: str) -> str:
    found = shutil.which(name, path=f"{UNPACKED}:{os.environ.get('PATH', os.defpath)}")
    assert found is not None, f"{name} is missing: run scripts/prometheus.sh"
    return found


@pytest.fixture(scope="session")
def promtool() -> str:
    return _unpacked("promtool")


@pytest.fixture(scope="session")
def prometheus() -> str:
    return _unpacked("prometheus")
