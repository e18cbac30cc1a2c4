from __future__ import annotations

import re
from pathlib import Path

import pytest

import config
from config import Code, ConfigError, ConfigProblem

HEAD = """\
[infrastructure]
name = "acme"
[region.eu.zone.a.pod.rack-1]
driver = "simulated"
"""
RESOURCE = "[region.eu.zone.a.pod.rack-1.resource.{}]\n"

# What is added to HEAD with the mistake between »…«, the code, and a part of message or hint.
MISTAKES = [
    ("»x«", "E0102", "`=` is missing"),
    ('connect = »"open«', "E0102", "close it with a quote"),
    ("mailbox = »many«", "E0102", "text needs quotes"),
    ("mailbox = 1 »2«", "E0102", "something follows"),
    ("[region.eu.zone.b.pod.»{1..2}«]", "E0102", "need quotes"),
    ("»mailbx« = 4", "E0103", "did you mean `mailbox`?"),
    ("»colour« = 4", "E0103", "known here: `strategy`"),
    ("[»regio«.us.zone.a]", "E0103", "did you mean `region`?"),
    ("[region.eu.zone.b]\n»driver« = 'simulated'", "E0103", "on the pod or on the resource"),
    (RESOURCE.format("a") + "»kind« = 'vm'", "E0103", "did you mean `class`?"),
    ("»include« = ['x']", "E0103", "top of the file"),
    ('mailbox = »"16"«', "E0104", "without quotes: 16"),
    ("mailbox = »true«", "E0104", "whole number, this is true or false"),
    ("mailbox = »1.5«", "E0104", "whole number, this is a number"),
    ("connect = »7«", "E0104", 'in quotes: "7"'),
    ("config = »'x'«", "E0104", "must be a table"),
    ("config = { since = »2020-01-01« }", "E0104", "dates"),
    ("[region.us]\nzone = »3«", "E0104", "must be a table"),
    ("strategy = »1«", "E0104", "must be a text"),
    (RESOURCE.replace("{}", "»a«"), "E0105", "`class` is missing"),
    ("[region.eu.zone.a.pod.p.resource.»a«]\nclass = 'vm'", "E0105", "`a` has no driver"),
    (RESOURCE.format("a") + "class = 'vm'\ndriver = »'simulate'«", "E0106", '"simulated"?'),
    (RESOURCE.format("a") + "class = 'vm'\ndriver = »'xen'«", "E0106", "install the package"),
    ("»driver« = 'libvirt'", "E0107", "`driver` is set twice"),
    ("[region.eu.zone.a.pod.»rack-1«]", "E0107", "declared twice"),
    ("[region.eu.zone.a.pod.»'rack-{1..2}'«]", "E0107", "pod eu/a/rack-1 is declared twice"),
    (
        RESOURCE.format("'a-{1..4}'")
        + "class = 'vm'\n"
        + RESOURCE.format("»'a-{3..9}'«")
        + "class = 'vm'",
        "E0107",
        "`a-3` and 1 more are declared twice in pod eu/a/rack-1",
    ),
    (RESOURCE.format("»''«") + "class = 'vm'", "E0108", "empty"),
    (RESOURCE.format("a") + "class = »''«", "E0108", "`class` is empty"),
    (RESOURCE.format("»'a b'«") + "class = 'vm'", "E0109", "bad character ' '"),
    (RESOURCE.format("»'a/b'«") + "class = 'vm'", "E0109", "the path comes from"),
    (RESOURCE.format("»-a«") + "class = 'vm'", "E0109", "start with a letter or digit"),
    (RESOURCE.format("»" + "a" * 64 + "«") + "class = 'vm'", "E0109", "63 characters"),
    (RESOURCE.format("»'a-*-*'«") + "class = 'vm'", "E0109", "more than one `*`"),
    (RESOURCE.format("a") + "class = »'v m'«", "E0109", "is no name"),
    ("[region.eu.zone.»'z*'«]", "E0109", "only resources can be templates"),
    ('period = »"60"«', "E0110", 'did you mean "60s"?'),
    ("period = »60«", "E0110", 'did you mean "60s"?'),
    ('period = »"5 minutes"«', "E0110", 'did you mean "5m"?'),
    ('period = »"0s"«', "E0110", "out of range"),
    ('backoff = { initial = »"soon"« }', "E0110", "200ms"),
    (RESOURCE.format("a") + "class='vm'\nclaims={m=»'4GIB'«}", "E0111", 'mean "4GiB"?'),
    (RESOURCE.format("a") + "class='vm'\nclaims={m=»'4'«}", "E0111", "without quotes: 4"),
    (RESOURCE.format("a") + "class='vm'\nclaims={m=»-1«}", "E0111", "out of range"),
    (RESOURCE.format("a") + "class='vm'\nclaims={m=»true«}", "E0111", "not an amount"),
    ("mailbox = »0«", "E0112", "from 1 to 10,000"),
    ("sync_rate = »0«", "E0112", "from above 0 to"),
    ("sync_rate = »nan«", "E0112", "out of range"),
    ('backoff = »{ initial = "40s" }«', "E0112", "longer than the longest (30s)"),
    ("config = { x = »nan« }", "E0112", "finite"),
    ("config = { x = [»9223372036854775808«] }", "E0112", "64 bits"),
    ("strategy = »'one_for_al'«", "E0113", 'did you mean "one_for_all"?'),
    (RESOURCE.format("»'a-{4..1}'«") + "class = 'vm'", "E0114", "write {1..4}"),
    (RESOURCE.format("»'a-{x..4}'«") + "class = 'vm'", "E0114", "two numbers"),
    (RESOURCE.format("»'a-{1..4'«") + "class = 'vm'", "E0114", "do not match"),
    (RESOURCE.format("»'a-{1..6000000}'«") + "class = 'vm'", "E0115", "at most 5,000,000"),
    ("[region.eu.zone.b.pod.»'p-{1..200000}'«]", "E0115", "at most 100,000"),
    (
        RESOURCE.format("'vm-*'") + "class='vm'\n" + RESOURCE.format("»'vm-a*'«") + "class='vm'",
        "E0119",
        "`vm-*` and `vm-a*` can make the same name",
    ),
    ("connect = »'a${NOWHERE}'«", "E0120", "NOWHERE is not set"),
    ("connect = »'${no such}'«", "E0120", "no variable"),
]


def unmarked(text):
    """The text without the marks, and line, column and width of what is between them."""
    start, end = text.index("»"), text.index("«") - 1
    plain = text.replace("»", "").replace("«", "")
    line = plain.count("\n", 0, start) + 1
    return plain, (line, start - plain.rfind("\n", 0, start), end - start)


@pytest.mark.parametrize(("addition", "code", "said"), MISTAKES)
def test_mistake_is_reported_alone_with_code_caret_and_advice(bench, addition, code, said):
    text, place = unmarked(HEAD + addition + "\n")

    (problem,) = bench.problems(text)

    assert (problem.line, problem.column, problem.width) == place
    assert problem.code == f"CLOUDCTL-{code}"
    assert said in f"{problem.message} {problem.hint}"
    assert problem.text == text.splitlines()[place[0] - 1]


def test_five_mistakes_give_five_problems_in_file_order(bench):
    text = """\
[infrastructure]
name = "acme"

[region.eu.zone.a]
stratgy = "one_for_one"
period = "60"

[region.eu.zone.a.pod.rack-1]
driver = "libvrt"
connect = "never closed
mailbox = 0

[region.eu.zone.a.pod.rack-1.resource."host-{01..40}"]
class = "host"

[region.eu.zone.a.pod.rack-1.resource.host-07]
class = "host"
"""

    problems = bench.problems(text)

    assert [(p.code[-5:], p.line, p.column) for p in problems] == [
        ("E0103", 5, 1),
        ("E0110", 6, 10),
        ("E0106", 9, 10),
        ("E0102", 10, 11),
        ("E0112", 11, 11),
        ("E0107", 16, 39),
    ]


def test_table_declared_twice_is_still_looked_into(bench):
    text = HEAD + RESOURCE.format("disk") + "class='a'\n" + RESOURCE.format("disk") + "clas='a'\n"

    problems = bench.problems(text)

    assert [p.message for p in problems] == [
        "`disk` is declared twice",
        "unknown key `clas` in resource eu/a/rack-1/disk",
    ]
    assert problems[0].notes == (f"first at {problems[0].file}:5:39",)


def test_mistake_below_a_misspelt_table_keeps_its_own_caret(bench):
    text = HEAD.replace("region", "regio") + RESOURCE.format("x").replace("region", "regio")

    problems = bench.problems(text + "class = 'vm'\ndriver = 'xen'\n")

    assert [(p.code[-5:], p.line, p.column) for p in problems] == [
        ("E0103", 3, 2),
        ("E0106", 7, 10),
    ]


def test_nothing_is_called_missing_after_a_syntax_error(bench):
    (problem,) = bench.problems('[infrastructure]\nname = "acme\n')

    assert problem.code == Code.SYNTAX.value


def test_array_that_never_closes_is_shown_at_its_start(bench):
    first, second = bench.problems('include = ["a.toml"\n[infrastructure]\nname = 4\n')

    assert (first.code, first.line, first.column) == (Code.SYNTAX.value, 1, 11)
    assert (second.code, second.line) == (Code.WRONG_TYPE.value, 3)


def test_file_without_infrastructure_is_refused(bench):
    (problem,) = bench.problems("[region.eu]\n")

    assert problem.code == Code.MISSING.value
    assert "[infrastructure]" in problem.message


def test_mistake_under_a_range_of_pods_is_reported_once(bench):
    text = HEAD + "[region.eu.zone.a.pod.'p-{1..9}'.resource.'a b']\nclass = 'vm'\n"

    assert len(bench.problems(text)) == 1


def test_missing_file_is_a_problem_without_a_line(tmp_path):
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path / "none.toml")

    (problem,) = caught.value.problems
    assert (problem.code, problem.line) == (Code.UNREADABLE.value, 0)
    assert "no such file" in str(caught.value)


def test_file_that_is_not_utf8_names_the_line(bench):
    (bench.folder / "infra.toml").write_bytes(b'[infrastructure]\nname = "caf\xe9"\n')

    (problem,) = bench.problems_of("infra.toml")

    assert problem.code == Code.UNREADABLE.value
    assert "0xe9 in line 2" in problem.message


def test_problem_is_laid_out_as_rustc_does():
    problem = ConfigProblem(
        code="CLOUDCTL-E0103",
        message="unknown key `stratgy` in zone eu/a",
        file="infra.toml",
        line=12,
        column=2,
        width=7,
        text='\tstratgy = "one_for_one"',
        hint="did you mean `strategy`?",
        notes=("first at infra.toml:3:1",),
    )

    assert ConfigError((problem,)).render(color=False) == (
        "error[CLOUDCTL-E0103]: unknown key `stratgy` in zone eu/a\n"
        "   --> infra.toml:12:2\n"
        "   |\n"
        '12 | \tstratgy = "one_for_one"\n'
        "   | \t^^^^^^^\n"
        "   = note: first at infra.toml:3:1\n"
        "   = hint: did you mean `strategy`?\n"
        "\n"
        "1 problem in infra.toml"
    )


def test_long_line_is_cut_around_the_caret():
    text = "a" * 500 + "WRONG" + "b" * 500
    problem = ConfigProblem(code="C", message="m", file="f", line=1, column=501, width=5, text=text)

    *_, shown, caret = problem.render().splitlines()

    assert len(shown) < 220
    assert shown[caret.index("^") :].startswith("WRONG")
    assert caret.count("^") == 5


def test_control_characters_of_a_file_do_not_reach_the_terminal(bench):
    (problem,) = bench.problems(HEAD + 'strategy = "\\u001b[31m"\n')

    assert "\x1b" in problem.message
    assert "\x1b" not in problem.render()


def test_colour_adds_escapes_and_nothing_else():
    problem = ConfigProblem(code="C", message="m", file="f", line=1, column=1, text="x", hint="h")
    error = ConfigError((problem,))

    colored = error.render(color=True)

    assert "\x1b[" in colored
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == str(error)


def test_every_code_is_explained_in_the_manual():
    manual = Path(__file__).parents[2] / "docs" / "errors.md"
    explained = re.findall(r"^### (CLOUDCTL-E01\d\d)", manual.read_text(), re.MULTILINE)

    assert explained == [code.value for code in Code]
