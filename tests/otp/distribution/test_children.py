import asyncio
import os
import signal
import subprocess
import sys

import pytest

from otp.distribution import children as children_module
from otp.distribution.children import ChildNode, Children
from otp.distribution.link import Dialer, Hello
from otp.distribution.parent_link import Beat, StopNode, Stopping, Up, decode, encode

COOKIE = b"c" * 32


class Process:
    """A real process whose node the test speaks for."""

    def __init__(self, name="eu/a", code="import time; time.sleep(60)") -> None:
        self.process = subprocess.Popen([sys.executable, "-c", code])
        self.child = ChildNode(
            name,
            "zone",
            self.process.pid,
            (1, 2),
            exit_code=self.process.poll,
            loop=asyncio.get_running_loop(),
        )
        self.orders = asyncio.Queue()
        self.links = asyncio.Queue()

    def dial(self, path, pid=None) -> Dialer:
        me = Hello(self.child.name, "zone", pid or self.process.pid, (1, 2), 1, "i")
        return Dialer(
            path, me=lambda: me, cookie=COOKIE, encode=encode, decode=decode, connected=self
        )

    def __call__(self, link):
        self.links.put_nowait(link)
        return self

    def received(self, link, messages):
        for message in messages:
            self.orders.put_nowait(message)

    def lost(self, link, reason):
        pass


@pytest.fixture
async def family(tmp_path):
    children = Children(
        tmp_path / "s", lambda: Hello("root", "root", os.getpid(), (1,), 1, "p"), COOKIE
    )
    await children.open()
    yield children
    for child in children.living():
        child.kill()
        await child.exited
    children.close()
    await asyncio.sleep(0)


async def linked(family, path):
    process = Process()
    family.add(process.child)
    dialer = process.dial(path)
    link = await asyncio.wait_for(process.links.get(), 5)
    return process, dialer, link


async def test_killed_process_exits_with_its_signal(family):
    process = Process()
    family.add(process.child)

    os.kill(process.process.pid, signal.SIGSEGV)

    assert await asyncio.wait_for(process.child.exited, 5) == "killed by SIGSEGV"
    assert process.child.exit_reason == ("killed", signal.SIGSEGV)
    assert family.living() == []


async def test_failed_process_exits_with_its_code_and_last_words(family, tmp_path):
    process, dialer, link = await linked(family, tmp_path / "s")
    link.send(Stopping("disk on fire"))
    while process.child.last_words is None:  # noqa: ASYNC110 - arrives with the link, no event of its own
        await asyncio.sleep(0.01)
    dialer.close()
    process.child._exit_code = lambda: 70
    os.kill(process.process.pid, signal.SIGTERM)

    assert await asyncio.wait_for(process.child.exited, 5) == "exit code 70: disk on fire"
    assert process.child.exit_reason == ("exit", 70, "disk on fire")
    process.process.wait()


async def test_child_is_up_when_it_says_so(family, tmp_path):
    process, dialer, link = await linked(family, tmp_path / "s")
    assert not process.child.up.done()

    link.send(Up())

    await asyncio.wait_for(process.child.up, 5)
    dialer.close()


async def test_silent_child_is_killed_as_a_failed_heartbeat(family, tmp_path, monkeypatch):
    process, dialer, link = await linked(family, tmp_path / "s")
    began = asyncio.get_running_loop().time()
    for _ in range(12):  # three seconds of life: longer than the limit
        link.send(Beat())
        await asyncio.sleep(0.25)
    assert not process.child.exited.done()
    fell_silent = asyncio.get_running_loop().time()

    assert await asyncio.wait_for(process.child.exited, 5) == "heartbeat"

    silent_s = asyncio.get_running_loop().time() - fell_silent
    assert 1.5 < silent_s < 3.5
    assert fell_silent - began > 2.0
    dialer.close()
    process.process.wait()


async def test_child_that_never_calls_is_killed_after_the_grace(family, monkeypatch):
    monkeypatch.setattr(children_module, "START_GRACE_S", 0.2)
    process = Process()
    family.add(process.child)

    assert await asyncio.wait_for(process.child.exited, 10) == "heartbeat"
    process.process.wait()


async def test_stranger_is_not_taken_for_a_child(family, tmp_path):
    process = Process()
    family.add(process.child)
    dialer = process.dial(tmp_path / "s", pid=1)
    while not dialer.last_error:  # noqa: ASYNC110 - a state to show, not an event
        await asyncio.sleep(0.01)

    assert "not a child of this node" in dialer.last_error
    assert process.child.link is None
    dialer.close()


async def test_stop_asks_first_and_kills_after_the_time(family, tmp_path):
    process, dialer, _ = await linked(family, tmp_path / "s")

    reason = await asyncio.wait_for(process.child.stop(0.2), 5)

    assert process.orders.get_nowait() == StopNode("shutdown")
    assert reason == "killed by SIGKILL"
    dialer.close()


def test_words_of_the_parent_link_survive_the_wire():
    words = [Beat(), Up(), Stopping("why"), StopNode("shutdown")]

    assert decode(encode(words)) == words
