"""Requests that do not wait: send now, look for the answer later, of one server or of many.

The answer comes into the sender's mailbox as a `Response`, among its other messages. `wait_response` and
`receive_response` take it out of there; a server that gets it in `handle_info` asks `check_response` what it is.
Requests are sent from inside a process. Unlike OTP's collections, a `RequestIds` changes in place.

Source: gen_server(3) of OTP 25.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, overload

from otp.address import Name
from otp.envelope import CALL, INFO
from otp.errors import OtpError
from otp.exit_reason import NOPROC
from otp.process import Pid
from otp.runtime import Runtime
from otp.waiting import From, Waiter, self_process

__all__ = [
    "NO_REPLY",
    "NO_REQUEST",
    "TIMED_OUT",
    "Failed",
    "Replied",
    "RequestId",
    "RequestIds",
    "Response",
    "check_response",
    "receive_response",
    "send_request",
    "wait_response",
]

TIMED_OUT: Final = "timeout"
NO_REPLY: Final = "no_reply"  # this message is no answer to any of these requests
NO_REQUEST: Final = "no_request"  # the collection is empty


@dataclass(frozen=True, slots=True)
class Replied:
    """The server answered."""

    value: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer will come; `reason` is noproc or the server's exit reason."""

    reason: object
    server: Pid | Name


Outcome = Replied | Failed


@dataclass(frozen=True, slots=True)
class Response:
    """The message that an answer, or the news that none will come, arrives as."""

    request: RequestId


class RequestId(From):
    """One request that was sent. Awaiting it is as awaiting a call without a time limit."""

    __slots__ = ("looking", "sender")

    def __init__(self, runtime: Runtime, server: Pid | Name, request: object, sender: Pid) -> None:
        super().__init__(runtime, server, request)
        self.sender = sender
        self.looking: _Look | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from receive_response(self).__await__()
        if self.failure is not None:
            raise self._error()
        return self.value

    def reply(self, value: object) -> None:
        """Answer the request."""
        if self.done:
            return
        super().reply(value)
        self.sender.post((INFO, Response(self)))
        if self.looking is not None:
            self.looking.finish()

    def outcome(self) -> Outcome:
        """Tell how it ended."""
        return Replied(self.value) if self.failure is None else Failed(self.failure, self.server)

    def drop(self) -> None:
        """Take no interest in the answer any more."""
        self.done = True
        for envelope in self.sender.queued():
            if type(envelope[1]) is Response and envelope[1].request is self:
                self.sender.remove(envelope)
                return


class RequestIds:
    """Requests under way, each with a label (OTP's request id collection)."""

    __slots__ = ("_labels",)

    def __init__(self) -> None:
        self._labels: dict[RequestId, object] = {}

    def __len__(self) -> int:
        return len(self._labels)

    def __iter__(self) -> Iterator[tuple[RequestId, object]]:
        return iter(list(self._labels.items()))

    def __contains__(self, request: RequestId) -> bool:
        return request in self._labels

    def add(self, request: RequestId, label: object) -> None:
        """Add a request.

        Raises:
            OtpError: it is there already (OTP's badarg).
        """
        if request in self._labels:
            raise OtpError("this request is in the collection already")
        self._labels[request] = label

    def label(self, request: RequestId) -> object:
        """Give the label of a request."""
        return self._labels[request]

    def remove(self, request: RequestId) -> None:
        """Take a request out."""
        self._labels.pop(request, None)

    def clear(self) -> None:
        """Take all out."""
        self._labels.clear()


class _Look(Waiter):
    """Somebody waits for the first answer to one of several requests."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        yield from self.wait()

    def expired(self) -> None:
        """The time is up."""
        self.finish()


def send_request(
    dest: Pid | Name,
    request: object,
    label: object = None,
    collection: RequestIds | None = None,
) -> RequestId:
    """Send a call without waiting, and with a `collection` add it there under `label`; never fails by itself."""
    me = self_process()
    pid = dest if isinstance(dest, Pid) else me.runtime.whereis(dest)
    request_id = RequestId(me.runtime, dest, request, me)
    if pid is None:
        request_id.fail(NOPROC)
    else:
        pid.post((CALL, request, request_id))
    if collection is not None:
        collection.add(request_id, label)
    return request_id


@overload
async def wait_response(
    requests: RequestId, timeout_s: float | None = None
) -> Outcome | Literal["timeout"]: ...


@overload
async def wait_response(
    requests: RequestIds, timeout_s: float | None = None, *, delete: bool = True
) -> tuple[Outcome, object] | Literal["timeout", "no_request"]: ...


async def wait_response(
    requests: RequestId | RequestIds, timeout_s: float | None = None, *, delete: bool = True
) -> Outcome | tuple[Outcome, object] | Literal["timeout", "no_request"]:
    """Wait for the first answer; a request that is too late stays alive, and can be waited for again.

    Args:
        requests: one, or a collection.
        timeout_s: how long to wait; None waits for ever.
        delete: take the answered request out of its collection.

    Returns:
        `Replied` or `Failed`, of a collection with the label; or `TIMED_OUT`, or `NO_REQUEST`.
    """
    if isinstance(requests, RequestId):
        found = await _first([requests], timeout_s)
        return TIMED_OUT if found is None else found.outcome()
    if not len(requests):
        return NO_REQUEST
    found = await _first([request for request, _ in requests], timeout_s)
    return TIMED_OUT if found is None else _labelled(found, requests, delete=delete)


@overload
async def receive_response(
    requests: RequestId, timeout_s: float | None = None
) -> Outcome | Literal["timeout"]: ...


@overload
async def receive_response(
    requests: RequestIds, timeout_s: float | None = None, *, delete: bool = True
) -> tuple[Outcome, object] | Literal["timeout", "no_request"]: ...


async def receive_response(
    requests: RequestId | RequestIds, timeout_s: float | None = None, *, delete: bool = True
) -> Outcome | tuple[Outcome, object] | Literal["timeout", "no_request"]:
    """Wait as `wait_response` does, but when the time is up give up every request that is left."""
    if isinstance(requests, RequestId):
        outcome = await wait_response(requests, timeout_s)
        if outcome == TIMED_OUT:
            requests.drop()
        return outcome
    answer = await wait_response(requests, timeout_s, delete=delete)
    if answer == TIMED_OUT:
        for request, _ in requests:
            request.drop()
        requests.clear()
    return answer


def check_response(
    message: object, requests: RequestId | RequestIds, *, delete: bool = True
) -> Outcome | tuple[Outcome, object] | Literal["no_reply", "no_request"]:
    """Tell whether `message`, as it was received, is the answer to one of `requests`, and which."""
    if isinstance(requests, RequestIds) and not len(requests):
        return NO_REQUEST
    if not isinstance(message, Response):
        return NO_REPLY
    if isinstance(requests, RequestId):
        return message.request.outcome() if message.request is requests else NO_REPLY
    if message.request not in requests:
        return NO_REPLY
    return _labelled(message.request, requests, delete=delete)


def _labelled(request: RequestId, requests: RequestIds, *, delete: bool) -> tuple[Outcome, object]:
    label = requests.label(request)
    if delete:
        requests.remove(request)
    return request.outcome(), label


async def _first(requests: list[RequestId], timeout_s: float | None) -> RequestId | None:
    me = self_process()
    wanted = set(requests)
    found = _take(me, wanted)
    if found is None and (timeout_s is None or timeout_s > 0):
        look = _Look(me.runtime)
        for request in requests:
            request.looking = look
        timer = None if timeout_s is None else me.runtime.timers.start(timeout_s, look)
        await look
        if timer is not None:
            me.runtime.timers.cancel(timer)
        for request in requests:
            request.looking = None
        found = _take(me, wanted)
    return found


def _take(me: Pid, wanted: set[RequestId]) -> RequestId | None:
    """Take the oldest response to one of `wanted` out of the mailbox."""
    for envelope in me.queued():
        message = envelope[1]
        if type(message) is Response and message.request in wanted:
            me.remove(envelope)
            return message.request
    return None
