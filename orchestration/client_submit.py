"""`submit work`: send units in chunks, print their ids as they are accepted, wait for their ends."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import msgspec

from orchestration import problems
from orchestration.client import Client
from orchestration.client_output import Console
from orchestration.client_progress import Progress
from orchestration.client_views import view_of
from orchestration.problems import ProblemError
from orchestration.records import TERMINAL, Problem, SubmitAnswer, UnitRecord, UnitSpec, UnitState

__all__ = ["submit", "wait_for"]

T = TypeVar("T")
CHUNK = 2000  # units of one request and transaction
WAIT_CHUNK = 1000
WAIT_SLICE_S = 10.0
SHOWN = 20


def submit(
    client: Client,
    console: Console,
    units: Iterable[UnitSpec],
    *,
    key: str | None,
    wait_s: float | None,
) -> None:
    """Submit `units`; their ids go to stdout as soon as they are durable.

    Args:
        client: the server.
        console: with a machine format, answers are written instead of ids; with `wait_s`, final records.
        units: read as they are sent, so a pipe may be endless.
        key: what the idempotency keys of units without one begin with.
        wait_s: how long to wait for their ends, in all; infinity for ever, None not at all.

    Raises:
        ProblemError: refused, unreachable, not all succeeded, or the wait timed out.
    """
    final = wait_s is not None and console.is_machine
    answers: list[SubmitAnswer] = []
    ids: list[str] = []
    for accepted in _send(client, units, key):
        ids += [answer.id for answer in accepted]
        if final:
            continue
        if console.format in {"json", "yaml"}:
            answers += accepted
        else:
            _print(console, accepted)
    if console.format in {"json", "yaml"} and not final:
        console.document("SubmitList", items=answers)
    if wait_s is not None:
        _await(client, console, ids, wait_s)


def wait_for(
    client: Client, console: Console, ids: Sequence[str], wait_s: float
) -> tuple[bool, list[UnitRecord]]:
    """Wait until all `ids` have ended; give whether they have, and their records."""
    give_up_at = time.monotonic() + wait_s
    records: list[UnitRecord] = []
    with Progress(console, "waiting for work") as progress:
        for chunk in _chunks(iter(ids), WAIT_CHUNK):
            done = False
            while not done:
                left_s = give_up_at - time.monotonic()
                answer = client.wait(chunk, max(0.0, min(left_s, WAIT_SLICE_S)))
                done = answer.done
                ended = sum(record.state in TERMINAL for record in answer.items)
                progress.update(len(records) + ended, len(ids))
                if left_s <= 0:
                    break
            records += answer.items
    return all(record.state in TERMINAL for record in records), records


def _send(
    client: Client, units: Iterable[UnitSpec], key: str | None
) -> Iterator[list[SubmitAnswer]]:
    """Send chunk after chunk; if a later one fails, say what is accepted already."""
    base = key or uuid.uuid4().hex
    sent = 0
    source = iter(units)
    try:
        for chunk in _chunks(source, CHUNK):
            yield client.submit(chunk, base, first=sent)
            sent += len(chunk)
    except ProblemError as error:
        if sent == 0:
            raise
        raise ProblemError(_after(error, sent, base)) from error


def _after(error: ProblemError, sent: int, base: str) -> Problem:
    again = f"then send all of it again with --idempotency-key {base}: what is accepted stays once"
    return msgspec.structs.replace(
        error.problem,
        detail=f"{error.problem.detail} (the {sent} units before are accepted)",
        hint=f"{error.problem.hint}; {again}",
        errors=tuple(item | {"index": _index(item) + sent} for item in error.problem.errors),
    )


def _index(item: dict[str, object]) -> int:
    index = item.get("index")
    return index if isinstance(index, int) else 0


def _chunks(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while chunk := list(islice(items, size)):
        yield chunk


def _print(console: Console, accepted: list[SubmitAnswer]) -> None:
    for answer in accepted:
        if console.format == "jsonl":
            console.write(msgspec.json.encode(answer).decode())
        elif console.format == "name":
            console.write(f"work/{answer.id}")
        else:
            console.write(answer.id)


def _await(client: Client, console: Console, ids: list[str], wait_s: float) -> None:
    try:
        done, records = wait_for(client, console, ids, wait_s)
    except KeyboardInterrupt:
        console.say("no longer waiting; the work goes on: cloudctl get work")
        raise
    if console.is_machine:
        console.records(view_of("work"), records)
    counts = Counter(record.state.value for record in records)
    console.say(", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    bad = [record for record in records if record.state in TERMINAL - {UnitState.SUCCEEDED}]
    if bad:
        lines = [
            f"{record.id} {record.state.value}: {record.reason or '-'}" for record in bad[:SHOWN]
        ]
        raise problems.WORK_FAILED.error(
            f"{len(bad)} of {len(records)}:\n      " + "\n      ".join(lines)
        )
    if not done:
        left = sum(record.state not in TERMINAL for record in records)
        raise problems.WAIT_TIMED_OUT.error(f"{left} of {len(records)} units have not ended")
