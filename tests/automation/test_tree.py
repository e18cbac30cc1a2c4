import os
import signal

import pytest

from rpc.messages import Crashed, NodeLost, NodeUp, Ready, Supervision
from tests.automation.two_tiers import Tier, device, tree, unit

pytestmark = pytest.mark.system

POD = "eu/a/p"


@pytest.fixture
async def tier(tmp_path):
    async with Tier(tmp_path) as tier:
        await tier.start_devices()
        yield tier


async def up(tier: Tier, *pods: str, **more) -> None:
    tier.tree = tree(*pods, **more)
    await tier.start_automation()
    for pod in pods:
        await tier.until(lambda pod=pod: pod in tier.links)


async def test_tree_comes_up_with_rising_epochs(tier):
    await up(tier, "eu/a/p", "eu/a/q", "us/b/p")

    found = {name: link.peer.epoch for name, link in tier.links.items()}

    assert found["eu/a"] == (1, 1)
    assert found["us/b"] == (1, 1)
    assert found["eu/a/p"] == found["eu/a/q"] == found["us/b/p"] == (1, 1, 1)
    await tier.until(lambda: tier.node_up("eu/a/p") and tier.node_up("us/b"))
    assert tier.node_up("eu/a/p").pid == tier.links["eu/a/p"].peer.pid


async def test_work_runs_on_a_real_device(tier):
    await up(tier, POD)
    path = f"{POD}/vm-1"
    tier.define(POD, device(path))
    await tier.until(lambda: path in tier.epochs(POD))

    tier.dispatch(POD, path, unit("u1", ("create", {"memory": 512}), ("start", {})))
    finished = await tier.until(lambda: tier.finished(POD).get("u1"))

    assert finished.outcome == "succeeded"
    assert finished.observed["memory"] == 512
    assert finished.observed["running"] is True


async def test_killed_pod_comes_back_with_a_newer_epoch_and_settles(tier):
    await up(tier, POD)
    path = f"{POD}/vm-1"
    tier.define(POD, device(path))
    await tier.until(lambda: path in tier.epochs(POD))
    work = unit("u1", ("create", {"memory": 512}), ("set", {"cpus": 4, "latency": "1s"}))
    tier.dispatch(POD, path, work)
    await tier.until(lambda: tier.stats.get(POD) and tier.stats[POD].stats.commands == 2)
    before = tier.links[POD].peer

    os.kill(before.pid, signal.SIGKILL)
    await tier.until(lambda: POD in tier.links and tier.links[POD].peer.pid != before.pid)
    tier.reports[POD].clear()
    tier.define(POD, device(path, doubt=(work,)), complete=True)
    (ready,) = await tier.until(lambda: tier.of(POD, Ready))

    assert ready.epoch > (*before.epoch, 99)
    assert [one.unit for one in ready.settled] == ["u1"]
    assert ready.settled[0].completed >= 1
    lost = [body for body in tier.of("eu/a", NodeLost) if body.pid == before.pid]
    assert "SIGKILL" in lost[0].reason


async def test_reports_wait_while_orchestration_is_away(tier):
    await up(tier, POD)
    path = f"{POD}/vm-1"
    tier.define(POD, device(path))
    await tier.until(lambda: path in tier.epochs(POD))
    tier.dispatch(POD, path, unit("u1", ("noop", {"latency": "500ms"})))
    await tier.until(lambda: tier.stats.get(POD) and tier.stats[POD].stats.commands == 1)

    tier.hang_up()
    await tier.until(lambda: not tier.links)
    await tier.listen()
    finished = await tier.until(lambda: tier.finished(POD).get("u1"))

    assert finished.outcome == "succeeded"


async def test_tree_follows_what_is_applied(tier):
    await up(tier, "eu/a/p", "eu/a/q")
    kept = tier.links["eu/a/p"].peer.pid
    zone = tier.links["eu/a"].peer.pid

    tier.links["root"].send(tree("eu/a/p", "eu/a/r", "eu/c/p", revision=2))
    await tier.until(lambda: {"eu/a/r", "eu/c/p"} <= set(tier.links))
    await tier.until(lambda: "eu/a/q" not in tier.links)

    assert tier.links["eu/a/p"].peer.pid == kept
    assert tier.links["eu/a"].peer.pid == zone


async def test_pod_with_changed_limits_is_restarted_with_them(tier):
    await up(tier, POD, mailbox=1)
    before = tier.links[POD].peer

    tier.links["root"].send(tree(POD, revision=2, mailbox=2))
    await tier.until(lambda: POD in tier.links and tier.links[POD].peer.pid != before.pid)

    assert tier.links[POD].peer.epoch > before.epoch


async def test_crash_of_the_driver_is_reported_with_its_culprit(tier):
    await up(tier, POD)
    path = f"{POD}/vm-1"
    tier.define(POD, device(path))
    await tier.until(lambda: path in tier.epochs(POD))

    tier.dispatch(POD, path, unit("u1", ("noop", {"crash": True})), unit("u2"))
    (crashed,) = await tier.until(lambda: tier.of(POD, Crashed))

    assert (crashed.unit, crashed.culprit) == ("u1", True)
    await tier.until(lambda: len(tier.of(POD, Ready)) == 2)


async def test_killed_zone_takes_its_pods_along_and_all_come_back(tier):
    await up(tier, "eu/a/p", "eu/b/p")
    zone, pod, other = (tier.links[name].peer for name in ("eu/a", "eu/a/p", "eu/b/p"))

    os.kill(zone.pid, signal.SIGKILL)
    await tier.until(
        lambda: (
            "eu/a/p" in tier.links
            and tier.links["eu/a/p"].peer.pid != pod.pid
            and [b for b in tier.of("root", NodeUp) if b.node == "eu/a"][-1].pid != zone.pid
        )
    )

    assert tier.links["eu/a/p"].peer.epoch > pod.epoch
    assert tier.links["eu/b/p"].peer.pid == other.pid


async def test_zone_gives_up_on_a_pod_that_keeps_dying_and_begins_anew(tier):
    tier.tree = tree(POD, "eu/b/p", zone=Supervision(intensity=1, period_s=60.0))
    await tier.start_automation()
    await tier.until(lambda: {POD, "eu/a", "eu/b/p"} <= set(tier.links))
    zone, other = tier.links["eu/a"].peer, tier.links["eu/b/p"].peer

    for _ in range(2):
        await tier.until(lambda: POD in tier.links)
        pod = tier.links[POD].peer
        os.kill(pod.pid, signal.SIGKILL)
        await tier.until(lambda pod=pod: POD not in tier.links or tier.links[POD].peer != pod)
    await tier.until(lambda: "eu/a" in tier.links and tier.links["eu/a"].peer.pid != zone.pid)
    await tier.until(lambda: POD in tier.links)

    assert tier.links[POD].peer.epoch[:2] == (1, 2)
    assert tier.links["eu/b/p"].peer == other


async def test_hanging_command_is_cut_off_and_settled(tier):
    await up(tier, POD)
    path = f"{POD}/vm-1"
    tier.define(POD, device(path))
    await tier.until(lambda: path in tier.epochs(POD))

    tier.dispatch(POD, path, unit("u1", ("noop", {"hang": True}), deadline_s=0.3), unit("u2"))
    finished = await tier.until(lambda: tier.finished(POD).get("u2") and tier.finished(POD))

    assert (finished["u1"].outcome, finished["u1"].fault.retryable) == ("failed", True)
    assert finished["u2"].outcome == "succeeded"
