"""A gen_statem seen through sys, its reports, and its sleep."""

import logging

import pytest

from otp import (
    Address,
    CallbackFailedError,
    CallTimeoutError,
    GenServer,
    GenStatem,
    Global,
    Reply,
    StatemReport,
    format_report,
    gen_statem,
    sys,
)
from otp.gen_statem import (
    HANDLE_EVENT_FUNCTION,
    STATE_ENTER,
    STATE_FUNCTIONS,
    EventTimeout,
    Hibernate,
    KeepState,
    KeepStateAndData,
    NamedTimeout,
    NextEvent,
    NextState,
    Ok,
    Postpone,
    StateTimeout,
)


class Door(GenStatem):
    """Opens and shuts; shows itself through `show`."""

    def __init__(self, show=dict, *, mode=HANDLE_EVENT_FUNCTION, end=None, first="shut"):
        self.show = show
        self.mode = mode
        self.end = end
        self.first = first

    def init(self):
        return Ok(self.first, "secret")

    def callback_mode(self):
        return self.mode

    def shut(self, event_type, content, data):
        return self.handle_event(event_type, content, "shut", data)

    def error(self, event_type, content, data):
        return self.handle_event(event_type, content, "error", data)

    def handle_event(self, event_type, content, state, data):
        match event_type, content:
            case ("call", from_), "state":
                return KeepStateAndData(gen_statem.Reply(from_, (state, data)))
            case "cast", "later":
                return KeepStateAndData(Postpone())
            case "cast", "boom":
                raise ValueError(content)
            case "cast", "arm":
                actions = [StateTimeout(9.0, "st"), NamedTimeout("n", 9.0, "named")]
                return KeepStateAndData(actions)
            case "cast", [*actions]:
                return KeepStateAndData(actions)
            case _:
                return KeepState(data)

    def format_status(self, status):
        return self.show(status)

    def terminate(self, reason, state, data):
        if self.end is not None:
            raise self.end


def hide(status):
    return {**status, "data": "hidden"}


def crash(status):
    raise RuntimeError("no")


@pytest.fixture
def reports(runtime):
    seen = []
    runtime.reports.subscribe(seen.append)
    return lambda: [report for report in seen if isinstance(report, StatemReport)]


class Asker(GenServer):
    """Does what it is told, as a process."""

    def init(self):
        return None

    async def handle_call(self, request, from_, state):
        return Reply(await request(), state)


class Kept(Address):
    """A name that is kept by nobody but itself."""

    pid = None

    def whereis(self, runtime):
        return self.pid

    def register(self, runtime, pid):
        self.pid = pid

    def unregister(self, runtime):
        self.pid = None


@pytest.mark.otp("gen_statem_SUITE", "sys1")
def test_suspended_machine_answers_get_status_but_no_calls(runtime):
    door = runtime.start(Door())
    status = runtime.run(sys.get_status(door.pid))
    assert (status.behaviour, status.module, status.suspended) == ("gen_statem", "Door", False)

    runtime.run(sys.suspend(door.pid))
    with pytest.raises(CallTimeoutError):
        door.call("state", 0.5)
    assert runtime.run(sys.get_status(door.pid)).suspended
    runtime.run(sys.resume(door.pid))
    assert door.call("state") == ("shut", "secret")


@pytest.mark.otp("gen_statem_SUITE", "sys1")
def test_call_to_a_suspended_machine_is_answered_after_resume(runtime):
    async def asked():
        answers.append(await gen_statem.call(door.pid, "state", None))

    answers = []
    door = runtime.start(Door())
    runtime.run(sys.suspend(door.pid))
    runtime.runtime.spawn(asked)
    runtime.advance(10.0)
    assert answers == []
    runtime.run(sys.resume(door.pid))
    runtime.run_until_idle()

    assert answers == [("shut", "secret")]


@pytest.mark.otp("gen_statem_SUITE", "get_state")
@pytest.mark.parametrize("mode", [STATE_FUNCTIONS, HANDLE_EVENT_FUNCTION])
@pytest.mark.parametrize("suspended", [False, True])
def test_get_state_gives_state_and_data_even_while_suspended(runtime, mode, suspended):
    door = runtime.start(Door(mode=mode), "door")
    asker = runtime.start(Asker())
    if suspended:
        runtime.run(sys.suspend(door.pid))

    assert asker.call(lambda: sys.get_state("door")) == ("shut", "secret")
    assert asker.call(lambda: sys.get_state(door.pid, 1.0)) == ("shut", "secret")
    assert runtime.run(sys.get_state(door.pid)) == ("shut", "secret")


@pytest.mark.otp("gen_statem_SUITE", "replace_state")
@pytest.mark.parametrize("state", ["shut", "error"])
def test_replace_state_changes_both_or_nothing(runtime, state):
    door = runtime.start(Door(mode=STATE_FUNCTIONS, first=state))

    new = runtime.run(sys.replace_state(door.pid, lambda both: (both[0], both[1] + "!")))
    assert new == (state, "secret!")
    for change in (lambda both: 1 / 0, lambda both: "no pair at all"):
        with pytest.raises(CallbackFailedError):
            runtime.run(sys.replace_state(door.pid, change))
    assert door.call("state") == (state, "secret!")
    runtime.run(sys.suspend(door.pid))
    runtime.run(sys.replace_state(door.pid, lambda both: ("error", both[1] + "!")))
    runtime.run(sys.resume(door.pid))
    assert door.call("state") == ("error", "secret!!")


@pytest.mark.otp("gen_statem_SUITE", "call_format_status")
@pytest.mark.parametrize(
    "name", [None, "door", Global("door"), Kept()], ids=["none", "local", "global", "via"]
)
def test_get_status_goes_through_format_status(runtime, name):
    door = runtime.start(Door(hide), name)
    status = runtime.start(Asker()).call(lambda: sys.get_status(name or door.pid))

    assert status.state == ("shut", "hidden")
    assert (status.name, status.pid) == (name if isinstance(name, str) else None, door.pid)
    broken = runtime.start(Door(crash))
    note = ("shut", "Door.format_status crashed")
    assert runtime.run(sys.get_status(broken.pid)).state == note


@pytest.mark.otp("gen_statem_SUITE", "error_format_status")
def test_report_of_a_crash_goes_through_format_status(runtime, reports):
    for show in (hide, crash):
        runtime.start(Door(show)).cast("boom")
        runtime.run_until_idle()

    hidden, broken = reports()
    assert hidden.state == "('shut', 'hidden')"
    assert broken.state == "('shut', 'Door.format_status crashed')"
    assert all(isinstance(report.reason.error, ValueError) for report in (hidden, broken))


@pytest.mark.otp("gen_statem_SUITE", "terminate_crash_format")
def test_report_when_terminate_crashes_has_its_reason(runtime, reports):
    door = runtime.start(Door(hide, end=KeyError("in terminate")))
    door.cast("boom")
    runtime.run_until_idle()

    (report,) = reports()
    assert report.state == "('shut', 'hidden')"
    assert isinstance(report.reason.error, KeyError)
    assert door.pid.exit_reason == report.reason


@pytest.mark.otp("gen_statem_SUITE", "format_all_status")
def test_format_status_may_rewrite_everything(runtime, reports):
    def rewrite(status):
        asked.append(set(status))
        return {key: f"shown {key}" for key in status}

    asked = []
    door = runtime.start(Door(rewrite))
    status = runtime.run(sys.get_status(door.pid))
    door.cast("later")
    door.cast("arm")
    door.cast("boom")
    door.cast("waiting in the mailbox")
    runtime.run_until_idle()
    (report,) = reports()

    assert status.state == ("shown state", "shown data")
    assert status.details == {key: f"shown {key}" for key in ("postponed", "timeouts", "log")}
    assert asked[1] - asked[0] == {"queue", "reason"}
    assert report.reason == "shown reason"
    assert report.queue == ("'shown queue'",)
    assert report.postponed == ("'shown postponed'",)
    assert report.timeouts == ("'shown timeouts'",)
    assert report.log == ("'shown log'",)


def test_get_status_shows_postponed_events_and_timeouts(runtime):
    door = runtime.start(Door())
    door.cast("later")
    door.cast("arm")
    details = runtime.run(sys.get_status(door.pid)).details

    assert details["postponed"] == (("cast", "later"),)
    assert set(details["timeouts"]) == {("state_timeout", "st"), (("timeout", "n"), "named")}


@pytest.mark.otp("gen_statem_SUITE", "format_log_2")
def test_report_text_names_queue_postponed_and_timeouts_within_bounds(runtime, caplog):
    door = runtime.start(Door())
    door.cast("later")
    door.cast("x" * 100_000)
    door.cast([NextEvent("cast", "boom"), NextEvent("info", "y" * 100_000)])
    with caplog.at_level(logging.ERROR, logger="otp"):
        runtime.run_until_idle()

    text = next(record.getMessage() for record in caplog.records if "postponed" in record.msg)
    assert "state machine" in text
    assert "  queue: ('cast', 'boom'), ('info', 'yyy" in text
    assert "  postponed: ('cast', 'later')\n" in text
    assert len(text) < 5000


@pytest.mark.otp("gen_statem_SUITE", "format_log_2")
@pytest.mark.parametrize("single_line", [False, True])
def test_report_of_a_machine_is_written_with_limits(runtime, reports, single_line):
    door = runtime.start(Door())
    door.cast("later")
    door.cast("arm")
    door.cast([NextEvent("cast", "boom")])
    runtime.run_until_idle()
    (report,) = reports()
    full = format_report(report, single_line=single_line)
    shallow = format_report(report, depth=0, single_line=single_line)
    short = format_report(report, chars_limit=120, single_line=single_line)

    assert full.startswith(f"state machine terminating: {door.pid!r} (Door)")
    for part in ("reason: ValueError('boom')", "queue: ('cast', 'boom')", "state: ('shut', "):
        assert part in full
    assert "postponed: ('cast', 'later')" in full
    assert "time-outs: (('timeout', 'n'), 'named'), ('state_timeout', 'st')" in full
    assert "reason: ValueError(...)" in shallow
    assert len(short) <= 120 < len(full)
    assert ("\n" in full) != single_line


@pytest.mark.otp("gen_statem_SUITE", "format_log_with_process_label")
def test_report_shows_the_label_of_the_process(runtime, reports, caplog):
    door = runtime.start(Door())
    door.pid.rare.label = "front door"
    with caplog.at_level(logging.ERROR, logger="otp"):
        door.cast("boom")
        runtime.run_until_idle()

    assert reports()[0].label == "front door"
    assert "front door" in caplog.text


def test_debug_events_tell_what_happened_to_each_event(runtime):
    door = runtime.start(Door())
    runtime.run(sys.log(door.pid, 20))
    door.cast("later")
    door.cast([StateTimeout(1.0, "st"), NextEvent("internal", "i")])
    door.call("state")
    events = runtime.run(sys.log(door.pid, "get"))

    assert [event[:2] for event in events[:-2]] == [
        ("in", ("cast", "later")),
        ("postpone", ("cast", "later")),
        ("in", events[2][1]),
        ("in", ("internal", "i")),
        ("consume", events[2][1]),
        ("start_timer", StateTimeout(1.0, "st")),
        ("consume", ("internal", "i")),
        ("in", events[7][1]),
    ]
    assert [event[0] for event in events[-2:]] == ["out", "consume"]


def test_statistics_count_events_of_a_machine(runtime):
    door = runtime.start(Door())
    runtime.run(sys.statistics(door.pid, "on"))
    door.cast("x")
    door.call("state")
    counted = runtime.run(sys.statistics(door.pid, "get"))

    assert (counted.messages_in, counted.messages_out) == (2, 1)


@pytest.mark.otp("gen_statem_SUITE", "hibernate")
@pytest.mark.parametrize(
    "how", ["cast", "info", "call", "internal", "state time-out", "event time-out", "named", "init"]
)
def test_hibernating_machine_wakes_for_any_message(runtime, how):
    class Sleepy(Door):
        def init(self):
            return Ok("shut", 0, Hibernate() if how == "init" else ())

        def handle_event(self, event_type, content, state, data):
            if content == "sleep":
                reply = [gen_statem.Reply(event_type[1], None)] if how == "call" else []
                return KeepState(data, [Hibernate(), *reply])
            return super().handle_event(event_type, content, state, data)

    door = runtime.start(Sleepy())
    orders = {
        "cast": lambda: door.cast("sleep"),
        "info": lambda: door.send("sleep"),
        "call": lambda: door.call("sleep"),
        "state time-out": lambda: door.cast([StateTimeout(0, "sleep")]),
        "event time-out": lambda: door.cast([EventTimeout(0, "sleep")]),
        "named": lambda: door.cast([NamedTimeout("n", 0, "sleep")]),
        "internal": lambda: door.cast([NextEvent("internal", "sleep")]),
        "init": lambda: None,
    }
    orders[how]()
    runtime.run_until_idle()

    assert door.pid.hibernated
    runtime.run(sys.suspend(door.pid))
    runtime.run(sys.resume(door.pid))
    runtime.run_until_idle()
    assert door.pid.hibernated
    door.send("wake up")
    runtime.run_until_idle()
    assert not door.pid.hibernated


@pytest.mark.otp("gen_statem_SUITE", "hibernate")
def test_state_enter_call_may_hibernate_the_machine(runtime):
    class Sleepy(Door):
        def callback_mode(self):
            return (HANDLE_EVENT_FUNCTION, STATE_ENTER)

        def handle_event(self, event_type, content, state, data):
            if event_type == "enter":
                return KeepState(data, [Hibernate()] if state == "asleep" else [])
            return NextState("asleep", data)

    door = runtime.start(Sleepy())
    runtime.run_until_idle()
    assert not door.pid.hibernated
    door.cast("sleep")
    runtime.run_until_idle()

    assert door.pid.hibernated


def test_hibernation_can_be_taken_back_within_the_actions(runtime):
    door = runtime.start(Door())
    door.cast([Hibernate(), Hibernate(on=False)])
    runtime.run_until_idle()

    assert not door.pid.hibernated


@pytest.mark.otp("gen_statem_SUITE", "auto_hibernate")
def test_idle_machine_hibernates_by_itself_after_its_time(runtime):
    door = Door()
    door.hibernate_after_s = 1.0
    door = runtime.start(door)
    runtime.advance(0.9)
    assert not door.pid.hibernated
    door.cast("x")
    runtime.advance(0.9)
    assert not door.pid.hibernated
    runtime.advance(0.2)
    assert door.pid.hibernated
    runtime.run(sys.get_state(door.pid))
    assert not door.pid.hibernated
    runtime.advance(1.1)
    assert door.pid.hibernated


@pytest.mark.otp("gen_statem_SUITE", "auto_hibernate")
def test_timeouts_come_while_the_machine_hibernates(runtime):
    class Timed(Door):
        def handle_event(self, event_type, content, state, data):
            if event_type == "timeout":
                return NextState("shut", "timed out")
            return super().handle_event(event_type, content, state, data)

    door = Timed()
    door.hibernate_after_s = 1.0
    door = runtime.start(door)
    door.cast([EventTimeout(2.5, None)])
    runtime.advance(2.0)
    assert door.pid.hibernated
    runtime.advance(1.0)
    assert not door.pid.hibernated
    assert door.call("state") == ("shut", "timed out")
