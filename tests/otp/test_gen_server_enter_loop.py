"""Plain processes that become servers, servers that hibernate, and their names."""

import asyncio
import logging

import pytest

from otp import (
    TIMEOUT,
    Address,
    AlreadyStartedError,
    CallError,
    Continue,
    ExitError,
    GenServer,
    Hibernate,
    Ignore,
    IgnoredError,
    NoProcessError,
    NoReply,
    Ok,
    OtpError,
    Reply,
    ServerReport,
    StartError,
    Stop,
    StopReply,
    Timeout,
    gen_server,
    register,
    spawn_link,
    sys,
    trap_exit,
    unregister,
)
from otp.gen_server import enter_loop


class Noting(GenServer[list]):
    """Notes what it gets in its state; messages may say what to return."""

    def __init__(self, ends=None):
        self.ends = [] if ends is None else ends

    def init(self):
        return []

    def handle_call(self, request, from_, state):
        match request:
            case "state":
                return Reply(list(state), state)
            case ("stop", reason, value):
                return StopReply(reason, value, state)
            case "wait":
                return self.wait(state)
            case "nonsense":
                return "nonsense"
            case "later":
                return NoReply([*state, from_])
            case action:
                return Reply("ok", state, action)

    async def wait(self, state):
        await asyncio.sleep(1.0)
        return Reply("waited", state)

    def handle_cast(self, request, state):
        if request == "raise":
            raise ValueError(request)
        if isinstance(request, Stop):
            return Stop(request.reason, state)
        return NoReply([*state, ("cast", request)], request if is_action(request) else None)

    def handle_info(self, message, state):
        return NoReply([*state, message], message if is_action(message) else None)

    def handle_continue(self, term, state):
        return NoReply([*state, ("continue", term)], term if is_action(term) else None)

    def terminate(self, reason, state):
        self.ends.append(reason)


def is_action(term):
    return isinstance(term, Continue | Timeout | Hibernate)


class Book(Address):
    """A name that the test keeps."""

    def __init__(self):
        self.pid = None

    def whereis(self, runtime):
        return self.pid if self.pid is not None and self.pid.is_alive() else None

    def register(self, runtime, pid):
        self.pid = pid

    def unregister(self, runtime):
        self.pid = None


@pytest.fixture
def enter(runtime):
    """Spawn a plain process that enters the loop."""

    def run(server, state=(), action=None, *, name=None, claim=None):
        async def body():
            if name is not None:
                register(name, pid)
            await enter_loop(server, list(state), action, name=claim or name)

        pid = runtime.runtime.spawn(body)
        return runtime.handle(pid)

    return run


@pytest.mark.otp("gen_server_SUITE", "spec_init")
@pytest.mark.parametrize("name", [None, "entered", Book()], ids=["anonymous", "local", "via"])
def test_plain_process_becomes_a_server(runtime, enter, name):
    server = Noting()
    entered = enter(server, ["first"], name=name)
    entered.cast("c")
    entered.send("m")

    assert entered.call("state") == ["first", ("cast", "c"), "m"]
    assert entered.call("wait") == "waited"
    with pytest.raises(CallError) as failure:
        entered.call("nonsense")
    assert failure.value.cause == ("bad_return_value", "nonsense")
    assert server.ends == [("bad_return_value", "nonsense")]


@pytest.mark.otp("gen_server_SUITE", "spec_init")
def test_timeouts_and_continues_of_an_entered_server(runtime, enter):
    entered = enter(Noting(), (), Continue(Continue("second")))
    entered.send("m")
    (first, second, message) = entered.call("state")
    assert (first[0], second, message) == ("continue", ("continue", "second"), "m")

    timed = enter(Noting(), (), Timeout(1.0))
    runtime.advance(0.9)
    assert runtime.run(sys.get_state(timed.pid)) == []  # sys does not stop the timeout
    runtime.advance(0.2)
    assert timed.call("state") == [TIMEOUT]
    timed.call(Timeout(1.0, "late"))
    timed.cast("c")
    runtime.advance(5.0)
    assert timed.call("state") == [TIMEOUT, ("cast", "c")]
    timed.call(Timeout(0, "at once"))
    assert timed.call("state")[2:] == ["at once"]


@pytest.mark.otp("gen_server_SUITE", "spec_init")
@pytest.mark.otp("gen_server_SUITE", "otp_5854")
@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ("nobody", "process_not_registered"),
        ("other", "process_not_registered"),
        (Book(), ("process_not_registered_via", "Book")),
    ],
)
def test_process_that_has_not_the_name_it_claims_ends(runtime, enter, claim, reason):
    other = runtime.start(Noting(), "other")
    entered = enter(Noting(), claim=claim)
    runtime.run_until_idle()

    assert entered.pid.exit_reason == reason
    assert other.is_alive()


@pytest.mark.otp("gen_server_SUITE", "otp_5854")
def test_name_that_was_given_away_cannot_be_claimed(runtime):
    async def body():
        register("name", pid)
        unregister("name")
        await enter_loop(Noting(), [], name="name")

    pid = runtime.runtime.spawn(body)
    runtime.run_until_idle()

    assert pid.exit_reason == "process_not_registered"


@pytest.mark.otp("gen_server_SUITE", "spec_init")
def test_behaviour_cannot_enter_the_loop_of_another(runtime):
    class Wrong(Noting):
        async def wait(self, state):
            try:
                await enter_loop(Noting(), [])
            except OtpError as error:
                return Reply(str(error), state)

    assert "no plain process" in runtime.start(Wrong()).call("wait")


@pytest.mark.otp("gen_server_SUITE", "spec_init_local_registered_parent")
@pytest.mark.otp("gen_server_SUITE", "spec_init_global_registered_parent")
@pytest.mark.parametrize("name", ["parent", Book()], ids=["local", "kept elsewhere"])
def test_entered_server_ends_with_its_named_parent(runtime, name):
    ends, pids = [], []

    async def parent():
        register(name, me)
        pids.append(spawn_link(child))
        await gen_server.call(pids[0], "state")
        raise ExitError("parent over")

    async def child():
        trap_exit()
        await enter_loop(Noting(ends), [])

    me = runtime.runtime.spawn(parent)
    runtime.run_until_idle()

    assert ends == ["parent over"]
    assert pids[0].exit_reason == "parent over"


def test_entered_server_stops_and_crashes_as_any(runtime, enter):
    reports, ends = [], []
    runtime.reports.subscribe(reports.append)
    stopping = enter(Noting(ends))
    assert stopping.call(("stop", "normal", "bye")) == "bye"
    assert (stopping.pid.exit_reason, reports) == ("normal", [])

    crashing = enter(Noting(ends))
    waiting = crashing.pid.call("later")
    crashing.cast("raise")
    runtime.run_until_idle()
    assert isinstance(crashing.pid.exit_reason.error, ValueError)
    assert isinstance(reports[0], ServerReport)
    assert "raise" in reports[0].last_message
    assert waiting.failure is crashing.pid.exit_reason
    assert ends == ["normal", crashing.pid.exit_reason]


def test_entered_server_answers_sys(runtime, enter):
    server = Noting()
    entered = enter(server, ["s"])

    assert runtime.run(sys.get_state(entered.pid)) == ["s"]
    assert runtime.run(sys.replace_state(entered.pid, lambda state: ["t"])) == ["t"]
    runtime.run(sys.log(entered.pid, "on"))
    entered.cast("c")
    assert runtime.run(sys.get_status(entered.pid)).behaviour == "gen_server"
    events = runtime.run(sys.log(entered.pid, "get"))
    assert events == (("in", ("$gen_cast", "c")), ("noreply", ["t", ("cast", "c")]))
    runtime.run(sys.suspend(entered.pid))
    runtime.run(sys.terminate(entered.pid, "shutdown"))
    runtime.run_until_idle()
    assert (entered.pid.exit_reason, server.ends) == ("shutdown", ["shutdown"])


@pytest.mark.otp("gen_server_SUITE", "hibernate")
@pytest.mark.parametrize("how", ["init", "call", "cast", "info", "continue"])
def test_hibernating_server_wakes_for_any_message(runtime, how):
    class Sleepy(Noting):
        def init(self):
            return Ok([], Hibernate()) if how == "init" else []

    server = runtime.start(Sleepy())
    orders = {
        "init": lambda: None,
        "call": lambda: server.call(Hibernate()),
        "cast": lambda: server.cast(Hibernate()),
        "info": lambda: server.send(Hibernate()),
        "continue": lambda: server.cast(Continue(Hibernate())),
    }
    orders[how]()
    runtime.run_until_idle()

    assert server.pid.hibernated
    runtime.run(sys.suspend(server.pid))
    runtime.run(sys.resume(server.pid))
    runtime.run_until_idle()
    assert server.pid.hibernated
    server.send("wake up")
    runtime.run_until_idle()
    assert not server.pid.hibernated


@pytest.mark.otp("gen_server_SUITE", "auto_hibernate")
@pytest.mark.parametrize("how", ["init", "call", "cast", "info"])
def test_idle_server_hibernates_by_itself_after_its_time(runtime, how):
    class Sleepy(Noting):
        hibernate_after_s = 1.0

    server = runtime.start(Sleepy())
    orders = {
        "init": lambda: None,
        "call": lambda: server.call("state"),
        "cast": lambda: server.cast("c"),
        "info": lambda: server.send("m"),
    }
    if how != "init":
        runtime.advance(1.1)
        assert server.pid.hibernated
    orders[how]()
    runtime.advance(0.9)
    assert not server.pid.hibernated
    runtime.advance(0.2)
    assert server.pid.hibernated


@pytest.mark.otp("gen_server_SUITE", "auto_hibernate")
def test_server_with_a_timeout_stays_awake_for_it(runtime):
    class Sleepy(Noting):
        hibernate_after_s = 1.0

    server = runtime.start(Sleepy())
    server.cast(Timeout(3.0))
    runtime.advance(2.0)
    assert not server.pid.hibernated
    runtime.advance(1.5)
    assert runtime.run(sys.get_state(server.pid))[1:] == [TIMEOUT]
    runtime.advance(1.0)
    assert server.pid.hibernated


@pytest.mark.otp("gen_server_SUITE", "start")
@pytest.mark.parametrize("name", [None, "server", Book()], ids=["anonymous", "local", "via"])
@pytest.mark.parametrize("start", [gen_server.start, gen_server.start_link])
def test_server_starts_under_every_kind_of_name(runtime, name, start):
    async def body():
        outcome.append(start(Noting(), name=name))
        if name is not None:
            with pytest.raises(AlreadyStartedError) as failure:
                start(Noting(), name=name)
            outcome.append(failure.value.pid)
            outcome.append(await gen_server.call(name, "state"))
        for first, expected in ((Ignore(), IgnoredError), (Stop("no"), StartError)):
            refusing = Noting()
            refusing.init = lambda first=first: first
            with pytest.raises(expected):
                start(refusing, name="other")
        await asyncio.sleep(1.0)

    outcome = []
    pid = runtime.runtime.spawn(body)
    runtime.run_until_idle()

    assert pid.is_alive(), pid.exit_reason
    assert (pid in outcome[0].linked()) == (start is gen_server.start_link)
    assert outcome[1:] == ([] if name is None else [outcome[0], []])


@pytest.mark.otp("gen_server_SUITE", "stop5")
@pytest.mark.otp("gen_server_SUITE", "stop6")
@pytest.mark.otp("gen_server_SUITE", "stop7")
@pytest.mark.parametrize("name", ["server", Book()], ids=["local", "via"])
def test_stop_by_every_kind_of_name(runtime, name):
    async def body():
        await gen_server.stop(name)
        with pytest.raises(NoProcessError):
            await gen_server.stop(name)
        return True

    server = Noting()
    pid = runtime.runtime.start(server, name)

    async def main():
        done = runtime.loop.create_future()

        async def inside():
            done.set_result(await body())

        runtime.runtime.spawn(inside)
        return await done

    assert runtime.run(main())
    assert (pid.exit_reason, server.ends) == ("normal", ["normal"])


@pytest.mark.otp("gen_server_SUITE", "format_log_2")
def test_report_text_is_bounded(runtime, caplog):
    server = runtime.start(Noting())
    server.cast("x" * 100_000)
    server.cast("raise")
    with caplog.at_level(logging.ERROR, logger="otp"):
        runtime.run_until_idle()

    text = caplog.records[0].getMessage()
    assert "Noting" in text
    assert "last message: 'raise'" in text
    assert "state: [('cast', 'xxx" in text
    assert len(text) < 3000


@pytest.mark.otp("gen_server_SUITE", "format_log_with_process_label")
def test_report_shows_the_label_of_the_process(runtime, caplog):
    reports = []
    runtime.reports.subscribe(reports.append)
    server = runtime.start(Noting())
    server.pid.rare.label = "cellar"
    server.cast("raise")
    with caplog.at_level(logging.ERROR, logger="otp"):
        runtime.run_until_idle()

    assert reports[0].label == "cellar"
    assert "cellar" in caplog.records[0].getMessage()
