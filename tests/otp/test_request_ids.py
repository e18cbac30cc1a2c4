"""Requests that do not wait, to a gen_server and to a gen_statem."""

import asyncio

import pytest

from otp import (
    CallError,
    GenServer,
    GenStatem,
    NoProcessError,
    NoReply,
    OtpError,
    Reply,
    Stop,
    gen_statem,
    self_pid,
)
from otp.gen_statem import HANDLE_EVENT_FUNCTION, KeepStateAndData, Ok
from otp.plain_process import receive
from otp.request_ids import (
    NO_REPLY,
    NO_REQUEST,
    TIMED_OUT,
    Failed,
    Replied,
    RequestIds,
    check_response,
    receive_response,
    send_request,
    wait_response,
)


class Server(GenServer[None]):
    """Answers after the time it is asked for; "crash" ends it."""

    def init(self):
        return None

    def handle_call(self, request, from_, state):
        if request == "crash":
            return Stop("crash", state)
        if request:
            self.runtime.send_after(self.pid, request, from_)
            return NoReply(state)
        return Reply("at once", state)

    def handle_info(self, message, state):
        message.reply(message.request)
        return NoReply(state)


class Machine(GenStatem[None, None]):
    """The same as a machine."""

    def init(self):
        return Ok(None, None)

    def callback_mode(self):
        return HANDLE_EVENT_FUNCTION

    def handle_event(self, event_type, content, state, data):
        match event_type, content:
            case ("call", _), "crash":
                return Stop("crash")
            case ("call", from_), 0:
                return KeepStateAndData(gen_statem.Reply(from_, "at once"))
            case ("call", from_), after_s:
                return KeepStateAndData(gen_statem.NamedTimeout(from_, after_s, after_s))
            case ("timeout", from_), _:
                return KeepStateAndData(gen_statem.Reply(from_, content))


@pytest.fixture(params=[Server, Machine])
def servers(runtime, request):
    return [runtime.runtime.start(request.param(), name) for name in ("one", "two")]


@pytest.fixture
def inside(runtime):
    """Run a coroutine function in a plain process; give what it returns."""

    def run(body):
        async def noted():
            outcome.append(await body())

        outcome = []
        pid = runtime.runtime.spawn(noted)
        runtime.advance(60.0)
        assert outcome, pid.exit_reason
        return outcome[0]

    return run


async def inbox():
    """Everything in the mailbox now."""
    me = self_pid()
    return [envelope[1] for envelope in me.queued()]


def test_answer_can_be_waited_for_checked_and_timed(servers, inside):
    one = servers[0]

    async def body():
        first = send_request(one, 0)
        seen = [await wait_response(first)]
        late = send_request("one", 1.0)
        seen += [await wait_response(late, 0.5), await wait_response(late, 0.6)]
        checked = send_request(one, 0.1)
        message = await receive()
        seen += [check_response("other", checked), check_response(message, late)]
        return [*seen, check_response(message, checked), await inbox()]

    assert inside(body) == [
        Replied("at once"),
        TIMED_OUT,
        Replied(1.0),
        NO_REPLY,
        NO_REPLY,
        Replied(0.1),
        [],
    ]


def test_request_to_nobody_fails_as_an_answer_not_at_once(runtime, servers, inside):
    one = servers[0]

    async def body():
        nobody = send_request("nobody", 0)
        crashing = send_request(one, "crash")
        seen = [await wait_response(crashing), await wait_response(nobody)]
        dead = send_request(one, 0)
        message = await receive()
        return [*seen, check_response(message, dead)]

    assert inside(body) == [Failed("crash", one), Failed("noproc", "nobody"), Failed("noproc", one)]


def test_late_answer_of_an_abandoned_request_is_dropped(servers, inside):
    async def body():
        request = send_request(servers[0], 1.0)
        outcome = await receive_response(request, 0.5)
        await asyncio.sleep(1.0)
        return outcome, await inbox()

    assert inside(body) == (TIMED_OUT, [])


def test_request_can_be_awaited_like_a_call(servers, inside):
    async def body():
        seen = [await send_request(servers[0], 0.1)]
        for request in (send_request(servers[0], "crash"), send_request("nobody", 0)):
            try:
                await request
            except NoProcessError:
                seen.append("noproc")
            except CallError as error:
                seen.append(error.cause)
        return seen, await inbox()

    assert inside(body) == ([0.1, "crash", "noproc"], [])


@pytest.mark.otp("gen_server_SUITE", "send_request_receive_reqid_collection")
@pytest.mark.otp("gen_statem_SUITE", "send_request_receive_reqid_collection")
def test_collection_receives_in_arrival_order_and_abandons_the_rest(servers, inside):
    one, two = servers

    async def body():
        requests = RequestIds()
        send_request(one, 0.6, "slow", requests)
        send_request(two, 0.2, "fast", requests)
        send_request("nobody", 0, "missing", requests)
        send_request(two, 9.0, "too slow", requests)
        seen = [await receive_response(requests) for _ in range(2)]
        seen.append(await receive_response(requests, 1.0))
        sizes = [len(requests)]
        seen.append(await receive_response(requests, 1.0))
        sizes.append(len(requests))
        seen.append(await receive_response(requests))
        await asyncio.sleep(10.0)
        return seen, sizes, await inbox()

    seen, sizes, left = inside(body)
    assert seen == [
        (Failed("noproc", "nobody"), "missing"),
        (Replied(0.2), "fast"),
        (Replied(0.6), "slow"),
        TIMED_OUT,
        NO_REQUEST,
    ]
    assert (sizes, left) == ([1, 0], [])


@pytest.mark.otp("gen_server_SUITE", "send_request_receive_reqid_collection")
@pytest.mark.otp("gen_statem_SUITE", "send_request_receive_reqid_collection")
def test_death_of_a_server_is_an_error_result_and_duplicates_are_refused(servers, inside):
    one, _two = servers

    async def body():
        requests = RequestIds()
        waiting = send_request(one, 5.0)
        requests.add(waiting, "waiting")
        try:
            requests.add(waiting, "again")
        except OtpError as error:
            refused = str(error)
        send_request(one, "crash", "crashing", requests)
        labels = {label for _, label in requests}
        seen = [await receive_response(requests, delete=False) for _ in range(2)]
        return refused, labels, seen, len(requests)

    refused, labels, seen, left = inside(body)
    assert "already" in refused
    assert labels == {"waiting", "crashing"}
    assert {outcome for outcome, _ in seen} == {Failed("crash", one)}
    assert {label for _, label in seen} == labels
    assert left == 2


@pytest.mark.otp("gen_server_SUITE", "send_request_wait_reqid_collection")
@pytest.mark.otp("gen_statem_SUITE", "send_request_wait_reqid_collection")
def test_collection_keeps_what_was_too_late_to_be_waited_for(servers, inside):
    one, two = servers

    async def body():
        requests = RequestIds()
        for label, (server, after_s) in enumerate([(one, 3.0), (two, 1.0), (one, 2.0)]):
            send_request(server, after_s, label, requests)
        seen = [await wait_response(requests, 0.0), await wait_response(requests, 0.5)]
        sizes = [len(requests)]
        seen += [await wait_response(requests, 5.0) for _ in range(4)]
        return seen, [*sizes, len(requests)], await inbox()

    seen, sizes, left = inside(body)
    assert seen == [
        TIMED_OUT,
        TIMED_OUT,
        (Replied(1.0), 1),
        (Replied(2.0), 2),
        (Replied(3.0), 0),
        NO_REQUEST,
    ]
    assert (sizes, left) == ([3, 0], [])


@pytest.mark.otp("gen_server_SUITE", "send_request_check_reqid_collection")
@pytest.mark.otp("gen_statem_SUITE", "send_request_check_reqid_collection")
def test_messages_received_by_hand_are_checked_against_a_collection(servers, inside):
    one, two = servers

    async def body():
        requests, others = RequestIds(), RequestIds()
        seen = [check_response("message", requests)]
        send_request(one, 0.2, "a", requests)
        send_request(two, 0.1, "b", requests)
        send_request(two, 5.0, "c", others)
        self_pid().send("message")
        for _ in range(3):
            message = await receive()
            seen.append(check_response(message, others))
            seen.append(check_response(message, requests, delete=False))
            seen.append(len(requests))
        seen.append(check_response(message, requests))
        return [*seen, len(requests)]

    assert inside(body) == [
        NO_REQUEST,
        *(NO_REPLY, NO_REPLY, 2),
        *(NO_REPLY, (Replied(0.1), "b"), 2),
        *(NO_REPLY, (Replied(0.2), "a"), 2),
        (Replied(0.2), "a"),
        1,
    ]


def test_server_that_sent_a_request_gets_the_answer_as_an_info(runtime, servers):
    class Client(GenServer):
        def init(self):
            self.seen = []
            self.requests = RequestIds()
            send_request(servers[0], 1.0, "mine", self.requests)

        def handle_info(self, message, state):
            self.seen.append(check_response(message, self.requests))
            return NoReply(state)

    client = Client()
    runtime.start(client).send("other")
    runtime.advance(2.0)

    assert client.seen == [NO_REPLY, (Replied(1.0), "mine")]
