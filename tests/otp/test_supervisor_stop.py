import itertools
import time

import pytest

from otp import (
    BRUTAL_KILL,
    INFINITY,
    AlreadyPresentError,
    AlreadyStartedError,
    CallError,
    ChildRunningError,
    ChildType,
    NoProcessError,
    NotFoundError,
    Restart,
    Strategy,
    SupervisorReport,
    dynamic_supervisor,
    supervisor,
)


def stop(lab, sup):
    """Stop the supervisor; returns the seconds it took."""
    begun = lab.runtime.clock()
    sup.exit("shutdown")
    assert lab.do(lab.runtime.runtime.exited(sup.pid)) == "shutdown"
    return lab.runtime.clock() - begun


@pytest.mark.otp("supervisor_SUITE", "sup_stop_infinity")
def test_infinite_shutdown_waits_for_workers_and_supervisors(lab):
    specs = [
        lab.spec("a", shutdown_s=INFINITY, stop_s=3600.0),
        lab.spec("b", shutdown_s=INFINITY, type="supervisor"),
    ]
    sup = lab.start(*specs)
    a, b = lab.pid(sup, "a"), lab.pid(sup, "b")

    assert stop(lab, sup) == pytest.approx(3600.0)
    assert (a.exit_reason, b.exit_reason) == ("shutdown", "shutdown")


@pytest.mark.otp("supervisor_SUITE", "sup_stop_timeout")
def test_child_that_stops_too_slowly_is_killed_and_reported(lab):
    sup = lab.start(lab.spec("a"), lab.spec("slow", shutdown_s=1.0, stop_s=9.0))
    a, slow = lab.pid(sup, "a"), lab.pid(sup, "slow")

    assert stop(lab, sup) == pytest.approx(1.0)
    assert (a.exit_reason, slow.exit_reason) == ("shutdown", "killed")
    assert lab.labels() == ["shutdown_error slow"]


def test_child_without_time_to_stop_may_still_end_at_once(lab):
    lab.start(
        lab.spec("quick", shutdown_s=0), lab.spec("slow", stop_s=0.1, shutdown_s=0), name="top"
    )
    quick, slow = lab.pids
    lab.runtime.runtime.exit(lab.runtime.runtime.whereis("top"), "shutdown")
    lab.runtime.run_until_idle()

    assert (quick.exit_reason, slow.exit_reason) == ("shutdown", "killed")


@pytest.mark.otp("supervisor_SUITE", "sup_stop_brutal_kill")
def test_brutal_kill_child_ends_with_killed_unreported(lab):
    sup = lab.start(lab.spec("a"), lab.spec("b", shutdown_s=BRUTAL_KILL))
    a, b = lab.pid(sup, "a"), lab.pid(sup, "b")
    stop(lab, sup)

    assert (a.exit_reason, b.exit_reason) == ("shutdown", "killed")
    assert lab.labels() == []


@pytest.mark.otp("supervisor_SUITE", "sup_stop_race")
def test_children_ending_by_themselves_do_not_derail_the_stop(lab):
    for restart, reason in itertools.product(Restart, ["normal", "shutdown", "oops", "kill"]):
        specs = [lab.spec("a"), lab.spec("b", restart=restart), lab.spec("c", stop_s=1.0)]
        sup = lab.start(*specs)
        b = lab.pid(sup, "b")
        sup.exit("shutdown")
        lab.runtime.run_until_idle()
        lab.end(b, reason)
        assert b.exit_reason == ("killed" if reason == "kill" else reason)
        assert sup.is_alive()
        lab.runtime.advance(5.0)

        assert sup.pid.exit_reason == "shutdown"
        assert lab.runtime.stats().processes == 0
        starts = [seen for seen in lab.drain() if seen.startswith("start")]
        assert starts == ["start a", "start b", "start c"]


def test_children_stop_newest_first_one_at_a_time(lab):
    sup = lab.start(*(lab.spec(name, stop_s=0.2) for name in "abc"))
    lab.drain()

    assert stop(lab, sup) == pytest.approx(0.6)
    assert lab.drain() == ["stop c", "stop b", "stop a"]


@pytest.mark.otp("supervisor_SUITE", "order_of_children")
def test_children_stop_in_the_reverse_of_their_start_order(lab):
    sup = lab.start(*map(lab.spec, "abcde"), strategy=Strategy.ONE_FOR_ALL)
    assert lab.drain() == [f"start {name}" for name in "abcde"]
    lab.end(lab.pid(sup, "c"), "kill")
    wanted = ["stop e", "stop d", "stop b", "stop a", *(f"start {name}" for name in "abcde")]
    assert lab.drain() == wanted
    stop(lab, sup)

    assert lab.drain() == [f"stop {name}" for name in "edcba"]


@pytest.mark.parametrize(
    ("restart", "reason", "reported"),
    [
        (Restart.PERMANENT, "normal", True),
        (Restart.TRANSIENT, "normal", False),
        (Restart.TEMPORARY, ("shutdown", "x"), False),
        (Restart.TRANSIENT, "oops", True),
    ],
)
def test_unexpected_reason_of_a_stopped_child_is_reported(lab, restart, reason, reported):
    sup = lab.start(lab.spec("a", restart=restart))
    lab.stop_reasons["a"] = reason
    lab.do(supervisor.terminate_child(sup.pid, "a"))

    assert (lab.labels() == ["shutdown_error a"]) is reported


def test_child_crashing_while_its_sibling_stops_is_not_restarted(lab):
    specs = [lab.spec("a"), lab.spec("b"), lab.spec("c", stop_s=1.0)]
    sup = lab.start(*specs, strategy=Strategy.ONE_FOR_ALL, intensity=1)
    a, b = lab.pid(sup, "a"), lab.pid(sup, "b")
    lab.drain()
    lab.end(a, "kill")
    lab.end(b, "kill")
    lab.runtime.advance(2.0)

    assert lab.drain() == ["stop c", "start a", "start b", "start c"]
    assert sup.is_alive()


def test_killed_supervisor_takes_its_children_with_it(lab):
    sup = lab.start(lab.spec("trapping"), lab.spec("plain", trap=False))
    trapping, plain = lab.pid(sup, "trapping"), lab.pid(sup, "plain")
    lab.drain()
    lab.end(sup.pid, "kill")

    assert (trapping.exit_reason, plain.exit_reason) == ("killed", "killed")
    assert lab.drain() == ["stop trapping"]


@pytest.mark.otp("supervisor_SUITE", "child_adm")
def test_one_child_through_all_management_calls(lab):
    sup = lab.start(lab.spec("a"))
    assert sup.pid.hibernated
    a = lab.pid(sup, "a")
    with pytest.raises(AlreadyStartedError) as running:
        lab.do(supervisor.start_child(sup.pid, lab.spec("a")))
    assert running.value.pid is a
    for call in (supervisor.terminate_child, supervisor.restart_child, supervisor.delete_child):
        for unknown in ("nobody", a):
            with pytest.raises(NotFoundError):
                lab.do(call(sup.pid, unknown))
    for call in (supervisor.restart_child, supervisor.delete_child):
        with pytest.raises(ChildRunningError):
            lab.do(call(sup.pid, "a"))
    for _ in range(2):
        lab.do(supervisor.terminate_child(sup.pid, "a"))
    assert lab.children(sup) == {"a": None}
    with pytest.raises(AlreadyPresentError):
        lab.do(supervisor.start_child(sup.pid, lab.spec("a")))
    again = lab.do(supervisor.restart_child(sup.pid, "a"))
    assert again is lab.pid(sup, "a")
    lab.do(supervisor.terminate_child(sup.pid, "a"))
    lab.do(supervisor.delete_child(sup.pid, "a"))
    assert lab.children(sup) == {}
    stop(lab, sup)
    for call, *args in (
        (supervisor.start_child, lab.spec("a")),
        (supervisor.terminate_child, "a"),
        (supervisor.restart_child, "a"),
        (supervisor.delete_child, "a"),
        (supervisor.which_children,),
        (supervisor.count_children,),
    ):
        with pytest.raises(NoProcessError):
            lab.do(call(sup.pid, *args))


@pytest.mark.otp("supervisor_SUITE", "which_children")
def test_which_children_follows_start_terminate_and_delete(lab):
    sup = lab.start(lab.spec("a"), lab.spec("b", type="supervisor"))
    infos = lab.do(supervisor.which_children(sup.pid))

    assert [info.id for info in infos] == ["b", "a"]
    assert [info.type for info in infos] == [ChildType.SUPERVISOR, ChildType.WORKER]
    assert lab.do(supervisor.which_child(sup.pid, "a")) == infos[1]
    lab.do(supervisor.terminate_child(sup.pid, "a"))
    assert lab.do(supervisor.which_child(sup.pid, "a")).pid is None
    lab.do(supervisor.delete_child(sup.pid, "a"))
    with pytest.raises(NotFoundError):
        lab.do(supervisor.which_child(sup.pid, "a"))


def test_unknown_call_crashes_a_supervisor_and_unknown_message_does_not(lab):
    sup = lab.start(lab.spec("a"))
    sup.send("hello")
    lab.runtime.run_until_idle()
    assert sup.is_alive()

    with pytest.raises(CallError):
        sup.call("hello")
    assert not sup.is_alive()


def test_report_about_a_huge_reason_stays_small(lab):
    sup = lab.start(lab.spec("a"))
    lab.end(lab.pid(sup, "a"), ("oops", "x" * 10**6, list(range(10**5))))

    reports = [report for report in lab.reports if isinstance(report, SupervisorReport)]
    assert len(reports) == 1
    assert len(reports[0].reason_text) <= 500


def test_starting_and_stopping_children_scales_linearly(lab):
    def cost_s(number):
        sup = lab.start()
        begun = time.perf_counter()
        lab.do(start_and_terminate(sup, number))
        return (time.perf_counter() - begun) / number

    async def start_and_terminate(sup, number):
        for index in range(number):
            await supervisor.start_child(sup.pid, lab.spec(f"{index}", trap=False))
        for index in range(number):
            await supervisor.terminate_child(sup.pid, f"{index}")

    cost_s(200)
    small, large = cost_s(200), cost_s(4000)

    # 20 times as many; a quadratic supervisor would need 20 times as long for each.
    assert large < 8 * small


def test_stop_of_two_thousand_dynamic_children_is_parallel(lab):
    sup = lab.start_dynamic()

    async def fill():
        for index in range(2000):
            await dynamic_supervisor.start_child(sup.pid, lab.spec(f"{index}", stop_s=1.0))

    lab.do(fill())

    assert stop(lab, sup) == pytest.approx(1.0)
