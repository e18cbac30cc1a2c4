"""How a failure is shown: each thing once."""

from __future__ import annotations

from orchestration import problems
from orchestration.client_errors import render_problem


def refused(*items, detail, hint=""):
    return render_problem(
        problems.BATCH_REFUSED.problem(detail, errors=items, hint=hint), color=False
    )


def test_one_refused_unit_is_said_once_and_its_hint_once():
    item = problems.UNKNOWN_RESOURCE.item(0, "'eu/a/x' is not declared")
    detail = "1 refused, the first is unit 1: 'eu/a/x' is not declared"

    assert refused(item, detail=detail, hint=str(item["hint"])).splitlines() == [
        "error[CLOUDCTL-E0220]: Units were refused; none of the batch was accepted",
        "  unit 1: 'eu/a/x' is not declared [CLOUDCTL-E0221]",
        "    = hint: cloudctl get resources",
    ]


def test_several_refused_units_have_a_summary_and_a_hint_for_all():
    items = [problems.UNKNOWN_RESOURCE.item(n, f"'x-{n}' is not declared") for n in range(2)]

    assert refused(
        *items, detail="2 refused, the first is unit 1: 'x-0' is not declared"
    ).splitlines() == [
        "error[CLOUDCTL-E0220]: Units were refused; none of the batch was accepted",
        "  --> 2 refused, the first is unit 1: 'x-0' is not declared",
        "  unit 1: 'x-0' is not declared [CLOUDCTL-E0221]",
        "    = hint: cloudctl get resources",
        "  unit 2: 'x-1' is not declared [CLOUDCTL-E0221]",
        "    = hint: cloudctl get resources",
        "  = hint: correct the units listed",
    ]


def test_detail_that_says_more_than_the_one_error_stays():
    item = {"message": "eu/a/vm-1 is busy", "resource": "eu/a/vm-1"}

    assert "  --> nothing was removed" in refused(item, detail="nothing was removed").splitlines()
