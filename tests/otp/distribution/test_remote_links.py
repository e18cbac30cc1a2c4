import pytest

from otp import CallError, CrashReport, Raised
from otp.distribution.remote import Opaque, RemoteError
from otp.errors import OtpError
from otp.node_names import OnNode


@pytest.fixture
async def far(ann, bob):
    """A process of ann, as bob knows it."""
    ann.start("far")
    return await bob.ask(OnNode("far", "ann"), "pid")


@pytest.fixture
async def near(bob):
    """A process of bob that traps exits."""
    return bob.start(trap=True)


async def settled(ann, bob):
    """Let pass whatever is under way."""
    for _ in range(3):
        for node, other in ((ann, "bob"), (bob, "ann")):
            with pytest.raises(CallError):
                await node.ask(OnNode("nobody", other))


async def test_monitor_tells_why_a_far_process_ended(ann, bob, far, near):
    await bob.ask(near, "monitor", far)
    await settled(ann, bob)

    ann.runtime.exit(ann.runtime.whereis("far"), ("boom", [1]))

    assert await bob.got(near, 1) == (("DOWN", far, ("boom", [1])),)


async def test_monitor_by_name_names_what_was_monitored(ann, bob, far, near):
    await bob.ask(near, "monitor", OnNode("far", "ann"))

    bob.runtime.exit(far, "kill")

    assert await bob.got(near, 1) == (("DOWN", OnNode("far", "ann"), "killed"),)


async def test_monitor_of_nobody_fires_noproc(bob, near):
    await bob.ask(near, "monitor", OnNode("nobody", "ann"))

    assert await bob.got(near, 1) == (("DOWN", OnNode("nobody", "ann"), "noproc"),)


async def test_monitor_of_unconnected_node_fires_noconnection(bob, near):
    await bob.ask(near, "monitor", OnNode("far", "carl"))

    assert await bob.ask(near, "got") == (("DOWN", OnNode("far", "carl"), "noconnection"),)


async def test_demonitor_keeps_the_down_away(ann, bob, far, near):
    await bob.ask(near, "monitor", far)
    await bob.ask(near, "demonitor", far)

    bob.runtime.exit(far, "kill")
    await settled(ann, bob)

    assert await bob.ask(near, "got") == ()
    assert not ann.runtime.tables["other nodes"].peer("bob")._reporting


async def test_link_carries_the_exit_reason_both_ways(ann, bob, far, near):
    partner = bob.start()
    await bob.ask(near, "link", far)
    await bob.ask(partner, "link", far)

    bob.runtime.exit(partner, "boom")

    assert await bob.got(near, 1) == (("EXIT", far, "boom"),)


async def test_normal_end_leaves_linked_process_alive(ann, bob, far, near):
    partner = bob.start()
    await bob.ask(partner, "link", far)

    with pytest.raises(CallError):
        await bob.ask(partner, "stop", "normal")

    assert await bob.ask(far, "got") == ()
    assert ann.runtime.whereis("far").linked() == ()


async def test_link_made_there_is_known_here(ann, bob, far, near):
    await bob.ask(far, "link", near)

    assert near.linked() == (far,)
    bob.runtime.exit(near, "kill")

    await settled(ann, bob)
    assert ann.runtime.whereis("far") is None


async def test_unlink_keeps_the_exit_away(ann, bob, far, near):
    await bob.ask(near, "link", far)
    await bob.ask(near, "unlink", far)

    bob.runtime.exit(far, "kill")
    await settled(ann, bob)

    assert await bob.ask(near, "got") == ()


async def test_one_unlink_undoes_any_number_of_links(ann, bob, far, near):
    await bob.ask(near, "link", far)
    await bob.ask(near, "link", far)
    await settled(ann, bob)
    await bob.ask(near, "unlink", far)
    await settled(ann, bob)

    assert ann.runtime.whereis("far").linked() == ()


async def test_exit_of_an_older_link_is_not_taken_for_the_new_one(ann, bob, far, near):
    await bob.ask(near, "link", far)
    await settled(ann, bob)
    near.unlink(far)
    near.link(far)

    ann.runtime.exit(ann.runtime.whereis("far"), "boom")

    assert await bob.got(near, 1) == (("EXIT", far, "noproc"),)
    await settled(ann, bob)
    assert len(await bob.ask(near, "got")) == 1


async def test_link_to_a_name_elsewhere_is_refused(bob, far, near):
    name = bob.runtime.whereis(OnNode("far", "ann"))

    with pytest.raises(OtpError, match="takes a pid"):
        near.link(name)

    assert near.linked() == ()


async def test_link_to_the_dead_fires_noproc(ann, bob, far, near):
    bob.runtime.exit(far, "kill")
    await settled(ann, bob)

    await bob.ask(near, "link", far)

    assert await bob.got(near, 1) == (("EXIT", far, "noproc"),)
    assert near.linked() == ()


async def test_crossing_unlink_and_link_leave_both_sides_agreed(ann, bob, far, near):
    other = ann.runtime.whereis("far")
    await bob.ask(far, "link", near)
    there = other.linked()[0]

    near.unlink(far)  # nothing of this has reached the other side when it does the same
    other.unlink(there)
    near.link(far)
    await settled(ann, bob)

    assert (near.linked(), other.linked()) == ((far,), (there,))


async def test_exit_signal_names_its_sender(ann, bob, near):
    trapping = ann.start("trapping", trap=True)
    far = await bob.ask(OnNode("trapping", "ann"), "pid")

    await bob.ask(near, "exit", far, "please")
    await settled(ann, bob)

    ((_, sender, reason),) = await ann.ask(trapping, "got")
    assert (sender.node, sender.serial, reason) == ("bob", near.serial, "please")


async def test_lost_link_is_noconnection_for_links_and_monitors_once(ann, bob, far, near):
    untrapped = bob.start()
    await bob.ask(untrapped, "link", far)
    await bob.ask(near, "link", far)
    await bob.ask(near, "monitor", far)

    ann.links.close()

    got = await bob.got(near, 2)
    assert sorted(got) == [("DOWN", far, "noconnection"), ("EXIT", far, "noconnection")]
    assert untrapped.exit_reason == "noconnection"
    assert near.linked() == ()
    assert bob.links.nodes() == []


async def test_losing_a_node_ends_what_it_linked_here(ann, bob, far, near):
    await bob.ask(far, "link", near)
    await bob.ask(far, "monitor", near)

    bob.links.close()
    await ann.until(lambda: not ann.links.nodes())

    assert ann.runtime.whereis("far") is None
    assert near.monitored_by() == ()
    assert near.watchers in ({}, None) or bob.links in near.watchers


async def test_pid_works_again_after_the_link_is_back(ann, bob, far, near):
    await bob.ask(near, "monitor", far)
    bob.links.peer("ann").channel.close()
    await bob.got(near, 1)

    await bob.links.connected("ann")

    assert await bob.ask(far, "echo", 1) == 1
    assert await bob.ask(near, "got") == (("DOWN", far, "noconnection"),)


async def test_restarted_node_gets_nothing_meant_for_the_old_one(ann, bob, far, near, new_node):
    ann.links.close()
    await bob.until(lambda: not bob.links.nodes())
    again = new_node("ann")
    await again.listen()
    await bob.links.connected("ann")
    heir = again.start("far")
    assert heir.serial == far.serial
    assert await bob.ask(OnNode("far", "ann"), "got") == ()  # now it is known by that serial

    far.cast("a secret")
    bob.runtime.exit(far, "kill")
    await bob.ask(near, "monitor", far)
    await bob.ask(near, "link", far)
    with pytest.raises(CallError) as caught:
        await bob.ask(far, "got")

    assert caught.value.cause == "noproc"
    assert await again.ask(heir, "got") == ()
    assert await bob.ask(near, "got") == (("DOWN", far, "noproc"), ("EXIT", far, "noproc"))


async def test_old_pid_that_comes_home_is_dead(ann, bob, far, near):
    bob.start("keeper")
    await bob.ask("keeper", "echo", 1)
    bob.runtime.cast("keeper", far)
    await settled(ann, bob)
    bob.runtime.exit(far, "kill")
    await settled(ann, bob)

    (home,) = await ann.ask(OnNode("keeper", "bob"), "got")

    assert not home.is_alive()
    with pytest.raises(CallError):
        await ann.ask(home, "got")


async def test_exception_crosses_as_a_reason(ann, bob, far, near):
    await bob.ask(near, "monitor", far)
    await settled(ann, bob)

    ann.runtime.whereis("far").call(("run", int, "x"))

    ((_, _, reason),) = await bob.got(near, 1)
    assert isinstance(reason, Raised)
    assert isinstance(reason.error, RemoteError)
    assert reason.error.type_name == "ValueError"
    assert reason.stack[-1][2] == "do_run"


async def test_crash_is_reported_without_neighbours_elsewhere(ann, bob, far, near):
    reports = []
    bob.runtime.reports.subscribe(reports.append)
    crashing = bob.start()
    await bob.ask(near, "link", far)
    await bob.ask(crashing, "link", far)

    crashing.call(("run", int, "x"))

    assert (await bob.got(near, 1))[0][2].error.type_name == "ValueError"
    (crash,) = (report for report in reports if isinstance(report, CrashReport))
    assert (crash.links, crash.neighbours) == ((repr(far),), ())


async def test_reason_that_cannot_cross_is_told_as_opaque(ann, bob, far, near):
    await bob.ask(near, "link", far)
    await bob.ask(near, "monitor", far)
    await settled(ann, bob)

    ann.runtime.exit(ann.runtime.whereis("far"), ("boom", Secret()))

    got = await bob.got(near, 2)
    opaque = Opaque(f"{Secret.__module__}.Secret", "<a secret>")
    assert {reason for _, _, reason in got} == {("boom", opaque)}


class Secret:
    def __repr__(self):
        return "<a secret>"


async def test_nothing_is_kept_of_processes_that_have_ended(ann, bob, far, near):
    for _ in range(50):
        pid = bob.start()
        await bob.ask(pid, "link", far)
        await bob.ask(pid, "monitor", far)
        await bob.ask(far, "monitor", pid)
        bob.runtime.exit(pid, "normal")
        with pytest.raises(CallError):
            await bob.ask(pid, "stop", "normal")
    await settled(ann, bob)

    for node, other in ((ann, "bob"), (bob, "ann")):
        peer = node.links.peer(other)
        assert not peer._pairs
        assert not peer._watches
        assert not peer._reporting
        assert not peer.asked
        assert len(node.links._exported) <= 1
