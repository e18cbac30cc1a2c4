from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration import problems
from orchestration.client_input import (
    parse_command,
    parse_duration,
    parse_on_failure,
    parse_parameter,
)
from orchestration.client_work_file import read_units
from orchestration.problems import ProblemError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1", 1),
        ("a=-2", -2),
        ("a=007", "007"),
        ("a=1.5", 1.5),
        ("a=1e3", 1000.0),
        ("a=true", True),
        ("a=false", False),
        ("a=True", "True"),
        ("a=512MiB", "512MiB"),
        ("a=", ""),
        ("a=b=c", "b=c"),
        ("a=nan", "nan"),
        ('a:="1"', "1"),
        ("a:=[1, {}]", [1, {}]),
        ("a:=null", None),
    ],
)
def test_parameter_has_the_type_it_looks_like(text, value):
    name, parsed = parse_parameter(text)

    assert (name, parsed, type(parsed)) == ("a", value, type(value))


@pytest.mark.parametrize("text", ["a", "=1", "a b=1", "a:=[", "1a=2"])
def test_parameter_that_is_none_is_a_usage_error(text):
    with pytest.raises(ProblemError) as caught:
        parse_parameter(text)

    assert problems.exit_status_of(caught.value.problem) == problems.EXIT_USAGE


def test_parameter_given_twice_is_refused():
    with pytest.raises(ProblemError, match="twice"):
        parse_command("create", ("a=1", "a=2"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("0", 0),
        ("200ms", 0.2),
        ("1.5s", 1.5),
        ("5m", 300),
        ("1h30m", 5400),
        ("1d", 86400),
    ],
)
def test_duration_is_read_in_seconds(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@given(st.text().filter(lambda text: not any(sign.isdigit() for sign in text)))
def test_text_without_digits_is_no_duration(text):
    with pytest.raises(ProblemError):
        parse_duration(text)


@pytest.mark.parametrize("text", ["5x", "m", "-1", "1h 2", "1s2", "ms5"])
def test_text_that_is_almost_a_duration_is_refused(text):
    with pytest.raises(ProblemError):
        parse_duration(text)


def test_on_failure_reads_its_settings():
    rule = parse_on_failure("wait,attempts=3,backoff=200ms,backoff_max=1m", "10m")

    assert (rule.strategy, rule.attempts, rule.backoff_s, rule.backoff_max_s) == (
        "wait",
        3,
        0.2,
        60.0,
    )
    assert rule.deadline_s == 600.0


@pytest.mark.parametrize("text", ["retry", "wait,attempts=x", "wait,tries=3", "wait,backoff=soon"])
def test_on_failure_that_is_unknown_is_refused(text):
    with pytest.raises(ProblemError):
        parse_on_failure(text, None)


TOML = b"""
[[work]]
resource = "eu/a/rack-1/vm-1"
verb = "create"
params = { memory = "1GiB" }
on_failure = "wait,attempts=3"
deadline = "5m"

[[work]]
resource = "eu/a/rack-1/vm-2"
commands = [{ verb = "create" }, { verb = "start", params = { slow = true } }]
idempotency_key = "k"
"""


@pytest.mark.parametrize("name", ["work.toml", "<stdin>"])
def test_toml_file_gives_units_in_order(name):
    first, second = read_units(name, io.BytesIO(TOML))

    assert first.commands[0].params == {"memory": "1GiB"}
    assert (first.on_failure.attempts, first.on_failure.deadline_s) == (3, 300.0)
    assert [command.verb for command in second.commands] == ["create", "start"]
    assert second.idempotency_key == "k"


LINE = b'{"resource":"eu/a/rack-1/vm-1","commands":[{"verb":"create"}]}\n'


@pytest.mark.parametrize("name", ["work.jsonl", "<stdin>"])
def test_json_lines_skip_blank_lines(name):
    units = list(read_units(name, io.BytesIO(b"\n" + LINE + b"\n" + LINE)))

    assert len(units) == 2


class Endless(io.RawIOBase):
    """A pipe on which the same line comes for ever."""

    def __iter__(self):
        while True:
            yield LINE


def test_json_lines_are_read_as_they_come():
    units = read_units("<stdin>", Endless())

    assert next(units).resource == "eu/a/rack-1/vm-1"


@pytest.mark.parametrize(
    ("name", "raw", "place"),
    [
        ("w.jsonl", LINE + b'{"resource": 1}\n', "w.jsonl:2"),
        ("w.jsonl", LINE + b"\n{oops\n", "w.jsonl:3"),
        ("w.toml", b"work = 1\n[[work]]", "w.toml"),
        ("w.toml", b"[[work]]\nverb = 'x'\n", "number 1"),
        ("w.toml", TOML + b"\n[[work]]\nresource = 'x'\nverbs = 'y'\n", "number 3"),
        ("w.toml", b"[work]\nresource = 'x'\n", "[[work]] tables alone"),
        ("w.toml", b"", "found nothing"),
        ("w.toml", b"[[work]]\nresource='x'\nverb='v'\ndeadline='soon'\n", "'soon' is not a time"),
    ],
)
def test_mistake_in_a_file_is_placed(name, raw, place):
    with pytest.raises(ProblemError) as caught:
        list(read_units(name, io.BytesIO(raw)))

    assert place in caught.value.problem.detail
    assert problems.exit_status_of(caught.value.problem) == problems.EXIT_BAD_INPUT
