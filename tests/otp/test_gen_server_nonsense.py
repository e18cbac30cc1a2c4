"""Servers whose callbacks return what they must not, and callers that ask what is no server."""

import asyncio
import math

import pytest

from otp import (
    CallError,
    Continue,
    DynamicSupervisor,
    GenServer,
    Hibernate,
    Ignore,
    NoReply,
    Ok,
    Reply,
    ServerReport,
    StartError,
    Stop,
    StopReply,
    Supervisor,
    Timeout,
    format_report,
    gen_server,
    gen_statem,
    proc_lib,
)
from otp.requests import send_request


class Says(GenServer[object]):
    """Every callback returns what it is asked with."""

    def __init__(self, first=None):
        self.first = first
        self.ends = []

    def init(self):
        return self.first

    def handle_call(self, request, from_, state):
        return request

    def handle_cast(self, request, state):
        return request

    def handle_info(self, message, state):
        return message

    def handle_continue(self, term, state):
        return term

    def terminate(self, reason, state):
        self.ends.append(reason)


class SaysLater(Says):
    async def init(self):
        await asyncio.sleep(1.0)
        return self.first


@pytest.fixture
def reports(runtime):
    seen = []
    runtime.reports.subscribe(seen.append)
    return lambda: [report for report in seen if isinstance(report, ServerReport)]


@pytest.mark.otp("gen_server_SUITE", "loop_start_fail")
@pytest.mark.parametrize("server", [Says, SaysLater])
@pytest.mark.parametrize(
    "value",
    [
        Reply(1, 2),
        NoReply(1),
        StopReply("normal", 1, 2),
        Ok(1, "no action"),
        Ok(1, Stop("x")),
    ],
    ids=["reply", "noreply", "stop", "no action", "action of another kind"],
)
def test_start_fails_with_the_bad_value_of_init(runtime, server, value):
    instance = server(value)
    with pytest.raises(StartError) as caught:
        runtime.start(instance, "it")

    kind, returned = caught.value.reason
    assert kind == "bad_return_value"
    assert returned is value
    assert runtime.runtime.whereis("it") is None
    assert runtime.stats().processes == 0
    assert instance.ends == []


WAYS = {
    "handle_call": lambda server, value: server.pid.call(value),
    "handle_cast": lambda server, value: server.cast(value),
    "handle_info": lambda server, value: server.send(value),
    "handle_continue": lambda server, value: server.cast(NoReply(None, Continue(value))),
}


@pytest.mark.parametrize("callback", list(WAYS))
@pytest.mark.parametrize(
    "value",
    [None, 7, "noreply", (), ("reply", 1), ("noreply",), NoReply, Ignore(), Ok(1), Continue("x")],
    ids=[
        "None",
        "7",
        "word",
        "()",
        "short reply",
        "bare word",
        "class",
        "Ignore",
        "Ok",
        "Continue",
    ],
)
def test_report_of_a_bad_return_names_process_callback_and_value(
    runtime, reports, callback, value, caplog
):
    instance = Says()
    server = runtime.start(instance, "it")
    WAYS[callback](server, value)
    runtime.run_until_idle()
    (report,) = reports()

    assert server.pid.exit_reason == ("bad_return_value", value)
    assert instance.ends == [server.pid.exit_reason]
    assert (report.process, report.callback) == ("<1 it>", callback)
    for text in (format_report(report), caplog.records[0].getMessage()):
        assert f"callback: {callback}" in text
        assert "<1 it>" in text
        assert "('bad_return_value', " in text


@pytest.mark.parametrize("after_s", [-1, math.nan, "soon", None, True, [1]], ids=str)
@pytest.mark.parametrize("kind", [Timeout, Hibernate])
@pytest.mark.parametrize("message", [(), ("message",)], ids=["plain", "message"])
def test_time_that_is_none_is_a_bad_return_value(runtime, kind, after_s, message):
    action = kind(after_s, *message)
    server = runtime.start(Says())
    with pytest.raises(CallError) as caught:
        server.call(NoReply(None, action))

    assert caught.value.cause == ("bad_return_value", NoReply(None, action))


@pytest.mark.parametrize("dest", [None, 5, ("a", "b"), ["name"]], ids=str)
def test_what_is_no_name_is_refused_with_itself(runtime, dest):
    async def asking():
        for ask in (gen_server.call, gen_server.cast, send_request):
            with pytest.raises(TypeError, match="a str or an Address, not ") as caught:
                ask(dest, "x")
            refused.append(str(caught.value).endswith(repr(dest)))

    refused = []
    runtime.runtime.spawn(asking)
    runtime.run_until_idle()

    assert refused == [True] * 3


@pytest.mark.parametrize("name", [5, ("a", "b"), None], ids=str)
def test_process_cannot_be_registered_as_what_is_no_name(runtime, name):
    pid = runtime.start(Says()).pid
    with pytest.raises(TypeError, match="named by a str or an Address, not "):
        runtime.runtime.register(name, pid)

    assert runtime.runtime.registered() == []


@pytest.mark.parametrize("timeout_s", [-1, math.nan])
def test_call_with_no_time_is_refused_and_not_sent(runtime, timeout_s):
    instance = Says()
    server = runtime.start(instance)
    with pytest.raises(ValueError, match="timeout_s is "):
        server.call(Stop("handled", None), timeout_s)

    assert server.is_alive()


def test_bad_action_is_reported_with_callback_message_and_the_whole_value(runtime, reports):
    answer = Reply("never sent", "new state", 5.0)
    server = runtime.start(Says("old state"))
    with pytest.raises(CallError) as caught:
        server.call(answer)

    assert caught.value.cause == ("bad_return_value", answer)
    (report,) = reports()
    assert (report.callback, report.state) == ("handle_call", "'old state'")
    assert "never sent" in report.last_message


class FailsToTerminate(Says):
    def terminate(self, reason, state):
        raise ValueError("from terminate")


def test_report_names_terminate_when_that_is_what_failed(runtime, reports):
    server = runtime.start(FailsToTerminate())
    server.cast(Stop("oops", None))
    runtime.run_until_idle()

    (report,) = reports()
    assert report.callback == "terminate"
    assert "from terminate" in report.reason_text


def test_stop_without_a_state_ends_with_the_state_it_has(runtime):
    seen = []

    class Keeps(Says):
        def terminate(self, reason, state):
            seen.append(state)

    for stop in (Stop("x"), Stop("x", None), Stop("x", "new")):
        server = runtime.start(Keeps("kept"))
        server.cast(stop)
        runtime.run_until_idle()

    assert seen == ["kept", None, "new"]


@pytest.mark.parametrize("what", [Says, 42, None], ids=["class", "number", "nothing"])
def test_only_an_instance_can_be_started(runtime, inside, what):
    hint = r"an instance is started, not a class: Says" if what is Says else "cannot be started"

    async def start_all():
        for start in (
            runtime.runtime.start,
            gen_server.start,
            gen_server.start_link,
            gen_statem.start,
        ):
            with pytest.raises(TypeError, match=hint):
                start(what)

    inside(start_all)


def test_time_of_a_call_that_is_no_number_is_named(runtime):
    server = runtime.start(Says())
    with pytest.raises(TypeError, match="timeout_s is '5', not a number of seconds"):
        server.pid.call("x", "5")


def test_call_is_shown_by_whom_it_is_to(runtime):
    server = runtime.start(Says(), "it")
    server.pid.call(NoReply(None), None)
    call = server.pid.call("x", None)
    assert repr(call) == "<call to <1 it>>"


def test_supervisor_is_named_by_its_class_in_reports(runtime):
    class Shop(Supervisor):
        pass

    class Stock(DynamicSupervisor):
        pass

    pids = [runtime.start(each).pid for each in (Shop(), Stock())]

    assert [proc_lib.initial_call(pid).rpartition(".")[2] for pid in pids] == ["Shop", "Stock"]
