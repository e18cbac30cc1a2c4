import pytest

from otp import TIMEOUT, Continue, GenServer, NoReply, Ok, Reply, Timeout, sys
from otp.gen_server import Hibernate


class Sleeper(GenServer[str]):
    """Returns the action it is told to, from every callback; notes what comes."""

    def __init__(self, action=None):
        self.action = action
        self.seen = []

    def init(self):
        return Ok("state", self.action)

    def handle_call(self, request, from_, state):
        return Reply("answer", state, request)

    def handle_cast(self, request, state):
        return NoReply(state, request)

    def handle_info(self, message, state):
        self.seen.append((message, self.runtime.clock()))
        return NoReply(state, message if isinstance(message, Timeout) else None)

    def handle_continue(self, term, state):
        return NoReply(state, term)


class Dozer(Sleeper):
    hibernate_after_s = 2.0


@pytest.fixture
def sleeper(runtime):
    server = Sleeper()
    return runtime.start(server), server


WAYS = {
    "call": lambda handle, action: handle.call(action),
    "cast": lambda handle, action: handle.cast(action),
    "info": lambda handle, action: handle.send(action),
    "continue": lambda handle, action: handle.cast(Continue(action)),
}


@pytest.mark.otp("gen_server_SUITE", "hibernate")
@pytest.mark.parametrize("way", list(WAYS))
def test_every_callback_can_hibernate_until_the_next_message(runtime, sleeper, way):
    handle, _ = sleeper
    WAYS[way](handle, Hibernate())
    runtime.run_until_idle()
    assert handle.pid.hibernated
    runtime.advance(100.0)
    assert handle.pid.hibernated
    handle.cast(None)
    runtime.run_until_idle()

    assert not handle.pid.hibernated


@pytest.mark.otp("gen_server_SUITE", "hibernate")
@pytest.mark.parametrize("way", ["call", "cast", "info"])
def test_any_message_wakes_a_hibernating_server(runtime, sleeper, way):
    handle, _ = sleeper
    handle.call(Hibernate())
    WAYS[way](handle, None)
    runtime.run_until_idle()

    assert not handle.pid.hibernated


@pytest.mark.otp("gen_server_SUITE", "hibernate")
def test_server_can_hibernate_from_init(runtime):
    handle = runtime.start(Sleeper(Hibernate()))

    assert handle.pid.hibernated
    assert handle.call(None) == "answer"
    assert not handle.pid.hibernated


@pytest.mark.otp("gen_server_SUITE", "hibernate")
def test_suspension_and_system_messages_leave_it_hibernated(runtime, sleeper):
    handle, server = sleeper
    handle.call(Hibernate())
    runtime.run(sys.suspend(handle.pid))
    assert handle.pid.hibernated
    handle.send("later")
    runtime.run_until_idle()
    assert server.seen == []
    runtime.run(sys.resume(handle.pid))
    runtime.run_until_idle()
    assert [message for message, _ in server.seen] == ["later"]
    assert not handle.pid.hibernated

    handle.call(Hibernate())
    assert runtime.run(sys.get_state(handle.pid)) == "state"
    assert handle.pid.hibernated


@pytest.mark.otp("gen_server_SUITE", "hibernate")
def test_waiting_message_wakes_it_at_once(runtime, sleeper):
    handle, server = sleeper
    handle.cast(Hibernate())
    handle.send("x")
    runtime.run_until_idle()

    assert not handle.pid.hibernated
    assert [message for message, _ in server.seen] == ["x"]


@pytest.mark.parametrize("way", list(WAYS))
def test_hibernation_may_end_with_a_message_after_a_while(runtime, sleeper, way):
    handle, server = sleeper
    WAYS[way](handle, Hibernate(3.0, "wake"))
    runtime.advance(2.0)
    assert handle.pid.hibernated
    runtime.advance(1.0)

    assert server.seen[-1] == ("wake", 3.0)
    assert not handle.pid.hibernated


def test_message_cancels_the_end_of_hibernation(runtime, sleeper):
    handle, server = sleeper
    handle.call(Hibernate(3.0, "wake"))
    handle.cast(None)
    runtime.advance(9.0)

    assert server.seen == []


@pytest.mark.otp("gen_server_SUITE", "auto_hibernate")
@pytest.mark.parametrize("way", [None, *WAYS])
def test_idle_server_hibernates_after_its_time(runtime, way):
    handle = runtime.start(Dozer())
    runtime.advance(1.0)
    if way is not None:
        WAYS[way](handle, None)
        runtime.advance(1.5)
        assert not handle.pid.hibernated
        runtime.advance(0.5)
    else:
        assert not handle.pid.hibernated
        runtime.advance(1.0)
    assert handle.pid.hibernated
    handle.call(None)
    assert not handle.pid.hibernated
    runtime.advance(2.0)

    assert handle.pid.hibernated


@pytest.mark.otp("gen_server_SUITE", "auto_hibernate")
def test_server_with_a_time_out_does_not_doze_before_it(runtime):
    server = Dozer()
    handle = runtime.start(server)
    handle.call(Timeout(3.0))
    runtime.advance(2.5)
    assert not handle.pid.hibernated
    runtime.advance(0.5)

    assert server.seen == [(TIMEOUT, 3.0)]


def test_end_of_a_dozing_server_leaves_no_timer(runtime):
    for server in (Dozer(), Sleeper(Hibernate(5.0, "x"))):
        handle = runtime.start(server)
        handle.exit("shutdown")
        runtime.run_until_idle()

    assert runtime.stats().timers == 0


# Time-outs with a message.


@pytest.mark.parametrize("by", ["plain", "continue"])
@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("action", [Timeout, Hibernate])
def test_init_may_start_a_time_out_of_either_kind(runtime, by, absolute, action):
    runtime.advance(1.0)
    wanted = action(3.0 if absolute else 2.0, "message", absolute=absolute)
    server = Sleeper(Continue(wanted) if by == "continue" else wanted)
    handle = runtime.start(server)
    assert handle.pid.hibernated == (action is Hibernate)
    runtime.advance(5.0)

    assert server.seen == [("message", 3.0)]


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("action", [Timeout, Hibernate])
def test_callbacks_may_start_a_time_out_of_either_kind(runtime, way, absolute, action):
    server = Sleeper()
    handle = runtime.start(server)
    runtime.advance(1.0)
    WAYS[way](handle, action(4.0 if absolute else 3.0, "message", absolute=absolute))
    runtime.run_until_idle()
    assert handle.pid.hibernated == (action is Hibernate)
    runtime.advance(9.0)

    assert server.seen[-1] == ("message", 4.0)
    assert [message for message, _ in server.seen].count("message") == 1


@pytest.mark.parametrize("way", ["call", "cast", "info"])
@pytest.mark.parametrize("action", [Timeout, Hibernate])
def test_another_message_cancels_a_time_out(runtime, way, action):
    server = Sleeper(action(2.0, "message"))
    handle = runtime.start(server)
    runtime.advance(1.0)
    WAYS[way](handle, None)
    runtime.advance(9.0)

    assert "message" not in [message for message, _ in server.seen]


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("action", [Timeout, Hibernate])
def test_zero_time_out_comes_before_queued_messages(runtime, way, action):
    server = Sleeper()
    handle = runtime.start(server)
    runtime.run(sys.suspend(handle.pid))  # so that both wait when it goes on
    if way == "call":
        handle.pid.call(action(0, "message"))
    else:
        WAYS[way](handle, action(0, "message"))
    handle.send("queued")
    runtime.run(sys.resume(handle.pid))
    runtime.run_until_idle()

    assert [message for message, _ in server.seen][-2:] == ["message", "queued"]


@pytest.mark.parametrize("by", ["plain", "continue"])
@pytest.mark.parametrize("action", [Timeout, Hibernate])
def test_zero_time_out_of_init_comes_before_queued_messages(runtime, by, action):
    class Told(Sleeper):
        def init(self):
            self.pid.send("queued")
            return super().init()

    zero = action(0, "message")
    server = Told(Continue(zero) if by == "continue" else zero)
    runtime.start(server)
    runtime.run_until_idle()

    assert [message for message, _ in server.seen] == ["message", "queued"]
