"""The timer module, and the timers of `otp.erlang` that it leaves out."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otp import (
    INFINITY,
    CrashReport,
    cancel_timer,
    read_timer,
    receive,
    register,
    self_pid,
    send,
    send_after,
    spawn,
    start_timer,
    timer,
    trap_exit,
)
from otp.testing import VirtualRuntime


@pytest.fixture
def clock(runtime):
    return runtime.clock


async def idle():
    await receive(lambda _: False)


async def drain(timeout_s=0.0):
    got = []
    await timer.sleep(timeout_s)
    while self_pid().queue_length():
        got.append(await receive())
    return got


def test_negative_time_fires_at_once(inside):
    async def body():
        send_after(self_pid(), -1.0, "plain")
        timer.send_after(-1.0, self_pid(), "of the module")
        return await drain()

    assert inside(body) == ["plain", "of the module"]


def test_start_timer_names_itself_in_its_message(inside):
    async def body():
        ref = start_timer(self_pid(), 2.0, "tea")
        await timer.sleep(0.5)
        assert read_timer(ref) == 1.5
        assert await receive() == ("timeout", ref, "tea")
        assert read_timer(ref) is None
        assert cancel_timer(ref) is None
        other = start_timer(self_pid(), 2.0, "never")
        assert cancel_timer(other) == 2.0
        assert read_timer(other) is None
        assert await drain(5.0) == []

    inside(body)


def test_start_timer_looks_a_name_up_when_it_fires(inside):
    async def body():
        start_timer("late", 1.0, "hello")
        await timer.sleep(0.9)
        register("late", self_pid())
        assert (await receive())[2] == "hello"

    inside(body)


def test_apply_after_runs_once_in_a_process_of_its_own(inside, clock):
    async def body():
        me = self_pid()
        timer.apply_after(1.5, lambda word: me.send((word, self_pid(), clock())), "now")
        word, pid, when = await receive()
        assert (word, when) == ("now", 1.5)
        assert pid is not me
        assert await drain(5.0) == []

    inside(body)


def test_apply_after_outlives_its_caller(inside, runtime):
    ran = []

    async def body():
        timer.apply_after(1.0, ran.append, 1)

    inside(body)
    runtime.advance(0.75)
    assert ran == []
    runtime.advance(0.25)
    assert ran == [1]


def test_send_after_delivers_the_message_and_drops_one_to_a_dead_process(inside):
    async def body():
        dead = spawn(asyncio.sleep, 0)
        timer.send_after(1.0, dead, "lost")
        timer.send_after(1.0, "nobody", "lost")
        timer.send_after(1.0, self_pid(), "found")
        assert await drain(2.0) == ["found"]

    inside(body)


def test_exit_after_and_kill_after_send_their_signals(inside):
    async def body():
        trap_exit()
        timer.exit_after(1.0, self_pid(), "enough")
        assert (await receive()).reason == "enough"
        one, two = spawn(idle), spawn(idle)
        timer.exit_after(1.0, one, "enough")
        timer.kill_after(1.0, two)
        await timer.sleep(0.9)
        assert one.is_alive()
        await timer.sleep(0.1)
        assert (one.exit_reason, two.exit_reason) == ("enough", "killed")

    inside(body)


def test_kill_after_without_a_target_kills_the_caller(runtime):
    async def body():
        trap_exit()
        timer.kill_after(1.0)
        await idle()

    pid = runtime.runtime.spawn(body)
    runtime.advance(1.0)
    assert pid.exit_reason == "killed"


@settings(max_examples=40, deadline=None)
@given(
    period_s=st.sampled_from([0.1, 0.3, 1.0, 7.0]),
    jumps=st.lists(st.sampled_from([0.05, 0.1, 0.7, 3.0]), min_size=1),
)
def test_interval_ticks_at_start_plus_n_periods(period_s, jumps):
    runtime = VirtualRuntime()
    ticks = []

    async def body():
        timer.apply_interval(period_s, lambda: ticks.append(runtime.clock()))
        await idle()

    runtime.runtime.spawn(body)
    runtime.run_until_idle()
    for jump in jumps:
        runtime.advance(jump)

    full = [n * period_s for n in range(1, len(ticks) + 2)]
    assert ticks == pytest.approx(full[:-1], abs=1e-6)
    assert full[-1] > runtime.clock() - 1e-6
    runtime.close()


def test_interval_does_not_drift_when_the_clock_stalls(runtime):
    """The clock is the loop's, which may be late; the ticks it missed follow at once, the next is on time."""
    now = [0.0]
    runtime.runtime.timers._clock = lambda: now[0]
    runtime.runtime.clock = lambda: now[0]
    ticks = []

    async def body():
        timer.apply_interval(1.0, lambda: ticks.append(now[0]))
        await idle()

    runtime.runtime.spawn(body)
    runtime.run_until_idle()
    for late in (1.25, 4.5, 4.75, 5.0, 6.25):
        now[0] = late
        runtime.runtime.timers.fire()
        runtime.run_until_idle()

    assert ticks == [1.25, 4.5, 4.5, 4.5, 5.0, 6.25]


def test_a_crash_in_the_function_does_not_stop_the_interval(inside, runtime):
    runs = []
    reports = []
    runtime.reports.subscribe(reports.append)

    def bad():
        runs.append(runtime.clock())
        raise ValueError(len(runs))

    async def body():
        timer.apply_interval(1.0, bad)
        await timer.sleep(3.5)

    inside(body)
    assert runs == [1.0, 2.0, 3.0]
    assert [type(report) for report in reports] == [CrashReport] * 3


@pytest.mark.parametrize("start", [timer.apply_interval, timer.apply_repeatedly])
def test_apply_stops_when_its_caller_ends(inside, runtime, start):
    runs = []

    async def body():
        start(1.0, runs.append, 1)
        await timer.sleep(2.5)

    inside(body)
    runtime.advance(10.0)
    assert runs == [1, 1]
    assert runtime.stats().timers == 0


def test_send_interval_stops_with_its_target_and_not_with_its_caller(runtime):
    got = []

    async def target():
        while True:
            got.append(await receive())

    async def starter(dest):
        timer.send_interval(1.0, dest, "tick")

    pid = runtime.runtime.spawn(target)
    runtime.runtime.register("target", pid)
    runtime.runtime.spawn(starter, pid)
    runtime.runtime.spawn(starter, "target")
    runtime.advance(3.0)
    assert got == ["tick"] * 6

    runtime.runtime.exit(pid, "kill")
    runtime.runtime.spawn(starter, pid)  # dead already
    runtime.runtime.spawn(starter, "target")
    runtime.advance(3.0)
    assert len(got) == 6
    assert runtime.stats().timers == 0


def test_apply_repeatedly_waits_for_the_run_before_and_catches_up(inside, clock):
    spans = []
    lengths = [2.5, 0.25, 0.25, 0.25, 0.25]

    async def work():
        begun = clock()
        await timer.sleep(lengths[len(spans)] if len(spans) < len(lengths) else 0.0)
        spans.append((begun, clock()))

    async def body():
        timer.apply_repeatedly(1.0, work)
        await timer.sleep(5.5)

    inside(body)
    assert spans == [(1.0, 3.5), (3.5, 3.75), (3.75, 4.0), (4.0, 4.25), (5.0, 5.25)]


def test_apply_repeatedly_goes_on_after_a_crash(inside):
    runs = []

    async def bad():
        runs.append(1)
        raise ValueError

    async def body():
        timer.apply_repeatedly(1.0, bad)
        await timer.sleep(3.5)

    inside(body)
    assert len(runs) == 3


def test_cancel_stops_any_timer_and_is_fine_with_one_that_is_over(inside, runtime):
    async def body():
        me = self_pid()
        running = [
            timer.send_after(1.0, me, "never"),
            timer.apply_after(1.0, send, me, "never"),
            timer.kill_after(1.0),
            timer.send_interval(1.0, me, "never"),
            timer.apply_interval(1.0, me.send, "never"),
            timer.apply_repeatedly(1.0, me.send, "never"),
        ]
        over = timer.send_after(0.5, me, "sent")
        assert await receive() == "sent"
        for each in [*running, over, over, running[0]]:
            timer.cancel(each)
        assert runtime.stats().timers == 0
        assert await drain(5.0) == []

    inside(body)


def test_cancel_while_a_repeated_function_runs_lets_it_end(inside):
    ends = []

    async def work():
        await timer.sleep(3.0)
        ends.append(1)

    async def body():
        repeated = timer.apply_repeatedly(1.0, work)
        await timer.sleep(2.0)
        timer.cancel(repeated)
        await timer.sleep(20.0)

    inside(body)
    assert ends == [1]


def test_cancel_refuses_what_is_no_timer_of_the_module(inside):
    async def body():
        timer.cancel(start_timer(self_pid(), 1.0, "x"))

    with pytest.raises(TypeError, match="what this module gave"):
        inside(body)


@pytest.mark.parametrize("period_s", [0.0, -1.0, INFINITY, float("nan")])
def test_an_interval_needs_a_positive_period(inside, period_s):
    async def body():
        timer.send_interval(period_s, self_pid(), "x")

    with pytest.raises(ValueError, match="an interval of"):
        inside(body)


def test_sleep_leaves_messages_in_the_mailbox(inside, clock):
    async def body():
        send(self_pid(), "early")
        timer.send_after(0.5, self_pid(), "late")
        await timer.sleep(1.0)
        assert clock() == 1.0
        assert await drain() == ["early", "late"]

    inside(body)


def test_sleep_for_ever_ends_with_the_process_and_keeps_no_timer(runtime):
    pids = [runtime.runtime.spawn(timer.sleep, INFINITY), runtime.runtime.spawn(timer.sleep, 9e9)]
    runtime.advance(1e6)
    assert runtime.stats().timers == 1
    for pid in pids:
        runtime.runtime.exit(pid, "stop")

    assert [pid.exit_reason for pid in pids] == ["stop", "stop"]
    assert runtime.stats().timers == 0


def test_tc_gives_seconds_and_result(inside):
    async def work(seconds):
        await timer.sleep(seconds)
        return "done"

    async def body():
        assert await timer.tc(work, 2.5) == (2.5, "done")
        assert await timer.tc(max, 1, 2) == (0.0, 2)

    inside(body)
