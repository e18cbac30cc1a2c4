import asyncio
import itertools
from collections import namedtuple

import pytest

from otp import (
    BRUTAL_KILL,
    AlreadyPresentError,
    AlreadyStartedError,
    AutoShutdown,
    Backoff,
    ChildRestartingError,
    ChildSpec,
    GenServer,
    NoReply,
    Restart,
    StartError,
    Strategy,
    gen_server,
    supervisor,
    sys,
)

Known = namedtuple("Known", "pid")
CLEAN = ["normal", "shutdown", ("shutdown", "x")]
STRATEGIES = [each for each in Strategy if each is not Strategy.SIMPLE_ONE_FOR_ONE]
UNCLEAN = ["kill", "oops", ("other", "x")]


def remains(lab, restart, reason):
    """How a child of that type is listed after it ended: "new", "stopped" or "gone"."""
    sup = lab.start(lab.spec("a", restart=restart), intensity=5)
    old = lab.pid(sup, "a")
    lab.end(old, reason)
    now = lab.children(sup).get("a", "gone")
    if now == "gone":
        return now
    return "stopped" if now is None else "new" if now is not old else "old"


@pytest.mark.otp("supervisor_SUITE", "permanent_normal")
def test_permanent_child_is_restarted_after_normal(lab):
    assert remains(lab, Restart.PERMANENT, "normal") == "new"
    assert lab.labels() == ["child_terminated a"]


@pytest.mark.otp("supervisor_SUITE", "transient_normal")
def test_transient_child_stays_down_after_normal(lab):
    assert remains(lab, Restart.TRANSIENT, "normal") == "stopped"
    assert lab.labels() == []


@pytest.mark.otp("supervisor_SUITE", "temporary_normal")
def test_temporary_child_is_forgotten_after_normal(lab):
    assert remains(lab, Restart.TEMPORARY, "normal") == "gone"
    assert lab.labels() == []


@pytest.mark.otp("supervisor_SUITE", "permanent_shutdown")
@pytest.mark.parametrize("reason", CLEAN[1:])
def test_permanent_child_is_restarted_after_shutdown(lab, reason):
    assert remains(lab, Restart.PERMANENT, reason) == "new"


@pytest.mark.otp("supervisor_SUITE", "transient_shutdown")
@pytest.mark.parametrize("reason", CLEAN[1:])
def test_transient_child_stays_down_after_shutdown(lab, reason):
    assert remains(lab, Restart.TRANSIENT, reason) == "stopped"


@pytest.mark.otp("supervisor_SUITE", "temporary_shutdown")
@pytest.mark.parametrize("reason", CLEAN[1:])
def test_temporary_child_is_forgotten_after_shutdown(lab, reason):
    assert remains(lab, Restart.TEMPORARY, reason) == "gone"


@pytest.mark.otp("supervisor_SUITE", "permanent_abnormal")
@pytest.mark.parametrize("reason", UNCLEAN)
def test_permanent_child_is_restarted_after_a_crash(lab, reason):
    assert remains(lab, Restart.PERMANENT, reason) == "new"


@pytest.mark.otp("supervisor_SUITE", "transient_abnormal")
@pytest.mark.parametrize("reason", UNCLEAN)
def test_transient_child_is_restarted_after_a_crash(lab, reason):
    assert remains(lab, Restart.TRANSIENT, reason) == "new"


@pytest.mark.otp("supervisor_SUITE", "temporary_abnormal")
@pytest.mark.parametrize("reason", UNCLEAN)
def test_temporary_child_is_forgotten_after_a_crash(lab, reason):
    assert remains(lab, Restart.TEMPORARY, reason) == "gone"
    assert lab.labels() == ["child_terminated a"]


@pytest.mark.otp("supervisor_SUITE", "do_not_save_child_specs_for_temporary_children")
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("restart", list(Restart))
def test_only_temporary_specs_are_dropped_in_every_strategy(lab, strategy, restart):
    for reason in (*CLEAN, *UNCLEAN):
        specs = [lab.spec("p"), lab.spec("c", restart=restart)]
        sup = lab.start(*specs, strategy=strategy, intensity=1)
        old = lab.pid(sup, "c")
        lab.end(old, reason)
        now = lab.children(sup)

        kept = restart is not Restart.TEMPORARY
        assert list(now) == (["p", "c"] if kept else ["p"])
        restarts = restart is Restart.PERMANENT or reason in UNCLEAN
        assert not kept or (now["c"] not in (old, None)) is restarts


@pytest.mark.otp("supervisor_SUITE", "do_not_save_start_parameters_for_temporary_children")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_start_of_a_temporary_child_is_not_kept(lab, strategy):
    specs = [lab.spec("t", restart=Restart.TEMPORARY), lab.spec("p")]
    sup = lab.start(*specs, strategy=strategy)

    kept = lab.do(supervisor.get_childspec(sup.pid, "t"))
    assert kept.start is not specs[0].start
    assert lab.do(supervisor.get_childspec(sup.pid, "p")).start is specs[1].start


@pytest.mark.otp("supervisor_SUITE", "one_for_one")
def test_one_for_one_replaces_only_the_dead_child(lab):
    sup = lab.start(lab.spec("a"), lab.spec("b"), intensity=2)
    a = lab.pid(sup, "a")
    for _ in range(2):
        lab.end(lab.pid(sup, "b"), "kill")
    assert lab.pid(sup, "a") is a
    lab.end(lab.pid(sup, "b"), "kill")

    assert sup.pid.exit_reason == "shutdown"
    assert not a.is_alive()
    assert lab.labels()[-1] == "shutdown b"


@pytest.mark.otp("supervisor_SUITE", "one_for_one_escalation")
@pytest.mark.otp("supervisor_SUITE", "rest_for_one_escalation")
@pytest.mark.otp("supervisor_SUITE", "one_for_all_escalation")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_child_that_cannot_restart_takes_the_supervisor_down(lab, strategy):
    sup = lab.start(lab.spec("a"), lab.spec("b"), strategy=strategy, intensity=4)
    lab.fates["b"] = ["fail"] * 99
    lab.drain()
    lab.end(lab.pid(sup, "b" if strategy is Strategy.ONE_FOR_ONE else "a"), "kill")

    assert sup.pid.exit_reason == "shutdown"
    assert lab.drain().count("fail b") == 4
    assert lab.runtime.stats().processes == 0


@pytest.mark.otp("supervisor_SUITE", "one_for_all")
def test_one_for_all_replaces_everybody(lab):
    sup = lab.start(lab.spec("a"), lab.spec("b"), strategy=Strategy.ONE_FOR_ALL, intensity=2)
    before = lab.children(sup)
    lab.end(before["a"], "kill")
    after = lab.children(sup)

    assert after["a"] is not before["a"]
    assert after["b"] is not before["b"]
    for _ in range(2):
        lab.end(lab.pid(sup, "b"), "kill")
    assert sup.pid.exit_reason == "shutdown"


@pytest.mark.otp("supervisor_SUITE", "one_for_all_other_child_fails_restart")
def test_one_for_all_starts_over_when_a_member_fails(lab):
    specs = [lab.spec(name) for name in "abc"]
    sup = lab.start(*specs, strategy=Strategy.ONE_FOR_ALL, intensity=2)
    lab.fates["b"] = ["fail"]
    lab.drain()
    lab.end(lab.pid(sup, "b"), "kill")

    wanted = "stop c,stop a,start a,fail b,stop a,start a,start b,start c"
    assert lab.drain() == wanted.split(",")


def test_each_failed_attempt_is_made_again_though_others_came_between(lab):
    fails = [False, True, True]

    def start_b():
        if fails and fails.pop(0):
            lab.runtime.runtime.exit(lab.pids[-1], "kill")
            lab.note("fail", "b")
            raise StartError("refused")
        return gen_server.start_link(lab.worker("b"))

    specs = [lab.spec("a"), ChildSpec("b", start_b)]
    sup = lab.start(*specs, strategy=Strategy.REST_FOR_ONE, intensity=9)
    lab.drain()
    lab.end(lab.pid(sup, "a"), "kill")

    # The first failure is tried again before the second death of a is seen, as on the BEAM.
    wanted = "stop b,start a,fail b,start a,fail b,start b,stop b,start a,start b"
    assert lab.drain() == wanted.split(",")


def test_only_the_member_that_failed_counts_as_restarting(lab):
    specs = [lab.spec(name) for name in "abc"]
    sup = lab.start(*specs, strategy=Strategy.ONE_FOR_ALL, intensity=10**5)
    lab.fates["a"] = ["fail"] * 10**5
    c = lab.pid(sup, "c")

    async def look():
        lab.runtime.runtime.exit(c, "kill")
        infos = await supervisor.which_children(sup.pid)
        again = await supervisor.restart_child(sup.pid, "c")
        await supervisor.terminate_child(sup.pid, "a")
        return [(info.id, info.pid, info.restarting) for info in infos], again

    seen, again = lab.do(look())
    assert seen == [("c", None, False), ("b", None, False), ("a", None, True)]
    assert again is lab.pids[3]


def test_only_the_member_whose_start_failed_is_shown_restarting(lab):
    # A call that waits behind the stopping of b is served before the next attempt. The same on a BEAM.
    specs = [lab.spec("a"), lab.spec("b", stop_s=1.0), lab.spec("c")]
    sup = lab.start(*specs, strategy=Strategy.ONE_FOR_ALL, intensity=5)
    c = lab.pid(sup, "c")
    lab.fates["a"] = ["fail"]

    async def look():
        lab.runtime.runtime.exit(c, "kill")
        infos = await supervisor.which_children(sup.pid)
        return {info.id: info.restarting for info in infos}

    assert lab.do(look()) == {"a": True, "b": False, "c": False}


def test_retry_of_an_earlier_failure_serves_a_later_one(lab):
    specs = [lab.spec("a"), lab.spec("b", stop_s=1.0), lab.spec("c")]
    sup = lab.start(*specs, strategy=Strategy.REST_FOR_ONE, intensity=5)
    a, c = lab.pid(sup, "a"), lab.pid(sup, "c")
    lab.do(sys.suspend(sup.pid))
    lab.end(c, "kill")
    lab.end(a, "kill")
    lab.fates["c"] = ["fail", "fail"]  # alone, and with its group: two retries are in the mailbox

    async def look():
        await sys.resume(sup.pid)
        infos = await supervisor.which_children(sup.pid)  # comes between the two
        return {info.id: info.restarting for info in infos}

    assert lab.do(look()) == {"a": False, "b": False, "c": False}
    assert sup.is_alive()


def test_crashed_child_can_be_started_when_the_retried_one_was_terminated(lab):
    specs = [lab.spec("a"), lab.spec("b", stop_s=1.0), lab.spec("c")]
    sup = lab.start(*specs, strategy=Strategy.ONE_FOR_ALL, intensity=5)
    c = lab.pid(sup, "c")
    lab.fates["a"] = ["fail"]

    async def end_the_attempts():
        lab.runtime.runtime.exit(c, "kill")
        await supervisor.terminate_child(sup.pid, "a")

    lab.do(end_the_attempts())
    assert lab.children(sup) == {"a": None, "b": None, "c": None}
    lab.do(supervisor.restart_child(sup.pid, "c"))
    assert lab.pid(sup, "c").is_alive()


@pytest.mark.otp("supervisor_SUITE", "rest_for_one")
def test_rest_for_one_replaces_the_child_and_those_after_it(lab):
    specs = [lab.spec(name) for name in "abcd"]
    sup = lab.start(*specs, strategy=Strategy.REST_FOR_ONE, intensity=1)
    before = lab.children(sup)
    lab.drain()
    lab.end(before["b"], "kill")
    after = lab.children(sup)

    assert lab.drain() == ["stop d", "stop c", "start b", "start c", "start d"]
    assert [name for name in "abcd" if before[name] is after[name]] == ["a"]
    lab.end(after["d"], "kill")
    assert sup.pid.exit_reason == "shutdown"


@pytest.mark.otp("supervisor_SUITE", "rest_for_one_other_child_fails_restart")
def test_rest_for_one_goes_on_at_the_member_that_failed(lab):
    specs = [lab.spec(name) for name in "abc"]
    sup = lab.start(*specs, strategy=Strategy.REST_FOR_ONE, intensity=2)
    lab.fates["b"] = ["fail"]
    lab.drain()
    lab.end(lab.pid(sup, "a"), "kill")

    wanted = "stop c,stop b,start a,fail b,start b,start c"
    assert lab.drain() == wanted.split(",")


def test_group_restart_revives_the_stopped_and_drops_temporaries(lab):
    sup = lab.start(
        lab.spec("a"),
        lab.spec("b", restart=Restart.TRANSIENT),
        lab.spec("c", restart=Restart.TEMPORARY),
        lab.spec("d"),
        strategy=Strategy.ONE_FOR_ALL,
    )
    lab.do(supervisor.terminate_child(sup.pid, "b"))
    lab.drain()
    lab.end(lab.pid(sup, "a"), "kill")

    assert lab.drain() == ["stop d", "stop c", "start a", "start b", "start d"]
    assert list(lab.children(sup)) == ["a", "b", "d"]


def test_rest_for_one_leaves_earlier_stopped_children_down(lab):
    sup = lab.start(*map(lab.spec, "abc"), strategy=Strategy.REST_FOR_ONE)
    for name in "ac":
        lab.do(supervisor.terminate_child(sup.pid, name))
    lab.drain()
    lab.end(lab.pid(sup, "b"), "kill")

    assert lab.drain() == ["start b", "start c"]
    assert lab.children(sup)["a"] is None


@pytest.mark.otp("supervisor_SUITE", "temporary_bystander")
@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
def test_temporary_bystander_goes_and_does_not_count(lab, strategy):
    sup = lab.start(
        lab.spec("a"), lab.spec("t", restart=Restart.TEMPORARY), strategy=strategy, intensity=1
    )
    lab.end(lab.pid(sup, "a"), "kill")

    assert list(lab.children(sup)) == ["a"]
    assert lab.drain() == ["start a", "start t", "stop t", "start a"]
    assert sup.is_alive()


@pytest.mark.otp("supervisor_SUITE", "multiple_restarts")
def test_restarts_spread_over_time_never_add_up(lab):
    sup = lab.start(lab.spec("a"), intensity=1, period_s=1)
    for _ in range(6):
        lab.end(lab.pid(sup, "a"), "kill")
        lab.runtime.advance(2.1)

    assert sup.is_alive()
    assert lab.drain() == ["start a"] * 7


@pytest.mark.parametrize(("third", "survives"), [(5.9, False), (6.0, True)])
def test_window_counts_whole_seconds_boundary_inside(lab, third, survives):
    sup = lab.start(lab.spec("a"), intensity=2, period_s=5)
    for at in (0.0, 1.0, third):
        lab.runtime.advance(at - lab.runtime.clock())
        lab.end(lab.pid(sup, "a"), "kill")

    assert sup.is_alive() is survives


@pytest.mark.otp("supervisor_SUITE", "hanging_restart_loop")
@pytest.mark.otp("supervisor_SUITE", "hanging_restart_loop_rest_for_one")
@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ONE, Strategy.REST_FOR_ONE])
def test_supervisor_answers_while_a_child_keeps_failing(lab, strategy):
    sup = lab.start(*map(lab.spec, "abc"), strategy=strategy, intensity=10**5)
    before = lab.children(sup)
    lab.fates["b"] = ["fail"] * 10**5
    b = lab.pid(sup, "b")

    async def look():
        lab.runtime.runtime.exit(b, "kill")
        states = {i.id: i for i in await supervisor.which_children(sup.pid)}
        refusals = []
        for ask in (supervisor.restart_child, supervisor.delete_child):
            try:
                await ask(sup.pid, "b")
            except ChildRestartingError as error:
                refusals.append(error)
        try:
            await supervisor.start_child(sup.pid, lab.spec("b"))
        except AlreadyPresentError as error:
            refusals.append(error)
        await supervisor.terminate_child(sup.pid, "b")
        return states, refusals

    states, refusals = lab.do(look())
    tried = lab.drain().count("fail b")
    lab.runtime.advance(1.0)

    assert states["b"].restarting
    assert states["a"].pid is before["a"]
    assert states["c"].pid is (None if strategy is Strategy.REST_FOR_ONE else before["c"])
    assert not states["c"].restarting
    restarting, present = ChildRestartingError, AlreadyPresentError
    assert list(map(type, refusals)) == [restarting, restarting, present]
    assert tried > 0
    assert lab.drain().count("fail b") == 0
    sup.exit("shutdown")
    lab.runtime.run_until_idle()
    assert sup.pid.exit_reason == "shutdown"


@pytest.mark.otp("supervisor_SUITE", "hanging_restart_loop")
@pytest.mark.otp("supervisor_SUITE", "hanging_restart_loop_rest_for_one")
@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ONE, Strategy.REST_FOR_ONE])
def test_supervisor_can_be_stopped_while_a_child_keeps_failing(lab, strategy):
    sup = lab.start(*map(lab.spec, "abc"), strategy=strategy, intensity=10**5)
    lab.fates["b"] = ["fail"] * 10**5
    b = lab.pid(sup, "b")

    async def stop():
        lab.runtime.runtime.exit(b, "kill")
        assert any(info.restarting for info in await supervisor.which_children(sup.pid))
        sup.exit("shutdown")
        return await lab.runtime.runtime.exited(sup.pid)

    assert lab.do(stop()) == "shutdown"
    assert lab.runtime.stats().processes == 0


@pytest.mark.otp("supervisor_SUITE", "child_unlink")
def test_child_that_unlinked_itself_cannot_hang_its_supervisor(lab):
    sup = lab.start(lab.spec("a"))
    a = lab.pid(sup, "a")
    lab.runtime.handle(a).call("unlink")
    lab.do(supervisor.terminate_child(sup.pid, "a"))

    assert not a.is_alive()
    assert lab.children(sup) == {"a": None}


@pytest.mark.otp("supervisor_SUITE", "tree")
def test_only_the_part_of_the_tree_that_failed_is_restarted(lab):
    def middle():
        flags = supervisor.SupervisorFlags(intensity=1)
        return supervisor.start_link(flags, [lab.spec("w1"), lab.spec("w2")])

    sup = lab.start(
        lab.spec("top"),
        ChildSpec("mid", middle, type="supervisor"),
        strategy=Strategy.ONE_FOR_ALL,
        intensity=1,
    )
    mid = lab.runtime.handle(lab.pid(sup, "mid"))
    lab.do(supervisor.start_child(mid.pid, lab.spec("extra")))
    lab.drain()
    lab.end(lab.pid(mid, "w1"), "kill")
    assert lab.drain() == ["start w1"]
    lab.do(supervisor.terminate_child(sup.pid, "top"))
    lab.drain()
    lab.end(mid.pid, "kill")

    again = lab.runtime.handle(lab.pid(sup, "mid"))
    assert list(lab.children(again)) == ["w1", "w2"]
    assert lab.pid(sup, "top").is_alive()


def test_inner_supervisor_that_gives_up_is_treated_by_its_restart_type(lab):
    listed = {}
    for restart in Restart:

        def inner():
            flags = supervisor.SupervisorFlags(intensity=0)
            return supervisor.start_link(flags, [lab.spec("w")])

        sup = lab.start(ChildSpec("inner", inner, restart=restart), intensity=1)
        lab.end(lab.pid(lab.runtime.handle(lab.pid(sup, "inner")), "w"), "kill")
        now = lab.children(sup).get("inner", "gone")
        listed[restart.value] = now if now in ("gone", None) else "new"
        assert sup.is_alive()

    assert listed == {"permanent": "new", "transient": None, "temporary": "gone"}


def test_named_workers_and_supervisors_come_back_under_their_names(lab):
    def start_worker():
        return gen_server.start_link(lab.worker("w"), name="worker")

    def start_inner():
        flags = supervisor.SupervisorFlags(intensity=2)
        return supervisor.start_link(flags, [ChildSpec("w", start_worker)], name="inner")

    def whereis(name):
        found = lab.runtime.runtime.whereis(name)
        assert found.is_alive()
        return found

    sup = lab.start(ChildSpec("inner", start_inner, type="supervisor"), intensity=100)
    for _ in range(5):
        inner, worker = whereis("inner"), whereis("worker")
        for reason in ("kill", "crash"):
            lab.end(whereis("worker"), reason)
        assert (whereis("inner"), lab.pid(Known(inner), "w")) == (inner, whereis("worker"))
        lab.end(whereis("worker"), "normal")  # one too many
        assert whereis("inner") is not inner
        lab.end(whereis("inner"), "kill")
        assert whereis("worker") is not worker
    lab.do(supervisor.terminate_child(sup.pid, "inner"))
    assert [lab.runtime.runtime.whereis(name) for name in ("inner", "worker")] == [None, None]
    lab.do(supervisor.restart_child(sup.pid, "inner"))

    assert whereis("inner") is lab.pid(sup, "inner")
    assert whereis("worker") is lab.pid(Known(whereis("inner")), "w")
    assert lab.labels().count("start_error w") == 0


@pytest.mark.parametrize("shutdown_s", [BRUTAL_KILL, 5.0])
@pytest.mark.parametrize("victim", ["inner", "sibling"])
def test_orphans_free_their_names_before_the_first_restart(lab, shutdown_s, victim):
    def start_inner():
        worker = ChildSpec("w", lambda: gen_server.start_link(lab.worker("w"), name="worker"))
        return supervisor.start_link(supervisor.SupervisorFlags(), [worker])

    sup = lab.start(
        lab.spec("sibling"),
        ChildSpec("inner", start_inner, type="supervisor", shutdown_s=shutdown_s),
        strategy=Strategy.ONE_FOR_ALL,
        intensity=1,
    )
    lab.end(lab.pid(sup, victim), "kill")

    inner = Known(lab.pid(sup, "inner"))
    assert lab.pid(inner, "w") is lab.runtime.runtime.whereis("worker")
    assert "start_error inner" not in lab.labels()


def test_others_have_turns_between_the_starts_of_a_group(lab):
    specs = [lab.spec(str(number), trap=False) for number in range(50)]
    sup = lab.start(*specs, strategy=Strategy.ONE_FOR_ALL)
    seen = set()

    async def watch():
        while len(lab.pids) < 100:
            seen.add(len(lab.pids))
            await asyncio.sleep(0)

    lab.runtime.runtime.spawn(watch)
    lab.end(lab.pid(sup, "7"), "kill")

    assert seen.issuperset(range(51, 100))


# Significant children.


def significant(lab, mode, *kinds):
    """A supervisor with child a, b, … of those (restart, significant) kinds."""
    specs = [
        lab.spec(name, restart=restart, significant=important)
        for name, (restart, important) in zip("abcdef", kinds, strict=False)
    ]
    return lab.start(*specs, auto_shutdown=mode, intensity=9)


MODES = list(AutoShutdown)
ACTING = [AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT]


@pytest.mark.otp("supervisor_SUITE", "nonsignificant_temporary")
def test_nonsignificant_temporary_child_never_stops_the_supervisor(lab):
    for mode, reason in itertools.product(MODES, CLEAN + UNCLEAN):
        sup = significant(lab, mode, (Restart.TEMPORARY, False))
        lab.end(lab.pid(sup, "a"), reason)

        assert sup.is_alive()


@pytest.mark.otp("supervisor_SUITE", "nonsignificant_transient")
def test_nonsignificant_transient_child_never_stops_the_supervisor(lab):
    for mode, reason in itertools.product(MODES, CLEAN + UNCLEAN):
        sup = significant(lab, mode, (Restart.TRANSIENT, False))
        lab.end(lab.pid(sup, "a"), reason)

        assert sup.is_alive()
        assert (lab.children(sup)["a"] is None) == (reason in CLEAN)


@pytest.mark.otp("supervisor_SUITE", "significant_temporary")
@pytest.mark.parametrize("reason", CLEAN + UNCLEAN)
def test_significant_temporary_child_stops_the_supervisor(lab, reason):
    two = [(Restart.TEMPORARY, True)] * 2
    any_one = significant(lab, AutoShutdown.ANY_SIGNIFICANT, *two)
    lab.end(lab.pid(any_one, "a"), reason)
    assert any_one.pid.exit_reason == "shutdown"

    every = significant(lab, AutoShutdown.ALL_SIGNIFICANT, *two)
    lab.end(lab.pid(every, "a"), reason)
    assert every.is_alive()
    lab.end(lab.pid(every, "b"), reason)
    assert every.pid.exit_reason == "shutdown"


@pytest.mark.otp("supervisor_SUITE", "significant_temporary")
@pytest.mark.parametrize("mode", ACTING)
def test_terminate_child_of_significant_temporary_ones_is_no_trigger(lab, mode):
    sup = significant(lab, mode, *[(Restart.TEMPORARY, True)] * 3)
    lab.do(supervisor.terminate_child(sup.pid, "a"))
    lab.do(supervisor.terminate_child(sup.pid, "b"))
    assert list(lab.children(sup)) == ["c"]
    lab.end(lab.pid(sup, "c"), "normal")

    assert sup.pid.exit_reason == "shutdown"
    only = significant(lab, mode, (Restart.TEMPORARY, True))
    lab.do(supervisor.terminate_child(only.pid, "a"))
    assert only.is_alive()


@pytest.mark.otp("supervisor_SUITE", "significant_transient")
@pytest.mark.parametrize("mode", ACTING)
def test_significant_transient_child_stops_it_only_by_a_clean_end(lab, mode):
    for reason in UNCLEAN:
        sup = significant(lab, mode, (Restart.TRANSIENT, True))
        lab.end(lab.pid(sup, "a"), reason)
        assert lab.pid(sup, "a").is_alive()
        lab.do(supervisor.terminate_child(sup.pid, "a"))
        assert sup.is_alive()
    for reason in CLEAN:
        sup = significant(lab, mode, (Restart.TRANSIENT, True))
        lab.end(lab.pid(sup, "a"), reason)
        assert sup.pid.exit_reason == "shutdown"


@pytest.mark.otp("supervisor_SUITE", "significant_bystander")
@pytest.mark.parametrize("mode", ACTING)
@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
@pytest.mark.parametrize("restart", [Restart.TRANSIENT, Restart.TEMPORARY])
def test_significant_child_stopped_because_of_a_sibling_is_no_trigger(lab, mode, strategy, restart):
    specs = [lab.spec("a"), lab.spec("s", restart=restart, significant=True)]
    sup = lab.start(*specs, strategy=strategy, auto_shutdown=mode)
    lab.drain()
    lab.end(lab.pid(sup, "a"), "kill")

    again = ["start s"] if restart is Restart.TRANSIENT else []
    assert lab.drain() == ["stop s", "start a", *again]
    assert sup.is_alive()


@pytest.mark.otp("supervisor_SUITE", "significant_escalation")
@pytest.mark.parametrize("important", [True, False])
def test_auto_shutdown_climbs_only_through_significant_supervisors(lab, important):
    def inner():
        flags = supervisor.SupervisorFlags(auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)
        worker = lab.spec("w", restart=Restart.TRANSIENT, significant=True)
        return supervisor.start_link(flags, [worker])

    spec = ChildSpec("inner", inner, restart=Restart.TRANSIENT, significant=important)
    sup = lab.start(spec, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)
    lab.end(lab.pid(lab.runtime.handle(lab.pid(sup, "inner")), "w"), "normal")

    assert sup.is_alive() is not important
    assert important or lab.children(sup) == {"inner": None}


# Back-off: ours, not OTP's.


def test_back_off_waits_longer_after_each_failure(lab):
    backoff = Backoff(initial_s=1.0, max_s=4.0, jitter=0.0)
    sup = lab.start(lab.spec("a"), intensity=99, backoff=backoff)
    lab.fates["a"] = ["fail", "fail"]
    lab.drain()
    lab.end(lab.pid(sup, "a"), "kill")

    assert lab.children(sup) == {"a": "restarting"}
    seen = []
    for _ in range(9):
        seen.append(lab.drain())
        lab.runtime.advance(1.0)
    assert [index for index, events in enumerate(seen) if events] == [1, 3, 7]
    assert lab.pid(sup, "a").is_alive()


def test_child_that_ran_long_enough_waits_the_first_time_again(lab):
    backoff = Backoff(initial_s=1.0, max_s=64.0, jitter=0.0, reset_after_s=10.0)
    sup = lab.start(lab.spec("a"), intensity=99, backoff=backoff)
    for _ in range(3):
        lab.end(lab.pid(sup, "a"), "kill")
        lab.runtime.advance(8.0)
    lab.runtime.advance(10.0)
    lab.end(lab.pid(sup, "a"), "kill")
    lab.runtime.advance(1.0)

    assert lab.pid(sup, "a").is_alive()


def test_terminate_child_ends_a_back_off(lab):
    sup = lab.start(lab.spec("a"), intensity=9, backoff=Backoff(initial_s=1.0))
    lab.end(lab.pid(sup, "a"), "kill")
    lab.do(supervisor.terminate_child(sup.pid, "a"))
    lab.drain()
    lab.runtime.advance(60.0)

    assert lab.children(sup) == {"a": None}
    assert lab.drain() == []
    assert lab.runtime.stats().timers == 0


def test_group_is_down_while_its_culprit_backs_off(lab):
    backoff = Backoff(initial_s=1.0, jitter=0.0)
    flags = {"strategy": Strategy.REST_FOR_ONE, "intensity": 9, "backoff": backoff}
    sup = lab.start(*map(lab.spec, "abc"), **flags)
    lab.drain()
    lab.end(lab.pid(sup, "b"), "kill")
    at_once = lab.drain()
    lab.runtime.advance(1.0)

    assert at_once == ["stop c"]
    assert lab.drain() == ["start b", "start c"]


def test_intensity_holds_with_back_off(lab):
    sup = lab.start(lab.spec("a"), intensity=2, period_s=60, backoff=Backoff(initial_s=0.1))
    for _ in range(3):
        lab.end(lab.pid(sup, "a"), "kill")
        lab.runtime.advance(2.0)

    assert sup.pid.exit_reason == "shutdown"


class Caller(GenServer[None]):
    """Manages a supervisor from inside a process."""

    def __init__(self, sup):
        self.sup = sup
        self.answers = []

    def init(self):
        return None

    async def handle_cast(self, request, state):
        try:
            self.answers.append(await supervisor.start_child(self.sup, request))
        except AlreadyStartedError as error:
            self.answers.append(error.pid)
        return NoReply(state)


def test_management_calls_work_by_name_from_a_process(lab):
    sup = lab.start(name="sup")
    server = Caller("sup")
    caller = lab.runtime.start(server)
    spec = lab.spec("a")
    caller.cast(spec)
    caller.cast(spec)
    lab.runtime.run_until_idle()

    assert server.answers == [lab.pid(sup, "a")] * 2
