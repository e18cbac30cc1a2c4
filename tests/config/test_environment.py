from __future__ import annotations

import pytest

TEXT = """
[infrastructure]
name = "x"
[region.r.zone.z.pod.p]
driver = "simulated"
connect = '{connect}'
[region.r.zone.z.pod.p.resource.d]
class = "disk"
config = {{ list = ["${{ONE}}", {{ deep = "${{ONE}}" }}] }}
"""


@pytest.mark.parametrize(
    ("connect", "becomes"),
    [
        ("${ONE}", "1"),
        ("a${ONE}b${ONE}", "a1b1"),
        ("${NONE:-test:///default}", "test:///default"),
        ("${NONE:-}", ""),
        ("${EMPTY:-full}", "full"),
        ("${EMPTY}", ""),
        ("${ONE:-two}", "1"),
        ("$${ONE}", "${ONE}"),
        ("pa$$word $ONE", "pa$$word $ONE"),
    ],
)
def test_variable_in_a_text_is_replaced_as_in_the_shell(bench, connect, becomes):
    bench.environment = {"ONE": "1", "EMPTY": ""}

    ((_, pod),) = bench.loads(TEXT.format(connect=connect)).pods()

    assert pod.resources[0].connect == becomes
    assert pod.resources[0].config == {"list": ["1", {"deep": "1"}]}


def test_variable_cannot_add_keys(bench):
    bench.environment = {"ONE": '"\nmailbox = 1\n'}

    ((_, pod),) = bench.loads(TEXT.format(connect="${ONE}")).pods()

    assert pod.mailbox == 16
    assert pod.resources[0].connect == '"\nmailbox = 1\n'


def test_every_variable_that_is_missing_is_named(bench):
    problems = bench.problems(TEXT.format(connect="${TWO}${THREE}"))

    assert [p.message for p in problems] == [
        "the environment variable TWO is not set",
        "the environment variable THREE is not set",
        "the environment variable ONE is not set",
        "the environment variable ONE is not set",
    ]


def test_misspelt_variable_brings_a_hint(bench):
    bench.environment = {"ONE": "1", "CLOUDCTL_LIBVIRT": "x"}

    (problem,) = bench.problems(TEXT.format(connect="${CLOUDCTL_LIBVRT}"))

    assert "did you mean ${CLOUDCTL_LIBVIRT}?" in problem.hint


def test_nothing_follows_from_a_variable_that_is_missing(bench):
    bench.environment = {"ONE": "1"}
    text = TEXT.format(connect="x").replace('"simulated"', '"${TWO}"')
    text = 'include = ["${TWO}/*.toml"]\n' + text.replace('"disk"', '"a ${TWO}"')

    problems = bench.problems(text)

    assert [(p.line, p.code[-5:]) for p in problems] == [(1, "E0120"), (6, "E0120"), (9, "E0120")]
