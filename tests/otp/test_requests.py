import pytest

from otp import (
    GenServer,
    NoReply,
    ReceiveTimeoutError,
    Reply,
    Stop,
    gen_server,
    receive,
)
from otp.gen_server import (
    NO_REPLY,
    NO_REQUEST,
    TIMED_OUT,
    Answer,
    Failure,
    check_response,
    receive_response,
    reqids_add,
    reqids_new,
    reqids_size,
    reqids_to_list,
    send_request,
    wait_response,
)


class Delayed(GenServer[None]):
    """Answers ("later", seconds, value) after that time, and ends at "stop"."""

    def init(self):
        return None

    def handle_call(self, request, from_, state):
        match request:
            case ("later", seconds, value):
                self.runtime.send_after(self.pid, seconds, (from_, value))
                return NoReply(state)
            case "stop":
                return Stop("stopped", state)
            case _:
                return Reply(request, state)

    def handle_info(self, message, state):
        from_, value = message
        from_.reply(value)
        return NoReply(state)


@pytest.fixture
def server(runtime):
    return runtime.start(Delayed(), "delayed").pid


@pytest.fixture
def inside(runtime):
    """Run a coroutine function inside a process; returns what it returned."""

    def run(body):
        outcome = []

        async def process():
            outcome.append(await body())

        async def until_over():
            await runtime.runtime.exited(runtime.runtime.spawn(process))

        runtime.run(until_over())
        return outcome[0]

    return run


async def look(timeout_s=0):
    """The next message, or None."""
    try:
        return await receive(timeout_s=timeout_s)
    except ReceiveTimeoutError:
        return None


# One request.


def test_answer_is_waited_for_and_may_be_there_already(inside, server):
    async def body():
        slow = send_request(server, ("later", 1.0, "slow"))
        quick = send_request("delayed", "quick")
        return await wait_response(slow), await wait_response(quick, 0)

    assert inside(body) == (Answer("slow"), Answer("quick"))


def test_wait_that_timed_out_may_be_repeated(inside, server):
    async def body():
        request = send_request(server, ("later", 1.0, "late"))
        return await wait_response(request, 0.5), await wait_response(request, 5.0)

    assert inside(body) == (TIMED_OUT, Answer("late"))


def test_receive_that_timed_out_drops_the_answer(inside, server):
    async def body():
        request = send_request(server, ("later", 1.0, "late"))
        return await receive_response(request, 0.5), await look(5.0)

    assert inside(body) == (TIMED_OUT, None)


def test_deadline_may_be_absolute(runtime, inside, server):
    async def body():
        request = send_request(server, ("later", 9.0, "late"))
        found = await wait_response(request, runtime.clock() + 2.0, absolute=True)
        return found, runtime.clock()

    assert inside(body) == (TIMED_OUT, 2.0)


@pytest.mark.parametrize(
    ("dest", "request_", "reason"),
    [("nobody", "x", "noproc"), ("dead", "x", "noproc"), ("delayed", "stop", "stopped")],
)
def test_failure_is_a_result(runtime, inside, server, dest, request_, reason):
    dead = runtime.start(Delayed()).pid
    dead.exit_signal(None, "kill")
    whom = dead if dest == "dead" else dest

    async def body():
        return await wait_response(send_request(whom, request_), 5.0)

    assert inside(body) == Failure(reason, whom)


def test_message_is_checked_for_the_answer(inside, server):
    async def body():
        one, two = send_request(server, "one"), send_request(server, "two")
        message = await receive()
        return (
            check_response("something", one),
            check_response(message, two),
            check_response(message, one),
        )

    assert inside(body) == (NO_REPLY, NO_REPLY, Answer("one"))


def test_answer_is_taken_past_older_messages(inside, server):
    async def body():
        request = send_request(server, ("later", 1.0, "answer"))
        other = send_request(server, "other")
        answer = await wait_response(request)
        return answer, check_response(await receive(), other)

    assert inside(body) == (Answer("answer"), Answer("other"))


def test_server_may_request_something_of_itself_for_later(runtime):
    seen = []

    class Selfish(Delayed):
        def handle_cast(self, request, state):
            seen.append(send_request(self.pid, request))
            return NoReply(state)

        def handle_info(self, message, state):
            seen.append(check_response(message, seen[0]))
            return NoReply(state)

    runtime.start(Selfish()).cast("x")
    runtime.run_until_idle()

    assert seen[1:] == [Answer("x")]


# Collections.


def requests(server, *delays):
    collection = reqids_new()
    for delay in delays:
        collection = send_request(server, ("later", delay, delay), f"label {delay}", collection)
    return collection


@pytest.mark.otp("gen_server_SUITE", "send_request_receive_reqid_collection")
@pytest.mark.parametrize("take", [receive_response, wait_response])
def test_collection_is_answered_in_order_of_arrival_with_labels(inside, server, take):
    async def body():
        collection = requests(server, 3.0, 1.0, 2.0)
        sizes, seen = [reqids_size(collection)], []
        while (found := await take(collection, 9.0)) != NO_REQUEST:
            result, label, collection = found
            seen.append((result.value, label))
            sizes.append(reqids_size(collection))
        return seen, sizes

    seen, sizes = inside(body)
    assert seen == [(1.0, "label 1.0"), (2.0, "label 2.0"), (3.0, "label 3.0")]
    assert sizes == [3, 2, 1, 0]


@pytest.mark.otp("gen_server_SUITE", "send_request_receive_reqid_collection")
def test_receive_of_a_collection_that_times_out_abandons_the_rest(inside, server):
    async def body():
        collection = requests(server, 1.0, 2.0, 3.0)
        first = await receive_response(collection, 1.5)
        return first[0], await receive_response(collection, 0.1), await look(9.0)

    assert inside(body) == (Answer(1.0), TIMED_OUT, None)


@pytest.mark.otp("gen_server_SUITE", "send_request_wait_reqid_collection")
def test_wait_for_a_collection_that_times_out_keeps_the_rest(inside, server):
    async def body():
        collection = requests(server, 1.0, 2.0)
        first = await wait_response(collection, 1.5)
        timed_out = await wait_response(collection, 0.1)
        second = await wait_response(collection, 9.0)
        return first[0], timed_out, second[:2]

    assert inside(body) == (Answer(1.0), TIMED_OUT, (Answer(2.0), "label 2.0"))


@pytest.mark.otp("gen_server_SUITE", "send_request_receive_reqid_collection")
@pytest.mark.otp("gen_server_SUITE", "send_request_wait_reqid_collection")
@pytest.mark.parametrize("take", [receive_response, wait_response])
def test_end_of_the_server_is_an_error_result_in_a_collection(inside, server, take):
    async def body():
        collection = requests(server, 1.0)
        collection = send_request(server, "stop", "stopper", collection)
        results = [await take(collection, 5.0) for _ in range(2)]
        return {label: result for result, label, _ in results}

    failed = Failure("stopped", server)
    assert inside(body) == {"label 1.0": failed, "stopper": failed}


@pytest.mark.otp("gen_server_SUITE", "send_request_check_reqid_collection")
def test_messages_are_checked_against_a_collection(inside, server):
    async def body():
        collection = requests(server, 2.0, 1.0)
        no = check_response("something", collection)
        first, second = await receive(), await receive()
        kept = check_response(first, collection, delete=False)[:2]
        size = reqids_size(collection)
        taken = check_response(first, collection)[:2]
        again = check_response(first, collection)
        last = check_response(second, collection)[:2]
        return no, kept == taken, size, taken, again, last, check_response(first, collection)

    assert inside(body) == (
        NO_REPLY,
        True,
        2,
        (Answer(1.0), "label 1.0"),
        NO_REPLY,
        (Answer(2.0), "label 2.0"),
        NO_REQUEST,
    )


@pytest.mark.otp("gen_server_SUITE", "send_request_check_reqid_collection")
def test_end_of_the_server_is_an_error_result_of_a_checked_message(inside, server):
    async def body():
        collection = send_request(server, "stop", "stopper", requests(server, 1.0))
        seen = [check_response(await receive(), collection)[:2] for _ in range(2)]
        return {label: result for result, label in seen}, reqids_size(collection)

    failed = Failure("stopped", server)
    assert inside(body) == ({"label 1.0": failed, "stopper": failed}, 0)


@pytest.mark.otp("gen_server_SUITE", "send_request_receive_reqid_collection")
def test_request_can_be_in_a_collection_once(inside, server):
    async def body():
        request = send_request(server, "x")
        collection = reqids_add(request, "a", reqids_new())
        with pytest.raises(ValueError, match="already"):
            reqids_add(request, "b", collection)
        return reqids_to_list(collection) == [(request, "a")]

    assert inside(body)


@pytest.mark.otp("gen_server_SUITE", "send_request_wait_reqid_collection")
def test_answered_request_may_stay_in_its_collection(inside, server):
    async def body():
        collection = requests(server, 1.0)
        found = await wait_response(collection, delete=False)
        return found[0], reqids_size(collection)

    assert inside(body) == (Answer(1.0), 1)


def test_answer_comes_as_a_message_to_a_server_that_goes_on(runtime, server):
    seen = []

    class Asking(Delayed):
        def handle_cast(self, request, state):
            seen.append(send_request(server, request))
            return NoReply(state)

        def handle_info(self, message, state):
            seen.append(check_response(message, seen[0]))
            return NoReply(state)

    runtime.start(Asking()).cast("question")
    runtime.run_until_idle()

    assert seen[1:] == [Answer("question")]


# Several nodes.


def test_multi_call_tells_replies_and_bad_nodes(runtime, inside, server):
    here = runtime.runtime.node

    async def body():
        return (
            await gen_server.multi_call([here, "nowhere"], "delayed", "x"),
            await gen_server.multi_call([here], "nobody", "x"),
            await gen_server.multi_call([here], "delayed", ("later", 2.0, "x"), 1.0),
        )

    assert inside(body) == (([(here, "x")], ["nowhere"]), ([], [here]), ([], [here]))


def test_abcast_reaches_the_name_here_and_nothing_elsewhere(runtime, inside):
    class Casts(Delayed):
        seen = ()

        def handle_cast(self, request, state):
            Casts.seen += (request,)
            return NoReply(state)

    runtime.start(Casts(), "casts")

    async def body():
        gen_server.abcast([runtime.runtime.node, "nowhere"], "casts", "x")
        gen_server.abcast([runtime.runtime.node], "nobody", "x")

    inside(body)
    assert Casts.seen == ("x",)
