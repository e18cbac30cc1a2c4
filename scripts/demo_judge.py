"""The judge of the demo: what was lost, overlapped or came from a dead incarnation.

It reads the simulated devices' ledger and libvirt's own events and metadata. From the server it takes only
what the server claims (which unit ended how), to hold it against what the devices saw.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Protocol

from msgspec import Struct

from drivers.ledger import LedgerAudit
from orchestration.records import TERMINAL, UnitRecord, UnitState
from scripts.demo_work import effects

__all__ = ["Machines", "Verdict", "judge"]

EXAMPLES = 5


class Machines(Protocol):
    """Whoever has watched the machines from outside: libvirt."""

    def effects(self, name: str) -> list[str]:
        """What happened to the machine, in order: defined, started, stopped, undefined."""

    def exists(self, name: str) -> bool:
        """Whether it is there now."""

    def epoch(self, name: str) -> tuple[int, ...] | None:
        """The epoch written on it, None if there is none."""


class Verdict(Struct):
    """The figures of the last line, and a sentence for each thing that is wrong."""

    units: int = 0
    lost: int = 0
    overlapping: int = 0
    stale: int = 0
    outcomes: dict[str, int] = {}
    commands: int = 0  # seen by the simulated devices
    refused: int = 0  # commands of dead incarnations that a device turned down
    changes: int = 0  # seen by libvirt
    complaints: list[str] = []
    verified: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing at all is wrong."""
        return not (self.lost or self.overlapping or self.stale or self.complaints)


def judge(
    accepted: Sequence[str],
    units: Iterable[UnitRecord],
    ledger: LedgerAudit,
    watch: Machines | None,
    machines: frozenset[str],
) -> Verdict:
    """Hold every accepted id against the devices.

    Args:
        accepted: the ids that clients were given.
        units: the server's record of each unit.
        ledger: the audit of the simulated devices.
        watch: libvirt's side, None without libvirt.
        machines: the resources that are libvirt's.
    """
    records = {unit.id: unit for unit in units}
    verdict = Verdict(units=len(accepted))
    verdict.outcomes = Counter(unit.state.value for unit in records.values())
    _count_unfinished(verdict, accepted, records)
    _read_ledger(verdict, ledger, records.values(), machines)
    if watch is not None:
        by_machine: dict[str, list[UnitRecord]] = defaultdict(list)
        for unit in sorted(records.values(), key=lambda unit: unit.seq):
            if unit.resource in machines:
                by_machine[unit.resource].append(unit)
        for path in sorted(machines):
            _read_libvirt(verdict, path, by_machine[path], watch)
    return verdict


def _count_unfinished(
    verdict: Verdict, accepted: Sequence[str], records: Mapping[str, UnitRecord]
) -> None:
    for unit_id in accepted:
        record = records.get(unit_id)
        if record is None:
            _lose(verdict, f"{unit_id} was accepted and is unknown now")
        elif record.state not in TERMINAL:
            _lose(verdict, f"{unit_id} on {record.resource} is still {record.state.value}")


def _read_ledger(
    verdict: Verdict,
    ledger: LedgerAudit,
    records: Iterable[UnitRecord],
    machines: frozenset[str],
) -> None:
    verdict.commands, verdict.refused = ledger.commands, ledger.refused_stale
    verdict.overlapping += ledger.overlapping
    verdict.stale += ledger.stale_applied
    if ledger.replayed or ledger.unfinished:
        verdict.complaints.append(
            f"the ledger has {ledger.replayed} effects twice and {ledger.unfinished} open ends"
        )
    verdict.complaints += ledger.examples[:EXAMPLES]
    for unit in records:
        if unit.resource in machines or unit.state is not UnitState.SUCCEEDED:
            continue
        if ledger.applied.get(unit.id, 0) != len(unit.commands):
            _lose(verdict, f"{unit.id} succeeded, but {unit.resource} has not seen all of it")


def _read_libvirt(
    verdict: Verdict, path: str, units: Sequence[UnitRecord], watch: Machines
) -> None:
    name = path.replace("/", ".")  # as the driver calls a domain
    succeeded = [unit for unit in units if unit.state is UnitState.SUCCEEDED]
    wanted = effects(command.verb for unit in succeeded for command in unit.commands)
    seen = watch.effects(name)
    verdict.changes += len(seen)
    missing, more = Counter(wanted) - Counter(seen), Counter(seen) - Counter(wanted)
    if missing:
        _lose(verdict, f"libvirt has not seen {dict(missing)} of {path}", missing.total())
    if more:
        verdict.complaints.append(f"libvirt has seen {dict(more)} too many of {path}")
    if not missing and not more:
        verdict.overlapping += sum(a != b for a, b in zip_longest(wanted, seen))
    if watch.exists(name) != bool(wanted and wanted[-1] != "undefined"):
        _lose(verdict, f"{path} exists or not, other than its last unit says")
    epoch = watch.epoch(name)
    if epoch is not None and succeeded and epoch < succeeded[-1].epoch:
        verdict.stale += 1
        verdict.complaints.append(f"{path} carries epoch {epoch}, its last unit's is newer")


def _lose(verdict: Verdict, text: str, count: int = 1) -> None:
    verdict.lost += count
    if len(verdict.complaints) < EXAMPLES:
        verdict.complaints.append(text)
