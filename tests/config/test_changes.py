from __future__ import annotations

import pytest

from config import Action, Change, plan

TEXT = """
[infrastructure]
name = "x"
[region.r.zone.z]
[region.r.zone.z.pod.p]
driver = "simulated"
[region.r.zone.z.pod.p.resource."d-{1..2}"]
class = "disk"
config = { latency = "5ms" }
[region.r.zone.z.pod.p.resource."vm-*"]
class = "vm"
"""


def lines(changes):
    return [f"{c.action.value} {c.kind} {c.path}" for c in changes]


def test_first_plan_creates_everything_parents_first(bench):
    assert lines(plan(None, bench.loads(TEXT))) == [
        "create region r",
        "create zone r/z",
        "create pod r/z/p",
        "create resource r/z/p/d-1",
        "create resource r/z/p/d-2",
        "create template r/z/p/vm-*",
    ]


def test_same_file_again_changes_nothing(bench):
    assert plan(bench.loads(TEXT), bench.loads(TEXT)) == ()


def test_empty_file_destroys_children_first(bench):
    empty = bench.loads('[infrastructure]\nname = "x"\n')

    assert lines(plan(bench.loads(TEXT), empty)) == [
        "destroy resource r/z/p/d-1",
        "destroy resource r/z/p/d-2",
        "destroy template r/z/p/vm-*",
        "destroy pod r/z/p",
        "destroy zone r/z",
        "destroy region r",
    ]


@pytest.mark.parametrize(
    ("old", "new", "action", "where", "detail"),
    [
        ("5ms", "6ms", "update", "resource r/z/p/d-1", "config.latency: 5ms -> 6ms"),
        ('"disk"', '"tape"', "replace", "resource r/z/p/d-1", "class: disk -> tape"),
        ("zone.z]", "zone.z]\nintensity = 9", "update", "zone r/z", "intensity: 5 -> 9"),
        ("zone.z]", "zone.z]\nperiod = '90s'", "update", "zone r/z", "period_s: 60 -> 90"),
        ('"simulated"', '"simulated"\nmailbox = 2', "update", "pod r/z/p", "mailbox: 16 -> 2"),
        (
            '"simulated"',
            '"simulated"\nstrategy = "rest_for_one"',
            "update",
            "pod r/z/p",
            "strategy: one_for_one -> rest_for_one",
        ),
        (
            '"simulated"',
            '"simulated"\nbackoff = { initial = "250ms" }',
            "update",
            "pod r/z/p",
            "backoff.initial_s: 0.2 -> 0.25",
        ),
        (
            '"vm"',
            '"vm"\nclaims = { cpus = 2 }',
            "update",
            "template r/z/p/vm-*",
            "claims.cpus: (none) -> 2",
        ),
        ('"x"', '"y"', "update", "infrastructure y", "name: x -> y"),
    ],
)
def test_changed_setting_is_shown_at_its_part(bench, old, new, action, where, detail):
    kind, path = where.split()

    changes = plan(bench.loads(TEXT), bench.loads(TEXT.replace(old, new)))

    assert changes[0] == Change(action=Action(action), kind=kind, path=path, detail=(detail,))
    assert {change.kind for change in changes} == {kind}


def test_moving_a_driver_or_connection_replaces_what_is_behind_it(bench):
    moved = TEXT.replace('"simulated"', '"libvirt"\nconnect = "there"')

    changes = plan(bench.loads(TEXT), bench.loads(moved))

    assert lines(changes) == [
        "replace resource r/z/p/d-1",
        "replace resource r/z/p/d-2",
        "replace template r/z/p/vm-*",
    ]
    assert changes[0].detail == ("driver: simulated -> libvirt", 'connect: "" -> there')


def test_name_that_is_gone_follows_its_siblings(bench):
    renamed = TEXT.replace("d-{1..2}", "d-{2..3}")

    assert lines(plan(bench.loads(TEXT), bench.loads(renamed))) == [
        "create resource r/z/p/d-3",
        "destroy resource r/z/p/d-1",
    ]


def test_order_alone_is_no_change(bench):
    before = TEXT + "[region.s]\n[region.t]\n"
    after = TEXT.replace('"x"', '"x"\n[region.t]\n[region.s]')

    assert plan(bench.loads(before), bench.loads(after)) == ()
