from __future__ import annotations

import re
from pathlib import Path

import pytest

from metrics.families import DEPTH_BOUNDS, FAMILIES, Family, Type

# What dashboards, rules and operators' own queries rely on: a name may be added, never changed.
PROMISED = {
    "cloudctl_build_info",
    "cloudctl_mailbox_depth_max_messages",
    "cloudctl_mailbox_depth_messages",
    "cloudctl_mailbox_messages",
    "cloudctl_node_up",
    "cloudctl_process_crashes_total",
    "cloudctl_process_restarts_total",
    "cloudctl_processes",
    "cloudctl_stale_epochs_refused_total",
    "cloudctl_supervisor_escalations_total",
    "cloudctl_work_duration_seconds",
    "cloudctl_work_units",
    "cloudctl_work_wait_seconds",
}
UNBOUNDED = {"resource", "device", "unit", "unit_id", "process", "tenant", "path"}

each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def test_promised_names_are_there():
    assert {family.name for family in FAMILIES} >= PROMISED


def test_no_name_is_given_twice():
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


@each_family
def test_name_follows_the_conventions(family: Family):
    assert re.fullmatch(r"cloudctl(_[a-z]+)+", family.name)
    assert family.name.endswith("_total") == (family.type is Type.COUNTER)


@each_family
def test_help_is_a_sentence(family: Family):
    assert family.help[0].isupper() or family.help[0].isdigit()
    assert family.help.endswith(".")


@each_family
def test_no_label_grows_with_the_number_of_resources(family: Family):
    assert UNBOUNDED.isdisjoint(family.labels)


@each_family
def test_bounds_rise_and_belong_to_histograms_alone(family: Family):
    assert list(family.bounds) == sorted(set(family.bounds))
    assert bool(family.bounds) == (family.type is Type.HISTOGRAM)


def test_depth_bounds_are_powers_of_ten():
    assert DEPTH_BOUNDS == (0, 1, 10, 100, 1000, 10000)


@each_family
def test_family_is_explained_in_the_operators_page(family: Family):
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    labels = ", ".join(f"`{label}`" for label in family.labels) or "none"

    assert f"| `{family.name}` | {labels} | {family.help} |" in page
