"""How machines start, stop and fail, each case in both callback modes."""

import asyncio

import pytest

from otp import (
    Address,
    AlreadyStartedError,
    CallError,
    CallTimeoutError,
    CrashReport,
    Down,
    Exit,
    ExitError,
    GenServer,
    GenStatem,
    Global,
    Ignore,
    IgnoredError,
    NoProcessError,
    NoReply,
    Raised,
    Reply,
    StartError,
    StatemReport,
    Stop,
    Supervisor,
    SupervisorFlags,
    demonitor,
    gen_statem,
    link,
    monitor,
    receive,
    sys,
    trap_exit,
)
from otp.gen_statem import (
    HANDLE_EVENT_FUNCTION,
    STATE_FUNCTIONS,
    ChangeCallbackModule,
    Hibernate,
    KeepState,
    KeepStateAndData,
    NamedTimeout,
    NextEvent,
    NextState,
    Ok,
    Postpone,
    PushCallbackModule,
    StateTimeout,
    StopAndReply,
)
from otp.node_names import OnNode
from otp.requests import Answer


class Phone(GenStatem):
    """idle --(call connect)--> waiting --(cast confirm)--> connected --(cast hang_up)--> idle."""

    def __init__(self, mode=STATE_FUNCTIONS, *, first=None, wait_s=None):
        self.mode = mode
        self.first = first
        self.wait_s = wait_s
        self.ends = []

    def init(self):
        if self.wait_s is not None:
            return self.wait()
        if isinstance(self.first, BaseException):
            raise self.first
        return self.first or Ok("idle", 0)

    async def wait(self):
        await asyncio.sleep(self.wait_s)
        if isinstance(self.first, BaseException):
            raise self.first
        return self.first or Ok("idle", 0)

    def callback_mode(self):
        return self.mode

    def handle_event(self, event_type, content, state, data):
        return getattr(self, state)(event_type, content, data)

    def idle(self, event_type, content, data):
        match event_type, content:
            case ("call", from_), "connect":
                return NextState("waiting", data + 1, gen_statem.Reply(from_, "accept"))
            case "cast", "connect":
                return NextState("waiting", data + 1)
            case _:
                return self.any(event_type, content, "idle", data)

    def waiting(self, event_type, content, data):
        if (event_type, content) == ("cast", "confirm"):
            return NextState("connected", data, [])
        return self.any(event_type, content, "waiting", data)

    def connected(self, event_type, content, data):
        if (event_type, content) == ("cast", "hang_up"):
            return NextState("idle", data)
        return self.any(event_type, content, "connected", data)

    def any(self, event_type, content, state, data):
        match event_type, content:
            case ("call", from_), "state":
                return KeepStateAndData(gen_statem.Reply(from_, state))
            case ("call", from_), ("later", after_s):
                return KeepStateAndData(StateTimeout(after_s, from_))
            case "state_timeout", from_:
                return KeepStateAndData([gen_statem.Reply(from_, "late")])
            case ("call", _), ("return", result):
                return result
            case ("call", from_), ("stop", reason, *replies):
                replies = [gen_statem.Reply(from_, value) for value in replies]
                return StopAndReply(reason, replies) if replies else Stop(reason)
            case ("call", _), ("raise", error):
                raise error
            case _:
                return KeepStateAndData()

    def terminate(self, reason, state, data):
        self.ends.append((reason, state, data))


class Asker(GenServer):
    """Does what it is told as a process, traps exits, keeps every message it gets."""

    def __init__(self):
        self.seen = []

    def init(self):
        self.trap_exit()

    async def handle_call(self, request, from_, state):
        try:
            answer = request()
            if hasattr(answer, "__await__"):
                answer = await answer
        except Exception as error:  # noqa: BLE001 - told to the test
            answer = error
        return Reply(answer, state)

    def handle_info(self, message, state):
        self.seen.append(message)
        return NoReply(state)


@pytest.fixture(params=[STATE_FUNCTIONS, HANDLE_EVENT_FUNCTION])
def mode(request):
    return request.param


@pytest.fixture
def ask(runtime):
    """Run a function in a process; `ask.seen` are that process's messages."""
    server = Asker()
    handle = runtime.start(server)

    def run(function):
        answer = handle.call(function, timeout_s=None)
        if isinstance(answer, Exception):
            raise answer
        return answer

    run.seen = server.seen
    run.pid = handle.pid
    return run


def works(ask, dest):
    """The functional test of the suite: through all states and back, by call and cast."""
    assert ask(lambda: gen_statem.call(dest, "state")) == "idle"
    assert ask(lambda: gen_statem.call(dest, "connect")) == "accept"
    assert ask(lambda: gen_statem.call(dest, "state")) == "waiting"
    ask(lambda: gen_statem.cast(dest, "confirm"))
    assert ask(lambda: gen_statem.call(dest, "state", 1.0)) == "connected"
    assert ask(lambda: gen_statem.call(dest, ("later", 0.2))) == "late"
    ask(lambda: gen_statem.cast(dest, "hang_up"))
    assert ask(lambda: gen_statem.call(dest, "state")) == "idle"
    return True


@pytest.mark.otp("gen_statem_SUITE", "start1")
def test_anonymous_machine_starts_linked_or_monitored_and_works(ask, mode):
    linked = ask(lambda: gen_statem.start_link(Phone(mode)))
    pid, ref = ask(lambda: gen_statem.start_monitor(Phone(mode)))

    assert works(ask, linked)
    assert works(ask, pid)
    ask(lambda: gen_statem.stop(linked))
    ask(lambda: gen_statem.stop(pid))
    assert ask.seen == [Exit(linked, "normal"), Down(ref, pid, "normal")]


@pytest.mark.otp("gen_statem_SUITE", "start2")
def test_anonymous_machine_starts_unlinked_and_stops_with_shutdown(ask, mode):
    machine = Phone(mode)
    pid = ask(lambda: gen_statem.start(machine))

    assert works(ask, pid)
    with pytest.raises(CallError) as failure:
        ask(lambda: gen_statem.call(pid, ("stop", "shutdown")))
    assert failure.value.cause == "shutdown"
    assert pid.exit_reason == "shutdown"
    assert ask.seen == []


@pytest.mark.otp("gen_statem_SUITE", "start3")
def test_start_gives_up_when_init_takes_too_long(runtime, ask, mode):
    async def started():
        return await gen_statem.start(Phone(mode, wait_s=5.0), name="slow", timeout_s=1.0)

    begun = runtime.clock()
    with pytest.raises(StartError) as failure:
        ask(started)
    assert failure.value.reason == "timeout"
    assert runtime.clock() - begun == pytest.approx(1.0)
    assert runtime.runtime.whereis("slow") is None
    assert runtime.stats().processes == 1


@pytest.mark.otp("gen_statem_SUITE", "start3")
def test_init_that_waits_less_than_its_time_starts(ask, mode):
    async def started():
        return await gen_statem.start_link(Phone(mode, wait_s=1.0), timeout_s=2.0)

    assert works(ask, ask(started))


@pytest.mark.otp("gen_statem_SUITE", "start4")
@pytest.mark.parametrize("wait_s", [None, 1.0])
def test_start_says_ignore_when_init_does(runtime, ask, mode, wait_s):
    async def started():
        return await gen_statem.start_link(Phone(mode, first=Ignore(), wait_s=wait_s))

    with pytest.raises(IgnoredError):
        ask(started)
    assert ask.seen == []
    assert runtime.stats().processes == 1


@pytest.mark.otp("gen_statem_SUITE", "start5a")
@pytest.mark.parametrize("wait_s", [None, 1.0])
def test_start_fails_with_the_reason_init_stops_with(runtime, ask, mode, wait_s):
    async def started():
        machine = Phone(mode, first=Stop("stopped"), wait_s=wait_s)
        return await gen_statem.start_link(machine, name="phone")

    with pytest.raises(StartError) as failure:
        ask(started)
    assert failure.value.reason == "stopped"
    assert ask.seen == []
    assert runtime.runtime.whereis("phone") is None


@pytest.mark.otp("gen_statem_SUITE", "start5b")
@pytest.mark.parametrize("wait_s", [None, 1.0])
def test_start_fails_cleanly_when_init_exits(runtime, ask, mode, wait_s):
    async def started():
        machine = Phone(mode, first=ExitError(("shutdown", "no phone")), wait_s=wait_s)
        return await gen_statem.start_link(machine)

    reports = []
    runtime.reports.subscribe(reports.append)
    with pytest.raises(StartError) as failure:
        ask(started)
    assert failure.value.reason == ("shutdown", "no phone")
    assert ask.seen == []
    assert reports == []


@pytest.mark.otp("gen_statem_SUITE", "start6")
def test_linked_machine_ends_with_its_starter(runtime, ask, mode):
    machine = Phone(mode)
    pid = ask(lambda: gen_statem.start_link(machine))
    assert ask.pid in pid.linked()
    assert works(ask, pid)
    runtime.runtime.exit(ask.pid, "kill")
    runtime.run_until_idle()

    assert pid.exit_reason == "killed"
    assert machine.ends == []


@pytest.mark.otp("gen_statem_SUITE", "start7")
@pytest.mark.otp("gen_statem_SUITE", "start9")
@pytest.mark.parametrize("name", ["phone", Global("phone")], ids=["local", "global"])
@pytest.mark.parametrize("how", ["link", "monitor"])
def test_name_of_a_running_machine_is_already_started(ask, mode, how, name):
    start = gen_statem.start_link if how == "link" else gen_statem.start_monitor
    first = ask(lambda: start(Phone(mode), name=name))
    pid, ref = (first, None) if how == "link" else first

    for again in (gen_statem.start_link, gen_statem.start, gen_statem.start_monitor):
        with pytest.raises(AlreadyStartedError) as failure:
            ask(lambda again=again: again(Phone(mode), name=name))
        assert failure.value.pid is pid
    assert works(ask, name)
    assert works(ask, pid)
    ask(lambda: gen_statem.stop(name, "shutdown"))
    end = Exit(pid, "shutdown") if how == "link" else Down(ref, pid, "shutdown")
    assert ask.seen == [end]


@pytest.mark.otp("gen_statem_SUITE", "start8")
@pytest.mark.otp("gen_statem_SUITE", "start10")
@pytest.mark.parametrize("name", ["phone", Global("phone")], ids=["local", "global"])
def test_named_machine_starts_unlinked(ask, mode, name):
    pid = ask(lambda: gen_statem.start(Phone(mode), name=name))

    assert works(ask, name)
    assert works(ask, pid)
    with pytest.raises(AlreadyStartedError) as failure:
        ask(lambda: gen_statem.start(Phone(mode), name=name))
    assert failure.value.pid is pid
    ask(lambda: gen_statem.stop(name))
    assert ask.seen == []


@pytest.mark.otp("gen_statem_SUITE", "start11")
def test_name_is_free_right_after_stop(ask, mode):
    async def cycle():
        for _ in range(10):
            gen_statem.start_link(Phone(mode), name="phone")
            await gen_statem.stop("phone")
        return gen_statem.start_link(Phone(mode), name="phone")

    assert works(ask, ask(cycle))


class Entry(Address):
    """A name in a book that the test keeps."""

    def __init__(self, book, key):
        self.book = book
        self.key = key

    def whereis(self, runtime):
        pid = self.book.get(self.key)
        return pid if pid is not None and pid.is_alive() else None

    def register(self, runtime, pid):
        self.book[self.key] = pid

    def unregister(self, runtime):
        del self.book[self.key]


@pytest.mark.otp("gen_statem_SUITE", "start12")
def test_machine_starts_under_a_name_that_others_keep(ask, mode):
    entry = Entry({}, ("phone", 12))
    pid = ask(lambda: gen_statem.start_link(Phone(mode), name=entry))

    with pytest.raises(AlreadyStartedError) as failure:
        ask(lambda: gen_statem.start_monitor(Phone(mode), name=entry))
    assert failure.value.pid is pid
    assert works(ask, entry)
    assert ask(lambda: sys.get_state(entry)) == ("idle", 1)


@pytest.mark.otp("gen_statem_SUITE", "stop7")
def test_stop_by_a_name_that_others_keep(ask, mode):
    entry = Entry({}, ("phone", 7))
    pid = ask(lambda: gen_statem.start(Phone(mode), name=entry))
    ask(lambda: gen_statem.stop(entry))

    assert pid.exit_reason == "normal"
    with pytest.raises(NoProcessError):
        ask(lambda: gen_statem.stop(entry))


@pytest.mark.otp("gen_statem_SUITE", "next_events")
def test_inserted_events_come_in_the_listed_order(runtime, mode):
    class Inserting(Phone):
        def idle(self, event_type, content, data):
            match event_type, content:
                case "cast", "go":
                    events = [NextEvent("internal", number) for number in range(3)]
                    return NextState("waiting", [], events)
                case _:
                    return super().idle(event_type, content, data)

        def waiting(self, event_type, content, data):
            if event_type == "internal":
                return KeepState([*data, content])
            return KeepState([*data, event_type])

    phone = runtime.start(Inserting(mode))
    phone.cast("go")
    phone.cast("then")
    runtime.run_until_idle()

    assert phone.pid.system_get_state() == ("waiting", [0, 1, 2, "cast"])


@pytest.mark.otp("gen_statem_SUITE", "stop1")
def test_stop_ends_a_machine_and_then_there_is_no_process(ask, mode):
    machine = Phone(mode)
    pid = ask(lambda: gen_statem.start(machine))
    ask(lambda: gen_statem.stop(pid))

    assert pid.exit_reason == "normal"
    assert machine.ends == [("normal", "idle", 0)]
    with pytest.raises(NoProcessError):
        ask(lambda: gen_statem.stop(pid))


@pytest.mark.otp("gen_statem_SUITE", "stop2")
def test_stop_takes_another_reason(ask, mode):
    machine = Phone(mode)
    pid = ask(lambda: gen_statem.start(machine))
    ask(lambda: gen_statem.stop(pid, "other", None))

    assert pid.exit_reason == "other"
    assert machine.ends == [("other", "idle", 0)]


@pytest.mark.otp("gen_statem_SUITE", "stop3")
def test_stop_with_an_invalid_timeout_leaves_the_machine_alone(ask, mode):
    pid = ask(lambda: gen_statem.start(Phone(mode)))
    with pytest.raises(ValueError, match="timeout"):
        ask(lambda: gen_statem.stop(pid, "other", -1.0))

    assert works(ask, pid)


@pytest.mark.otp("gen_statem_SUITE", "stop4")
@pytest.mark.otp("gen_statem_SUITE", "stop5")
@pytest.mark.otp("gen_statem_SUITE", "stop6")
@pytest.mark.parametrize("kind", ["local", "node", "global"])
def test_stop_by_name_ends_it_and_frees_the_name(runtime, ask, mode, kind):
    name = Global("phone") if kind == "global" else "phone"
    dest = OnNode("phone", runtime.runtime.node) if kind == "node" else name
    pid = ask(lambda: gen_statem.start(Phone(mode), name=name))
    ask(lambda: gen_statem.stop(dest))

    assert pid.exit_reason == "normal"
    assert runtime.runtime.whereis(name) is None
    with pytest.raises(NoProcessError):
        ask(lambda: gen_statem.stop(dest))


@pytest.mark.otp("gen_statem_SUITE", "abnormal1")
@pytest.mark.otp("gen_statem_SUITE", "abnormal1clean")
def test_call_that_is_too_late_leaves_no_reply_behind(runtime, ask, mode):
    pid = ask(lambda: gen_statem.start(Phone(mode)))

    assert ask(lambda: gen_statem.call(pid, ("later", 0.5), 1.0)) == "late"
    with pytest.raises(CallTimeoutError) as failure:
        ask(lambda: gen_statem.call(pid, ("later", 0.5), 0.1))
    assert failure.value.cause == "timeout"
    ask(lambda: gen_statem.stop(pid))
    runtime.advance(1.0)
    assert ask.seen == []


@pytest.mark.otp("gen_statem_SUITE", "abnormal2")
@pytest.mark.parametrize("nonsense", [None, ("next_state", "idle"), "badreturn", NoReply(0)])
def test_bad_return_ends_the_machine(runtime, ask, mode, nonsense):
    machine = Phone(mode)
    pid = ask(lambda: gen_statem.start_link(machine))
    with pytest.raises(CallError) as failure:
        ask(lambda: gen_statem.call(pid, ("return", nonsense)))

    reason = ("bad_return_from_state_function", nonsense)
    assert failure.value.cause == reason
    assert ask.seen == [Exit(pid, reason)]
    assert machine.ends == [(reason, "idle", 0)]


@pytest.mark.otp("gen_statem_SUITE", "abnormal3")
@pytest.mark.parametrize(
    "action",
    [
        "badaction",
        17,
        gen_statem.Reply("nobody", 1),
        NextEvent("no_type", 1),
        Reply(1, 2),
        Postpone("maybe"),
        Hibernate("maybe"),
        PushCallbackModule(17),
        ChangeCallbackModule(None),
        NamedTimeout(["no hash"], 1.0, None),
    ],
    ids=str,
)
def test_bad_action_ends_the_machine_in_its_new_state(runtime, ask, mode, action):
    machine = Phone(mode)
    pid = ask(lambda: gen_statem.start_link(machine))
    with pytest.raises(CallError) as failure:
        ask(lambda: gen_statem.call(pid, ("return", NextState("waiting", 7, [action]))))

    reason = ("bad_action_from_state_function", action)
    assert failure.value.cause == reason
    assert ask.seen == [Exit(pid, reason)]
    assert machine.ends == [(reason, "waiting", 7)]


@pytest.mark.otp("gen_statem_SUITE", "abnormal4")
@pytest.mark.parametrize(
    "time",
    [-1.0, "soon", None, float("nan"), True, 10**400],
    ids=["negative", "text", "None", "nan", "True", "huge"],
)
@pytest.mark.parametrize(
    "timeout",
    [StateTimeout, gen_statem.EventTimeout, lambda *args: gen_statem.NamedTimeout("n", *args)],
    ids=["state", "event", "named"],
)
def test_bad_timeout_ends_the_machine(runtime, ask, mode, timeout, time):
    action = timeout(time, "content")
    pid = ask(lambda: gen_statem.start_link(Phone(mode)))
    with pytest.raises(CallError) as failure:
        ask(lambda: gen_statem.call(pid, ("return", KeepStateAndData([action]))))

    assert failure.value.cause == ("bad_action_from_state_function", action)


@pytest.mark.parametrize("reply", [17, gen_statem.Reply("nobody", 1)])
def test_bad_reply_in_stop_and_reply_replaces_the_reason(ask, mode, reply):
    pid = ask(lambda: gen_statem.start(Phone(mode)))
    with pytest.raises(CallError) as failure:
        ask(lambda: gen_statem.call(pid, ("return", StopAndReply("normal", [reply]))))

    assert failure.value.cause == ("bad_reply_action_from_state_function", reply)


@pytest.mark.otp("gen_statem_SUITE", "shutdown")
def test_shutdown_reason_reaches_the_linked_starter_alone(runtime, ask, mode):
    reports = []
    runtime.reports.subscribe(reports.append)
    pid = ask(lambda: gen_statem.start_link(Phone(mode)))
    with pytest.raises(CallError) as failure:
        ask(lambda: gen_statem.call(pid, ("stop", ("shutdown", "reason"))))

    assert failure.value.cause == ("shutdown", "reason")
    assert ask.seen == [Exit(pid, ("shutdown", "reason"))]
    assert reports == []


def plain(reason):
    """A reason without the error it may hold, which is another one each time; its stack stays away."""
    if not isinstance(reason, Raised):
        return reason
    assert reason.stack == ()  # the crash report has it; the starter gets none
    return type(reason.error)


@pytest.mark.otp("gen_statem_SUITE", "loop_start_fail")
@pytest.mark.parametrize("how", ["start", "start_link", "start_monitor"])
@pytest.mark.parametrize("wait_s", [None, 0.1])
@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (Ignore(), "ignore"),
        (Stop("failed"), "failed"),
        (ExitError("failed"), "failed"),
        (ValueError("failed"), ValueError),
        ("nonsense", ("bad_return_from_init", "nonsense")),
        (("ok", 1), ("bad_return_from_init", ("ok", 1))),
    ],
)
def test_failing_start_leaves_nothing_behind(runtime, ask, how, wait_s, first, expected):
    async def started():
        pid = getattr(gen_statem, how)(Phone(first=first, wait_s=wait_s), name="phone")
        return await (pid[0] if how == "start_monitor" else pid)

    for _ in range(20):
        with pytest.raises(StartError) as failure:
            ask(started)
        assert plain(failure.value.reason) == expected
        assert runtime.runtime.whereis("phone") is None
        assert runtime.stats().processes == 1
    assert (ask.seen, ask.pid.linked(), ask.pid.monitoring()) == ([], (), ())


@pytest.mark.otp("gen_statem_SUITE", "loop_start_fail")
@pytest.mark.parametrize("how", ["start", "start_link", "start_monitor"])
def test_start_that_is_given_up_leaves_nothing_behind(runtime, ask, how):
    async def started():
        pid = getattr(gen_statem, how)(Phone(wait_s=9.0), name="phone", timeout_s=0.5)
        return await (pid[0] if how == "start_monitor" else pid)

    for _ in range(20):
        with pytest.raises(StartError) as failure:
            ask(started)
        assert failure.value.reason == "timeout"
        assert runtime.runtime.whereis("phone") is None
        assert runtime.stats().processes == 1
    assert (ask.seen, ask.pid.linked(), ask.pid.monitoring()) == ([], (), ())


def test_crash_report_of_a_failed_init_has_the_stack(runtime, ask):
    reports = []
    runtime.reports.subscribe(reports.append)
    with pytest.raises(StartError):
        ask(lambda: gen_statem.start(Phone(first=ValueError("failed"))))

    (report,) = reports
    assert isinstance(report, CrashReport)
    assert report.reason.stack[-1][2] == "init"


@pytest.mark.parametrize("mode", [None, "functions", (), (STATE_FUNCTIONS, "often"), 3])
def test_bad_callback_mode_ends_the_machine_after_its_start(runtime, ask, mode):
    machine = Phone(mode)
    machine.mode = mode
    pid = ask(lambda: gen_statem.start_link(machine))
    runtime.run_until_idle()

    assert ask.seen == [Exit(pid, ("bad_return_from_callback_mode", mode))]


@pytest.mark.otp("gen_statem_SUITE", "stop_and_reply")
def test_replies_of_stop_and_reply_come_in_order_before_the_exit(runtime):
    order = []

    class Replying(Phone):
        def idle(self, event_type, content, data):
            match event_type, content:
                case ("call", from_), "first":
                    return KeepState(from_)
                case ("call", from_), "second":
                    replies = [gen_statem.Reply(data, "one"), gen_statem.Reply(from_, "two")]
                    return StopAndReply("done", replies, "new data")

        def terminate(self, reason, state, data):
            order.append(("terminate", reason, data))

    async def asking():
        trap_exit()
        link(pid)
        requests = [gen_statem.send_request(pid, which) for which in ("first", "second")]
        messages = [await receive() for _ in range(3)]
        order.extend(map(gen_statem.check_response, messages, requests))
        order.append(messages[2])

    pid = runtime.start(Replying()).pid
    runtime.runtime.spawn(asking)
    runtime.run_until_idle()

    ended = ("terminate", "done", "new data")
    assert order == [ended, Answer("one"), Answer("two"), Exit(pid, "done")]


@pytest.mark.otp("gen_statem_SUITE", "undef_terminate1")
@pytest.mark.otp("gen_statem_SUITE", "undef_terminate2")
@pytest.mark.parametrize("reason", ["normal", ("shutdown", "x"), "other"])
def test_machine_without_terminate_ends_with_any_reason(ask, reason):
    class Bare(GenStatem):
        def init(self):
            return Ok("only", None)

        def callback_mode(self):
            return HANDLE_EVENT_FUNCTION

    pid = ask(lambda: gen_statem.start(Bare()))
    ask(lambda: gen_statem.stop(pid, reason))

    assert pid.exit_reason == reason


@pytest.mark.otp("gen_statem_SUITE", "undef_in_terminate")
def test_missing_function_inside_terminate_is_not_masked(runtime, ask):
    class Clumsy(Phone):
        def terminate(self, reason, state, data):
            self.no_such_function()

    pid = ask(lambda: gen_statem.start(Clumsy()))
    with pytest.raises(ExitError) as failure:
        ask(lambda: gen_statem.stop(pid))

    assert isinstance(failure.value.reason.error, AttributeError)
    assert failure.value.reason.stack[-1][2] == "terminate"


def test_state_that_has_no_function_ends_the_machine(runtime, ask):
    machine = Phone(STATE_FUNCTIONS, first=Ok("nowhere", 0))
    pid = ask(lambda: gen_statem.start(machine))
    pid.cast("x")
    runtime.run_until_idle()

    assert "has no state 'nowhere'" in str(pid.exit_reason)


def test_parents_exit_ends_a_trapping_machine_and_others_are_infos(runtime, ask):
    class Trapping(Phone):
        def init(self):
            self.trap_exit()
            return Ok("idle", [])

        def idle(self, event_type, content, data):
            return KeepState([*data, (event_type, content)])

    machine = Trapping()
    pid = ask(lambda: gen_statem.start_link(machine))
    runtime.runtime.exit(pid, "hello")
    runtime.run_until_idle()
    assert pid.system_get_state() == ("idle", [("info", Exit(None, "hello"))])
    runtime.runtime.exit(ask.pid, "kill")
    runtime.run_until_idle()

    assert machine.ends[0][0] == "killed"


def test_exception_in_a_state_is_reported_with_event_and_queue(runtime, ask):
    reports = []
    runtime.reports.subscribe(reports.append)
    pid = ask(lambda: gen_statem.start(Phone()))
    with pytest.raises(CallError) as failure:
        ask(lambda: gen_statem.call(pid, ("raise", ValueError("boom"))))

    assert isinstance(failure.value.cause.error, ValueError)
    statem, crash = reports
    assert isinstance(statem, StatemReport)
    assert "boom" in statem.last_message
    assert statem.queue == (statem.last_message,)
    assert statem.state == "('idle', 0)"
    assert isinstance(crash, CrashReport)


def test_monitor_of_a_machine_can_be_flushed(ask):
    def watched():
        pid, ref = gen_statem.start_monitor(Phone())
        again = monitor(pid)
        demonitor(ref, flush=True)
        return pid, again

    pid, again = ask(watched)
    ask(lambda: gen_statem.stop(pid))

    assert ask.seen == [Down(again, pid, "normal")]


def test_supervisor_restarts_a_machine_from_its_class(runtime):
    sup = runtime.start(Supervisor(SupervisorFlags(), [(Phone, HANDLE_EVENT_FUNCTION)]))
    state = runtime.run(sys.get_state(sup.pid))
    first = state.children[0].pid
    first.cast("connect")
    runtime.runtime.exit(first, "kill")
    runtime.run_until_idle()
    state = runtime.run(sys.get_state(sup.pid))

    assert state.children[0].pid is not first
    assert runtime.run(sys.get_state(state.children[0].pid)) == ("idle", 0)
