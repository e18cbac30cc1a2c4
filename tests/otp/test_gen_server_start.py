import asyncio

import pytest

from otp import (
    Address,
    AlreadyStartedError,
    Continue,
    Down,
    Exit,
    ExitError,
    GenServer,
    IgnoredError,
    NoProcessError,
    NoReply,
    Ok,
    Reply,
    StartError,
    Stop,
    gen_server,
    self_pid,
    trap_exit,
)
from otp.node_names import Global, OnNode
from otp.plain_process import receive
from otp.waiting import here


class Book(Address):
    """A via module: names in a dictionary."""

    def __init__(self, names, key):
        self.names, self.key = names, key

    def whereis(self, runtime):
        pid = self.names.get(self.key)
        return pid if pid is not None and pid.is_alive() else None

    def register(self, runtime, pid):
        self.names[self.key] = pid

    def unregister(self, runtime):
        del self.names[self.key]


class Echo(GenServer[None]):
    def __init__(self, answer=None, wait_s=0.0):
        self.answer, self.wait_s = answer, wait_s

    def init(self):
        return self.begin()

    def begin(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def handle_call(self, request, from_, state):
        return Reply(request, state)

    def handle_info(self, message, state):
        return NoReply(state)


class Slow(Echo):
    async def init(self):
        await asyncio.sleep(self.wait_s)
        return self.begin()


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


async def mailbox():
    """What is in the mailbox now."""
    return [envelope[1] for envelope in here.process.queued()]


NAMES = {
    "none": lambda: None,
    "local": lambda: "word",
    "global": lambda: Global(("any", "term")),
    "via": lambda: Book({}, "key"),
}


@pytest.mark.otp("gen_server_SUITE", "start")
@pytest.mark.parametrize("kind", list(NAMES))
@pytest.mark.parametrize("how", ["start", "start_link", "start_monitor"])
def test_server_is_started_and_stopped_under_every_kind_of_name(inside, kind, how):
    name = NAMES[kind]()

    async def body():
        pid = getattr(gen_server, how)(Echo(), name=name)
        ref = None
        if how == "start_monitor":
            pid, ref = pid
        dest = pid if name is None else name
        answer = await gen_server.call(dest, "hello")
        taken = None
        if name is not None:
            with pytest.raises(AlreadyStartedError) as caught:
                gen_server.start(Echo(), name=name)
            taken = caught.value.pid is pid
        await gen_server.stop(dest)
        with pytest.raises(NoProcessError):
            await gen_server.call(dest, "hello")
        messages = await mailbox()
        again = gen_server.start(Echo(), name=name)
        return answer, taken, messages == expected(how, pid, ref), again.is_alive()

    assert inside(body) == ("hello", None if kind == "none" else True, True, True)


async def started(how, server):
    """Start `server` and wait for its init."""
    pid = getattr(gen_server, how)(server)
    return await (pid[0] if how == "start_monitor" else pid)


def expected(how, pid, ref):
    """The messages that the end of a server brings to who started it."""
    if how == "start_link":
        return [Exit(pid, "normal")]
    return [Down(ref, pid, "normal")] if how == "start_monitor" else []


@pytest.mark.otp("gen_server_SUITE", "start")
@pytest.mark.otp("gen_server_SUITE", "loop_start_fail")
@pytest.mark.parametrize("how", ["start", "start_link", "start_monitor"])
def test_init_that_takes_too_long_is_killed(runtime, inside, how):
    async def body():
        pid = getattr(gen_server, how)(Slow(wait_s=9.0), name="slow", timeout_s=2.0)
        pid = pid[0] if how == "start_monitor" else pid
        with pytest.raises(StartError) as caught:
            await pid
        left = await mailbox(), here.process.linked(), runtime.stats().processes
        return caught.value.reason, runtime.clock(), runtime.runtime.whereis("slow"), *left

    assert inside(body) == ("timeout", 2.0, None, [], (), 1)


@pytest.mark.otp("gen_server_SUITE", "start")
def test_init_within_its_time_is_not_killed(runtime, inside):
    async def body():
        pid = await gen_server.start_link(Slow(wait_s=1.0), timeout_s=2.0)
        await asyncio.ensure_future(asyncio.sleep(5.0))
        return pid.is_alive()

    assert inside(body)


@pytest.mark.otp("gen_server_SUITE", "start")
@pytest.mark.otp("gen_server_SUITE", "loop_start_fail")
@pytest.mark.parametrize("how", ["start", "start_link", "start_monitor"])
@pytest.mark.parametrize("server", [Echo, Slow])
def test_refused_start_leaves_no_message(inside, how, server):
    async def body():
        seen = []
        for answer in (gen_server.Ignore(), Stop("no"), ExitError("gone"), error):
            with pytest.raises(StartError) as caught:
                await started(how, server(answer, wait_s=1.0))
            reason = caught.value.reason
            seen.append((isinstance(caught.value, IgnoredError), getattr(reason, "error", reason)))
        return seen, await mailbox(), here.process.monitoring(), here.process.linked()

    error = ValueError("oops")
    seen = [(True, "ignore"), (False, "no"), (False, "gone"), (False, error)]
    assert inside(body) == (seen, [], (), ())


def test_monitor_of_a_server_that_ended_at_once_tells_why(inside):
    class Brief(Echo):
        def handle_continue(self, term, state):
            return Stop(term, state)

    async def body():
        pid, ref = gen_server.start_monitor(Brief(Ok(None, Continue("over"))))
        return await mailbox() == [Down(ref, pid, "over")]

    assert inside(body)


@pytest.mark.otp("gen_server_SUITE", "stop5")
@pytest.mark.otp("gen_server_SUITE", "stop6")
@pytest.mark.otp("gen_server_SUITE", "stop7")
@pytest.mark.parametrize("kind", ["node", "global", "via"])
def test_stop_finds_a_server_by_every_kind_of_name(runtime, inside, kind):
    name = "word" if kind == "node" else NAMES[kind]()
    dest = OnNode("word", runtime.runtime.node) if kind == "node" else name

    async def body():
        pid = gen_server.start(Echo(), name=name)
        await gen_server.stop(dest)
        with pytest.raises(NoProcessError):
            await gen_server.stop(dest)
        return pid.exit_reason

    assert inside(body) == "normal"


def test_name_on_another_node_is_not_found_here(inside):
    async def body():
        pid = gen_server.start(Echo(), name="word")
        with pytest.raises(NoProcessError):
            await gen_server.stop(OnNode("word", "elsewhere"))
        return pid.is_alive()

    assert inside(body)


def test_global_name_goes_with_its_process(runtime):
    name = Global(7)
    pid = runtime.start(Echo(), name).pid
    assert runtime.runtime.whereis(name) is pid
    pid.exit_signal(None, "kill")

    assert runtime.runtime.whereis(name) is None


def test_process_may_have_a_local_and_global_names(inside):
    async def body():
        runtime = self_pid().runtime
        pid = gen_server.start(Echo(), name="word")
        runtime.register(Global("a"), pid)
        runtime.register(Global("b"), pid)
        runtime.unregister(Global("a"))
        names = ["word", Global("a"), Global("b")]
        return [runtime.whereis(name) is pid for name in names], await receive_nothing()

    async def receive_nothing():
        with pytest.raises(Exception, match="no wanted message"):
            await receive(timeout_s=0)

    assert inside(body)[0] == [True, False, True]
