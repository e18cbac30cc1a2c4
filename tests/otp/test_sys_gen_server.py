import pytest

from otp import (
    Address,
    CallbackFailedError,
    GenServer,
    Global,
    NoReply,
    Reply,
    ServerReport,
    sys,
)


class Shown(GenServer[object]):
    """Shows itself through the function it is given; `end` is what its terminate raises."""

    def __init__(self, show, end=None):
        self.show = show
        self.end = end

    def init(self):
        return "secret"

    def handle_call(self, request, from_, state):
        return Reply(state, state)

    def handle_cast(self, request, state):
        raise ValueError(request)

    def handle_info(self, message, state):
        return NoReply(state)

    def format_status(self, status):
        return self.show(status)

    def terminate(self, reason, state):
        if self.end is not None:
            raise self.end


class Kept(Address):
    """A name that is kept by nobody but itself."""

    pid = None

    def __repr__(self):
        return "kept"

    def whereis(self, runtime):
        return self.pid

    def register(self, runtime, pid):
        self.pid = pid

    def unregister(self, runtime):
        self.pid = None


class Plain(GenServer[object]):
    def init(self):
        return "plain state"


def hide(status):
    return {**status, "state": "hidden"}


def crash(status):
    raise RuntimeError("no")


@pytest.fixture
def reports(runtime):
    seen = []
    runtime.reports.subscribe(seen.append)
    return lambda: [report for report in seen if isinstance(report, ServerReport)]


@pytest.mark.otp("gen_server_SUITE", "call_format_status")
@pytest.mark.parametrize("name", [None, "shown", Global("shown"), Kept()], ids=repr)
def test_get_status_goes_through_format_status(runtime, name):
    shown = runtime.start(Shown(hide), name)
    asker = runtime.start(Asker())
    status = asker.call(lambda: sys.get_status(name or shown.pid))

    assert status.state == "hidden"
    assert (status.pid, status.behaviour) == (shown.pid, "gen_server")
    assert status.name == (name if isinstance(name, str) else None)
    assert (status.module, status.parent, status.details) == ("Shown", None, {"log": ()})
    assert shown.call("state") == "secret"


def test_get_status_without_format_status_shows_the_state(runtime):
    plain = runtime.start(Plain())

    assert runtime.run(sys.get_status(plain.pid)).state == "plain state"


@pytest.mark.otp("gen_server_SUITE", "error_format_status")
def test_report_of_a_crash_goes_through_format_status(runtime, reports):
    shown = runtime.start(Shown(hide))
    shown.cast("boom")
    runtime.run_until_idle()

    (report,) = reports()
    assert report.state == "'hidden'"
    assert report.last_message == "'boom'"
    assert isinstance(report.reason.error, ValueError)


@pytest.mark.otp("gen_server_SUITE", "terminate_crash_format")
def test_report_when_terminate_crashes_has_its_reason_and_the_shown_state(runtime, reports):
    shown = runtime.start(Shown(hide, end=KeyError("in terminate")))
    shown.cast("boom")
    runtime.run_until_idle()

    (report,) = reports()
    assert report.state == "'hidden'"
    assert isinstance(report.reason.error, KeyError)
    assert shown.pid.exit_reason == report.reason


@pytest.mark.otp("gen_server_SUITE", "crash_in_format_status")
def test_crashing_format_status_is_replaced_by_a_note(runtime, reports):
    shown = runtime.start(Shown(crash))

    assert runtime.run(sys.get_status(shown.pid)).state == "Shown.format_status crashed"
    assert shown.call("state") == "secret"
    shown.cast("boom")
    runtime.run_until_idle()
    (report,) = reports()
    assert "format_status crashed" in report.state
    assert isinstance(report.reason.error, ValueError)


@pytest.mark.otp("gen_server_SUITE", "throw_in_format_status")
@pytest.mark.parametrize(
    ("shown_as", "note"),
    [
        ("a text", "did not return a dict"),
        ({"state": 1, "colour": "red"}, "returned unknown keys"),
    ],
)
def test_format_status_that_returns_nonsense_is_replaced_by_a_note(runtime, shown_as, note):
    shown = runtime.start(Shown(lambda status: shown_as))

    assert note in runtime.run(sys.get_status(shown.pid)).state
    assert shown.call("state") == "secret"


@pytest.mark.otp("gen_server_SUITE", "format_all_status")
def test_format_status_may_rewrite_everything(runtime, reports):
    asked = []

    def rewrite(status):
        asked.append(set(status))
        return {key: f"shown {key}" for key in status}

    shown = runtime.start(Shown(rewrite))
    runtime.run(sys.log(shown.pid, "on"))
    status = runtime.run(sys.get_status(shown.pid))
    assert (status.state, status.details) == ("shown state", {"log": "shown log"})

    shown.cast("boom")
    runtime.run_until_idle()
    (report,) = reports()
    assert (report.state, report.last_message) == ("'shown state'", "'shown message'")
    assert (report.reason, report.log) == ("shown reason", ("'shown log'",))
    assert isinstance(shown.pid.exit_reason.error, ValueError)
    assert asked == [{"state", "log"}, {"state", "log", "message", "reason"}]


def test_report_of_a_crash_has_the_log(runtime, reports):
    shown = runtime.start(Shown(dict))
    runtime.run(sys.log(shown.pid, "on"))
    shown.call("x")
    shown.cast("boom")
    runtime.run_until_idle()

    assert len(reports()[0].log) == 3
    assert "'boom'" in reports()[0].log[-1]


class Asker(GenServer[None]):
    """Does what it is told, as a process."""

    def init(self):
        return None

    async def handle_call(self, request, from_, state):
        return Reply(await request(), state)


@pytest.mark.otp("gen_server_SUITE", "get_state")
@pytest.mark.parametrize("suspended", [False, True])
def test_get_state_by_name_and_pid_even_while_suspended(runtime, suspended):
    shown = runtime.start(Shown(dict), "shown")
    asker = runtime.start(Asker())
    if suspended:
        runtime.run(sys.suspend(shown.pid))

    assert asker.call(lambda: sys.get_state("shown")) == "secret"
    assert asker.call(lambda: sys.get_state(shown.pid, 1.0)) == "secret"
    assert runtime.run(sys.get_state(shown.pid)) == "secret"


@pytest.mark.otp("gen_server_SUITE", "replace_state")
def test_replace_state_by_name_and_pid_even_while_suspended(runtime):
    shown = runtime.start(Shown(dict), "shown")
    asker = runtime.start(Asker())

    assert asker.call(lambda: sys.replace_state("shown", lambda s: f"{s} 1")) == "secret 1"
    assert runtime.run(sys.replace_state(shown.pid, lambda s: f"{s} 2")) == "secret 1 2"
    with pytest.raises(CallbackFailedError) as failure:
        runtime.run(sys.replace_state(shown.pid, lambda s: s / 0))
    assert isinstance(failure.value.reason.error, TypeError)
    assert shown.call("state") == "secret 1 2"
    runtime.run(sys.suspend(shown.pid))
    runtime.run(sys.replace_state(shown.pid, lambda s: "other"))
    runtime.run(sys.resume(shown.pid))
    assert shown.call("state") == "other"
