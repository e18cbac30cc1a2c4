import pytest

from orchestration.records import EventRecord
from orchestration.verify import Difference, Present, verify

GOOD = [
    ("unit.pending", "u1", (), {}),
    ("unit.pending", "u2", (), {}),
    ("resource.ready", "", (1, 1, 1, 1), {}),
    ("unit.dispatched", "u1", (1, 1, 1, 1), {"attempt": 1}),
    ("unit.dispatched", "u2", (1, 1, 1, 1), {"attempt": 1}),
    ("unit.executing", "u1", (1, 1, 1, 1), {"attempt": 1}),
    ("unit.in_doubt", "u1", (1, 1, 1, 1), {"attempt": 1, "cause": "eu/a/r/vm"}),
    ("unit.pending", "u2", (1, 1, 1, 1), {"attempt": 0, "reason": "flushed"}),
    ("unit.succeeded", "u1", (1, 1, 1, 1), {"attempt": 1, "reason": "found applied"}),
    ("resource.ready", "", (1, 1, 1, 2), {}),
    ("unit.dispatched", "u2", (1, 1, 1, 2), {"attempt": 1}),
    ("unit.executing", "u2", (1, 1, 1, 2), {"attempt": 1}),
    ("unit.succeeded", "u2", (1, 1, 1, 2), {"attempt": 1}),
]

NOTHING = Present()


def log(lines, resource="eu/a/r/vm"):
    return [
        EventRecord(
            seq=n,
            at_utc=1.0,
            kind=kind,
            subject=subject or resource,
            resource=resource,
            epoch=epoch,
            detail=detail,
        )
        for n, (kind, subject, epoch, detail) in enumerate(lines, start=1)
    ]


def judged(lines, present=NOTHING):
    answer = verify([log(lines)], present)
    return answer, {promise.name for promise in answer.invariants if not promise.holds}


def test_log_with_a_crash_and_its_recovery_keeps_every_promise():
    answer, broken = judged(GOOD)

    assert (answer.holds, broken) == (True, set())
    assert (answer.events, answer.units, answer.unfinished) == (13, 2, 0)
    counts = {promise.name: promise.checked for promise in answer.invariants}
    assert counts["I2"] == 2
    assert counts["order"] == 2
    assert counts["isolation"] == 1


def test_unfinished_work_is_counted_and_breaks_nothing():
    answer, broken = judged(GOOD[:6])

    assert (answer.unfinished, broken) == (2, set())


@pytest.mark.parametrize(
    ("position", "line", "promise"),
    [
        (13, ("unit.failed", "u2", (1, 1, 1, 2), {"attempt": 1}), "I1"),
        (13, ("unit.executing", "u1", (1, 1, 1, 2), {"attempt": 1}), "I1"),
        (0, ("unit.executing", "u9", (1, 1, 1, 1), {"attempt": 1}), "I1"),
        (6, ("unit.executing", "u2", (1, 1, 1, 1), {"attempt": 1}), "I2"),
        (5, ("unit.executing", "u2", (1, 1, 1, 1), {"attempt": 1}), "order"),
        (10, ("unit.dispatched", "u2", (1, 1, 1, 1), {"attempt": 1}), "I3"),
        (10, ("resource.ready", "", (1, 1, 1, 1), {}), "I3"),
        (6, ("unit.in_doubt", "u1", (1, 1, 1, 1), {"attempt": 1, "cause": "eu/b"}), "isolation"),
    ],
)
def test_every_broken_promise_is_found(position, line, promise):
    answer, broken = judged([*GOOD[:position], line, *GOOD[position:]])

    assert promise in broken
    assert not answer.holds


def test_executing_behind_a_unit_in_doubt_is_found():
    _, broken = judged(
        [*GOOD[:7], ("unit.executing", "u2", (1, 1, 1, 1), {"attempt": 1}), *GOOD[8:]]
    )

    assert {"I2", "order"} <= broken


def test_event_out_of_number_is_found():
    events = log(GOOD)

    answer = verify([[*events[:5], *events[3:]]], Present())

    assert "log" in {promise.name for promise in answer.invariants if not promise.holds}


@pytest.mark.parametrize("missing", range(len(GOOD) - 1))
def test_every_event_taken_out_of_the_log_is_missed(missing):
    events = log(GOOD)

    answer = verify([[*events[:missing], *events[missing + 1 :]]], NOTHING)

    assert "log" in {promise.name for promise in answer.invariants if not promise.holds}


def test_difference_breaks_the_promise_only_if_the_view_hides_it():
    listed = Present(5, [Difference("eu/a/r/vm", 2.0, is_listed=True)])
    hidden = Present(5, [Difference("eu/a/r/vm", 2.0, is_listed=False)])

    assert judged(GOOD, listed)[1] == set()
    assert judged(GOOD, hidden)[1] == {"I5"}


@pytest.mark.parametrize("kind", ["unit.dispatched", "unit.pending"])
def test_unit_that_is_begun_after_its_cancellation_breaks_the_promise(kind):
    lines = [*GOOD[:6], ("unit.cancel_requested", "u1", (1, 1, 1, 1), {"attempt": 1})]
    again = (kind, "u1", (1, 1, 1, 1), {"attempt": 2})

    _, broken = judged([*lines, ("unit.cancelled", "u1", (1, 1, 1, 1), {"attempt": 1})])
    assert broken == set()
    assert "cancel" in judged([*lines, again])[1]
