import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.state_folder import StateFolder

pytestmark = pytest.mark.system

HEAL_LIMIT_S = 5.0
START_LIMIT_S = 15.0
SMALL_SERVE = str(Path(__file__).with_name("small_serve.py"))
SERVED = {"top", "orchestration", "launcher", "devices"}


@pytest.fixture
def served(tree, tmp_path):
    folder = StateFolder(tmp_path / "state")
    tree.run = folder.run
    tree.folder = folder
    tree.start(SMALL_SERVE, str(folder.path))
    tree.wait(lambda: is_whole(tree), START_LIMIT_S)
    return tree


def is_whole(tree, without=None):
    return tree.is_whole(without) and set(tree.pids()) >= SERVED


@pytest.mark.parametrize("victim", ["orchestration", "launcher"])
def test_server_heals_after_the_loss_of_a_tier(served, victim, blow):
    before = served.pids()

    os.kill(before[victim], blow)
    healed_s = served.wait(lambda: is_whole(served, without=before[victim]), HEAL_LIMIT_S)

    print(f"{victim} {blow.name}: whole again after {healed_s:.2f} s")
    after = served.pids()
    assert after["top"] == before["top"]
    untouched = "launcher" if victim == "orchestration" else "orchestration"
    assert after[untouched] == before[untouched]


def test_nothing_outlives_serve_and_the_next_start_works(served, blow):
    os.kill(served.process.pid, blow)
    gone_s = served.wait(lambda: not served.living(), HEAL_LIMIT_S)
    served.process.wait()
    served.start(SMALL_SERVE, str(served.folder.path))
    started_s = served.wait(lambda: is_whole(served), START_LIMIT_S)

    print(f"{blow.name}: gone after {gone_s:.2f} s, next start took {started_s:.2f} s")


def test_hanging_child_is_killed_and_started_again(served):
    before = served.pids()

    os.kill(before["orchestration"], signal.SIGUSR1)

    served.wait(lambda: is_whole(served, without=before["orchestration"]), 10.0)


def test_lost_device_service_is_started_again(served):
    before = served.pids()

    os.kill(before["devices"], signal.SIGKILL)

    served.wait(lambda: is_whole(served, without=before["devices"]), HEAL_LIMIT_S)
    assert {n for n in before if before[n] != served.pids()[n]} == {"devices"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_orderly_stop_leaves_nothing_and_succeeds(served, number):
    served.process.send_signal(number)

    assert served.process.wait(HEAL_LIMIT_S) == 0
    assert served.living() == []
    assert not served.folder.serve_record.exists()


def test_second_serve_is_refused_and_names_the_first(served):
    second = subprocess.run(
        [sys.executable, "-m", "orchestration.serve", "--state-dir", str(served.folder.path)],
        env=served.env,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert second.returncode == 1
    assert "error[CLOUDCTL-E0265]" in second.stderr
    assert f"(pid {served.process.pid})" in second.stderr
    assert is_whole(served)


@pytest.mark.parametrize("what", ["", "lock"])
def test_serve_without_its_folder_ends_with_all_its_children(served, what):
    remove(served.folder.path / what)

    status = served.process.wait(HEAL_LIMIT_S)
    served.wait(lambda: not served.living(), HEAL_LIMIT_S)

    assert status != 0
    assert f"{served.folder.path}, or its lock file, was removed" in served.text()


def test_server_started_in_place_of_a_removed_one_is_left_alone(served):
    before = served.process
    remove(served.folder.path)

    served.start(SMALL_SERVE, str(served.folder.path))
    before.wait(HEAL_LIMIT_S)
    served.wait(lambda: is_whole(served), START_LIMIT_S)

    assert {each["restarts"] for each in restarts(served).values() if "restarts" in each} == {0}


def restarts(served):
    return json.loads(served.folder.serve_record.read_text())


def remove(path):
    """As `rm -rf` does, against processes that go on writing into it."""
    if path.is_file():
        path.unlink()
    while path.is_dir():
        shutil.rmtree(path, ignore_errors=True)


def test_starter_learns_when_the_api_answers(tree, tmp_path):
    folder = StateFolder(tmp_path / "state")
    tree.run = folder.run
    reader, writer = os.pipe()
    with os.fdopen(reader) as news:
        tree.process = subprocess.Popen(
            [sys.executable, SMALL_SERVE, str(folder.path), str(writer)],
            env=tree.env,
            stderr=subprocess.DEVNULL,
            pass_fds=(writer,),
        )
        os.close(writer)

        assert news.read() == "ready\n"  # and the end of file: no child holds it open
