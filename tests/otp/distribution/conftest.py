"""Nodes to talk between: runtimes in this process, over real unix sockets."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from otp import Exit, GenServer, NoReply, Pid, Reply, Runtime, Stop, erlang, gen_server
from otp.distribution.remote import NodeLinks
from otp.waiting import here

COOKIE = b"c" * 32


class Node:
    """One runtime with its links; `do` runs a function inside a fresh process and waits for its end."""

    def __init__(self, name: str, folder: Path, types: Iterable[type] = ()) -> None:
        self.folder = folder
        self.runtime = Runtime(node=name)
        self.links = NodeLinks(self.runtime, cookie=COOKIE, types=types)

    async def listen(self) -> None:
        await self.links.listen(self.folder / self.runtime.node)

    async def dial(self, node: str) -> None:
        self.links.dial(self.folder / node)
        await self.links.connected(node)

    def start(self, name: str | None = None, **options: Any) -> Pid:
        return self.runtime.start(Puppet(**options), name)

    async def ask(self, dest: Any, *request: object) -> Any:
        async with asyncio.timeout(20):
            return await self.runtime.call(dest, request, None)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - the link's own doing has no event to wait for
                await asyncio.sleep(0.001)

    async def got(self, pid: Pid, count: int) -> Any:
        """What a puppet got, once that is `count` messages."""
        async with asyncio.timeout(20):
            while len(got := await self.ask(pid, "got")) < count:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.001)
        return got

    async def exited(self, pid: Pid) -> object:
        async with asyncio.timeout(20):
            return await self.runtime.exited(pid)


class Puppet(GenServer[list[Any]]):
    """Does as it is told and keeps what it got."""

    def __init__(self, *, trap: bool = False) -> None:
        self.trap = trap

    def init(self) -> list[Any]:
        self.trap_exit(self.trap)
        self.refs: dict[object, Any] = {}
        return []

    async def handle_call(self, request: Any, from_: Any, got: list[Any]) -> Any:
        word, *args = request
        if word == "later":
            self.refs["later"] = from_
        if word in ("never", "later"):
            return NoReply(got)
        if word == "stop":
            return Stop(args[0], got)
        own = getattr(self, f"do_{word}", None)
        if own is None:
            getattr(erlang, word)(*args)
            return Reply("ok", got)
        answer = own(got, *args)
        return Reply(await answer if inspect.iscoroutine(answer) else answer, got)

    def do_pid(self, got: list[Any]) -> Pid:
        return self.pid

    def do_got(self, got: list[Any]) -> object:
        return tuple(got)

    def do_echo(self, got: list[Any], term: object) -> object:
        return term

    def do_unspeakable(self, got: list[Any]) -> object:
        return object()

    def do_run(self, got: list[Any], function: Any, *args: object) -> object:
        return function(*args)

    def do_monitor(self, got: list[Any], target: Any) -> str:
        self.refs[target] = erlang.monitor(target)
        return "ok"

    def do_demonitor(self, got: list[Any], target: Any) -> str:
        if target in self.refs:
            erlang.demonitor(self.refs.pop(target), flush=True)
        return "ok"

    async def do_call(self, got: list[Any], dest: Any, request: object, timeout_s: float) -> object:
        try:
            return await gen_server.call(dest, request, timeout_s)
        except gen_server.CallError as error:
            return ("failed", error.cause)

    def handle_cast(self, request: Any, got: list[Any]) -> Any:
        if request == "answer":
            self.refs["later"].reply("at last")
        else:
            got.append(request)
        return NoReply(got)

    def handle_info(self, message: Any, got: list[Any]) -> Any:
        match message:
            case Exit(pid, reason):
                got.append(("EXIT", pid, reason))
            case erlang.Down(_, target, reason):
                got.append(("DOWN", target, reason))
            case _:
                got.append(message)
        return NoReply(got)


@pytest.fixture
async def new_node(tmp_path: Path) -> AsyncIterator[Any]:
    nodes: list[Node] = []

    def make(name: str, types: Iterable[type] = ()) -> Node:
        nodes.append(Node(name, tmp_path, types))
        return nodes[-1]

    yield make
    for node in nodes:
        node.links.close()
    await asyncio.sleep(0)
    here.process = None


@pytest.fixture
async def ann(new_node: Any) -> Node:
    node: Node = new_node("ann")
    await node.listen()
    return node


@pytest.fixture
async def bob(new_node: Any, ann: Node) -> Node:
    node: Node = new_node("bob")
    await node.dial("ann")
    await ann.links.connected("bob")
    return node


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[tuple[Node, Node]]:
    """Two connected nodes, outside a fixture."""
    one, two = Node("one", folder), Node("two", folder)
    try:
        await one.listen()
        await two.dial("one")
        await one.links.connected("two")
        yield one, two
    finally:
        two.links.close()
        one.links.close()
        await asyncio.sleep(0)


@pytest.fixture(scope="session")
def node_tools() -> tuple[type[Node], Any]:
    return Node, pair
