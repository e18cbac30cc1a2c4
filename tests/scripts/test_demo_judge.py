"""The judge must find what it is there to find: each fault of the devices' records is planted here."""

from __future__ import annotations

from collections import Counter

import pytest

from drivers.ledger import LedgerAudit
from orchestration.records import CommandSpec, UnitRecord, UnitState
from scripts.demo_judge import judge

HOST, VM = "eu/a/rack-2/host-1", "eu/a/rack-1/vm-01"


def unit(number: int, resource: str, *verbs: str, state: UnitState = UnitState.SUCCEEDED):
    return UnitRecord(
        id=f"u{number}",
        seq=number,
        resource=resource,
        state=state,
        commands=tuple(CommandSpec(verb=verb) for verb in verbs),
        epoch=(1, 1, 2, 1),
    )


class Watched:
    """What a libvirt says that has seen exactly what it should; tests change a part of it."""

    def __init__(self) -> None:
        self.seen = ["defined", "started"]
        self.there = True
        self.mark: tuple[int, ...] | None = (1, 1, 2, 1)

    def effects(self, name: str) -> list[str]:
        assert name == "eu.a.rack-1.vm-01"
        return self.seen

    def exists(self, name: str) -> bool:
        return self.there

    def epoch(self, name: str) -> tuple[int, ...] | None:
        return self.mark


def sound() -> LedgerAudit:
    return LedgerAudit(commands=2, applied=Counter({"u1": 2}))


UNITS = (unit(1, HOST, "create", "start"), unit(2, VM, "create", "start"))


def verdict(units=UNITS, ledger=None, watch=None, accepted=("u1", "u2")):
    return judge(accepted, units, ledger or sound(), watch or Watched(), frozenset({VM}))


def test_run_without_a_fault_holds():
    found = verdict()

    assert found.holds
    assert (found.units, found.lost, found.overlapping, found.stale) == (2, 0, 0, 0)
    assert found.outcomes == {"succeeded": 2}


def test_accepted_id_the_server_does_not_know_is_lost():
    assert verdict(accepted=("u1", "u2", "u3")).lost == 1


def test_unit_without_a_terminal_state_is_lost():
    waiting = unit(3, HOST, "stop", state=UnitState.PENDING)

    assert verdict(units=(*UNITS, waiting), accepted=("u1", "u2", "u3")).lost == 1


def test_success_that_the_device_has_not_seen_whole_is_lost():
    assert verdict(ledger=LedgerAudit(applied=Counter({"u1": 1}))).lost == 1


@pytest.mark.parametrize("fault", ["overlapping", "stale_applied", "replayed", "unfinished"])
def test_fault_in_the_ledger_is_found(fault):
    ledger = sound()
    setattr(ledger, fault, 1)

    assert not verdict(ledger=ledger).holds


def test_change_libvirt_has_not_seen_is_lost():
    watch = Watched()
    watch.seen = ["defined"]

    assert verdict(watch=watch).lost == 1


def test_change_libvirt_has_seen_twice_is_found():
    watch = Watched()
    watch.seen = ["defined", "started", "stopped", "started"]

    assert not verdict(watch=watch).holds


def test_changes_out_of_order_are_overlapping():
    watch = Watched()
    watch.seen = ["started", "defined"]

    assert verdict(watch=watch).overlapping > 0


def test_machine_that_should_exist_and_does_not_is_found():
    watch = Watched()
    watch.there = False

    assert not verdict(watch=watch).holds


def test_older_epoch_on_a_machine_is_stale():
    watch = Watched()
    watch.mark = (1, 1, 1, 9)

    assert verdict(watch=watch).stale == 1
