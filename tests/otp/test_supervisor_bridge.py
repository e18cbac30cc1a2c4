import asyncio

import pytest

from otp import (
    AlreadyStartedError,
    ChildSpec,
    Exit,
    GenServer,
    Ignore,
    IgnoredError,
    NoReply,
    Raised,
    Reply,
    StartError,
    Stop,
    SupervisorBridge,
    SupervisorError,
    SupervisorLabel,
    SupervisorReport,
    UndefinedCallbackError,
    exit,  # noqa: A004
    receive,
    register,
    self_pid,
    send,
    spawn_link,
    supervisor,
    supervisor_bridge,
    sys,
)


async def worker():
    """A process that knows nothing of OTP."""
    register("worker", self_pid())
    while True:
        match await receive():
            case ("hello", sender):
                send(sender, "hello yourself")
            case "die":
                exit(self_pid(), "died")
            case "crash":
                raise ValueError("oops")
            case "return":
                return


class Bridge(SupervisorBridge[str]):
    def __init__(self, answer=None):
        self.ended = []
        self._answer = answer

    async def init(self):
        if self._answer is not None:
            return self._answer
        pid = spawn_link(worker)
        await asyncio.sleep(0)
        return pid, "state"

    def terminate(self, reason, state):
        self.ended.append((reason, state))
        exit(self.pid.runtime.whereis("worker"), "kill")


class Owner(GenServer[list]):
    def init(self):
        self.trap_exit()
        return []

    async def handle_call(self, request, from_, state):
        if request == "messages":
            return Reply(state, [])
        try:
            return Reply(await request(), state)
        except (StartError, TypeError) as error:
            return Reply(error, state)

    def handle_info(self, message, state):
        return NoReply([*state, message])


@pytest.fixture
def owner(runtime):
    return runtime.start(Owner(), "owner")


@pytest.fixture
def start(owner):
    def begin(bridge, name=None):
        async def started():
            return await supervisor_bridge.start_link(bridge, name=name)

        return owner.call(started)

    return begin


@pytest.mark.otp("supervisor_bridge_SUITE", "starting")
def test_init_may_ignore_or_refuse(runtime, owner, start):
    assert isinstance(start(Bridge(Ignore())), IgnoredError)
    refused = start(Bridge(Stop("testing")))

    assert refused.reason == "testing"
    assert owner.call("messages") == []
    assert runtime.stats().processes == 1


@pytest.mark.parametrize("odd", ["nonsense", (1, 2), ("pid", "state", 3)])
def test_init_that_returns_nonsense_fails_the_start(start, odd):
    assert start(Bridge(odd)).reason == ("bad_return_value", odd)


def test_bridge_without_init_fails_the_start(start):
    assert isinstance(start(SupervisorBridge()).reason.error, UndefinedCallbackError)


@pytest.mark.otp("supervisor_bridge_SUITE", "mini_terminate")
def test_bridge_ends_killed_when_its_process_is_killed(runtime, owner, start):
    bridge = Bridge()
    pid = start(bridge, "bridge")
    send_hello(runtime, owner)
    runtime.runtime.exit(runtime.runtime.whereis("worker"), "kill")
    runtime.run_until_idle()

    assert owner.call("messages") == ["hello yourself", Exit(pid, "killed")]
    assert bridge.ended == []


@pytest.mark.otp("supervisor_bridge_SUITE", "mini_die")
@pytest.mark.parametrize(("order", "reason"), [("die", "died"), ("return", "normal")])
def test_bridge_ends_with_the_reason_of_its_process(runtime, owner, start, order, reason):
    bridge = Bridge()
    pid = start(bridge)
    send_hello(runtime, owner)
    runtime.runtime.whereis("worker").send(order)
    runtime.run_until_idle()

    assert owner.call("messages") == ["hello yourself", Exit(pid, reason)]
    assert bridge.ended == []


def send_hello(runtime, owner):
    runtime.runtime.whereis("worker").send(("hello", owner.pid))
    runtime.run_until_idle()


@pytest.mark.otp("supervisor_bridge_SUITE", "badstart")
def test_bad_names_raise_and_a_taken_one_is_told(runtime, owner, start):
    for bad in (("xxx", "bridge"), 1, b"bridge"):
        assert isinstance(start(Bridge(), bad), TypeError)
    assert runtime.stats().processes == 1
    pid = start(Bridge(), "bridge")
    second = start(Bridge(), "bridge")

    assert isinstance(second, AlreadyStartedError)
    assert second.pid is pid
    runtime.runtime.exit(runtime.runtime.whereis("worker"), "kill")
    runtime.run_until_idle()
    assert owner.call("messages") == [Exit(pid, "killed")]


@pytest.mark.otp("supervisor_bridge_SUITE", "simple_global_supervisor")
def test_supervisor_restarts_a_bridge_under_its_name(lab):
    bridges = []

    def start_bridge():
        bridges.append(Bridge())
        return supervisor_bridge.start_link(bridges[-1], name="bridge")

    lab.start(ChildSpec("child", start_bridge, shutdown_s=2.0), intensity=3)
    runtime = lab.runtime
    first, old = (runtime.runtime.whereis(name) for name in ("bridge", "worker"))
    runtime.runtime.exit(first, "kill")
    runtime.run_until_idle()
    second = runtime.runtime.whereis("bridge")

    assert second not in (None, first)
    assert not old.is_alive()
    runtime.runtime.whereis("worker").send("crash")
    runtime.run_until_idle()
    assert runtime.runtime.whereis("bridge") not in (None, second)


def test_stopping_the_bridge_stops_its_process(lab):
    bridge = Bridge()
    sup = lab.start(ChildSpec("child", lambda: supervisor_bridge.start_link(bridge)))
    process = lab.runtime.runtime.whereis("worker")
    lab.do(supervisor.terminate_child(sup.pid, "child"))

    assert bridge.ended == [("shutdown", "state")]
    assert not process.is_alive()


def test_end_of_the_process_is_reported_unless_it_was_clean(runtime, start):
    reports = []
    runtime.reports.subscribe(reports.append)
    start(Bridge())
    process = runtime.runtime.whereis("worker")
    process.send("crash")
    runtime.run_until_idle()
    start(Bridge())
    runtime.runtime.whereis("worker").send("return")
    runtime.run_until_idle()

    (report,) = [each for each in reports if isinstance(each, SupervisorReport)]
    assert (report.label, report.offender.id) == (SupervisorLabel.CHILD_TERMINATED, "Bridge")
    assert report.offender.pid.startswith(f"<{process.serial}")
    assert isinstance(report.reason, Raised)


def test_bridge_answers_which_children_and_refuses_other_calls(runtime, start):
    pid = start(Bridge())
    pid.cast("anything")
    pid.send("anything")

    assert runtime.run(supervisor.which_children(pid)) == []
    with pytest.raises(SupervisorError, match="badcall"):
        runtime.run(supervisor.count_children(pid))
    assert runtime.run(sys.get_status(pid)).behaviour == "supervisor_bridge"


def test_process_that_ended_during_init_ends_the_bridge(runtime, owner, start):
    async def at_once():
        return None

    class Hasty(Bridge):
        async def init(self):
            pid = spawn_link(at_once)
            await asyncio.sleep(1.0)
            return pid, "state"

    pid = start(Hasty())
    runtime.run_until_idle()

    assert owner.call("messages") == [Exit(pid, "normal")]
