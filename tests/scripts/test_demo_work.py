from __future__ import annotations

import json
from collections import defaultdict

import msgspec
import pytest

from orchestration.records import UnitSpec
from scripts.demo_work import deal, effects, jsonl

RESOURCES = ["eu/a/rack-1/vm-1", "eu/a/rack-2/host-1", "eu/a/rack-2/host-2"]


def test_units_are_dealt_in_turn_until_there_are_enough():
    units = deal(RESOURCES, 7, "x")

    assert [unit.resource for unit in units] == [*RESOURCES, *RESOURCES, RESOURCES[0]]
    assert len({unit.key for unit in units}) == 7


def test_every_command_of_a_dealt_unit_changes_its_machine():
    verbs = defaultdict(list)
    for unit in deal(RESOURCES, 40, "x"):
        verbs[unit.resource] += unit.verbs

    for script in verbs.values():
        assert len(effects(script)) == len(script)


def test_lines_are_units_as_the_server_reads_them():
    units = deal(RESOURCES, 4, "x")

    specs = [msgspec.json.decode(line, type=UnitSpec) for line in jsonl(units).splitlines()]

    assert [spec.resource for spec in specs] == [unit.resource for unit in units]
    assert [spec.idempotency_key for spec in specs] == [unit.key for unit in units]
    assert [command.verb for command in specs[0].commands] == ["create", "start"]
    assert json.loads(jsonl(units[:1]))["on_failure"]["strategy"] == "wait"


@pytest.mark.parametrize(
    ("verbs", "changes"),
    [
        ("create destroy", "defined undefined"),
        ("destroy create", "defined"),
        ("create start start stop", "defined started stopped"),
        ("create start destroy", "defined started stopped undefined"),
        ("start stop destroy", ""),
    ],
)
def test_effects_are_what_a_machine_does(verbs, changes):
    assert effects(verbs.split()) == changes.split()
