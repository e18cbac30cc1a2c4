import os
import signal
import time

import pytest

pytestmark = pytest.mark.system

HEAL_LIMIT_S = 5.0
START_LIMIT_S = 15.0


@pytest.mark.parametrize("victim", ["admin", "logger", "root", "eu/a", "eu/b/rack-2"])
def test_tree_heals_after_the_loss_of_one_process(tree, victim, blow):
    tree.start_launcher()
    tree.wait(tree.is_whole, START_LIMIT_S)
    before = tree.pids()

    os.kill(before[victim], blow)
    healed_s = tree.wait(lambda: tree.is_whole(without=before[victim]), HEAL_LIMIT_S)

    print(f"{victim} {blow.name}: whole again after {healed_s:.2f} s")
    assert tree.pids()["top"] == before["top"]


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSEGV])
def test_nothing_outlives_the_launcher(tree, blow):
    tree.start_launcher()
    tree.wait(tree.is_whole, START_LIMIT_S)

    os.kill(tree.process.pid, blow)
    tree.process.wait()
    gone_s = tree.wait(lambda: not tree.living(), HEAL_LIMIT_S)
    tree.start_launcher()
    started_s = tree.wait(tree.is_whole, START_LIMIT_S)

    print(f"gone after {gone_s:.2f} s, next start took {started_s:.2f} s")


def test_lost_pod_leaves_the_others_alone_and_gets_a_newer_epoch(tree):
    tree.start_launcher()
    tree.wait(tree.is_whole, START_LIMIT_S)
    before, epoch = tree.pids(), tree.epoch("eu/a/rack-1")

    os.kill(before["eu/a/rack-1"], signal.SIGKILL)
    tree.wait(lambda: tree.is_whole(without=before["eu/a/rack-1"]), HEAL_LIMIT_S)

    after = tree.pids()
    assert {n for n in before if before[n] != after[n]} == {"eu/a/rack-1"}
    assert tree.epoch("eu/a/rack-1") > epoch


def test_lost_zone_takes_its_pods_with_it_and_no_others(tree):
    tree.start_launcher()
    tree.wait(tree.is_whole, START_LIMIT_S)
    before = tree.pids()

    os.kill(before["eu/a"], signal.SIGKILL)
    tree.wait(lambda: tree.is_whole(without=before["eu/a"]), HEAL_LIMIT_S)

    after = tree.pids()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"eu/a", "eu/a/rack-1", "eu/a/rack-2"}


def test_stop_of_the_launcher_ends_all_in_time(tree):
    tree.start_launcher()
    tree.wait(tree.is_whole, START_LIMIT_S)

    began = time.monotonic()
    tree.process.terminate()
    assert tree.process.wait(HEAL_LIMIT_S) == 0

    assert tree.living() == []
    print(f"stopped after {time.monotonic() - began:.2f} s")


def test_whole_machine_stall_kills_nobody(tree):
    tree.start_launcher()
    tree.wait(tree.is_whole, START_LIMIT_S)
    before = tree.pids()

    # Everything at once, watchers included, as a suspended machine does it; short of the launcher's
    # own rule about stopped daemons it must not matter for how long.
    everyone = tree.living()
    for pid in everyone:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(4.0)
    for pid in everyone:
        os.kill(pid, signal.SIGCONT)
    time.sleep(1.5)

    assert tree.pids() == before
