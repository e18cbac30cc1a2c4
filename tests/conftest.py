"""What every test may rely on: nothing of the caller's environment reaches it, and system tests go first.

A test sees no `CLOUDCTL_*` variable, and the folders where cloudctl keeps state and contexts by default
are empty temporary ones, so no test can meet (or harm) a server somebody really runs.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[1]
SYSTEM = Path(__file__).parent / "system"
UNPACKED = ROOT / ".cache" / "prometheus" / "usr" / "bin"

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


@pytest.fixture(scope="module")
def scraping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Prometheus]]:
    """Starts a real Prometheus with the committed configuration, scraping the target it is given."""
    with contextlib.ExitStack() as stack:

        def start(target: str) -> Prometheus:
            folder = tmp_path_factory.mktemp("prometheus")
            return stack.enter_context(Prometheus(_unpacked("prometheus"), folder, target))

        yield start


class Prometheus:
    """A Prometheus of our own, on loopback, four scrapes a second; ended with the context."""

    def __init__(self, program: str, folder: Path, target: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        shutil.copytree(ROOT / "grafana" / "prometheus" / "rules", folder / "rules")
        text = (ROOT / "grafana" / "prometheus" / "prometheus.yml").read_text()
        text = text.replace("127.0.0.1:9464", target).replace("interval: 15s", "interval: 250ms")
        (folder / "prometheus.yml").write_text(text)
        self._command = [
            program,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        self._log = folder / "log"

    def __enter__(self) -> Prometheus:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of an API answer; waits until the server listens."""
        address = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urlencode(parameters)}"
        deadline = time.monotonic() + 20
        while True:
            try:
                with urlopen(address, timeout=10) as answer:
                    return json.load(answer)["data"]
            except HTTPError as error:
                if error.code != 503:  # not ready yet
                    raise AssertionError(f"{parameters}: {error.read().decode()}") from error
            except URLError:
                assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def without_data(self, queries: Mapping[str, str], within_s: float = 20) -> dict[str, str]:
        """Which of the queries, by name, still return no series (or only NaN) when the time is over."""
        deadline = time.monotonic() + within_s
        missing = dict(queries)
        while missing and time.monotonic() < deadline:
            missing = {name: query for name, query in missing.items() if not self._has_data(query)}
            if missing:
                time.sleep(0.25)
        return missing

    def _has_data(self, query: str) -> bool:
        values = [float(series["value"][1]) for series in self.ask("query", query=query)["result"]]
        return any(not math.isnan(value) for value in values)
