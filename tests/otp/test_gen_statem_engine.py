"""The order of events, state enter calls, time-outs and callback modules."""

import asyncio

import pytest

from otp import CallError, GenStatem, gen_statem, sys
from otp.gen_statem import (
    CANCEL,
    HANDLE_EVENT_FUNCTION,
    INFINITY,
    STATE_ENTER,
    STATE_FUNCTIONS,
    UPDATE,
    ChangeCallbackModule,
    EventTimeout,
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


class Free(GenStatem):
    """Answers each event by `handle(event_type, content, state)`; notes all of them."""

    def __init__(self, handle, *, first=None, enter=False):
        self.handle = handle
        self.first = first or Ok("start", None)
        self.enter = enter
        self.seen = []
        self.ends = []

    def init(self):
        return self.first

    def callback_mode(self):
        return (HANDLE_EVENT_FUNCTION, STATE_ENTER) if self.enter else HANDLE_EVENT_FUNCTION

    def handle_event(self, event_type, content, state, data):
        kind = event_type[0] if event_type[0] == "call" else event_type
        self.seen.append((kind, content, state))
        result = self.handle(event_type, content, state)
        return KeepStateAndData() if result is None else result

    def terminate(self, reason, state, data):
        self.ends.append((reason, state, data))


@pytest.fixture
def play(runtime):
    """Run a machine: send `events` as casts before it handles any, let time pass, give what it saw."""

    def run(handle, *events, seconds=0.0, **options):
        machine = Free(handle, **options)
        pid = runtime.runtime.start(machine)
        for event in events:
            pid.cast(event)
        runtime.advance(seconds)
        run.machine = machine
        run.pid = pid
        return [
            f"{kind if kind != 'cast' else ''} {content}".strip()
            for kind, content, _ in machine.seen
        ]

    return run


def go(*actions, to="next"):
    return NextState(to, None, list(actions))


def stay(*actions):
    return KeepStateAndData(list(actions))


def internal(*contents):
    return [NextEvent("internal", content) for content in contents]


@pytest.mark.otp("gen_statem_SUITE", "event_order")
def test_inserted_events_come_before_postponed_ones_and_those_before_the_rest(play):
    def handle(kind, content, state):
        match state, content:
            case "start", "p1" | "p2":
                return stay(Postpone())
            case "start", "go":
                return go(*internal("i1", "i2"), EventTimeout(0, "t"), StateTimeout(0, "st"))

    seen = play(handle, "p1", "p2", "go", "rest")

    # The zero event time-out is dropped: another event came first.
    assert seen[3:] == ["internal i1", "internal i2", "p1", "p2", "state_timeout st", "rest"]


@pytest.mark.otp("gen_statem_SUITE", "event_order")
def test_postponed_events_come_before_what_was_inserted_earlier(play):
    def handle(kind, content, state):
        match state, content:
            case "start", "p1" | "p2":
                return stay(Postpone())
            case "start", "insert":
                return stay(*internal("i1", "i2"))
            case "start", "i1":
                return go(*internal("i3"))

    seen = play(handle, "p1", "p2", "insert", "rest")
    assert seen[3:] == ["internal i1", "internal i3", "p1", "p2", "internal i2", "rest"]


@pytest.mark.otp("gen_statem_SUITE", "event_order")
def test_zero_event_timeout_comes_before_the_mailbox_when_nothing_else_waits(play):
    def handle(kind, content, state):
        if content == "go":
            return stay(EventTimeout(0, "t"))
        return None

    assert play(handle, "go", "rest") == ["go", "timeout t", "rest"]


def test_postponed_events_wait_for_a_state_that_differs(play):
    def handle(kind, content, state):
        match content:
            case "p" if state == "start":
                return stay(Postpone())
            case "keep":
                return KeepState("data")
            case "same":
                return NextState(state, "data")
            case "repeat":
                return RepeatState("data")
            case "go":
                return go()

    seen = play(handle, "p", "keep", "same", "repeat", "last", "go")
    assert seen == ["p", "keep", "same", "repeat", "last", "go", "p"]


def test_event_may_be_postponed_again_in_the_next_state(play):
    def handle(kind, content, state):
        if content == "p":
            return stay(Postpone()) if state < 3 else None
        return NextState(state + 1, None)

    seen = play(handle, "p", 1, 2, 3, first=Ok(0, None))
    assert seen == ["p", "1", "p", "2", "p", "3", "p"]


def test_postpone_can_be_taken_back_within_the_actions(play):
    def handle(kind, content, state):
        if content == "p":
            return go(Postpone(), Postpone(on=False))
        return None

    assert play(handle, "p", "rest") == ["p", "rest"]


@pytest.mark.otp("gen_statem_SUITE", "state_enter")
def test_state_enter_calls_at_start_change_and_repeat(play):
    def handle(kind, content, state):
        match kind, content:
            case "enter", _:
                return KeepState(state)
            case _, "keep":
                return KeepState(1)
            case _, "same":
                return NextState(state, 1)
            case _, "repeat":
                return RepeatState(1)
            case _, "repeat both":
                return RepeatStateAndData()
            case _, "go":
                return go(*internal("i"))

    events = ("keep", "same", "repeat", "repeat both", "go")
    seen = play(handle, *events, enter=True)

    assert seen == [
        "enter start",
        "keep",
        "same",
        "repeat",
        "enter start",
        "repeat both",
        "enter start",
        "go",
        "enter start",
        "internal i",
    ]
    assert [state for _, content, state in play.machine.seen if content == "start"][-1] == "next"


@pytest.mark.otp("gen_statem_SUITE", "state_enter")
def test_state_enter_call_may_repeat_itself(play):
    repeats = [RepeatState(1), RepeatStateAndData(), KeepState(2)]

    def handle(kind, content, state):
        return repeats.pop(0) if kind == "enter" else None

    assert play(handle, enter=True) == ["enter start"] * 3
    assert play.pid.system_get_state() == ("start", 2)


@pytest.mark.otp("gen_statem_SUITE", "state_enter")
def test_timeouts_set_in_a_state_enter_call_outlive_the_change(play):
    def handle(kind, content, state):
        match kind, content, state:
            case "enter", _, "next":
                return stay(StateTimeout(1.0, "st"), NamedTimeout("n", 2.0, "named"))
            case "cast", _, _:
                return go(StateTimeout(0.5, "overridden"))

    seen = play(handle, "go", seconds=5.0, enter=True)
    assert seen == [
        "enter start",
        "go",
        "enter start",
        "state_timeout st",
        "('timeout', 'n') named",
    ]


@pytest.mark.otp("gen_statem_SUITE", "state_enter")
def test_state_enter_call_may_reply(runtime):
    def handle(kind, content, state):
        match kind, content:
            case "enter", "start" if state == "next":
                return stay(gen_statem.Reply(waiting[0], "entered"))
            case ("call", from_), _:
                waiting.append(from_)
                return go()

    waiting = []
    machine = runtime.start(Free(handle, enter=True))
    assert machine.call("x") == "entered"


@pytest.mark.otp("gen_statem_SUITE", "state_enter")
@pytest.mark.parametrize(
    ("result", "what"),
    [
        (go(to="elsewhere"), "return"),
        (stay(Postpone()), "action"),
        (stay(NextEvent("cast", 1)), "action"),
        (stay(ChangeCallbackModule(Free(None))), "action"),
        (stay(PushCallbackModule(Free(None))), "action"),
    ],
)
def test_state_enter_call_must_not_do_everything(play, result, what):
    play(lambda kind, content, state: result, enter=True)

    bad = result if what == "return" else result.actions[0]
    assert play.pid.exit_reason == (f"bad_state_enter_{what}_from_state_function", bad)


def test_state_enter_call_may_return_the_same_state(play):
    play(lambda kind, content, state: NextState(state, "new"), enter=True)

    assert play.pid.system_get_state() == ("start", "new")


def test_machine_that_stops_in_its_first_state_enter_call_was_started(play):
    play(lambda kind, content, state: Stop("at once", "data"), enter=True)

    assert play.machine.ends == [("at once", "start", "data")]


@pytest.mark.otp("gen_statem_SUITE", "state_timeout")
def test_change_of_state_cancels_state_and_event_timeouts(play):
    def handle(kind, content, state):
        match content:
            case "set":
                return stay(StateTimeout(1.0, "st"), NamedTimeout("n", 1.5, "named"))
            case "and event":
                return stay(EventTimeout(1.0, "t"))
            case "go":
                return go()

    assert play(handle, "set", "and event", "go", seconds=5.0)[3:] == ["('timeout', 'n') named"]


@pytest.mark.otp("gen_statem_SUITE", "state_timeout")
def test_any_event_cancels_the_event_timeout_alone(play):
    def handle(kind, content, state):
        if content == "set":
            return stay(StateTimeout(1.0, "st"), EventTimeout(1.5, "t"))
        return None

    assert play(handle, "set", "other", seconds=5.0) == ["set", "other", "state_timeout st"]
    assert play(handle, "set", seconds=5.0) == ["set", "state_timeout st"]  # that is an event too


@pytest.mark.otp("gen_statem_SUITE", "state_timeout")
def test_zero_timeouts_keep_their_order_behind_inserted_events(play):
    def handle(kind, content, state):
        match content:
            case "go":
                return go(
                    StateTimeout(0, "st"),
                    NamedTimeout("a", 0, "a"),
                    *internal("i1"),
                    NamedTimeout("b", 0, "b"),
                )
            case "i1":
                return stay(NextEvent("internal", "i2"), NamedTimeout("c", 0, "c"))
            case "i2":
                return stay(NamedTimeout("a", 0, "a again"))

    seen = play(handle, "go", "external")
    assert [each.split()[-1] for each in seen] == [
        "go",
        "i1",
        "i2",
        "st",
        "b",
        "c",
        "again",
        "external",
    ]


@pytest.mark.otp("gen_statem_SUITE", "state_timeout")
def test_zero_state_timeout_is_cancelled_by_a_change_in_an_inserted_event(play):
    def handle(kind, content, state):
        match content:
            case "go":
                return go(StateTimeout(0, "st"), *internal("i"))
            case "i":
                return go(to="third")

    assert play(handle, "go", "external") == ["go", "internal i", "external"]


@pytest.mark.otp("gen_statem_SUITE", "state_timeout")
def test_last_of_two_timeouts_of_a_kind_counts(play):
    def handle(kind, content, state):
        if content == "go":
            return go(StateTimeout(0, "first"), StateTimeout(1.0, "second"))
        return None

    assert play(handle, "go", "external", seconds=0.5) == ["go", "external"]
    assert play(handle, "go", "external", seconds=1.5)[2:] == ["state_timeout second"]


@pytest.mark.otp("gen_statem_SUITE", "timeout_cancel_and_update")
@pytest.mark.parametrize(
    "make", [StateTimeout, lambda *args: NamedTimeout("n", *args)], ids=["state", "named"]
)
def test_timeout_can_be_updated_and_cancelled(play, make):
    def handle(kind, content, state):
        match content:
            case "set":
                return stay(make(1.0, "old"))
            case "update":
                return stay(make(UPDATE, "new"))
            case "cancel":
                return stay(make(CANCEL))
            case "forever":
                return stay(make(INFINITY, "never"))

    def last(*events):
        return play(handle, *events, seconds=3.0)[len(events) :]

    assert [each.split()[-1] for each in last("set", "update")] == ["new"]
    assert last("set", "cancel") == last("set", "forever") == last("cancel") == []
    # An update of what is not running comes at once.
    assert play(handle, "update", "external")[1].split()[-1] == "new"


@pytest.mark.otp("gen_statem_SUITE", "timeout_cancel_and_update")
def test_event_timeout_is_gone_before_it_could_be_updated(play):
    def handle(kind, content, state):
        match content:
            case "set":
                return stay(EventTimeout(1.0, "old"))
            case "update":
                return stay(EventTimeout(UPDATE, "new"))
            case "cancel":
                return stay(EventTimeout(1.0, "x"), EventTimeout(CANCEL))

    assert play(handle, "set", "update", "external", seconds=3.0) == [
        "set",
        "update",
        "timeout new",
        "external",
    ]
    assert play(handle, "cancel", seconds=3.0) == ["cancel"]


@pytest.mark.otp("gen_statem_SUITE", "timeout_cancel_and_update")
@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (StateTimeout(UPDATE, "new"), ["state_timeout new"]),
        (StateTimeout(CANCEL), []),
        (StateTimeout(1.0, "later"), ["state_timeout later"]),
    ],
)
def test_timeout_that_ran_out_but_was_not_handled_can_still_be_changed(runtime, action, expected):
    def handle(kind, content, state):
        match content:
            case "set":
                return stay(StateTimeout(1.0, "old"))
            case "act":
                return stay(action)

    machine = Free(handle)
    pid = runtime.start(machine).pid
    pid.cast("set")
    runtime.run_until_idle()
    runtime.run(sys.suspend(pid))
    pid.cast("act")
    runtime.advance(2.0)
    runtime.run(sys.resume(pid))
    runtime.advance(2.0)

    assert [f"{kind} {content}" for kind, content, _ in machine.seen[2:]] == expected


def test_zero_timeout_that_is_restarted_with_a_time_waits_that_long(runtime):
    def handle(kind, content, state):
        match content:
            case "go":
                return go(NamedTimeout("n", 0, "old"), *internal("i"))
            case "i":
                return stay(NamedTimeout("n", 1.0, "new"))

    machine = Free(handle)
    runtime.start(machine).cast("go")
    runtime.advance(0.9)
    assert len(machine.seen) == 2
    runtime.advance(0.2)
    assert machine.seen[2:] == [(("timeout", "n"), "new", "next")]


@pytest.mark.otp("gen_statem_SUITE", "event_types")
def test_every_event_type_can_be_inserted(runtime):
    async def answer():
        call = machine.pid.call("start")
        return await call

    def handle(kind, content, state):
        match kind, content:
            case ("call", from_), "start":
                kinds = ["cast", "info", "internal", "timeout", "state_timeout", ("timeout", "n")]
                return go(*(NextEvent(each, "inserted") for each in (*kinds, ("call", from_))))
            case ("call", from_), "inserted":
                return stay(gen_statem.Reply(from_, "done"))

    machine = runtime.start(Free(handle))
    assert machine.call("start") == "done"
    assert [kind for kind, _, _ in machine.pid.server.seen[1:]] == [
        "cast",
        "info",
        "internal",
        "timeout",
        "state_timeout",
        ("timeout", "n"),
        "call",
    ]


@pytest.mark.parametrize("kind", ["enter", "call", "what", 3, ("call", "me"), ("a", "b")])
def test_no_other_event_type_can_be_inserted(play, kind):
    play(lambda k, c, s: stay(NextEvent(kind, 1)), "go")

    assert play.pid.exit_reason == ("bad_action_from_state_function", NextEvent(kind, 1))


@pytest.mark.otp("gen_statem_SUITE", "generic_timers")
def test_named_timeouts_run_in_parallel_across_changes(play):
    def handle(kind, content, state):
        match content:
            case "go":
                return go(
                    NamedTimeout("c", 3.0, "c"),
                    NamedTimeout("a", 1.0, "a"),
                    NamedTimeout(("b", 1), 2.0, "b"),
                    NamedTimeout("never", INFINITY, "never"),
                    NamedTimeout("d", 1.5, "overridden"),
                )
            case "a":
                return go(NamedTimeout("d", 4.0, "d"), NamedTimeout("c", CANCEL), to="third")

    assert [each.split()[-1] for each in play(handle, "go", seconds=9.0)] == ["go", "a", "b", "d"]


@pytest.mark.otp("gen_statem_SUITE", "generic_timers")
@pytest.mark.parametrize("make", [StateTimeout, lambda *args: NamedTimeout("n", *args)])
def test_timeout_can_be_absolute(runtime, make):
    def handle(kind, content, state):
        if kind == "cast":
            return stay(make(content, "come", True))
        at.append(runtime.clock())
        return None

    at = []
    runtime.advance(10.0)
    machine = runtime.start(Free(handle))
    machine.cast(12.5)
    runtime.advance(5.0)
    machine.cast(1.0)  # in the past: at once
    runtime.run_until_idle()

    assert at == [12.5, 15.0]


class Pushed(Free):
    """Another callback module, in the other mode."""

    def callback_mode(self):
        return STATE_FUNCTIONS

    def start(self, kind, content, data):
        return self.handle_event(kind, content, "start", data)


@pytest.mark.otp("gen_statem_SUITE", "pop_too_many")
def test_callback_modules_can_be_pushed_changed_and_popped(runtime):
    def handle(kind, content, state):
        match content:
            case ("push", module):
                return stay(PushCallbackModule(module), *internal("pushed"))
            case ("change", module):
                return stay(ChangeCallbackModule(module), *internal("changed"))
            case "pop":
                return stay(PopCallbackModule(), *internal("popped"))

    bottom, second, third = Free(handle), Pushed(handle), Free(handle)
    machine = runtime.start(bottom)
    for event in (("push", second), ("change", third), "pop"):
        machine.cast(event)
    runtime.run_until_idle()

    assert [content for _, content, _ in second.seen] == ["pushed", ("change", third)]
    assert [content for _, content, _ in third.seen] == ["changed", "pop"]
    assert [content for _, content, _ in bottom.seen] == [("push", second), "popped"]
    assert machine.is_alive()
    machine.cast("pop")
    runtime.run_until_idle()
    assert machine.pid.exit_reason == ("bad_action_from_state_function", PopCallbackModule())
    assert bottom.ends == [(machine.pid.exit_reason, "start", None)]


def test_pushed_module_with_a_bad_callback_mode_ends_the_machine(play):
    other = Free(None)
    other.callback_mode = lambda: "often"
    play(lambda kind, content, state: stay(PushCallbackModule(other)), "go")

    assert play.pid.exit_reason == ("bad_return_from_callback_mode", "often")
    assert play.machine.ends


def test_actions_of_init_are_taken_after_the_start(play):
    actions = [*internal("i"), StateTimeout(1.0, "st")]
    seen = play(lambda *event: None, "external", seconds=2.0, first=Ok("start", 1, actions))

    assert seen == ["internal i", "external", "state_timeout st"]


def test_bad_action_of_init_ends_the_machine_after_the_start(play):
    play(lambda *event: None, first=Ok("start", 1, ["bad"]))

    assert play.pid.exit_reason == ("bad_action_from_state_function", "bad")
    assert play.machine.ends == [(play.pid.exit_reason, "start", 1)]


def test_callback_may_wait_and_events_wait_with_it(runtime):
    class Waiting(Free):
        async def handle_event(self, event_type, content, state, data):
            if event_type == "cast":
                await asyncio.sleep(1.0)
            return super().handle_event(event_type, content, state, data)

    def handle(kind, content, state):
        if content == "go":
            return go(*internal("i"), StateTimeout(0.5, "st"))
        return None

    machine = Waiting(handle, enter=True)
    handle_ = runtime.start(machine)
    handle_.cast("go")
    handle_.cast("rest")
    runtime.advance(5.0)

    assert [content for _, content, _ in machine.seen] == [
        "start",
        "go",
        "start",
        "i",
        "rest",
        "st",
    ]


def test_machine_that_feeds_itself_leaves_others_their_turn(runtime):
    def handle(kind, content, state):
        return stay(*internal("again"))

    async def ask():
        call = other.pid.call("x", None)
        return await call

    busy = Free(handle)
    runtime.runtime.turn_s = 0.001
    other = runtime.start(Free(lambda kind, content, state: stay(gen_statem.Reply(kind[1], 1))))
    pid = runtime.runtime.start(busy)
    pid.cast("go")

    assert runtime.run(ask()) == 1
    runtime.runtime.exit(pid, "kill")


def test_unanswered_and_postponed_calls_fail_when_the_machine_ends(runtime):
    def handle(kind, content, state):
        match content:
            case "postponed":
                return stay(Postpone())
            case "stop":
                return Stop("over")

    machine = runtime.start(Free(handle))
    postponed = machine.pid.call("postponed")
    kept = machine.pid.call("kept")
    machine.cast("stop")

    for call in (postponed, kept):
        with pytest.raises(CallError) as failure:
            runtime.run(awaited(call))
        assert failure.value.cause == "over"


async def awaited(call):
    return await call
