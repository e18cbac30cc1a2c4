"""Random lives of processes on two nodes, against the same lives on one runtime."""

import asyncio
import contextlib
import itertools
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from otp import CallError
from otp.node_names import OnNode
from otp.waiting import here

TRAPPING = (True, False, True, False)  # 0 and 1 live on one node, 2 and 3 on the other
REASONS = ("normal", "shutdown", "kill", "boom")
EVERYBODY = range(len(TRAPPING))

ends = st.permutations(list(EVERYBODY)).map(lambda order: tuple(order[:2]))
acts = st.one_of(
    st.tuples(st.sampled_from(["link", "unlink", "monitor", "demonitor"]), ends),
    st.tuples(st.just("exit"), ends, st.sampled_from(REASONS)),
    st.tuples(st.just("stop"), ends, st.sampled_from(["normal", "boom"])),
)


class Theatre:
    """Four processes on one or two nodes; `views[i][j]` is process j as process i knows it."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.homes = [nodes[0], nodes[0], nodes[-1], nodes[-1]]

    async def open(self):
        self.pids = [
            home.start(f"p{number}", trap=trap)
            for number, (home, trap) in enumerate(zip(self.homes, TRAPPING, strict=True))
        ]
        self.views = [
            [
                await home.ask(OnNode(f"p{number}", there.runtime.node), "pid")
                for number, there in enumerate(self.homes)
            ]
            for home in self.homes
        ]

    async def act(self, word, ends, *reason):
        one, two = ends
        request = (word, *reason) if word == "stop" else (word, self.views[one][two], *reason)
        with contextlib.suppress(CallError):
            await self.homes[one].ask(self.pids[one], *request)
        await self.settle()

    async def settle(self):
        for node, other in itertools.islice(
            itertools.cycle(itertools.permutations(self.nodes, 2)), 8
        ):
            with contextlib.suppress(CallError):
                await node.ask(OnNode("nobody", other.runtime.node))

    def linked(self):
        """Everybody, and the numbers of those linked to it."""
        return [
            (pid, [view.index(other) for other in pid.linked()])
            for pid, view in zip(self.pids, self.views, strict=True)
        ]

    async def story(self):
        """What became of everybody, and what they got."""
        told = []
        for number in EVERYBODY:
            names = {pid: index for index, pid in enumerate(self.views[number])}
            pid = self.pids[number]
            got = await self.homes[number].ask(pid, "got") if pid.is_alive() else ()
            seen = sorted((kind, names[who], _plain(why)) for kind, who, why in got)
            links = sorted(names[other] for other in pid.linked())
            told.append((_plain(pid.exit_reason), links, seen))
        return told


def _plain(reason):
    """A local link to the dead is an error, one across nodes an exit signal: both are noproc."""
    return "noproc" if isinstance(reason, tuple) and reason[0] == "noproc" else reason


async def _play(nodes, script):
    theatre = Theatre(nodes)
    await theatre.open()
    for act in script:
        await theatre.act(*act)
    return await theatre.story()


async def _both(script, node_class, pair):
    with tempfile.TemporaryDirectory() as folder:
        alone = node_class("alone", Path(folder))
        expected = await _play([alone], script)
        alone.links.close()
        async with pair(Path(folder)) as nodes:
            assert await _play(nodes, script) == expected
    here.process = None


@settings(max_examples=60, deadline=None)
@given(script=st.lists(acts, max_size=25))
def test_processes_on_two_nodes_keep_the_local_rules(node_tools, script):
    asyncio.run(_both(script, *node_tools))


crossing_acts = st.lists(
    st.tuples(
        st.sampled_from(["link", "unlink", "kill", "turn", "settle"]),
        st.sampled_from([(1, 2), (2, 1), (1, 2), (2, 1), (0, 2)]),
    ),
    max_size=30,
)


async def _cross(script, pair):
    with tempfile.TemporaryDirectory() as folder:
        async with pair(Path(folder)) as nodes:
            theatre = Theatre(nodes)
            await theatre.open()
            for word, (one, two) in script:
                pid, other = theatre.pids[one], theatre.views[one][two]
                if word == "turn":
                    await asyncio.sleep(0)
                elif word == "settle":
                    await theatre.settle()
                elif word == "kill" and one == 0:  # seldom, or nobody is left
                    pid.die("boom")
                elif pid.is_alive() and other.is_alive() and word in ("link", "unlink"):
                    getattr(pid, word)(other)
            await theatre.settle()
            return [(pid.is_alive(), *links) for pid, links in theatre.linked()]


@settings(max_examples=150, deadline=None)
@given(script=crossing_acts)
def test_both_sides_agree_who_is_linked_whatever_crosses(node_tools, script):
    ends = asyncio.run(_cross(script, node_tools[1]))

    for one, (alive, *links) in enumerate(ends):
        assert alive or not links
        for two in links:
            assert one in ends[two][1:]
