from __future__ import annotations

import pytest

from config.quantities import Amount, Duration, DurationError, SizeError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("200ms", 0.2), ("60s", 60), ("5m", 300), ("1h30m", 5400), ("1.5h", 5400), ("1d", 86400)],
)
def test_duration_is_read_into_seconds(text, seconds):
    assert Duration.parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", ["", "5", "s", "5 s", "-5s", "5S", "1e3s", "0ms", "366d", 5, True, None]
)
def test_what_is_no_duration_is_refused(value):
    with pytest.raises(DurationError):
        Duration.parse(value)


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        (0, 0),
        (32, 32),
        (0.5, 0.5),
        ("7B", 7),
        ("1KiB", 1024),
        ("256GiB", 2**38),
        ("1.5TiB", 1.5 * 2**40),
        ("2MB", 2e6),
    ],
)
def test_amount_is_read_into_base_units(value, amount):
    assert Amount.parse(value) == amount


@pytest.mark.parametrize(
    "value", ["", "5", "GiB", "5 GiB", "-5GiB", "5gib", "9EiB", "5K", -1, True, float("nan"), []]
)
def test_what_is_no_amount_is_refused(value):
    with pytest.raises(SizeError):
        Amount.parse(value)


@pytest.mark.parametrize(
    ("value", "hint"), [("5 gib", '"5GiB"'), ("64k", '"64KB"'), ("10gb", '"10GB"'), ("12", "12")]
)
def test_near_size_brings_the_right_one(value, hint):
    with pytest.raises(SizeError) as caught:
        Amount.parse(value)

    assert hint in caught.value.hint
