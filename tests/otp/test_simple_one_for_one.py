import gc
import time
import weakref

import pytest

from otp import (
    BRUTAL_KILL,
    AutoShutdown,
    ChildSpec,
    ChildSpecError,
    ChildType,
    Ignore,
    NotFoundError,
    Restart,
    SimpleOneForOneError,
    StartChildError,
    Started,
    StartError,
    Strategy,
    Supervisor,
    SupervisorFlags,
    SupervisorFlagsError,
    SupervisorReport,
    gen_server,
    supervisor,
)


@pytest.fixture
def simple(lab):
    """Start a simple_one_for_one supervisor; a child's only argument is its name, and how it starts."""

    def start(*, stops=None, restart=Restart.PERMANENT, intensity=1, shutdown_s=5.0, **more):
        def child(name, kind="ok", trap=True):
            if kind == "odd":
                return "nonsense"
            if kind == "crash":
                raise ValueError(name)
            pid = gen_server.start_link(
                lab.worker(name, trap=trap, stop_s=(stops or {}).get(name, 0.0))
            )
            return Started(pid, "extra") if kind == "info" else pid

        template = ChildSpec("t", child, restart=restart, shutdown_s=shutdown_s, **more)
        return lab.start(template, strategy=Strategy.SIMPLE_ONE_FOR_ONE, intensity=intensity)

    return start


def add(lab, sup, *args):
    return lab.do(supervisor.start_child(sup.pid, list(args)))


def listed(lab, sup):
    infos = lab.do(supervisor.which_children(sup.pid))
    return ["restarting" if info.restarting else info.pid for info in infos]


def stop(lab, sup):
    begun = lab.runtime.clock()
    sup.exit("shutdown")
    assert lab.do(lab.runtime.runtime.exited(sup.pid)) == "shutdown"
    return lab.runtime.clock() - begun


def reasons(lab):
    lab.drain()
    return sorted(str(pid.exit_reason) for pid in lab.pids)


# Starting.


@pytest.mark.otp("supervisor_SUITE", "sup_start_ignore_temporary_child_start_child_simple")
@pytest.mark.otp("supervisor_SUITE", "sup_start_ignore_permanent_child_start_child_simple")
@pytest.mark.parametrize("restart", list(Restart))
def test_child_that_ignores_is_not_kept(lab, simple, restart):
    sup = simple(restart=restart)
    lab.fates["a"] = ["ignore"]

    assert add(lab, sup, "a") is None
    assert listed(lab, sup) == []
    counts = lab.do(supervisor.count_children(sup.pid))
    assert (counts.specs, counts.active, counts.workers) == (1, 0, 0)
    assert stop(lab, sup) == 0.0
    assert lab.labels() == []


@pytest.mark.otp("supervisor_SUITE", "sup_start_child_returns_error_simple")
@pytest.mark.parametrize(("kind", "reason"), [("odd", "nonsense"), ("fail", "refused")])
def test_failed_start_passes_its_reason_through(lab, simple, kind, reason):
    sup = simple()
    lab.fates["a"] = ["fail"]

    with pytest.raises(StartChildError) as caught:
        add(lab, sup, "a", kind)

    assert caught.value.reason == reason
    assert listed(lab, sup) == []


def test_start_child_wants_a_list_of_arguments(lab, simple):
    sup = simple()

    with pytest.raises(ChildSpecError) as caught:
        lab.do(supervisor.start_child(sup.pid, lab.spec("a")))

    assert caught.value.fault[0] == "badarg"
    assert sup.is_alive()


@pytest.mark.otp("supervisor_SUITE", "child_specs")
@pytest.mark.parametrize("number", [0, 2])
def test_there_must_be_exactly_one_template(lab, number):
    specs = [lab.spec(str(each)) for each in range(number)]

    with pytest.raises(StartError) as caught:
        lab.start(*specs, strategy=Strategy.SIMPLE_ONE_FOR_ONE)

    assert caught.value.reason == ("bad_start_spec", specs)


@pytest.mark.otp("supervisor_SUITE", "significant_simple")
@pytest.mark.parametrize("mode", [AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT])
def test_auto_shutdown_is_refused(mode):
    with pytest.raises(SupervisorFlagsError) as caught:
        SupervisorFlags(strategy=Strategy.SIMPLE_ONE_FOR_ONE, auto_shutdown=mode)

    pair = (("auto_shutdown", mode.value), ("strategy", "simple_one_for_one"))
    assert caught.value.fault == ("bad_combination", pair)


@pytest.mark.otp("supervisor_SUITE", "sup_start_map_simple")
def test_template_is_given_with_all_defaults(lab):
    def child():
        return gen_server.start_link(lab.worker("a"))

    flags = {"strategy": "simple_one_for_one"}
    sup = lab.runtime.start(
        Supervisor(flags, [{"id": "t", "start": child, "restart": "temporary"}])
    )
    pid = add(lab, sup)
    spec = lab.do(supervisor.get_childspec(sup.pid, pid))

    assert (spec.id, spec.start, spec.args) == ("t", child, ())
    assert (spec.restart, spec.type) == (Restart.TEMPORARY, ChildType.WORKER)
    assert (spec.shutdown_s, spec.significant) == (5.0, False)
    assert lab.do(supervisor.get_childspec(sup.pid, "t")) == spec
    with pytest.raises(NotFoundError):
        lab.do(supervisor.get_childspec(sup.pid, sup.pid))


# Restarting.


@pytest.mark.otp("supervisor_SUITE", "simple_one_for_one")
def test_only_the_dead_child_is_replaced(lab, simple):
    sup = simple(intensity=2)
    a, b = add(lab, sup, "a"), add(lab, sup, "b")
    lab.end(b, "kill")
    lab.drain()
    assert a.is_alive()
    [new] = [pid for pid in listed(lab, sup) if pid is not a]
    lab.end(new, "oops")
    lab.end(lab.pids[-1], "oops")

    assert sup.pid.exit_reason == "shutdown"
    assert not a.is_alive()
    assert lab.labels() == ["child_terminated t"] * 3 + ["shutdown t"]


@pytest.mark.otp("supervisor_SUITE", "simple_one_for_one_extra")
def test_child_with_extra_info_is_restarted(lab, simple):
    sup = simple()
    answer = lab.do(supervisor.start_child_with_info(sup.pid, ["a", "info"]))
    lab.end(answer.pid, "kill")

    assert answer.info == "extra"
    assert listed(lab, sup) == [lab.pids[-1]]
    assert lab.pids[-1] is not answer.pid


@pytest.mark.otp("supervisor_SUITE", "simple_one_for_one_escalation")
def test_child_that_cannot_restart_ends_the_supervisor(lab, simple):
    sup = simple(intensity=4)
    other = add(lab, sup, "other")
    child = add(lab, sup, "a")
    lab.fates["a"] = ["fail"] * 99
    lab.drain()
    lab.end(child, "kill")

    assert sup.pid.exit_reason == "shutdown"
    assert lab.drain().count("fail a") == 4
    assert not other.is_alive()


@pytest.mark.otp("supervisor_SUITE", "simple_one_for_one_restart_ignore")
def test_child_that_ignores_its_restart_is_dropped(lab, simple):
    sup = simple()
    child = add(lab, sup, "a")
    lab.fates["a"] = ["ignore"]
    lab.end(child, "kill")

    assert listed(lab, sup) == []
    assert sup.is_alive()


@pytest.mark.otp("supervisor_SUITE", "simple_one_for_one_corruption")
@pytest.mark.otp("supervisor_SUITE", "do_not_save_start_parameters_for_temporary_children")
def test_arguments_of_temporary_children_are_not_kept(lab):
    class Argument:
        pass

    def child(argument):
        return gen_server.start_link(lab.worker("a"))

    template = ChildSpec("t", child, restart=Restart.TEMPORARY)
    sup = lab.start(template, strategy=Strategy.SIMPLE_ONE_FOR_ONE)
    alive = []
    for _ in range(2):
        argument = Argument()
        alive.append(weakref.ref(argument))
        add(lab, sup, argument)
        del argument
    lab.end(lab.pids[0], "kill")
    gc.collect()

    assert [each() for each in alive] == [None, None]
    assert listed(lab, sup) == [lab.pids[1]]


@pytest.mark.otp("supervisor_SUITE", "hanging_restart_loop_simple")
@pytest.mark.otp("supervisor_SUITE", "count_restarting_children")
@pytest.mark.parametrize("kind", list(ChildType))
def test_supervisor_serves_calls_during_a_restart_loop(lab, simple, kind):
    sup = simple(intensity=10**5, type=kind)
    first, other, second = (add(lab, sup, name) for name in "aba")
    lab.fates["a"] = ["fail"] * 10**5

    async def counted():
        counts = await supervisor.count_children(sup.pid)
        mine = counts.workers if kind is ChildType.WORKER else counts.supervisors
        return counts.specs, counts.active, mine, counts.workers + counts.supervisors

    async def look():
        first.exit_signal(None, "kill")
        second.exit_signal(None, "kill")
        infos = await supervisor.which_children(sup.pid)
        assert [(info.pid, info.restarting) for info in infos] == [
            (other, False),
            (None, True),
            (None, True),
        ]
        assert (await supervisor.which_child(sup.pid, first)).restarting
        assert await counted() == (1, 1, 3, 3)
        for refused in (supervisor.restart_child, supervisor.delete_child):
            with pytest.raises(SimpleOneForOneError):
                await refused(sup.pid, first)
        await supervisor.terminate_child(sup.pid, first)
        assert await counted() == (1, 1, 2, 2)
        await supervisor.terminate_child(sup.pid, second)
        assert await counted() == (1, 1, 1, 1)

    lab.do(look())
    assert lab.drain().count("fail a") > 0
    lab.runtime.advance(1.0)
    assert lab.drain() == []
    assert listed(lab, sup) == [other]


@pytest.mark.otp("supervisor_SUITE", "hanging_restart_loop_simple")
def test_supervisor_can_be_stopped_during_a_restart_loop(lab, simple):
    sup = simple(intensity=10**5)
    child = add(lab, sup, "a")
    lab.fates["a"] = ["fail"] * 10**5

    async def end():
        child.exit_signal(None, "kill")
        assert (await supervisor.which_child(sup.pid, child)).restarting
        sup.exit("shutdown")
        return await lab.runtime.runtime.exited(sup.pid)

    assert lab.do(end()) == "shutdown"
    assert lab.runtime.stats().processes == 0


@pytest.mark.otp("supervisor_SUITE", "count_children")
@pytest.mark.otp("supervisor_SUITE", "count_children_supervisor")
@pytest.mark.parametrize("kind", list(ChildType))
def test_counts_of_many_children_agree_with_the_list(lab, simple, kind):
    sup = simple(type=kind)

    async def fill():
        for _ in range(1000):
            await supervisor.start_child(sup.pid, ["a"])

    for number in (1000, 2000):
        lab.do(fill())
        counts = lab.do(supervisor.count_children(sup.pid))

        assert (counts.specs, counts.active) == (1, number)
        supervisors = number if kind is ChildType.SUPERVISOR else 0
        assert (counts.supervisors, counts.workers) == (supervisors, number - supervisors)
        infos = lab.do(supervisor.which_children(sup.pid))
        assert {info.pid for info in infos} == set(lab.pids)
        assert [info.type for info in infos] == [kind] * number


def test_child_terminated_while_restarting_is_counted_no_longer(lab, simple):
    sup = simple(intensity=10**6)
    child = add(lab, sup, "a")
    lab.fates["a"] = ["fail"] * 10**6
    child.exit_signal(None, "kill")
    lab.do(supervisor.terminate_child(sup.pid, child))
    add(lab, sup, "b")

    counts = lab.do(supervisor.count_children(sup.pid))
    assert (counts.active, counts.workers) == (1, 1)


# Stopping.


@pytest.mark.otp("supervisor_SUITE", "simple_one_for_one_shutdown")
@pytest.mark.otp("supervisor_SUITE", "sup_stop_timeout_dynamic")
def test_all_children_stop_at_once_under_one_deadline(lab, simple):
    sup = simple(shutdown_s=1.0, stops={"slow": 9.0, "a": 0.8, "b": 0.8})
    for name in ("a", "slow", "b"):
        add(lab, sup, name)

    assert stop(lab, sup) == pytest.approx(1.0)
    assert [pid.exit_reason for pid in lab.pids] == ["shutdown", "killed", "shutdown"]
    assert lab.labels() == ["shutdown_error t"]


@pytest.mark.otp("supervisor_SUITE", "sup_stop_brutal_kill_dynamic")
def test_ten_children_are_killed_at_once(lab, simple):
    sup = simple(shutdown_s=BRUTAL_KILL)
    for number in range(10):
        add(lab, sup, f"a{number}")

    assert stop(lab, sup) == 0.0
    assert reasons(lab) == ["killed"] * 10
    assert lab.labels() == []


@pytest.mark.otp("supervisor_SUITE", "sup_stop_non_shutdown_exit_dynamic")
@pytest.mark.parametrize("restart", list(Restart))
@pytest.mark.parametrize("reason", ["normal", "oops", ("shutdown", "x")])
def test_odd_ends_do_not_derail_the_stop(lab, simple, restart, reason):
    sup = simple(restart=restart, intensity=9)
    gone = add(lab, sup, "gone")
    lab.stop_reasons["odd"] = reason
    for _ in range(3):
        add(lab, sup, "odd")
    gone.exit_signal(None, "kill")
    stop(lab, sup)

    assert not any(pid.is_alive() for pid in lab.pids)
    odd = [
        report.offender.nb_children
        for report in lab.reports
        if isinstance(report, SupervisorReport) and report.label.value == "shutdown_error"
    ]
    expected = reason != "oops" and restart is not Restart.PERMANENT
    assert odd == ([] if expected else [3])


# Management.


@pytest.mark.otp("supervisor_SUITE", "child_adm_simple")
def test_children_are_managed_by_pid_alone(lab, simple):
    sup = simple()
    child, other = add(lab, sup, "a"), add(lab, sup, "b")
    stranger = lab.runtime.start(lab.worker("stranger"))

    for refused in (
        supervisor.restart_child,
        supervisor.delete_child,
        supervisor.terminate_child,
        supervisor.which_child,
    ):
        with pytest.raises(SimpleOneForOneError):
            lab.do(refused(sup.pid, "t"))
    with pytest.raises(SimpleOneForOneError):
        lab.do(supervisor.delete_child(sup.pid, child))
    with pytest.raises(NotFoundError):
        lab.do(supervisor.terminate_child(sup.pid, stranger.pid))
    lab.do(supervisor.terminate_child(sup.pid, child))
    lab.do(supervisor.terminate_child(sup.pid, child))

    assert child.exit_reason == "shutdown"
    assert listed(lab, sup) == [other]
    assert not sup.pid.hibernated


@pytest.mark.otp("supervisor_SUITE", "which_children_simple_one_for_one")
def test_which_child_goes_by_pid(lab, simple):
    sup = simple()
    pid = add(lab, sup, "a")
    info = lab.do(supervisor.which_child(sup.pid, pid))

    assert (info.id, info.pid, info.type) == (None, pid, ChildType.WORKER)
    assert lab.do(supervisor.which_children(sup.pid)) == [info]
    for other in ("t", None, 7):
        with pytest.raises(SimpleOneForOneError):
            lab.do(supervisor.which_child(sup.pid, other))
    lab.do(supervisor.terminate_child(sup.pid, pid))
    with pytest.raises(NotFoundError):
        lab.do(supervisor.which_child(sup.pid, pid))


@pytest.mark.otp("supervisor_SUITE", "simple_one_for_one_scale_many_temporary_children")
def test_time_to_stop_children_grows_in_proportion(lab):
    def child():
        return gen_server.start_link(lab.worker("a", trap=False))

    async def stop_all(sup, pids):
        begun = time.process_time()
        for pid in pids:
            await supervisor.terminate_child(sup.pid, pid)
        return time.process_time() - begun

    def took(number):
        template = ChildSpec("t", child, restart=Restart.TEMPORARY)
        sup = lab.start(template, strategy=Strategy.SIMPLE_ONE_FOR_ONE)
        pids = [add(lab, sup) for _ in range(number)]
        return lab.runtime.run(stop_all(sup, pids))

    gc.disable()
    try:
        small = min(took(100) for _ in range(3))
        assert took(1000) < 50 * small
    finally:
        gc.enable()


def test_ignore_class_as_start_is_an_ignored_start(lab):
    sup = lab.start(ChildSpec("t", Ignore), strategy=Strategy.SIMPLE_ONE_FOR_ONE)

    assert add(lab, sup) is None
