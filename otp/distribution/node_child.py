"""The process that stands for a child node, so that an ordinary supervisor can restart nodes.

    ChildSpec("eu/a", start=lambda: node_child.start_link(node, "eu/a", "zone", …), shutdown_s=8.0)

It lives exactly as long as the node's OS process: its init returns when the node's application is up, it exits
with the node's exit reason, and its termination stops the node (asks, then kills) and waits until it is gone.
Give the child spec more time than `STOP_LIMIT_S`; if this process is killed all the same, the node is killed
before another of the same name is started. Every start gets a new epoch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from otp.distribution.children import ChildNode
from otp.distribution.node import Node, NodeStartError
from otp.envelope import Call
from otp.errors import ExitError
from otp.gen_server import CallResult, GenServer, NoReply, Reply, Result, Stop
from otp.gen_server import start_link as start_server_link
from otp.process import Exit, Pid
from otp.waiting import From

__all__ = ["STOP_LIMIT_S", "GetChildNode", "IssueEpoch", "NodeChild", "start_link"]

STOP_LIMIT_S = 4.0

IssueEpoch = Callable[[], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class GetChildNode(Call[ChildNode]):
    """Which node is it now?"""


@dataclass(frozen=True, slots=True)
class _NodeExited:
    reason: object


class NodeChild(GenServer[ChildNode]):
    """The server; its state is the living node."""

    def __init__(
        self,
        node: Node,
        name: str,
        kind: str,
        application: str,
        payload: bytes,
        issue_epoch: IssueEpoch,
    ) -> None:
        self._node = node
        self._what = (name, kind, application, payload)
        self._issue_epoch = issue_epoch

    async def init(self) -> ChildNode:
        self.trap_exit()
        try:
            child = await self._node.start_child_node(*self._what, self._issue_epoch())
        except NodeStartError as error:
            raise ExitError(error.reason) from error
        child.exited.add_done_callback(lambda _: self.pid.send(_NodeExited(child.exit_reason)))
        return child

    def handle_call(
        self, request: Call[object], from_: From, state: ChildNode
    ) -> CallResult[ChildNode]:
        match request:
            case GetChildNode():
                return Reply(state, state)
            case _:
                raise self._undefined("handle_call", request)

    def handle_info(self, message: object, state: ChildNode) -> Result[ChildNode]:
        match message:
            case _NodeExited(reason):
                return Stop(reason, state)
            case Exit(_, reason):
                return Stop(reason, state)
            case _:
                return NoReply(state)

    async def terminate(self, reason: object, state: ChildNode) -> None:
        await state.stop(STOP_LIMIT_S)


def start_link(
    node: Node,
    name: str,
    kind: str,
    application: str,
    payload: bytes,
    issue_epoch: IssueEpoch,
) -> Awaitable[Pid]:
    """Start a node under the calling supervisor; done when the node's application is up.

    Raises:
        StartError: the node ended before; `reason` is its exit reason.
    """
    return start_server_link(NodeChild(node, name, kind, application, payload, issue_epoch))
