from __future__ import annotations

import pytest

from drivers.quantities import duration_s, size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"), [("50ms", 0.05), ("2s", 2), ("1.5 m", 90), (3, 3), ("1h", 3600)]
)
def test_durations_are_read_in_their_unit(text, seconds):
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "5", "-1s", -1, True, None])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="is not a duration"):
        duration_s(text)


@pytest.mark.parametrize(
    ("text", "size"), [("512MiB", 512 * 2**20), ("1GB", 10**9), ("0.5 KiB", 512), (7, 7), ("9", 9)]
)
def test_sizes_are_read_in_their_unit(text, size):
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "big", "1 MiBs", -1, 1.5, True])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="is not a size"):
        size_bytes(text)
