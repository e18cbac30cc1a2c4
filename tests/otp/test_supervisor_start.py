import asyncio

import pytest

from otp import (
    INFINITY,
    AlreadyStartedError,
    ChildSpec,
    ChildSpecError,
    ChildType,
    GenServer,
    Ignore,
    IgnoredError,
    NotFoundError,
    Raised,
    Reply,
    Restart,
    StartChildError,
    Started,
    StartError,
    Strategy,
    Supervisor,
    SupervisorFlags,
    gen_server,
    supervisor,
)


class FromInit(Supervisor):
    def __init__(self, init):
        super().__init__()
        self._init = init

    def init(self):
        return self._init()


class Starter(GenServer[None]):
    """Traps exits, and starts what it is given; keeps every message it gets."""

    def __init__(self):
        self.seen = []

    def init(self):
        self.trap_exit()

    def handle_call(self, request, from_, state):
        try:
            return Reply(supervisor.start_link(request), state)
        except StartError as error:
            return Reply(error, state)

    def handle_info(self, message, state):
        self.seen.append(message)
        return super().handle_info(message, state)


@pytest.mark.otp("supervisor_SUITE", "sup_start_normal")
def test_empty_supervisor_ends_with_shutdown_when_told(lab):
    sup = lab.start()
    sup.exit("shutdown")
    lab.runtime.run_until_idle()

    assert sup.pid.exit_reason == "shutdown"


@pytest.mark.otp("supervisor_SUITE", "sup_start_ignore_init")
def test_start_link_says_ignore_when_init_does(runtime):
    server = Starter()
    starter = runtime.start(server)

    assert isinstance(starter.call(FromInit(Ignore)), IgnoredError)
    assert server.seen == []
    assert runtime.stats().processes == 1


@pytest.mark.otp("supervisor_SUITE", "sup_start_error_return")
@pytest.mark.parametrize("value", [None, 17, ("ok",), (SupervisorFlags(), 3)])
def test_start_link_fails_when_init_returns_nonsense(runtime, value):
    server = Starter()
    answer = runtime.start(server).call(FromInit(lambda: value))

    assert answer.reason == ("bad_return", ("FromInit", "init", value))
    assert server.seen == []


@pytest.mark.otp("supervisor_SUITE", "sup_start_fail")
def test_start_link_fails_with_the_error_init_raised(runtime):
    server = Starter()
    answer = runtime.start(server).call(FromInit(lambda: 1 / 0))

    assert isinstance(answer.reason, Raised)
    assert isinstance(answer.reason.error, ZeroDivisionError)
    assert server.seen == []


@pytest.mark.otp("supervisor_SUITE", "sup_start_ignore_child")
def test_permanent_child_that_ignores_keeps_its_spec(lab):
    sup = lab.start()
    lab.fates["a"] = ["ignore"]

    assert lab.do(supervisor.start_child(sup.pid, lab.spec("a"))) is None
    assert lab.children(sup) == {"a": None}
    counts = lab.do(supervisor.count_children(sup.pid))
    assert (counts.specs, counts.active, counts.workers) == (1, 0, 1)


@pytest.mark.otp("supervisor_SUITE", "sup_start_ignore_temporary_child")
def test_temporary_child_that_ignores_at_start_up_is_dropped(lab):
    lab.fates["a"] = ["ignore"]
    sup = lab.start(lab.spec("a", restart=Restart.TEMPORARY), lab.spec("b"))

    assert list(lab.children(sup)) == ["b"]


@pytest.mark.otp("supervisor_SUITE", "sup_start_ignore_temporary_child_start_child")
def test_temporary_child_that_ignores_is_not_kept(lab):
    sup = lab.start()
    lab.fates["a"] = ["ignore"]
    spec = lab.spec("a", restart=Restart.TEMPORARY)

    assert lab.do(supervisor.start_child(sup.pid, spec)) is None
    assert lab.children(sup) == {}


@pytest.mark.otp("supervisor_SUITE", "sup_start_child_returns_error")
@pytest.mark.parametrize("odd", ["nonsense", ("error", "no"), 7, None])
def test_start_child_fails_when_the_start_returns_an_odd_value(lab, odd):
    sup = lab.start()

    with pytest.raises(StartChildError) as caught:
        lab.do(supervisor.start_child(sup.pid, ChildSpec("a", lambda: odd)))

    assert caught.value.reason == odd
    assert lab.children(sup) == {}


@pytest.mark.otp("supervisor_SUITE", "sup_start_restart_child_returns_error")
def test_restart_child_that_crashes_leaves_the_child_stopped(lab):
    sup = lab.start(lab.spec("a"))
    lab.do(supervisor.terminate_child(sup.pid, "a"))
    lab.fates["a"] = ["raise"]

    with pytest.raises(StartChildError) as caught:
        lab.do(supervisor.restart_child(sup.pid, "a"))

    assert isinstance(caught.value.reason.error, ValueError)
    assert lab.children(sup) == {"a": None}


@pytest.mark.otp("supervisor_SUITE", "sup_start_map")
def test_child_spec_has_otp_defaults(lab):
    sup = lab.start(lab.spec("a"), lab.spec("b", type="supervisor"))

    spec = lab.do(supervisor.get_childspec(sup.pid, "a"))
    assert (spec.restart, spec.type, spec.shutdown_s) == (Restart.PERMANENT, ChildType.WORKER, 5.0)
    assert lab.do(supervisor.get_childspec(sup.pid, "b")).shutdown_s == INFINITY
    with pytest.raises(NotFoundError):
        lab.do(supervisor.get_childspec(sup.pid, "c"))


@pytest.mark.otp("supervisor_SUITE", "child_specs_map")
@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"id": None}, "missing_id"),
        ({"start": None}, ("invalid_mfa", None)),
        ({"restart": "always"}, ("invalid_restart_type", "always")),
        ({"shutdown_s": -1}, ("invalid_shutdown", -1)),
        ({"shutdown_s": "soon"}, ("invalid_shutdown", "soon")),
        ({"type": "wrecker"}, ("invalid_child_type", "wrecker")),
        ({"significant": 1}, ("invalid_significant", 1)),
        (
            {"significant": True},
            ("bad_combination", (("restart", "permanent"), ("significant", True))),
        ),
    ],
)
def test_bad_child_spec_names_its_fault(fields, fault):
    with pytest.raises(ChildSpecError) as caught:
        ChildSpec(**{"id": "a", "start": Ignore, **fields})

    assert caught.value.fault == fault


@pytest.mark.otp("supervisor_SUITE", "child_specs")
def test_duplicate_ids_and_foreign_things_are_refused(lab):
    with pytest.raises(ChildSpecError) as twice:
        supervisor.check_childspecs([lab.spec("a"), lab.spec("a")])
    with pytest.raises(ChildSpecError) as foreign:
        supervisor.check_childspecs([("a", Ignore)])
    with pytest.raises(StartError) as at_start:
        lab.start(lab.spec("a"), lab.spec("a"))

    assert twice.value.fault == ("duplicate_child_name", "a")
    assert foreign.value.fault == ("invalid_child_spec", ("a", Ignore))
    assert at_start.value.reason == ("start_spec", ("duplicate_child_name", "a"))


@pytest.mark.otp("supervisor_SUITE", "sup_flags")
@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        ({"strategy": "one_for_none"}, ("invalid_strategy", "one_for_none")),
        ({"intensity": -1}, ("invalid_intensity", -1)),
        ({"intensity": 1.5}, ("invalid_intensity", 1.5)),
        ({"period_s": 0}, ("invalid_period", 0)),
        ({"auto_shutdown": "now"}, ("invalid_auto_shutdown", "now")),
    ],
)
def test_bad_flag_ends_the_start_with_its_fault(runtime, flags, fault):
    bad = FromInit(lambda: (SupervisorFlags(**flags), []))

    with pytest.raises(StartError) as caught:
        runtime.start(bad)

    assert caught.value.reason == ("supervisor_data", fault)


def test_failing_child_at_start_up_stops_the_others_newest_first(lab):
    lab.fates["c"] = ["fail"]

    with pytest.raises(StartError) as caught:
        lab.start(lab.spec("a"), lab.spec("b"), lab.spec("c"), lab.spec("d"))

    assert caught.value.reason == ("shutdown", ("failed_to_start_child", "c", "refused"))
    assert lab.drain() == ["start a", "start b", "fail c", "stop b", "stop a"]
    assert lab.labels() == ["start_error c"]
    assert lab.runtime.stats().processes == 0


@pytest.mark.otp("supervisor_SUITE", "already_started_outside_supervisor")
def test_already_started_from_a_start_function_is_passed_on(lab):
    other = lab.runtime.start(lab.worker("x"), "taken").pid
    sup = lab.start()

    def start():
        return gen_server.start_link(lab.worker("a"), name="taken")

    with pytest.raises(AlreadyStartedError) as caught:
        lab.do(supervisor.start_child(sup.pid, ChildSpec("a", start)))

    assert caught.value.pid is other
    assert lab.children(sup) == {}


@pytest.mark.otp("supervisor_SUITE", "extra_return")
def test_info_of_a_start_goes_to_whoever_started_the_child(lab):
    sup = lab.start()

    def start():
        return Started(gen_server.start_link(lab.worker("a")), "extra")

    answer = lab.do(supervisor.start_child_with_info(sup.pid, ChildSpec("a", start)))
    lab.end(answer.pid, "crash")

    assert answer.info == "extra"
    assert lab.pid(sup, "a") is not answer.pid
    lab.do(supervisor.terminate_child(sup.pid, "a"))
    assert lab.do(supervisor.restart_child_with_info(sup.pid, "a")).info == "extra"


@pytest.mark.otp("supervisor_SUITE", "external_start_no_progress_log")
def test_progress_tells_automatic_starts_from_those_by_hand(lab):
    sup = lab.start(lab.spec("a"))
    lab.do(supervisor.start_child(sup.pid, lab.spec("b")))
    lab.end(lab.pid(sup, "b"), "crash")

    assert lab.progress() == [("a", False), ("b", True), ("b", False)]


def test_async_init_of_children_is_awaited_in_start_order(lab):
    class Slow(type(lab.worker("x"))):
        async def init(self):
            await asyncio.sleep(1.0)
            return super().init()

    def start():
        return gen_server.start_link(Slow(lab, "slow", trap=True, stop_s=0))

    lab.start(ChildSpec("slow", start), lab.spec("b"), strategy=Strategy.REST_FOR_ONE)

    assert lab.drain() == ["start slow", "start b"]
    assert lab.runtime.clock() == pytest.approx(1.0)
