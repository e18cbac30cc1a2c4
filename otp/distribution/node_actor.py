"""The Thespian actor around a node: all that Thespian sees of it.

It gets one message, `StartNode`; from then on Thespian's loop only steps the node's asyncio loop (see
`stepped_loop`), and forks further nodes between two steps.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
import traceback
from collections import deque
from typing import NoReturn

from thespian.actors import Actor, ActorExitRequest, ThespianWatch

from otp.distribution.children import ChildNode
from otp.distribution.hardening import restore_logging
from otp.distribution.node import EXIT_FAILED, Fork, Node, NodeStartError, StartNode
from otp.distribution.process_control import end_process, reset_fatal_signals
from otp.distribution.stepped_loop import SteppedLoop

__all__ = ["NodeActor"]


class NodeActor(Actor):  # type: ignore[misc]  # Thespian has no types
    """The Thespian actor around a node. It never lets an exception reach Thespian, which would try again."""

    def __init__(self) -> None:
        reset_fatal_signals()  # Thespian has put handlers on them since the transport was made
        self._loop: SteppedLoop | None = None
        self._watch: ThespianWatch | None = None
        self._forks: deque[Fork] = deque()

    def receiveMessage(self, message: object, sender: object) -> object:  # noqa: N802
        """Take a control message, then run the node until it would sleep."""
        try:
            self._receive(message)
            # Thespian forgets the watch unless every single call returns it.
            return self._watch
        except BaseException:  # noqa: BLE001 - the process's last line of defence
            end_process(traceback.format_exc(), EXIT_FAILED)

    def _receive(self, message: object) -> None:
        match message:
            case StartNode() if self._loop is None:
                self._boot(message)
            case ActorExitRequest():
                end_process("", 0)
            # ChildActorExited needs no answer: the child's pidfd tells the same, and is ready now.
        if self._loop is not None:
            self._loop.step()
            while self._forks:
                self._fork(self._forks.popleft())
                self._loop.step()

    def _boot(self, order: StartNode) -> None:
        restore_logging()
        logging.basicConfig(
            stream=sys.stderr,
            level=logging.INFO,
            force=True,
            format=f"%(asctime)s {order.name}[{os.getpid()}] %(levelname)s %(name)s: %(message)s",
        )
        loop = self._loop = SteppedLoop()
        self._watch = ThespianWatch([loop.fileno()])
        loop.set_exception_handler(_end_for_loop)
        started: asyncio.Task[NoReturn] = loop.create_task(_born(order, loop, self._forks))
        started.add_done_callback(asyncio.Task.result)

    def _fork(self, fork: Fork) -> None:
        """Make a child. Thespian knows its process first, and only while it has not been reaped."""
        if fork.made.cancelled():
            return
        order, known = fork.order, _processes(self)
        address = self.createActor(NodeActor)
        made = [each for each in _processes(self) if each not in known]
        if not made or made[0].pid is None or self._loop is None:
            fork.made.set_exception(NodeStartError(order.name, "no process could be made"))
            return
        child = ChildNode(
            order.name,
            order.kind,
            made[0].pid,
            order.epoch,
            exit_code=lambda: made[0].exitcode,
            loop=self._loop,
        )
        self.send(address, order)
        fork.made.set_result(child)


def _processes(actor: Actor) -> list[multiprocessing.Process]:
    """List what an actor has forked; Thespian knows, but offers no way to ask."""
    manager = actor._myRef  # noqa: SLF001
    return [child.childProc for child in getattr(manager, "_child_procs", ())]


async def _born(order: StartNode, loop: SteppedLoop, forks: deque[Fork]) -> NoReturn:
    node = Node(order, loop, forks)
    # Thespian's handlers swallow what they do not know; these are all a node answers to.
    signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(node.stop, "shutdown"))
    await node.run()


def _end_for_loop(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:  # noqa: ARG001
    """End the process for an error in a callback or task that nobody awaits."""
    error = context.get("exception")
    lines = traceback.format_exception(error) if isinstance(error, BaseException) else []
    end_process(f"{context.get('message')}\n{''.join(lines)}", EXIT_FAILED)
