from hypothesis import given
from hypothesis import strategies as st

from otp.distribution.heartbeat import BEAT_S, LIMIT_S, Heartbeats, is_starved
from otp.distribution.process_control import ProcessStatus


def watched(*keys, now=100.0):
    hearts = Heartbeats(now)
    for key in keys:
        hearts.expect(key, now)
    return hearts


def check_until(hearts, start, end):
    """Check at every beat, as the loop does; returns what the last check found."""
    overdue, now = [], start
    while now < end:
        now = min(now + BEAT_S, end)
        overdue = hearts.check(now)
    return overdue


def test_peer_is_overdue_only_after_the_limit():
    hearts = watched("a")

    assert check_until(hearts, 100.0, 100.0 + LIMIT_S) == []
    assert check_until(hearts, 100.0 + LIMIT_S, 100.1 + LIMIT_S) == ["a"]


def test_peer_that_beats_is_never_overdue():
    hearts = watched("a", "b")
    overdue = []
    for step in range(1, 100):
        now = 100.0 + step * BEAT_S
        hearts.hear("a", now)
        overdue = hearts.check(now)

    assert overdue == ["b"]


def test_grace_puts_the_first_beat_off():
    hearts = Heartbeats(100.0)
    hearts.expect("a", 100.0, grace_s=10.0)

    assert check_until(hearts, 100.0, 111.9) == []
    assert check_until(hearts, 111.9, 112.1) == ["a"]


def test_watcher_that_was_stopped_blames_nobody():
    hearts = watched("a")
    check_until(hearts, 100.0, 100.0 + BEAT_S)

    assert hearts.check(161.0) == []
    assert check_until(hearts, 161.0, 161.0 + LIMIT_S / 2) == []


def test_peer_dead_before_the_watchers_stall_is_found_soon_after():
    hearts = watched("a")
    check_until(hearts, 100.0, 101.9)
    hearts.check(161.0)

    assert check_until(hearts, 161.0, 162.0) == ["a"]


def test_forgotten_peer_is_not_overdue():
    hearts = watched("a")
    hearts.forget("a")
    hearts.hear("a", 100.5)

    assert check_until(hearts, 100.0, 110.0) == []


@given(st.lists(st.floats(min_value=0.01, max_value=100.0), min_size=1, max_size=50))
def test_no_pattern_of_late_checks_kills_a_peer_that_beats_between_them(gaps):
    hearts, now = watched("a", now=0.0), 0.0
    for gap in gaps:
        now += gap
        assert hearts.check(now) == []
        hearts.hear("a", now)


def sample(state, cpu_s):
    return ProcessStatus(pid=1, parent=1, state=state, cpu_s=cpu_s, started=0)


def test_runnable_process_without_a_processor_is_starved_not_dead():
    assert is_starved(sample("S", 1.0), sample("R", 1.1), elapsed_s=1.0, silent_s=2.0)


def test_spinning_process_is_not_starved():
    assert not is_starved(sample("R", 1.0), sample("R", 1.9), elapsed_s=1.0, silent_s=2.0)


def test_sleeping_or_stopped_process_is_not_starved():
    for state in "ST":
        assert not is_starved(sample(state, 1.0), sample(state, 1.0), elapsed_s=1.0, silent_s=2.0)


def test_nobody_is_starved_for_ever():
    assert not is_starved(sample("S", 1.0), sample("R", 1.0), elapsed_s=9.0, silent_s=10.1)
