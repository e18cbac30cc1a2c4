"""A dynamic supervisor against a model of Elixir's rules: random starts, ends, failing restarts and time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from otp import (
    INFINITY,
    Backoff,
    ChildCounts,
    ChildType,
    MaxChildrenError,
    NotFoundError,
    Restart,
    StartChildError,
    dynamic_supervisor,
    is_clean,
)
from otp.testing import VirtualRuntime

NAMES = st.sampled_from("abc")
REASONS = st.sampled_from(["normal", "shutdown", ("shutdown", 1), "oops", "kill"])
FATES = st.lists(st.sampled_from(["fail", "raise", "ok", "ignore"]), min_size=1, max_size=4)
BACKOFF = Backoff(initial_s=0.5, max_s=2.0, jitter=0.0, reset_after_s=INFINITY)


@dataclass
class Child:
    name: str
    restart: Restart
    type: ChildType
    failures: int = 0  # in a row, for the back-off
    due: float = 0.0  # while restarting


class Model:
    """Children by the number of their start; the n-th start that went well is the n-th pid of the lab."""

    def __init__(self, intensity: int, period_s: int, limit: float, *, backoff: bool) -> None:
        self.intensity = intensity
        self.period_s = period_s
        self.limit = limit
        self.backoff = backoff
        self.running: dict[int, Child] = {}
        self.restarting: dict[int, Child] = {}
        self.fates: dict[str, list[str]] = {}
        self.stamps: list[int] = []
        self.started = 0
        self.alive = True
        self.trace: list[str] = []

    def start(self, child: Child) -> str:
        """Returns how it went."""
        fates = self.fates.get(child.name)
        fate = fates.pop(0) if fates else "ok"
        if fate == "ok":
            self.running[self.started] = child
            self.started += 1
            self.trace.append(f"start {child.name}")
        elif fate == "fail":
            self.trace.append(f"fail {child.name}")
        return fate

    def full(self) -> bool:
        return len(self.running) + len(self.restarting) >= self.limit

    def ended(self, key: int, reason: object, now: float) -> None:
        child = self.running.pop(key)
        if reason != "kill":
            self.trace.append(f"stop {child.name}")
        permanent = child.restart is Restart.PERMANENT
        if permanent or (child.restart is Restart.TRANSIENT and not is_clean(reason)):
            self.count_attempt(key, child, now)

    def count_attempt(self, key: int, child: Child, now: float) -> None:
        second = math.floor(now)
        self.stamps = [stamp for stamp in self.stamps if stamp >= second - self.period_s]
        self.stamps.append(second)
        if len(self.stamps) > self.intensity:
            self.alive = False
            self.trace += [f"stop {other.name}" for other in self.running.values()]
        elif self.backoff:
            child.failures += 1
            child.due = now + min(2.0, 0.5 * 2 ** (child.failures - 1))
            self.restarting.pop(
                key, None
            )  # to the end: equal times fire in the order they were set
            self.restarting[key] = child
        else:
            self.attempt(key, child, now)

    def attempt(self, key: int, child: Child, now: float) -> None:
        if self.start(child) in ("fail", "raise"):
            self.count_attempt(key, child, now)
        else:
            self.restarting.pop(key, None)

    def time_passes(self, until: float) -> None:
        while self.alive:
            due = [entry for entry in self.restarting.items() if entry[1].due <= until]
            if not due:
                return
            key, child = min(due, key=lambda entry: entry[1].due)
            self.attempt(key, child, child.due)

    def counts(self) -> ChildCounts:
        children = [*self.running.values(), *self.restarting.values()]
        supervisors = sum(child.type is ChildType.SUPERVISOR for child in children)
        workers = len(children) - supervisors
        return ChildCounts(len(children), len(self.running), supervisors, workers)


class DynamicSupervisorMachine(RuleBasedStateMachine):
    lab_class: type

    @initialize(
        intensity=st.integers(0, 6),
        period_s=st.integers(1, 4),
        limit=st.sampled_from([0, 1, 3, INFINITY]),
        backoff=st.booleans(),
        seed=st.none() | st.integers(0, 9),
    )
    def begin(self, intensity, period_s, limit, backoff, seed):
        self.runtime = VirtualRuntime(seed)
        self.lab = self.lab_class(self.runtime)
        self.model = Model(intensity, period_s, limit, backoff=backoff)
        self.sup = self.lab.start_dynamic(
            intensity=intensity,
            period_s=period_s,
            max_children=limit,
            backoff=BACKOFF if backoff else None,
        )

    def teardown(self):
        if hasattr(self, "runtime"):
            self.runtime.close()

    def is_alive(self):
        return self.model.alive

    @precondition(is_alive)
    @rule(name=NAMES, restart=st.sampled_from(Restart), type_=st.sampled_from(ChildType))
    def start_child(self, name, restart, type_):
        spec = self.lab.spec(name, restart=restart, type=type_)
        if self.model.full():
            with pytest.raises(MaxChildrenError):
                self.lab.add(self.sup, spec)
            return
        fate = self.model.start(Child(name, restart, type_))
        if fate in ("fail", "raise"):
            with pytest.raises(StartChildError):
                self.lab.add(self.sup, spec)
        else:
            pid = self.lab.add(self.sup, spec)
            assert pid is (None if fate == "ignore" else self.lab.pids[-1])

    @precondition(lambda self: self.model.alive and self.model.running)
    @rule(data=st.data(), reason=REASONS)
    def child_ends(self, data, reason):
        key = data.draw(st.sampled_from(list(self.model.running)))
        self.lab.end(self.lab.pids[key], reason)
        self.model.ended(key, reason, self.runtime.clock())

    @precondition(lambda self: self.model.alive and self.lab.pids)
    @rule(data=st.data())
    def terminate_child(self, data):
        """Any pid there ever was: a running child's, the old one of a child being restarted, or a dead one's."""
        model = self.model
        key = data.draw(st.integers(0, len(self.lab.pids) - 1))
        call = dynamic_supervisor.terminate_child(self.sup.pid, self.lab.pids[key])
        if key in model.running:
            model.trace.append(f"stop {model.running.pop(key).name}")
            self.lab.do(call)
        elif key in model.restarting:
            del model.restarting[key]
            self.lab.do(call)
        else:
            with pytest.raises(NotFoundError):
                self.lab.do(call)

    @rule(name=NAMES, fates=FATES)
    def next_starts_go_otherwise(self, name, fates):
        self.model.fates[name] = list(fates)
        self.lab.fates[name] = list(fates)

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 3.0]))
    def time_passes(self, seconds):
        self.runtime.advance(seconds)
        self.model.time_passes(self.runtime.clock())

    @invariant()
    def agrees_with_the_model(self):
        if not hasattr(self, "model"):
            return
        model, seen, expected = self.model, self.lab.drain(), self.model.trace
        if model.alive:
            assert seen == expected
        else:  # they are told to stop all at once, so in no promised order
            assert sorted(seen) == sorted(expected)
        model.trace = []
        assert self.sup.is_alive() is model.alive
        if not model.alive:
            assert self.sup.pid.exit_reason == "shutdown"
            assert self.runtime.stats().processes == 0
            return
        assert len(self.lab.pids) == model.started
        assert self.lab.do(dynamic_supervisor.count_children(self.sup.pid)) == model.counts()
        infos = self.lab.do(dynamic_supervisor.which_children(self.sup.pid))
        pids = {info.pid for info in infos if not info.restarting}
        assert pids == {self.lab.pids[key] for key in model.running}
        assert len(infos) == len(model.running) + len(model.restarting)
        assert self.runtime.stats().processes == 1 + len(model.running)


def test_dynamic_supervisor_agrees_with_a_model_of_elixirs(lab_class):
    machine = type("Machine", (DynamicSupervisorMachine,), {"lab_class": lab_class})
    limits = settings(max_examples=100, stateful_step_count=25, deadline=None)

    run_state_machine_as_test(machine, settings=limits)
