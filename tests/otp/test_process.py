import asyncio
import gc
import itertools
import time

import pytest

import otp
from otp import (
    Down,
    Exit,
    ExitError,
    GenServer,
    NameTakenError,
    NoProcessError,
    NoReply,
    ReceiveTimeoutError,
    Reply,
    Runtime,
    cancel_timer,
    demonitor,
    link,
    monitor,
    process_info,
    receive,
    register,
    self_pid,
    send,
    send_after,
    spawn,
    spawn_link,
    start_timer,
    trap_exit,
    unlink,
    unregister,
    whereis,
)
from otp.testing import VirtualRuntime


@pytest.fixture
def play(runtime):
    """Run a coroutine function as a process until everything rests; returns its result."""

    def play(body):
        results = []

        async def process():
            results.append(await body())

        pid = runtime.runtime.spawn(process)
        runtime.advance(60.0)
        assert results, f"the process ended with {pid.exit_reason}"
        return results[0]

    return play


async def idle():
    while True:
        await receive()


async def ends(reason):
    raise ExitError(reason)


async def settled(target):
    """Let everybody run, then say how `target` is: alive, or its exit reason."""
    await asyncio.sleep(0.1)
    return "alive" if target.is_alive() else target.exit_reason


def receiver(trapping, got):
    async def process():
        trap_exit(trapping)
        while True:
            got.append(await receive())

    return process


SIGNALS = [
    # how, not trapping, trapping: the fate, and the reason of the message
    ("normal from another", "alive", "normal"),
    ("kill", "killed", None),
    ("other", "other", "other"),
    ("linked normal", "alive", "normal"),
    ("linked other", "other", "other"),
    ("linked kill", "kill", "kill"),
    ("linked killed", "killed", "killed"),
]


@pytest.mark.parametrize("trapping", [False, True])
@pytest.mark.parametrize(("how", "fate", "message"), SIGNALS, ids=[row[0] for row in SIGNALS])
def test_exit_signal_does_what_the_table_says(play, how, fate, message, trapping):
    got = []

    async def body():
        target = spawn(receiver(trapping, got))
        await asyncio.sleep(0.1)
        kind, _, reason = how.rpartition(" ")
        if kind == "linked" and reason == "killed":
            partner = spawn(idle)
            partner.link(target)
            otp.exit(partner, "kill")
        elif kind == "linked":
            spawn(ends, reason).link(target)
        else:
            otp.exit(target, "normal" if how.startswith("normal") else how)
        return await settled(target)

    result = play(body)

    if not trapping:
        assert (result, got) == (fate, [])
    elif message is None:
        assert result == "killed"
    else:
        assert result == "alive"
        assert [entry.reason for entry in got] == [message]
        assert isinstance(got[0], Exit)


@pytest.mark.parametrize("trapping", [False, True])
def test_exit_of_oneself_with_normal_ends_unless_trapped(play, trapping):
    async def suicidal(got):
        trap_exit(trapping)
        otp.exit(self_pid(), "normal")
        got.append((await receive()).reason)

    async def body():
        got = []
        pid = spawn(suicidal, got)
        return await settled(pid), got

    assert play(body) == ("normal", ["normal"] if trapping else [])


def test_killed_process_is_dead_for_its_killer_at_once(play):
    async def body():
        target = spawn(idle)
        otp.exit(target, "kill")
        return target.is_alive()

    assert play(body) is False


def test_links_are_single_and_symmetric(play):
    async def body():
        trap_exit()
        partner = spawn(idle)
        link(partner)
        link(partner)
        unlink(partner)
        otp.exit(partner, "oops")
        await asyncio.sleep(0.1)
        with pytest.raises(ReceiveTimeoutError):
            await receive(timeout_s=0)
        other = spawn_link(idle)
        otp.exit(other, "oops")
        await asyncio.sleep(0.1)
        unlink(other)
        return await receive(timeout_s=0)

    assert play(body).reason == "oops"


def test_link_to_a_dead_process_raises_or_tells_noproc(play):
    async def body():
        dead = spawn(ends, "gone")
        await asyncio.sleep(0.1)
        with pytest.raises(NoProcessError):
            link(dead)
        trap_exit()
        link(dead)
        return await receive()

    assert play(body).reason == "noproc"


def test_long_chain_of_links_falls_without_recursion(runtime):
    pids = [runtime.runtime.spawn(idle) for _ in range(5000)]
    for left, right in itertools.pairwise(pids):
        left.link(right)
    runtime.run_until_idle()
    pids[0].exit_signal(None, "oops")

    assert {pid.exit_reason for pid in pids} == {"oops"}
    assert runtime.stats().processes == 0


def test_monitors_stack_and_fire_once(play):
    async def body():
        target = spawn(idle)
        refs = [monitor(target), monitor(target), monitor(target)]
        demonitor(refs[1])
        otp.exit(target, "oops")
        downs = [await receive(), await receive()]
        with pytest.raises(ReceiveTimeoutError):
            await receive(timeout_s=1.0)
        return downs == [Down(refs[0], target, "oops"), Down(refs[2], target, "oops")]

    assert play(body)


def test_monitor_of_nobody_tells_noproc_and_flush_removes_it(play):
    async def body():
        first = monitor("nobody")
        told = await receive()
        second = monitor("nobody")
        demonitor(second, flush=True)
        with pytest.raises(ReceiveTimeoutError):
            await receive(timeout_s=1.0)
        return told == Down(first, "nobody", "noproc")

    assert play(body)


def test_dead_owner_leaves_no_monitor_behind(play):
    async def watches(target):
        monitor(target)

    async def body():
        target = spawn(idle)
        spawn(watches, target)
        await asyncio.sleep(0.1)
        return target.monitored_by(), target.watchers

    assert play(body) == ((), {})


def test_receive_takes_the_first_wanted_and_keeps_the_rest_in_order(play):
    async def body():
        me = self_pid()
        for number in (1, 2, 3, 4):
            send(me, number)
        even = await receive(lambda n: n % 2 == 0)
        rest = [await receive() for _ in range(3)]
        with pytest.raises(ReceiveTimeoutError):
            await receive(timeout_s=0)
        return even, rest

    assert play(body) == (2, [1, 3, 4])


def test_receive_timeout_is_not_restarted_by_other_messages(play, runtime):
    async def body():
        begun = runtime.clock()
        for tenth in range(1, 20):
            send_after(self_pid(), tenth / 10, "noise")
        with pytest.raises(ReceiveTimeoutError):
            await receive(lambda message: message == "signal", timeout_s=1.0)
        return runtime.clock() - begun

    assert play(body) == pytest.approx(1.0)


def test_timers_come_in_order_and_never_early(play, runtime):
    async def body():
        begun = runtime.clock()
        for delay in (0.3, 0.1, 0.2):
            send_after(self_pid(), delay, delay)
        cancelled = send_after(self_pid(), 0.15, "never")
        left = cancel_timer(cancelled)
        came = [(await receive(), runtime.clock() - begun) for _ in range(3)]
        return came, left, cancel_timer(cancelled)

    came, left, again = play(body)
    assert [delay for delay, _ in came] == [0.1, 0.2, 0.3]
    assert all(at >= delay - 1e-9 for delay, at in came)
    assert left == pytest.approx(0.15)
    assert again is None


def test_timer_looks_its_name_up_when_it_fires(play):
    async def body():
        send_after("later", 1.0, "hello")
        await asyncio.sleep(0.5)
        register("later", self_pid())
        return await receive()

    assert play(body) == "hello"


def test_many_cancelled_timers_are_swept(runtime):
    pid = runtime.runtime.spawn(idle)
    for _ in range(10):
        timers = [runtime.runtime.send_after(pid, 3600.0, "x") for _ in range(1000)]
        for timer in timers:
            runtime.runtime.cancel_timer(timer)

    assert runtime.stats().timers == 0
    assert len(runtime.runtime.timers._heap) < 1000


def test_names_are_exclusive_and_free_before_the_exit_is_seen(play):
    async def named():
        register("one", self_pid())
        await receive()

    async def body():
        trap_exit()
        for _ in range(20):
            first = spawn_link(named)
            await asyncio.sleep(0.1)
            assert whereis("one") is first
            with pytest.raises(NameTakenError):
                register("one", self_pid())
            otp.exit(first, "kill")
            assert (await receive()).reason == "killed"
            assert whereis("one") is None
        with pytest.raises(NameTakenError):
            unregister("one")
        with pytest.raises(NoProcessError):
            send("one", "badarg")
        return True

    assert play(body)


def test_messages_sent_before_dying_arrive_before_the_exit(play):
    async def dying(parent):
        for number in range(3):
            send(parent, number)
        raise ExitError("bye")

    async def body():
        trap_exit()
        pid = spawn_link(dying, self_pid())
        got = [await receive() for _ in range(4)]
        return got == [0, 1, 2, Exit(pid, "bye")]

    assert play(body)


def test_processes_that_start_each_other_are_freed(runtime):
    async def starts_next(left):
        if left:
            spawn(starts_next, left - 1)
        else:
            await receive()

    first = runtime.runtime.spawn(starts_next, 1000)
    runtime.run_until_idle()
    gc.collect()

    assert runtime.stats().processes == 1
    assert sum(type(found) is type(first) for found in gc.get_objects()) < 50


@pytest.mark.otp("gen_server_SUITE", "call_with_huge_message_queue")
def test_calls_stay_fast_with_a_huge_mailbox(runtime):
    class Echo(GenServer[None]):
        def init(self):
            return None

        def handle_call(self, request, from_, state):
            return Reply(request, state)

    echo = runtime.start(Echo())
    cost_s = []

    async def caller(waiting):
        for number in range(waiting):
            send(self_pid(), number)
        begun = time.perf_counter()
        for number in range(10_000):
            assert await echo.pid.call(number) == number
        cost_s.append(time.perf_counter() - begun)

    for waiting in (0, 500_000):
        runtime.runtime.spawn(caller, waiting)
        runtime.run_until_idle()

    assert cost_s[1] < 10 * cost_s[0]


def test_absolute_time_of_a_message_is_one_of_the_clock(runtime, play):
    async def body():
        send_after(self_pid(), 12.5, "later", absolute=True)
        send_after(self_pid(), 1.0, "past", absolute=True)
        timer = start_timer(self_pid(), 11.0, "first", absolute=True)
        seen = [(await receive(), runtime.clock()) for _ in range(3)]
        return seen == [("past", 10.0), (("timeout", timer, "first"), 11.0), ("later", 12.5)]

    runtime.advance(10.0)
    assert play(body)


@pytest.mark.parametrize("body", [lambda: 5, len, "no function"])
def test_process_that_is_no_async_function_is_refused(runtime, body):
    with pytest.raises(TypeError):
        runtime.runtime.spawn(body)

    assert runtime.stats().processes == 0


def test_refusal_of_a_function_that_is_not_async_names_it(runtime):
    def plain():
        return 5

    with pytest.raises(TypeError, match=r"an async function; .*plain gave 5"):
        runtime.runtime.spawn(plain)


def test_link_to_what_is_no_process_is_refused(play):
    async def body():
        with pytest.raises(TypeError, match="not to 'name'"):
            link("name")
        return "refused"

    assert play(body) == "refused"


def test_uncaught_exception_of_a_plain_process_is_its_reason(play):
    async def crashes():
        raise ValueError("boom")

    async def body():
        return await settled(spawn(crashes))

    reason = play(body)
    assert isinstance(reason.error, ValueError)
    assert reason.stack[-1][2] == "crashes"


def test_process_info_tells_what_is_going_on(play):
    async def body():
        target = spawn_link(idle)
        register("t", target)
        ref = monitor(target)
        await asyncio.sleep(0.1)
        info = process_info(target)
        mine = process_info(self_pid())
        otp.exit(target, "normal")
        unlink(target)
        otp.exit(target, "kill")
        assert ref.label is target
        return info, mine, process_info(target), target, self_pid()

    info, mine, gone, target, me = play(body)
    assert (info.registered_name, info.initial_call, info.status) == ("t", "idle", "waiting")
    assert (info.links, info.monitored_by, info.parent) == ((me,), (me,), me)
    assert (mine.monitors, mine.status, mine.message_queue_len) == ((target,), "running", 0)
    assert gone is None


def test_idle_process_has_no_mailbox_object_task_or_coroutine(runtime):
    class Server(GenServer[int]):
        def init(self):
            return 0

        def handle_cast(self, request, state):
            return NoReply(state + 1)

    handle = runtime.start(Server())
    for _ in range(3):
        handle.cast("x")
    runtime.run_until_idle()

    assert handle.pid.mailbox is None
    assert handle.pid.coro is None
    assert handle.pid._rare is None
    assert asyncio.all_tasks(runtime.loop) == set()


class Noter(GenServer[list]):
    def __init__(self, log, name):
        self.log = log
        self.name = name

    def init(self):
        return None

    def handle_cast(self, request, state):
        self.log.append(self.name)
        return NoReply(state)


def test_long_queue_delays_another_process_by_one_slice_at_most(runtime):
    log = []
    busy, quick = (runtime.start(Noter(log, name)) for name in ("busy", "quick"))
    for _ in range(10_000):
        busy.cast("x")
    quick.cast("x")
    runtime.run_until_idle()

    assert log.index("quick") <= 64
    assert len(log) == 10_001


def test_busy_runtime_lets_the_asyncio_loop_run_every_few_milliseconds():
    class Endless(GenServer[None]):
        def init(self):
            return None

        def handle_cast(self, request, state):
            self.pid.cast(request)
            return NoReply(state)

    async def measure():
        runtime = Runtime()
        pid = runtime.start(Endless())
        pid.cast("go")
        gaps = []
        last = time.perf_counter()
        while len(gaps) < 50:
            await asyncio.sleep(0)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now
        runtime.exit(pid, "kill")
        return sorted(gaps)[25], runtime.stats().messages

    median_s, messages = asyncio.run(measure())

    assert median_s < 0.02
    assert messages > 1000


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_equal_seeds_give_equal_runs(seed):
    assert _story(seed) == _story(seed)


def test_different_seeds_shuffle_who_runs_first():
    assert len({tuple(_story(seed)) for seed in range(5)}) > 1


class Chatter(GenServer[int]):
    """Sends on what it gets, one smaller; waits at times, and crashes at 5."""

    def __init__(self, number, handles, log):
        self.number = number
        self.handles = handles
        self.log = log

    def init(self):
        return 0

    async def handle_cast(self, request, state):
        self.log.append((self.runtime.clock(), self.number, request))
        if request % 3 == 0:
            await asyncio.sleep(0.01 * self.number)
        if request > 0:
            self.handles[(self.number + request) % 10].cast(request - 1)
        if request == 5:
            raise ValueError
        return NoReply(state + 1)


def _story(seed):
    """Ten servers talk, wait and crash; returns what each handled when."""
    runtime = VirtualRuntime(seed)
    log, handles = [], []
    for number in range(10):
        handles.append(runtime.start(Chatter(number, handles, log)))
    for number in range(10):
        handles[number].cast(9 - number)
    runtime.advance(10.0)
    runtime.close()
    return log


def test_filter_that_raises_ends_the_receiver_and_not_the_sender(runtime):
    async def fussy():
        await receive(lambda message: message["key"])

    async def sends():
        send(pid, "no dict")
        await receive()

    pid = runtime.runtime.spawn(fussy)
    runtime.run_until_idle()
    sender = runtime.runtime.spawn(sends)
    runtime.run_until_idle()

    assert isinstance(pid.exit_reason.error, TypeError)
    assert sender.is_alive()


@pytest.mark.parametrize("left", [SystemExit, KeyboardInterrupt])
def test_exit_of_the_program_leaves_the_loop_and_ends_its_process(runtime, left):
    async def leaves():
        raise left

    pid = runtime.runtime.spawn(leaves)

    with pytest.raises(left):
        runtime.run_until_idle()
    assert isinstance(pid.exit_reason.error, left)
