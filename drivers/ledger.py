"""Audits a device service's ledger: what the devices themselves saw of overlap, replay and old epochs.

`python -m drivers.ledger FILE` prints the audit as JSON and ends with 1 if a rule was broken. It believes
nobody: the fence is recomputed from the claims and commands in the order in which they reached the device.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct, field

from drivers.contract import Epoch
from drivers.ledger_records import (
    EXECUTED,
    Begun,
    Booted,
    Claimed,
    Ended,
    LedgerError,
    Record,
    Refused,
    read_ledger,
)

__all__ = ["LedgerAudit", "audit", "audit_records", "main"]

EXAMPLES = 20


class LedgerAudit(Struct, kw_only=True):
    """What a ledger says. The first four break a promise if they are not zero.

    `applied` counts, per unit, the steps the device has done or found done.
    """

    overlapping: int = 0  # commands begun while another ran on the same device
    replayed: int = 0  # effects beyond the first under one key on one device
    stale_applied: int = 0  # effects of commands begun below the device's fence
    unfinished: int = 0  # begun, and neither ended nor aborted yet
    refused_stale: int = 0
    commands: int = 0
    effects: int = 0
    devices: int = 0
    claims: int = 0
    boots: int = 0
    aborted: int = 0  # cut off by a kill of the service
    ended_past_claim: int = 0  # begun before a newer claim, ended after it
    outcomes: dict[str, int] = field(default_factory=dict)
    applied: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)  # of broken rules, the first few

    @property
    def sound(self) -> bool:
        """Whether no command overlapped, took effect twice, or came through with an old epoch."""
        return not (self.overlapping or self.replayed or self.stale_applied)


class _Device:
    __slots__ = ("applied", "effects", "fence", "open")

    def __init__(self) -> None:
        self.fence: Epoch = ()
        self.open: dict[int, tuple[Begun, bool]] = {}  # command and whether its epoch was old
        self.effects: Counter[str] = Counter()
        self.applied: set[str] = set()


class _Auditor:
    def __init__(self) -> None:
        self.found = LedgerAudit()
        self._devices: dict[str, _Device] = {}
        self._outcomes: Counter[str] = Counter()
        self._applied: Counter[str] = Counter()

    def read(self, record: Record) -> None:
        match record:
            case Begun():
                self._begun(record)
            case Ended():
                self._ended(record)
            case Claimed(device=device, epoch=epoch):
                self.found.claims += 1
                self._raise_fence(self._device(device), epoch)
            case Refused():
                self.found.refused_stale += 1
            case Booted():
                self.found.boots += 1
            case _:
                pass

    def result(self) -> LedgerAudit:
        self.found.devices = len(self._devices)
        self.found.unfinished = sum(len(device.open) for device in self._devices.values())
        self.found.outcomes = dict(self._outcomes)
        self.found.applied = dict(self._applied)
        return self.found

    def _begun(self, record: Begun) -> None:
        device = self._device(record.device)
        self.found.commands += 1
        if device.open:
            self.found.overlapping += 1
            self._example(
                "overlap", record, f"while {[b.key for b, _ in device.open.values()]} ran"
            )
        device.open[record.id] = (record, record.epoch < device.fence)
        self._raise_fence(device, record.epoch)

    def _ended(self, record: Ended) -> None:
        device = self._device(record.device)
        if record.id not in device.open:
            raise LedgerError(f"{record.device}: command {record.id} ended without having begun")
        begun, stale = device.open.pop(record.id)
        self._outcomes[record.outcome] += 1
        self.found.aborted += record.outcome == "aborted"
        self.found.ended_past_claim += begun.epoch < device.fence and not stale
        if record.effect:
            self._effect(device, begun, stale=stale)
        if record.outcome in EXECUTED or record.outcome == "known":
            self._applied[begun.unit] += begun.key not in device.applied
            device.applied.add(begun.key)

    def _effect(self, device: _Device, begun: Begun, *, stale: bool) -> None:
        self.found.effects += 1
        device.effects[begun.key] += 1
        if stale:
            self.found.stale_applied += 1
            self._example("stale", begun, f"epoch {begun.epoch} below {device.fence}")
        if device.effects[begun.key] > 1:
            self.found.replayed += 1
            self._example("replay", begun, f"took effect {device.effects[begun.key]} times")

    def _example(self, rule: str, begun: Begun, text: str) -> None:
        if len(self.found.examples) < EXAMPLES:
            self.found.examples.append(
                f"{rule}: {begun.device} {begun.verb} {begun.key} (command {begun.id}) {text}"
            )

    @staticmethod
    def _raise_fence(device: _Device, epoch: Epoch) -> None:
        device.fence = max(device.fence, epoch)

    def _device(self, path: str) -> _Device:
        device = self._devices.get(path)
        if device is None:
            device = self._devices[path] = _Device()
        return device


def audit(path: Path) -> LedgerAudit:
    """Audit the ledger in `path`.

    Raises:
        LedgerError: it cannot be read.
    """
    return audit_records(read_ledger(path))


def audit_records(records: Iterable[Record]) -> LedgerAudit:
    """Audit records in the order in which they were written."""
    auditor = _Auditor()
    for record in records:
        auditor.read(record)
    return auditor.result()


def main(arguments: list[str]) -> int:
    """Print the audit of the one file named; 1: a rule was broken, 2: it cannot be read."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m drivers.ledger FILE\n")
        return 2
    try:
        found = audit(Path(arguments[0]))
    except LedgerError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    found.applied = {"units": len(found.applied), "steps": sum(found.applied.values())}
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    return 0 if found.sound else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
