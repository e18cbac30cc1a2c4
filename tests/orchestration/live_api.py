"""The API on a real unix socket, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Coroutine, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from structlog.testing import capture_logs

from config.model import Infrastructure, Pod, Region, Resource, Zone
from orchestration import api
from orchestration.api_messages import Orchestration
from orchestration.api_server import bind_unix
from tests.orchestration.memory_orchestrator import MemoryOrchestrator

T = TypeVar("T")


class LiveApi:
    def __init__(self, socket_path: Path, heartbeat_s: float = 15.0) -> None:
        self.socket_path = socket_path
        self.heartbeat_s = heartbeat_s
        self.orchestrator = MemoryOrchestrator()
        self.logs: list[MutableMapping[str, object]] = []
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}"

    def run(self, coroutine: Coroutine[object, object, T]) -> T:
        """Run `coroutine` in the server's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def start(self) -> None:
        self._thread.start()
        assert self._up.wait(10)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(20)
        assert not self._thread.is_alive()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        typed: Orchestration = self.orchestrator
        app = api.build(typed)
        app.state.streams.heartbeat_s = self.heartbeat_s
        self._up.set()
        await api.serve(app, [bind_unix(self.socket_path)], self._stop)


@contextmanager
def live_api(heartbeat_s: float = 15.0) -> Iterator[LiveApi]:
    with tempfile.TemporaryDirectory() as folder, capture_logs() as logs:
        server = LiveApi(Path(folder) / "api.sock", heartbeat_s)
        server.logs = logs
        server.start()
        try:
            yield server
        finally:
            server.stop()


def small_infrastructure(count: int = 3, **config: object) -> Infrastructure:
    resources = tuple(
        Resource(name=f"vm-{number}", kind="vm", driver="simulated", config=dict(config))
        for number in range(1, count + 1)
    )
    pod = Pod(name="rack-1", resources=resources)
    return Infrastructure(
        name="small", regions=(Region(name="eu", zones=(Zone(name="a", pods=(pod,)),)),)
    )
