"""Requests that do not wait, to machines."""

import asyncio

import pytest

from otp import (
    GenServer,
    GenStatem,
    NoReply,
    Stop,
    gen_statem,
    self_pid,
)
from otp.gen_statem import HANDLE_EVENT_FUNCTION, KeepStateAndData, Ok
from otp.plain_process import receive
from otp.requests import (
    NO_REPLY,
    NO_REQUEST,
    TIMED_OUT,
    Answer,
    Failure,
)


class Machine(GenStatem[None, None]):
    """Answers after the time it is asked for; "crash" ends it."""

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


@pytest.fixture
def servers(runtime):
    return [runtime.runtime.start(Machine(), name) for name in ("one", "two")]


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


def shown(result):
    """Leave the collection out of a result."""
    return result[:2] if isinstance(result, tuple) else result


async def inbox():
    """Everything in the mailbox now."""
    me = self_pid()
    return [envelope[1] for envelope in me.queued()]


def test_answer_can_be_waited_for_checked_and_timed(servers, inside):
    one = servers[0]

    async def body():
        first = gen_statem.send_request(one, 0)
        seen = [await gen_statem.wait_response(first)]
        late = gen_statem.send_request("one", 1.0)
        seen += [
            await gen_statem.wait_response(late, 0.5),
            await gen_statem.wait_response(late, 0.6),
        ]
        checked = gen_statem.send_request(one, 0.1)
        message = await receive()
        seen += [
            gen_statem.check_response("other", checked),
            gen_statem.check_response(message, late),
        ]
        return [*seen, gen_statem.check_response(message, checked), await inbox()]

    assert inside(body) == [
        Answer("at once"),
        TIMED_OUT,
        Answer(1.0),
        NO_REPLY,
        NO_REPLY,
        Answer(0.1),
        [],
    ]


def test_request_to_nobody_fails_as_an_answer_not_at_once(runtime, servers, inside):
    one = servers[0]

    async def body():
        nobody = gen_statem.send_request("nobody", 0)
        crashing = gen_statem.send_request(one, "crash")
        seen = [await gen_statem.wait_response(crashing), await gen_statem.wait_response(nobody)]
        dead = gen_statem.send_request(one, 0)
        message = await receive()
        return [*seen, gen_statem.check_response(message, dead)]

    assert inside(body) == [
        Failure("crash", one),
        Failure("noproc", "nobody"),
        Failure("noproc", one),
    ]


def test_late_answer_of_an_abandoned_request_is_dropped(servers, inside):
    async def body():
        request = gen_statem.send_request(servers[0], 1.0)
        outcome = await gen_statem.receive_response(request, 0.5)
        await asyncio.sleep(1.0)
        return outcome, await inbox()

    assert inside(body) == (TIMED_OUT, [])


@pytest.mark.otp("gen_statem_SUITE", "send_request_receive_reqid_collection")
def test_collection_receives_in_arrival_order_and_abandons_the_rest(servers, inside):
    one, two = servers

    async def body():
        requests = gen_statem.reqids_new()
        gen_statem.send_request(one, 0.6, "slow", requests)
        gen_statem.send_request(two, 0.2, "fast", requests)
        gen_statem.send_request("nobody", 0, "missing", requests)
        gen_statem.send_request(two, 9.0, "too slow", requests)
        seen = [shown(await gen_statem.receive_response(requests, 1.0)) for _ in range(4)]
        size = gen_statem.reqids_size(requests)
        await asyncio.sleep(10.0)
        empty = await gen_statem.receive_response(gen_statem.reqids_new())
        return [*seen, empty], size, await inbox()

    seen, size, left = inside(body)
    assert seen == [
        (Failure("noproc", "nobody"), "missing"),
        (Answer(0.2), "fast"),
        (Answer(0.6), "slow"),
        TIMED_OUT,
        NO_REQUEST,
    ]
    assert (size, left) == (1, [])


@pytest.mark.otp("gen_statem_SUITE", "send_request_receive_reqid_collection")
def test_death_of_a_server_is_an_error_result_and_duplicates_are_refused(servers, inside):
    one, _two = servers

    async def body():
        requests = gen_statem.reqids_new()
        waiting = gen_statem.send_request(one, 5.0)
        gen_statem.reqids_add(waiting, "waiting", requests)
        try:
            gen_statem.reqids_add(waiting, "again", requests)
        except ValueError as error:
            refused = str(error)
        gen_statem.send_request(one, "crash", "crashing", requests)
        labels = {label for _, label in gen_statem.reqids_to_list(requests)}
        seen = [shown(await gen_statem.receive_response(requests, delete=False)) for _ in range(2)]
        return refused, labels, seen, len(requests)

    refused, labels, seen, left = inside(body)
    assert "already" in refused
    assert labels == {"waiting", "crashing"}
    assert {outcome for outcome, _ in seen} == {Failure("crash", one)}
    assert {label for _, label in seen} == labels
    assert left == 2


@pytest.mark.otp("gen_statem_SUITE", "send_request_wait_reqid_collection")
def test_collection_keeps_what_was_too_late_to_be_waited_for(servers, inside):
    one, two = servers

    async def body():
        requests = gen_statem.reqids_new()
        for label, (server, after_s) in enumerate([(one, 3.0), (two, 1.0), (one, 2.0)]):
            gen_statem.send_request(server, after_s, label, requests)
        seen = [await gen_statem.wait_response(requests, time) for time in (0.0, 0.5)]
        sizes = [len(requests)]
        seen += [shown(await gen_statem.wait_response(requests, 5.0)) for _ in range(4)]
        return seen, [*sizes, len(requests)], await inbox()

    seen, sizes, left = inside(body)
    assert seen == [
        TIMED_OUT,
        TIMED_OUT,
        (Answer(1.0), 1),
        (Answer(2.0), 2),
        (Answer(3.0), 0),
        NO_REQUEST,
    ]
    assert (sizes, left) == ([3, 0], [])


@pytest.mark.otp("gen_statem_SUITE", "send_request_check_reqid_collection")
def test_messages_received_by_hand_are_checked_against_a_collection(servers, inside):
    one, two = servers

    async def body():
        requests, others = gen_statem.reqids_new(), gen_statem.reqids_new()
        seen = [gen_statem.check_response("message", requests)]
        gen_statem.send_request(one, 0.2, "a", requests)
        gen_statem.send_request(two, 0.1, "b", requests)
        gen_statem.send_request(two, 5.0, "c", others)
        self_pid().send("message")
        for _ in range(3):
            message = await receive()
            seen.append(shown(gen_statem.check_response(message, others)))
            seen.append(shown(gen_statem.check_response(message, requests, delete=False)))
            seen.append(len(requests))
        seen.append(shown(gen_statem.check_response(message, requests)))
        return [*seen, len(requests)]

    assert inside(body) == [
        NO_REQUEST,
        *(NO_REPLY, NO_REPLY, 2),
        *(NO_REPLY, (Answer(0.1), "b"), 2),
        *(NO_REPLY, (Answer(0.2), "a"), 2),
        (Answer(0.2), "a"),
        1,
    ]


@pytest.mark.otp("gen_statem_SUITE", "send_request_check_reqid_collection")
def test_death_of_a_machine_is_an_error_result_of_a_checked_message(servers, inside):
    one, _two = servers

    async def body():
        requests = gen_statem.reqids_new()
        gen_statem.send_request(one, 5.0, "waiting", requests)
        gen_statem.send_request(one, "crash", "crashing", requests)
        seen = [shown(gen_statem.check_response(await receive(), requests)) for _ in range(2)]
        return {label: outcome for outcome, label in seen}, len(requests)

    failed = Failure("crash", one)
    assert inside(body) == ({"waiting": failed, "crashing": failed}, 0)


@pytest.mark.otp("gen_statem_SUITE", "send_request_wait_reqid_collection")
def test_death_of_a_machine_is_an_error_result_when_waited_for(servers, inside):
    one, two = servers

    async def body():
        requests = gen_statem.reqids_new()
        gen_statem.send_request(two, 2.0, "answered", requests)
        gen_statem.send_request(one, "crash", "crashing", requests)
        return [shown(await gen_statem.wait_response(requests, 5.0)) for _ in range(2)]

    assert inside(body) == [(Failure("crash", one), "crashing"), (Answer(2.0), "answered")]


def test_server_that_sent_a_request_gets_the_answer_as_an_info(runtime, servers):
    class Client(GenServer):
        def init(self):
            self.seen = []
            self.requests = gen_statem.reqids_new()
            gen_statem.send_request(servers[0], 1.0, "mine", self.requests)

        def handle_info(self, message, state):
            self.seen.append(shown(gen_statem.check_response(message, self.requests)))
            return NoReply(state)

    client = Client()
    runtime.start(client).send("other")
    runtime.advance(2.0)

    assert client.seen == [NO_REPLY, (Answer(1.0), "mine")]
