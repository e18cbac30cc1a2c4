import pytest

from otp import (
    BRUTAL_KILL,
    INFINITY,
    AlreadyStartedError,
    Backoff,
    ChildSpec,
    ChildSpecError,
    ChildType,
    DynamicSupervisor,
    ExitError,
    Ignore,
    IgnoredError,
    MaxChildrenError,
    NoProcessError,
    NotFoundError,
    Raised,
    Restart,
    StartChildError,
    Started,
    StartError,
    SupervisorError,
    SupervisorFlagsError,
    SupervisorReport,
    dynamic_supervisor,
    gen_server,
    self_pid,
    supervisor,
)


def listed(lab, sup):
    infos = lab.do(dynamic_supervisor.which_children(sup.pid))
    return ["restarting" if info.restarting else info.pid for info in infos]


def counts(lab, sup):
    found = lab.do(dynamic_supervisor.count_children(sup.pid))
    return found.specs, found.active


def stop(lab, sup):
    begun = lab.runtime.clock()
    sup.exit("shutdown")
    assert lab.do(lab.runtime.runtime.exited(sup.pid)) == "shutdown"
    return lab.runtime.clock() - begun


def fill(lab, sup, *specs):
    return [lab.add(sup, spec) for spec in specs]


@pytest.mark.otp("Elixir", "can be supervised directly")
def test_dynamic_supervisor_is_a_child_like_any_other(lab):
    spec = ChildSpec("pool", dynamic_supervisor.start_link, type="supervisor")
    top = lab.start(spec)
    pool = lab.runtime.handle(lab.pid(top, "pool"))

    assert listed(lab, pool) == []


@pytest.mark.otp("Elixir", "init/1 set default options")
def test_defaults_are_three_restarts_in_five_seconds_and_no_limit(lab):
    flags = DynamicSupervisor()
    sup = lab.start_dynamic()
    for _ in range(3):
        lab.add(sup, lab.spec("a", restart=Restart.TEMPORARY))
    lab.add(sup, lab.spec("b"))
    for _ in range(3):
        assert sup.is_alive()
        lab.end(lab.pids[-1], "kill")
    old = lab.pids[-1]
    lab.runtime.advance(6.0)
    lab.end(old, "kill")

    assert (flags.intensity, flags.period_s, flags.max_children) == (3, 5.0, INFINITY)
    assert (flags.extra_arguments, flags.backoff) == ((), None)
    assert sup.is_alive()
    for _ in range(3):
        lab.end(lab.pids[-1], "kill")
    assert sup.pid.exit_reason == "shutdown"


@pytest.mark.otp("Elixir", "start_link/3 with non-ok init")
@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        ({"intensity": -1}, ("invalid_intensity", -1)),
        ({"period_s": 0}, ("invalid_period", 0)),
        ({"max_children": -1}, ("invalid_max_children", -1)),
    ],
)
def test_bad_flag_names_its_fault(flags, fault):
    with pytest.raises(SupervisorFlagsError) as caught:
        DynamicSupervisor(**flags)

    assert caught.value.fault == fault


class FromInit(DynamicSupervisor):
    def __init__(self, init):
        super().__init__()
        self.init = init


@pytest.mark.otp("Elixir", "start_link/3 with non-ok init")
@pytest.mark.parametrize(
    ("init", "reason"),
    [
        (lambda: DynamicSupervisor(intensity=-1), ("supervisor_data", ("invalid_intensity", -1))),
        (lambda: DynamicSupervisor(period_s=-1), ("supervisor_data", ("invalid_period", -1))),
        (
            lambda: DynamicSupervisor(max_children=-1),
            ("supervisor_data", ("invalid_max_children", -1)),
        ),
        (lambda: "unknown", ("bad_return", ("FromInit", "init", "unknown"))),
        (lambda: None, ("bad_return", ("FromInit", "init", None))),
        (Ignore, "ignore"),
    ],
)
def test_start_fails_with_what_init_did_wrong(lab, inside, init, reason):
    async def body():
        with pytest.raises(StartError) as caught:
            dynamic_supervisor.start_link(FromInit(init), name="pool")
        assert isinstance(caught.value, IgnoredError) == (reason == "ignore")
        assert lab.runtime.runtime.whereis("pool") is None
        assert self_pid().linked() == ()
        return caught.value.reason

    assert inside(body) == reason


def test_init_may_give_other_flags(lab):
    sup = lab.runtime.start(FromInit(lambda: DynamicSupervisor(intensity=0, max_children=1)))
    child = lab.add(sup, lab.spec("a"))
    with pytest.raises(MaxChildrenError):
        lab.add(sup, lab.spec("b"))
    lab.end(child, "kill")

    assert sup.pid.exit_reason == "shutdown"


@pytest.mark.otp("Elixir", "start_link/3 with registered process")
def test_dynamic_supervisor_can_have_a_name(lab, inside):
    async def body():
        pid = dynamic_supervisor.start_link(name="pool")
        assert lab.runtime.runtime.whereis("pool") is pid
        assert self_pid().linked() == (pid,)
        with pytest.raises(AlreadyStartedError) as taken:
            dynamic_supervisor.start_link(name="pool")
        assert taken.value.pid is pid
        child = await dynamic_supervisor.start_child("pool", lab.spec("a"))
        await dynamic_supervisor.stop("pool")
        assert (pid.exit_reason, child.exit_reason) == ("normal", "shutdown")
        assert lab.runtime.runtime.whereis("pool") is None

    inside(body)


@pytest.mark.otp("Elixir", "with invalid child spec")
def test_bad_spec_is_refused_in_the_caller(lab):
    sup = lab.start_dynamic()
    stop(lab, sup)
    significant = lab.spec("a", restart=Restart.TEMPORARY, significant=True)

    for bad in ("nonsense", significant):
        with pytest.raises(ChildSpecError):
            lab.add(sup, bad)
    with pytest.raises(NoProcessError):
        lab.add(sup, lab.spec("a"))


@pytest.mark.otp("Elixir", "supports new child spec")
@pytest.mark.otp("Elixir", "with different returns")
def test_start_child_takes_what_start_returns(lab):
    sup = lab.start_dynamic()
    assert lab.add(sup, lab.spec("a")) in listed(lab, sup)
    with_info = lab.add(
        sup, ChildSpec("b", lambda: Started(gen_server.start_link(lab.worker("b")), "info"))
    )
    assert with_info in listed(lab, sup)
    assert lab.add(sup, ChildSpec("c", Ignore)) is None
    with pytest.raises(StartChildError) as odd:
        lab.add(sup, ChildSpec("d", lambda: "odd"))
    lab.fates["e"] = ["fail"]
    with pytest.raises(StartChildError) as refused:
        lab.add(sup, lab.spec("e"))

    assert (odd.value.reason, refused.value.reason) == ("odd", "refused")
    assert counts(lab, sup) == (2, 2)


@pytest.mark.otp("Elixir", "with throw/error/exit")
def test_exceptions_in_start_become_the_reason(lab):
    sup = lab.start_dynamic()

    def leave():
        raise ExitError("gone")

    with pytest.raises(StartChildError) as by_exit:
        lab.add(sup, ChildSpec("a", leave))
    with pytest.raises(StartChildError) as by_error:
        lab.add(sup, ChildSpec("a", lambda: 1 / 0))

    assert by_exit.value.reason == "gone"
    assert isinstance(by_error.value.reason, Raised)
    assert isinstance(by_error.value.reason.error, ZeroDivisionError)


@pytest.mark.otp("Elixir", "with max_children")
def test_max_children_refuses_one_more(lab):
    none = lab.start_dynamic(max_children=0)
    one = lab.start_dynamic(max_children=1)
    lab.add(one, lab.spec("a"))

    for full in (none, one):
        with pytest.raises(MaxChildrenError):
            lab.add(full, lab.spec("b"))


@pytest.mark.otp("Elixir", "temporary child is not restarted regardless of reason")
@pytest.mark.otp("Elixir", "transient child is restarted unless normal/shutdown/{shutdown, _}")
@pytest.mark.otp("Elixir", "permanent child is restarted regardless of reason")
@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", 1), "oops", "kill"])
@pytest.mark.parametrize("restart", list(Restart))
def test_restart_type_decides_what_becomes_of_a_child(lab, restart, reason):
    sup = lab.start_dynamic()
    pid = lab.add(sup, lab.spec("a", restart=restart))
    lab.end(pid, reason)

    clean = reason not in ("oops", "kill")
    back = restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and not clean)
    assert counts(lab, sup) == ((1, 1) if back else (0, 0))
    assert pid not in listed(lab, sup)


@pytest.mark.otp("Elixir", "child is restarted with different values")
@pytest.mark.parametrize("kind", ["ok", "info", "ignore", "refused", "odd"])
def test_restart_takes_what_start_returns(lab, kind):
    sup = lab.start_dynamic(intensity=10**5)
    results = iter(["ok"])

    def start():
        made = next(results, kind)
        if made in ("ok", "info"):
            pid = gen_server.start_link(lab.worker("a"))
            return Started(pid, "info") if made == "info" else pid
        if made == "refused":
            raise StartError("refused")
        return Ignore() if made == "ignore" else "odd"

    first = lab.add(sup, ChildSpec("a", start))

    async def look():
        first.exit_signal(None, "kill")
        infos = await dynamic_supervisor.which_children(sup.pid)
        if kind in ("refused", "odd"):
            await dynamic_supervisor.terminate_child(sup.pid, first)
        return [(info.pid, info.restarting) for info in infos]

    seen = lab.do(look())
    if kind in ("ok", "info"):
        assert seen == [(lab.pids[1], False)]
    else:
        assert seen == ([] if kind == "ignore" else [(None, True)])
        assert counts(lab, sup) == (0, 0)


@pytest.mark.otp("Elixir", "restarting on init children counted in max_children")
@pytest.mark.otp("Elixir", "terminate_child/2 terminates restarting child")
def test_child_in_a_failing_restart_loop_holds_its_place(lab):
    sup = lab.start_dynamic(max_children=1, intensity=10**5)
    child = lab.add(sup, lab.spec("a"))
    lab.fates["a"] = ["fail"] * 10**5

    async def look():
        child.exit_signal(None, "kill")
        with pytest.raises(MaxChildrenError):
            await dynamic_supervisor.start_child(sup.pid, lab.spec("b"))
        counts = await dynamic_supervisor.count_children(sup.pid)
        assert (counts.specs, counts.active, counts.workers) == (1, 0, 1)
        await dynamic_supervisor.terminate_child(sup.pid, child)
        with pytest.raises(NotFoundError):
            await dynamic_supervisor.terminate_child(sup.pid, child)

    lab.do(look())
    assert lab.drain().count("fail a") > 0
    lab.runtime.advance(1.0)
    assert lab.drain() == []
    assert counts(lab, sup) == (0, 0)


@pytest.mark.otp("Elixir", "restarting on init children counted in max_children")
@pytest.mark.otp("Elixir", "terminate_child/2 terminates restarting child")
@pytest.mark.otp("supervisor_SUITE", "count_restarting_children")
def test_restarting_child_holds_its_place_until_terminated(lab):
    sup = lab.start_dynamic(max_children=1, intensity=9, backoff=Backoff(initial_s=1.0))
    pid = lab.add(sup, lab.spec("a"))
    lab.end(pid, "oops")

    assert listed(lab, sup) == ["restarting"]
    assert counts(lab, sup) == (1, 0)
    with pytest.raises(MaxChildrenError):
        lab.add(sup, lab.spec("b"))
    lab.do(dynamic_supervisor.terminate_child(sup.pid, pid))
    assert counts(lab, sup) == (0, 0)
    lab.drain()
    lab.runtime.advance(60.0)
    assert lab.drain() == []


@pytest.mark.otp("Elixir", "restarting on exit children counted in max_children")
def test_restarted_child_holds_its_place(lab):
    sup = lab.start_dynamic(max_children=1)
    lab.end(lab.add(sup, lab.spec("a")), "oops")

    with pytest.raises(MaxChildrenError):
        lab.add(sup, lab.spec("b"))


@pytest.mark.otp("Elixir", "child is restarted when trying again")
def test_second_attempt_to_restart_may_succeed(lab):
    sup = lab.start_dynamic(intensity=2)
    pid = lab.add(sup, lab.spec("a"))
    lab.fates["a"] = ["fail"]
    lab.drain()
    lab.end(pid, "oops")

    assert lab.drain() == ["stop a", "fail a", "start a"]
    assert counts(lab, sup) == (1, 1)


@pytest.mark.otp("Elixir", "child triggers maximum restarts")
def test_one_restart_too_many_ends_the_supervisor(lab):
    sup = lab.start_dynamic(intensity=1)
    other = lab.add(sup, lab.spec("b"))
    lab.end(lab.add(sup, lab.spec("a")), "oops")
    again = next(pid for pid in listed(lab, sup) if pid is not other)
    lab.end(again, "oops")

    assert sup.pid.exit_reason == "shutdown"
    assert not other.is_alive()


@pytest.mark.otp("Elixir", "child triggers maximum intensity when trying again")
def test_failed_attempts_count(lab):
    sup = lab.start_dynamic(intensity=10)
    pid = lab.add(sup, lab.spec("a"))
    lab.fates["a"] = ["fail"] * 99
    lab.drain()
    lab.end(pid, "oops")

    assert sup.pid.exit_reason == "shutdown"
    assert lab.drain().count("fail a") == 10


@pytest.mark.otp("Elixir", "with valid shutdown")
@pytest.mark.parametrize("shutdown_s", [0, 0.001])
def test_short_shutdown_times_are_accepted(lab, shutdown_s):
    sup = lab.start_dynamic()

    assert lab.add(sup, lab.spec("a", shutdown_s=shutdown_s)).is_alive()


@pytest.mark.otp("Elixir", "with invalid valid shutdown")
def test_negative_shutdown_time_is_refused(lab):
    with pytest.raises(ChildSpecError):
        lab.spec("a", shutdown_s=-1)


@pytest.mark.otp("Elixir", "terminates children with brutal kill")
def test_stop_kills_brutal_kill_children(lab):
    sup = lab.start_dynamic()
    pids = fill(lab, sup, *(lab.spec(name, shutdown_s=BRUTAL_KILL) for name in "abc"))
    stop(lab, sup)

    assert [pid.exit_reason for pid in pids] == ["killed"] * 3
    assert lab.labels() == []


@pytest.mark.otp("Elixir", "terminates children with infinity shutdown")
@pytest.mark.otp("Elixir", "terminates children with integer shutdown")
@pytest.mark.parametrize("shutdown_s", [INFINITY, 5.0])
def test_stop_shuts_children_down_all_at_once(lab, shutdown_s):
    sup = lab.start_dynamic()
    pids = fill(lab, sup, *(lab.spec(n, shutdown_s=shutdown_s, stop_s=0.2) for n in "abcde"))

    assert stop(lab, sup) == pytest.approx(0.2)
    assert {pid.exit_reason for pid in pids} == {"shutdown"}


@pytest.mark.otp("Elixir", "terminates children with infinity shutdown and abnormal reason")
@pytest.mark.otp("Elixir", "terminates children with integer shutdown and abnormal reason")
@pytest.mark.parametrize("shutdown_s", [INFINITY, 5.0])
@pytest.mark.parametrize("reason", ["oops", ("shutdown", "oops")])
def test_own_reasons_at_stop_are_kept_and_reported_once(lab, shutdown_s, reason):
    sup = lab.start_dynamic()
    lab.stop_reasons["a"] = reason
    pids = fill(lab, sup, *(lab.spec("a", shutdown_s=shutdown_s) for _ in range(3)))
    stop(lab, sup)

    assert {pid.exit_reason for pid in pids} == {reason}
    reports = [report for report in lab.reports if isinstance(report, SupervisorReport)]
    assert [report.offender.nb_children for report in reports] == [3]


@pytest.mark.otp("Elixir", "terminates children with expired integer shutdown")
def test_stop_kills_who_is_too_slow(lab):
    sup = lab.start_dynamic()
    quick, slow = fill(lab, sup, lab.spec("a"), lab.spec("b", shutdown_s=1.0, stop_s=9.0))

    assert stop(lab, sup) == pytest.approx(1.0)
    assert (quick.exit_reason, slow.exit_reason) == ("shutdown", "killed")


@pytest.mark.otp("Elixir", "terminates children with permanent restart and normal reason")
def test_stop_tolerates_children_that_end_normally(lab):
    sup = lab.start_dynamic()
    lab.stop_reasons["a"] = "normal"
    pid = lab.add(sup, lab.spec("a"))
    stop(lab, sup)

    assert pid.exit_reason == "normal"


@pytest.mark.otp("Elixir", "terminates with mixed children")
def test_stop_handles_each_shutdown_kind_by_its_own_deadline(lab):
    sup = lab.start_dynamic()
    pids = fill(
        lab,
        sup,
        lab.spec("a", shutdown_s=BRUTAL_KILL),
        lab.spec("b", shutdown_s=1.0, stop_s=9.0),
        lab.spec("c", shutdown_s=2.0, stop_s=9.0),
        lab.spec("d", shutdown_s=INFINITY, stop_s=4.0),
    )

    assert stop(lab, sup) == pytest.approx(4.0)
    assert [pid.exit_reason for pid in pids] == ["killed", "killed", "killed", "shutdown"]


@pytest.mark.otp("Elixir", "terminate_child/2 terminates child with brutal kill")
@pytest.mark.otp("Elixir", "terminate_child/2 terminates child with integer shutdown")
@pytest.mark.parametrize(("shutdown_s", "reason"), [(BRUTAL_KILL, "killed"), (1.0, "shutdown")])
def test_terminate_child_stops_and_forgets(lab, shutdown_s, reason):
    sup = lab.start_dynamic()
    pid = lab.add(sup, lab.spec("a", shutdown_s=shutdown_s))
    lab.do(dynamic_supervisor.terminate_child(sup.pid, pid))

    assert pid.exit_reason == reason
    assert counts(lab, sup) == (0, 0)
    with pytest.raises(NotFoundError):
        lab.do(dynamic_supervisor.terminate_child(sup.pid, pid))


@pytest.mark.otp("supervisor_SUITE", "count_children")
@pytest.mark.otp("supervisor_SUITE", "count_children_supervisor")
@pytest.mark.parametrize("kind", list(ChildType))
def test_counts_agree_with_the_list(lab, kind):
    sup = lab.start_dynamic()
    fill(lab, sup, *(lab.spec("a", type=kind) for _ in range(1000)))
    found = lab.do(dynamic_supervisor.count_children(sup.pid))

    assert found.specs == found.active == len(listed(lab, sup)) == 1000
    assert (found.supervisors == 1000) == (kind is ChildType.SUPERVISOR)


def test_start_of_temporary_children_is_not_kept(lab):
    sup = lab.start_dynamic()
    spec = lab.spec("a", restart=Restart.TEMPORARY)
    fill(lab, sup, spec, spec)

    kept = list(sup.pid.server._children.values())
    assert kept[0].start is not spec.start
    assert kept[0] is kept[1]


def test_name_taken_by_another_process_is_passed_on(lab):
    sup = lab.start_dynamic()

    def start():
        return gen_server.start_link(lab.worker("a"), name="one")

    first = lab.add(sup, ChildSpec("a", start))
    with pytest.raises(AlreadyStartedError) as caught:
        lab.add(sup, ChildSpec("a", start))

    assert caught.value.pid is first
    assert issubclass(AlreadyStartedError, StartError)


def test_back_off_grows_over_restarts_that_do_not_last(lab):
    backoff = Backoff(initial_s=1.0, max_s=8.0, jitter=0.0)
    sup = lab.start_dynamic(intensity=99, backoff=backoff)
    lab.add(sup, lab.spec("a"))
    waits = []
    for _ in range(3):
        lab.end(listed(lab, sup)[0], "oops")
        begun = lab.runtime.clock()
        while listed(lab, sup) == ["restarting"]:
            lab.runtime.advance(0.5)
        waits.append(lab.runtime.clock() - begun)

    assert waits == [1.0, 2.0, 4.0]


@pytest.mark.otp("Elixir", "supports extra arguments")
@pytest.mark.otp("Elixir", "restarting a child with extra_arguments successfully restarts child")
def test_extra_arguments_come_first_also_at_a_restart(lab):
    seen = []

    def start(*arguments):
        seen.append(arguments)
        return gen_server.start_link(lab.worker("a"))

    sup = lab.start_dynamic(extra_arguments=("extra", 1))
    child = lab.add(sup, ChildSpec("a", start, args=("own",)))
    lab.end(child, "kill")

    assert seen == [("extra", 1, "own")] * 2
    assert listed(lab, sup) == [lab.pids[-1]]


@pytest.mark.otp("Elixir", "with different returns")
def test_start_child_may_ask_for_the_info(lab):
    sup = lab.start_dynamic()

    def start():
        return Started(gen_server.start_link(lab.worker("a")), "info")

    answer = lab.do(dynamic_supervisor.start_child_with_info(sup.pid, ChildSpec("a", start)))

    assert (answer.pid, answer.info) == (lab.pids[0], "info")


@pytest.mark.parametrize(
    "ask", [supervisor.restart_child, supervisor.delete_child, supervisor.get_childspec]
)
def test_call_that_goes_by_id_is_refused_and_harms_nobody(lab, ask):
    sup = lab.start_dynamic()
    child = lab.add(sup, lab.spec("a"))

    with pytest.raises(SupervisorError, match="go by pid"):
        lab.do(ask(sup.pid, "a"))
    assert child.is_alive()


def test_which_child_of_a_dynamic_supervisor_goes_by_pid(lab):
    sup = lab.start_dynamic()
    child = lab.add(sup, lab.spec("a"))

    assert lab.do(dynamic_supervisor.which_child(sup.pid, child)).pid is child
    with pytest.raises(NotFoundError):
        lab.do(dynamic_supervisor.which_child(sup.pid, sup.pid))


@pytest.mark.parametrize(
    "ask", [dynamic_supervisor.terminate_child, dynamic_supervisor.which_child]
)
@pytest.mark.parametrize("child", ["a", ["no hash"], None])
def test_what_is_no_pid_is_refused_in_the_caller(lab, ask, child):
    sup = lab.start_dynamic()

    with pytest.raises(TypeError):
        lab.do(ask(sup.pid, child))
    assert sup.is_alive()
