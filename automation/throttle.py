"""The throttle: paces the synchronisations of a pod, so that a mass restart is a ramp and not a stampede.

`Throttle` is the rule, a token bucket in front of two queues: resources with work waiting go first.
`Synchroniser` is the process around it. It claims the resources whose turn it is, many in one call of their
driver, and sends each its `Claimed`. After a restart it knows nobody: resources ask again when their claim
does not come.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from automation.execution import LOOK_S, contained
from automation.resource_memory import ResourceMemory
from drivers.contract import Driver, DriverError, Observation, OutcomeUnknownError
from otp import GenServer, NoReply, Result, send_after
from rpc.messages import Epoch

__all__ = ["Ask", "Claimed", "Synchroniser", "Throttle"]

BATCH = 500  # claims in one driver call: about 100 kB on a socket
MOST_BATCHES = 4  # driver calls in flight
_CLAIM_GRACE_S = 5.0
_GATHER_S = 0.005  # from the first `Ask` to the first batch: a mass start fills it by then


@dataclass(frozen=True, slots=True)
class Ask:
    """The incarnation `epoch` of a resource wants to be claimed through `driver`."""

    memory: ResourceMemory
    epoch: Epoch
    driver: Driver


@dataclass(frozen=True, slots=True)
class Claimed:
    """What the device of the incarnation `epoch` answered to its claim."""

    epoch: Epoch
    driver: Driver
    answer: Observation | BaseException


@dataclass(frozen=True, slots=True)
class _Tick:
    """Tokens have come in."""


@dataclass(frozen=True, slots=True)
class _BatchDone:
    asks: tuple[Ask, ...]
    task: asyncio.Task[list[Observation | Exception]]


class Throttle:
    """A token bucket of one second's worth, and who waits for its tokens."""

    __slots__ = ("_at", "_ordinary", "_rate", "_tokens", "_urgent")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._tokens = max(rate, 1.0)
        self._at = now
        self._urgent: deque[Ask] = deque()
        self._ordinary: deque[Ask] = deque()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._ordinary)

    def ask(self, ask: Ask) -> None:
        """Queue `ask`, before the ordinary ones if work waits for its resource."""
        (self._urgent if ask.memory.is_urgent else self._ordinary).append(ask)

    def grant(self, now: float, most: int) -> list[Ask]:
        """Take those whose turn has come, at most `most`, urgent ones first, each in order of asking."""
        self._refill(now)
        granted: list[Ask] = []
        for queue in (self._urgent, self._ordinary):
            while queue and self._tokens >= 1.0 and len(granted) < most:
                granted.append(queue.popleft())
                self._tokens -= 1.0
        return granted

    def wait_s(self) -> float:
        """How long until the next token."""
        return max(0.0, (1.0 - self._tokens) / self._rate)

    def _refill(self, now: float) -> None:
        self._tokens = min(self._tokens + (now - self._at) * self._rate, max(self._rate, 1.0))
        self._at = now


class Synchroniser(GenServer[Throttle]):
    """The process around the throttle; `rate` is synchronisations a second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._batches: set[asyncio.Task[list[Observation | Exception]]] = set()
        self._is_armed = False

    def init(self) -> Throttle:
        """Start with a full bucket."""
        return Throttle(self._rate, self.runtime.clock())

    def handle_cast(self, request: object, state: Throttle) -> Result[Throttle]:
        """Queue an `Ask`; it is looked at once those that came with it are queued as well."""
        assert isinstance(request, Ask)
        state.ask(request)
        self._arm(_GATHER_S)
        return NoReply(state)

    def handle_info(self, message: object, state: Throttle) -> Result[Throttle]:
        """Grant on each `_Tick`; hand out the answers of a batch."""
        match message:
            case _Tick():
                self._is_armed = False
            case _BatchDone(asks, task):
                self._batches.discard(task)
                if _is_spoilt(asks, task):
                    for ask in asks:
                        self._claim((ask,))
                else:
                    _hand_out(asks, task)
        self._grant(state)
        return NoReply(state)

    def _grant(self, throttle: Throttle) -> None:
        while len(self._batches) < MOST_BATCHES:
            granted = throttle.grant(self.runtime.clock(), BATCH)
            if not granted:
                break
            for asks in _by_driver(granted):
                self._claim(asks)
        else:
            return  # the next batch to end looks again
        if len(throttle):
            # Not sooner than 20 ms: a token at a time would make a batch of each.
            self._arm(max(throttle.wait_s(), 0.02))

    def _claim(self, asks: tuple[Ask, ...]) -> None:
        current = tuple(ask for ask in asks if ask.memory.epoch == ask.epoch)
        if not current:
            return
        task = asyncio.ensure_future(contained(_claim_many(current)))
        self._batches.add(task)
        me = self.pid
        task.add_done_callback(lambda done: me.send(_BatchDone(current, done)))

    def _arm(self, delay_s: float) -> None:
        if not self._is_armed:
            self._is_armed = True
            send_after(self.pid, delay_s, _Tick())


async def _claim_many(asks: Sequence[Ask]) -> list[Observation | Exception]:
    refs = [(ask.memory.ref, ask.epoch) for ask in asks]
    try:
        async with asyncio.timeout(LOOK_S + _CLAIM_GRACE_S):
            return list(await asks[0].driver.claim_many(refs, LOOK_S))
    except TimeoutError as error:
        raise OutcomeUnknownError(f"no answer to {len(refs)} claims in {LOOK_S:g} s") from error


def _by_driver(asks: Sequence[Ask]) -> list[tuple[Ask, ...]]:
    groups: dict[int, list[Ask]] = {}
    for ask in asks:
        groups.setdefault(id(ask.driver), []).append(ask)
    return [tuple(group) for group in groups.values()]


def _is_spoilt(asks: Sequence[Ask], task: asyncio.Task[list[Observation | Exception]]) -> bool:
    """Whether one device may have spoilt the batch for the others by an error of no declared kind."""
    if len(asks) == 1 or task.cancelled():
        return False
    error = task.exception()
    return error is not None and not isinstance(error, DriverError)


def _hand_out(asks: Sequence[Ask], task: asyncio.Task[list[Observation | Exception]]) -> None:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    answers: Sequence[Observation | BaseException] = (
        task.result() if error is None else [error] * len(asks)
    )
    if len(answers) != len(asks):
        wrong = OutcomeUnknownError(f"{len(asks)} claims, {len(answers)} answers")
        answers = [wrong] * len(asks)
    for ask, answer in zip(asks, answers, strict=True):
        if ask.memory.pid is not None:
            ask.memory.pid.send(Claimed(ask.epoch, ask.driver, answer))
