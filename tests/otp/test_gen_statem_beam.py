"""Random scripted machines, run on a real BEAM and on this runtime: both must see the same events in the same order.

Time-outs that wait have lengths of which no two sums come close, so the order on the BEAM does not depend on its load.
"""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from otp import GenStatem
from otp.gen_statem import (
    CANCEL,
    HANDLE_EVENT_FUNCTION,
    INFINITY,
    STATE_ENTER,
    STATE_FUNCTIONS,
    UPDATE,
    ChangeCallbackModule,
    EventTimeout,
    Hibernate,
    KeepState,
    KeepStateAndData,
    NamedTimeout,
    NextEvent,
    NextState,
    Ok,
    PopCallbackModule,
    Postpone,
    PushCallbackModule,
    RepeatState,
    RepeatStateAndData,
    StateTimeout,
    Stop,
)
from otp.testing import VirtualRuntime

SCENARIOS = 400
SEED = 1
LIFETIME_MS = 1200
WAITS_MS = (60, 140, 310)
BEAM = Path(__file__).with_suffix(".erl")
MODES = {
    "functions": STATE_FUNCTIONS,
    "functions_enter": (STATE_FUNCTIONS, STATE_ENTER),
    "handler": HANDLE_EVENT_FUNCTION,
    "handler_enter": (HANDLE_EVENT_FUNCTION, STATE_ENTER),
}
BEAM_MODES = {
    "functions": "state_functions",
    "functions_enter": "[state_functions,state_enter]",
    "handler": "handle_event_function",
    "handler_enter": "[handle_event_function,state_enter]",
}


class Script:
    """Makes scenarios, as Erlang terms: strings are atoms."""

    def __init__(self, number, slower=1):
        self.random = random.Random(f"{SEED}/{number}")
        self.waits = [wait * slower for wait in WAITS_MS]
        self.labels = 0
        self.data = 0

    def scenario(self, number):
        choice = self.random.choice
        module = choice(list(MODES))
        casts = [f"e{each}" for each in range(self.random.randrange(1, 7))]
        init = self.actions(entering=False) if self.random.random() < 0.3 else []
        events = [self.result(entering=False) for _ in range(self.random.randrange(3, 16))]
        enters = [self.result(entering=True) for _ in range(self.random.randrange(4))]
        return (number, module, choice("abc"), init, casts, events, enters)

    def result(self, *, entering):
        actions = self.actions(entering=entering)
        chance = self.random.random()
        self.data += 1
        if chance < 0.02:
            return self.random.choice(["stop", ("stop", "over", self.data), "nonsense"])
        if entering and chance < 0.9:
            return self.random.choice(
                [("keep_state", self.data, actions), ("keep_state_and_data", actions)]
            )
        return self.random.choice(
            [
                ("next_state", self.random.choice("abc"), self.data, actions),
                ("next_state", self.random.choice("abc"), self.data, actions),
                ("keep_state", self.data, actions),
                ("keep_state_and_data", actions),
                ("repeat_state", self.data, actions),
                ("repeat_state_and_data", actions),
            ]
        )

    def actions(self, *, entering):
        return [self.action(entering=entering) for _ in range(self.random.choice((0, 1, 1, 2, 4)))]

    def action(self, *, entering):
        chance = self.random.random()
        if chance < 0.01:
            return "no_action"
        if chance < 0.05:
            return "hibernate"
        if chance < 0.55 or (entering and chance < 0.97):
            return self.timeout()
        if chance < 0.75:
            return self.random.choice(["postpone", "postpone", ("postpone", "false")])
        if chance < 0.94:
            kinds = ["cast", "info", "internal", "timeout", "state_timeout", ("timeout", "n")]
            return ("next_event", self.random.choice(kinds), self.label())
        module = self.random.choice(list(MODES))
        push, change = ("push_callback_module", module), ("change_callback_module", module)
        return self.random.choice([push, push, push, change, change, "pop_callback_module"])

    def timeout(self):
        kind = self.random.choice(["timeout", "state_timeout", ("timeout", "n"), ("timeout", "m")])
        chance = self.random.random()
        if chance < 0.45:
            return (kind, 0, self.label())
        if chance < 0.75 and self.waits:
            wait = self.waits.pop(self.random.randrange(len(self.waits)))
            return (kind, wait, self.label())
        if chance < 0.85:
            return (kind, "update", self.label())
        return self.random.choice([(kind, "infinity", self.label()), (kind, "cancel")])

    def label(self):
        self.labels += 1
        return f"l{self.labels}"


class Scripted(GenStatem):
    """Does what its script says, whatever happens, and notes everything."""

    def __init__(self, module, shared):
        self.module = module
        self.shared = shared

    def init(self):
        _, _, state, actions, casts, _, _ = self.shared["scenario"]
        for cast in casts:
            self.pid.cast(cast)
        return Ok(state, 0, [self.action(each) for each in actions])

    def callback_mode(self):
        return MODES[self.module]

    def a(self, event_type, content, data):
        return self.handle_event(event_type, content, "a", data)

    def b(self, event_type, content, data):
        return self.handle_event(event_type, content, "b", data)

    def c(self, event_type, content, data):
        return self.handle_event(event_type, content, "c", data)

    def handle_event(self, event_type, content, state, data):
        self.shared["trace"].append((self.module, event_type, content, state, data))
        steps = self.shared["enters" if event_type == "enter" else "events"]
        return self.result(steps.pop(0)) if steps else KeepStateAndData()

    def terminate(self, reason, state, data):
        kind = reason[0] if isinstance(reason, tuple) else reason
        if kind != "kill":
            self.shared["trace"].append((self.module, "terminate", kind, state, data))

    def result(self, step):
        match step:
            case "stop":
                return Stop("normal")
            case ("stop", reason, data):
                return Stop(reason, data)
            case (kind, *values, actions):
                return RESULTS[kind](*values, [self.action(each) for each in actions])
        return step

    def action(self, action):
        match action:
            case str():
                return ACTIONS.get(action, action)
            case ("postpone", "false"):
                return Postpone(on=False)
            case ("next_event", kind, content):
                return NextEvent(kind, content)
            case ("push_callback_module" | "change_callback_module" as what, module):
                change = PushCallbackModule if what[0] == "p" else ChangeCallbackModule
                return change(Scripted(module, self.shared))
        kind, time, *content = action
        return timeout(kind, time, content[0] if content else "undefined")


RESULTS = {
    "next_state": NextState,
    "keep_state": KeepState,
    "keep_state_and_data": KeepStateAndData,
    "repeat_state": RepeatState,
    "repeat_state_and_data": RepeatStateAndData,
}
ACTIONS = {
    "hibernate": Hibernate(),
    "postpone": Postpone(),
    "pop_callback_module": PopCallbackModule(),
}


def timeout(kind, time, content):
    words = {"infinity": INFINITY, "cancel": CANCEL, "update": UPDATE}
    time = words[time] if isinstance(time, str) else time / 1000
    match kind:
        case "timeout":
            return EventTimeout(time, content)
        case "state_timeout":
            return StateTimeout(time, content)
        case (_, name):
            return NamedTimeout(name, time, content)


def erlang(term):
    """Write a term as the BEAM's ~w does."""
    if isinstance(term, tuple):
        return "{" + ",".join(erlang(each) for each in term) + "}"
    if isinstance(term, list):
        return "[" + ",".join(erlang(each) for each in term) + "]"
    return str(term)


def run_here(scenario, slower=1):
    number, module, _, _, _, events, enters = scenario
    shared = {"scenario": scenario, "trace": [], "events": [*events], "enters": [*enters]}
    runtime = VirtualRuntime()
    pid = runtime.runtime.start(Scripted(module, shared))
    runtime.advance(LIFETIME_MS * slower / 1000)
    end = ("alive", pid.system_get_state()) if pid.is_alive() else "ended"
    trace = list(shared["trace"])
    runtime.close()
    return erlang((number, trace, end))


def run_on_beam(scenarios, folder, slower=1):
    script = folder / "scenarios"
    script.write_text("".join(f"{erlang(scenario)}.\n" for scenario in scenarios))
    compile_all = ",".join(
        f"{{ok,{name},B{at}}}=compile:file(\"{BEAM}\",[binary,{{d,'NAME',{name}}},{{d,'MODE',{mode}}}]),"
        f'{{module,{name}}}=code:load_binary({name},"",B{at})'
        for at, (name, mode) in enumerate(BEAM_MODES.items())
    )
    command = f'{compile_all},functions:main(["{script}",{LIFETIME_MS * slower}]).'
    done = subprocess.run(
        ["erl", "-noshell", "-noinput", "-eval", command],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=folder,
    )
    return done.stdout.splitlines()


def differences(numbers, folder, slower):
    """Play scenarios on both sides; give number, BEAM's trace and ours where they differ."""
    scenarios = [Script(number, slower).scenario(number) for number in numbers]
    beam = run_on_beam(scenarios, folder, slower)
    assert len(beam) == len(scenarios)
    # OTP 25 loses a zero time-out that is restarted with a time, and its message comes as an info; OTP 27 does not.
    return [
        (number, there, here)
        for number, scenario, there in zip(numbers, scenarios, beam, strict=True)
        if "stray_timer" not in there and there != (here := run_here(scenario, slower))
    ]


@pytest.mark.skipif(shutil.which("erl") is None, reason="there is no BEAM here")
def test_scripted_machines_see_what_they_see_on_the_beam(tmp_path):
    numbers = range(SCENARIOS)
    for slower in (
        1,
        3,
        10,
    ):  # a machine under load may hold the BEAM up for longer than time-outs differ
        odd = differences(numbers, tmp_path, slower)
        numbers = [number for number, _, _ in odd]
        if not odd:
            break

    assert odd == []


def test_scenarios_reach_every_corner():
    seen = "\n".join(run_here(Script(number).scenario(number)) for number in range(SCENARIOS))

    for word in (
        "{timeout,n}",
        ",timeout,",
        "state_timeout",
        "enter",
        "functions_enter",
        "terminate,normal",
        "terminate,over",
        "bad_return_from_state_function",
        "bad_action_from_state_function",
        "bad_state_enter_return_from_state_function",
        "bad_state_enter_action_from_state_function",
        "alive",
    ):
        assert word in seen
