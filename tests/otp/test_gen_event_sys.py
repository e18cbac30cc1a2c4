import pytest

from otp import EventHandler, EventHandlerReport, EventManager, format_report, gen_event, sys
from otp.gen_event import Ok, Reply


class Sleeper(EventHandler[int]):
    """Hibernates the manager when it is told "hibernate"."""

    def __init__(self, hibernate=False):
        self._hibernate = hibernate

    def init(self):
        return Ok(0, hibernate=self._hibernate)

    def handle_event(self, event, state):
        return Ok(state, hibernate=event == "hibernate")

    def handle_call(self, request, state):
        return Reply(True, state, hibernate=request == "hibernate")

    def handle_info(self, message, state):
        return Ok(state, hibernate=message == "hibernate")


class Drowsy(Sleeper):
    def handle_event(self, event, state):
        return Ok(state, hibernate=True)


class Secret(EventHandler[str]):
    def __init__(self, state="secret"):
        self._state = state

    def init(self):
        return self._state

    def handle_event(self, event, state):
        if event == "crash":
            raise ValueError(event)
        return Ok(state)

    def format_status(self, status):
        return {**status, "state": "hidden"}


class Open(EventHandler[object]):
    def __init__(self, state):
        self._state = state

    def init(self):
        return self._state

    def handle_event(self, event, state):
        return Ok(event)


class Broken(Secret):
    def format_status(self, status):
        raise ValueError


@pytest.fixture
def manager(runtime):
    return runtime.start(EventManager(), "events").pid


@pytest.fixture
def do(runtime):
    def run(*calls):
        answers = [runtime.run(call) for call in calls]
        runtime.run_until_idle()
        return answers[-1]

    return run


@pytest.mark.otp("gen_event_SUITE", "hibernate")
def test_any_handler_may_hibernate_the_manager_until_a_message_comes(runtime, do, manager):
    def hibernated_after(send, message):
        send(message)
        runtime.run_until_idle()
        return manager.hibernated

    do(gen_event.add_handler(manager, Sleeper()))
    assert not manager.hibernated
    do(gen_event.call(manager, Sleeper, "hibernate"))
    assert manager.hibernated
    assert not hibernated_after(manager.send, "wake")
    assert hibernated_after(manager.cast, "hibernate")
    assert not hibernated_after(manager.cast, "wake")
    assert hibernated_after(manager.send, "hibernate")
    do(gen_event.sync_notify(manager, "wake"))
    assert not manager.hibernated

    do(gen_event.add_handler(manager, Drowsy()))
    assert hibernated_after(manager.cast, "wake")  # one that wants to is enough
    assert do(gen_event.which_handlers(manager)) == [Drowsy, Sleeper]
    assert not manager.hibernated


@pytest.mark.otp("gen_event_SUITE", "hibernate")
def test_manager_hibernated_by_a_new_handler_stays_so_over_a_suspension(runtime, do, manager):
    do(gen_event.add_handler(manager, Sleeper(hibernate=True)))
    assert manager.hibernated
    do(sys.suspend(manager))
    assert manager.hibernated
    do(sys.resume(manager))
    assert manager.hibernated
    manager.send("wake")
    runtime.run_until_idle()

    assert not manager.hibernated


@pytest.mark.otp("gen_event_SUITE", "auto_hibernate")
def test_idle_manager_hibernates_after_its_time(runtime, do):
    manager = runtime.start(EventManager(hibernate_after_s=1.0)).pid
    runtime.advance(0.9)
    do(gen_event.add_handler(manager, Sleeper()))
    runtime.advance(0.9)
    assert not manager.hibernated
    runtime.advance(0.2)
    assert manager.hibernated
    do(gen_event.sync_notify(manager, "wake"))
    assert not manager.hibernated
    runtime.advance(0.9)
    do(sys.get_state(manager))
    runtime.advance(0.9)
    assert not manager.hibernated
    runtime.advance(0.2)
    assert manager.hibernated


@pytest.mark.otp("gen_event_SUITE", "call_format_status")
def test_status_shows_of_each_handler_what_it_lets_be_seen(do, manager):
    do(
        gen_event.add_handler(manager, Secret()),
        gen_event.add_handler(manager, (Open("seen"), 1)),
        gen_event.add_handler(manager, Broken()),
    )
    status = do(sys.get_status(manager))

    assert (status.behaviour, status.name) == ("gen_event", "events")
    assert status.state == [
        (Broken, None, "Broken.format_status crashed"),
        (Open, 1, "seen"),
        (Secret, None, "hidden"),
    ]


@pytest.mark.otp("gen_event_SUITE", "call_format_status_anon")
def test_status_of_a_manager_without_a_name(runtime, do):
    manager = runtime.start(EventManager()).pid
    status = do(sys.get_status(manager, 5.0))

    assert (status.pid, status.name, status.state) == (manager, None, [])


@pytest.mark.otp("gen_event_SUITE", "error_format_status")
def test_report_of_a_failing_handler_shows_what_may_be_seen(runtime, do, manager):
    reports = []
    runtime.reports.subscribe(reports.append)
    do(gen_event.add_handler(manager, Secret()), gen_event.sync_notify(manager, "crash"))

    (report,) = reports
    assert isinstance(report, EventHandlerReport)
    assert (report.handler, report.manager) == ("Secret", repr(manager))
    assert (report.last_event, report.state) == ("'crash'", "'hidden'")


@pytest.mark.parametrize("single_line", [False, True])
def test_report_of_a_failing_handler_is_written_with_limits(runtime, do, manager, single_line):
    reports = []
    runtime.reports.subscribe(reports.append)
    do(gen_event.add_handler(manager, (Secret(), 1)), gen_event.sync_notify(manager, "crash"))
    text = format_report(reports[0], single_line=single_line)

    assert text.startswith(f"event handler failed: (Secret, 1) of {manager!r}")
    for part in ("reason: ('EXIT', ", "callback: handle_event", "last event: 'crash'", "'hidden'"):
        assert part in text
    assert ("\n" in text) != single_line
    assert len(format_report(reports[0], chars_limit=100, single_line=single_line)) <= 100


def test_failing_handler_is_logged_with_its_manager(do, manager, caplog):
    do(gen_event.add_handler(manager, Secret()), gen_event.sync_notify(manager, "crash"))

    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert (
        f"event handler Secret of {manager!r} failed: ('EXIT', ValueError('crash') < "
        in record.getMessage()
    )
    assert "secret" not in record.getMessage()


@pytest.mark.otp("gen_event_SUITE", "get_state")
@pytest.mark.parametrize("suspended", [False, True])
def test_state_is_a_list_of_class_id_and_state(do, manager, suspended):
    do(gen_event.add_handler(manager, Open("one")), gen_event.add_handler(manager, (Open(2), "id")))
    if suspended:
        do(sys.suspend(manager))

    assert do(sys.get_state(manager)) == [(Open, "id", 2), (Open, None, "one")]


@pytest.mark.otp("gen_event_SUITE", "replace_state")
@pytest.mark.parametrize("suspended", [False, True])
def test_states_are_replaced_one_by_one(do, manager, suspended):
    def change(handler):
        module, handler_id, state = handler
        if state == "renamed":
            return Secret, handler_id, "no"
        return module, handler_id, state + 1  # a str raises: that handler keeps its state

    for number, state in enumerate((1, "text", 10, "renamed")):
        do(gen_event.add_handler(manager, (Open(state), number)))
    if suspended:
        do(sys.suspend(manager))

    wanted = [(Open, 3, "renamed"), (Open, 2, 11), (Open, 1, "text"), (Open, 0, 2)]
    assert do(sys.replace_state(manager, change)) == wanted
    assert do(sys.get_state(manager)) == wanted


def test_suspended_manager_delivers_its_events_once_resumed(runtime, do, manager):
    do(gen_event.add_handler(manager, Open("old")), sys.suspend(manager))
    manager.cast("new")
    runtime.run_until_idle()
    assert do(sys.get_state(manager)) == [(Open, None, "old")]

    assert do(sys.resume(manager), sys.get_state(manager)) == [(Open, None, "new")]


def test_trace_and_statistics_see_the_events(runtime, do, manager, capsys):
    do(gen_event.add_handler(manager, Open("old")), sys.trace(manager, "on"))
    do(sys.statistics(manager, "on"))
    manager.cast("new")
    runtime.run_until_idle()

    assert do(sys.statistics(manager, "get")).messages_in == 1
    assert "*DBG* events got cast 'new'\n" in capsys.readouterr().out
