"""Following the event stream: server-sent events read line by line, resumed by Last-Event-ID."""

from __future__ import annotations

import http.client
import time
from collections.abc import Generator, Iterator

import msgspec

from orchestration import problems
from orchestration.client_target import Target
from orchestration.client_transport import RETRY_S, UnixConnection
from orchestration.problems import ProblemError
from orchestration.records import EventRecord, Problem

__all__ = ["follow"]

SILENCE_S = 45.0  # three heartbeats: the connection is dead
PAUSE_S = 0.2


def follow(target: Target, path: str, after: int) -> Generator[EventRecord, None, None]:
    """Give the events above `after`, for ever.

    Raises:
        ProblemError: the server refused, or could not be reached for `RETRY_S`.
    """
    patience_until = 0.0  # a first try that fails is final
    while True:
        connection = UnixConnection(target, SILENCE_S)
        opened = False
        try:
            response = _open(connection, path, after)
            opened = True
            for event in _events(response):
                after = event.seq
                yield event
        except (OSError, http.client.HTTPException) as error:
            if not opened and time.monotonic() >= patience_until:
                failure = error if isinstance(error, OSError) else ConnectionError(str(error))
                raise target.unreachable(failure) from error
        finally:
            connection.close()
        if opened:
            patience_until = time.monotonic() + RETRY_S
        time.sleep(PAUSE_S)


def _open(connection: UnixConnection, path: str, after: int) -> http.client.HTTPResponse:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    if response.status != http.client.OK:
        try:
            raise ProblemError(msgspec.json.decode(response.read(), type=Problem))
        except msgspec.DecodeError as error:
            raise problems.NOT_UNDERSTOOD.error(f"status {response.status} from {path}") from error
    return response


def _events(response: http.client.HTTPResponse) -> Iterator[EventRecord]:
    data = b""
    while line := response.readline():
        if line.startswith(b"data: "):
            data += line[6:]
        elif line == b"\n" and data:
            yield msgspec.json.decode(data, type=EventRecord)
            data = b""
