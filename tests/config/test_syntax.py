from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import config

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SOUND = config.init_text().replace(
    "# include", "x = [\n 'a=b',\n 'c=d']\ny = '''\n[z]\n'''\n# include"
)
PIECES = [
    "[",
    "]",
    "{",
    "}",
    '"',
    "'",
    '"""',
    "'''",
    "=",
    "\n",
    ".",
    ",",
    "#",
    "\\",
    " ",
    "a",
    "1",
    "${",
]

edits = st.lists(
    st.tuples(st.integers(0, len(SOUND)), st.integers(0, 12), st.sampled_from(["", *PIECES])),
    min_size=1,
    max_size=4,
)


@UNHURRIED
@given(edits)
def test_any_damage_gives_problems_and_never_anything_else(changes):
    text = SOUND
    for at, removed, added in changes:
        text = text[:at] + added + text[at + removed :]

    with contextlib.suppress(config.ConfigError):
        config.loads(text, drivers={"simulated"}, environment={})


@UNHURRIED
@given(st.text(max_size=80))
def test_any_text_gives_problems_that_can_be_shown(text):
    try:
        config.loads(text, drivers=(), environment={})
    except config.ConfigError as error:
        assert str(error)  # noqa: PT017 - both outcomes are right
        for problem in error.problems:
            assert problem.line <= text.count("\n") + 1


@pytest.mark.parametrize("depth", [70, 300, 330, 5000])
def test_deep_nesting_is_a_problem_and_no_crash(bench, depth):
    (problem,) = bench.problems("mailbox = 1\na = " + "[" * depth + "]" * depth)

    assert "nested too deep" in problem.message


def test_many_mistakes_are_cut_off_and_that_is_said(bench):
    problems = bench.problems("broken\n" * 100)

    assert len(problems) == 21
    assert "more mistakes follow" in {problem.message for problem in problems}
