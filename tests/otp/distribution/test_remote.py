import asyncio
from dataclasses import dataclass
from enum import Enum

import msgspec
import pytest

from otp import (
    CallError,
    CallTimeoutError,
    NameTakenError,
    NoProcessError,
    Runtime,
    gen_server,
    process_info,
    sys,
)
from otp.distribution import outbox
from otp.distribution.remote import NodeLinks, OutboxFullError, RemotePid, UncrossableError
from otp.errors import OtpError
from otp.node_names import OnNode


class Point(msgspec.Struct, frozen=True):
    x: int
    tail: object


@dataclass(frozen=True)
class Word:
    text: str


class Colour(Enum):
    RED = "red"


async def test_pid_from_other_node_is_called_and_cast(ann, bob):
    server = ann.start("server")
    remote = await bob.ask(OnNode("server", "ann"), "pid")

    remote.cast("one")
    remote.send("two")

    assert await bob.ask(remote, "got") == ("one", "two")
    assert await ann.ask(server, "got") == ("one", "two")
    assert isinstance(remote, RemotePid)


async def test_pid_is_the_same_object_wherever_it_comes_from(ann, bob):
    server = ann.start("server")
    remote = await bob.ask(OnNode("server", "ann"), "pid")

    assert await bob.ask(remote, "echo", remote) is remote
    assert await ann.ask(server, "echo", server) is server
    remote.cast(remote)
    assert (await bob.ask(remote, "got"))[0] is remote
    assert (await ann.ask(server, "got"))[0] is server


async def test_process_calls_process_on_other_node(ann, bob):
    ann.start("server")
    caller = bob.start()

    request = ("call", OnNode("server", "ann"), ("echo", 42), 5.0)

    assert await bob.ask(caller, *request) == 42


async def test_messages_arrive_in_the_order_sent(ann, bob):
    server = ann.start("server")
    remote = await bob.ask(OnNode("server", "ann"), "pid")

    for number in range(3 * 8192):
        (remote.cast if number % 2 else remote.send)(number)

    assert len(await bob.ask(remote, "got")) == 3 * 8192
    assert await ann.ask(server, "got") == tuple(range(3 * 8192))


async def test_call_of_nobody_fails_with_noproc(bob):
    with pytest.raises(NoProcessError):
        await bob.ask(OnNode("nobody", "ann"), "got")


async def test_call_of_unknown_node_fails_with_nodedown(bob):
    with pytest.raises(CallError) as caught:
        await bob.ask(OnNode("server", "carl"), "got")

    assert caught.value.cause == ("nodedown", "carl")


async def test_cast_to_unknown_node_vanishes(bob):
    bob.runtime.cast(OnNode("server", "carl"), "hello")

    assert bob.links.nodes() == ["ann"]


async def test_call_ends_with_the_servers_exit_reason(ann, bob):
    ann.start("server")

    with pytest.raises(CallError) as caught:
        await bob.ask(OnNode("server", "ann"), "stop", ("shutdown", ["x", 1]))

    assert caught.value.cause == ("shutdown", ["x", 1])


async def test_late_reply_is_dropped_after_the_time(ann, bob):
    server = ann.start("server")
    caller = bob.start()
    request = ("call", OnNode("server", "ann"), ("later", 1), 0.02)

    assert await bob.ask(caller, *request) == ("failed", "timeout")
    server.cast("answer")
    await ann.ask(server, "got")
    await bob.ask(OnNode("server", "ann"), "got")

    assert await bob.ask(caller, "got") == ()
    assert not bob.links.peer("ann").asked


async def test_plain_call_times_out(ann, bob):
    ann.start("server")

    with pytest.raises(CallTimeoutError):
        await bob.runtime.call(OnNode("server", "ann"), ("never",), 0.02)


async def test_call_fails_with_nodedown_when_link_is_lost(ann, bob):
    server = ann.start("server")
    remote = await bob.ask(OnNode("server", "ann"), "pid")
    call = asyncio.ensure_future(bob.ask(remote, "later", 1))
    await ann.until(lambda: "later" in server.server.refs)

    ann.links.close()

    with pytest.raises(CallError) as caught:
        await call
    assert caught.value.cause == ("nodedown", "ann")


def cast_all(dest, requests):
    for request in requests:
        dest.cast(request)


@pytest.mark.parametrize(
    "term",
    [
        (),
        ("ok", ["a", ("b",)], {"k": (1,), "l": [2]}),
        {1: "a", (2, 3): {"x": None}},
        {1, 2},
        frozenset({("a",)}),
        2**200,
        -(2**63),
        1.5,
        b"\x00",
        [True, False, None],
        Point(1, (2, [Word("x")])),
        Colour.RED,
        [Point(1, None)],
    ],
    ids=range(13),
)
async def test_term_crosses_unchanged(new_node, term):
    types = [Point, Word, Colour]
    one, two = new_node("one", types), new_node("two", types)
    await one.listen()
    await two.dial("one")
    one.start("server")

    echo = await two.ask(OnNode("server", "one"), "echo", term)

    assert echo == term
    assert repr(echo) == repr(term)


@pytest.mark.parametrize("term", [object(), Point(1, 2), [Word("x")], "\ud800"], ids=range(4))
async def test_uncrossable_message_is_refused_in_the_sender(ann, bob, term):
    server = ann.start("server")
    remote = await bob.ask(OnNode("server", "ann"), "pid")
    name = type(term[0] if isinstance(term, list) else term).__name__

    with pytest.raises(UncrossableError, match=name):
        remote.cast(term)
    with pytest.raises(UncrossableError, match=name):
        remote.call(term)

    assert await bob.ask(remote, "got") == ()
    assert not bob.links.peer("ann").asked
    assert server.is_alive()


async def test_type_only_one_node_has_registered_is_refused(new_node):
    one, two = new_node("one"), new_node("two", [Point])
    await one.listen()
    await two.dial("one")
    one.start("server")

    with pytest.raises(UncrossableError, match="at the peer"):
        two.runtime.cast(OnNode("server", "one"), Point(1, 2))


async def test_answer_that_cannot_cross_fails_the_call_only(ann, bob):
    ann.start("server")

    with pytest.raises(CallError) as caught:
        await bob.ask(OnNode("server", "ann"), "unspeakable")

    assert caught.value.cause[0] == "uncrossable"
    assert "builtins.object" in caught.value.cause[1]
    assert await bob.ask(OnNode("server", "ann"), "got") == ()


async def test_sender_is_refused_beyond_the_outbox(ann, bob, monkeypatch):
    monkeypatch.setattr(outbox, "MAX_MESSAGES", 100)
    ann.start("server")
    remote = await bob.ask(OnNode("server", "ann"), "pid")

    with pytest.raises(OutboxFullError, match="100 messages"):
        cast_all(remote, range(1000))
    await bob.links.drain("ann")
    remote.cast("more")

    assert await bob.ask(remote, "got") == (*range(100), "more")


async def test_large_messages_fill_the_outbox_by_their_size(ann, bob, monkeypatch):
    monkeypatch.setattr(outbox, "MAX_BYTES", 10_000)
    ann.start("server")
    remote = await bob.ask(OnNode("server", "ann"), "pid")

    with pytest.raises(OutboxFullError):
        cast_all(remote, [b"x" * 1000] * 20)

    assert bob.links.backlog("ann") == 10


async def test_link_is_given_up_when_signals_pile_up(ann, bob, monkeypatch):
    monkeypatch.setattr(outbox, "MAX_MESSAGES", 100)
    ann.start("server", trap=True)
    remote = await bob.ask(OnNode("server", "ann"), "pid")
    watching = bob.start()
    await bob.ask(watching, "monitor", remote)

    for _ in range(1000):
        bob.runtime.exit(remote, "shutdown")

    assert await bob.got(watching, 1) == (("DOWN", remote, "noconnection"),)


async def test_multi_call_asks_several_nodes(ann, bob):
    ann.start("server")
    bob.start("server")
    ends = []

    async def body():
        await gen_server.call("server", ("got",))
        gen_server.abcast(["ann", "bob", "carl"], "server", "hello")
        ends.append(await gen_server.multi_call(["ann", "bob", "carl"], "server", ("got",), 5.0))

    await bob.exited(bob.runtime.spawn(body))

    assert ends == [([("ann", ("hello",)), ("bob", ("hello",))], ["carl"])]


async def test_server_on_other_node_is_stopped(ann, bob):
    server = ann.start("server")
    ends = []

    async def body():
        await gen_server.stop(OnNode("server", "ann"), "shutdown", 5.0)
        ends.append("stopped")

    reason = await bob.exited(bob.runtime.spawn(body))

    assert (reason, ends, server.exit_reason) == ("normal", ["stopped"], "shutdown")


async def test_sys_looks_into_a_process_on_another_node(ann, bob):
    ann.start("server")
    there = OnNode("server", "ann")
    ends = []

    async def body():
        await sys.suspend(there)
        gen_server.cast(there, "hello")
        ends.append(await sys.get_state(there))
        await sys.resume(there)
        ends.append(await sys.get_state(there))
        ends.append(await gen_server.call(there, ("pid",)))

    await bob.exited(bob.runtime.spawn(body))

    assert ends[:2] == [[], ["hello"]]
    assert process_info(ends[2]).initial_call == "a process of ann"


async def test_request_is_answered_while_the_sender_goes_on(ann, bob):
    ann.start("server")
    ends = []

    async def body():
        request = gen_server.send_request(OnNode("server", "ann"), ("echo", 1))
        ends.append(await gen_server.receive_response(request, 5.0))

    await bob.exited(bob.runtime.spawn(body))

    assert ends == [gen_server.Answer(1)]


async def test_remote_process_cannot_be_registered_here(ann, bob):
    ann.start("server")
    remote = await bob.ask(OnNode("server", "ann"), "pid")

    with pytest.raises(NameTakenError):
        bob.runtime.register("mine", remote)

    assert bob.runtime.whereis("mine") is None


async def test_third_node_uses_a_pid_it_was_told(ann, bob, new_node):
    carl = new_node("carl")
    await carl.dial("ann")
    ann.start("server")
    told = bob.start("told")
    remote = await carl.ask(OnNode("server", "ann"), "pid")
    carl.runtime.cast(OnNode("told", "bob"), "no link to bob: vanishes")
    (await bob.ask(OnNode("server", "ann"), "pid")).cast(told)

    (passed,) = await carl.ask(remote, "got")

    assert (passed.node, passed.serial) == ("bob", told.serial)
    with pytest.raises(CallError) as caught:
        await carl.ask(passed, "got")
    assert caught.value.cause == ("nodedown", "bob")


async def test_runtime_has_one_set_of_links(ann):
    with pytest.raises(OtpError, match="has its links already"):
        NodeLinks(ann.runtime, cookie=b"")


async def test_name_on_other_node_is_nobody_without_links():
    assert Runtime(node="alone").whereis(OnNode("server", "ann")) is None


async def test_both_nodes_may_dial(new_node):
    one, two = new_node("one"), new_node("two")
    await one.listen()
    await two.listen()
    await asyncio.gather(one.dial("two"), two.dial("one"))
    one.start("server")
    await asyncio.sleep(0.1)
    await two.links.connected("one")

    assert await two.ask(OnNode("server", "one"), "echo", 1) == 1
    assert one.links.nodes() == ["two"]


async def test_refused_timer_message_leaves_the_other_timers_alone(ann, bob):
    ann.start("server")
    remote = await bob.ask(OnNode("server", "ann"), "pid")
    errors = []
    bob.runtime.loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))

    bob.runtime.send_after(remote, 0.0, object())
    bob.runtime.send_after(remote, 0.0, "next")
    bob.runtime.send_after(remote, 0.01, "later")
    await asyncio.sleep(0.05)

    assert await bob.ask(remote, "got") == ("next", "later")
    assert [type(error) for error in errors] == [UncrossableError]
