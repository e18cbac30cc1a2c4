import asyncio

import pytest

from otp import (
    Address,
    AlreadyStartedError,
    CallError,
    CallTimeoutError,
    EventHandler,
    EventHandlerReport,
    EventManager,
    Exit,
    ExitError,
    GenEventExit,
    GenServer,
    Global,
    HandlerError,
    HandlerNotFoundError,
    NoProcessError,
    NoReply,
    Raised,
    Reply,
    UndefinedCallbackError,
    exit,  # noqa: A004
    gen_event,
    gen_server,
    link,
    self_pid,
    send,
    sys,
)
from otp.gen_event import Ok, RemoveHandler, Stop, SwapHandler

ENTRIES = ["notify", "sync_notify", "info"]


class Probe(EventHandler[list]):
    """Does what each message says: a message is a function of the state, or is kept in the state."""

    def __init__(self, init=list):
        self.seen = []
        self._init = init

    def init(self):
        return self._init()

    def init_swapped(self, handed):
        self.seen.append(("handed", handed))
        return self._init()

    def handle_event(self, event, state):
        return event(state) if callable(event) else Ok([*state, event])

    def handle_call(self, request, state):
        return request(state) if callable(request) else gen_event.Reply((request, state), state)

    def handle_info(self, message, state):
        return self.handle_event(message, state)

    def terminate(self, args, state):
        self.seen.append(("terminate", args))
        return ("given", args, state)


class Second(Probe):
    pass


class Bare(EventHandler[None]):
    def init(self):
        return None


class Owner(GenServer[list]):
    """Runs coroutines as a process, and keeps the messages it is sent."""

    def init(self):
        self.trap_exit()
        return []

    async def handle_call(self, request, from_, state):
        if request == "messages":
            return Reply(state, [])
        try:
            return Reply(await request(), state)
        except (HandlerError, ExitError) as error:
            return Reply(error, state)

    def handle_info(self, message, state):
        return NoReply([*state, message])


def crash(state):
    raise ValueError("oops")


def leave(state):
    raise ExitError("gone")


@pytest.fixture
def manager(runtime):
    return runtime.start(EventManager(), "events").pid


@pytest.fixture
def owner(runtime):
    return runtime.start(Owner(), "owner")


@pytest.fixture
def do(runtime):
    """Run gen_event calls one after the other; gives the last answer."""

    def run(*calls):
        answers = [runtime.run(call) for call in calls]
        runtime.run_until_idle()
        return answers[-1]

    return run


@pytest.fixture
def tell(runtime, manager, do):
    """Get an event to the handlers: by notify, sync_notify or as a plain message."""

    def send_event(entry, event):
        if entry == "notify":
            manager.cast(event)
        elif entry == "info":
            manager.send(event)
        else:
            assert do(gen_event.sync_notify(manager, event)) is None
        runtime.run_until_idle()

    return send_event


@pytest.fixture
def reports(runtime):
    kept = []
    runtime.reports.subscribe(kept.append)
    return kept


def names(do, manager):
    return do(gen_event.which_handlers(manager))


def state_of(do, manager, name):
    return do(gen_event.call(manager, name, "state"))[1]


# Start and stop.


class Book(Address):
    """A name that the test keeps."""

    def __init__(self):
        self.pid = None

    def whereis(self, runtime):
        return self.pid if self.pid is not None and self.pid.is_alive() else None

    def register(self, runtime, pid):
        self.pid = pid

    def unregister(self, runtime):
        self.pid = None


NAMES = {
    "none": lambda: None,
    "local": lambda: "my_name",
    "global": lambda: Global("my_name"),
    "via": Book,
}


@pytest.mark.otp("gen_event_SUITE", "start")
@pytest.mark.otp("gen_event_SUITE", "start_opt")
@pytest.mark.parametrize("options", [{}, {"hibernate_after_s": 1.0}])
@pytest.mark.parametrize("form", ["start", "start_link", "start_monitor"])
@pytest.mark.parametrize("kind", list(NAMES))
def test_manager_starts_in_every_form_with_its_options(runtime, owner, do, form, kind, options):
    async def begin():
        started = getattr(gen_event, form)(name=name, **options)
        return started[0] if form == "start_monitor" else started

    async def stop():
        await gen_event.stop(name or pid)

    name = NAMES[kind]()
    pid = owner.call(begin)
    assert names(do, pid) == []
    assert owner.call(lambda: gen_event.which_handlers(name or pid)) == []
    assert name is None or runtime.runtime.whereis(name) is pid
    runtime.advance(2.0)
    assert pid.hibernated is bool(options)

    assert owner.call(stop) is None
    messages = owner.call("messages")
    ends = {"start": [], "start_link": [Exit(pid, "normal")], "start_monitor": [(pid, "normal")]}
    assert [m if isinstance(m, Exit) else (m.target, m.reason) for m in messages] == ends[form]
    assert name is None or runtime.runtime.whereis(name) is None
    assert isinstance(owner.call(stop), NoProcessError)


@pytest.mark.otp("gen_event_SUITE", "start")
@pytest.mark.parametrize("form", ["start", "start_link", "start_monitor"])
@pytest.mark.parametrize("kind", ["local", "global", "via"])
def test_second_manager_of_a_name_is_told_who_has_it(owner, form, kind):
    async def first():
        return gen_event.start(name=name)

    async def second():
        return getattr(gen_event, form)(name=name)

    name = NAMES[kind]()
    pid = owner.call(first)
    error = owner.call(second)

    assert isinstance(error, AlreadyStartedError)
    assert error.pid is pid
    assert owner.call("messages") == []


@pytest.mark.otp("gen_event_SUITE", "start")
def test_manager_stops_with_a_reason_and_at_its_parents_exit(owner, do):
    async def begin():
        return gen_event.start_link()

    async def end(pid):
        exit(pid, "shutdown")

    first, second = owner.call(begin), owner.call(begin)
    do(gen_event.stop(first, "shutdown", 10.0))
    owner.call(lambda: end(second))

    assert owner.call("messages") == [Exit(first, "shutdown"), Exit(second, "shutdown")]


@pytest.mark.otp("gen_event_SUITE", "start")
def test_stop_gives_up_waiting_for_a_manager_after_its_time(runtime, do, manager):
    class Slow(Bare):
        async def terminate(self, args, state):
            await asyncio.sleep(2.0)

    do(gen_event.add_handler(manager, Slow()))
    with pytest.raises(CallTimeoutError):
        do(gen_event.stop(manager, "shutdown", 1.0))
    with pytest.raises(ValueError, match="timeout_s"):
        do(gen_event.stop(manager, "shutdown", -1.0))
    assert manager.is_alive()
    runtime.advance(1.0)

    assert manager.exit_reason == "shutdown"


@pytest.mark.otp("gen_event_SUITE", "start")
def test_manager_ends_with_its_parent(runtime, owner, do):
    async def begin():
        return gen_event.start_link()

    probe = Probe()
    pid = owner.call(begin)
    do(gen_event.add_handler(pid, probe))
    owner.exit("kill")
    runtime.run_until_idle()

    assert pid.exit_reason == "killed"
    assert probe.seen == [("terminate", "stop")]


def test_manager_cannot_be_named_by_anything_odd(runtime):
    with pytest.raises(TypeError, match="named by a str"):
        runtime.start(EventManager(), ("local", "x"))

    assert runtime.stats().processes == 0


def test_manager_is_a_child_of_a_supervisor(lab):
    from otp import ChildSpec

    sup = lab.start(ChildSpec("events", lambda: gen_event.start_link(name="events")))
    first = lab.pid(sup, "events")
    lab.runtime.run(gen_event.add_handler(first, Probe()))
    lab.runtime.runtime.exit(first, "kill")
    lab.runtime.run_until_idle()
    second = lab.pid(sup, "events")

    assert second is not first
    assert lab.runtime.run(gen_event.which_handlers(second)) == []


# Adding, deleting, swapping.


@pytest.mark.otp("gen_event_SUITE", "add_handler")
def test_handlers_are_added_by_class_and_id_newest_first(do, manager):
    with pytest.raises(HandlerError) as refused:
        do(gen_event.add_handler(manager, Probe(lambda: Stop("my_error"))))
    assert refused.value.reason == "my_error"
    assert names(do, manager) == []

    do(gen_event.add_handler(manager, Probe()))
    with pytest.raises(HandlerError):
        do(gen_event.add_handler(manager, (Probe(lambda: Stop("my_error")), 1)))
    assert names(do, manager) == [Probe]
    do(gen_event.add_handler(manager, (Probe(), 1)))
    assert names(do, manager) == [(Probe, 1), Probe]


def test_second_handler_of_a_name_gets_calls_and_deletes_first(do, manager):
    old, new = Probe(), Probe()
    do(gen_event.add_handler(manager, old), gen_event.add_handler(manager, new))
    assert names(do, manager) == [Probe, Probe]
    do(gen_event.delete_handler(manager, Probe))

    assert (old.seen, new.seen) == ([], [("terminate", None)])


@pytest.mark.parametrize(
    "value", [gen_event.Reply(1, 2), RemoveHandler(), SwapHandler(1, 2, Second())]
)
def test_init_that_returns_what_is_no_state_is_refused(do, manager, value):
    with pytest.raises(HandlerError) as refused:
        do(gen_event.add_handler(manager, Probe(lambda: value)))

    assert refused.value.reason is value
    assert names(do, manager) == []


@pytest.mark.otp("gen_event_SUITE", "add_sup_handler")
def test_supervised_handler_goes_with_its_supervising_process(runtime, do, manager, owner):
    refused = owner.call(
        lambda: gen_event.add_sup_handler(manager, Probe(lambda: Stop("my_error")))
    )
    assert refused.reason == "my_error"
    assert names(do, manager) == []

    probe = Probe()
    owner.call(lambda: gen_event.add_sup_handler(manager, probe))
    manager.exit_signal(owner.pid, "sup_died")
    runtime.run_until_idle()
    assert names(do, manager) == []
    assert probe.seen == [("terminate", ("stop", "sup_died"))]
    assert owner.call("messages") == [GenEventExit(Probe, "shutdown")]


@pytest.mark.otp("gen_event_SUITE", "add_sup_handler")
def test_supervising_process_is_told_when_the_manager_stops(do, manager, owner):
    owner.call(lambda: gen_event.add_sup_handler(manager, Probe()))
    owner.call(lambda: gen_event.add_sup_handler(manager, (Probe(), "id")))
    do(gen_event.stop(manager))

    told = owner.call("messages")  # and no Exit: it was unlinked
    assert told == [GenEventExit((Probe, "id"), "shutdown"), GenEventExit(Probe, "shutdown")]


def test_other_handlers_hear_of_the_end_of_a_supervising_process(runtime, do, manager, owner):
    owner.call(lambda: gen_event.add_sup_handler(manager, Probe()))
    do(gen_event.add_handler(manager, (Probe(), 2)))
    owner.exit("kill")
    runtime.run_until_idle()

    assert names(do, manager) == [(Probe, 2)]
    assert state_of(do, manager, (Probe, 2)) == [Exit(owner.pid, "killed")]


def test_handler_supervised_by_a_dead_process_is_removed_at_once(runtime, do, manager, owner):
    async def ask_and_die():
        manager.call(gen_event.Ask("add_handler", Probe(), self_pid()))
        raise ValueError

    runtime.runtime.spawn(ask_and_die)
    runtime.run_until_idle()

    assert names(do, manager) == []


@pytest.mark.parametrize("wrong", [Probe, object(), (Probe, 1), "Probe"])
def test_what_is_no_handler_is_refused_before_anything_is_sent(do, manager, wrong):
    for attempt in (
        gen_event.add_handler(manager, wrong),
        gen_event.swap_handler(manager, Probe, wrong),
    ):
        with pytest.raises(TypeError, match="EventHandler"):
            do(attempt)


@pytest.mark.otp("gen_event_SUITE", "delete_handler")
@pytest.mark.parametrize("name", [Probe, (Probe, 1)])
def test_delete_gives_what_terminate_returned(do, manager, name):
    new = Probe() if name is Probe else (Probe(), 1)
    do(gen_event.add_handler(manager, new))
    with pytest.raises(HandlerNotFoundError) as missing:
        do(gen_event.delete_handler(manager, (Second, 1)))
    assert missing.value.reason == "module_not_found"

    assert do(gen_event.delete_handler(manager, name, "args")) == ("given", "args", [])
    assert names(do, manager) == []


@pytest.mark.otp("gen_event_SUITE", "swap_handler")
@pytest.mark.parametrize(
    ("old", "new"), [(Probe, Second), ((Probe, 3), (Second, 4)), (Probe, (Probe, 1))]
)
def test_swap_hands_over_what_the_old_one_gave(do, manager, old, new):
    def made(name, handler):
        return (handler, name[1]) if isinstance(name, tuple) else handler

    second = (new[0] if isinstance(new, tuple) else new)()
    do(gen_event.add_handler(manager, made(old, Probe())))
    do(gen_event.sync_notify(manager, "event"))
    do(gen_event.swap_handler(manager, old, made(new, second), "args"))

    assert names(do, manager) == [new]
    assert second.seen == [("handed", ("given", "args", ["event"]))]


@pytest.mark.otp("gen_event_SUITE", "swap_handler")
def test_swap_that_is_refused_has_removed_the_old_one(do, manager):
    do(gen_event.add_handler(manager, Probe()))
    with pytest.raises(HandlerError) as refused:
        do(gen_event.swap_handler(manager, Probe, Second(lambda: Stop("no"))))

    assert refused.value.reason == "no"
    assert names(do, manager) == []


@pytest.mark.otp("gen_event_SUITE", "swap_handler")
def test_swap_without_an_old_one_hands_over_error(do, manager):
    second = Second()
    do(gen_event.swap_handler(manager, Probe, second))

    assert second.seen == [("handed", "error")]
    assert names(do, manager) == [Second]


@pytest.mark.otp("gen_event_SUITE", "swap_sup_handler")
def test_swap_keeps_or_takes_over_the_supervision(runtime, do, manager, owner):
    other = runtime.start(Owner())
    owner.call(lambda: gen_event.add_sup_handler(manager, Probe()))
    do(gen_event.swap_handler(manager, Probe, Second()))
    assert owner.call("messages") == [GenEventExit(Probe, ("swapped", Second, owner.pid))]

    other.call(lambda: gen_event.swap_sup_handler(manager, Second, (Probe(), 4)))
    assert owner.call("messages") == [GenEventExit(Second, ("swapped", (Probe, 4), other.pid))]
    do(gen_event.delete_handler(manager, (Probe, 4)))
    assert other.call("messages") == [GenEventExit((Probe, 4), "normal")]
    assert owner.call("messages") == []


def test_process_that_swaps_in_a_handler_without_an_old_one_supervises_it(
    runtime, do, manager, owner
):
    owner.call(lambda: gen_event.swap_sup_handler(manager, Probe, Second()))
    owner.exit("kill")
    runtime.run_until_idle()

    assert names(do, manager) == []


# Events.


@pytest.mark.otp("gen_event_SUITE", "notify")
@pytest.mark.otp("gen_event_SUITE", "sync_notify")
@pytest.mark.otp("gen_event_SUITE", "info")
@pytest.mark.parametrize("entry", ENTRIES)
def test_event_goes_to_all_handlers_newest_first(do, manager, tell, entry):
    order = []

    def note(which):
        return lambda event, state: order.append(which) or Ok(state)

    for which in "abc":
        probe = Probe()
        probe.handle_event = note(which)
        do(gen_event.add_handler(manager, (probe, which)))
    tell(entry, "event")

    assert order == ["c", "b", "a"]


@pytest.mark.otp("gen_event_SUITE", "notify")
@pytest.mark.otp("gen_event_SUITE", "sync_notify")
@pytest.mark.otp("gen_event_SUITE", "info")
@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("with_id", [False, True])
def test_handler_may_swap_itself_in_its_place(do, manager, tell, owner, entry, with_id):
    old, new = ((Probe, 5), (Second, 9)) if with_id else (Probe, Second)
    second = Second()
    do(gen_event.add_handler(manager, (Bystander(), "older")))
    owner.call(lambda: gen_event.add_sup_handler(manager, (Probe(), 5) if with_id else Probe()))
    do(gen_event.add_handler(manager, (Bystander(), "newer")))
    tell(
        entry,
        Only(Probe, lambda s: SwapHandler("args", ["mine"], (second, 9) if with_id else second)),
    )

    assert names(do, manager) == [(Bystander, "newer"), new, (Bystander, "older")]
    assert second.seen == [("handed", ("given", "args", ["mine"]))]
    assert owner.call("messages") == [GenEventExit(old, ("swapped", new, owner.pid))]
    tell(entry, Only(Second, lambda s: RemoveHandler()))
    assert owner.call("messages") == [GenEventExit(new, "normal")]


class Only:
    """An event that one class of handlers acts on."""

    def __init__(self, cls, act):
        self.cls = cls
        self.act = act

    def __call__(self, state):
        return self.act(state)


class Bystander(Probe):
    def handle_event(self, event, state):
        return Ok([*state, event])


@pytest.mark.otp("gen_event_SUITE", "notify")
@pytest.mark.otp("gen_event_SUITE", "sync_notify")
@pytest.mark.otp("gen_event_SUITE", "info")
@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(
    "way",
    [
        (lambda s: RemoveHandler(), "remove_handler", "normal"),
        (lambda s: "faulty", ("error", "faulty"), "faulty"),
        (lambda s: None, ("error", None), None),
        (leave, ("error", ("EXIT", "gone")), ("EXIT", "gone")),
    ],
)
def test_handler_that_goes_harms_nobody_else(do, manager, tell, owner, entry, way):
    event, args, told = way
    probe = Probe()
    do(gen_event.add_handler(manager, Bystander()))
    owner.call(lambda: gen_event.add_sup_handler(manager, probe))
    do(gen_event.add_handler(manager, (Bystander(), "newer")))
    tell(entry, event)

    assert probe.seen == [("terminate", args)]
    assert owner.call("messages") == [GenEventExit(Probe, told)]
    assert names(do, manager) == [(Bystander, "newer"), Bystander]
    assert state_of(do, manager, Bystander) == [event]


@pytest.mark.otp("gen_event_SUITE", "notify")
@pytest.mark.otp("gen_event_SUITE", "sync_notify")
@pytest.mark.otp("gen_event_SUITE", "info")
@pytest.mark.parametrize("entry", ENTRIES)
def test_handler_that_crashes_is_removed_and_reported(do, manager, tell, owner, reports, entry):
    owner.call(lambda: gen_event.add_sup_handler(manager, (Probe(), 1)))
    tell(entry, crash)

    (told,) = owner.call("messages")
    kind, reason = told.reason
    assert (told.handler, kind, type(reason)) == ((Probe, 1), "EXIT", Raised)
    assert isinstance(reason.error, ValueError)
    (report,) = [each for each in reports if isinstance(each, EventHandlerReport)]
    assert (report.handler, report.manager) == ("(Probe, 1)", repr(manager))
    assert report.reason is told.reason
    assert report.callback == ("handle_info" if entry == "info" else "handle_event")
    assert "crash" in report.last_event
    assert names(do, manager) == []


@pytest.mark.otp("gen_event_SUITE", "sync_notify")
def test_sync_notify_returns_after_all_handlers_ran(runtime, manager, do):
    class Slow(Bare):
        async def handle_event(self, event, state):
            await asyncio.sleep(1.0)
            ran.append(runtime.clock())
            return Ok(state)

    ran = []
    do(gen_event.add_handler(manager, Slow()), gen_event.add_handler(manager, (Slow(), 2)))
    runtime.run(gen_event.sync_notify(manager, "event"))

    assert ran == [1.0, 2.0]
    gen_event.notify(manager, "event")
    assert len(ran) == 2  # notify does not wait
    runtime.advance(2.0)
    assert len(ran) == 4


def test_swap_whose_new_handler_refuses_tells_the_supervising_process(
    do, manager, tell, owner, reports
):
    owner.call(lambda: gen_event.add_sup_handler(manager, Probe()))
    tell("notify", lambda s: SwapHandler("a", s, Second(lambda: Stop("no"))))

    assert owner.call("messages") == [
        GenEventExit(Probe, ("swapped", Second, owner.pid)),
        GenEventExit(Second, "no"),
    ]
    assert [report.handler for report in reports] == ["Second"]
    assert names(do, manager) == []


def test_swap_to_what_is_no_handler_is_a_wrong_return(do, manager, tell, owner):
    owner.call(lambda: gen_event.add_sup_handler(manager, Probe()))
    tell("notify", lambda s: SwapHandler("a", s, Second))

    (told,) = owner.call("messages")
    assert isinstance(told.reason, SwapHandler)
    assert names(do, manager) == []


def test_notify_of_nobody_vanishes_and_sync_notify_fails(runtime, owner, do, manager):
    async def both():
        gen_event.notify("nobody", "event")
        await gen_event.sync_notify("nobody", "event")

    assert isinstance(owner.call(both), NoProcessError)
    do(gen_event.stop(manager))
    gen_event.notify(manager, "event")
    with pytest.raises(NoProcessError):
        do(gen_event.sync_notify(manager, "event"))


def test_call_that_is_not_for_a_manager_is_a_message(do, manager):
    do(gen_event.add_handler(manager, Probe()))
    with pytest.raises(CallTimeoutError):
        do(ask(manager, "hello"))

    (message,) = state_of(do, manager, Probe)
    assert (message[0], message[2]) == ("$gen_call", "hello")


async def ask(pid, request):
    return await gen_server.call(pid, request, 0.1)


# Calls.


@pytest.mark.otp("gen_event_SUITE", "call")
def test_call_reaches_one_handler(do, manager):
    do(gen_event.add_handler(manager, Probe()), gen_event.add_handler(manager, (Probe(), 1)))
    do(gen_event.call(manager, (Probe, 1), lambda s: gen_event.Reply("set", ["one"])))

    assert do(gen_event.call(manager, Probe, "q")) == ("q", [])
    assert do(gen_event.call(manager, (Probe, 1), "q", 10.0)) == ("q", ["one"])
    with pytest.raises(HandlerNotFoundError) as missing:
        do(gen_event.call(manager, Second, "q"))
    assert missing.value.reason == "bad_module"
    with pytest.raises(CallTimeoutError):
        do(gen_event.call(manager, Probe, wait_a_second, 0.5))
    with pytest.raises(NoProcessError):
        do(gen_event.stop(manager), gen_event.call(manager, Probe, "q"))


async def wait_a_second(state):
    await asyncio.sleep(1.0)
    return gen_event.Reply("late", state)


@pytest.mark.otp("gen_event_SUITE", "call")
@pytest.mark.parametrize("with_id", [False, True])
def test_handler_may_swap_or_remove_itself_in_a_call(do, manager, owner, with_id):
    old, new = ((Probe, 1), (Second, 2)) if with_id else (Probe, Second)
    owner.call(lambda: gen_event.add_sup_handler(manager, (Probe(), 1) if with_id else Probe()))
    swap = SwapHandler("args", [], (Second(), 2) if with_id else Second(), "swapped")

    assert do(gen_event.call(manager, old, lambda s: swap)) == "swapped"
    assert names(do, manager) == [new]
    assert do(gen_event.call(manager, new, lambda s: RemoveHandler("bye"))) == "bye"
    assert names(do, manager) == []
    assert [told.reason for told in owner.call("messages")] == [
        ("swapped", new, owner.pid),
        "normal",
    ]


@pytest.mark.otp("gen_event_SUITE", "call")
@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (lambda s: ("return", "faulty"), ("return", "faulty")),
        (Ok, None),
        (leave, ("EXIT", "gone")),
        (crash, None),
    ],
)
def test_handler_that_fails_in_a_call_is_removed(do, manager, owner, request_, reason):
    probe = Probe()
    owner.call(lambda: gen_event.add_sup_handler(manager, probe))
    do(gen_event.add_handler(manager, Bystander()))
    with pytest.raises(HandlerError) as failed:
        do(gen_event.call(manager, Probe, request_))

    if request_ is crash:
        kind, raised = failed.value.reason
        assert (kind, type(raised.error)) == ("EXIT", ValueError)
    elif request_ is Ok:
        assert isinstance(failed.value.reason, Ok)
    else:
        assert failed.value.reason == reason
    assert owner.call("messages") == [GenEventExit(Probe, failed.value.reason)]
    assert probe.seen == [("terminate", ("error", failed.value.reason))]
    assert names(do, manager) == [Bystander]


# Callbacks that wait.


class Patient(EventHandler[list]):
    async def init(self):
        await asyncio.sleep(1.0)
        return []

    async def handle_event(self, event, state):
        await asyncio.sleep(1.0)
        if event == "crash":
            raise ValueError
        return Ok([*state, event])

    async def handle_call(self, request, state):
        await asyncio.sleep(1.0)
        return gen_event.Reply(state, state)

    async def terminate(self, args, state):
        await asyncio.sleep(1.0)
        return args


def test_callbacks_may_wait_and_keep_the_order(runtime, do, manager):
    do(gen_event.add_handler(manager, Patient()), gen_event.add_handler(manager, Probe()))
    manager.cast(1)
    manager.cast(2)

    assert do(gen_event.call(manager, Patient, "state")) == [1, 2]
    assert runtime.clock() == 4.0
    assert do(gen_event.delete_handler(manager, Patient, "args")) == "args"
    assert runtime.clock() == 5.0


def test_waiting_handler_that_fails_is_removed(do, manager):
    do(gen_event.add_handler(manager, Probe()), gen_event.add_handler(manager, Patient()))
    do(gen_event.sync_notify(manager, "crash"))

    assert names(do, manager) == [Probe]
    assert state_of(do, manager, Probe) == ["crash"]


def test_manager_killed_while_a_handler_waits_fails_its_callers(runtime, do, manager):
    do(gen_event.add_handler(manager, Patient()))

    async def killed():
        asking = asyncio.ensure_future(gen_event.sync_notify(manager, "event"))
        await asyncio.sleep(0.5)
        runtime.runtime.exit(manager, "kill")
        await asking

    with pytest.raises(CallError) as failed:
        do(killed())
    assert failed.value.cause == "killed"


# Missing callbacks.


@pytest.mark.otp("gen_event_SUITE", "undef_init")
def test_missing_init_is_the_error_of_add_handler(do, manager):
    with pytest.raises(HandlerError) as failed:
        do(gen_event.add_handler(manager, EventHandler()))

    kind, reason = failed.value.reason
    assert (kind, type(reason.error)) == ("EXIT", UndefinedCallbackError)
    assert names(do, manager) == []


@pytest.mark.otp("gen_event_SUITE", "undef_handle_call")
def test_missing_handle_call_fails_the_call_and_removes_the_handler(do, manager):
    do(gen_event.add_handler(manager, Bare()))
    with pytest.raises(HandlerError, match="Bare has no handle_call for 'q'"):
        do(gen_event.call(manager, Bare, "q"))

    assert names(do, manager) == []


@pytest.mark.otp("gen_event_SUITE", "undef_handle_event")
@pytest.mark.parametrize("entry", ["notify", "sync_notify"])
def test_missing_handle_event_removes_the_handler_alone(do, manager, tell, entry):
    do(gen_event.add_handler(manager, Bare()), gen_event.add_handler(manager, Probe()))
    tell(entry, "event")

    assert names(do, manager) == [Probe]


@pytest.mark.otp("gen_event_SUITE", "undef_handle_info")
def test_missing_handle_info_is_a_warning_only(do, manager, tell, caplog):
    do(gen_event.add_handler(manager, Bare()))
    tell("info", "hello")

    assert names(do, manager) == [Bare]
    assert "Bare has no handle_info for 'hello'" in caplog.text


@pytest.mark.otp("gen_event_SUITE", "undef_terminate")
def test_missing_terminate_is_fine(do, manager):
    do(gen_event.add_handler(manager, Bare()))

    assert do(gen_event.delete_handler(manager, Bare)) is None
    assert names(do, manager) == []


@pytest.mark.otp("gen_event_SUITE", "undef_in_terminate")
def test_terminate_that_fails_inside_is_the_error_of_delete_handler(do, manager, reports):
    class Careless(Bare):
        def terminate(self, args, state):
            return self.missing_function()

    do(gen_event.add_handler(manager, Careless()))
    with pytest.raises(HandlerError) as failed:
        do(gen_event.delete_handler(manager, Careless))

    assert isinstance(failed.value.reason[1].error, AttributeError)
    assert names(do, manager) == []
    assert [report.reason for report in reports] == [failed.value.reason]


def test_terminate_that_fails_in_a_swap_hands_over_its_failure(do, manager):
    class Careless(Bare):
        def terminate(self, args, state):
            raise ExitError("sorry")

    second = Second()
    do(gen_event.add_handler(manager, Careless()))
    do(gen_event.swap_handler(manager, Careless, second))

    assert second.seen == [("handed", ("EXIT", "sorry"))]


def test_terminate_that_fails_when_the_manager_stops_is_reported(do, manager, reports):
    class Careless(Bare):
        def terminate(self, args, state):
            raise ValueError(args)

    probe = Probe()
    do(gen_event.add_handler(manager, probe), gen_event.add_handler(manager, Careless()))
    do(gen_event.stop(manager))

    assert probe.seen == [("terminate", "stop")]
    assert [report.handler.split(".")[-1] for report in reports] == ["Careless"]


def test_new_handler_starts_afresh_unless_it_takes_over(do, manager):
    do(gen_event.add_handler(manager, Probe()), gen_event.swap_handler(manager, Probe, Bare()))

    assert names(do, manager) == [Bare]


# Links of a manager.


def test_end_of_any_linked_process_is_a_message_to_the_handlers(runtime, do, manager):
    async def linked():
        link(manager)
        raise ExitError("done")

    do(gen_event.add_handler(manager, Probe()))
    pid = runtime.runtime.spawn(linked)
    runtime.run_until_idle()

    assert state_of(do, manager, Probe) == [Exit(pid, "done")]


def test_handler_may_notify_its_own_manager(do, manager):
    do(gen_event.add_handler(manager, Probe()))

    def again(state):
        gen_event.notify("events", "second")
        send(self_pid(), "third")
        return Ok(["first"])

    do(gen_event.sync_notify(manager, again))

    assert state_of(do, manager, Probe) == ["first", "second", "third"]


def test_sys_is_not_disturbed_by_hundreds_of_handlers(do, manager):
    for number in range(300):
        do(gen_event.add_handler(manager, (Probe(), number)))
    do(gen_event.sync_notify(manager, "event"))
    states = do(sys.get_state(manager))

    assert [state[1] for state in states] == list(reversed(range(300)))
    assert all(state[2] == ["event"] for state in states)
