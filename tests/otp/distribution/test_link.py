import asyncio
from contextlib import asynccontextmanager

import msgspec
import pytest

from otp.distribution import channel, frames
from otp.distribution.link import WINDOW, Dialer, Hello, Link, listen
from rpc.messages import Define, ResourceDefinition, decode_down, encode

COOKIE = b"c" * 32

plain_encode = msgspec.msgpack.encode
plain_decode = msgspec.msgpack.decode


class Collector:
    def __init__(self) -> None:
        self.messages = []
        self.reasons = []
        self.links = asyncio.Queue()
        self.news = asyncio.Event()

    def __call__(self, link: Link) -> "Collector":
        self.links.put_nowait(link)
        return self

    def received(self, link, messages) -> None:
        self.messages += messages
        self.news.set()

    def lost(self, link, reason) -> None:
        self.reasons.append(reason)
        self.news.set()

    async def until(self, condition) -> None:
        async with asyncio.timeout(20):
            while not condition(self):
                self.news.clear()
                await self.news.wait()


def hello(node="a", protocol=1):
    return lambda: Hello(node, "pod", 1, (1, 2), protocol, "i1")


@asynccontextmanager
async def connected(path, encode=plain_encode, decode=plain_decode):
    server, client = Collector(), Collector()
    words = {"cookie": COOKIE, "encode": encode, "decode": decode}
    listener = await listen(path, me=hello("server"), accept=server, **words)
    dialer = Dialer(path, me=hello("client"), connected=client, **words)
    try:
        yield server, client, await server.links.get(), await client.links.get()
    finally:
        dialer.close()
        listener.close()
        await asyncio.sleep(0)


async def test_both_ends_learn_who_the_peer_is(tmp_path):
    async with connected(tmp_path / "s") as (_, _, at_server, at_client):
        assert at_server.peer == hello("client")()
        assert at_client.peer == hello("server")()


async def test_messages_arrive_complete_and_in_order(tmp_path):
    async with connected(tmp_path / "s") as (server, _, _, at_client):
        for number in range(3 * WINDOW):
            at_client.send(number)
        await server.until(lambda it: len(it.messages) == 3 * WINDOW)

        assert server.messages == list(range(3 * WINDOW))


async def test_sends_of_one_turn_leave_as_one_batch(tmp_path):
    batches = []

    def counting(messages):
        batches.append(len(messages))
        return plain_encode(messages)

    async with connected(tmp_path / "s", encode=counting) as (server, _, _, at_client):
        at_client.send("a")
        at_client.send_many(["b", "c"])
        await server.until(lambda it: len(it.messages) == 3)

        assert batches == [3]


async def test_sender_waits_for_credit_when_the_peer_stops_reading(tmp_path):
    async with connected(tmp_path / "s") as (server, _, at_server, at_client):
        at_server.pause_reading()
        at_client.send_many(range(WINDOW + 10))
        await asyncio.sleep(0.05)

        assert at_client.backlog == 10
        assert server.messages == []

        at_server.resume_reading()
        await asyncio.wait_for(at_client.drain(), 5)
        await server.until(lambda it: len(it.messages) == WINDOW + 10)


async def test_peer_that_ignores_its_window_is_cut_off(tmp_path):
    async with connected(tmp_path / "s") as (server, _, _, at_client):
        at_client._credit += 1
        at_client.send_many([list(range(WINDOW // 8))] * 1)
        at_client._write_batch(list(range(WINDOW + 1)))
        await server.until(lambda it: it.reasons)

        assert "more than it was allowed" in server.reasons[0]


async def test_peer_with_another_cookie_is_refused(tmp_path):
    server = Collector()
    listener = await listen(
        tmp_path / "s",
        me=hello(),
        cookie=COOKIE,
        encode=plain_encode,
        decode=plain_decode,
        accept=server,
    )
    dialer = Dialer(
        tmp_path / "s",
        me=hello(),
        cookie=b"x" * 32,
        encode=plain_encode,
        decode=plain_decode,
        connected=Collector(),
    )
    async with asyncio.timeout(5):
        while not dialer.last_error:  # noqa: ASYNC110 - a state to show, not an event
            await asyncio.sleep(0.005)

    assert "cookie" in dialer.last_error
    assert dialer.link is None
    assert server.links.empty()
    dialer.close()
    listener.close()


def test_echoed_proof_proves_nothing():
    dialer = frames.Handshake(hello()(), COOKIE, dialed=True)
    body = dialer.opening()[5:]
    proof = dialer.receive(frames.FrameKind.OPENING, body)

    with pytest.raises(frames.LinkError, match="cookie"):
        dialer.receive(frames.FrameKind.PROOF, proof[5:])


def test_peer_with_another_protocol_is_refused():
    mine = frames.Handshake(hello(protocol=1)(), COOKIE, dialed=True)
    theirs = frames.Handshake(hello(protocol=2)(), COOKIE, dialed=False)

    with pytest.raises(frames.LinkError, match="protocol 2, not 1"):
        mine.receive(frames.FrameKind.OPENING, theirs.opening()[5:])


@pytest.mark.parametrize("cut", [1, 3, 7, 1000])
def test_reader_finds_frames_however_the_stream_is_cut(cut):
    bodies = [b"", b"one", b"two" * 50]
    stream = b"".join(frames.frame(frames.FrameKind.BATCH, body) for body in bodies)
    reader = frames.FrameReader()

    found = []
    for start in range(0, len(stream), cut):
        found += reader.feed(stream[start : start + cut])

    assert found == [(frames.FrameKind.BATCH, body) for body in bodies]


async def test_announced_giant_frame_ends_the_link_before_it_is_read(tmp_path):
    async with connected(tmp_path / "s") as (server, _, _, at_client):
        at_client._transport.write((frames.MAX_FRAME_BYTES + 1).to_bytes(4, "big") + b"\x03")
        await server.until(lambda it: it.reasons)

        assert "exceeds" in server.reasons[0]


async def test_undecodable_batch_ends_the_link_with_a_reason(tmp_path):
    async with connected(tmp_path / "s", decode=decode_down) as (server, _, _, at_client):
        at_client.send(17)
        await server.until(lambda it: it.reasons)

        assert "undecodable" in server.reasons[0]


async def test_close_delivers_what_was_sent_and_names_its_reason(tmp_path):
    async with connected(tmp_path / "s") as (server, client, at_server, at_client):
        at_client.send("last words")
        at_client.close("maintenance")

        assert await at_server.closed == "closed by the peer: maintenance"
        assert await at_client.closed == "maintenance"
        assert server.messages == ["last words"]
        assert server.reasons == ["closed by the peer: maintenance"]
        assert client.reasons == ["maintenance"]


async def test_vanished_peer_is_told_apart_from_a_closed_one(tmp_path):
    async with connected(tmp_path / "s") as (_, _, at_server, at_client):
        at_client._transport.abort()

        assert await at_server.closed == "lost: the peer vanished"


async def test_drain_ends_when_the_link_ends(tmp_path):
    async with connected(tmp_path / "s") as (_, _, at_server, at_client):
        at_server.pause_reading()
        at_client.send_many(range(WINDOW + 10))
        waiting = asyncio.ensure_future(at_client.drain())
        await asyncio.sleep(0.02)
        assert not waiting.done()

        at_server._transport.abort()

        await asyncio.wait_for(waiting, 5)


async def test_dialer_redials_after_the_listener_came_back(tmp_path):
    words = {"cookie": COOKIE, "encode": plain_encode, "decode": plain_decode}
    client = Collector()
    dialer = Dialer(tmp_path / "s", me=hello(), connected=client, **words)
    await asyncio.sleep(0.06)
    assert dialer.link is None

    for _ in range(2):
        server = Collector()
        listener = await listen(tmp_path / "s", me=hello("server"), accept=server, **words)
        link = await asyncio.wait_for(client.links.get(), 5)
        assert dialer.link is link
        listener.close()
        await link.closed
    dialer.close()


async def test_definition_of_ten_thousand_resources_passes(tmp_path):
    resources = tuple(
        ResourceDefinition(
            f"eu/a/rack-1/host-{n:05}", "host", "simulated", "", {"cpus": 32, "x": "y" * 200}
        )
        for n in range(10_000)
    )
    async with connected(tmp_path / "s", encode, decode_down) as (server, _, _, at_client):
        at_client.send(Define(1, resources, complete=True))
        await server.until(lambda it: it.messages)

        assert server.messages == [Define(1, resources, complete=True)]


async def test_batch_too_large_for_a_frame_is_split(tmp_path, monkeypatch):
    monkeypatch.setattr(channel, "MAX_FRAME_BYTES", 5000)
    async with connected(tmp_path / "s") as (server, _, _, at_client):
        sent = [bytes([n]) * 1000 for n in range(100)]
        at_client.send_many(sent)
        await server.until(lambda it: len(it.messages) == 100)

        assert server.messages == sent


async def test_single_message_too_large_ends_the_link(tmp_path, monkeypatch):
    monkeypatch.setattr(channel, "MAX_FRAME_BYTES", 5000)
    async with connected(tmp_path / "s") as (_, client, at_server, at_client):
        at_client.send(b"x" * 6000)

        assert "a message of 6004 bytes exceeds 5000" in await at_server.closed
        assert len(client.reasons) == 1
