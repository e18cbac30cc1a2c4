import asyncio

import pytest

from otp import (
    CallingSelfError,
    CallTimeoutError,
    CrashReport,
    Down,
    ExitError,
    GenServer,
    NoProcessError,
    NoReply,
    OtpError,
    Raised,
    Reply,
    ServerReport,
    StartError,
    link,
    proc_lib,
    receive,
    register,
    self_pid,
    send,
    spawn,
    sys,
    trap_exit,
)
from otp.waiting import here


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


@pytest.fixture
def crashes(runtime):
    seen = []
    runtime.reports.subscribe(seen.append)
    return lambda: [report for report in seen if isinstance(report, CrashReport)]


def messages():
    """What is in the mailbox now."""
    return [envelope[1] for envelope in here.process.queued()]


async def idle():
    await receive(lambda message: message == "end")


async def fail(error):
    raise error


async def down(ref):
    message = await receive(lambda message: isinstance(message, Down) and message.ref is ref)
    return message.reason


# Starting.


@pytest.mark.otp("proc_lib_SUITE", "sync_start_nolink")
@pytest.mark.otp("proc_lib_SUITE", "sync_start_link")
@pytest.mark.parametrize("how", ["start", "start_link", "start_monitor"])
def test_start_waits_for_the_acknowledgement(runtime, inside, how):
    async def slow(word):
        await asyncio.sleep(2.0)
        proc_lib.init_ack((word, self_pid()))
        await idle()

    async def body():
        answer = await getattr(proc_lib, how)(slow, "ready")
        (word, pid), ref = answer if how == "start_monitor" else (answer, None)
        linked = here.process in pid.linked()
        at = runtime.clock()
        pid.exit_signal(None, "kill")
        reason = await down(ref) if ref is not None else pid.exit_reason
        return word, at, linked, reason

    assert inside(body) == ("ready", 2.0, how == "start_link", "killed")


@pytest.mark.otp("proc_lib_SUITE", "init_dont_hang")
@pytest.mark.parametrize("how", ["start", "start_link", "start_monitor"])
@pytest.mark.parametrize("error", [ExitError("gone"), ValueError("oops")])
def test_crash_before_the_acknowledgement_is_told_and_leaves_nothing(inside, how, error):
    async def body():
        with pytest.raises(StartError) as caught:
            await getattr(proc_lib, how)(fail, error)
        return caught.value.reason, messages(), here.process.linked()

    reason, left, links = inside(body)
    assert getattr(reason, "error", reason) == (error if isinstance(error, ValueError) else "gone")
    assert (left, links) == ([], ())


@pytest.mark.otp("proc_lib_SUITE", "init_dont_hang")
@pytest.mark.parametrize("how", ["start", "start_link", "start_monitor"])
def test_start_that_takes_too_long_kills_the_process(runtime, inside, how):
    async def body():
        with pytest.raises(StartError) as caught:
            await getattr(proc_lib, how)(idle, timeout_s=3.0)
        return caught.value.reason, messages(), runtime.clock(), runtime.stats().processes

    assert inside(body) == ("timeout", [], 3.0, 1)


@pytest.mark.parametrize("how", ["start", "start_link"])
def test_init_fail_tells_the_reason_when_the_process_has_gone(runtime, inside, how):
    async def failing():
        register("busy", self_pid())
        proc_lib.init_fail("told", "shutdown")

    async def body():
        with pytest.raises(StartError) as caught:
            await getattr(proc_lib, how)(failing)
        return caught.value.reason, runtime.runtime.whereis("busy"), messages()

    assert inside(body) == ("told", None, [])


def test_acknowledgement_nobody_waits_for_is_ignored(inside):
    async def eager():
        proc_lib.init_ack("one")
        proc_lib.init_ack("two")
        await idle()

    async def body():
        value = await proc_lib.start(eager)
        pid = proc_lib.spawn(eager)
        await asyncio.ensure_future(asyncio.sleep(1.0))
        return value, pid.is_alive()

    assert inside(body) == ("one", True)


@pytest.mark.otp("proc_lib_SUITE", "spawn_opt")
def test_spawn_opt_links_and_monitors_and_records_the_initial_call(inside):
    async def body():
        plain = proc_lib.spawn_opt(idle)
        pid, ref = proc_lib.spawn_opt(idle, options=["link", "monitor"])
        call = proc_lib.initial_call(pid)
        links = [here.process in each.linked() for each in (plain, pid)]
        pid.exit_signal(None, "kill")
        return call, links, await down(ref)

    assert inside(body) == ("idle", [False, True], "killed")


@pytest.mark.otp("proc_lib_SUITE", "otp_6345")
@pytest.mark.parametrize("how", ["start", "start_link", "start_monitor"])
def test_start_refuses_the_option_to_monitor(runtime, inside, how):
    async def body():
        with pytest.raises(ValueError, match="monitor"):
            await getattr(proc_lib, how)(idle, spawn_opt=["monitor"])
        return runtime.stats().processes

    assert inside(body) == 1


# Ends.


@pytest.mark.otp("proc_lib_SUITE", "crash")
@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", "x")])
def test_clean_ends_are_not_reported(inside, crashes, reason):
    async def body():
        _, ref = proc_lib.spawn_monitor(fail, ExitError(reason))
        return await down(ref)

    assert inside(body) == reason
    assert crashes() == []


@pytest.mark.otp("proc_lib_SUITE", "crash")
def test_crash_report_shows_the_process_and_its_neighbours(inside, crashes):
    async def linked_to(*pids):
        for pid in pids:
            link(pid)
        await idle()

    async def trapping():
        trap_exit()
        await idle()

    async def failing(near, guard):
        proc_lib.set_label("the culprit")
        link(near)
        link(guard)
        send(self_pid(), "unread")
        raise ValueError("oops")

    async def body():
        far = proc_lib.spawn(idle)
        near = proc_lib.spawn(linked_to, far)
        guard = proc_lib.spawn(trapping)
        await asyncio.ensure_future(asyncio.sleep(1.0))
        pid, ref = proc_lib.spawn_monitor(failing, near, guard)
        await down(ref)
        return repr(pid), [repr(near), repr(far)], repr(guard), repr(self_pid())

    process, neighbours, guard, parent = inside(body)
    [report] = crashes()
    assert (report.process, report.label) == (process, "the culprit")
    assert report.initial_call.endswith("failing")
    assert report.ancestors == (parent,)
    assert isinstance(report.reason.error, ValueError)
    assert report.messages == ("'unread'",)
    assert guard in report.links
    assert [each.process for each in report.neighbours] == neighbours
    assert report.neighbours[1].links == (neighbours[0],)


def test_number_of_neighbours_shown_is_bounded(inside, crashes):
    async def hub():
        for _ in range(100):
            proc_lib.spawn_link(idle)
        raise ValueError("oops")

    async def body():
        _, ref = proc_lib.spawn_monitor(hub)
        await down(ref)

    inside(body)
    assert len(crashes()[0].neighbours) == 15


@pytest.mark.otp("proc_lib_SUITE", "stacktrace")
def test_reason_of_an_error_has_its_stack_and_that_of_an_exit_is_plain(inside):
    async def body():
        error = ValueError("oops")
        reasons = []
        for raised in (error, ExitError("gone")):
            _, ref = proc_lib.spawn_monitor(fail, raised)
            reasons.append(await down(ref))
        return error, reasons

    error, (raised, plain) = inside(body)
    assert isinstance(raised, Raised)
    assert raised.error is error
    assert raised.stack[-1][2] == "fail"
    assert plain == "gone"


@pytest.mark.otp("proc_lib_SUITE", "hibernate")
def test_hibernated_process_goes_on_with_the_next_message(inside, crashes):
    async def before():
        proc_lib.set_label("sleepy")
        proc_lib.hibernate(after, "context")

    async def after(context):
        raise ValueError(context, await receive())

    async def body():
        pid, ref = proc_lib.spawn_monitor(before)
        await asyncio.ensure_future(asyncio.sleep(5.0))
        asleep = pid.hibernated
        send(pid, "wake")
        return asleep, (await down(ref)).error.args, repr(self_pid())

    asleep, arguments, parent = inside(body)
    [report] = crashes()
    assert (asleep, arguments) == (True, ("context", "wake"))
    assert (report.label, report.ancestors) == ("sleepy", (parent,))
    assert report.initial_call.endswith("before")


@pytest.mark.otp("proc_lib_SUITE", "hibernate")
def test_waiting_message_keeps_a_process_from_hibernation(inside):
    async def before():
        send(self_pid(), "there")
        proc_lib.hibernate(after)

    async def after():
        raise ExitError(await receive())

    async def body():
        _, ref = proc_lib.spawn_monitor(before)
        return await down(ref)

    assert inside(body) == "there"


def test_server_cannot_hibernate_like_a_plain_process(runtime):
    class Server(GenServer[None]):
        def init(self):
            return None

        def handle_call(self, request, from_, state):
            with pytest.raises(OtpError):
                proc_lib.hibernate(idle)
            return Reply("refused", state)

    assert runtime.start(Server()).call("x") == "refused"


class Special:
    """The callbacks of a process that knows sys."""

    def __init__(self, end=None, takes_s=0.0):
        self.end = end
        self.takes_s = takes_s

    async def system_terminate(self, reason, misc):
        await asyncio.sleep(self.takes_s)
        if self.end is not None:
            raise ExitError(self.end)


async def special(callbacks):
    register("special", self_pid())
    proc_lib.init_ack(self_pid())
    while True:
        _, from_, request = await receive()
        await sys.handle_system_msg(request, from_, callbacks, sys.Debug(), None)


@pytest.mark.otp("proc_lib_SUITE", "stop")
@pytest.mark.parametrize("reason", ["normal", "shutdown", ("other", "x")])
@pytest.mark.parametrize("by_name", [False, True])
def test_stop_ends_a_process_with_the_reason(inside, reason, by_name):
    async def body():
        pid = await proc_lib.start(special, Special())
        await proc_lib.stop("special" if by_name else pid, reason, 5.0)
        with pytest.raises(NoProcessError):
            await proc_lib.stop("special" if by_name else pid)
        return pid.exit_reason

    assert inside(body) == reason


@pytest.mark.otp("proc_lib_SUITE", "stop")
def test_stop_tells_another_reason_and_a_timeout(inside):
    async def body():
        other = await proc_lib.start(special, Special(end="mine"))
        with pytest.raises(ExitError) as caught:
            await proc_lib.stop(other)
        slow = await proc_lib.start(special, Special(takes_s=9.0))
        with pytest.raises(CallTimeoutError):
            await proc_lib.stop(slow, timeout_s=1.0)
        slow.exit_signal(None, "kill")
        return caught.value.reason

    assert inside(body) == "mine"


def test_label_is_shown_until_it_is_taken_away(inside):
    async def body():
        proc_lib.set_label("one")
        first = proc_lib.get_label(self_pid())
        proc_lib.set_label(None)
        return first, proc_lib.get_label(self_pid())

    assert inside(body) == ("one", None)


@pytest.mark.otp("gen_server_SUITE", "format_log_with_process_label")
def test_label_of_a_server_is_in_both_its_reports(runtime):
    class Labelled(GenServer[None]):
        def init(self):
            proc_lib.set_label("pump 7")

        def handle_cast(self, request, state):
            raise ValueError(request)

        def handle_info(self, message, state):
            return NoReply(state)

    seen = []
    runtime.reports.subscribe(seen.append)
    runtime.start(Labelled()).cast("x")
    runtime.run_until_idle()

    labels = [each.label for each in seen if isinstance(each, CrashReport | ServerReport)]
    assert labels == ["pump 7"] * 2
    texts = [proc_lib.format(each) for each in seen]
    assert all("pump 7" in text for text in texts)


def test_reason_of_a_failed_stop_is_plain_as_in_otp(inside):
    async def body():
        reasons = []
        dead = spawn(ends_at_once)
        await dead.runtime.exited(dead)
        for dest in (dead, "nobody"):
            with pytest.raises(NoProcessError) as caught:
                await proc_lib.stop(dest)
            reasons.append(caught.value.reason)
        with pytest.raises(CallingSelfError) as self_called:
            await proc_lib.stop(self_pid())
        return reasons, self_called.value.reason == (
            "calling_self",
            ("sys", "terminate", (self_pid(), "normal", None)),
        )

    async def ends_at_once():
        pass

    reasons, own_is_plain = inside(body)
    assert reasons == ["noproc", "noproc"]
    assert own_is_plain
