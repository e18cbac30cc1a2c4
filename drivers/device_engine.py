"""The devices behind the device service: executes commands, misbehaves as told, and writes it all down.

It does not keep two commands on one device apart, as real devices do not: it executes both and the ledger
shows it. A command goes on although its client has gone. After a kill, `replay` of the ledger brings back
state, remembered keys and fences; commands that ran at the kill are aborted.
"""

from __future__ import annotations

from asyncio import TimerHandle
from collections.abc import Callable, Iterable
from typing import Protocol

from drivers.contract import Epoch, Observation
from drivers.device_faults import Faults, read_faults
from drivers.device_protocol import Apply
from drivers.device_state import Device, RefusalError
from drivers.ledger_records import (
    EXECUTED,
    Begun,
    Booted,
    Claimed,
    Ended,
    LedgerWriter,
    Poked,
    Record,
    Refused,
)

__all__ = ["Answerer", "Engine", "Later"]


class Answerer(Protocol):
    """Takes the answer to a command: outcome, detail, and the device afterwards."""

    def __call__(self, outcome: str, detail: str, seen: Observation | None, /) -> None:
        """Take it."""


class Later(Protocol):
    """`loop.call_later`."""

    def __call__(self, delay: float, callback: Callable[[_Run], None], run: _Run, /) -> TimerHandle:
        """Call `callback(run)` after `delay` seconds."""


class _Run:
    """A command under way."""

    __slots__ = ("answer", "ask", "faults", "id", "key", "timer")

    def __init__(self, number: int, ask: Apply, faults: Faults, answer: Answerer) -> None:
        self.id = number
        self.ask = ask
        self.key = f"{ask.unit}/{ask.step}"
        self.faults = faults
        self.answer = answer
        self.timer: TimerHandle | None = None


class Engine:
    """All devices of one service.

    Args:
        ledger: takes a record of everything before it is answered.
        default: how devices behave where neither command nor device says otherwise.
        clock: returns monotonic seconds.
        later: `loop.call_later`.
    """

    def __init__(
        self, ledger: LedgerWriter, default: Faults, clock: Callable[[], float], later: Later
    ) -> None:
        self._ledger = ledger
        self._default = default
        self._clock = clock
        self._later = later
        self._devices: dict[str, Device] = {}
        self._runs: dict[int, _Run] = {}
        self._next = 1

    def replay(self, records: Iterable[Record], *, pid: int, utc: float) -> None:
        """Become what `records` say, abort what was running, and note that the service is up."""
        running: dict[int, Begun] = {}
        for record in records:
            self._replay_one(record, running)
        self._ledger.append(Booted(at=self._clock(), at_utc=utc, pid=pid))
        for begun in running.values():
            self._device(begun.device).note_failure(begun.key, "aborted")
            self._end(begun.id, begun.device, "aborted", effect=False)

    def observe(self, path: str) -> Observation:
        """Describe a device; one never heard of does not exist."""
        return self._device(path).observe()

    def claim(self, path: str, epoch: Epoch) -> Observation | str:
        """Raise the device's fence and describe it, or say why not."""
        device = self._device(path)
        if not device.raise_fence(epoch):
            self._refuse(path, ("", 0), epoch, "claim")
            return f"{path}: epoch {epoch} is older than {device.fence}"
        self._ledger.append(Claimed(device=path, epoch=epoch, at=self._clock()))
        return device.observe()

    def execute(self, ask: Apply, answer: Answerer) -> None:
        """Begin a command; `answer` is called at its end, perhaps before this returns."""
        device = self._device(ask.device)
        if not device.raise_fence(ask.epoch):
            self._refuse(ask.device, (ask.unit, ask.step), ask.epoch, ask.verb)
            answer("stale", f"epoch {ask.epoch} is older than {device.fence}", None)
            return
        run = _Run(self._begin(ask), ask, self._default, answer)
        if device.knows(run.key):
            self._finish(run, "known", effect=False)
            return
        try:
            run.faults = self._faults(run, device.count_try(run.key))
            device.preview(ask.verb, ask.params)
        except (RefusalError, ValueError) as error:
            self._finish(run, "refused", effect=False, detail=str(error))
            return
        self._start(run, device)

    def knows(self, path: str, key: str) -> str:
        """Say whether the command `key` was applied, not_applied, or is running."""
        device = self._device(path)
        if key in device.in_flight.values():
            return "running"
        return "applied" if device.knows(key) else "not_applied"

    def follow(self, path: str, key: str) -> tuple[str, str]:
        """Say how the accepted command `key` is going: outcome and detail."""
        device = self._device(path)
        if key in device.in_flight.values():
            return "accepted", key
        if device.knows(key):
            return "done", ""
        return device.failed.get(key, "unheard"), f"command {key}"

    def cancel(self, path: str, key: str) -> bool:
        """Stop the command `key`, which then has no effect; False if it does not run."""
        numbers = [n for n, running in self._device(path).in_flight.items() if running == key]
        for number in numbers:
            run = self._runs[number]
            if run.timer is not None:
                run.timer.cancel()
            self._finish(run, "cancelled", effect=False, detail="cancelled at the device")
        return bool(numbers)

    def poke(self, path: str, state: dict[str, object] | None) -> None:
        """Change a device by hand."""
        self._device(path).overwrite(state)
        self._ledger.append(Poked(device=path, state=state, at=self._clock()))

    def _start(self, run: _Run, device: Device) -> None:
        device.in_flight[run.id] = run.key
        self._runs[run.id] = run
        if run.faults.accept:
            run.answer("accepted", run.key, None)
            run.answer = _answered
        wait_s = run.faults.hang_s if run.faults.hang_s is not None else run.faults.latency_s
        if wait_s == 0.0:
            self._complete(run)
        elif wait_s != float("inf"):
            run.timer = self._later(wait_s, self._complete, run)

    def _complete(self, run: _Run) -> None:
        faults = run.faults
        if faults.crash == "before":
            self._finish(run, "crash", effect=False, detail="crash was asked for")
        elif faults.lie:
            self._finish(run, "lie", effect=False)
        elif faults.fail not in (None, "unknown"):
            self._finish(run, faults.fail, effect=False, detail=f"fail={faults.fail} was asked for")
        else:
            self._take_effect(run)

    def _take_effect(self, run: _Run) -> None:
        device = self._device(run.ask.device)
        try:
            changed = device.apply(run.key, run.ask.verb, run.ask.params)
        except RefusalError as error:
            self._finish(run, "refused", effect=False, detail=str(error))
            return
        outcome = "done" if changed else "no_change"
        if run.faults.crash:
            outcome = "crash_after"
        elif run.faults.fail:
            outcome = "unknown"
        self._finish(run, outcome, effect=changed)

    def _finish(self, run: _Run, outcome: str, *, effect: bool, detail: str = "") -> None:
        device = self._device(run.ask.device)
        self._runs.pop(run.id, None)
        device.in_flight.pop(run.id, None)
        if outcome not in EXECUTED and outcome != "known":
            device.note_failure(run.key, outcome)
        self._end(run.id, run.ask.device, outcome, effect=effect)
        # A liar says done; that the mark of the command is missing is all there is to see.
        run.answer("done" if outcome == "lie" else outcome, detail, device.observe(marks=1))

    def _faults(self, run: _Run, tries: int) -> Faults:
        ask = run.ask
        faults = read_faults(ask.params, ask.config, self._default)
        if faults.harmless or faults.strike(ask.device, run.key, tries):
            return faults
        return faults.spared()

    def _begin(self, ask: Apply) -> int:
        number = self._next
        self._next += 1
        self._ledger.append(
            Begun(
                id=number,
                device=ask.device,
                unit=ask.unit,
                step=ask.step,
                epoch=ask.epoch,
                verb=ask.verb,
                params=ask.params,
                at=self._clock(),
            )
        )
        return number

    def _end(self, number: int, path: str, outcome: str, *, effect: bool) -> None:
        self._ledger.append(
            Ended(id=number, device=path, outcome=outcome, effect=effect, at=self._clock())
        )

    def _refuse(self, path: str, step: tuple[str, int], epoch: Epoch, verb: str) -> None:
        self._ledger.append(
            Refused(
                device=path,
                unit=step[0],
                step=step[1],
                epoch=epoch,
                fence=self._device(path).fence,
                verb=verb,
                at=self._clock(),
            )
        )

    def _replay_one(self, record: Record, running: dict[int, Begun]) -> None:
        match record:
            case Begun():
                self._next = record.id + 1
                running[record.id] = record
                device = self._device(record.device)
                device.raise_fence(record.epoch)
                if not device.knows(record.key):
                    device.count_try(record.key)
            case Ended():
                self._replay_end(running.pop(record.id), record.outcome)
            case Claimed(device=path, epoch=epoch):
                self._device(path).raise_fence(epoch)
            case Poked(device=path, state=state):
                self._device(path).overwrite(state)
            case _:
                pass

    def _replay_end(self, begun: Begun, outcome: str) -> None:
        device = self._device(begun.device)
        if outcome in EXECUTED:
            device.apply(begun.key, begun.verb, begun.params)
        elif outcome != "known":
            device.note_failure(begun.key, outcome)

    def _device(self, path: str) -> Device:
        device = self._devices.get(path)
        if device is None:
            device = self._devices[path] = Device()
        return device


def _answered(_outcome: str, _detail: str, _seen: Observation | None, /) -> None:
    """Drop the end of a command that was answered with accepted."""
