"""Requests that are sent now and answered while the sender does something else: OTP's request ids.

`send_request` never fails. Its answer comes as a `Response` in the sender's mailbox, from where `wait_response` and
`receive_response` take it, past older messages; a server that handles everything as it comes gives each message to
`check_response`. A `RequestIds` is a collection of requests, each with a label, to be handled as they are answered.

Only inside a process: plain asyncio code awaits `Pid.call` instead.

Source: gen_server(3) of OTP 25 to 27.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, overload

from otp.address import Name
from otp.envelope import CALL, INFO, Envelope
from otp.exit_reason import NOPROC
from otp.process import Pid
from otp.timers import TimerRef
from otp.waiting import From, Waiter, self_process

__all__ = [
    "NO_REPLY",
    "NO_REQUEST",
    "TIMED_OUT",
    "Answer",
    "Failure",
    "RequestId",
    "RequestIds",
    "Response",
    "check_response",
    "receive_response",
    "reqids_add",
    "reqids_new",
    "reqids_size",
    "reqids_to_list",
    "send_request",
    "wait_response",
]

TIMED_OUT: Final = "timeout"
NO_REPLY: Final = "no_reply"  # this message answers no such request
NO_REQUEST: Final = "no_request"  # the collection is empty


@dataclass(frozen=True, slots=True)
class Answer:
    """The server answered."""

    value: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer will come: `noproc`, or the reason the server ended with."""

    reason: object
    server: Pid | Name


Result = Answer | Failure


class RequestId(From):
    """One request; for the server it is the `from_` of a call."""

    __slots__ = ("sender",)

    def __init__(self, sender: Pid, server: Pid | Name, request: object) -> None:
        super().__init__(sender.runtime, server, request)
        self.sender = sender

    def __repr__(self) -> str:
        return f"<request to {self.server!r}>"

    def finish(self) -> None:
        """Hand the answer to the sender: to what it waits for now, or to its mailbox."""
        self.done = True
        failed = self.failure is not None
        response = Response(
            self, Failure(self.failure, self.server) if failed else Answer(self.value)
        )
        waiting = self.sender.waiting
        if type(waiting) is _ResponseWait and not waiting.done and self in waiting.wanted:
            waiting.response = response
            waiting.finish()
        else:
            self.sender.post(Envelope((INFO, response)))

    def forget(self) -> None:
        """Drop the answer when it comes."""
        if not self.done:
            self.done = True
            if self.waiting_at is not None:
                self.waiting_at.unanswered.pop(self, None)


@dataclass(frozen=True, slots=True)
class Response:
    """The message that brings the answer of a request; `check_response` reads it."""

    request: RequestId
    result: Result


class RequestIds:
    """A collection of requests with their labels, in the order they were added."""

    __slots__ = ("labels",)

    def __init__(self) -> None:
        self.labels: dict[RequestId, object] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def __contains__(self, request: object) -> bool:
        return request in self.labels


Labelled = tuple[Result, object, RequestIds]


class _ResponseWait(Waiter):
    """Waits for the first answer to any of `wanted`."""

    __slots__ = ("response", "wanted")

    def __init__(self, sender: Pid, wanted: Container[RequestId]) -> None:
        super().__init__(sender.runtime)
        self.wanted = wanted
        self.response: Response | None = None

    def __await__(self) -> Any:
        yield from self.wait()
        return self.response

    def expired(self) -> None:
        """The time is up."""
        self.finish()


@overload
def send_request(dest: Pid | Name, request: object) -> RequestId: ...


@overload
def send_request(
    dest: Pid | Name, request: object, label: object, collection: RequestIds
) -> RequestIds: ...


def send_request(
    dest: Pid | Name, request: object, label: object = None, collection: RequestIds | None = None
) -> RequestId | RequestIds:
    """Send `request` to `handle_call` and go on; the answer is for the functions below.

    Args:
        dest: whom to ask. Nobody there: the answer is a `Failure`.
        request: what to ask.
        label: what the collection knows it by.
        collection: where to put the request; then that is what is returned.
    """
    me = self_process()
    pid = dest if isinstance(dest, Pid) else me.runtime.whereis(dest)
    sent = RequestId(me, dest, request)
    if pid is None:
        sent.fail(NOPROC)
    else:
        pid.post(Envelope((CALL, request, sent)))
    return sent if collection is None else reqids_add(sent, label, collection)


@overload
async def wait_response(
    request: RequestId, timeout_s: float | None = None, *, absolute: bool = False
) -> Result | Literal["timeout"]: ...


@overload
async def wait_response(
    request: RequestIds,
    timeout_s: float | None = None,
    *,
    absolute: bool = False,
    delete: bool = True,
) -> Labelled | Literal["timeout", "no_request"]: ...


async def wait_response(
    request: RequestId | RequestIds,
    timeout_s: float | None = None,
    *,
    absolute: bool = False,
    delete: bool = True,
) -> Result | Labelled | Literal["timeout", "no_request"]:
    """Wait for the answer of a request, or for the first of a collection; after `TIMED_OUT` one may wait again.

    Args:
        request: one request, or a collection.
        timeout_s: how long to wait; None is for ever, 0 looks once.
        absolute: `timeout_s` is a time of the runtime's clock.
        delete: take the answered request out of the collection.

    Returns:
        The result; of a collection (result, label, collection), or `NO_REQUEST` if it is empty.
    """
    if isinstance(request, RequestId):
        one = await _first((request,), timeout_s, absolute=absolute)
        return TIMED_OUT if one is None else one.result
    if not request:
        return NO_REQUEST
    first = await _first(request, timeout_s, absolute=absolute)
    return TIMED_OUT if first is None else _labelled(first, request, delete=delete)


@overload
async def receive_response(
    request: RequestId, timeout_s: float | None = None, *, absolute: bool = False
) -> Result | Literal["timeout"]: ...


@overload
async def receive_response(
    request: RequestIds,
    timeout_s: float | None = None,
    *,
    absolute: bool = False,
    delete: bool = True,
) -> Labelled | Literal["timeout", "no_request"]: ...


async def receive_response(
    request: RequestId | RequestIds,
    timeout_s: float | None = None,
    *,
    absolute: bool = False,
    delete: bool = True,
) -> Result | Labelled | Literal["timeout", "no_request"]:
    """Wait as `wait_response` does, but give up after `TIMED_OUT`: what is still unanswered will be dropped."""
    result: Any = await wait_response(request, timeout_s, absolute=absolute, delete=delete)  # type: ignore[arg-type]  # either overload
    if isinstance(result, str) and result == TIMED_OUT:
        for each in (request,) if isinstance(request, RequestId) else request.labels:
            each.forget()
    return cast("Result | Labelled", result)


@overload
def check_response(message: object, request: RequestId) -> Result | Literal["no_reply"]: ...


@overload
def check_response(
    message: object, request: RequestIds, *, delete: bool = True
) -> Labelled | Literal["no_reply", "no_request"]: ...


def check_response(
    message: object, request: RequestId | RequestIds, *, delete: bool = True
) -> Result | Labelled | Literal["no_reply", "no_request"]:
    """Read a message: the result if it answers `request`, or one in a collection, else `NO_REPLY`."""
    if isinstance(request, RequestId):
        mine = isinstance(message, Response) and message.request is request
        return message.result if mine else NO_REPLY  # type: ignore[attr-defined]
    if not request:
        return NO_REQUEST
    if isinstance(message, Response) and message.request in request:
        return _labelled(message, request, delete=delete)
    return NO_REPLY


def reqids_new() -> RequestIds:
    """Make an empty collection."""
    return RequestIds()


def reqids_add(request: RequestId, label: object, collection: RequestIds) -> RequestIds:
    """Put `request` into the collection and return that; unlike OTP's it is changed in place.

    Raises:
        ValueError: the request is in it already (OTP's badarg).
    """
    if request in collection:
        raise ValueError(f"{request!r} is in the collection already")
    collection.labels[request] = label
    return collection


def reqids_size(collection: RequestIds) -> int:
    """Count the requests of a collection."""
    return len(collection)


def reqids_to_list(collection: RequestIds) -> list[tuple[RequestId, object]]:
    """List (request, label), oldest first."""
    return list(collection.labels.items())


async def _first(
    wanted: Container[RequestId], timeout_s: float | None, *, absolute: bool
) -> Response | None:
    me = self_process()
    for envelope in me.queued():
        response = envelope[1]
        if type(response) is Response and response.request in wanted:
            me.remove(envelope)
            return response
    if timeout_s is not None:
        timeout_s -= me.runtime.clock() if absolute else 0.0
        if timeout_s <= 0:
            return None
    return await _wait(me, wanted, timeout_s)


async def _wait(me: Pid, wanted: Container[RequestId], timeout_s: float | None) -> Response | None:
    wait = _ResponseWait(me, wanted)
    timer: TimerRef | None = None
    if timeout_s is not None:
        timer = me.runtime.timers.start(timeout_s, wait)
    response: Response | None = await wait
    if timer is not None:
        me.runtime.timers.cancel(timer)
    return response


def _labelled(response: Response, collection: RequestIds, *, delete: bool) -> Labelled:
    label = collection.labels[response.request]
    if delete:
        del collection.labels[response.request]
    return response.result, label, collection
