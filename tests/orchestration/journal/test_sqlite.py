import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from orchestration.journal.contract import Changes, IdempotencyError, JournalFullError
from orchestration.journal.reader import SqliteReader
from orchestration.journal.sqlite import SqliteJournal
from orchestration.journal.store import Accept, Record, SaveInfrastructure, SqliteStore
from orchestration.records import TERMINAL, CommandSpec, UnitSpec, UnitState

PADDING = "x" * 2000


def spec(n=0, key=None):
    return UnitSpec(
        resource=f"eu/a/r/vm-{n}",
        commands=(CommandSpec(verb="set", params={"padding": PADDING}),),
        idempotency_key=key,
    )


class SmallDisk:
    """Opens stores whose file may not grow beyond `pages`: SQLite then answers as on a full disk."""

    def __init__(self, pages):
        self.pages = pages

    def open(self, path):
        self.store = SqliteStore(path)
        self.resize(self.pages)
        return self.store

    def resize(self, pages):
        self.store._connection.execute(f"PRAGMA max_page_count = {pages}")


@pytest.fixture
async def small(tmp_path):
    disk = SmallDisk(60)
    journal = SqliteJournal(tmp_path / "journal.db", open_store=disk.open)
    journal.open(lambda _: None, lambda _: None)
    await journal.save_infrastructure(b"{}", expected=0, changes=Changes(), at_utc=1.0)
    yield journal, disk
    disk.resize(1_000_000)
    await journal.close()


async def accept(journal, *specs):
    return await journal.accept(specs, on_demand=(), revision=1, at_utc=5.0)


async def fill(journal):
    for n in range(200):
        try:
            await accept(journal, spec(n))
        except JournalFullError:
            return n
    raise AssertionError("the disk did not fill up")


def transition(journal, seq, state, detail="{}"):
    changes = Changes()
    changes.units[seq] = (seq, state.value, 0, 1, 0, "[1]", "", "", 6.0, None)
    kind = f"unit.{state.value}"
    changes.events.append((6.0, kind, journal.unit_id(seq), "eu/a/r/vm-0", "[1]", detail))
    return changes


async def test_full_disk_refuses_and_keeps_nothing_of_the_request(small):
    journal, _ = small
    accepted = await fill(journal)

    assert accepted > 0
    assert journal.counts() == {UnitState.PENDING: accepted}
    assert journal.last_event() == accepted
    assert "no space left" in journal.trouble


async def test_accepting_goes_on_when_space_returns(small):
    journal, disk = small
    accepted = await fill(journal)
    disk.resize(1_000_000)

    (answer,) = await accept(journal, spec())

    assert answer.seq == accepted + 1
    assert journal.trouble == ""


async def test_record_waits_for_space_and_keeps_its_order(small):
    journal, disk = small
    await fill(journal)
    done = []
    finished = asyncio.get_running_loop().create_future()
    padding = f'{{"padding":"{PADDING * 30}"}}'
    journal.record(transition(journal, 1, UnitState.DISPATCHED, padding), lambda: done.append(1))
    journal.record(transition(journal, 1, UnitState.EXECUTING), lambda: done.append(2))
    with pytest.raises(JournalFullError):
        await accept(journal, spec())
    assert done == []
    assert journal.unit(1).state is UnitState.PENDING

    disk.resize(1_000_000)
    journal.record(transition(journal, 1, UnitState.SUCCEEDED), lambda: finished.set_result(None))
    await finished

    assert done == [1, 2]
    kinds = [
        event.kind for event in journal.events(after=0, limit=1000, subject=journal.unit_id(1))
    ]
    assert kinds == ["unit.pending", "unit.dispatched", "unit.executing", "unit.succeeded"]


async def test_accepting_leaves_a_reserve_in_which_reports_find_room(tmp_path):
    stores = []

    def open_store(path):
        stores.append(SqliteStore(path))
        return stores[0]

    journal = SqliteJournal(tmp_path / "journal.db", open_store=open_store)
    journal.open(lambda _: None, lambda _: None)
    await journal.save_infrastructure(b"{}", expected=0, changes=Changes(), at_utc=1.0)
    (answer,) = await accept(journal, spec())
    stores[0].reserve_bytes = 1 << 60
    done = asyncio.get_running_loop().create_future()

    with pytest.raises(JournalFullError, match="are kept for work accepted before"):
        await accept(journal, spec())
    changes = transition(journal, answer.seq, UnitState.SUCCEEDED)
    journal.record(changes, lambda: done.set_result(None))
    await done

    assert journal.unit(answer.seq).state is UnitState.SUCCEEDED
    await journal.close()


async def test_concurrent_submitters_share_commits(tmp_path):
    commits = []
    journal = SqliteJournal(tmp_path / "journal.db", took=commits.append)
    journal.open(lambda _: None, lambda _: None)
    await journal.save_infrastructure(b"{}", expected=0, changes=Changes(), at_utc=1.0)

    await asyncio.gather(*(accept(journal, spec(n)) for n in range(200)))

    assert len(commits) < 20
    await journal.close()


def test_what_was_answered_survives_a_sigkill(tmp_path):
    program = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from orchestration.journal.contract import Changes
        from orchestration.journal.sqlite import SqliteJournal
        from orchestration.records import CommandSpec, UnitSpec

        async def submit(journal, n):
            while True:
                spec = UnitSpec(resource=f"eu/a/r/vm-{n}", commands=(CommandSpec(verb="set"),))
                (unit,) = await journal.accept((spec,), on_demand=(), revision=1, at_utc=1.0)
                print(unit.seq, flush=True)

        async def main():
            journal = SqliteJournal(Path(sys.argv[1]))
            journal.open(lambda _: None, lambda _: None)
            await journal.save_infrastructure(b"{}", expected=0, changes=Changes(), at_utc=1.0)
            await asyncio.gather(*(submit(journal, n) for n in range(8)))

        asyncio.run(main())
    """)
    path = tmp_path / "journal.db"
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    with child:
        answered = [int(child.stdout.readline()) for _ in range(300)]
        child.kill()
        rest = child.stdout.read().split("\n")
        answered += [int(line) for line in rest[:-1]]

    store = SqliteStore(path)
    reader = SqliteReader(path, store.tag)
    kept = {unit.seq for unit in reader.open_units()}
    with reader.replay(500) as replay:
        pending = {int(e.subject.rpartition("-")[2]) for page in replay.events() for e in page}
    reader.close()
    store.close()
    assert set(answered) <= kept
    assert pending == kept


class JournalLife(RuleBasedStateMachine):
    """A store against a model of it, crashed and opened again at will."""

    def __init__(self):
        super().__init__()
        self.folder = Path(self.make_folder())
        self.store = SqliteStore(self.folder / "journal.db")
        self.store.commit([SaveInfrastructure(b"{}", 0, Changes(), 1.0)])
        self.states = {}
        self.keys = {}
        self.events = 0

    @staticmethod
    def make_folder():
        raise NotImplementedError

    @rule(count=st.integers(1, 5))
    def accept_new(self, count):
        request = Accept([spec(n) for n in range(count)], (), 1, 1.0)
        (outcome,) = self.store.commit([request])
        for answer in outcome.answer:
            assert answer.seq not in self.states
            self.states[answer.seq] = UnitState.PENDING
        self.events += count

    @rule(key=st.sampled_from("abc"), body=st.integers(0, 1))
    def accept_with_key(self, key, body):
        (outcome,) = self.store.commit([Accept([spec(body, key)], (), 1, 1.0)])
        if key in self.keys and self.keys[key][1] != body:
            assert isinstance(outcome.error, IdempotencyError)
            return
        (answer,) = outcome.answer
        if key in self.keys:
            assert (answer.seq, answer.replayed) == (self.keys[key][0], True)
            assert answer.state is self.states[answer.seq]
            return
        self.keys[key] = (answer.seq, body)
        self.states[answer.seq] = UnitState.PENDING
        self.events += 1

    @rule(data=st.data())
    def move_some(self, data):
        open_units = [seq for seq, state in self.states.items() if state not in TERMINAL]
        if not open_units:
            return
        requests = []
        for seq in data.draw(st.lists(st.sampled_from(open_units), max_size=4, unique=True)):
            state = data.draw(st.sampled_from(list(UnitState)))
            requests.append(Record(transition(self, seq, state)))
            self.states[seq] = state
            self.events += 1
        self.store.commit(requests)

    @rule()
    def crash(self):
        self.store.close()
        self.store = SqliteStore(self.folder / "journal.db")

    @rule(pages=st.integers(1, 3))
    def fail_for_want_of_space(self, pages):
        connection = self.store._connection
        used = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {used + pages}")
        with pytest.raises(JournalFullError):
            self.store.commit([Accept([spec(n) for n in range(200)], (), 1, 1.0)])
        connection.execute("PRAGMA max_page_count = 1000000")

    def unit_id(self, seq):
        return f"{self.store.tag}-{seq}"

    @invariant()
    def file_is_as_the_model(self):
        reader = SqliteReader(self.folder / "journal.db", self.store.tag)
        units = reader.units(state=None, resource=None, after=0, limit=10_000)
        events = reader.events(after=0, limit=10_000)
        open_units = [unit.seq for unit in reader.open_units()]
        reader.close()
        assert {unit.seq: unit.state for unit in units} == self.states
        assert [event.seq for event in events] == list(range(1, self.events + 1))
        assert open_units == sorted(s for s, state in self.states.items() if state not in TERMINAL)

    def teardown(self):
        self.store.close()


def test_store_behaves_as_its_model_through_crashes_and_full_disks(tmp_path_factory):
    JournalLife.make_folder = staticmethod(lambda: tmp_path_factory.mktemp("life"))
    run_state_machine_as_test(
        JournalLife,
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
