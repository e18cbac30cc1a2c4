"""HTTP over the unix socket: one kept connection, retries where they are harmless, problems as exceptions.

A request that may be sent again (reads, and changes with an idempotency key) survives a restart of the
server: it is repeated for `RETRY_S`. Anything else that breaks half-way ends as "outcome unknown".
"""

from __future__ import annotations

import http.client
import select
import socket
import time
from typing import NoReturn

import msgspec
from msgspec import Struct

from orchestration import problems
from orchestration.client_target import Target
from orchestration.problems import ProblemError
from orchestration.records import Problem

__all__ = ["Reply", "Request", "Transport", "UnixConnection"]

RETRY_S = 15.0
PAUSE_S = 0.1
BROKEN = (ConnectionError, http.client.HTTPException)


class Request(Struct, frozen=True, kw_only=True):
    """One call; `repeatable`: sending it twice does no more than sending it once."""

    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = {}
    repeatable: bool = True
    unknown_hint: str = "look before you retry"  # what to do when the outcome is unknown
    timeout_s: float | None = None  # None: the transport's own

    @property
    def name(self) -> str:
        """Give the call as people write it."""
        return f"{self.method} {self.path.partition('?')[0]}"


class Reply(Struct, frozen=True, kw_only=True):
    """What the server answered, if it was no problem."""

    status: int
    headers: dict[str, str]
    body: bytes


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection whose address is a socket in the file system."""

    def __init__(self, target: Target, timeout_s: float) -> None:
        super().__init__("cloudctl", timeout=timeout_s)
        self._target = target

    def connect(self) -> None:
        """Connect; `OSError` when nobody listens or this account may not."""
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            peer.settimeout(self.timeout)
            peer.connect(str(self._target.socket))
        except OSError:
            peer.close()
            raise
        self.sock = peer

    def is_stale(self) -> bool:
        """Say whether the server has closed the connection since the last answer."""
        return self.sock is not None and bool(select.select([self.sock], [], [], 0)[0])


class Transport:
    """The client's one connection. Not for use by several threads."""

    def __init__(self, target: Target, timeout_s: float) -> None:
        self.target = target
        self._timeout_s = timeout_s
        self._connection = UnixConnection(target, timeout_s)
        self._met = False  # the server has answered before, so it is worth waiting for

    def close(self) -> None:
        """Give the connection up."""
        self._connection.close()

    def send(self, request: Request) -> Reply:
        """Send `request` and give the answer.

        Raises:
            ProblemError: the server refused, cannot be reached, or did not answer in time.
        """
        give_up_at = time.monotonic() + RETRY_S
        while True:
            try:
                return self.once(request)
            except ProblemError as error:
                if not _is_passing(error, request) or not self._worth_waiting(give_up_at):
                    raise
            time.sleep(PAUSE_S)

    def once(self, request: Request) -> Reply:
        """Send `request` without patience; otherwise as `send`."""
        self._open(request)
        try:
            self._connection.request(request.method, request.path, request.body, request.headers)
            answer = self._connection.getresponse()
            reply = Reply(status=answer.status, headers=dict(answer.headers), body=answer.read())
        except TimeoutError as error:
            self._timed_out(request, error)
        except BROKEN as error:
            self._connection.close()
            detail = f"{request.name} on {self.target.socket}: {error or type(error).__name__}"
            raise problems.CONNECTION_BROKE.error(detail, hint=request.unknown_hint) from error
        self._met = True
        if reply.status >= 400:
            raise ProblemError(_problem(reply))
        return reply

    def _open(self, request: Request) -> None:
        connection = self._connection
        if connection.is_stale():
            connection.close()
        connection.timeout = request.timeout_s or self._timeout_s
        try:
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(connection.timeout)
        except OSError as error:
            connection.close()
            raise self.target.unreachable(error) from error

    def _timed_out(self, request: Request, error: TimeoutError) -> NoReturn:
        self._connection.close()
        waited_s = request.timeout_s or self._timeout_s
        if request.method == "GET":
            detail, hint = (
                "it only reads, nothing has changed",
                "try again, or give it more: --timeout",
            )
        else:
            detail, hint = "it may have been done, now or later", request.unknown_hint
        raise problems.OUTCOME_UNKNOWN.error(
            f"{request.name} had no answer within {waited_s:g} s; {detail}", hint=hint
        ) from error

    def _worth_waiting(self, give_up_at: float) -> bool:
        """Wait for a server that was there a moment ago or whose parent lives, but not for ever."""
        if time.monotonic() >= give_up_at:
            return False
        return self._met or self.target.serve_pid() is not None


def _is_passing(error: ProblemError, request: Request) -> bool:
    """Say whether trying `request` again is both harmless and likely to help."""
    code = error.problem.code
    if code in {problems.NOT_RUNNING.code, problems.NOT_READY.code}:
        return True  # it was not even sent, or not taken
    return request.repeatable and code == problems.CONNECTION_BROKE.code


def _problem(reply: Reply) -> Problem:
    try:
        return msgspec.json.decode(reply.body, type=Problem)
    except msgspec.DecodeError:
        text = reply.body[:200].decode(errors="replace")
        return problems.NOT_UNDERSTOOD.problem(f"status {reply.status}: {text}")
