from __future__ import annotations

from pathlib import Path

from orchestration import problems
from orchestration.problems import KINDS, ProblemKind, exit_status_of

ROOT = Path(__file__).parents[2]


def test_every_problem_is_explained_in_the_documentation():
    text = (ROOT / "docs" / "errors.md").read_text()

    assert [code for code in KINDS if f"### {code}: " not in text] == []


def test_documentation_explains_no_problem_that_does_not_exist():
    lines = (ROOT / "docs" / "errors.md").read_text().splitlines()
    told = {line.split()[1].rstrip(":") for line in lines if line.startswith("### CLOUDCTL-E02")}

    assert told == set(KINDS)


def test_codes_are_unique():
    kinds = [kind for kind in vars(problems).values() if isinstance(kind, ProblemKind)]

    assert len({kind.code for kind in kinds}) == len(kinds) == len(KINDS)


def test_problem_of_an_unknown_code_exits_with_one():
    unknown = problems.Problem(title="x", status=500, code="CLOUDCTL-E9999")

    assert exit_status_of(unknown) == 1


def test_error_carries_detail_hint_and_errors():
    error = problems.BATCH_REFUSED.error(
        "2 of 3", errors=[problems.UNKNOWN_RESOURCE.item(1, "no x")]
    )

    assert error.problem.hint == problems.BATCH_REFUSED.hint
    assert error.problem.errors[0]["index"] == 1
    assert "2 of 3" in str(error)
