import asyncio

import pytest

from otp import (
    Address,
    CallError,
    ExitError,
    GenStatem,
    Global,
    StatemReport,
    gen_statem,
    proc_lib,
    receive,
    register,
    sys,
    trap_exit,
)
from otp.gen_statem import (
    HANDLE_EVENT_FUNCTION,
    STATE_ENTER,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    Ok,
    StateTimeout,
    Stop,
    enter_loop,
)
from otp.proc_lib import ProcPid


class Entered(GenStatem):
    """Collects events as data; `ends` is shared with the test."""

    def __init__(self, ends=None):
        self.ends = [] if ends is None else ends

    def init(self):
        return Ok("never called", None)

    def callback_mode(self):
        return (HANDLE_EVENT_FUNCTION, STATE_ENTER)

    def handle_event(self, event_type, content, state, data):
        match event_type, content:
            case ("call", from_), "data":
                return KeepStateAndData(gen_statem.Reply(from_, (state, data)))
            case _, "go":
                return NextState("next", [*data, "go"], StateTimeout(1.0, "st"))
            case _, ("stop", reason):
                return Stop(reason)
            case _, "raise":
                raise ValueError(content)
            case _, "wait":
                return self.wait(data)
        kind = event_type if isinstance(event_type, str) else event_type[0]
        return KeepState([*data, f"{kind} {content}"])

    async def wait(self, data):
        await asyncio.sleep(0.1)
        return KeepState([*data, "waited"])

    def terminate(self, reason, state, data):
        self.ends.append((reason, state))


@pytest.mark.otp("gen_statem_SUITE", "enter_loop")
@pytest.mark.parametrize("name", [None, "entered", Global("entered")])
def test_plain_process_becomes_a_machine(runtime, name):
    async def body():
        if name is not None:
            register(name, pid)
        await enter_loop(Entered(), "start", [], [NextEvent("internal", "i")], name=name)

    pid = ProcPid(runtime.runtime, None, body, ())
    pid.cast("c")
    pid.send("m")
    pid.cast("go")
    entered = runtime.handle(pid)

    seen = ["enter start", "internal i", "cast c", "info m", "go", "enter start"]
    assert entered.call("data") == ("next", seen)
    runtime.advance(2.0)
    pid.cast("wait")
    assert entered.call("data") == ("next", [*seen, "state_timeout st", "waited"])
    if name is not None:
        assert runtime.runtime.whereis(name) is pid


class Elsewhere(Address):
    def whereis(self, runtime):
        return None

    def register(self, runtime, pid):
        raise AssertionError

    def unregister(self, runtime):
        raise AssertionError


@pytest.mark.otp("gen_statem_SUITE", "enter_loop")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("taken", "process_not_registered"),
        ("nobody", "process_not_registered"),
        (Global("nobody"), "process_not_registered_globally"),
        (Global("taken"), "process_not_registered_globally"),
        (Elsewhere(), ("process_not_registered_via", "Elsewhere")),
    ],
)
def test_process_that_has_not_the_name_it_claims_ends(runtime, name, reason):
    other = runtime.runtime.spawn(receive)
    for each in ("taken", Global("taken")):
        runtime.runtime.register(each, other)

    async def body():
        await enter_loop(Entered(), "start", [], name=name)

    pid = ProcPid(runtime.runtime, None, body, ())
    runtime.run_until_idle()

    assert pid.exit_reason == reason
    assert other.is_alive()


@pytest.mark.otp("gen_statem_SUITE", "enter_loop")
def test_behaviour_cannot_enter_the_loop_of_another(runtime):
    class Wrong(Entered):
        async def handle_event(self, event_type, content, state, data):
            if event_type == "enter":
                return KeepStateAndData()
            try:
                await enter_loop(Entered(), "start", [])
            except ExitError as error:
                return KeepStateAndData(gen_statem.Reply(event_type[1], error.reason))

    assert runtime.start(Wrong()).call("x") == "process_was_not_started_by_proc_lib"


@pytest.mark.otp("gen_statem_SUITE", "enter_loop")
def test_process_that_proc_lib_did_not_start_cannot_enter(runtime):
    async def body():
        await enter_loop(Entered(), "start", [])

    pid = runtime.runtime.spawn(body)
    runtime.run_until_idle()

    assert pid.exit_reason == "process_was_not_started_by_proc_lib"


@pytest.mark.otp("gen_statem_SUITE", "enter_loop")
def test_parents_exit_ends_an_entered_machine_that_traps(runtime):
    ends, pids = [], []

    async def parent():
        pids.append(proc_lib.spawn_link(child))
        await gen_statem.call(pids[0], "data")
        raise ExitError("parent over")

    async def child():
        trap_exit()
        await enter_loop(Entered(ends), "start", [])

    runtime.runtime.spawn(parent)
    runtime.run_until_idle()

    assert ends == [("parent over", "start")]
    assert pids[0].exit_reason == "parent over"


def entered(runtime, ends):
    async def body():
        await enter_loop(Entered(ends), "start", [])

    return ProcPid(runtime.runtime, None, body, ())


@pytest.mark.parametrize("reason", ["normal", ("shutdown", 1), "other"])
def test_entered_machine_that_stops_ends_its_process(runtime, reason):
    reports, ends = [], []
    runtime.reports.subscribe(reports.append)
    pid = entered(runtime, ends)
    pid.cast(("stop", reason))
    runtime.run_until_idle()

    assert pid.exit_reason == reason
    assert ends == [(reason, "start")]
    assert [isinstance(report, StatemReport) for report in reports] == (
        [True, False] if reason == "other" else []
    )


def test_entered_machine_that_raises_fails_its_callers(runtime):
    ends = []
    pid = entered(runtime, ends)
    with pytest.raises(CallError) as failure:
        runtime.handle(pid).call("raise")

    assert isinstance(failure.value.cause.error, ValueError)
    assert pid.exit_reason is failure.value.cause
    assert len(ends) == 1


def test_entered_machine_answers_sys(runtime):
    ends = []
    pid = entered(runtime, ends)

    assert runtime.run(sys.get_state(pid)) == ("start", ["enter start"])
    runtime.run(sys.replace_state(pid, lambda both: (both[0], [])))
    runtime.run(sys.suspend(pid))
    pid.cast("c")
    status = runtime.run(sys.get_status(pid))
    assert (status.behaviour, status.suspended, status.state) == ("gen_statem", True, ("start", []))
    runtime.run(sys.statistics(pid, "on"))
    runtime.run(sys.resume(pid))
    assert runtime.handle(pid).call("data") == ("start", ["cast c"])
    assert runtime.run(sys.statistics(pid, "get")).messages_in == 2
    runtime.run(sys.terminate(pid, "shutdown"))
    runtime.run_until_idle()
    assert (pid.exit_reason, ends) == ("shutdown", [("shutdown", "start")])
