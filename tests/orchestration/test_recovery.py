import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration import recovery
from orchestration.lane import Lane, QueuedUnit
from orchestration.records import TERMINAL, CommandSpec, OnFailure, UnitSpec, UnitState
from rpc.messages import Fault

BUSY = Fault("busy", "it is busy", retryable=True)
INVALID = Fault("invalid", "no such size", retryable=False)
FAIL = OnFailure()
WAIT = OnFailure(strategy="wait", attempts=3, backoff_s=1.0, backoff_max_s=3.0)


def unit(seq=1, *verbs, policy=FAIL, attempt=1):
    commands = tuple(CommandSpec(verb=verb) for verb in verbs or ("set",))
    made = QueuedUnit(
        f"t-{seq}",
        seq,
        UnitSpec(resource="eu/a/r/vm", commands=commands, on_failure=policy),
        1000.0,
    )
    made.attempt = attempt
    return made


def lane(*units):
    made = Lane("eu/a/r/vm")
    for each in units:
        made.append(each)
    return made


@pytest.mark.parametrize(("attempt", "wait_s"), [(1, 1.0), (2, 2.0), (3, 3.0), (4000, 3.0)])
def test_backoff_doubles_up_to_its_limit(attempt, wait_s):
    assert recovery.backoff_s(WAIT, attempt) == wait_s


def test_retryable_failure_waits_for_the_next_attempt():
    verdict = recovery.after_failure(unit(policy=WAIT), BUSY, 2000.0)

    assert (verdict.state, verdict.next_attempt_utc) == (UnitState.PENDING, 2001.0)
    assert verdict.code == "busy"


def test_last_attempt_fails_with_what_went_wrong():
    verdict = recovery.after_failure(unit(policy=WAIT, attempt=3), BUSY, 2000.0)

    assert verdict == recovery.Verdict(UnitState.FAILED, "attempt 3 of 3: it is busy", "busy")


def test_attempts_without_limit_go_on():
    policy = OnFailure(strategy="wait", attempts=0)

    verdict = recovery.after_failure(unit(policy=policy, attempt=999), BUSY, 2000.0)

    assert verdict.state is UnitState.PENDING


@pytest.mark.parametrize(("policy", "fault"), [(WAIT, INVALID), (OnFailure(), BUSY), (WAIT, None)])
def test_final_failure_and_strategy_fail_end_the_unit(policy, fault):
    assert recovery.after_failure(unit(policy=policy), fault, 2000.0).state is UnitState.FAILED


def test_attempt_that_would_come_after_the_deadline_is_not_waited_for():
    policy = OnFailure(strategy="wait", attempts=0, backoff_s=10.0, deadline_s=60.0)

    assert recovery.after_failure(unit(policy=policy), BUSY, 1049.0).state is UnitState.PENDING
    assert recovery.after_failure(unit(policy=policy), BUSY, 1050.0).state is UnitState.FAILED


def test_unit_found_applied_has_succeeded_however_often_it_crashed():
    poison = unit()
    poison.crashes = 9

    assert recovery.after_settling(poison, 1, 3).state is UnitState.SUCCEEDED


def test_unit_that_crashed_its_process_too_often_is_quarantined():
    poison = unit()
    poison.crashes, poison.reason = 3, "ValueError: boom"

    verdict = recovery.after_settling(poison, 0, 3)

    assert verdict.state is UnitState.QUARANTINED
    assert "boom" in verdict.reason


def test_unit_under_which_its_pod_died_too_often_is_quarantined_unless_it_is_found_applied():
    poison = unit()
    poison.reason = "eu/a/r was lost: killed by SIGSEGV"
    states = []
    for losses in (recovery.POD_LOSSES_LIMIT - 1, recovery.POD_LOSSES_LIMIT):
        poison.pod_losses = losses
        states.append(recovery.after_settling(poison, 0, 3).state)

    verdict = recovery.after_settling(poison, 0, 3)

    assert states == [UnitState.PENDING, UnitState.QUARANTINED]
    assert verdict.code == "pod_lost"
    assert verdict.reason == (
        "its pod died 5 times while it was executing: eu/a/r was lost: killed by SIGSEGV"
    )
    assert recovery.after_settling(poison, 1, 3).state is UnitState.SUCCEEDED


@pytest.mark.parametrize(
    ("state", "before", "is_blamed"),
    [
        (UnitState.EXECUTING, (1, 2, 4), True),
        (UnitState.DISPATCHED, (1, 2, 4), False),
        (UnitState.IN_DOUBT, (1, 2, 4), False),
        (UnitState.EXECUTING, (1, 3, 1), False),
        (UnitState.EXECUTING, (2, 2, 4), False),
    ],
)
def test_only_a_begun_unit_is_blamed_and_only_for_a_death_of_its_pod_alone(
    state, before, is_blamed
):
    begun = unit()
    begun.state, begun.epoch = state, (1, 2, 3, 1)

    assert recovery.is_blamed(begun, before) is is_blamed


def test_unit_not_applied_is_tried_again_without_any_wait():
    verdict = recovery.after_settling(unit(1, "set", "set"), 1, 3)

    assert (verdict.state, verdict.next_attempt_utc) == (UnitState.PENDING, None)


def test_unit_overtaken_before_its_pod_died_is_not_run_behind_its_successor():
    assert recovery.after_settling(unit(), 0, 3, overtaken=True).state is UnitState.FAILED


def test_cancelled_unit_ends_as_soon_as_it_is_not_at_the_device():
    asked = unit(policy=WAIT)
    asked.cancelling = True

    assert recovery.after_return(asked, "flushed").state is UnitState.CANCELLED
    assert recovery.after_failure(asked, BUSY, 2000.0).state is UnitState.CANCELLED
    assert recovery.after_settling(asked, 0, 3).state is UnitState.CANCELLED


def test_destroy_supersedes_the_create_queued_directly_before_it():
    create, destroy = unit(1, "create", attempt=0), unit(2, "destroy", attempt=0)

    assert recovery.superseded_by(lane(create, destroy), destroy, exists=False) is create


def test_destroy_of_an_existing_device_supersedes_nothing():
    create, destroy = unit(1, "create", attempt=0), unit(2, "destroy", attempt=0)

    assert recovery.superseded_by(lane(create, destroy), destroy, exists=True) is None


@pytest.mark.parametrize(
    "create",
    [
        unit(1, "create", attempt=1),
        unit(1, "define", attempt=0),
        unit(1, "create", "start", attempt=0),
    ],
)
def test_create_that_was_tried_or_is_more_than_a_create_is_not_superseded(create):
    destroy = unit(2, "destroy", attempt=0)

    assert recovery.superseded_by(lane(create, destroy), destroy, exists=False) is None


def test_create_behind_other_work_is_not_superseded():
    first, create = unit(1, "set", attempt=0), unit(2, "create", attempt=0)
    destroy = unit(3, "destroy", attempt=0)

    assert recovery.superseded_by(lane(first, create, destroy), destroy, exists=False) is None


LIVE = [state for state in UnitState if state not in TERMINAL]
UNITS = st.lists(
    st.tuples(st.sampled_from(LIVE), st.booleans(), st.booleans(), st.booleans()), max_size=12
)


@given(UNITS, st.integers(1, 6))
def test_nothing_is_due_behind_a_unit_that_must_end_first(drawn, window):
    units = []
    for seq, (state, waits, is_early, is_old) in enumerate(drawn):
        each = unit(seq, policy=WAIT if waits else OnFailure())
        each.state = state
        each.next_attempt_utc = 5000.0 if is_early and state is UnitState.PENDING else None
        each.epoch = (1,) if is_old else (2,)
        units.append(each)

    due = lane(*units).due(2000.0, window, (2,))

    assert len(due) + sum(each.at_the_pod for each in units[: _after(units, due)]) <= window
    for each in due:
        assert each.state is UnitState.PENDING
        assert each.next_attempt_utc is None
        for before in units[: each.seq]:
            assert not before.waits
            assert before in due or (before.at_the_pod and before.epoch == (2,))


def _after(units, due):
    return due[-1].seq if due else 0


@pytest.mark.parametrize(("seq", "before"), [(1, 0), (2, 1), (5, 2), (6, 3), (9, 3)])
def test_units_in_front_of_a_number_are_counted(seq, before):
    assert lane(unit(1), unit(3), unit(5)).before(seq) == before
