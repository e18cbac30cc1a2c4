import asyncio

import msgspec
import pytest

from otp.distribution import terms
from otp.distribution.frames import LinkError
from otp.distribution.link import Dialer, Hello
from otp.distribution.remote import UncrossableError
from otp.distribution.terms import Terms
from otp.node_names import OnNode


def thing(*fields):
    return msgspec.defstruct("Thing", list(fields), module="made.here", frozen=True)


async def test_type_with_other_fields_at_the_peer_is_refused(new_node):
    narrow, wide = thing("a"), thing("a", "b")
    one, two = new_node("one", [narrow]), new_node("two", [wide])
    await one.listen()
    await two.dial("one")
    server = one.start("server")

    with pytest.raises(UncrossableError, match=r"made\.here\.Thing .*same fields"):
        two.runtime.cast(OnNode("server", "one"), wide(1, 2))

    assert await two.ask(OnNode("server", "one"), "got") == ()
    assert server.is_alive()


@pytest.mark.parametrize("kind", [int, object, asyncio.Future])
def test_type_that_has_no_fields_is_not_registered(kind):
    with pytest.raises(UncrossableError, match=kind.__name__):
        Terms(None).register([kind])


def test_two_types_of_one_name_are_not_registered():
    with pytest.raises(UncrossableError, match="another type"):
        Terms(None).register([thing("a"), thing("a")])


async def test_message_larger_than_a_frame_is_refused(ann, bob, monkeypatch):
    monkeypatch.setattr(terms, "_MAX_BYTES", 1000)
    ann.start("server")

    with pytest.raises(UncrossableError, match="exceeds 1000"):
        bob.runtime.cast(OnNode("server", "ann"), b"x" * 1000)

    assert await bob.ask(OnNode("server", "ann"), "got") == ()


class Rude:
    """A peer that knows the cookie and says what nobody says."""

    def __init__(self, *messages):
        self.messages = messages
        self.reasons = []

    def __call__(self, link):
        link.send_many(self.messages)
        return self

    def received(self, link, messages):
        pass

    def lost(self, link, reason):
        self.reasons.append(reason)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([[0, "server", 1]], "before the introduction"),
        ([[20, []], [99, 1]], "word 99 is unknown"),
        ([[20, []], [0, "server", msgspec.msgpack.Ext(5, b"")]], "unreadable term"),
        ([[20, []], [0, "server", [msgspec.msgpack.Ext(5, b"os.system"), "x"]]], "unreadable term"),
        ([[20, []], [0, "server", [msgspec.msgpack.Ext(7, b"")]]], "unreadable term"),
    ],
)
async def test_peer_that_breaks_the_protocol_loses_its_link_only(ann, bob, messages, reason):
    server = ann.start("server")
    rude = Rude(*messages)
    dialer = Dialer(
        ann.folder / "ann",
        me=lambda: Hello("rude", "otp", 1, (), 1, "i1"),
        cookie=b"c" * 32,
        encode=msgspec.msgpack.encode,
        decode=msgspec.msgpack.decode,
        connected=rude,
    )

    await bob.until(lambda: rude.reasons)
    dialer.close()

    assert reason in rude.reasons[0]
    assert await bob.ask(OnNode("server", "ann"), "got") == ()
    assert server.is_alive()


def test_unknown_code_is_no_term():
    with pytest.raises(LinkError):
        Terms(None).read(msgspec.msgpack.Ext(99, b""))
