from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.names import BadNameError, parse_name

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def names(key):
    return list(parse_name(key).names())


def test_range_is_padded_only_where_it_is_written_padded():
    assert names("h{8..11}") == ["h8", "h9", "h10", "h11"]
    assert names("h{08..11}") == ["h08", "h09", "h10", "h11"]
    assert names("h{0..1}") == ["h0", "h1"]
    assert names("h{098..101}") == ["h098", "h099", "h100", "h101"]


def test_last_range_of_a_name_runs_fastest():
    assert names("r{1..2}s{1..2}") == ["r1s1", "r1s2", "r2s1", "r2s2"]


def test_template_keeps_its_star_and_takes_ranges():
    pattern = parse_name("vm{1..2}-*", template=True)

    assert pattern.template
    assert list(pattern.names()) == ["vm1-*", "vm2-*"]


def test_longest_name_of_a_range_is_what_counts():
    with pytest.raises(BadNameError, match="too long"):
        parse_name("a" * 62 + "{9..10}")


@UNHURRIED
@given(st.integers(0, 5000), st.integers(0, 40), st.integers(1, 6))
def test_count_is_the_number_of_names(first, length, width):
    pattern = parse_name(f"a{{{first:0{width}d}..{first + length:0{width}d}}}-b{{1..3}}")

    made = list(pattern.names())

    assert pattern.count == len(made) == len(set(made)) == (length + 1) * 3


@UNHURRIED
@given(st.text(max_size=70))
def test_any_key_is_a_name_or_refused(key):
    try:
        pattern = parse_name(key, template=True)
    except BadNameError as error:
        assert error.hint  # noqa: PT017 - both outcomes are right
    else:
        assert pattern.count >= 1
