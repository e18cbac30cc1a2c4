"""The orchestration node: `python -m orchestration.node`, a child of `cloudctl serve`.

One process, one loop: journal, dispatchers, gateway and API. It writes `alive` on the heartbeat pipe from
that loop, so a loop that hangs is noticed; it ends with `serve`, and on any error nobody expected.
Everything it knows is rebuilt from the journal at the next start.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO, cast

import structlog
import uvloop

from orchestration import api, metrics_listener
from orchestration.api_server import bind_unix
from orchestration.figures import Figures
from orchestration.gateway import Gateway
from orchestration.journal.contract import JournalError
from orchestration.journal.sqlite import SqliteJournal
from orchestration.service import Orchestrator
from orchestration.state_folder import StateFolder
from otp import Runtime
from otp.distribution.process_control import die_with_parent

__all__ = ["SparedStream", "main"]

BEAT_S = 0.5
# The writer thread takes the interpreter lock a few times per commit; the default 5 ms would be its latency.
SWITCH_INTERVAL_S = 0.0005
GC_THRESHOLDS = (50_000, 20, 100)
EXIT_FAILED = 70  # EX_SOFTWARE
EXIT_UNUSABLE = 74  # EX_IOERR

_log = structlog.get_logger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until SIGTERM; the exit status says why it ended."""
    options = _parse(arguments)
    die_with_parent(os.getppid())
    _log_json()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_run(options))
        except (JournalError, OSError, ValueError) as error:
            _log.critical("the node cannot run", error=str(error))
            return EXIT_UNUSABLE


class SparedStream:
    """A stream for log lines that a full disk may swallow: no line is worth what it reports on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write if it can be."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if it can be."""
        with contextlib.suppress(OSError):
            self._stream.flush()


class _Heartbeat:
    """Tells `serve` that the loop turns, and what this node wants."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        if fd is not None:
            os.set_blocking(fd, False)

    def say(self, line: str) -> None:
        """Write one line; a full pipe has enough of them already."""
        if self._fd is not None:
            with contextlib.suppress(BlockingIOError):
                os.write(self._fd, f"{line}\n".encode())

    async def beat(self, orchestrator: Orchestrator) -> None:
        """Write `alive` for ever, and `want devices` for each revision that needs them."""
        revision = -1
        while True:
            self.say("alive")
            current, _ = orchestrator.infrastructure()
            if current != revision:
                revision = current
                if orchestrator.wants_devices:
                    self.say("want devices")
            await asyncio.sleep(BEAT_S)


async def _run(options: argparse.Namespace) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    folder = StateFolder(options.state_dir)
    figures = Figures(time.monotonic)
    journal = SqliteJournal(folder.journal, took=figures.note_commit)
    orchestrator = Orchestrator(
        journal,
        Runtime(clock=time.monotonic, loop=loop),
        figures=figures,
        folder=folder,
        metrics_address=options.metrics_listen or "",
    )
    gateway = _rebuild(orchestrator)
    api_socket = bind_unix(folder.api_socket)
    await gateway.start(folder.orchestration_socket, folder.read_cookie())
    scrapes = None
    if options.metrics_listen:
        scrapes = await metrics_listener.listen(options.metrics_listen, orchestrator.metrics)
    heartbeat = _Heartbeat(options.heartbeat_fd)
    beats = asyncio.ensure_future(heartbeat.beat(orchestrator))
    serving = asyncio.ensure_future(api.serve(api.build(orchestrator), [api_socket], stop))
    heartbeat.say("ready")
    failure = await _until_over(serving, beats, orchestrator, journal)
    stop.set()
    await serving
    beats.cancel()
    if scrapes is not None:
        scrapes.close()
    await orchestrator.stop()
    if failure:
        _log.critical("the node ends", reason=failure)
        return EXIT_FAILED
    _log.info("stopped")
    return 0


def _rebuild(orchestrator: Orchestrator) -> Gateway:
    """Rebuild without the garbage collector: what comes stays, and looking through it doubles the time."""
    began = time.monotonic()
    gc.disable()
    gateway = orchestrator.start()
    gc.freeze()
    # Accepted units live long: looking through them again and again was a third of accepting: 23 us, not 15.
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()
    _log.info("rebuilt from the journal", took_s=round(time.monotonic() - began, 3))
    return gateway


async def _until_over(
    serving: asyncio.Future[None],
    beats: asyncio.Future[None],
    orchestrator: Orchestrator,
    journal: SqliteJournal,
) -> str:
    """Wait for the order to stop, or for a failure; returns what failed, "" for an order."""
    watched: list[asyncio.Future[object]] = [serving, beats, orchestrator.failed, journal.broken]  # type: ignore[list-item]
    await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
    if orchestrator.failed.done():
        return orchestrator.failed.result()
    if journal.broken.done():
        return f"the journal's writer failed: {journal.broken.result()!r}"
    if beats.done():
        return f"the heartbeat ended: {beats.exception()!r}"
    return ""


def _log_json() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", SparedStream(sys.stderr))),
    )
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="orchestration.node")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--run-dir", type=Path, help="as the state folder implies; for `ps`")
    parser.add_argument("--heartbeat-fd", type=int)
    parser.add_argument("--metrics-listen", metavar="HOST:PORT")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
