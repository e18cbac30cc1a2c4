"""The README's five minutes, word by word."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
FILE = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
STEPS = README[README.index("**2. Apply it.**") : README.index("**5. Change it, or stop.**")]
COMMANDS = "\n".join(re.findall(r"```sh\n(.*?)```", STEPS, re.DOTALL))


@pytest.fixture
def environment(tmp_path):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "CLOUDCTL_STATE_DIR": str(tmp_path / "state")}
    yield environment
    subprocess.run(["cloudctl", "server", "stop"], env=environment, check=False)


def run(command: str, environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_first_five_minutes_go_as_the_readme_says(environment, tmp_path):
    assert FILE is not None
    (tmp_path / "first.toml").write_text(FILE.group(1))

    run("cloudctl validate first.toml", environment, tmp_path)
    told = run(COMMANDS, environment, tmp_path)

    assert "starting one in the background" in told
    assert told.count("1 succeeded") == 2
    assert "3 succeeded" in told
    assert re.search(r"I1 +holds", told)
    assert "No changes" in run("cloudctl plan first.toml", environment, tmp_path)


def test_every_command_of_the_pages_exists(environment, tmp_path):
    pages = README + (ROOT / "docs" / "operations.md").read_text()
    words = set(re.findall(r"(?:^|`)cloudctl ([a-z]+)", pages, re.MULTILINE))

    assert len(words) > 10
    for word in sorted(words):
        run(f"cloudctl {word} --help", environment, tmp_path)
