import sqlite3
from contextlib import closing

import pytest

from orchestration.journal.contract import UnitNow
from orchestration.journal.reader import SqliteReader
from orchestration.journal.store import Accept, SqliteStore
from orchestration.records import CommandSpec, EventRecord, UnitSpec
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
        (10, ("unit.executing", "u2", (1, 1, 1, 2), {"attempt": 1}), "steps"),
        (11, ("unit.dispatched", "u2", (1, 1, 1, 2), {"attempt": 1}), "steps"),
        (11, ("unit.succeeded", "u2", (1, 1, 1, 2), {"attempt": 1}), "steps"),
        (10, ("unit.in_doubt", "u2", (1, 1, 1, 2), {"attempt": 1}), "steps"),
        (12, ("unit.quarantined", "u2", (1, 1, 1, 2), {"attempt": 1}), "steps"),
        (12, ("unit.superseded", "u2", (1, 1, 1, 2), {"attempt": 1}), "steps"),
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


def against_table(lines, table):
    answer = verify([log(lines)], NOTHING, table)
    return next(promise for promise in answer.invariants if promise.name == "I1")


def row(unit, state="succeeded"):
    return UnitNow(unit, state)


def test_units_as_the_log_leaves_them_keep_the_promise():
    promise = against_table(GOOD, [row("u1"), row("u2")])

    assert promise.holds
    assert against_table(GOOD[:6], [row("u1", "executing"), row("u2", "dispatched")]).holds


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ([row("u1"), row("u2", "failed")], ["u2", "failed", "succeeded"]),
        ([row("u1"), row("u2", "executing")], ["u2", "executing", "succeeded"]),
        ([row("u1"), row("u2"), row("u3", "pending")], ["u3", "pending"]),
        ([row("u1")], ["u2"]),
        ([], ["u1", "u2"]),
    ],
)
def test_units_other_than_the_log_leaves_them_break_the_promise(table, names):
    promise = against_table(GOOD, table)

    assert not promise.holds
    text = " ".join(promise.violations)
    assert all(name in text for name in names)


@pytest.mark.parametrize("kept", range(len(GOOD)))
def test_log_that_ends_too_early_is_found_if_a_unit_went_on(kept):
    lost = any(kind.startswith("unit.") for kind, *_ in GOOD[kept:])

    assert against_table(GOOD[:kept], [row("u1"), row("u2")]).holds is not lost


def test_terminal_event_that_was_changed_is_found():
    changed = [*GOOD[:-1], ("unit.failed", *GOOD[-1][1:])]

    assert not against_table(changed, [row("u1"), row("u2")]).holds


def test_unit_that_is_open_in_the_log_and_unknown_to_the_table_is_found():
    promise = against_table(GOOD[:6], [row("u1", "executing")])

    assert [text.partition(" ")[0] for text in promise.violations] == ["u2"]


def test_unit_that_is_accepted_a_second_time_is_found():
    assert "I1" in judged([*GOOD, GOOD[0]])[1]


@pytest.mark.parametrize(
    "tampering",
    [
        "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)",
        "UPDATE units SET state = 'failed' WHERE seq = 1",
        "DELETE FROM units WHERE seq = 2",
    ],
)
def test_file_that_was_tampered_with_is_found_by_its_own_tables(tmp_path, tampering):
    path = tmp_path / "journal.db"
    store = SqliteStore(path)
    spec = UnitSpec(resource="eu/a/r/vm", commands=(CommandSpec(verb="set"),))
    store.commit([Accept((spec, spec), (), 0, 1.0)])

    def promise():
        with closing(SqliteReader(path, store.tag)) as reader, reader.replay(1) as replay:
            return verify(replay.events(), NOTHING, replay.units()).invariants[0]

    before = promise()
    with sqlite3.connect(path) as connection:
        connection.execute(tampering)
    connection.close()

    assert before.holds
    assert not promise().holds
    store.close()
