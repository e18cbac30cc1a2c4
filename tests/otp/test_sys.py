import pytest

from otp import (
    CallbackFailedError,
    CallError,
    CallingSelfError,
    CallTimeoutError,
    DynamicSupervisor,
    ExitError,
    GenServer,
    NoProcessError,
    NoReply,
    Reply,
    Stop,
    Supervisor,
    Timeout,
    gen_server,
    self_pid,
    sys,
)
from otp.plain_process import receive
from otp.supervisor_process import SupervisorState


class Adder(GenServer[int]):
    def __init__(self):
        self.infos = []
        self.ends = []

    def init(self):
        return 0

    def handle_call(self, request, from_, state):
        if request == "myself":
            return self.ask_myself(state)
        return Reply(state + request, state + request)

    async def ask_myself(self, state):
        try:
            await sys.get_state(self.pid)
        except CallingSelfError as error:
            return Reply(error.cause, state)

    def handle_cast(self, request, state):
        return NoReply(state + request)

    def handle_info(self, message, state):
        self.infos.append(message)
        return NoReply(state, message if isinstance(message, Timeout) else None)

    def terminate(self, reason, state):
        self.ends.append((reason, state))


@pytest.fixture
def adder(runtime):
    return runtime.start(Adder(), "adder")


@pytest.mark.otp("sys_SUITE", "log")
def test_log_keeps_and_prints_the_last_events(runtime, adder, capsys):
    runtime.run(sys.log(adder.pid, "on"))
    for number in range(6):
        adder.cast(number)
    runtime.run(sys.log(adder.pid, "print"))
    events = runtime.run(sys.log(adder.pid, "get"))

    assert len(events) == 10
    assert events[-2:] == (("in", ("$gen_cast", 5)), ("noreply", 15))
    assert "*DBG* adder got cast 5\n*DBG* adder new state 15\n" in capsys.readouterr().out

    runtime.run(sys.log(adder.pid, 3))
    assert runtime.run(sys.log(adder.pid, "get")) == events[-3:]
    runtime.run(sys.log(adder.pid, "off"))
    assert runtime.run(sys.log(adder.pid, "get")) == ()


@pytest.mark.otp("sys_SUITE", "log_to_file")
def test_log_to_file_writes_in_then_out_as_text(runtime, adder, tmp_path):
    path = tmp_path / "log"
    runtime.run(sys.log_to_file(adder.pid, path))
    adder.call(44)
    runtime.run(sys.log_to_file(adder.pid, None))
    adder.call(1)

    got, sent = path.read_text().splitlines()
    assert got.startswith("*DBG* adder got call 44 from ")
    assert sent.startswith("*DBG* adder sent 44 to ")


def test_log_to_file_that_cannot_be_opened_fails_in_the_caller(runtime, adder, tmp_path):
    with pytest.raises(CallbackFailedError) as failure:
        runtime.run(sys.log_to_file(adder.pid, tmp_path / "no" / "folder"))

    assert failure.value.callback == "log_to_file"
    assert adder.call(1) == 1


def test_log_file_is_closed_when_the_process_ends(runtime, adder, tmp_path):
    runtime.run(sys.log_to_file(adder.pid, tmp_path / "log"))
    adder.exit("kill")
    runtime.run_until_idle()

    assert not adder.is_alive()  # an unclosed file is a ResourceWarning, and warnings are errors


@pytest.mark.otp("sys_SUITE", "stats")
def test_statistics_count_messages_until_switched_off(runtime, adder):
    runtime.run(sys.statistics(adder.pid, "on"))
    adder.call(44)
    adder.cast(1)
    counted = runtime.run(sys.statistics(adder.pid, "get"))

    assert (counted.messages_in, counted.messages_out) == (2, 1)
    assert counted.reductions >= 2
    assert counted.start_time <= counted.current_time
    runtime.run(sys.statistics(adder.pid, "off"))
    assert runtime.run(sys.statistics(adder.pid, "get")) == sys.NO_STATISTICS


@pytest.mark.otp("sys_SUITE", "trace")
def test_trace_prints_events_while_on(runtime, adder, capsys):
    adder.call(1)
    runtime.run(sys.trace(adder.pid, "on"))
    adder.call(44)
    runtime.run(sys.trace(adder.pid, "off"))
    adder.call(2)

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:5] for line in lines] == [
        ["adder", "got", "call", "44"],
        ["adder", "sent", "45", "to"],
    ]


@pytest.mark.otp("sys_SUITE", "suspend")
def test_suspended_server_answers_sys_alone_until_resumed(runtime, adder):
    runtime.run(sys.suspend(adder.pid))
    runtime.run(sys.suspend(adder.pid))
    with pytest.raises(CallTimeoutError):
        adder.call(48, timeout_s=0.1)

    assert runtime.run(sys.get_status(adder.pid)).suspended
    runtime.run(sys.resume(adder.pid))
    runtime.run(sys.resume(adder.pid))
    assert adder.call(0) == 48  # the call that was too late was handled all the same
    assert not runtime.run(sys.get_status(adder.pid)).suspended


@pytest.mark.otp("sys_SUITE", "install")
def test_install_takes_a_function_or_key_only_once(runtime, adder):
    def note(seen, event, process):
        return [*seen, event[0]] if len(seen) < 4 else kept.extend(seen) or sys.DONE

    kept = []
    seen = []
    runtime.run(sys.install(adder.pid, lambda s, event, p: seen.append(event[0]), key="one"))
    runtime.run(sys.install(adder.pid, lambda s, event, p: seen.append("twice"), key="one"))
    runtime.run(sys.install(adder.pid, note, []))
    runtime.run(sys.install(adder.pid, note, ["second"]))
    adder.call(1)
    adder.call(1)
    adder.cast(1)
    runtime.run_until_idle()

    assert seen == ["in", "out", "in", "out", "in", "noreply"]
    assert kept == ["in", "out", "in", "out"]
    assert runtime.run(sys.get_status(adder.pid)).debug == (("install", "one"),)
    runtime.run(sys.remove(adder.pid, "one"))
    adder.call(1)
    assert len(seen) == 6


@pytest.mark.otp("sys_SUITE", "install")
def test_no_debug_takes_out_everything(runtime, adder):
    seen = []
    for key in ("one", "two"):
        runtime.run(sys.install(adder.pid, lambda s, e, p, key=key: seen.append(key), key=key))
    adder.cast(1)
    runtime.run_until_idle()
    runtime.run(sys.no_debug(adder.pid))
    adder.cast(1)
    runtime.run_until_idle()

    assert seen == ["one", "two"] * 2
    assert runtime.run(sys.get_status(adder.pid)).debug == ()


def test_debug_function_that_raises_is_removed_and_harms_nobody(runtime, adder):
    runtime.run(sys.install(adder.pid, lambda s, e, p: 1 / 0))

    assert adder.call(3) == 3
    assert runtime.run(sys.get_status(adder.pid)).debug == ()


def test_process_that_is_no_longer_watched_runs_its_own_class_again(runtime, adder):
    own = type(adder.pid)
    runtime.run(sys.trace(adder.pid, "on"))
    runtime.run(sys.suspend(adder.pid))

    assert type(adder.pid) is not own
    runtime.run(sys.resume(adder.pid))
    runtime.run(sys.trace(adder.pid, "off"))
    assert type(adder.pid) is own


class Special:
    """A hand-written process: adds what it is sent, and owns up to sys."""

    def __init__(self):
        self.ended = []

    async def loop(self, total):
        debug = sys.Debug()
        while True:
            match await receive():
                case ("system", from_, request):
                    total = await sys.handle_system_msg(request, from_, self, debug, total)
                case int(number):
                    debug.handle(("in", number), self_pid())
                    total += number

    def system_terminate(self, reason, misc):
        self.ended.append((reason, misc))


class Talkative(Special):
    def system_get_state(self, misc):
        if misc < 0:
            raise ValueError(misc)
        return {"total": misc}

    def system_replace_state(self, change, misc):
        shown = change({"total": misc})
        return shown, shown["total"]


@pytest.mark.otp("sys_SUITE", "special_process")
def test_special_process_shows_its_misc_as_state(runtime):
    pid = runtime.runtime.spawn(Special().loop, 1)
    runtime.run(sys.statistics(pid, "on"))
    pid.send(4)

    assert runtime.run(sys.get_state(pid)) == 5
    assert runtime.run(sys.replace_state(pid, lambda total: total * 2)) == 10
    assert runtime.run(sys.statistics(pid, "get")).messages_in == 1
    runtime.run(sys.suspend(pid))
    pid.send(1)
    assert runtime.run(sys.get_state(pid)) == 10
    runtime.run(sys.resume(pid))
    assert runtime.run(sys.get_state(pid)) == 11


@pytest.mark.otp("sys_SUITE", "special_process")
def test_special_process_answers_through_its_callbacks(runtime):
    pid = runtime.runtime.spawn(Talkative().loop, 1)

    assert runtime.run(sys.get_state(pid)) == {"total": 1}
    changed = runtime.run(sys.replace_state(pid, lambda shown: {"total": shown["total"] - 3}))
    assert changed == {"total": -2}
    with pytest.raises(CallbackFailedError) as failure:
        runtime.run(sys.get_state(pid))
    assert failure.value.callback == "system_get_state"
    with pytest.raises(CallbackFailedError) as failure:
        runtime.run(sys.replace_state(pid, lambda shown: 1 / 0))
    assert failure.value.callback == "system_replace_state"
    assert pid.is_alive()


@pytest.mark.otp("sys_SUITE", "special_process")
@pytest.mark.parametrize("suspended", [False, True])
def test_special_process_ends_through_system_terminate(runtime, suspended):
    special = Special()
    pid = runtime.runtime.spawn(special.loop, 7)
    if suspended:
        runtime.run(sys.suspend(pid))
    runtime.run(sys.terminate(pid, "shutdown"))
    runtime.run_until_idle()

    assert special.ended == [("shutdown", 7)]
    assert pid.exit_reason == "shutdown"


def test_unknown_system_message_fails_and_changes_nothing(runtime, adder):
    with pytest.raises(CallError) as failure:
        runtime.run(sys._ask(adder.pid, ("change_code", "x"), 1.0))

    assert failure.value.cause == ("unknown_system_msg", ("change_code", "x"))
    assert adder.call(1) == 1


def test_sys_asks_nobody_when_there_is_no_process(runtime, adder):
    adder.exit("kill")
    runtime.run_until_idle()

    with pytest.raises(NoProcessError):
        runtime.run(sys.get_state(adder.pid))


def test_process_that_asks_sys_about_itself_is_told_off(adder):
    assert adder.call("myself") == "calling_self"


def test_flags_that_do_not_exist_are_refused_before_anything_is_sent(runtime, adder):
    for wrong in (
        sys.trace(adder.pid, "maybe"),
        sys.log(adder.pid, 0),
        sys.log(adder.pid, True),
        sys.statistics(adder.pid, "reset"),
    ):
        with pytest.raises(ValueError, match=r"takes|fewer"):
            runtime.run(wrong)


@pytest.mark.parametrize("how", ["terminate", "stop", "parent"])
def test_suspended_server_can_be_ended(runtime, how):
    server = Adder()
    adder = runtime.start(server)
    runtime.run(sys.suspend(adder.pid))
    adder.cast(1)
    if how == "parent":
        adder.pid.trapping = True
        adder.exit("shutdown")
        runtime.run_until_idle()
    elif how == "stop":
        runtime.run(gen_server.stop(adder.pid, "shutdown"))
    else:
        runtime.run(sys.terminate(adder.pid, "shutdown"))
        runtime.run_until_idle()

    assert server.ends == [("shutdown", 0)]
    assert adder.pid.exit_reason == "shutdown"


def test_message_that_came_while_suspended_still_stops_the_timeout(runtime):
    server = Adder()
    adder = runtime.start(server)
    action = Timeout(1.0)
    adder.send(action)
    runtime.run_until_idle()
    runtime.run(sys.suspend(adder.pid))
    adder.cast(1)
    runtime.advance(2.0)
    runtime.run(sys.resume(adder.pid))
    runtime.advance(2.0)

    assert server.infos == [action]


def test_timeout_that_ran_out_while_suspended_comes_after_resume(runtime):
    server = Adder()
    adder = runtime.start(server)
    adder.send(Timeout(1.0))
    runtime.run_until_idle()
    runtime.run(sys.suspend(adder.pid))
    runtime.advance(2.0)
    assert len(server.infos) == 1
    runtime.run(sys.resume(adder.pid))
    runtime.run_until_idle()

    assert server.infos[1:] == ["timeout"]


def test_calls_and_casts_keep_their_order_across_a_suspension(runtime):
    server = Adder()
    adder = runtime.start(server)
    runtime.run(sys.suspend(adder.pid))
    for number in range(200):
        adder.send(number)
    runtime.run(sys.resume(adder.pid))
    runtime.run_until_idle()

    assert server.infos == list(range(200))


class Slow(GenServer[int]):
    def init(self):
        return 0

    async def handle_call(self, request, from_, state):
        import asyncio

        await asyncio.sleep(1.0)
        if request == "stop":
            return Stop("shutdown", state)
        return Reply(request, state + 1)


def test_watched_server_may_wait_in_a_callback(runtime):
    slow = runtime.start(Slow())
    runtime.run(sys.log(slow.pid, "on"))

    assert slow.call("x") == "x"
    kinds = [
        event[:2] if event[0] == "out" else event[0]
        for event in runtime.run(sys.log(slow.pid, "get"))
    ]
    assert kinds == ["in", ("out", "x")]
    with pytest.raises(CallError):
        slow.call("stop")
    assert slow.pid.exit_reason == "shutdown"


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_supervisors_answer_sys(lab, kind):
    if kind == "static":
        sup = lab.start(lab.spec("a"), lab.spec("b"))
    else:
        sup = lab.start_dynamic()
        lab.add(sup, lab.spec("a"))
        lab.add(sup, lab.spec("b"))
    runtime = lab.runtime
    state = runtime.run(sys.get_state(sup.pid))

    assert isinstance(state, SupervisorState)
    assert isinstance(state.flags, Supervisor | DynamicSupervisor) or state.flags.intensity == 1
    assert {child.pid for child in state.children} == set(lab.pids)
    with pytest.raises(CallbackFailedError):
        runtime.run(sys.replace_state(sup.pid, lambda state: None))
    status = runtime.run(sys.get_status(sup.pid))
    assert status.behaviour == ("supervisor" if kind == "static" else "dynamic_supervisor")


def test_suspended_supervisor_restarts_its_child_once_resumed(lab):
    sup = lab.start(lab.spec("a"))
    lab.runtime.run(sys.suspend(sup.pid))
    lab.end(lab.pids[0], "kill")
    assert len(lab.pids) == 1
    lab.runtime.run(sys.resume(sup.pid))
    lab.runtime.run_until_idle()

    assert lab.pids[1] == lab.pid(sup, "a")


def test_error_of_replace_state_names_callback_and_reason(runtime, adder):
    with pytest.raises(CallbackFailedError, match=r"system_replace_state failed: .*ZeroDivision"):
        runtime.run(sys.replace_state(adder.pid, lambda state: 1 / 0))


def test_terminate_by_sys_takes_any_reason(runtime, adder):
    runtime.run(sys.terminate(adder.pid, ("shutdown", "now")))
    runtime.run_until_idle()

    assert adder.pid.exit_reason == ("shutdown", "now")
    assert not isinstance(adder.pid.exit_reason, ExitError)
