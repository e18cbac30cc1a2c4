import asyncio

import pytest

from otp import (
    TIMEOUT,
    AlreadyStartedError,
    CallError,
    CallingSelfError,
    CallTimeoutError,
    Continue,
    CrashReport,
    Down,
    Exit,
    ExitError,
    GenServer,
    Ignore,
    IgnoredError,
    NoProcessError,
    NoReply,
    Ok,
    Raised,
    Reply,
    ServerReport,
    StartError,
    Stop,
    StopReply,
    Timeout,
    UndefinedCallbackError,
    gen_server,
    reply,
    self_pid,
    send,
    sys,
)


class Script(GenServer[list]):
    """Does what each message says: a message is a function of (server, state[, from_])."""

    def __init__(self, init=None):
        self.seen = []
        self._init = init or (lambda server: [])

    def init(self):
        return self._init(self)

    def handle_call(self, request, from_, state):
        return request(self, state, from_) if callable(request) else Reply(request, state)

    def handle_cast(self, request, state):
        self.seen.append(request)
        return request(self, state) if callable(request) else NoReply(state)

    def handle_info(self, message, state):
        self.seen.append(message)
        return message(self, state) if callable(message) else NoReply(state)

    def handle_continue(self, term, state):
        self.seen.append(("continue", term))
        return term(self, state) if callable(term) else NoReply(state)

    def terminate(self, reason, state):
        self.seen.append(("terminate", reason))


class Bare(GenServer[None]):
    def init(self):
        return None


@pytest.fixture
def script(runtime):
    """Start a Script; returns (handle, server)."""

    def start(init=None, name=None):
        server = Script(init)
        return runtime.start(server, name), server

    return start


def crashes(runtime):
    kinds = []
    runtime.reports.subscribe(lambda report: kinds.append(type(report)))
    return kinds


def run(runtime, awaitable):
    async def awaited():
        return await awaitable

    return runtime.run(awaited())


async def in_process(runtime, body):
    """Run `body` as a process; returns its result or error."""
    done = asyncio.get_running_loop().create_future()

    async def process():
        try:
            done.set_result(await body())
        except ExitError as error:
            done.set_result(error)

    runtime.runtime.spawn(process)
    return await done


# Start.


@pytest.mark.otp("gen_server_SUITE", "loop_start_fail")
@pytest.mark.parametrize("by", ["start", "start_link", "start_monitor"])
def test_failed_start_leaves_nothing_behind(runtime, by):
    def fail(error):
        def init(server):
            raise error

        return init

    oops = ValueError("oops")
    inits = {
        "stop": (lambda s: Stop("no"), "no"),
        "ignore": (lambda s: Ignore(), "ignore"),
        "exit": (fail(ExitError("gone")), "gone"),
        "error": (fail(oops), oops),
    }

    async def attempts():
        seen = []
        for init, wanted in inits.values():
            for _ in range(50):
                try:
                    getattr(gen_server, by)(Script(init), name="it")
                except StartError as error:
                    reason = error.reason
                    seen.append(getattr(reason, "error", reason) == wanted)
                assert runtime.runtime.whereis("it") is None
        me = self_pid()
        return seen, runtime.stats().processes, me.queue_length(), me.linked(), me.monitoring()

    seen, processes, *left = run(runtime, in_process(runtime, attempts))

    assert seen == [True] * 200
    assert processes == 1
    assert left == [0, (), ()]


@pytest.mark.otp("gen_server_SUITE", "otp_7669")
def test_name_is_free_when_a_start_that_ignored_returns(runtime):
    for answer in (Ignore(), Stop("no")) * 100:
        with pytest.raises(StartError):
            runtime.start(Script(lambda server, answer=answer: answer), "name")

    assert runtime.start(Script(), "name").is_alive()


@pytest.mark.otp("gen_server_SUITE", "undef_init")
@pytest.mark.parametrize("by", ["start", "start_link", "start_monitor"])
def test_missing_init_fails_the_start(runtime, by):
    async def attempt():
        with pytest.raises(StartError) as caught:
            getattr(gen_server, by)(GenServer())
        return caught.value.reason, self_pid().queue_length(), runtime.stats().processes

    reason, messages, processes = run(runtime, in_process(runtime, attempt))

    assert isinstance(reason.error, UndefinedCallbackError)
    assert (messages, processes) == (0, 1)


def test_second_server_of_a_name_is_told_who_has_it(script):
    first, _ = script(name="one")

    with pytest.raises(AlreadyStartedError) as caught:
        script(name="one")

    assert caught.value.pid is first.pid


def test_async_init_is_waited_for_and_its_failure_is_told(runtime):
    class Slow(GenServer[int]):
        def __init__(self, answer):
            self.answer = answer

        async def init(self):
            await asyncio.sleep(2.0)
            return self.answer

        def handle_call(self, request, from_, state):
            return Reply(state, state)

    assert runtime.start(Slow(7)).call("get") == 7
    assert runtime.clock() == 2.0
    with pytest.raises(IgnoredError):
        runtime.start(Slow(Ignore()))
    with pytest.raises(StartError) as stopped:
        runtime.start(Slow(Stop("no")))
    assert stopped.value.reason == "no"


def test_calls_sent_during_an_async_init_are_served_after_it(runtime):
    class Slow(Script):
        async def init(self):
            await asyncio.sleep(1.0)
            self.seen.append("init")
            return []

    server = Slow()

    async def start():
        return runtime.runtime.start(server)

    pid = runtime.run(start())
    pid.cast("early")
    runtime.advance(1.0)

    assert server.seen == ["init", "early"]


# Calls.


@pytest.mark.otp("gen_server_SUITE", "call")
def test_call_is_answered_at_once_later_or_by_another_process(runtime, script):
    server, _ = script()
    other, _ = script()
    kept = []

    def keep(self, state, from_):
        kept.append(from_)
        return NoReply(state)

    async def ask():
        call = server.pid.call(keep)
        await asyncio.sleep(1.0)
        other.pid.cast(lambda self, state: reply(kept[0], "late") or NoReply(state))
        return await call

    assert server.call("plain") == "plain"
    assert runtime.run(ask()) == "late"


@pytest.mark.otp("gen_server_SUITE", "call")
def test_answer_may_begin_a_time_for_the_next_call(runtime, script):
    server, instance = script()

    def within(self, state, from_):
        return Reply("ok", state, Timeout(1.0))

    def in_time(self, state, from_):
        return Reply(TIMEOUT not in self.seen, state)

    assert server.call(within) == "ok"
    runtime.advance(0.5)
    assert server.call(in_time) is True
    runtime.advance(5.0)
    assert instance.seen == []  # the call ended that time
    assert server.call(within) == "ok"
    runtime.advance(1.5)
    assert server.call(in_time) is False


@pytest.mark.otp("gen_server_SUITE", "call")
def test_answer_may_wait_for_the_time_out_of_the_state(runtime):
    class Delaying(GenServer[object]):
        def init(self):
            return None

        def handle_call(self, request, from_, state):
            return NoReply(from_, Timeout(1.0))

        def handle_info(self, message, state):
            state.reply((message, runtime.clock()))
            return NoReply(None)

    assert runtime.start(Delaying()).call("x") == (TIMEOUT, 1.0)


@pytest.mark.otp("gen_server_SUITE", "call")
@pytest.mark.parametrize("value", [None, "badreturn", ("reply", 1), Ignore])
def test_caller_is_told_the_bad_return_value(script, value):
    server, instance = script()

    with pytest.raises(CallError) as caught:
        server.call(lambda self, state, from_: value)

    assert caught.value.cause == ("bad_return_value", value)
    assert instance.seen == [("terminate", caught.value.cause)]


@pytest.mark.otp("gen_server_SUITE", "call")
def test_call_timeout_exits_the_caller_and_drops_the_late_answer(runtime):
    class Slow(GenServer[None]):
        def init(self):
            return None

        async def handle_call(self, request, from_, state):
            await asyncio.sleep(0.06)
            return Reply(request, state)

    class Caller(Script):
        async def handle_cast(self, request, state):
            try:
                await gen_server.call(request, "x", 0.02)
            except CallTimeoutError as error:
                self.seen.append(error.cause)
            return NoReply(state)

    slow, caller = runtime.start(Slow()), Caller()
    handle = runtime.start(caller)
    handle.cast(slow.pid)
    runtime.advance(0.15)

    assert caller.seen == ["timeout"]
    assert handle.pid.queue_length() == 0
    assert handle.pid.monitoring() == ()
    assert slow.call("again") == "again"
    assert runtime.stats().timers == 0


def test_call_to_a_dead_process_is_noproc(runtime, script):
    server, _ = script()
    server.exit("kill")

    with pytest.raises(NoProcessError) as caught:
        server.call("x")
    assert caught.value.reason[0] == "noproc"
    with pytest.raises(NoProcessError):
        run(runtime, runtime.runtime.call("nobody", "x"))


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        (lambda self, state, from_: Stop("foo", state), "foo"),
        (lambda self, state, from_: Stop("normal", state), "normal"),
        (
            lambda self, state, from_: (
                send(self.pid, lambda s, t: Stop("later", t)) or NoReply(state)
            ),
            "later",
        ),
    ],
)
def test_caller_learns_why_the_server_ended_without_an_answer(script, how, cause):
    server, _ = script()

    with pytest.raises(CallError) as caught:
        server.call(how)

    assert caught.value.cause == cause


def test_queued_call_fails_with_the_reason_of_the_server(runtime, script):
    server, _ = script()

    async def ask():
        server.pid.cast(lambda self, state: Stop("bye", state))
        return await server.pid.call("never handled")

    with pytest.raises(CallError) as caught:
        runtime.run(ask())
    assert caught.value.cause == "bye"


@pytest.mark.otp("gen_server_SUITE", "calling_self")
def test_server_that_calls_itself_is_told_so(script):
    server, _ = script()

    def call_self(self, state, from_):
        try:
            self.pid.call("x")
        except CallingSelfError as error:
            return Reply(error.cause, state)

    assert server.call(call_self) == "calling_self"


@pytest.mark.otp("gen_server_SUITE", "calling_self")
@pytest.mark.parametrize("dest", ["pid", "name"])
def test_server_that_calls_itself_exits_instead_of_hanging(runtime, script, dest):
    server, instance = script(name="it")

    async def call_self(self, state):
        return NoReply(await gen_server.call(self.pid if dest == "pid" else "it", "x", None))

    server.cast(call_self)
    runtime.run_until_idle()

    assert server.pid.exit_reason == (
        "calling_self",
        ("gen_server", "call", (server.pid, "x")),
    )
    assert instance.seen[-1] == ("terminate", server.pid.exit_reason)


def test_server_that_stops_itself_by_a_call_exits_instead_of_hanging(runtime, script):
    server, _ = script()

    async def stop_self(self, state):
        await gen_server.stop(self.pid)

    server.cast(stop_self)
    runtime.run_until_idle()

    assert server.pid.exit_reason[0] == "calling_self"


def test_stop_with_reply_answers_after_terminate(runtime, script):
    server, instance = script()
    answer = server.call(lambda self, state, from_: StopReply("normal", list(self.seen), state))

    assert answer == []
    assert instance.seen == [("terminate", "normal")]

    class Tells(Script):
        def terminate(self, reason, state):
            state.append("terminated")
            raise ValueError("in terminate")

    state = []
    told = runtime.start(Tells(lambda server: state))
    answer = told.call(lambda self, state, from_: StopReply("normal", state, state))
    assert answer == ["terminated"]


def test_second_answer_is_ignored(script):
    server, _ = script()

    def twice(self, state, from_):
        from_.reply(1)
        return Reply(2, state)

    assert server.call(twice) == 1


# Casts, messages, order.


@pytest.mark.otp("gen_server_SUITE", "cast")
@pytest.mark.otp("gen_server_SUITE", "info")
@pytest.mark.parametrize("way", ["cast", "send"])
def test_casts_and_messages_are_handled_in_order_and_may_stop(runtime, script, way):
    server, instance = script()
    tell = getattr(server, way)
    for number in range(200):
        tell(number)
    tell(lambda self, state: Stop("done", state))
    tell("never handled")
    runtime.run_until_idle()

    assert instance.seen[:200] == list(range(200))
    assert instance.seen[201:] == [("terminate", "done")]
    assert server.pid.exit_reason == "done"


@pytest.mark.otp("gen_server_SUITE", "cast")
@pytest.mark.otp("gen_server_SUITE", "info")
@pytest.mark.parametrize("way", ["cast", "send"])
def test_cast_or_message_may_be_acted_on_after_a_time(runtime, script, way):
    server, instance = script()
    getattr(server, way)(lambda self, state: NoReply(["delayed"], Timeout(1.0)))
    runtime.advance(0.9)
    assert TIMEOUT not in instance.seen
    runtime.advance(0.1)

    assert instance.seen[1:] == [TIMEOUT]
    assert server.pid.state == ["delayed"]


@pytest.mark.otp("gen_server_SUITE", "continue")
def test_continue_of_init_runs_before_queued_messages(runtime, script):
    def init(server):
        server.pid.send("message")
        return Ok([], Continue(lambda self, state: NoReply(state, Continue("c2"))))

    _, instance = script(init)
    runtime.run_until_idle()

    assert [entry if isinstance(entry, str) else entry[1] for entry in instance.seen][1:] == [
        "c2",
        "message",
    ]


@pytest.mark.otp("gen_server_SUITE", "continue")
@pytest.mark.parametrize("way", ["call", "cast", "send", "continue"])
def test_continue_of_any_callback_runs_before_queued_messages(runtime, script, way):
    server, instance = script()

    def go_on(self, state, from_=None):
        self.pid.send("queued")
        if way == "continue":
            return NoReply(state, Continue(lambda s, t: NoReply(t, Continue("c"))))
        return Reply("r", state, Continue("c")) if from_ else NoReply(state, Continue("c"))

    if way == "call":
        assert server.call(go_on) == "r"
    else:
        (server.send if way == "send" else server.cast)(go_on)
    runtime.run_until_idle()

    assert instance.seen[-2:] == [("continue", "c"), "queued"]


@pytest.mark.otp("gen_server_SUITE", "continue")
def test_continue_may_stop_the_server(runtime, script):
    server, instance = script()
    server.cast(lambda self, state: NoReply(state, Continue(lambda s, t: Stop("enough", t))))
    server.cast("never handled")
    runtime.run_until_idle()

    assert server.pid.exit_reason == "enough"
    assert "never handled" not in instance.seen


@pytest.mark.otp("gen_server_SUITE", "handle_event_timeout_plain")
def test_plain_timeout_comes_unless_a_message_does(runtime, script):
    server, instance = script(lambda server: Ok([], Timeout(0.2)))
    runtime.advance(0.15)
    server.send("message")
    runtime.advance(5.0)
    assert instance.seen == ["message"]

    server.cast(lambda self, state: NoReply(state, Timeout(0.2)))
    runtime.advance(0.19)
    assert TIMEOUT not in instance.seen
    runtime.advance(0.01)
    assert instance.seen[-1] == TIMEOUT


@pytest.mark.otp("gen_server_SUITE", "handle_event_timeout_plain")
@pytest.mark.parametrize("way", ["call", "cast", "send", "exit", "down"])
def test_plain_timeout_is_cancelled_by_any_message(runtime, script, way):
    server, instance = script(lambda self: self.trap_exit() or Ok([], Timeout(0.2)))
    other, _ = script()
    messages = {
        "call": lambda: server.call("x"),
        "cast": lambda: server.cast("x"),
        "send": lambda: server.send("x"),
        "exit": lambda: server.pid.exit_signal(other.pid, "x"),
        "down": lambda: server.send(Down(None, other.pid, "x")),
    }
    messages[way]()
    runtime.advance(5.0)

    assert TIMEOUT not in instance.seen


@pytest.mark.otp("gen_server_SUITE", "handle_event_timeout_plain")
def test_system_message_neither_cancels_nor_restarts_a_plain_timeout(runtime, script):
    server, instance = script(lambda self: Ok([], Timeout(1.0)))
    runtime.advance(0.9)
    run(runtime, sys.get_state(server.pid))
    assert instance.seen == []
    runtime.advance(0.1)

    assert instance.seen == [TIMEOUT]


def test_timeout_may_carry_its_own_message(runtime, script):
    server, instance = script(lambda server: Ok([], Timeout(1.0, "late")))
    runtime.advance(1.0)
    assert instance.seen == ["late"]

    assert server.call(lambda self, state, f: Reply(1, state, Timeout(1.0, "again"))) == 1
    server.cast("stops it")
    runtime.advance(2.0)
    assert "again" not in instance.seen


def test_zero_timeout_with_a_message_comes_before_queued_ones(runtime, script):
    def init(server):
        server.pid.send("queued")
        return Ok([], Timeout(0, "first"))

    _, instance = script(init)
    assert instance.seen == ["first", "queued"]

    _, other = script(lambda s: s.pid.send("only") or Ok([], Timeout(0)))
    runtime.advance(1.0)
    assert other.seen == ["only"]


def test_server_whose_callback_waits_handles_nothing_else(runtime):
    class Slow(Script):
        async def handle_cast(self, request, state):
            self.seen.append(("begin", request))
            await asyncio.sleep(1.0)
            self.seen.append(("end", request))
            return NoReply(state)

    server = Slow()
    handle = runtime.start(server)
    handle.cast(1)
    handle.cast(2)
    runtime.advance(5.0)

    assert server.seen == [("begin", 1), ("end", 1), ("begin", 2), ("end", 2)]


def test_no_asyncio_task_runs_a_waiting_callback(runtime):
    class Looks(GenServer[None]):
        def init(self):
            return None

        async def handle_call(self, request, from_, state):
            await asyncio.sleep(0)
            await asyncio.sleep(0.1)
            return Reply(asyncio.current_task(), state)

    assert runtime.start(Looks()).call("x") is None


# Ends.


@pytest.mark.parametrize("trapping", [True, False])
@pytest.mark.parametrize("parent", [True, False])
@pytest.mark.parametrize("reason", ["normal", "shutdown", "kill"])
def test_terminate_runs_only_for_the_parents_exit_when_trapping(runtime, trapping, parent, reason):
    server = Script(lambda self: self.trap_exit(trapping) or [])

    async def family():
        gen_server.start_link(server)
        await asyncio.sleep(0.1)
        raise ExitError(reason)

    async def stranger():
        await asyncio.sleep(0.1)
        server.pid.link(runtime.runtime.spawn(family_of_none))

    async def family_of_none():
        raise ExitError(reason)

    if parent:
        runtime.runtime.spawn(family)
    else:
        runtime.start(server)
        runtime.runtime.spawn(stranger)
    runtime.advance(1.0)

    terminated = ("terminate", reason) in server.seen
    told = any(isinstance(message, Exit) and message.reason == reason for message in server.seen)
    assert terminated is (trapping and parent)
    assert told is (trapping and not parent)
    assert server.pid.is_alive() is ((not trapping and reason == "normal") or told)


def test_crash_in_terminate_replaces_the_reason(runtime):
    class Bad(Script):
        def terminate(self, reason, state):
            raise ExitError("worse")

    server = runtime.start(Bad())
    server.cast(lambda self, state: Stop("bad", state))
    runtime.run_until_idle()

    assert server.pid.exit_reason == "worse"


@pytest.mark.parametrize("value", [None, 7, ("reply", 1), Reply(1, [])])
def test_bad_return_value_ends_the_server(runtime, script, value):
    server, instance = script()
    server.cast(lambda self, state: value)
    runtime.run_until_idle()

    assert server.pid.exit_reason == ("bad_return_value", value)
    assert instance.seen[-1][0] == "terminate"


@pytest.mark.otp("gen_server_SUITE", "crash")
def test_only_a_crash_is_reported_once_by_server_and_process(runtime, script):
    seen = crashes(runtime)
    for reason in ("normal", "shutdown", ("shutdown", "x")):
        server, _ = script()
        server.cast(lambda self, state, reason=reason: Stop(reason, state))
        runtime.run_until_idle()
    assert seen == []

    server, _ = script()
    server.cast(lambda self, state: 1 / 0)
    runtime.run_until_idle()
    assert seen == [ServerReport, CrashReport]
    assert isinstance(server.pid.exit_reason, Raised)
    script()[0].exit("kill")
    assert len(seen) == 2


@pytest.mark.otp("gen_server_SUITE", "crash")
def test_reports_of_a_crash_say_who_where_and_why(runtime):
    class Crashing(Script):
        def handle_call(self, request, from_, state):
            raise ValueError(request)

    async def family():
        parents.append(self_pid())
        pid = gen_server.start_link(Crashing(lambda server: {"count": 4}), name="it")
        servers.append(pid)
        self_pid().unlink(pid)
        pid.send("unread")
        await pid.call("crash")

    parents, servers, reports = [], [], []
    runtime.reports.subscribe(reports.append)
    runtime.runtime.spawn(family)
    runtime.run_until_idle()
    (pid,) = servers
    terminated, crashed, *of_the_caller = reports

    assert isinstance(terminated, ServerReport)
    assert (terminated.process, terminated.last_message) == (repr(pid), "'crash'")
    assert "Crashing" in terminated.behaviour
    assert terminated.state == "{'count': 4}"
    assert isinstance(crashed, CrashReport)
    assert crashed.process == terminated.process
    assert crashed.initial_call == terminated.behaviour
    assert crashed.ancestors == (repr(parents[0]),)
    assert terminated.reason is crashed.reason is pid.exit_reason
    assert isinstance(pid.exit_reason.error, ValueError)
    assert pid.exit_reason.stack[-1][2] == "handle_call"
    assert [type(report) for report in of_the_caller] == [CrashReport]  # its call exits


def test_report_of_a_huge_argument_stays_small(runtime, script):
    reports = []
    runtime.reports.subscribe(reports.append)
    server, _ = script(lambda self: ["s" * 10**6])
    server.cast("x" * 10**6)
    server.cast(lambda self, state: {}[("k" * 10**6, tuple(range(10**5)))])
    runtime.run_until_idle()

    assert len(reports) == 2
    assert all(len(repr(r.reason_text)) + len(getattr(r, "state", "")) < 1200 for r in reports)


@pytest.mark.otp("gen_server_SUITE", "undef_handle_call")
@pytest.mark.otp("gen_server_SUITE", "undef_handle_cast")
@pytest.mark.otp("gen_server_SUITE", "undef_handle_continue")
@pytest.mark.parametrize("callback", ["handle_call", "handle_cast", "handle_continue"])
def test_missing_callback_crashes_the_server(runtime, callback):
    class Continues(Bare):
        def handle_info(self, message, state):
            return NoReply(state, Continue("x"))

    server = runtime.start(Continues())
    if callback == "handle_call":
        with pytest.raises(CallError) as caught:
            server.call("x")
        assert isinstance(caught.value.cause.error, UndefinedCallbackError)
    else:
        (server.cast if callback == "handle_cast" else server.send)("x")
        runtime.run_until_idle()

    assert callback in str(server.pid.exit_reason.error)


@pytest.mark.otp("gen_server_SUITE", "undef_handle_info")
def test_missing_handle_info_only_warns(runtime, caplog):
    server = runtime.start(Bare())
    server.send("strange")
    runtime.run_until_idle()

    assert server.is_alive()
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "otp")
    assert "has no handle_info for 'strange'" in record.getMessage()


@pytest.mark.otp("gen_server_SUITE", "undef_terminate1")
@pytest.mark.otp("gen_server_SUITE", "undef_terminate2")
@pytest.mark.parametrize("reason", ["normal", "other"])
def test_missing_terminate_is_fine(runtime, reason):
    server = runtime.start(Bare())
    run(runtime, gen_server.stop(server.pid, reason))

    assert server.pid.exit_reason == reason


@pytest.mark.otp("gen_server_SUITE", "undef_in_terminate")
@pytest.mark.otp("gen_server_SUITE", "undef_in_handle_info")
@pytest.mark.parametrize("where", ["terminate", "handle_info"])
def test_missing_function_inside_a_callback_is_a_crash(runtime, where):
    class Bad(Script):
        def terminate(self, reason, state):
            if where == "terminate":
                self.no_such_function()

        def handle_info(self, message, state):
            self.no_such_function()

    server = runtime.start(Bad())
    if where == "terminate":
        server.cast(lambda self, state: Stop("normal", state))
    else:
        server.send("x")
    runtime.run_until_idle()

    assert isinstance(server.pid.exit_reason.error, AttributeError)


# Stop.


@pytest.mark.otp("gen_server_SUITE", "stop1")
def test_stop_ends_a_server_and_a_second_stop_finds_none(runtime, script):
    server, instance = script()
    assert run(runtime, gen_server.stop(server.pid)) is None

    assert instance.seen == [("terminate", "normal")]
    assert not server.is_alive()
    with pytest.raises(NoProcessError):
        run(runtime, gen_server.stop(server.pid))


@pytest.mark.otp("gen_server_SUITE", "stop2")
def test_stop_takes_a_reason(runtime, script):
    server, _ = script()
    run(runtime, gen_server.stop(server.pid, "other", None))

    assert server.pid.exit_reason == "other"


@pytest.mark.otp("gen_server_SUITE", "stop3")
def test_stop_with_a_bad_timeout_leaves_the_server_alive(runtime, script):
    server, _ = script()

    with pytest.raises(ValueError, match="timeout_s"):
        run(runtime, gen_server.stop(server.pid, "normal", -1))
    assert server.is_alive()


@pytest.mark.otp("gen_server_SUITE", "stop4")
def test_stop_finds_a_server_by_name(runtime, script):
    server, _ = script(name="it")

    async def stop():
        await gen_server.stop("it")

    assert run(runtime, in_process(runtime, stop)) is None
    assert not server.is_alive()


def test_stop_tells_when_the_server_ends_otherwise_or_too_late(runtime):
    class Stubborn(Script):
        async def terminate(self, reason, state):
            await asyncio.sleep(1.0)
            raise ExitError("mine")

    first, second = runtime.start(Stubborn()), runtime.start(Stubborn())
    with pytest.raises(ExitError) as other:
        run(runtime, gen_server.stop(first.pid))
    with pytest.raises(CallTimeoutError):
        run(runtime, gen_server.stop(second.pid, "normal", 0.5))

    assert other.value.reason == "mine"


def test_kill_closes_a_waiting_callback_and_cancels_what_it_waits_for(runtime):
    closed = []

    class Waits(GenServer[None]):
        def init(self):
            return None

        async def handle_cast(self, request, state):
            try:
                await request
            finally:
                closed.append("closed")

    future = runtime.loop.create_future()
    server = runtime.start(Waits())
    server.cast(future)
    runtime.run_until_idle()
    server.exit("kill")
    runtime.run_until_idle()

    assert closed == ["closed"]
    assert future.cancelled()
    assert server.pid.exit_reason == "killed"
