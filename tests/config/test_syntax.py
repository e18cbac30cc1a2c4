from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

import config

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


@given(edits)
def test_any_damage_gives_problems_and_never_anything_else(changes):
    text = SOUND
    for at, removed, added in changes:
        text = text[:at] + added + text[at + removed :]

    with contextlib.suppress(config.ConfigError):
        config.loads(text, drivers={"simulated"}, environment={})


@given(st.text(max_size=80))
def test_any_text_gives_problems_that_can_be_shown(text):
    try:
        config.loads(text, drivers=(), environment={})
    except config.ConfigError as error:
        assert str(error)  # noqa: PT017 - both outcomes are right
        for problem in error.problems:
            assert problem.line <= text.count("\n") + 1


def test_deep_nesting_is_a_problem_not_a_crash(bench):
    problems = bench.problems("a = " + "[" * 5000 + "]" * 5000)

    assert "nested too deep" in problems[0].message
