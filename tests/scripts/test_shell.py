"""The shell scripts that run before there is a Python environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run"]
TOOLS = ("bash", "env", "dirname", "sed", "id", "cat")


def run(script: str, *arguments: str, path: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / script, *arguments],
        env={"PATH": path, **more},
        capture_output=True,
        text=True,
        check=False,
    )


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def bare(tmp_path) -> str:
    """A PATH with the shell's own tools and a Python, and nothing else."""
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / tool).symlink_to(found)
    (tmp_path / "python3").symlink_to(sys.executable)
    return str(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_executable_and_free_of_syntax_errors(script):
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)


def test_python_that_does_not_run_is_passed_over(bare):
    (Path(bare) / "python3").unlink()
    program(Path(bare), "python3", "echo 'pyenv: version not installed' >&2; exit 127")
    (Path(bare) / "python3.11").symlink_to(sys.executable)

    found = run("find_python.sh", path=bare)

    assert found.returncode == 0
    assert Path(found.stdout.strip()).exists()


def test_python_named_by_the_caller_comes_first(bare):
    program(Path(bare), "mine", "echo /chosen/python")

    assert run("find_python.sh", path=bare, PYTHON="mine").stdout == "/chosen/python\n"


def test_missing_packages_are_named(bare):
    missing = run("debian_packages.sh", "missing", path=bare)

    assert {"libvirt-clients", "gcc", "pkg-config", "libvirt-dev"} <= set(missing.stdout.split())


def test_tests_refuse_to_start_without_their_packages(bare):
    refused = run("debian_packages.sh", "require", path=bare)

    assert refused.returncode == 1
    assert "sudo apt-get update && sudo apt-get install" in refused.stderr
    assert "libvirt-clients" in refused.stderr


def test_nothing_is_missing_where_the_tests_run():
    complete = run("debian_packages.sh", "missing", path=os.environ["PATH"])

    assert (complete.returncode, complete.stdout) == (0, "")


def test_unknown_word_is_a_usage_error(bare):
    refused = run("debian_packages.sh", "instal", path=bare)

    assert refused.returncode == 64
    assert "debian_packages.sh missing" in refused.stderr
