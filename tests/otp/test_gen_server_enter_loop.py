"""Plain processes that become servers, and the reports of servers."""

import asyncio
import logging

import pytest

from otp import (
    TIMEOUT,
    Address,
    CallError,
    Continue,
    ExitError,
    GenServer,
    Hibernate,
    NoReply,
    OtpError,
    Reply,
    ServerReport,
    Stop,
    StopReply,
    Timeout,
    gen_server,
    proc_lib,
    register,
    sys,
    trap_exit,
    unregister,
)
from otp.gen_server import enter_loop
from otp.proc_lib import ProcPid


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

        pid = ProcPid(runtime.runtime, None, body, ())
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

    pid = ProcPid(runtime.runtime, None, body, ())
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

    assert runtime.start(Wrong()).call("wait") == "process_was_not_started_by_proc_lib"


@pytest.mark.otp("gen_server_SUITE", "spec_init_local_registered_parent")
@pytest.mark.otp("gen_server_SUITE", "spec_init_global_registered_parent")
@pytest.mark.parametrize("name", ["parent", Book()], ids=["local", "kept elsewhere"])
def test_entered_server_ends_with_its_named_parent(runtime, name):
    ends, pids = [], []

    async def parent():
        register(name, me)
        pids.append(proc_lib.spawn_link(child))
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
