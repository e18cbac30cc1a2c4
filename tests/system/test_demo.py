"""`make demo` in small: it ends well, and it leaves nothing behind when it is interrupted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GONE_S = 15.0


def running_in(folder: Path) -> list[int]:
    """Every process that has the folder in its command line or its environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in words:
            found.append(int(entry.name))
    return found


@pytest.fixture
def start() -> Iterator:
    begun: list[subprocess.Popen[str]] = []

    def start_demo(*arguments: str) -> subprocess.Popen[str]:
        # A session of its own, so that a signal to its group is what Ctrl-C is on a terminal.
        demo = subprocess.Popen(
            [sys.executable, "-m", "scripts.demo", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        begun.append(demo)
        return demo

    yield start_demo
    for demo in begun:
        if demo.poll() is None:
            demo.terminate()
            demo.wait(GONE_S)
        assert demo.stdout is not None
        demo.stdout.close()


def state_folder(demo: subprocess.Popen[str]) -> Path:
    assert demo.stdout is not None
    found = re.search(r"state folder (\S+),", demo.stdout.readline())
    assert found is not None
    return Path(found.group(1))


@pytest.mark.parametrize("arguments", [(), ("--simulated",)], ids=["libvirt", "simulated"])
def test_demo_ends_with_its_figures_and_leaves_nothing(start, arguments):
    demo = start("--units", "600", *arguments)
    folder = state_folder(demo)
    told, _ = demo.communicate(timeout=110)

    last = told.splitlines()[-1]
    pattern = r"demo: ok units=600 lost=0 overlapping=0 stale=0 heal_s=\d+\.\d"
    assert re.fullmatch(pattern, last), told
    assert demo.returncode == 0
    assert not folder.exists()
    assert running_in(folder) == []


@pytest.mark.parametrize("word", ["apply", "submit", "SIGKILL"])
def test_interrupted_demo_leaves_nothing(start, word):
    demo = start("--units", "1200")
    folder = state_folder(demo)
    assert demo.stdout is not None
    for line in demo.stdout:
        if word in line:
            break
    os.killpg(demo.pid, signal.SIGINT)
    told, _ = demo.communicate(timeout=30)

    assert told.splitlines()[-1] == "demo: FAILED interrupted"
    assert demo.returncode == 130
    assert not folder.exists()
    deadline = time.monotonic() + GONE_S
    while running_in(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running_in(folder) == []
