import asyncio
import os
import secrets
from types import SimpleNamespace

import pytest

from automation.gateway import HIGH, Gateway, Outbox
from otp.distribution.link import Hello, listen
from rpc.messages import (
    PROTOCOL,
    Ack,
    Dropped,
    Inventory,
    PodStats,
    Report,
    Stats,
    decode_up,
    encode,
)


def body(number: int) -> Dropped:
    return Dropped("eu/a/p/r", f"u{number}", 1, "epoch")


def test_outbox_numbers_reports_from_one():
    outbox = Outbox()

    assert [outbox.add(body(number), 0.0).seq for number in range(3)] == [1, 2, 3]


def test_outbox_keeps_what_is_not_acknowledged():
    outbox = Outbox()
    for number in range(3):
        outbox.add(body(number), 0.0)

    outbox.acknowledge(2)

    assert [report.seq for report in outbox.pending()] == [3]
    assert outbox.last == 3


def test_late_acknowledgement_changes_nothing():
    outbox = Outbox()
    outbox.add(body(0), 0.0)
    outbox.acknowledge(1)
    outbox.add(body(1), 0.0)

    outbox.acknowledge(1)

    assert [report.seq for report in outbox.pending()] == [2]


class Owner:
    def __init__(self):
        self.messages = []
        self.opens = 0
        self.was_opened = asyncio.Event()

    def inventory(self, last_report):
        return Inventory(last_report=last_report)

    def received(self, message):
        self.messages.append(message)

    def stats(self, reports_pending, loop_lag_s):
        return PodStats(reports_pending=reports_pending)

    def opened(self):
        self.opens += 1
        self.was_opened.set()


class Far:
    """Orchestration's end of the link."""

    def __init__(self, path, cookie):
        self.path, self.cookie = path, cookie
        self.messages, self.link, self.listener = [], None, None
        self.news = asyncio.Event()

    async def open(self):
        hello = Hello("orchestration", "orchestration", os.getpid(), (), PROTOCOL, "x")
        self.listener = await listen(
            self.path,
            me=lambda: hello,
            cookie=self.cookie,
            encode=encode,
            decode=decode_up,
            accept=self.accept,
        )

    def accept(self, link):
        self.link = link
        return self

    def received(self, link, messages):
        self.messages += messages
        self.news.set()

    def lost(self, link, reason):
        self.link = None

    def close(self):
        self.listener.close()
        if self.link is not None:
            self.link.close()

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                self.news.clear()
                await self.news.wait()

    def seqs(self):
        return [message.seq for message in self.messages if isinstance(message, Report)]


@pytest.fixture
async def ends(tmp_path):
    cookie = secrets.token_bytes(32)
    node = SimpleNamespace(
        run_dir=tmp_path,
        cookie=cookie,
        loop=asyncio.get_running_loop(),
        hello=lambda protocol: Hello("p", "pod", os.getpid(), (1, 1, 1), protocol, "y"),
    )
    owner, gateway, far = Owner(), Gateway(node), Far(tmp_path / "orchestration.sock", cookie)
    await far.open()
    yield owner, gateway, far
    gateway.close()
    far.close()


async def test_inventory_comes_first_and_then_what_was_kept(ends):
    owner, gateway, far = ends
    gateway.report(body(1))
    gateway.report(body(2))

    gateway.start(owner)
    await far.until(lambda: far.seqs() == [1, 2])

    assert far.messages[0] == Inventory(last_report=2)
    assert owner.opens == 1


async def test_reports_not_acknowledged_are_sent_again_after_a_loss(ends):
    owner, gateway, far = ends
    gateway.start(owner)
    gateway.report(body(1))
    gateway.report(body(2))
    await far.until(lambda: far.seqs() == [1, 2])
    far.link.send(Ack(1))
    far.messages.clear()

    far.link.close()
    gateway.report(body(3))
    await far.until(lambda: 3 in far.seqs())

    assert [report for report in far.seqs() if report != 1] == [2, 3]
    assert any(isinstance(message, Inventory) for message in far.messages)


async def test_gateway_is_shut_while_nobody_is_there(ends):
    owner, gateway, far = ends
    assert not gateway.is_open
    gateway.start(owner)
    await far.until(lambda: far.messages)
    assert gateway.is_open

    link = gateway._link
    far.close()
    await asyncio.wait_for(link.closed, 10)

    assert not gateway.is_open


async def test_too_many_reports_shut_the_gateway_until_they_are_acknowledged(ends):
    owner, gateway, far = ends
    gateway.start(owner)
    await far.until(lambda: far.messages)
    for number in range(HIGH + 1):
        gateway.report(body(number))
    assert not gateway.is_open
    await far.until(lambda: len(far.seqs()) == HIGH + 1)

    owner.was_opened.clear()
    far.link.send(Ack(HIGH))
    await asyncio.wait_for(owner.was_opened.wait(), 10)

    assert gateway.is_open
    assert owner.opens == 2


async def test_figures_are_sent(ends):
    owner, gateway, far = ends
    gateway.start(owner)
    gateway.report(body(1))

    await far.until(lambda: any(isinstance(message, Stats) for message in far.messages))

    stats = next(message for message in far.messages if isinstance(message, Stats))
    assert stats.stats.reports_pending == 1
