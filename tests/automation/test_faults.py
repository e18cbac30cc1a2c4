"""What drivers say is bounded before it travels."""

from __future__ import annotations

import pytest

from automation.faults import MAX_TEXT, describe, error_text, fault_of, reason_class, reason_text
from drivers.contract import FinalError, StaleEpochError
from otp import Raised


class MuteError(FinalError):
    def __str__(self):
        raise RuntimeError("no words")


def test_text_of_a_driver_is_bounded_wherever_it_goes():
    long = FinalError("x" * 10_000_000)

    for text in (
        fault_of(long).message,
        describe(long),
        reason_text(Raised(long, ())),
        reason_text("y" * 10_000_000),
        reason_class("z" * 10_000_000),
    ):
        assert len(text) < MAX_TEXT + 100
    assert "10000000 characters" in error_text(long)


def test_error_without_a_usable_text_is_still_told():
    assert describe(MuteError()) == "mute: <its text cannot be had: RuntimeError>"


@pytest.mark.parametrize(
    ("error", "text"),
    [(StaleEpochError("it is 4"), "stale_epoch: it is 4"), (ValueError(), "value")],
)
def test_ordinary_errors_are_named_by_their_class(error, text):
    assert describe(error) == text
