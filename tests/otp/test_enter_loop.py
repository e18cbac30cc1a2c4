import pytest

from otp import (
    TIMEOUT,
    Address,
    Continue,
    Down,
    GenServer,
    Global,
    Hibernate,
    NoReply,
    Reply,
    ServerReport,
    Timeout,
    gen_server,
    proc_lib,
    receive,
    register,
    self_pid,
    sys,
    trap_exit,
)


class Book(Address):
    """A via module: names in a dictionary."""

    def __init__(self):
        self.names = {}

    def whereis(self, runtime):
        return self.names.get("it")

    def register(self, runtime, pid):
        self.names["it"] = pid

    def unregister(self, runtime):
        self.names.clear()


class Noting(GenServer[str]):
    """Notes what it gets; its state comes from enter_loop."""

    def __init__(self):
        self.seen = []

    def init(self):
        raise AssertionError("enter_loop calls no init")

    def handle_call(self, request, from_, state):
        return Reply((request, state), state)

    def handle_cast(self, request, state):
        raise ValueError(request)

    def handle_info(self, message, state):
        self.seen.append(message)
        return NoReply(state)

    def handle_continue(self, term, state):
        self.seen.append(("continue", term))
        return NoReply(state)

    def terminate(self, reason, state):
        self.seen.append(("terminate", reason))


class Dozing(Noting):
    hibernate_after_s = 1.0


async def entering(server, name=None, claim=None, action=None, state="state"):
    """Register as `name`, become a server that claims to be `claim`."""
    trap_exit()
    if name is not None:
        register(name, self_pid())
    proc_lib.init_ack(self_pid())
    gen_server.enter_loop(server, state, name=claim, action=action)


@pytest.fixture
def inside(runtime):
    """Run a coroutine function inside a process that traps exits; returns what it returned."""

    def run(body):
        outcome = []

        async def process():
            trap_exit()
            outcome.append(await body())

        async def until_over():
            await runtime.runtime.exited(runtime.runtime.spawn(process))

        runtime.run(until_over())
        return outcome[0]

    return run


NAMES = {"none": lambda: None, "local": lambda: "it", "global": lambda: Global("it"), "via": Book}


@pytest.mark.otp("gen_server_SUITE", "spec_init")
@pytest.mark.parametrize("kind", list(NAMES))
@pytest.mark.parametrize("how", ["start", "start_link"])
def test_process_becomes_a_server_under_its_name(inside, kind, how):
    server, name = Noting(), NAMES[kind]()

    async def body():
        pid = await getattr(proc_lib, how)(entering, server, name, name)
        dest = name or pid
        answer = await gen_server.call(dest, "x")
        state = await sys.get_state(dest)
        await gen_server.stop(dest)
        return answer, state, pid.exit_reason

    assert inside(body) == (("x", "state"), "state", "normal")
    assert server.seen == [("terminate", "normal")]


@pytest.mark.otp("gen_server_SUITE", "spec_init")
@pytest.mark.parametrize(
    ("action", "seen"),
    [
        (Timeout(2.0), [TIMEOUT]),
        (Timeout(2.0, "message"), ["message"]),
        (Timeout(1.5, "message", absolute=True), ["message"]),
        (Hibernate(2.0, "message"), ["message"]),
        (Hibernate(1.5, "message", absolute=True), ["message"]),
        (Hibernate(2.0), [TIMEOUT]),
        (Hibernate(), []),
        (Continue("on"), [("continue", "on")]),
    ],
)
def test_first_action_is_done(inside, action, seen):
    server = Noting()

    async def body():
        pid = await proc_lib.start(entering, server, None, None, action)
        with pytest.raises(Exception, match="no wanted"):
            await receive(timeout_s=1.0)
        asleep = pid.hibernated
        with pytest.raises(Exception, match="no wanted"):
            await receive(timeout_s=1.0)
        return asleep

    assert inside(body) == (type(action) is Hibernate)
    assert server.seen == seen


@pytest.mark.otp("gen_server_SUITE", "spec_init")
@pytest.mark.otp("gen_server_SUITE", "otp_5854")
@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        (lambda: "it", "process_not_registered"),
        (lambda: Global("it"), "process_not_registered_globally"),
        (Book, ("process_not_registered_via", "Book")),
    ],
)
@pytest.mark.parametrize("taken", [False, True])
def test_name_that_is_not_its_own_is_refused(runtime, inside, claim, reason, taken):
    name = claim()
    if taken:
        other = runtime.runtime.spawn(receive)
        runtime.runtime.register(name, other)

    async def body():
        _, ref = proc_lib.spawn_monitor(entering, Noting(), None, name)
        message = await receive(lambda each: isinstance(each, Down) and each.ref is ref)
        return message.reason

    assert inside(body) == reason


@pytest.mark.otp("gen_server_SUITE", "spec_init")
def test_process_that_proc_lib_did_not_start_is_refused(runtime):
    pid = runtime.runtime.spawn(entering, Noting())
    runtime.run_until_idle()

    assert pid.exit_reason == "process_was_not_started_by_proc_lib"


@pytest.mark.otp("gen_server_SUITE", "spec_init_local_registered_parent")
@pytest.mark.otp("gen_server_SUITE", "spec_init_global_registered_parent")
@pytest.mark.parametrize("name", ["parent", Global("parent")])
def test_end_of_a_named_parent_runs_terminate(runtime, name):
    server = Noting()

    async def parent():
        register(name, self_pid())
        await proc_lib.start_link(entering, server)
        await receive()

    pid = runtime.runtime.spawn(parent)
    runtime.run_until_idle()
    pid.exit_signal(None, "oops")
    runtime.run_until_idle()

    assert server.seen == [("terminate", "oops")]
    assert runtime.stats().processes == 0


def test_server_that_entered_the_loop_crashes_like_any_other(runtime, inside):
    reports = []
    runtime.reports.subscribe(reports.append)

    async def body():
        pid = await proc_lib.start(entering, Noting())
        gen_server.cast(pid, "boom")
        with pytest.raises(Exception, match="no wanted"):
            await receive(timeout_s=0.1)
        return pid.is_alive()

    assert inside(body) is False
    [report] = [each for each in reports if isinstance(each, ServerReport)]
    assert (report.last_message, report.state) == ("'boom'", "'state'")


@pytest.mark.otp("gen_server_SUITE", "auto_hibernate")
def test_server_that_entered_the_loop_may_doze(inside):
    async def body():
        pid = await proc_lib.start(entering, Dozing())
        with pytest.raises(Exception, match="no wanted"):
            await receive(timeout_s=2.0)
        return pid.hibernated

    assert inside(body)


def test_messages_that_came_before_are_handled_after_enter_loop(inside):
    server = Noting()

    async def late():
        proc_lib.init_ack(self_pid())
        taken = await receive(lambda message: message == "second")
        gen_server.enter_loop(server, taken)

    async def body():
        pid = await proc_lib.start(late)
        pid.send("first")
        pid.send("second")
        return await gen_server.call(pid, "state")

    assert inside(body) == ("state", "second")
    assert server.seen == ["first"]
