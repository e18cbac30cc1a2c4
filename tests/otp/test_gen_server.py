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
    send,
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
@pytest.mark.parametrize("by", ["start", "start_link"])
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
        return seen, runtime.stats().processes

    seen, processes = run(runtime, in_process(runtime, attempts))

    assert seen == [True] * 200
    assert processes == 1


@pytest.mark.otp("gen_server_SUITE", "otp_7669")
def test_name_is_free_when_a_start_that_ignored_returns(runtime):
    for answer in (Ignore(), Stop("no")) * 100:
        with pytest.raises(StartError):
            runtime.start(Script(lambda server, answer=answer: answer), "name")

    assert runtime.start(Script(), "name").is_alive()


@pytest.mark.otp("gen_server_SUITE", "undef_init")
def test_missing_init_fails_the_start(runtime):
    with pytest.raises(StartError) as caught:
        runtime.start(GenServer())

    assert isinstance(caught.value.reason.error, UndefinedCallbackError)
    assert runtime.stats().processes == 0


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
    tell(lambda self, state: NoReply(state, Timeout(1.0)))
    tell(lambda self, state: Stop("done", state))
    runtime.run_until_idle()

    assert instance.seen[:200] == list(range(200))
    assert instance.seen[-1] == ("terminate", "done")
    assert server.pid.exit_reason == "done"


@pytest.mark.otp("gen_server_SUITE", "continue")
def test_continue_runs_before_queued_messages(runtime, script):
    def init(server):
        server.pid.send("message")
        return Ok([], Continue(lambda self, state: NoReply(state, Continue("c2"))))

    server, instance = script(init)
    kinds = [entry[1] if isinstance(entry, tuple) else entry for entry in instance.seen]
    assert kinds[1:] == ["c2", "message"]

    for way in ("call", "cast", "send"):
        instance.seen.clear()
        if way == "call":
            assert server.call(lambda self, state, f: Reply("r", state, Continue("c"))) == "r"
        else:
            getattr(server, way)(lambda self, state: NoReply(state, Continue("c")))
        runtime.run_until_idle()
        assert instance.seen[-1] == ("continue", "c")
    server.cast(lambda self, state: NoReply(state, Continue(lambda s, t: Stop("enough", t))))
    runtime.run_until_idle()
    assert server.pid.exit_reason == "enough"


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
    assert "strange" in caplog.text


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
    run(runtime, gen_server.stop(server.pid))

    assert instance.seen == [("terminate", "normal")]
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
