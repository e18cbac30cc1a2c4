"""Every journal keeps these promises; a new implementation is one more line in `JOURNALS`."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestration.journal.contract import (
    Acceptance,
    Changes,
    Committed,
    EpochTakenError,
    IdempotencyError,
    Journal,
    JournalInUseError,
    ResourceRow,
    RevisionError,
)
from orchestration.journal.sqlite import SqliteJournal
from orchestration.records import CommandSpec, OnFailure, UnitSpec, UnitState

JOURNALS: dict[str, Callable[[Path], Journal]] = {
    "sqlite": lambda folder: SqliteJournal(folder / "journal.db"),
}


class Opened:
    """A journal with everything it has told, opened again on the same storage by `again`."""

    def __init__(self, make: Callable[[], Journal]) -> None:
        self._make = make
        self.acceptances: list[Acceptance] = []
        self.batches: list[Committed] = []
        self.journal = make()

    def open(self) -> Journal:
        self.journal.open(self.acceptances.append, self.batches.append)
        return self.journal

    async def again(self) -> Journal:
        await self.journal.close()
        self.journal = self._make()
        return self.open()

    def another(self) -> Journal:
        return self._make()


@pytest.fixture(params=JOURNALS)
async def opened(request, tmp_path):
    holder = Opened(lambda: JOURNALS[request.param](tmp_path))
    holder.open()
    await holder.journal.save_infrastructure(b"{}", expected=0, changes=Changes(), at_utc=1.0)
    yield holder
    await holder.journal.close()


def spec(resource="eu/a/r/vm-1", key=None, **params):
    return UnitSpec(
        resource=resource,
        commands=(CommandSpec(verb="set", params=params),),
        idempotency_key=key,
    )


async def accept(journal, *specs, revision=1, on_demand=()):
    return await journal.accept(specs, on_demand=on_demand, revision=revision, at_utc=5.0)


def transition(journal, seq, state, *, epoch="[1]"):
    changes = Changes()
    changes.units[seq] = (seq, state.value, 1, 2, 3, epoch, "why", "busy", 6.0, 7.0)
    changes.events.append(
        (6.0, f"unit.{state.value}", journal.unit_id(seq), "eu/a/r/vm-1", epoch, '{"attempt":2}')
    )
    return changes


async def record(journal, changes):
    done = asyncio.get_running_loop().create_future()
    journal.record(changes, lambda: done.set_result(None))
    await done


async def test_accepted_unit_is_pending_and_survives_reopening(opened):
    failure = OnFailure(strategy="wait", attempts=0)
    asked = UnitSpec(
        resource="eu/a/r/vm-1",
        commands=(CommandSpec(verb="create", params={"memory": "1GiB"}), CommandSpec(verb="start")),
        on_failure=failure,
        command_deadline_s=2.5,
    )
    (answer,) = await accept(opened.journal, asked)

    unit = (await opened.again()).unit(answer.seq)

    assert (unit.state, unit.resource, unit.commands) == (
        UnitState.PENDING,
        asked.resource,
        asked.commands,
    )
    assert (unit.on_failure, unit.command_deadline_s, unit.accepted_utc) == (failure, 2.5, 5.0)


async def test_acceptance_is_told_before_the_answer_is_out(opened):
    answers = await accept(opened.journal, spec(), spec("eu/a/r/vm-2"))

    (told,) = opened.acceptances
    assert list(told.answers) == answers
    assert [unit.resource for unit in told.specs] == ["eu/a/r/vm-1", "eu/a/r/vm-2"]


async def test_acceptances_are_told_in_order_of_their_numbers(opened):
    await asyncio.gather(*(accept(opened.journal, spec(n=n)) for n in range(50)))

    numbers = [answer.seq for told in opened.acceptances for answer in told.answers]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == 50


async def test_concurrent_submits_with_one_key_get_one_unit(opened):
    answers = await asyncio.gather(*(accept(opened.journal, spec(key="k")) for _ in range(20)))

    assert {answer.seq for (answer,) in answers} == {answers[0][0].seq}
    assert sum(not answer.replayed for (answer,) in answers) == 1
    assert opened.journal.counts() == {UnitState.PENDING: 1}


async def test_key_is_known_after_reopening_and_shows_the_state(opened):
    ((first,),) = [await accept(opened.journal, spec(key="k"))]
    await record(opened.journal, transition(opened.journal, first.seq, UnitState.SUCCEEDED))

    (again,) = await accept(await opened.again(), spec(key="k"))

    assert (again.seq, again.replayed, again.state) == (first.seq, True, UnitState.SUCCEEDED)


async def test_key_with_another_body_is_refused_and_keeps_nothing(opened):
    await accept(opened.journal, spec(key="k", n=1))

    with pytest.raises(IdempotencyError) as raised:
        await accept(opened.journal, spec(), spec(key="k", n=2))

    assert (raised.value.index, raised.value.key) == (1, "k")
    assert opened.journal.counts() == {UnitState.PENDING: 1}


async def test_key_repeated_in_one_request_is_one_unit(opened):
    first, second = await accept(opened.journal, spec(key="k"), spec(key="k"))

    assert (second.seq, second.replayed) == (first.seq, True)


async def test_accept_against_an_older_revision_is_refused(opened):
    await opened.journal.save_infrastructure(b"{}", expected=1, changes=Changes(), at_utc=2.0)

    with pytest.raises(RevisionError) as raised:
        await accept(opened.journal, spec(), revision=1)

    assert raised.value.current == 2
    assert opened.journal.counts() == {}


async def test_refused_request_does_not_hurt_its_neighbours(opened):
    results = await asyncio.gather(
        accept(opened.journal, spec(n=1)),
        accept(opened.journal, spec(n=2), revision=9),
        accept(opened.journal, spec(n=3)),
        return_exceptions=True,
    )

    assert isinstance(results[1], RevisionError)
    assert opened.journal.counts() == {UnitState.PENDING: 2}


async def test_number_of_pod_losses_is_durable_and_the_last_one_counts(opened):
    (answer,) = await accept(opened.journal, spec())
    for losses in (1, 2):
        changes = Changes()
        changes.pod_losses[answer.seq] = losses
        await record(opened.journal, changes)

    journal = await opened.again()

    assert [unit.pod_losses for unit in journal.open_units()] == [2]


async def test_transition_and_event_are_durable_together(opened):
    (answer,) = await accept(opened.journal, spec())
    await record(opened.journal, transition(opened.journal, answer.seq, UnitState.IN_DOUBT))

    journal = await opened.again()

    unit = journal.unit(answer.seq)
    assert (unit.state, unit.completed, unit.attempt, unit.crashes) == (UnitState.IN_DOUBT, 1, 2, 3)
    assert (unit.epoch, unit.reason, unit.code) == ((1,), "why", "busy")
    assert (unit.changed_utc, unit.next_attempt_utc) == (6.0, 7.0)
    last = journal.events(after=0, limit=100)[-1]
    assert (last.kind, last.subject, last.detail) == (
        "unit.in_doubt",
        journal.unit_id(answer.seq),
        {"attempt": 2},
    )


async def test_two_transitions_in_one_record_leave_both_events(opened):
    (answer,) = await accept(opened.journal, spec())
    changes = transition(opened.journal, answer.seq, UnitState.EXECUTING)
    changes.events += transition(opened.journal, answer.seq, UnitState.SUCCEEDED).events
    changes.units |= transition(opened.journal, answer.seq, UnitState.SUCCEEDED).units
    await record(opened.journal, changes)

    kinds = [event.kind for event in opened.journal.events(after=0, limit=100)]
    assert kinds == ["unit.pending", "unit.executing", "unit.succeeded"]
    assert opened.journal.unit(answer.seq).state is UnitState.SUCCEEDED


async def test_event_numbers_rise_by_one_and_are_told_as_stored(opened):
    for n in range(5):
        await accept(opened.journal, spec(n=n), spec(n=n))
    journal = await opened.again()
    await accept(journal, spec())

    stored = journal.events(after=0, limit=100)
    assert [event.seq for event in stored] == list(range(1, 12))
    told = [batch.first_seq + i for batch in opened.batches for i in range(len(batch.rows))]
    assert told == [event.seq for event in stored]
    assert journal.last_event() == 11


async def test_events_are_found_by_subject_resource_and_kind(opened):
    journal = opened.journal
    first, second = await accept(journal, spec("eu/a/r/vm-1"), spec("eu/a/r/vm-2"))
    changes = transition(journal, first.seq, UnitState.SUCCEEDED)
    changes.events.append((6.0, "node.up", "eu/a/r", "", "[1,1,1]", "{}"))
    changes.events.append((6.0, "resource.ready", "eu/a/r/vm-1", "eu/a/r/vm-1", "[1]", "{}"))
    await record(journal, changes)

    def kinds(**filters):
        return [event.kind for event in journal.events(after=0, limit=10, **filters)]

    assert kinds(subject=journal.unit_id(first.seq)) == ["unit.pending", "unit.succeeded"]
    assert kinds(subject=journal.unit_id(second.seq)) == ["unit.pending"]
    assert kinds(subject="eu/a/r") == ["node.up"]
    assert kinds(subject="eu/a/r/vm-1") == ["resource.ready"]
    assert kinds(resource="eu/a/r/vm-1") == ["unit.pending", "unit.succeeded", "resource.ready"]
    assert kinds(kind="unit.pending") == ["unit.pending", "unit.pending"]
    assert kinds(kind="node.") == ["node.up"]


async def test_units_are_listed_by_state_resource_and_cursor(opened):
    journal = opened.journal
    answers = await accept(journal, *(spec(f"eu/a/r/vm-{n}") for n in (1, 2, 1, 11)))
    seqs = [answer.seq for answer in answers]
    await record(journal, transition(journal, seqs[0], UnitState.SUCCEEDED))

    def listed(*, state=None, resource=None, after=0, limit=10):
        found = journal.units(state=state, resource=resource, after=after, limit=limit)
        return [unit.seq for unit in found]

    assert listed() == seqs
    assert listed(limit=2) == seqs[:2]
    assert listed(after=seqs[1]) == seqs[2:]
    assert listed(state=UnitState.SUCCEEDED) == seqs[:1]
    assert listed(state=UnitState.PENDING) == seqs[1:]
    assert listed(resource="eu/a/r/vm-1") == [seqs[0], seqs[2]]
    assert listed(resource="eu/a") == seqs


async def test_open_units_are_the_unfinished_in_order_of_acceptance(opened):
    journal = opened.journal
    answers = await accept(journal, *(spec(n=n) for n in range(6)))
    ends = [UnitState.DISPATCHED, UnitState.EXECUTING, UnitState.IN_DOUBT, UnitState.QUARANTINED]
    for answer, state in zip(answers, ends, strict=False):
        await record(journal, transition(journal, answer.seq, state))

    open_units = list((await opened.again()).open_units())

    assert [unit.state for unit in open_units] == [
        *ends[:3],
        UnitState.PENDING,
        UnitState.PENDING,
    ]
    assert open_units[0].epoch == (1,)
    assert open_units[0].spec == spec(n=0)


async def test_finished_unit_never_changes_again(opened):
    (answer,) = await accept(opened.journal, spec())
    await record(opened.journal, transition(opened.journal, answer.seq, UnitState.FAILED))

    opened.journal.record(transition(opened.journal, answer.seq, UnitState.PENDING))

    assert isinstance(await opened.journal.broken, AssertionError)
    assert opened.journal.unit(answer.seq).state is UnitState.FAILED


async def test_resources_and_reporters_are_remembered(opened):
    await accept(opened.journal, spec(), on_demand=["eu/a/r/vm-1"])
    changes = Changes()
    changes.resources["eu/a/r/vm-2"] = ("eu/a/r/vm-2", 0, "[1,2,3,4]", '{"size":3}', "[1,2,3,3]")
    changes.reporters["eu/a/r"] = ("eu/a/r", "[1,2,3]", 17)
    await record(opened.journal, changes)

    journal = await opened.again()

    assert list(journal.resources()) == [
        ResourceRow("eu/a/r/vm-1", True, (), None, ()),
        ResourceRow("eu/a/r/vm-2", False, (1, 2, 3, 4), {"size": 3}, (1, 2, 3, 3)),
    ]
    assert journal.reporters() == {"eu/a/r": ((1, 2, 3), 17)}


async def test_dropped_resource_is_forgotten(opened):
    await accept(opened.journal, spec(), on_demand=["eu/a/r/vm-1"])
    changes = Changes()
    changes.dropped.append("eu/a/r/vm-1")
    await opened.journal.save_infrastructure(b"{}", expected=1, changes=changes, at_utc=2.0)

    assert list(opened.journal.resources()) == []


async def test_root_epoch_is_a_compare_and_swap(opened):
    assert opened.journal.root_epoch() == 0
    assert await opened.journal.claim_root_epoch(0, 1.0) == 1

    with pytest.raises(EpochTakenError) as raised:
        await opened.journal.claim_root_epoch(0, 1.0)

    assert raised.value.current == 1
    assert (await opened.again()).root_epoch() == 1


async def test_of_concurrent_epoch_claims_one_wins(opened):
    claims = [opened.journal.claim_root_epoch(0, 1.0) for _ in range(10)]

    results = await asyncio.gather(*claims, return_exceptions=True)

    assert sorted(result for result in results if isinstance(result, int)) == [1]


async def test_infrastructure_is_a_compare_and_swap(opened):
    await opened.journal.save_infrastructure(b'{"n":2}', expected=1, changes=Changes(), at_utc=2.0)

    with pytest.raises(RevisionError):
        await opened.journal.save_infrastructure(b"{}", expected=1, changes=Changes(), at_utc=2.0)

    assert (await opened.again()).infrastructure() == (2, b'{"n":2}')


async def test_second_opener_is_turned_away(opened):
    with pytest.raises(JournalInUseError):
        opened.another().open(lambda _: None, lambda _: None)


async def test_whole_log_is_replayed_in_order_in_batches(opened):
    await accept(opened.journal, *(spec(n=n) for n in range(12)))

    with opened.journal.replay(batch=5) as replay:
        batches = list(replay.events())

    assert [len(batch) for batch in batches] == [5, 5, 2]
    assert [event.seq for batch in batches for event in batch] == list(range(1, 13))


async def test_replay_sees_events_and_units_of_one_moment(opened):
    journal = opened.journal
    await accept(journal, *(spec(n=n) for n in range(3)))

    with journal.replay(batch=2) as replay:
        events = [event for batch in replay.events() for event in batch]
        await accept(journal, spec(n=3))
        units = list(replay.units())

    assert [event.subject for event in events] == [journal.unit_id(n) for n in (1, 2, 3)]
    assert [(unit.id, unit.state) for unit in units] == [(e.subject, "pending") for e in events]


async def test_unit_ids_belong_to_one_journal(opened):
    journal = opened.journal

    assert journal.unit_seq(journal.unit_id(42)) == 42
    assert journal.unit_seq("other-42") is None
    assert journal.unit_seq(f"{journal.tag}-x") is None
    assert (await opened.again()).tag == journal.tag
