from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metrics.distribution import Distribution, DistributionSample

BOUNDS = (0.0, 1.0, 10.0)


def test_value_at_a_bound_belongs_to_its_bucket():
    distribution = Distribution(BOUNDS)

    for value in (0.0, 1.0, 1.5, 10.0, 11.0):
        distribution.note(value)

    assert distribution.sample() == DistributionSample((1, 1, 2, 1), 23.5)


def test_sample_is_not_changed_by_later_values():
    distribution = Distribution(BOUNDS)
    before = distribution.sample()

    distribution.note(1.0)

    assert before == DistributionSample((0, 0, 0, 0), 0.0)


def test_forgotten_values_are_not_counted_again():
    distribution = Distribution(BOUNDS)
    distribution.note(5.0)
    distribution.forget()
    distribution.note(0.5)

    assert distribution.sample() == DistributionSample((0, 1, 0, 0), 0.5)


@given(st.lists(st.integers(min_value=0, max_value=1_000_000)))
def test_every_value_is_in_exactly_one_bucket(values):
    distribution = Distribution(BOUNDS)
    for value in values:
        distribution.note(value)

    sample = distribution.sample()

    assert sum(sample.counts) == len(values)
    assert sample.counts[0] == values.count(0)
    assert sample.counts[-1] == sum(value > 10 for value in values)
