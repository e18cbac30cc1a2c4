"""A supervisor against a model of OTP's rules: random starts, ends, management calls and time."""

from __future__ import annotations

import math

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
    AlreadyPresentError,
    AlreadyStartedError,
    ChildRunningError,
    NotFoundError,
    Restart,
    StartChildError,
    Strategy,
    is_clean,
    supervisor,
)
from otp.testing import VirtualRuntime

IDS = st.sampled_from("abcd")
REASONS = st.sampled_from(["normal", "shutdown", ("shutdown", 1), "oops", "kill"])


class Model:
    """OTP's supervisor.erl on paper: specs in start order, who runs, and the list of restart stamps."""

    def __init__(self, strategy: Strategy, intensity: int, period_s: int) -> None:
        self.strategy = strategy
        self.intensity = intensity
        self.period_s = period_s
        self.restart: dict[str, Restart] = {}
        self.running: set[str] = set()
        self.fails: dict[str, int] = {}
        self.stamps: list[int] = []
        self.alive = True
        self.trace: list[str] = []

    def start(self, name: str) -> bool:
        if self.fails.get(name, 0) > 0:
            self.fails[name] -= 1
            self.trace.append(f"fail {name}")
            return False
        self.running.add(name)
        self.trace.append(f"start {name}")
        return True

    def stop(self, name: str) -> None:
        if name in self.running:
            self.running.discard(name)
            self.trace.append(f"stop {name}")

    def drop_if_temporary(self, name: str) -> None:
        if self.restart[name] is Restart.TEMPORARY:
            del self.restart[name]

    def ended(self, name: str, reason: object, now: float) -> None:
        if reason != "kill":
            self.trace.append(f"stop {name}")
        self.running.discard(name)
        kind = self.restart[name]
        if kind is Restart.PERMANENT or (kind is Restart.TRANSIENT and not is_clean(reason)):
            self.try_restart(name, math.floor(now))
        else:
            self.drop_if_temporary(name)

    def try_restart(self, name: str | None, second: int) -> None:
        while name is not None:
            recent = [stamp for stamp in self.stamps if stamp >= second - self.period_s]
            self.stamps = [second, *recent]
            if len(self.stamps) > self.intensity:
                self.alive = False
                for other in reversed(self.restart):
                    self.stop(other)
                return
            name = self.restart_group(name)

    def restart_group(self, name: str) -> str | None:
        """Returns the member that did not start."""
        names = list(self.restart)
        if self.strategy is Strategy.ONE_FOR_ONE:
            names = [name]
        elif self.strategy is Strategy.REST_FOR_ONE:
            names = names[names.index(name) :]
        for other in reversed(names):
            self.stop(other)
        for other in names:
            self.drop_if_temporary(other)
        return next((n for n in names if n in self.restart and not self.start(n)), None)


class SupervisorMachine(RuleBasedStateMachine):
    lab_class: type

    @initialize(
        strategy=st.sampled_from(
            [each for each in Strategy if each is not Strategy.SIMPLE_ONE_FOR_ONE]
        ),
        intensity=st.integers(0, 5),
        period_s=st.integers(1, 4),
        seed=st.none() | st.integers(0, 9),
    )
    def begin(self, strategy, intensity, period_s, seed):
        self.runtime = VirtualRuntime(seed)
        self.lab = self.lab_class(self.runtime)
        self.model = Model(strategy, intensity, period_s)
        self.sup = self.lab.start(strategy=strategy, intensity=intensity, period_s=period_s)

    def teardown(self):
        if hasattr(self, "runtime"):
            self.runtime.close()

    def is_alive(self):
        return self.model.alive

    def expect(self, error, call):
        with pytest.raises(error):
            self.lab.do(call)

    @precondition(is_alive)
    @rule(name=IDS, restart=st.sampled_from(Restart))
    def start_child(self, name, restart):
        model = self.model
        call = supervisor.start_child(self.sup.pid, self.lab.spec(name, restart=restart))
        if name in model.restart:
            running = name in model.running
            self.expect(AlreadyStartedError if running else AlreadyPresentError, call)
        elif model.start(name):
            model.restart[name] = restart
            self.lab.do(call)
        else:
            self.expect(StartChildError, call)

    @precondition(is_alive)
    @rule(name=IDS, reason=REASONS)
    def child_ends(self, name, reason):
        if name in self.model.running:
            self.lab.end(self.lab.pid(self.sup, name), reason)
            self.model.ended(name, reason, self.runtime.clock())

    @precondition(is_alive)
    @rule(name=IDS)
    def terminate_child(self, name):
        call = supervisor.terminate_child(self.sup.pid, name)
        if name not in self.model.restart:
            self.expect(NotFoundError, call)
            return
        self.lab.do(call)
        self.model.stop(name)
        self.model.drop_if_temporary(name)

    @precondition(is_alive)
    @rule(name=IDS, delete=st.booleans())
    def restart_or_delete_child(self, name, delete):
        model = self.model
        act = supervisor.delete_child if delete else supervisor.restart_child
        call = act(self.sup.pid, name)
        if name not in model.restart:
            self.expect(NotFoundError, call)
        elif name in model.running:
            self.expect(ChildRunningError, call)
        elif delete:
            self.lab.do(call)
            del model.restart[name]
        elif model.start(name):
            self.lab.do(call)
        else:
            self.expect(StartChildError, call)

    @rule(name=IDS, times=st.integers(1, 3))
    def starts_will_fail(self, name, times):
        self.model.fails[name] = times
        self.lab.fates[name] = ["fail"] * times

    @rule(seconds=st.sampled_from([0.25, 0.9, 1.0, 3.0]))
    def time_passes(self, seconds):
        self.runtime.advance(seconds)

    @invariant()
    def agrees_with_the_model(self):
        if not hasattr(self, "model"):
            return
        assert self.lab.drain() == self.model.trace
        self.model.trace.clear()
        assert self.sup.is_alive() is self.model.alive
        if self.model.alive:
            children = self.lab.children(self.sup)
            assert list(children) == list(self.model.restart)
            assert {name for name, pid in children.items() if pid} == self.model.running
        else:
            assert self.sup.pid.exit_reason == "shutdown"
            assert self.runtime.stats().processes == 0


def test_supervisor_agrees_with_a_model_of_otp(lab_class):
    machine = type("Machine", (SupervisorMachine,), {"lab_class": lab_class})
    limits = settings(max_examples=150, stateful_step_count=25, deadline=None)

    run_state_machine_as_test(machine, settings=limits)
