"""The engine on a clock of the test's own, and its replay against its life."""

from __future__ import annotations

import heapq

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from drivers.device_engine import Engine
from drivers.device_faults import Faults
from drivers.device_protocol import Apply
from drivers.ledger import audit_records
from drivers.ledger_records import Ended, Refused


class Tape:
    """A ledger in memory."""

    def __init__(self):
        self.records = []

    def append(self, record):
        self.records.append(record)


class Timer:
    def __init__(self):
        self.cancelled = False

    def cancel(self):
        self.cancelled = True


class Time:
    def __init__(self):
        self.now = 0.0
        self._due = []

    def later(self, delay, callback, run):
        timer = Timer()
        heapq.heappush(self._due, (self.now + delay, len(self._due), timer, callback, run))
        return timer

    def advance(self, seconds):
        until = self.now + seconds
        while self._due and self._due[0][0] <= until:
            self.now, _, timer, callback, run = heapq.heappop(self._due)
            if not timer.cancelled:
                callback(run)
        self.now = until


class World:
    def __init__(self, records=(), **faults):
        self.tape, self.time, self.answers = Tape(), Time(), []
        self.engine = Engine(self.tape, Faults(**faults), lambda: self.time.now, self.time.later)
        self.engine.replay(records, pid=1, utc=0.0)

    def do(self, verb, unit="u", step=0, epoch=(1,), device="d", **params):
        ask = Apply(0, device, unit, step, epoch, verb, params)
        self.engine.execute(ask, lambda *answer: self.answers.append((unit, *answer)))
        return self.answers[-1][1] if self.answers and self.answers[-1][0] == unit else None

    def audit(self):
        return audit_records(self.tape.records)


def test_latency_delays_the_effect_and_the_answer():
    world = World()
    world.do("create", unit="slow", latency="50ms")

    assert world.answers == []
    assert world.engine.observe("d").in_flight == "slow/0"
    world.time.advance(0.05)
    assert world.answers[0][1] == "done"
    assert world.engine.observe("d").exists


def test_overlapping_commands_both_run_and_are_recorded():
    world = World()
    world.do("noop", unit="a", latency="1s")
    world.do("noop", unit="b", latency="1s")
    world.time.advance(1.0)

    assert [answer[1] for answer in world.answers] == ["done", "done"]
    assert world.audit().overlapping == 1


def test_same_key_while_running_shows_as_a_replay():
    world = World()
    world.do("noop", unit="a", latency="1s")
    world.do("noop", unit="a", latency="1s")
    world.time.advance(1.0)

    found = world.audit()
    assert (found.overlapping, found.replayed, found.sound) == (1, 1, False)


def test_remembered_key_has_no_second_effect():
    world = World()
    world.do("create", unit="a")
    world.do("destroy", unit="b")

    assert world.do("create", unit="a") == "known"
    assert not world.engine.observe("d").exists
    assert world.audit().sound


def test_older_epoch_is_refused_and_recorded():
    world = World()
    world.engine.claim("d", (2, 1))

    assert world.do("noop", epoch=(1, 9)) == "stale"
    assert isinstance(world.engine.claim("d", (1, 9)), str)
    assert sum(isinstance(record, Refused) for record in world.tape.records) == 2
    assert world.audit().refused_stale == 2


def test_command_of_a_newer_epoch_raises_the_fence():
    world = World()
    world.do("noop", epoch=(2,))

    assert world.do("noop", unit="late", epoch=(1,)) == "stale"


def test_liar_answers_done_without_mark_or_effect():
    world = World()
    world.do("create", unit="a")
    world.do("start", unit="lied", lie=True)

    _, outcome, _, seen = world.answers[-1]
    assert outcome == "done"
    assert seen.marks == ("a/0",)
    assert seen.state["running"] is False


def test_fault_strikes_only_so_many_tries():
    world = World()

    outcomes = [world.do("noop", unit="u", fail="busy", times=2) for _ in range(3)]

    assert outcomes == ["busy", "busy", "done"]


def test_crash_before_leaves_no_effect_and_after_leaves_one():
    world = World()
    world.do("create", unit="first", crash=True)
    assert not world.engine.observe("d").exists

    world.do("create", unit="second", crash="after")

    assert world.engine.observe("d").exists
    assert world.engine.knows("d", "second/0") == "applied"


def test_unknown_takes_effect_and_lost_does_not():
    world = World()

    assert world.do("create", unit="a", fail="lost") == "lost"
    assert world.engine.knows("d", "a/0") == "not_applied"
    assert world.do("create", unit="a", fail="unknown") == "unknown"
    assert world.engine.knows("d", "a/0") == "applied"


def test_hung_command_is_running_until_it_is_cancelled():
    world = World()
    world.do("create", unit="a", hang=True)
    world.time.advance(1e6)
    assert world.engine.knows("d", "a/0") == "running"

    assert world.engine.cancel("d", "a/0")

    assert world.answers[-1][1] == "cancelled"
    assert world.engine.knows("d", "a/0") == "not_applied"


def test_accepted_command_can_be_followed_to_its_end():
    world = World()
    world.do("create", unit="a", accept=True, latency="1s")

    assert world.answers[-1][1] == "accepted"
    assert world.engine.follow("d", "a/0")[0] == "accepted"
    world.time.advance(1.0)
    assert world.engine.follow("d", "a/0")[0] == "done"


def test_rate_strikes_about_its_share_and_the_same_ones_again():
    first, second = World(), World()
    for world in (first, second):
        for number in range(400):
            world.do("noop", unit=f"u{number}", fail="busy", rate=0.25)

    struck = [answer[1] for answer in first.answers].count("busy")
    assert 60 < struck < 140
    assert first.answers == second.answers


def test_kill_aborts_what_was_running():
    before = World()
    before.do("create", unit="cut", latency="1s")

    after = World(before.tape.records)

    assert not after.engine.observe("d").exists
    assert after.engine.observe("d").in_flight is None
    ended = [record for record in after.tape.records if isinstance(record, Ended)]
    assert [record.outcome for record in ended] == ["aborted"]
    assert after.engine.follow("d", "cut/0")[0] == "aborted"


FAULTS = [
    {},
    {"fail": "busy"},
    {"fail": "unknown"},
    {"crash": "after"},
    {"lie": True},
    {"latency": "2s"},
    {"hang": True},
    {"accept": True, "latency": "1s"},
]


class ReplayMachine(RuleBasedStateMachine):
    """Whatever happens, an engine replayed from the ledger equals the one that wrote it."""

    def __init__(self):
        super().__init__()
        self.world = World()
        self.history = self.world.tape.records
        self.units = 0

    @rule(
        verb=st.sampled_from(["create", "destroy", "start", "stop", "set", "noop"]),
        device=st.sampled_from(["a", "b"]),
        epoch=st.integers(1, 3),
        params=st.sampled_from(FAULTS),
    )
    def command(self, verb, device, epoch, params):
        self.units += 1
        self.world.do(verb, unit=f"u{self.units}", epoch=(epoch,), device=device, **params)

    @precondition(lambda self: self.units)
    @rule(back=st.integers(0, 3), device=st.sampled_from(["a", "b"]))
    def repeat(self, back, device):
        self.world.do("noop", unit=f"u{max(1, self.units - back)}", epoch=(3,), device=device)

    @rule(device=st.sampled_from(["a", "b"]), epoch=st.integers(1, 3))
    def claim(self, device, epoch):
        self.world.engine.claim(device, (epoch,))

    @rule(device=st.sampled_from(["a", "b"]), state=st.sampled_from([None, {"running": True}]))
    def poke(self, device, state):
        self.world.engine.poke(device, state)

    @rule()
    def wait(self):
        self.world.time.advance(1.0)

    @rule()
    def restart(self):
        after = World(self.history)
        self.history = self.history + after.tape.records
        after.tape.records = self.history
        self.world = after

    @invariant()
    def replay_equals_life(self):
        copy = World(self.history).engine
        for device in ("a", "b"):
            was, now = self.world.engine.observe(device), copy.observe(device)
            assert (now.exists, now.state, now.marks, now.epoch, now.revision) == (
                was.exists,
                was.state,
                was.marks,
                was.epoch,
                was.revision,
            )

    @invariant()
    def no_old_epoch_ever_takes_effect(self):
        assert audit_records(self.history).stale_applied == 0


ReplayMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestReplay = ReplayMachine.TestCase
