"""Mailboxes against a model: several senders, all kinds of messages and signals, one receiver of either sort."""

from __future__ import annotations

from collections import deque

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
    Down,
    Exit,
    GenServer,
    NoReply,
    ReceiveTimeoutError,
    Reply,
    Stop,
    exit,  # noqa: A004 - Erlang's name
    link,
    monitor,
    receive,
    send,
    trap_exit,
)
from otp.testing import VirtualRuntime

SENDERS = 3
KINDS = ("info", "cast", "call", "exit", "down")
LIMITS = settings(max_examples=100, stateful_step_count=30, deadline=None)


class Sender(GenServer[None]):
    """Does what it is told, in that order."""

    def init(self):
        return None

    def handle_cast(self, request, state):
        dest, what, message = request
        match what:
            case "info":
                send(dest, message)
            case "cast":
                dest.cast(message)
            case "call":
                dest.call(message, None)
            case "exit":
                exit(dest, message)
            case "link":
                link(dest)
            case "stop":
                return Stop(message, state)
        return NoReply(state)


class Source:
    """A sender as the model sees it: what it has sent since the last look, in order."""

    def __init__(self, handle):
        self.handle = handle
        self.linked = False
        self.monitored = False
        self.ended = False
        self.pending = []


class MailboxMachine(RuleBasedStateMachine):
    """`arrived` is what came so far, in order; what a receiver did with it is for the two kinds of receiver."""

    @initialize(trap=st.booleans(), seed=st.none() | st.integers(0, 9))
    def begin(self, trap, seed):
        self.runtime = VirtualRuntime(seed)
        self.trap = trap
        self.serial = 0
        self.begin_again()

    def begin_again(self):
        for pid in list(self.runtime.runtime.processes()):
            pid.exit_signal(None, "kill")
        self.runtime.run_until_idle()
        self.pid = self.start_receiver()
        self.runtime.run_until_idle()
        self.sources = [self.new_source() for _ in range(SENDERS)]
        self.fatal = []

    def new_source(self):
        return Source(self.runtime.start(Sender()))

    def teardown(self):
        if hasattr(self, "runtime"):
            self.runtime.close()

    def tell(self, source, what, message=None):
        source.handle.cast((self.pid, what, message))

    @rule(number=st.integers(0, SENDERS - 1), whats=st.lists(st.sampled_from(KINDS[:3])))
    def sends(self, number, whats):
        source = self.sources[number]
        for what in [] if source.ended else whats:
            self.serial += 1
            message = (what, source.handle.pid, self.serial)
            source.pending.append(message)
            self.tell(source, what, message)

    @rule(number=st.integers(0, SENDERS - 1), reason=st.sampled_from(["normal", "odd"]))
    def signals(self, number, reason):
        source = self.sources[number]
        if source.ended or (reason != "normal" and not self.trap and self.serial % 3):
            return  # not too many deaths: they begin everything anew
        self.tell(source, "exit", reason)
        self.exit_sent(source, reason)

    def exit_sent(self, source, reason):
        if self.trap:
            source.pending.append(("exit", source.handle.pid, reason))
        elif reason != "normal":
            self.fatal.append(reason)

    @rule(number=st.integers(0, SENDERS - 1))
    def links(self, number):
        source = self.sources[number]
        if not source.ended:
            source.linked = True
            self.tell(source, "link")

    @rule(number=st.integers(0, SENDERS - 1), reason=st.sampled_from(["normal", "gone"]))
    def ends(self, number, reason):
        source = self.sources[number]
        if source.ended:
            return
        source.ended = True
        self.tell(source, "stop", reason)
        if source.linked:
            self.exit_sent(source, reason)
        if source.monitored:
            source.pending.append(("down", source.handle.pid, reason))

    @rule(number=st.integers(0, SENDERS - 1))
    def is_killed(self, number):
        if number == 0 and self.serial % 5 == 0:
            self.tell(self.sources[number], "exit", "kill")
            if not self.sources[number].ended:
                self.fatal.append("killed")

    @rule()
    def all_arrives(self):
        self.settle()

    def settle(self):
        self.runtime.run_until_idle()
        if self.fatal:
            assert self.pid.exit_reason in self.fatal
            assert self.pid.queue_length() == 0
            self.begin_again()
            return
        assert self.pid.is_alive()
        self.look()
        for number, source in enumerate(self.sources):
            source.pending = []
            if source.ended:
                self.sources[number] = self.new_source()

    def check_new(self, new):
        """Nothing lost, nothing doubled, the order of each sender kept."""
        by_sender = {source.handle.pid: [] for source in self.sources}
        for message in new:
            by_sender[message[1]].append(message)
        for source in self.sources:
            assert last_signals_sorted(by_sender[source.handle.pid]) == last_signals_sorted(
                source.pending
            )

    @invariant()
    def queue_of_several_is_never_left_empty(self):
        if hasattr(self, "pid") and self.pid.is_alive():
            mailbox = self.pid.mailbox
            assert type(mailbox) is not deque or mailbox
            assert self.pid.queue_length() == len(list(self.pid.queued()))


def last_signals_sorted(messages):
    """The order of the two signals of one end, to a link and to a monitor, is not promised."""
    if {message[0] for message in messages[-2:]} == {"exit", "down"}:
        return messages[:-2] + sorted(messages[-2:], key=lambda message: message[0])
    return messages


def plain(message):
    """A message of any kind as (kind, sender, serial number or reason)."""
    match message:
        case Exit(pid, reason):
            return ("exit", pid, reason)
        case Down(_, pid, reason):
            return ("down", pid, reason)
        case ("$gen_call", _, request) | ("$gen_cast", request):
            return request
    return message


def queued(pid):
    """The mailbox as messages; the second place of an envelope is the message, whatever its kind."""
    return [plain(envelope[1]) for envelope in pid.queued()]


class PlainMachine(MailboxMachine):
    """A plain process that receives selectively when it is told to."""

    def start_receiver(self):
        self.kept = []
        self.got = []
        self.wanted = None  # of the receive that waits
        self.next_step = None
        return self.runtime.runtime.spawn(self.receiver)

    async def receiver(self):
        trap_exit(self.trap)
        while True:
            self.next_step = self.runtime.loop.create_future()
            step = await self.next_step
            self.next_step = None
            if callable(step):
                step()
                continue
            kinds, timeout_s = step
            try:
                self.got.append(plain(await receive(lambda m: plain(m)[0] in kinds, timeout_s)))  # noqa: B023 - awaited here
            except ReceiveTimeoutError:
                self.got.append(None)

    @rule(number=st.integers(0, SENDERS - 1))
    def monitors(self, number):
        self.settle()
        source = self.sources[number]
        if self.next_step is not None and not source.monitored:
            self.next_step.set_result(lambda: monitor(source.handle.pid))
            source.monitored = True
            self.settle()

    @rule(
        kinds=st.sets(st.sampled_from(KINDS), min_size=1),
        timeout_s=st.sampled_from([0, 1.0, None]),
    )
    def receives(self, kinds, timeout_s):
        self.settle()
        if self.next_step is None:
            return
        self.next_step.set_result((kinds, timeout_s))
        self.runtime.run_until_idle()
        found = next((message for message in self.kept if message[0] in kinds), None)
        if found is not None:
            self.kept.remove(found)
        elif timeout_s != 0:
            self.wanted = (kinds, timeout_s)
            assert self.got == []
            return
        assert self.got == [found]
        self.got.clear()
        self.settle()

    @rule()
    def time_passes(self):
        self.settle()
        self.runtime.advance(1.0)
        if self.wanted is not None and self.wanted[1] is not None:
            self.wanted = None
            assert self.got == [None]
            self.got.clear()
        assert self.got == []

    def look(self):
        mailbox = queued(self.pid)
        size = len(self.kept)
        assert mailbox[:size] == self.kept  # what was skipped keeps its place
        new = mailbox[size:]
        self.kept = mailbox
        for taken in self.got:  # by the receive that waited: nothing it wants was there before
            kinds = self.wanted[0]
            mine = next(s for s in self.sources if s.handle.pid == taken[1]).pending
            assert taken == next(m for m in mine if m[0] in kinds)
            mine.remove(taken)
        if self.wanted is not None and not self.got:
            assert not any(message[0] in self.wanted[0] for message in new)
        elif self.got:
            assert len(self.got) == 1
            self.wanted = None
        self.got.clear()
        self.check_new(new)


class Receiver(GenServer[None]):
    """Notes what it handles; while the gate is shut its callbacks wait, and messages pile up."""

    def __init__(self, machine):
        self.machine = machine

    def init(self):
        self.trap_exit(self.machine.trap)

    def handle_call(self, request, from_, state):
        return self.note(request, Reply(None, state))

    def handle_cast(self, request, state):
        if request[0] == "monitor":
            monitor(request[1])
            return NoReply(state)
        return self.note(request, NoReply(state))

    def handle_info(self, message, state):
        return self.note(plain(message), NoReply(state))

    def note(self, message, result):
        self.machine.handled.append(message)
        return result if self.machine.gate is None else self.wait(result)

    async def wait(self, result):
        gate = self.machine.gate
        if gate is not None:
            await gate
        return result


class ServerMachine(MailboxMachine):
    """A gen_server, with a callback that waits now and then."""

    def start_receiver(self):
        self.handled = []
        self.arrived = []
        self.gate = None
        return self.runtime.start(Receiver(self)).pid

    @rule()
    def gate_shuts(self):
        self.settle()
        if self.gate is None:
            self.gate = self.runtime.loop.create_future()

    @precondition(lambda self: self.gate is not None)
    @rule()
    def gate_opens(self):
        gate, self.gate = self.gate, None
        gate.set_result(None)
        self.settle()

    @rule(number=st.integers(0, SENDERS - 1))
    def monitors(self, number):
        self.settle()
        source = self.sources[number]
        if self.gate is None and not source.monitored:
            source.monitored = True
            self.pid.cast(("monitor", source.handle.pid))
            self.settle()

    def look(self):
        waiting = queued(self.pid)
        if self.gate is None:
            assert waiting == []
        everything = self.handled + waiting
        size = len(self.arrived)
        assert everything[:size] == self.arrived
        self.arrived = everything
        self.check_new(everything[size:])


def test_plain_process_receives_what_was_sent():
    run_state_machine_as_test(PlainMachine, settings=LIMITS)


def test_server_handles_what_was_sent():
    run_state_machine_as_test(ServerMachine, settings=LIMITS)


def test_mailbox_goes_through_its_forms_and_back(runtime):
    forms = []

    async def body():
        me = runtime.runtime.whereis("me")
        for text in ("a", "b", "c"):
            forms.append(type(me.mailbox).__name__)
            me.send(text)
        for text in ("b", "a", "c"):
            forms.append(type(me.mailbox).__name__)
            assert await receive(lambda m: m == text) == text  # noqa: B023 - awaited here
        forms.append(type(me.mailbox).__name__)
        me.send("d")
        forms.append(type(me.mailbox).__name__)
        assert await receive() == "d"
        forms.append(type(me.mailbox).__name__)

    pid = runtime.runtime.spawn(body)
    runtime.runtime.register("me", pid)
    runtime.run_until_idle()

    assert pid.exit_reason == "normal"
    filled = ["NoneType", "Envelope", "deque", "deque", "deque", "deque"]
    assert forms == [*filled, "NoneType", "Envelope", "NoneType"]
