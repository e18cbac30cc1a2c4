import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from otp.distribution.process_control import find_by_environment, kill_and_wait, status

HERE = Path(__file__).parent
MARK = "CLOUDCTL_TEST_TREE"
NODES = ["root", "eu/a", "eu/b", "eu/a/rack-1", "eu/a/rack-2", "eu/b/rack-1", "eu/b/rack-2"]


class Tree:
    """A launcher with the nodes of `node_tree` below it, possibly below a `serve`."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.mark = uuid.uuid4().hex
        self.process = None
        self.log = run.parent / "tree.log"
        self.env = {
            **os.environ,
            MARK: self.mark,
            "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path[1:]]),
        }
        self.env.pop("PYTHONUNBUFFERED", None)  # it would hide what a log without room does

    def start(self, *command: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                env=self.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_launcher(self) -> None:
        self.start(
            "-m",
            "otp.distribution.launcher",
            "--run-dir",
            str(self.run),
            "--root",
            "node_tree:root",
        )

    def pids(self) -> dict[str, int]:
        """Every process of the tree that is known by name and alive now."""
        found = {} if self.process is None else {"top": self.process.pid}
        for record in ("serve.json", "launcher.json"):
            found |= {name: each["pid"] for name, each in _read(self.run / record).items()}
        for note in (self.run / "notes").glob("*.json"):
            found[note.stem.replace("~", "/")] = _read(note).get("pid", 0)
        return {name: pid for name, pid in found.items() if _lives(pid)}

    def epoch(self, name: str) -> tuple[int, ...]:
        return tuple(_read(self.run / "notes" / f"{name.replace('/', '~')}.json")["epoch"])

    def living(self) -> list[int]:
        return [pid for pid in find_by_environment(MARK, self.mark) if _lives(pid)]

    def is_whole(self, without: int | None = None) -> bool:
        """All nodes run (none of them as process `without`), and nothing else does."""
        pids = self.pids()
        wanted = {"admin", "logger", *NODES}
        if not wanted <= set(pids) or without in pids.values():
            return False
        return set(pids.values()) >= set(self.living())

    def wait(self, condition, limit_s: float) -> float:
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < limit_s, (
                f"not within {limit_s} s: {self.pids()}, alive {self.living()}\n{self.text()}"
            )
            time.sleep(0.02)
        return time.monotonic() - began

    def text(self) -> str:
        return self.log.read_text() if self.log.is_file() else ""

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        kill_and_wait(self.living(), 5.0)
        shutil.rmtree(self.run, ignore_errors=True)  # may be outside the test's folder


def _lives(pid: int) -> bool:
    found = status(pid)
    return found is not None and found.is_alive


def _read(path: Path):
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}


@pytest.fixture
def tree(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "cookie").write_text(os.urandom(32).hex())
    tree = Tree(run)
    yield tree
    tree.close()


@pytest.fixture(params=["SIGKILL", "SIGSTOP", "SIGSEGV"])
def blow(request):
    return signal.Signals[request.param]
