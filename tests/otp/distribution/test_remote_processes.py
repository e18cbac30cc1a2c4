import asyncio
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from otp import CallError
from otp.node_names import OnNode

SCRIPT = Path(__file__).with_name("far_node.py")
SERVER = OnNode("server", "far")


@asynccontextmanager
async def far_process(folder):
    child = await asyncio.create_subprocess_exec(sys.executable, str(SCRIPT), str(folder))
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


@pytest.fixture
async def near(new_node):
    node = new_node("near")
    await node.links.listen(node.folder / "near")
    return node


async def pid_of(node):
    async with asyncio.timeout(30):
        await node.links.connected("far")
        return await node.runtime.call(SERVER, "pid", None)


async def killed(node, child):
    child.send_signal(signal.SIGKILL)
    async with asyncio.timeout(10):
        await child.wait()
    await node.until(lambda: not node.links.nodes())


@pytest.mark.system
async def test_killed_node_is_noconnection_once_to_all(near):
    watcher, linked, linked_from_there = (near.start(trap=True) for _ in range(3))
    async with far_process(near.folder) as child:
        far = await pid_of(near)
        await near.ask(watcher, "monitor", far)
        await near.ask(watcher, "monitor", SERVER)
        await near.ask(linked, "link", far)
        far.cast(linked_from_there)
        assert await near.runtime.call(far, "count", None) == 1
        open_call = asyncio.ensure_future(near.ask(far, "never answered"))
        await near.runtime.call(far, "count", None)

        await killed(near, child)

        with pytest.raises(CallError) as caught:
            await open_call
    assert caught.value.cause == ("nodedown", "far")
    assert await near.ask(watcher, "got") == (
        ("DOWN", far, "noconnection"),
        ("DOWN", SERVER, "noconnection"),
    )
    assert await near.ask(linked, "got") == (("EXIT", far, "noconnection"),)
    assert await near.ask(linked_from_there, "got") == (("EXIT", far, "noconnection"),)


@pytest.mark.system
async def test_node_started_anew_gets_nothing_meant_for_the_killed_one(near):
    watcher = near.start(trap=True)
    async with far_process(near.folder) as child:
        old = await pid_of(near)
        for number in range(1000):
            old.cast(number)
        await killed(near, child)

    old.cast(1)
    async with far_process(near.folder):
        new = await pid_of(near)
        old.cast(2)
        await near.ask(watcher, "monitor", old)

        assert new.serial == old.serial
        assert new is not old
        assert await near.runtime.call(new, "count", None) == 0
        assert await near.ask(watcher, "got") == (("DOWN", old, "noproc"),)
